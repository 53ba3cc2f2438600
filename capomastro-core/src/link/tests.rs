//! One test for each clause of the rules of linking.

use super::{
    BuildFacts, ProjectView, end_note,
    world::{A, B, C, P, Q, World, carried, fresh, missing, pinned, receipt},
};
use crate::{
    ErrorKind,
    events::EventKind,
    model::{Artifact, EndReason, MissingReason, Phase, Project, ProjectOutcome, ReceiptState, SlotKind},
    sample::{self, build_id},
};
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn the_linked_build_is_set_when_a_build_ends_good_and_only_then() {
    for (phase, links) in [
        (Phase::Succeeded, true),
        (Phase::Unstable, false),
        (Phase::Failed, false),
        (Phase::Cancelled, false),
        (Phase::TimedOut, false),
        (Phase::Lost, false),
        (Phase::Refused, false),
    ] {
        let mut w = World::built(&[(P, &[A])]);
        let new = w.start(A);
        w.end(A, phase);
        let linked = w.projects[&P].members[&A].linked;
        assert_eq!(linked, Some(if links { new } else { build_id(1) }), "{phase}");
    }
}

#[test]
fn an_unstable_build_that_the_policy_calls_good_is_linked() {
    let mut w = World::of(&[(P, &[A])]);
    let id = w.start(A);
    let mut build = sample::ended(w.builds[&id].clone(), Phase::Unstable);
    build.good = true;
    w.builds.insert(id, build.clone());
    w.change(P, |v, _| v.build_ended(&build));
    assert_eq!(w.current(P), BTreeMap::from([(A, id)]));
}

#[test]
fn a_reused_build_is_linked_and_becomes_current() {
    let mut w = World::built(&[(P, &[A, B])]);
    let newer = w.start(A);
    w.end(A, Phase::Succeeded);
    assert_eq!(w.current(P)[&A], newer);
    w.reuse(build_id(1));
    assert_eq!(w.current(P), BTreeMap::from([(A, build_id(1)), (B, build_id(2))]));
    assert!(w.latest(P).slots.values().all(|s| matches!(s.kind, SlotKind::Carried { .. })));
}

#[test]
fn a_build_that_is_not_good_cannot_be_reused() {
    let mut w = World::built(&[(P, &[A])]);
    let failed = w.start(A);
    w.end(A, Phase::Failed);
    let failed = w.builds[&failed].clone();
    let (answer, _) = w.change(P, |v, _| v.reused(&failed));
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(w.current(P)[&A], build_id(1));
}

#[test]
fn a_project_that_pins_a_dependency_holds_its_build_until_moved_by_hand() {
    let mut w = World::built(&[(P, &[A]), (Q, &[A])]);
    w.pin(P, A, Some(build_id(1))).unwrap();
    let new = w.start(A);
    w.end(A, Phase::Succeeded);
    assert_eq!(w.current(P)[&A], build_id(1));
    assert_eq!(w.current(Q)[&A], new);
    w.pin(P, A, None).unwrap();
    assert_eq!(w.current(P)[&A], new, "unpinned, it follows the linked build, which moved meanwhile");
}

#[test]
fn a_build_creates_one_project_build_for_each_project_that_tracks_its_dependency() {
    let mut w = World::built(&[(P, &[A, B]), (Q, &[A])]);
    let new = w.start(A);
    let (p, q) = (w.open(P), w.open(Q));
    assert_eq!((p.len(), q.len()), (1, 1));
    assert_eq!(*w.slot(p[0], A), fresh(new));
    assert_eq!(*w.slot(p[0], B), carried(build_id(2)));
    assert_eq!(*w.slot(q[0], A), fresh(new));
    assert_eq!(w.builds[&new].project_builds, [(P, p[0]), (Q, q[0])]);
}

#[test]
fn a_build_creates_none_for_a_project_that_pins_its_dependency_or_does_not_have_it() {
    let mut w = World::built(&[(P, &[A]), (Q, &[B])]);
    w.pin(P, A, Some(build_id(1))).unwrap();
    let (p, q) = (w.records.len(), w.open(Q));
    w.start(A);
    assert_eq!((w.records.len(), w.open(P), w.open(Q)), (p, vec![], q));
}

