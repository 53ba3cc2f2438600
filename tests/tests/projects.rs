//! What stands for a project, whatever is built, pinned, joined or left.

use capomastro_core::{
    ErrorKind,
    events::EventKind,
    launch::Outcome,
    model::{EndReason, MissingReason, OnHeld, ProjectBuild, ProjectOutcome, ReceiptState, SlotKind},
    scheduler::{TriggerRequest, WholeBuildRequest},
};
use capomastro_testkit::ControllableLauncher;
use capomastro_tests::{Stage, each_minute, shows, somebody};
use std::collections::BTreeSet;

/// A project of these dependencies over builds that end by hand; each is being built.
async fn begun(names: &[&str]) -> Stage {
    let s = Stage::new(ControllableLauncher::accepting());
    for name in names {
        s.probe.set(name, &format!("{name}1"));
        s.define(name, &["site"], each_minute()).await;
    }
    s.settle().await;
    s
}

/// The same, and all were built once.
async fn built(names: &[&str]) -> Stage {
    let s = begun(names).await;
    for name in names {
        s.end(name, Outcome::Succeeded).await;
    }
    s
}

async fn outcomes(s: &Stage) -> Vec<Option<ProjectOutcome>> {
    s.project_builds("site").await.iter().map(|b| b.seal.as_ref().map(|s| s.outcome)).collect()
}

async fn slot(s: &Stage, build: &ProjectBuild, name: &str) -> SlotKind {
    build.slots[&s.state(name).await.id].kind.clone()
}

async fn move_on(s: &Stage, name: &str, to: &str) {
    s.probe.set(name, to);
    s.push(name).await;
}

/// I5: what is current is exactly what is linked or pinned, unless an open one waits with it fresh.
async fn assert_current_is_linked(s: &Stage) {
    let status = s.scheduler.project_status("site").await.unwrap();
    let stands: Option<Vec<_>> = status.project.members.values().map(|m| m.pin.or(m.linked)).collect();
    let Some(stands) = stands else { return };
    let awaited = status
        .open
        .iter()
        .flat_map(|b| b.slots.values())
        .any(|s| matches!(s.kind, SlotKind::Fresh { build } if stands.contains(&build)));
    let current = status.current.map(|c| c.slots.values().filter_map(|s| s.build()).collect::<BTreeSet<_>>());
    assert!(awaited || current == Some(stands.into_iter().collect()));
}

#[tokio::test]
async fn on_its_first_day_a_project_is_complete_after_the_second_build() {
    let s = begun(&["a", "b"]).await;
    s.end("a", Outcome::Succeeded).await;
    assert_eq!(s.current("site").await, shows([]));
    s.end("b", Outcome::Succeeded).await;
    assert_eq!(s.current("site").await, shows([("a", "a1"), ("b", "b1")]));
    assert_current_is_linked(&s).await;
    let builds = s.project_builds("site").await;
    assert!(builds.iter().all(|b| b.seal.is_some()));
    assert_eq!(builds[0].name, "20260301.1");
    let names: BTreeSet<_> = builds.iter().map(|b| &b.name).collect();
    assert_eq!(names.len(), builds.len());
}

#[tokio::test]
async fn a_slot_says_why_it_is_empty() {
    let s = begun(&["a"]).await;
    s.define("b", &["site"], each_minute()).await;
    s.end("a", Outcome::Succeeded).await;
    s.scheduler.pause("b", &somebody(), "").await.unwrap();
    move_on(&s, "a", "a2").await;
    s.end("a", Outcome::Succeeded).await;
    let last = s.project_builds("site").await.pop().unwrap();
    assert_eq!(last.seal.as_ref().unwrap().outcome, ProjectOutcome::Incomplete);
    assert_eq!(slot(&s, &last, "b").await, SlotKind::Missing { reason: MissingReason::NeverBuilt });
}

#[tokio::test]
async fn a_failed_build_moves_no_link() {
    let s = built(&["a", "b"]).await;
    let before = s.current("site").await;
    move_on(&s, "a", "a2").await;
    s.end("a", Outcome::Failed).await;
    assert_eq!(s.current("site").await, before);
    assert_eq!(outcomes(&s).await.last().unwrap(), &Some(ProjectOutcome::Failed));
    move_on(&s, "a", "a3").await;
    s.end("a", Outcome::Unstable).await;
    assert_eq!(s.current("site").await, before, "an unstable one is not good by default");
    s.define("a", &["site"], each_minute().with_unstable_is_good(true)).await;
    move_on(&s, "a", "a4").await;
    s.end("a", Outcome::Unstable).await;
    assert_eq!(s.current("site").await, shows([("a", "a4"), ("b", "b1")]));
}

