//! Defining, changing, renaming and deleting what is to be built.

use capomastro_core::{
    ErrorKind,
    events::EventKind,
    launch::{Outcome, Promise},
    model::{EndReason, OnHeld, Phase, Policy, ReceiptState, WhenBlind},
    scheduler::{Applied, DependencySpec, TriggerRequest},
};
use capomastro_testkit::{ControllableLauncher, ScriptedProbe};
use capomastro_tests::{Stage, each_minute, plain_spec, revision, shows, somebody};
use std::{sync::Arc, time::Duration};

fn stage() -> Stage {
    Stage::new(ControllableLauncher::accepting())
}

#[tokio::test]
async fn ensuring_twice_defines_once_and_leaves_what_is_there() {
    let s = stage();
    let id = s.scheduler.ensure(&plain_spec("lib", each_minute())).await.unwrap();
    let other = plain_spec("lib", Policy::default().with_look_every(Duration::from_secs(7)));
    assert_eq!(s.scheduler.ensure(&other).await.unwrap(), id);
    assert_eq!(s.scheduler.status("lib").await.unwrap().dependency.policy, each_minute());
    assert_eq!(s.times(|k| matches!(k, EventKind::Defined { .. })).await, 1);
}

#[tokio::test]
async fn applying_says_what_changed_and_nothing_where_nothing_did() {
    let launcher = ControllableLauncher::accepting();
    let s = Stage::with(launcher.clone(), |b| b.launcher("second", Arc::new(launcher)));
    let was = plain_spec("lib", each_minute()).in_project("site").unwrap();
    let id = match s.scheduler.apply(&was).await.unwrap() {
        Applied::Created(id) => id,
        other => panic!("{other:?}"),
    };
    assert_eq!(s.scheduler.apply(&was).await.unwrap(), Applied::Unchanged(id));
    let mut policy = was.clone();
    policy.policy = each_minute().with_unstable_is_good(true);
    let mut job = policy.clone();
    job.job = "nightly".into();
    let mut launcher = job.clone();
    launcher.launcher = "second".parse().unwrap();
    let mut source = launcher.clone();
    source.source = ScriptedProbe::source("lib2");
    let projects = source.clone().in_project("other").unwrap();
    for (now, what) in [
        (&policy, vec!["policy"]),
        (&job, vec!["job"]),
        (&launcher, vec!["launcher"]),
        (&source, vec!["source"]),
        (&projects, vec!["projects"]),
        (&was, vec!["source", "launcher", "job", "policy", "projects"]),
    ] {
        assert_eq!(s.scheduler.apply(now).await.unwrap(), Applied::Changed(id, what.clone()));
        assert_eq!(s.scheduler.apply(now).await.unwrap(), Applied::Unchanged(id), "{what:?}");
        let told = EventKind::Changed { what: what.join(", ") };
        assert_eq!(s.times(|k| *k == told).await, 1, "{what:?}");
    }
    assert_eq!(s.scheduler.project_status("other").await.unwrap().project.members.len(), 0);
    assert_eq!(s.scheduler.project_status("site").await.unwrap().project.members.len(), 1);
}

#[tokio::test]
async fn a_change_of_launcher_or_job_rebuilds_nothing() {
    let s = Stage::new(ControllableLauncher::auto_succeed());
    s.probe.set("lib", "r1");
    s.define("lib", &[], each_minute()).await;
    s.pass(120).await;
    s.scheduler.apply(&plain_spec("lib", each_minute()).with_job("other")).await.unwrap();
    s.pass(200).await;
    assert_eq!(s.built("lib"), ["r1"]);
    s.probe.set("lib", "r2");
    s.pass(120).await;
    assert_eq!(s.launcher.last_of("lib").request().job, "other");
}