#[test]
fn there_is_one_slot_for_each_dependency_at_that_moment_of_each_kind() {
    let mut w = World::built(&[(P, &[A, B])]);
    w.pin(P, B, Some(build_id(2))).unwrap();
    w.join(P, C);
    let new = w.start(A);
    let id = w.open(P)[0];
    assert_eq!(*w.slot(id, A), fresh(new));
    assert_eq!(*w.slot(id, B), pinned(build_id(2)));
    assert_eq!(*w.slot(id, C), missing(MissingReason::NeverBuilt));
    let whole = w.whole(P, 1, &[C], &[]);
    assert_eq!(*w.slot(whole, C), SlotKind::Awaiting { receipt: receipt(C, 1) });
    w.end(A, Phase::Failed);
    w.start(A);
    let last = *w.open(P).last().unwrap();
    assert_eq!(*w.slot(last, C), missing(MissingReason::NotYetBuilt));
}

#[test]
fn each_resolved_slot_stores_revision_artifacts_and_digests() {
    let mut w = World::built(&[(P, &[A, B])]);
    let new = w.start(A);
    let id = w.open(P)[0];
    assert_eq!(w.records[&id].slots[&A].revision, None, "not resolved yet");
    assert_eq!(w.records[&id].slots[&B].revision, Some(sample::revision("r2")));
    let artifact =
        Artifact { name: "a.deb".into(), digest: Some("sha256:00".into()), size: Some(3), location: None };
    let build = w.builds.get_mut(&new).unwrap();
    build.artifacts = vec![artifact.clone()];
    build.built = Some(sample::revision("drifted"));
    w.end(A, Phase::Succeeded);
    let slot = &w.records[&id].slots[&A];
    assert_eq!(slot.artifacts, [artifact]);
    assert_eq!(slot.revision, Some(sample::revision("drifted")), "what was built, not what was asked for");
}

#[test]
fn carried_slots_are_bound_at_request_and_again_at_the_seal_and_the_first_binding_is_kept() {
    let mut w = World::built(&[(P, &[A, B, C])]);
    w.start(A);
    let id = w.open(P)[0];
    let newer = w.start(B);
    w.end(B, Phase::Succeeded);
    assert_eq!(*w.slot(id, B), carried(build_id(2)), "complete from its first moment");
    w.end(A, Phase::Succeeded);
    assert_eq!(*w.slot(id, B), carried(newer));
    assert_eq!(w.records[&id].slots[&B].revision, Some(w.builds[&newer].revision.clone()));
    assert_eq!(w.records[&id].bound_at_request, BTreeMap::from([(B, build_id(2)), (C, build_id(3))]));
}

#[test]
fn missing_slots_are_bound_again_at_the_seal_too() {
    let mut w = World::of(&[(P, &[A, B])]);
    w.start(A);
    let id = w.open(P)[0];
    w.start(B);
    w.end(B, Phase::Succeeded);
    w.end(A, Phase::Succeeded);
    assert_eq!(*w.slot(id, B), carried(build_id(2)));
    assert_eq!(w.outcome(id), Some(ProjectOutcome::Succeeded));
}

#[test]
fn the_seal_waits_for_every_awaiting_and_every_fresh_slot() {
    let mut w = World::built(&[(P, &[A, B])]);
    let id = w.whole(P, 1, &[A, B], &[]);
    w.start(A);
    w.end(A, Phase::Succeeded);
    assert_eq!(w.outcome(id), None, "one slot awaits");
    w.start(B);
    assert_eq!(w.outcome(id), None, "one fresh build runs");
    w.end(B, Phase::Succeeded);
    assert_eq!(w.outcome(id), Some(ProjectOutcome::Succeeded));
}