#[tokio::test]
async fn a_whole_build_is_one_record_with_one_key_and_one_build_each() {
    let s = built(&["a", "b", "c"]).await;
    let records = s.project_builds("site").await.len();
    let whole = s
        .scheduler
        .build_project("site", &WholeBuildRequest::all().by(somebody()).with_parameter("p", "1"))
        .await
        .unwrap();
    assert_eq!(whole.receipts.len(), 3);
    let open = s.scheduler.project_status("site").await.unwrap().open;
    assert_eq!((open.len(), open[0].id, &open[0].name), (1, whole.project_build, &whole.name));
    assert!(open[0].slots.values().all(|s| matches!(s.kind, SlotKind::Awaiting { .. })));
    s.settle().await;
    for name in ["a", "b", "c"] {
        let sent = s.launcher.last_of(name).request();
        assert_eq!(sent.build_key.as_ref(), Some(&whole.build_key), "{name}");
        assert_eq!(sent.parameters["p"], "1");
        assert_eq!(sent.requesters, [somebody()]);
    }
    for name in ["a", "b", "c"] {
        s.end(name, Outcome::Succeeded).await;
    }
    let builds = s.project_builds("site").await;
    assert_eq!(builds.len(), records + 1, "its builds make no second record");
    let last = builds.last().unwrap();
    assert_eq!(last.seal.as_ref().unwrap().outcome, ProjectOutcome::Succeeded);
    assert_eq!(
        (last.build_key.as_ref(), last.requester.as_ref()),
        (Some(&whole.build_key), Some(&somebody()))
    );
    assert_eq!(s.scheduler.project_status("site").await.unwrap().current.unwrap().id, whole.project_build);
}