#[tokio::test]
async fn another_source_is_built_anew_and_the_same_source_by_another_way_is_not() {
    let s = Stage::new(ControllableLauncher::auto_succeed());
    for name in ["lib", "mirror", "fork"] {
        s.probe.set(name, "r1");
    }
    s.define("lib", &[], each_minute()).await;
    s.pass(60).await;
    let at = |source: &str| {
        let mut at = plain_spec("lib", each_minute());
        at.source = ScriptedProbe::source(source);
        at
    };
    let applied = s.scheduler.apply_same_source(&at("mirror")).await.unwrap();
    assert!(matches!(applied, Applied::Changed(_, what) if what == ["source"]));
    let epoch = s.state("lib").await.epoch;
    s.pass(120).await;
    assert!(s.probe.asked("mirror") > 0);
    assert_eq!(s.built("lib"), ["r1"]);
    s.scheduler.apply(&at("fork")).await.unwrap();
    assert_eq!(s.state("lib").await.epoch, epoch + 1);
    s.pass(120).await;
    assert_eq!(s.built("lib"), ["r1", "r1"]);
}

#[tokio::test]
async fn a_source_edited_during_a_build_is_built_even_with_the_same_token() {
    let s = stage();
    s.probe.set("lib", "r1");
    s.probe.set("fork", "r1");
    s.define("lib", &["site"], each_minute()).await;
    s.settle().await;
    let first = s.running("lib").await;
    let mut fork = plain_spec("lib", each_minute()).in_project("site").unwrap();
    fork.source = ScriptedProbe::source("fork");
    s.scheduler.apply(&fork).await.unwrap();
    s.pass(5).await;
    assert_eq!(s.running("lib").await, first, "the running build ends as it ends");
    let ended = s.end("lib", Outcome::Succeeded).await;
    assert!(ended.good);
    assert_eq!(s.state("lib").await.linked.unwrap().build, first, "the epoch does not govern linking");
    s.pass(2).await;
    assert_ne!(s.running("lib").await, first);
    let second = s.end("lib", Outcome::Succeeded).await;
    assert_eq!((second.epoch, second.revision), (2, revision("r1")));
    assert_eq!(s.state("lib").await.linked.unwrap().build, second.id);
}

#[tokio::test]
async fn a_source_edited_while_it_is_looked_at_is_looked_at_again() {
    let s = stage();
    s.probe.set("lib", "old");
    s.probe.set("fork", "new");
    s.probe.hang("lib");
    s.define("lib", &[], each_minute()).await;
    let ticking = tokio::spawn({
        let scheduler = s.scheduler.clone();
        async move { scheduler.tick().await.unwrap() }
    });
    s.probe.until_asked("lib", 1).await;
    let mut fork = plain_spec("lib", each_minute());
    fork.source = ScriptedProbe::source("fork");
    s.scheduler.apply(&fork).await.unwrap();
    s.probe.release("lib");
    ticking.await.unwrap();
    assert_eq!(s.state("lib").await.observed, None, "what the old source said is dropped");
    s.settle().await;
    assert_eq!(s.built("lib"), ["new"]);
}

#[tokio::test]
async fn an_edit_ends_what_names_a_revision_and_keeps_what_does_not() {
    let s = stage();
    s.probe.set("lib", "r1");
    s.probe.set("fork", "f1");
    s.define("lib", &[], each_minute()).await;
    s.settle().await;
    s.probe.set("lib", "r2");
    let pinned = s.manual_at("lib", "r0").await;
    let unpinned = s.manual("lib").await;
    for waits in [pinned, unpinned] {
        assert!(matches!(s.got(waits).await, ReceiptState::Waiting { .. }));
    }
    let mut fork = plain_spec("lib", each_minute());
    fork.source = ScriptedProbe::source("fork");
    s.scheduler.apply(&fork).await.unwrap();
    assert_eq!(s.got(pinned).await, ReceiptState::Ended { reason: EndReason::Superseded });
    s.settle().await;
    s.end("lib", Outcome::Succeeded).await;
    s.settle().await;
    assert_eq!(s.built("lib"), ["r1", "f1"]);
    assert!(matches!(s.got(unpinned).await, ReceiptState::Started { .. }));
}