#[test]
fn the_outcome_is_failed_before_incomplete_before_succeeded() {
    for (phase, second, outcome) in [
        (Phase::Failed, false, ProjectOutcome::Failed),
        (Phase::Failed, true, ProjectOutcome::Failed),
        (Phase::Refused, true, ProjectOutcome::Failed),
        (Phase::Succeeded, false, ProjectOutcome::Incomplete),
        (Phase::Succeeded, true, ProjectOutcome::Succeeded),
    ] {
        let mut w = World::of(&[(P, &[A, B])]);
        if second {
            w.start(B);
            w.end(B, Phase::Succeeded);
        }
        w.start(A);
        let id = w.open(P)[0];
        let change = w.end(A, phase).remove(&P).unwrap();
        assert_eq!(w.outcome(id), Some(outcome), "{phase}, second built: {second}");
        let current = outcome == ProjectOutcome::Succeeded;
        let sealed = EventKind::Sealed { project_build: id, outcome, current };
        assert!(change.events.iter().any(|e| e.kind == sealed), "{:?}", change.events);
    }
}

#[test]
fn a_sealed_project_build_becomes_current_only_if_it_is_exactly_the_links_and_pins_now() {
    let mut w = World::built(&[(P, &[A, B])]);
    let id = w.whole(P, 1, &[A, B], &[]);
    let old = w.start(A);
    w.end(A, Phase::Succeeded);
    let new = w.start(A);
    w.end(A, Phase::Succeeded);
    let other = w.start(B);
    let change = w.end(B, Phase::Succeeded).remove(&P).unwrap();
    assert_eq!(*w.slot(id, A), fresh(old));
    let sealed = EventKind::Sealed { project_build: id, outcome: ProjectOutcome::Succeeded, current: false };
    assert!(change.events.iter().any(|e| e.kind == sealed), "{:?}", change.events);
    assert_eq!(w.outcome(id), Some(ProjectOutcome::Succeeded));
    assert_ne!(w.projects[&P].current.as_ref().unwrap().id, id);
    assert_eq!(w.current(P), BTreeMap::from([(A, new), (B, other)]), "relinked in the same commit");
}

#[test]
fn only_good_builds_of_the_dependency_are_accepted_as_a_pin() {
    let mut w = World::built(&[(P, &[A, B])]);
    let failed = w.start(A);
    w.end(A, Phase::Failed);
    let running = w.start(A);
    for (build, why) in [(failed, "failed"), (running, "running"), (build_id(2), "of another dependency")] {
        let e = w.pin(P, A, Some(build)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput, "{why}");
        assert!(e.message().contains("give"), "{e}");
    }
    assert_eq!(w.pin(P, C, None).unwrap_err().kind(), ErrorKind::InvalidInput, "not a member");
    assert_eq!(w.projects[&P].members[&A].pin, None);
    assert!(w.pin(P, A, Some(build_id(1))).is_ok());
}

#[test]
fn setting_and_removing_a_pin_is_told_once() {
    let mut w = World::built(&[(P, &[A])]);
    let good = w.builds[&build_id(1)].clone();
    let told = |w: &mut World, pin: Option<&crate::model::Build>| {
        let (answer, change) = w.change(P, |v, _| v.set_pin(A, pin));
        answer.unwrap();
        change.events.into_iter().map(|e| e.kind).collect::<Vec<_>>()
    };
    let pinned = EventKind::Pinned { dependency: A, build: Some(good.id) };
    assert_eq!(told(&mut w, Some(&good)), [pinned]);
    assert_eq!(told(&mut w, Some(&good)), []);
    assert_eq!(told(&mut w, None), [EventKind::Pinned { dependency: A, build: None }]);
}

#[test]
fn a_failed_fresh_build_moves_no_link() {
    let mut w = World::built(&[(P, &[A, B])]);
    let before = w.projects[&P].current.clone();
    w.start(A);
    let id = w.open(P)[0];
    w.end(A, Phase::Failed);
    assert_eq!(w.outcome(id), Some(ProjectOutcome::Failed));
    assert_eq!(w.projects[&P].current, before);
    assert_eq!(w.records[&id].slots[&A].revision, Some(sample::revision("r3")), "what failed is on record");
}