#[tokio::test]
async fn a_part_of_a_project_is_built_and_the_rest_carried() {
    let s = built(&["a", "b", "c"]).await;
    let whole = s.scheduler.build_project("site", &WholeBuildRequest::all().only(["a", "b"])).await.unwrap();
    s.settle().await;
    for name in ["a", "b"] {
        s.end(name, Outcome::Succeeded).await;
    }
    assert_eq!(s.built("c").len(), 1);
    let last = s.project_builds("site").await.pop().unwrap();
    assert_eq!(last.id, whole.project_build);
    assert!(matches!(slot(&s, &last, "a").await, SlotKind::Fresh { .. }));
    assert!(matches!(slot(&s, &last, "c").await, SlotKind::Carried { .. }));
    for (only, kind) in [(vec!["none"], ErrorKind::NotFound), (vec![], ErrorKind::InvalidInput)] {
        let refused = s.scheduler.build_project("site", &WholeBuildRequest::all().only(only)).await;
        assert_eq!(refused.unwrap_err().kind(), kind);
    }
    let refused = s.scheduler.build_project("none", &WholeBuildRequest::all()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_whole_build_half_failed_delivers_what_was_good() {
    let s = built(&["a", "b"]).await;
    for name in ["a", "b"] {
        s.probe.set(name, &format!("{name}2"));
    }
    let whole = s.scheduler.build_project("site", &WholeBuildRequest::all()).await.unwrap();
    s.settle().await;
    s.end("a", Outcome::Succeeded).await;
    assert_current_is_linked(&s).await;
    s.end("b", Outcome::Failed).await;
    assert_eq!(s.current("site").await, shows([("a", "a2"), ("b", "b1")]));
    assert_current_is_linked(&s).await;
    let record = s.project_builds("site").await.into_iter().find(|b| b.id == whole.project_build).unwrap();
    assert_eq!(record.seal.unwrap().outcome, ProjectOutcome::Failed);
}

#[tokio::test]
async fn a_paused_member_is_carried_with_the_reason() {
    let s = built(&["a", "b"]).await;
    s.scheduler.pause("b", &somebody(), "").await.unwrap();
    let whole = s.scheduler.build_project("site", &WholeBuildRequest::all()).await.unwrap();
    let (a, b) = (s.state("a").await.id, s.state("b").await.id);
    assert_eq!(s.got(whole.receipts[&b]).await, ReceiptState::Ended { reason: EndReason::Paused });
    s.settle().await;
    s.end("a", Outcome::Succeeded).await;
    let record = s.project_builds("site").await.pop().unwrap();
    assert_eq!(record.seal.as_ref().unwrap().outcome, ProjectOutcome::Succeeded);
    assert!(record.slots[&b].note.as_ref().unwrap().contains("paused"));
    assert!(matches!(record.slots[&a].kind, SlotKind::Fresh { .. }));
    s.scheduler.pause("a", &somebody(), "").await.unwrap();
    let nothing = s.scheduler.build_project("site", &WholeBuildRequest::all()).await.unwrap();
    let sealed = s.project_builds("site").await.pop().unwrap();
    assert_eq!(sealed.id, nothing.project_build);
    assert!(sealed.seal.is_some(), "it waits for nothing");
}

#[tokio::test]
async fn a_member_that_is_paused_meanwhile_is_carried_too() {
    let s = built(&["a", "b"]).await;
    let whole = s.scheduler.build_project("site", &WholeBuildRequest::all()).await.unwrap();
    s.scheduler.pause("b", &somebody(), "").await.unwrap();
    s.settle().await;
    s.end("a", Outcome::Succeeded).await;
    let record = s.project_builds("site").await.into_iter().find(|b| b.id == whole.project_build).unwrap();
    assert!(matches!(slot(&s, &record, "b").await, SlotKind::Carried { .. }));
    assert!(record.seal.is_some());
}

#[tokio::test]
async fn members_that_are_missing_or_discarded_hold_no_whole_build_open() {
    let s = built(&["a", "b", "c"]).await;
    s.define("b", &["site"], each_minute().with_on_held(OnHeld::DiscardSilently)).await;
    s.settle().await;
    move_on(&s, "b", "b2").await;
    s.probe.set("b", "b3");
    s.probe.gone("c");
    let whole = s.scheduler.build_project("site", &WholeBuildRequest::all()).await.unwrap();
    s.pass(30).await;
    s.end("a", Outcome::Succeeded).await;
    let record = s.project_builds("site").await.into_iter().find(|b| b.id == whole.project_build).unwrap();
    assert!(record.seal.is_some());
    let notes: Vec<_> = record.slots.values().filter_map(|s| s.note.clone()).collect();
    assert!(notes.iter().any(|n| n.contains("discarded")), "{notes:?}");
    assert!(notes.iter().any(|n| n.contains("not found")), "{notes:?}");
    s.end("b", Outcome::Succeeded).await;
    assert_current_is_linked(&s).await;
}

#[tokio::test]
async fn a_whole_build_joins_what_runs() {
    let s = built(&["a", "b"]).await;
    move_on(&s, "a", "a2").await;
    let running = s.running("a").await;
    let whole = s.scheduler.build_project("site", &WholeBuildRequest::all()).await.unwrap();
    s.settle().await;
    assert_eq!(s.running("a").await, running);
    let (a, b) = (s.state("a").await.id, s.state("b").await.id);
    assert_eq!(s.got(whole.receipts[&a]).await, ReceiptState::Joined { build: running });
    s.end("a", Outcome::Succeeded).await;
    s.end("b", Outcome::Succeeded).await;
    let record = s.project_builds("site").await.into_iter().find(|r| r.id == whole.project_build).unwrap();
    assert_eq!(record.slots[&a].kind, SlotKind::Fresh { build: running });
    assert!(matches!(record.slots[&b].kind, SlotKind::Fresh { .. }));
    assert_eq!(
        s.scheduler.build(running).await.unwrap().build_key,
        None,
        "a joined build keeps its first key"
    );
    assert_current_is_linked(&s).await;
}

#[tokio::test]
async fn overlapping_whole_and_single_builds_never_go_back() {
    let s = built(&["a", "b"]).await;
    let mut seals = 0;
    let first = s.scheduler.build_project("site", &WholeBuildRequest::all()).await.unwrap();
    s.settle().await;
    move_on(&s, "a", "a2").await;
    let second = s.scheduler.build_project("site", &WholeBuildRequest::all().only(["b"])).await.unwrap();
    s.settle().await;
    move_on(&s, "b", "b2").await;
    for name in ["b", "a", "a", "b"] {
        s.end(name, Outcome::Succeeded).await;
        assert_current_is_linked(&s).await;
        let current = s.scheduler.project_status("site").await.unwrap().current.unwrap();
        let sequence = current.seal.unwrap().sequence;
        assert!(sequence >= seals, "current never goes back");
        seals = sequence;
    }
    for name in ["a", "b"] {
        if s.state(name).await.held.is_some() {
            s.end(name, Outcome::Succeeded).await;
        }
    }
    assert_eq!(s.current("site").await, shows([("a", "a2"), ("b", "b2")]));
    let status = s.scheduler.project_status("site").await.unwrap();
    assert!(status.open.is_empty());
    assert_ne!(first.name, second.name);
}

#[tokio::test]
async fn a_pin_holds_until_it_is_moved() {
    let s = built(&["a", "b"]).await;
    let a1 = s.builds("a").await[0].id;
    s.scheduler.pin("site", "a", a1).await.unwrap();
    let before = s.happened().await.len();
    s.scheduler.pin("site", "a", a1).await.unwrap();
    assert_eq!(s.happened().await.len(), before, "it is held there already");
    move_on(&s, "a", "a2").await;
    s.end("a", Outcome::Succeeded).await;
    assert_eq!(s.built("a"), ["a1", "a2"], "pinning touches linking alone");
    assert_eq!(s.current("site").await, shows([("a", "a1"), ("b", "b1")]));
    move_on(&s, "b", "b2").await;
    s.end("b", Outcome::Succeeded).await;
    assert_eq!(s.current("site").await, shows([("a", "a1"), ("b", "b2")]));
    s.scheduler.unpin("site", "a").await.unwrap();
    assert_eq!(s.current("site").await, shows([("a", "a2"), ("b", "b2")]), "relinked in that commit");
    assert_current_is_linked(&s).await;
}

#[tokio::test]
async fn only_a_good_build_of_a_member_can_be_pinned() {
    let s = built(&["a", "b"]).await;
    move_on(&s, "a", "a2").await;
    let running = s.running("a").await;
    assert_eq!(s.scheduler.pin("site", "a", running).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let failed = s.end("a", Outcome::Failed).await.id;
    let other = s.builds("b").await[0].id;
    for build in [failed, other] {
        assert_eq!(s.scheduler.pin("site", "a", build).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let good = s.builds("a").await[0].id;
    assert_eq!(s.scheduler.pin("none", "a", good).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(s.scheduler.pin("site", "none", good).await.unwrap_err().kind(), ErrorKind::NotFound);
    let unknown = s.state("a").await.id.to_string().parse().unwrap();
    assert_eq!(s.scheduler.pin("site", "a", unknown).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_whole_build_leaves_pins_alone_and_moves_those_that_are_named() {
    let s = built(&["a", "b"]).await;
    let a1 = s.builds("a").await[0].id;
    s.scheduler.pin("site", "a", a1).await.unwrap();
    s.probe.set("a", "a2");
    s.scheduler.build_project("site", &WholeBuildRequest::all()).await.unwrap();
    s.settle().await;
    assert_eq!(s.built("a").len(), 1);
    s.end("b", Outcome::Succeeded).await;
    let only_pinned = s.scheduler.build_project("site", &WholeBuildRequest::all().only(["a"])).await;
    assert_eq!(only_pinned.unwrap_err().kind(), ErrorKind::InvalidInput);
    let named = WholeBuildRequest::all().only(["b"]).moving_pin("a");
    s.scheduler.build_project("site", &named).await.unwrap();
    s.settle().await;
    s.end("a", Outcome::Failed).await;
    s.end("b", Outcome::Succeeded).await;
    assert_eq!(s.current("site").await["a"], "a1", "a bad build moves no pin");
    s.scheduler.build_project("site", &named).await.unwrap();
    s.settle().await;
    let a2 = s.end("a", Outcome::Succeeded).await;
    s.end("b", Outcome::Succeeded).await;
    assert_eq!(s.current("site").await["a"], "a2");
    let project = s.scheduler.project_status("site").await.unwrap().project;
    assert_eq!(project.members[&a2.dependency].pin, Some(a2.id));
    assert_current_is_linked(&s).await;
}

#[tokio::test]
async fn a_pin_during_a_build_is_not_overrun() {
    let s = built(&["a", "b"]).await;
    let a1 = s.builds("a").await[0].id;
    move_on(&s, "a", "a2").await;
    s.scheduler.pin("site", "a", a1).await.unwrap();
    s.end("a", Outcome::Succeeded).await;
    assert_eq!(s.current("site").await, shows([("a", "a1"), ("b", "b1")]));
    assert_current_is_linked(&s).await;
    assert_eq!(s.scheduler.project_status("site").await.unwrap().open.len(), 0);
}

#[tokio::test]
async fn members_join_and_leave_during_a_build() {
    let s = built(&["a", "b"]).await;
    s.probe.set("c", "c1");
    s.define("c", &[], each_minute()).await;
    s.settle().await;
    move_on(&s, "a", "a2").await;
    s.scheduler.add_to_project("site", "c").await.unwrap();
    assert_eq!(s.current("site").await, shows([("a", "a1"), ("b", "b1")]), "c was never built");
    s.end("a", Outcome::Succeeded).await;
    s.end("c", Outcome::Succeeded).await;
    assert_eq!(s.current("site").await, shows([("a", "a2"), ("b", "b1"), ("c", "c1")]));
    move_on(&s, "b", "b2").await;
    s.scheduler.remove_from_project("site", "b").await.unwrap();
    assert_eq!(s.current("site").await, shows([("a", "a2"), ("c", "c1")]), "relinked without it");
    s.end("b", Outcome::Succeeded).await;
    assert_eq!(s.current("site").await, shows([("a", "a2"), ("c", "c1")]));
    assert_eq!(s.scheduler.project_status("site").await.unwrap().open.len(), 0);
    assert_current_is_linked(&s).await;
    let old = s.project_builds("site").await;
    assert!(
        old.iter().any(|b| b.slots.len() == 2 && s.launcher.duplicates().is_empty()),
        "it stays in old records"
    );
}

#[tokio::test]
async fn a_member_that_leaves_an_open_whole_build_keeps_it_from_nothing() {
    let s = built(&["a", "b"]).await;
    s.probe.fail("b", ErrorKind::Unavailable);
    s.probe.set("a", "a2");
    s.scheduler.build_project("site", &WholeBuildRequest::all()).await.unwrap();
    s.settle().await;
    s.end("a", Outcome::Succeeded).await;
    assert_eq!(s.scheduler.project_status("site").await.unwrap().open.len(), 1, "b awaits its look");
    s.scheduler.remove_from_project("site", "b").await.unwrap();
    s.scheduler.pause("b", &somebody(), "").await.unwrap();
    s.probe.heal("b");
    s.pass(300).await;
    assert_eq!(s.scheduler.project_status("site").await.unwrap().open.len(), 0);
    assert_eq!(s.current("site").await, shows([("a", "a2")]));
    assert_current_is_linked(&s).await;
}

#[tokio::test]
async fn deleting_a_member_resolves_the_whole_build_that_awaits_it() {
    let s = built(&["a", "b"]).await;
    s.probe.fail("b", ErrorKind::Unavailable);
    let whole = s.scheduler.build_project("site", &WholeBuildRequest::all()).await.unwrap();
    s.settle().await;
    s.scheduler.delete("b").await.unwrap();
    s.end("a", Outcome::Succeeded).await;
    let record = s.project_builds("site").await.into_iter().find(|r| r.id == whole.project_build).unwrap();
    assert!(record.seal.is_some());
    assert!(record.slots.values().any(|s| s.note.as_deref() == Some("the dependency was deleted")));
    assert_eq!(s.current("site").await, shows([("a", "a1")]));
}

#[tokio::test]
async fn one_build_serves_each_project_that_tracks_it() {
    let s = Stage::new(ControllableLauncher::accepting());
    s.probe.set("lib", "l1");
    s.probe.set("app", "a1");
    s.define("lib", &["site", "shop"], each_minute()).await;
    s.define("app", &["shop"], each_minute()).await;
    s.settle().await;
    s.end("lib", Outcome::Succeeded).await;
    s.end("app", Outcome::Succeeded).await;
    assert_eq!(s.built("lib"), ["l1"]);
    assert_eq!(s.current("site").await, shows([("lib", "l1")]));
    assert_eq!(s.current("shop").await, shows([("app", "a1"), ("lib", "l1")]));
    let l1 = s.builds("lib").await[0].id;
    s.scheduler.pin("shop", "lib", l1).await.unwrap();
    let records = s.project_builds("shop").await.len();
    move_on(&s, "lib", "l2").await;
    s.end("lib", Outcome::Succeeded).await;
    assert_eq!(s.current("site").await, shows([("lib", "l2")]));
    assert_eq!(s.current("shop").await, shows([("app", "a1"), ("lib", "l1")]));
    assert_eq!(s.project_builds("shop").await.len(), records, "a project that pins it gets no record");
}

#[tokio::test]
async fn what_was_bound_at_the_request_is_kept_for_audit() {
    let s = built(&["a", "b"]).await;
    let b1 = s.builds("b").await[0].id;
    move_on(&s, "a", "a2").await;
    let open = s.scheduler.project_status("site").await.unwrap().open.pop().unwrap();
    let b = s.state("b").await.id;
    assert_eq!(open.bound_at_request[&b], b1);
    move_on(&s, "b", "b2").await;
    let b2 = s.end("b", Outcome::Succeeded).await.id;
    s.end("a", Outcome::Succeeded).await;
    let sealed = s.project_builds("site").await.into_iter().find(|r| r.id == open.id).unwrap();
    assert_eq!(sealed.slots[&b].build(), Some(b2), "bound again at the seal");
    assert_eq!(sealed.bound_at_request[&b], b1);
    assert_eq!(s.current("site").await, shows([("a", "a2"), ("b", "b2")]));
}

#[tokio::test]
async fn artifacts_stand_in_the_slots() {
    let s = Stage::new(ControllableLauncher::auto_succeed());
    s.launcher.leave_artifact("out/lib.tar", b"bytes".to_vec());
    s.probe.set("a", "a1");
    s.define("a", &["site"], each_minute()).await;
    s.pass(20).await;
    let current = s.scheduler.project_status("site").await.unwrap().current.unwrap();
    let artifact = &current.slots.values().next().unwrap().artifacts[0];
    assert_eq!((artifact.name.as_str(), artifact.size), ("out/lib.tar", Some(5)));
    assert!(artifact.digest.as_ref().unwrap().starts_with("sha256:"));
}

#[tokio::test]
async fn a_broken_lock_seals_what_waits_for_it() {
    let s = built(&["a", "b"]).await;
    move_on(&s, "a", "a2").await;
    s.scheduler.break_lock("a", &somebody(), "stuck").await.unwrap();
    assert_eq!(s.scheduler.project_status("site").await.unwrap().open.len(), 0);
    assert_eq!(outcomes(&s).await.last().unwrap(), &Some(ProjectOutcome::Failed));
    assert_eq!(s.current("site").await, shows([("a", "a1"), ("b", "b1")]));
}

#[tokio::test]
async fn the_seals_of_a_project_are_told_in_order() {
    let s = built(&["a", "b"]).await;
    move_on(&s, "a", "a2").await;
    s.end("a", Outcome::Succeeded).await;
    let told: Vec<_> = s
        .happened()
        .await
        .into_iter()
        .filter_map(|k| match k {
            EventKind::Sealed { project_build, .. } => Some(project_build),
            _ => None,
        })
        .collect();
    let mut sealed = s.project_builds("site").await;
    sealed.sort_by_key(|b| b.seal.as_ref().unwrap().sequence);
    assert_eq!(told, sealed.iter().map(|b| b.id).collect::<Vec<_>>());
    let sequences: Vec<_> = sealed.iter().map(|b| b.seal.as_ref().unwrap().sequence).collect();
    assert_eq!(sequences, (1..=u64::try_from(sealed.len()).unwrap()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_reused_build_is_current_again() {
    let s = Stage::new(ControllableLauncher::accepting());
    for name in ["a", "b"] {
        s.probe.set(name, "1");
        s.define(name, &["site"], each_minute().with_reuse_known(true)).await;
    }
    s.settle().await;
    for name in ["a", "b"] {
        s.end(name, Outcome::Succeeded).await;
    }
    move_on(&s, "a", "2").await;
    s.probe.set("a", "1");
    s.push("a").await;
    s.end("a", Outcome::Succeeded).await;
    assert_eq!(s.built("a"), ["1", "2"]);
    assert_eq!(s.current("site").await, shows([("a", "1"), ("b", "1")]), "linked at the end");
    assert_current_is_linked(&s).await;
}

#[tokio::test]
async fn a_trigger_in_a_project_build_that_is_gone_harms_nothing() {
    let s = built(&["a"]).await;
    s.probe.fail("a", ErrorKind::Unavailable);
    s.scheduler.build_project("site", &WholeBuildRequest::all()).await.unwrap();
    s.settle().await;
    s.scheduler.delete_project("site").await.unwrap();
    s.probe.heal("a");
    s.probe.set("a", "a2");
    s.pass(200).await;
    s.end("a", Outcome::Succeeded).await;
    s.ask("a", TriggerRequest::push()).await;
    assert_eq!(s.built("a"), ["a1", "a2"]);
}
