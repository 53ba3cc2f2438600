//! What is forgotten, and what never is.

use capomastro_core::{
    ErrorKind,
    launch::Outcome,
    model::{BuildId, DependencyId, Policy},
    scheduler::{Retention, TriggerRequest},
    store::{EventFilter, FIRST_EVENT, Key},
};
use capomastro_testkit::ControllableLauncher;
use capomastro_tests::{Stage, plain_spec, revision, shows, somebody};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// Looks when it is told to, so that long times pass quickly.
fn when_told() -> Policy {
    Policy::default().with_look(capomastro_core::schedule::Schedule::Never)
}

fn keeping(builds: u32) -> Retention {
    let mut keep = Retention::default();
    keep.builds = builds;
    keep
}

async fn stage(keep: Retention, names: &[(&str, &[&str])]) -> Stage {
    let s = Stage::with(ControllableLauncher::auto_succeed(), |b| b.retention(keep));
    for (name, projects) in names {
        s.probe.set(name, "r0");
        let projects = projects.iter().try_fold(plain_spec(name, when_told()), |s, p| s.in_project(p));
        s.scheduler.apply(&projects.expect("it is there")).await.expect("it is there");
    }
    s.pass(10).await;
    s
}

async fn move_on(s: &Stage, name: &str, to: &str) -> BuildId {
    s.probe.set(name, to);
    s.push(name).await;
    let build = s.running(name).await;
    s.ended(build).await;
    s.pass(1).await;
    build
}

/// Nothing that is kept refers to a build that is not.
async fn assert_whole(s: &Stage, projects: &[&str]) {
    for project in projects {
        for record in s.project_builds(project).await {
            for build in record
                .slots
                .values()
                .filter_map(|slot| slot.build())
                .chain(record.bound_at_request.values().copied())
            {
                s.scheduler.build(build).await.unwrap_or_else(|e| panic!("{project} {}: {e}", record.name));
            }
        }
        let status = s.scheduler.project_status(project).await.expect("it is there");
        for member in status.project.members.values() {
            for build in [member.linked, member.pin].into_iter().flatten() {
                s.scheduler.build(build).await.expect("it is there");
            }
        }
        assert!(status.project.current.is_none() || status.current.is_some());
    }
}

#[tokio::test]
async fn no_more_builds_are_kept_than_the_count_says() {
    let s = stage(keeping(3), &[("lib", &[])]).await;
    for n in 1..=10 {
        move_on(&s, "lib", &format!("r{n}")).await;
    }
    let kept: Vec<_> = s.builds("lib").await.into_iter().map(|b| b.number).collect();
    assert_eq!(kept, [9, 10, 11]);
}

#[tokio::test]
async fn a_project_that_stands_still_keeps_only_the_builds_that_it_shows() {
    let s = stage(keeping(5), &[("lib", &["left", "pinned"]), ("app", &["left", "pinned"])]).await;
    let shown = s.builds("lib").await[0].id;
    move_on(&s, "lib", "r1").await;
    s.scheduler.remove_from_project("left", "lib").await.unwrap();
    s.scheduler.pin("pinned", "lib", s.last_build("lib").await.id).await.unwrap();
    for n in 2..=30 {
        move_on(&s, "lib", &format!("r{n}")).await;
        assert_whole(&s, &["left", "pinned"]).await;
    }
    let kept: Vec<_> = s.builds("lib").await.into_iter().map(|b| b.number).collect();
    assert_eq!(kept, [1, 2, 27, 28, 29, 30, 31]);
    s.scheduler.build(shown).await.unwrap();
}

#[tokio::test]
async fn builds_that_cannot_go_hide_none_behind_them() {
    let s = stage(Retention::default(), &[("lib", &[])]).await;
    for n in 1..=105 {
        let project = format!("p{n}");
        let build = move_on(&s, "lib", &format!("r{n}")).await;
        s.scheduler.add_to_project(&project, "lib").await.unwrap();
        s.scheduler.pin(&project, "lib", build).await.unwrap();
    }
    let s = s.another(8, |b| b.retention(keeping(3)));
    for n in 106..=115 {
        move_on(&s, "lib", &format!("r{n}")).await;
    }
    s.pass(2).await;
    let kept: Vec<_> = s.builds("lib").await.into_iter().map(|b| b.number).collect();
    assert_eq!(kept, (2..=106).chain(114..=116).collect::<Vec<_>>());
}