#[test]
fn relink_makes_seals_and_makes_current_in_the_same_commit() {
    let mut w = World::built(&[(P, &[A, B])]);
    let newer = w.start(A);
    w.end(A, Phase::Succeeded);
    let old = w.builds[&build_id(1)].clone();
    let (_, change) = w.change(P, |v, _| v.set_pin(A, Some(&old)));
    let current = change.project.current.unwrap();
    assert_eq!(current.builds, BTreeMap::from([(A, build_id(1)), (B, build_id(2))]));
    let made = &change.project_builds[..];
    assert_eq!(made.len(), 1);
    assert_eq!((made[0].id, &made[0].slots[&A].kind), (current.id, &pinned(build_id(1))));
    assert_eq!(made[0].slots[&B].kind, carried(build_id(2)));
    let kinds: Vec<_> = change.events.into_iter().map(|e| e.kind).collect();
    assert_eq!(
        kinds,
        [
            EventKind::Pinned { dependency: A, build: Some(build_id(1)) },
            EventKind::ProjectBuildRequested { project_build: current.id },
            EventKind::Sealed {
                project_build: current.id,
                outcome: ProjectOutcome::Succeeded,
                current: true
            },
        ]
    );
    assert!(!change.stopped_standing.contains(&newer), "it is the linked build still");
}

#[test]
fn relink_does_nothing_where_it_must_not() {
    let mut empty = World::of(&[(P, &[])]);
    let (_, change) = empty.change(P, |_, _| ());
    assert_eq!((change.project_builds.len(), change.events.len()), (0, 0), "no dependencies");

    let mut partly = World::of(&[(P, &[A, B])]);
    partly.start(A);
    partly.end(A, Phase::Succeeded);
    assert_eq!(partly.projects[&P].current, None, "one dependency has neither link nor pin");

    let mut whole = World::built(&[(P, &[A, B])]);
    let (_, change) = whole.change(P, |_, _| ());
    assert_eq!(change.project_builds.len(), 0, "current is exactly the links");

    let before = whole.projects[&P].current.clone();
    whole.whole(P, 1, &[A, B], &[]);
    whole.start(A);
    whole.end(A, Phase::Succeeded);
    assert_eq!(whole.projects[&P].current, before, "an open project build waits with a link fresh");
}

#[test]
fn relink_does_not_wait_for_an_open_project_build_whose_fresh_build_is_no_link() {
    let mut w = World::built(&[(P, &[A, B])]);
    let newer = w.start(B);
    w.end(B, Phase::Succeeded);
    w.start(A);
    w.pin(P, B, Some(build_id(2))).unwrap();
    assert_eq!(w.current(P), BTreeMap::from([(A, build_id(1)), (B, build_id(2))]));
    w.pin(P, B, None).unwrap();
    assert_eq!(w.current(P)[&B], newer);
}

#[test]
fn latest_is_the_seal_sequence_not_the_order_of_request() {
    let mut w = World::built(&[(P, &[A, B])]);
    let first = w.whole(P, 1, &[A], &[]);
    w.start(B);
    let second = w.open(P)[1];
    w.end(B, Phase::Succeeded);
    w.drop_request(A, receipt(A, 1), "withdrawn");
    let sequence = |id| w.records[&id].seal.as_ref().unwrap().sequence;
    assert!(sequence(first) > sequence(second));
    assert_eq!(w.latest(P).id, first);
}

#[test]
fn one_build_may_serve_several_projects() {
    let mut w = World::built(&[(P, &[A, B]), (Q, &[A])]);
    let new = w.start(A);
    w.end(A, Phase::Succeeded);
    assert_eq!((w.current(P)[&A], w.current(Q)[&A]), (new, new));
}

#[test]
fn a_dependency_that_leaves_stays_in_old_records() {
    let mut w = World::built(&[(P, &[A, B])]);
    let old = w.projects[&P].current.as_ref().unwrap().id;
    assert!(w.leave(P, B) && !w.leave(P, B));
    assert_eq!(*w.slot(old, B), fresh(build_id(2)));
    assert_eq!(w.current(P), BTreeMap::from([(A, build_id(1))]));
}