#[tokio::test]
async fn a_renamed_dependency_keeps_its_identity_and_history() {
    let s = Stage::new(ControllableLauncher::auto_succeed());
    s.probe.set("lib", "r1");
    s.define("lib", &["site"], each_minute()).await;
    s.define("app", &[], each_minute()).await;
    s.pass(30).await;
    let id = s.state("lib").await.id;
    assert_eq!(s.scheduler.rename("lib", "app").await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    s.scheduler.rename("lib", "library").await.unwrap();
    assert_eq!(s.state("library").await.id, id);
    assert_eq!(s.builds("library").await.len(), 1);
    assert_eq!(s.scheduler.status("lib").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(s.current("site").await, shows([("library", "r1")]));
    s.probe.set("lib", "r2");
    s.pass(120).await;
    assert_eq!(s.built("library"), ["r2"], "its source stays");
    let before = s.happened().await.len();
    s.scheduler.rename("library", "library").await.unwrap();
    assert_eq!(s.happened().await.len(), before, "nothing was renamed");
    assert_eq!(s.scheduler.rename("none", "x").await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_renamed_project_keeps_its_identity_and_history() {
    let s = Stage::new(ControllableLauncher::auto_succeed());
    s.probe.set("lib", "r1");
    s.define("lib", &["site"], each_minute()).await;
    s.scheduler.ensure_project("other").await.unwrap();
    s.pass(30).await;
    let renamed = s.scheduler.rename_project("site", "other").await;
    assert_eq!(renamed.unwrap_err().kind(), ErrorKind::AlreadyExists);
    s.scheduler.rename_project("site", "place").await.unwrap();
    assert_eq!(s.current("place").await, shows([("lib", "r1")]));
    let id = s.scheduler.ensure_project("site").await.unwrap();
    assert_ne!(s.scheduler.project_status("place").await.unwrap().project.id, id);
}

#[tokio::test]
async fn what_is_deleted_and_defined_again_is_another_one() {
    let s = Stage::new(ControllableLauncher::auto_succeed());
    s.probe.set("lib", "r1");
    s.define("lib", &["site"], each_minute()).await;
    s.pass(30).await;
    let (old, build) = (s.state("lib").await.id, s.builds("lib").await[0].id);
    s.scheduler.delete("lib").await.unwrap();
    assert_eq!(s.scheduler.delete("lib").await.unwrap_err().kind(), ErrorKind::NotFound);
    let asked = s.probe.asked("lib");
    s.pass(200).await;
    assert_eq!(s.probe.asked("lib"), asked, "it is looked at no more");
    assert_eq!(s.scheduler.build(build).await.unwrap().phase, Phase::Succeeded, "its record stays");
    s.define("lib", &["site"], each_minute()).await;
    s.pass(30).await;
    assert_ne!(s.state("lib").await.id, old);
    assert_eq!(s.builds("lib").await.len(), 1);
    assert_eq!(s.built("lib"), ["r1", "r1"]);
    assert_eq!(s.current("site").await, shows([("lib", "r1")]));
}

#[tokio::test]
async fn deleting_ends_what_waits_and_lets_the_build_end_as_usual() {
    let s = stage();
    s.probe.set("lib", "r1");
    s.probe.set("app", "a1");
    s.define("app", &["site"], each_minute()).await;
    s.define("lib", &["site"], each_minute()).await;
    s.settle().await;
    let build = s.running("lib").await;
    let waiting = s.manual_at("lib", "r0").await;
    let stored = s.scheduler.trigger("lib", TriggerRequest::manual()).await.unwrap();
    let pushed = s.scheduler.trigger("lib", TriggerRequest::push()).await.unwrap();
    s.scheduler.delete("lib").await.unwrap();
    for receipt in [waiting, stored, pushed] {
        assert_eq!(s.got(receipt).await, ReceiptState::Ended { reason: EndReason::Deleted });
    }
    s.settle().await;
    s.launcher.last_of("lib").finish(Outcome::Succeeded);
    let ended = s.ended(build).await;
    assert_eq!((ended.phase, ended.good), (Phase::Succeeded, true));
    s.end("app", Outcome::Succeeded).await;
    s.pass(100).await;
    assert_eq!(s.built("lib"), ["r1"]);
    assert_eq!(s.current("site").await, shows([("app", "a1")]), "the project goes on without it");
    assert_eq!(s.scheduler.project_status("site").await.unwrap().open.len(), 0);
    assert_eq!(s.scheduler.retry(build, &somebody()).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn deleting_a_project_leaves_its_dependencies_and_makes_no_more_records() {
    let s = Stage::new(ControllableLauncher::auto_succeed());
    for name in ["a", "b", "c"] {
        s.probe.set(name, "r1");
        s.define(name, &["site"], each_minute()).await;
    }
    s.pass(60).await;
    let is_record = |k: &EventKind| matches!(k, EventKind::ProjectBuildRequested { .. });
    let records = s.times(is_record).await;
    s.scheduler.delete_project("site").await.unwrap();
    assert_eq!(s.scheduler.project_status("site").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(s.times(is_record).await, records, "a deleted project gets no project builds");
    for name in ["a", "b", "c"] {
        assert!(s.state(name).await.projects.is_empty());
        s.probe.set(name, "r2");
    }
    s.pass(100).await;
    assert_eq!(s.built("a"), ["r1", "r2"]);
    assert_eq!(s.times(is_record).await, records);
    s.define("a", &["site"], each_minute()).await;
    assert_eq!(s.current("site").await, shows([("a", "r2")]), "the name is free again");
}

#[tokio::test]
async fn lists_come_by_name_in_parts() {
    let s = stage();
    for name in ["e", "a", "d", "b", "c"] {
        s.define(name, &[&format!("project {name}")], each_minute()).await;
    }
    s.scheduler.delete("b").await.unwrap();
    let (mut names, mut after, mut parts) = (Vec::new(), None::<String>, 0);
    loop {
        let (part, next) = s.scheduler.dependencies(after.as_deref(), 2).await.unwrap();
        assert!(part.len() <= 2);
        names.extend(part.into_iter().map(|d| d.name.to_string()));
        parts += 1;
        match next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!((names.concat().as_str(), parts), ("acde", 2));
    let (projects, next) = s.scheduler.projects(None, 3).await.unwrap();
    assert_eq!(
        projects.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(),
        ["project a", "project b", "project c"]
    );
    let (rest, end) = s.scheduler.projects(next.as_deref(), 3).await.unwrap();
    assert_eq!((rest.len(), end), (2, None));
    for limit in [0, 1_001] {
        let refused = s.scheduler.dependencies(None, limit).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{limit}");
    }
}

#[tokio::test]
async fn a_blind_launcher_asks_for_a_choice() {
    let s = Stage::new(ControllableLauncher::accepting().with_promise(Promise::Blind));
    let refused = s.scheduler.ensure(&plain_spec("lib", each_minute())).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidConfig);
    assert!(refused.to_string().contains("at_most_once"), "{refused}");
    let chosen = each_minute().with_when_blind(Some(WhenBlind::AtMostOnce));
    s.scheduler.ensure(&plain_spec("lib", chosen)).await.unwrap();
}

#[tokio::test]
async fn a_policy_that_changes_while_others_wait_governs_what_comes() {
    let s = stage();
    s.probe.set("lib", "r1");
    s.define("lib", &[], each_minute()).await;
    s.settle().await;
    let waits = s.manual_at("lib", "r0").await;
    s.define("lib", &[], each_minute().with_on_held(OnHeld::DiscardLoudly)).await;
    let late = s.scheduler.trigger("lib", TriggerRequest::manual().at(revision("r9"))).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Held);
    s.end("lib", Outcome::Succeeded).await;
    assert!(matches!(s.got(waits).await, ReceiptState::Started { .. }), "what waits keeps its place");
}

#[tokio::test]
async fn membership_is_idempotent_and_unknown_names_are_not_found() {
    let s = stage();
    s.define("lib", &[], each_minute()).await;
    s.scheduler.add_to_project("site", "lib").await.unwrap();
    let before = s.happened().await.len();
    s.scheduler.add_to_project("site", "lib").await.unwrap();
    s.scheduler.unpin("site", "lib").await.unwrap();
    assert_eq!(s.happened().await.len(), before);
    s.scheduler.remove_from_project("site", "lib").await.unwrap();
    let before = s.happened().await.len();
    s.scheduler.remove_from_project("site", "lib").await.unwrap();
    assert_eq!(s.happened().await.len(), before);
    for refused in [
        s.scheduler.add_to_project("site", "none").await,
        s.scheduler.remove_from_project("none", "lib").await,
        s.scheduler.unpin("site", "lib").await,
        s.scheduler.delete_project("none").await,
        s.scheduler.rename_project("none", "x").await,
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotFound);
    }
    let twice = DependencySpec::new("lib", ScriptedProbe::source("lib"), "fake").unwrap();
    let twice = twice.in_project("site").unwrap().in_project("site").unwrap();
    assert_eq!(twice.projects.len(), 1);
}