#[tokio::test]
async fn no_more_project_builds_are_kept_than_the_count_says_and_their_builds_are() {
    let s = stage(keeping(3), &[("lib", &["site"]), ("app", &["site"])]).await;
    for n in 1..=10 {
        move_on(&s, "lib", &format!("r{n}")).await;
        assert_whole(&s, &["site"]).await;
    }
    assert!(s.project_builds("site").await.len() <= 4, "{}", s.project_builds("site").await.len());
    assert!(s.builds("lib").await.len() <= 5, "{}", s.builds("lib").await.len());
    assert_eq!(s.builds("app").await.len(), 1);
    assert_eq!(s.current("site").await, shows([("app", "r0"), ("lib", "r10")]));
}

#[tokio::test]
async fn project_builds_are_counted_whoever_makes_them() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let members: Vec<(&str, &[&str])> = names.iter().map(|n| (*n, &["site"][..])).collect();
    let s = stage(keeping(4), &members).await;
    for n in 1..=3 {
        for name in names {
            move_on(&s, name, &format!("r{n}")).await;
        }
    }
    s.pass(5).await;
    assert!(s.project_builds("site").await.len() <= 5, "{}", s.project_builds("site").await.len());
    assert_whole(&s, &["site"]).await;
}

#[tokio::test]
async fn what_is_old_goes_and_what_stands_stays() {
    let mut keep = Retention::default();
    keep.builds_for = DAY * 7;
    let s = stage(keep, &[("lib", &["site", "shop"]), ("app", &["site"])]).await;
    let pinned = s.builds("lib").await[0].id;
    s.scheduler.pin("shop", "lib", pinned).await.unwrap();
    let gone = move_on(&s, "lib", "r1").await;
    let bad = {
        s.launcher.set_mode(capomastro_testkit::fakes::Mode::Auto(Outcome::Failed));
        let bad = move_on(&s, "app", "bad").await;
        s.launcher.set_mode(capomastro_testkit::fakes::Mode::Auto(Outcome::Succeeded));
        bad
    };
    let linked = move_on(&s, "lib", "r2").await;
    s.skip(DAY * 6).await;
    s.pass(5).await;
    for build in [pinned, gone, bad, linked] {
        s.scheduler.build(build).await.unwrap();
    }
    s.skip(DAY * 2).await;
    s.pass(5).await;
    for build in [gone, bad] {
        assert_eq!(s.scheduler.build(build).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    for build in [pinned, linked] {
        s.scheduler.build(build).await.unwrap();
    }
    assert_eq!(s.project_builds("site").await.len(), 1, "the current one");
    assert_eq!(s.current("shop").await, shows([("lib", "r0")]));
    assert_whole(&s, &["site", "shop"]).await;
}

#[tokio::test]
async fn a_build_that_a_kept_record_shows_is_kept_with_it() {
    let mut keep = Retention::default();
    keep.builds_for = DAY * 7;
    let s = stage(keep, &[("lib", &["site"]), ("app", &["site"])]).await;
    let old = s.builds("lib").await[0].id;
    s.skip(DAY * 6).await;
    // Made young, of what is old.
    move_on(&s, "app", "r1").await;
    move_on(&s, "lib", "r1").await;
    s.skip(DAY * 3).await;
    s.pass(5).await;
    s.scheduler.build(old).await.unwrap();
    assert_whole(&s, &["site"]).await;
    s.skip(DAY * 7).await;
    s.pass(5).await;
    assert_eq!(s.scheduler.build(old).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_whole(&s, &["site"]).await;
}

#[tokio::test]
async fn what_stands_for_long_hides_nothing_behind_it() {
    let mut keep = Retention::default();
    keep.builds_for = DAY * 7;
    let s = stage(keep, &[]).await;
    for n in 0..110 {
        let name = format!("quiet {n}");
        s.probe.set(&name, "r0");
        s.scheduler.apply(&plain_spec(&name, when_told()).in_project(&name).unwrap()).await.unwrap();
    }
    s.pass(10).await;
    s.probe.set("busy", "r0");
    s.scheduler.apply(&plain_spec("busy", when_told()).in_project("busy").unwrap()).await.unwrap();
    s.pass(10).await;
    for n in 1..=3 {
        move_on(&s, "busy", &format!("r{n}")).await;
    }
    s.skip(DAY * 8).await;
    s.pass(5).await;
    assert_eq!(s.project_builds("busy").await.len(), 1);
    assert_eq!(s.builds("busy").await.len(), 1);
    assert_eq!(s.project_builds("quiet 0").await.len(), 1);
    assert_eq!(s.builds("quiet 7").await.len(), 1);
}

#[tokio::test]
async fn settled_receipts_go_and_open_ones_stay() {
    let mut keep = Retention::default();
    keep.receipts_for = DAY;
    let s = stage(keep, &[("lib", &[])]).await;
    let settled = s.push("lib").await;
    s.scheduler.pause("lib", &somebody(), "").await.unwrap();
    s.scheduler.resume("lib").await.unwrap();
    s.probe.fail("lib", ErrorKind::PermissionDenied);
    let open = s.scheduler.trigger("lib", TriggerRequest::manual()).await.unwrap();
    s.skip(DAY * 3 / 4).await;
    s.pass(5).await;
    s.receipt(settled).await;
    s.skip(DAY).await;
    s.pass(5).await;
    assert_eq!(s.scheduler.receipt(settled).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!s.receipt(open).await.is_settled());
}

#[tokio::test]
async fn old_events_go_but_for_the_newest() {
    let mut keep = Retention::default();
    (keep.events_for, keep.events) = (DAY, 5);
    let s = stage(keep, &[("lib", &["site"])]).await;
    let all = s.scheduler.events(EventFilter::All, FIRST_EVENT, 1_000).await.unwrap().items;
    assert!(all.len() > 5);
    s.skip(DAY * 2).await;
    s.pass(5).await;
    let kept = s.scheduler.events(EventFilter::All, FIRST_EVENT, 1_000).await.unwrap().items;
    assert_eq!(kept, all[all.len() - 5..]);
    let mut stream = s.scheduler.follow(EventFilter::All, FIRST_EVENT);
    assert_eq!(stream.next().await.unwrap(), kept[0], "who comes late goes on with the oldest that is kept");
}

async fn is_stored(s: &Stage, id: DependencyId) -> bool {
    s.store.get(&[Key::Dependency(id)]).await.expect("it is there").records[0].is_some()
}

#[tokio::test]
async fn what_was_deleted_goes_with_the_last_record_that_shows_it() {
    let mut keep = Retention::default();
    keep.builds_for = DAY * 7;
    let s = stage(keep, &[("lib", &["site"]), ("app", &["site"]), ("alone", &[]), ("never", &[])]).await;
    s.scheduler.pause("never", &somebody(), "").await.unwrap();
    s.probe.set("new", "r0");
    s.scheduler.pause("app", &somebody(), "").await.unwrap();
    s.scheduler.apply(&plain_spec("new", when_told()).in_project("site").unwrap()).await.unwrap();
    s.scheduler.pause("new", &somebody(), "").await.unwrap();
    // A record with an empty slot for what was never built.
    move_on(&s, "lib", "r1").await;
    let ids = [s.state("app").await.id, s.state("alone").await.id, s.state("new").await.id];
    for name in ["app", "alone", "new"] {
        s.scheduler.delete(name).await.unwrap();
    }
    s.skip(DAY * 2).await;
    s.pass(5).await;
    for id in ids {
        assert!(is_stored(&s, id).await, "its builds or slots are kept");
    }
    s.skip(DAY * 6).await;
    s.pass(5).await;
    s.skip(DAY).await;
    s.pass(5).await;
    assert!(!is_stored(&s, ids[1]).await);
    move_on(&s, "lib", "r2").await;
    s.skip(DAY * 9).await;
    s.pass(5).await;
    s.skip(DAY).await;
    s.pass(5).await;
    for id in ids {
        assert!(!is_stored(&s, id).await);
    }
    assert_eq!(s.current("site").await, shows([("lib", "r2")]));
    assert_whole(&s, &["site"]).await;
}

#[tokio::test]
async fn a_deleted_project_and_its_records_go() {
    let mut keep = Retention::default();
    keep.builds_for = DAY * 7;
    let s = stage(keep, &[("lib", &["site"])]).await;
    let id = s.scheduler.project_status("site").await.unwrap().project.id;
    let old = s.builds("lib").await[0].id;
    s.scheduler.delete_project("site").await.unwrap();
    move_on(&s, "lib", "r1").await;
    s.skip(DAY * 2).await;
    s.pass(5).await;
    let stored = async || s.store.get(&[Key::Project(id)]).await.unwrap().records[0].is_some();
    assert!(stored().await);
    s.scheduler.build(old).await.unwrap();
    for _ in 0..3 {
        s.skip(DAY * 8).await;
        s.pass(5).await;
    }
    assert!(!stored().await);
    assert_eq!(s.scheduler.build(old).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(s.state("lib").await.linked.unwrap().revision, revision("r1"));
}