#[test]
fn builds_that_stand_nowhere_in_the_project_any_more_are_named() {
    let mut w = World::built(&[(P, &[A, B])]);
    let new = w.start(A);
    let change = w.end(A, Phase::Succeeded).remove(&P).unwrap();
    assert_eq!(change.stopped_standing, BTreeSet::from([build_id(1)]));
    let old = w.builds[&build_id(1)].clone();
    let (_, change) = w.change(P, |v, _| v.set_pin(A, Some(&old)));
    assert_eq!(change.began_standing, BTreeSet::from([old.id]));
    assert_eq!(change.stopped_standing, BTreeSet::new(), "the new one is linked still");
    let failed = w.start(B);
    let change = w.end(B, Phase::Failed).remove(&P).unwrap();
    assert_eq!(change.stopped_standing, BTreeSet::from([failed]));
    let (_, change) = w.change(P, |v, _| v.remove_member(A));
    assert_eq!(change.stopped_standing, BTreeSet::from([build_id(1), new]));
    assert!(!change.refers_to(A) && change.refers_to(B));
}

#[test]
fn a_build_in_a_current_that_cannot_be_relinked_still_stands() {
    let mut w = World::built(&[(P, &[A])]);
    w.join(P, B);
    w.start(A);
    let change = w.end(A, Phase::Succeeded).remove(&P).unwrap();
    assert_eq!(change.stopped_standing, BTreeSet::new(), "current holds it until B has been built");
}

#[test]
fn names_count_per_project_and_utc_day() {
    let mut w = World::built(&[(P, &[A]), (Q, &[A])]);
    assert_eq!(w.latest(P).name, "20240517.1");
    assert_eq!(w.latest(Q).name, "20240517.1");
    w.start(A);
    assert_eq!(w.records[&w.open(P)[0]].name, "20240517.2");
    w.end(A, Phase::Succeeded);
    w.now = sample::at(86_400);
    w.start(A);
    assert_eq!(w.records[&w.open(P)[0]].name, "20240518.1");
}

#[test]
fn a_clock_that_is_set_back_repeats_no_name() {
    let mut w = World::built(&[(P, &[A])]);
    w.now = sample::at(-86_400);
    w.start(A);
    assert_eq!(w.records[&w.open(P)[0]].name, "20240517.2");
}

#[test]
fn a_deleted_project_gets_no_new_project_builds_and_its_open_ones_are_sealed() {
    let mut w = World::built(&[(P, &[A, B])]);
    w.start(A);
    let id = w.open(P)[0];
    w.projects.get_mut(&P).unwrap().deleted_at = Some(w.now);
    w.end(A, Phase::Succeeded);
    assert_eq!(w.outcome(id), Some(ProjectOutcome::Succeeded));
    let made = w.records.len();
    w.start(A);
    assert_eq!(w.records.len(), made);
    assert_eq!(w.pin(P, A, None).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_view_refuses_to_work_with_half_of_the_facts() {
    let w = World::built(&[(P, &[A])]);
    let project: Project = w.projects[&P].clone();
    let e = ProjectView::new(project.clone(), [], BTreeMap::new(), w.now).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt);
    let mut open = project;
    open.open.push(sample::project_build(99));
    let facts = w.builds.iter().map(|(id, b)| (*id, BuildFacts::of(b))).collect();
    assert_eq!(ProjectView::new(open, [], facts, w.now).unwrap_err().kind(), ErrorKind::Internal);
}

#[test]
fn only_a_receipt_that_ended_without_a_build_has_a_note() {
    let build = build_id(1);
    for open in [
        ReceiptState::AwaitsLook,
        ReceiptState::Waiting { behind: None },
        ReceiptState::Started { build },
        ReceiptState::Joined { build },
    ] {
        assert_eq!(end_note(&open), None);
    }
    let reason = EndReason::Withdrawn { by: "Ann".parse().unwrap() };
    assert_eq!(end_note(&ReceiptState::Ended { reason }).as_deref(), Some("withdrawn"));
    assert!(end_note(&ReceiptState::LostTo { build: None }).is_some());
    assert!(end_note(&ReceiptState::Reused { build }).is_some());
}
