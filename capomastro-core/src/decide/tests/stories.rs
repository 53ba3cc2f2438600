//! The shortest stories in which an earlier form of the rules lost a change, built twice, or waited for ever.
//!
//! Told elsewhere, where their parts live:
//! - `link`: member leaves an open whole build, its last slot ends otherwise; first day of a two-dependency project; whole
//!   build half failed; overlapping whole and single builds; pin, join, leave during a build.
//! - `scheduler`: driver 1 suspended before its send, driver 2 takes over; cancel that loses to success (its rule is in
//!   `track`); old driver's late reference is kept until judged.

use super::world::{World, secs, seen};
use crate::model::{
    EndReason, First, OnHeld, Parameters, Phase, Policy, Quiet, ReceiptState, Relation, RetryPolicy,
    RetryReason, Settled, Veto,
};

fn queue() -> Policy {
    Policy::default().with_on_held(OnHeld::Queue { max: 5 })
}

fn no_rewinds() -> Veto {
    Veto { rewound: true, ..Veto::default() }
}

fn retrying() -> Policy {
    Policy::default().with_retry(RetryPolicy { max: 2, ..RetryPolicy::default() })
}

#[test]
fn a_building_b_seen_back_to_a_then_a_ends() {
    for policy in [OnHeld::DiscardSilently, OnHeld::DiscardLoudly, OnHeld::Coalesce] {
        let mut world = World::on_held(policy);
        world.look("A");
        world.look("B");
        world.look("A");
        world.end_good();
        world.look("A");
        assert_eq!(
            (world.started(), world.linked()),
            (vec!["A"], Some("A")),
            "A is not built twice: {policy:?}"
        );
    }
}

#[test]
fn a_queue_builds_what_was_seen_between_and_comes_back() {
    let mut world = World::with(queue());
    world.look("A");
    world.look("B");
    world.look("A");
    world.end_good();
    world.end_good();
    world.end_good();
    assert_eq!((world.started(), world.linked()), (vec!["A", "B", "A"], Some("A")));
}

#[test]
fn pending_request_pause_release_then_resume() {
    let mut world = World::with(queue());
    world.look("A");
    world.look("B");
    let manual = world.manual_pinned("C");
    world.pause();
    world.end_good();
    assert_eq!(world.building(), None, "nothing starts");
    world.look("B");
    world.advance(7_200);
    assert_eq!((world.building(), world.waiting()), (None, vec!["B".to_owned(), "!C".to_owned()]));
    world.resume();
    assert_eq!((world.building(), world.waiting()), (Some("B"), vec!["!C".to_owned()]), "it starts");
    world.end_good();
    assert_eq!(world.building(), Some("C"), "in order");
    assert_eq!(world.receipt(manual), &ReceiptState::Started { build: world.last().id });
}

#[test]
fn a_vetoed_rewind_that_is_looked_at_twice_stays_vetoed() {
    let mut world = World::at_a(Policy::default().with_veto(no_rewinds()));
    world.look_with_relation("0", Relation::Rewound);
    world.advance(300);
    world.look_with_relation("0", Relation::Rewound);
    assert_eq!((world.decisions(), world.loud()), (vec!["Vetoed"], 0));
    world.same_as_seen();
    world.resume();
    assert_eq!(
        (world.decisions(), world.started()),
        (vec!["Vetoed"], vec!["A"]),
        "304-like, and at a release"
    );
}

#[test]
fn pause_look_resume_under_baseline_is_still_first() {
    let mut world = World::with(Policy::default().with_first(First::Baseline));
    world.pause();
    world.look("A");
    assert_eq!((world.recorded(), world.accounted()), (Some("Paused"), None));
    world.resume();
    assert_eq!((world.recorded(), world.builds.len()), (Some("Baselined"), 0));
    assert_eq!(world.state.accounted.as_ref().unwrap().by, Settled::Baseline);
}

#[test]
fn edit_during_a_build_with_the_same_token() {
    for policy in [OnHeld::DiscardSilently, OnHeld::Coalesce, OnHeld::Queue { max: 1 }] {
        let mut world = World::on_held(policy);
        world.look("A");
        world.edit_source();
        world.look("A");
        assert_ne!(world.recorded(), Some("AlreadyBuilding"));
        world.end_good();
        assert_eq!(world.linked(), Some("A"), "what was under way is linked all the same");
        world.look("A");
        assert_eq!(world.started(), ["A", "A"], "the new source is built: {policy:?}");
        assert_eq!((world.builds[0].epoch, world.last().epoch), (1, 2));
    }
}

#[test]
fn reuse_known_while_b_builds_and_the_source_is_back_at_a() {
    for policy in [OnHeld::Coalesce, OnHeld::Queue { max: 3 }] {
        let mut world = World::at_a(Policy::default().with_on_held(policy).with_reuse_known(true));
        let a = world.last().id;
        world.look("B");
        world.look("A");
        world.end_good();
        assert_eq!(world.linked(), Some("A"), "{policy:?}");
        assert_eq!((world.state.linked.as_ref().unwrap().build, world.started()), (a, vec!["A", "B"]));
    }
}

#[test]
fn a_failed_with_retry_owed_b_seen_while_quiet_back_to_a() {
    let quiet = Quiet { period: secs(600), at_most: secs(3_600) };
    let mut world = World::with(retrying().with_quiet(Some(quiet)));
    world.look("A");
    world.end(Phase::Lost);
    world.look("B");
    assert_eq!(world.recorded(), Some("Quiet"));
    world.look("A");
    assert!(world.state.retry.is_some(), "the retry lives");
    world.advance(60);
    assert_eq!((world.started(), world.last().attempt), (vec!["A", "A"], 1));
}

#[test]
fn a_failed_with_retry_in_back_off_b_seen() {
    let mut world = World::with(retrying());
    world.look("A");
    world.end(Phase::Lost);
    world.look("B");
    assert_eq!((world.building(), &world.state.retry), (Some("B"), &None), "B starts at once");
    world.end_good();
    world.advance(7_200);
    assert_eq!(world.started(), ["A", "B"]);
}

#[test]
fn head_of_the_queue_reverted() {
    let mut world = World::with(queue());
    world.look("A");
    world.manual();
    let push = world.push();
    world.look("B");
    let pinned = world.manual_pinned("C");
    assert_eq!(world.waiting(), ["!", "B", "!C"]);
    world.end_good();
    assert_eq!((world.building(), world.accounted()), (Some("B"), Some("B")), "whatever is there: B");
    world.end_good();
    assert_eq!(world.decisions(), ["Unchanged", "Build"], "in the same evaluation");
    assert_eq!((world.building(), world.reason(push)), (Some("C"), Some(&EndReason::Reverted)));
    assert_eq!(world.receipt(pinned), &ReceiptState::Started { build: world.last().id });
}

#[test]
fn cancel_asked_then_the_same_revision_triggered() {
    for pinned in [true, false] {
        let mut world = World::new();
        world.look("A");
        world.cancel();
        if pinned {
            world.manual_pinned("A");
        } else {
            world.manual();
            world.look("A");
        }
        assert_eq!(world.waiting().len(), 1, "it does not join");
        world.end(Phase::Cancelled);
        assert_eq!(world.started(), ["A", "A"], "a new build follows");
    }
}

#[test]
fn gone_from_the_source_while_a_builds() {
    for policy in [OnHeld::Coalesce, OnHeld::Queue { max: 2 }] {
        let mut world = World::on_held(policy);
        world.look("A");
        world.look("B");
        world.not_found();
        world.not_found();
        world.end_good();
        assert_eq!((world.started(), world.waiting().len()), (vec!["A"], 0), "the debt B does not start");
        assert!(world.state.in_debt(), "and stays visible");
    }
}

#[test]
fn persons_old_pin_waits_and_the_source_has_not_moved() {
    for policy in [OnHeld::Coalesce, OnHeld::Queue { max: 1 }, OnHeld::DiscardLoudly, OnHeld::DiscardSilently]
    {
        let mut world = World::on_held(policy);
        world.look("B");
        world.pin("A", Parameters::new(), Some(OnHeld::Coalesce));
        world.look("B");
        assert_eq!((world.decisions(), world.loud()), (vec!["Unchanged"], 0), "no discard");
        assert_eq!(world.waiting(), ["!A"], "no second request");
    }
}

#[test]
fn unpinned_request_waits_source_deleted_build_ends() {
    let mut world = World::new();
    world.look("A");
    let unpinned = world.manual();
    world.look("B");
    let pinned = world.manual_pinned("C");
    assert_eq!(world.waiting(), ["!", "!C"]);
    world.not_found();
    world.end_good();
    assert_eq!(world.building(), Some("C"), "what waits behind it starts");
    assert_eq!(world.receipt(pinned), &ReceiptState::Started { build: world.last().id });
    assert_eq!((world.receipt(unpinned), world.look_in()), (&ReceiptState::AwaitsLook, Some(0)));
    world.not_found();
    assert_eq!(world.reason(unpinned), Some(&EndReason::SourceMissing));
}

#[test]
fn queue_unpinned_manual_waits_on_b_back_to_a() {
    for manual_first in [true, false] {
        let mut world = World::with(queue());
        world.look("A");
        if manual_first {
            world.manual();
            world.look("B");
            assert_eq!(world.waiting(), ["!", "B"]);
        } else {
            world.look("B");
            world.manual();
            world.look("B");
            assert_eq!(world.waiting(), ["B", "!"]);
        }
        world.look("A");
        while world.building().is_some() {
            world.end_good();
        }
        assert_eq!((world.linked(), world.state.in_debt()), (Some("A"), false), "A is linked at the end");
        assert!(world.started().contains(&"B"));
    }
}

#[test]
fn retry_of_b_owed_a_person_pins_a_and_a_is_good() {
    let mut world = World::at_a(retrying());
    world.look("B");
    world.end(Phase::Lost);
    world.manual_pinned("A");
    assert!(world.state.retry.is_some());
    world.end_good();
    assert_eq!(world.state.retry, None, "B does not undo it");
    world.advance(7_200);
    world.look("B");
    assert_eq!((world.started(), world.linked()), (vec!["A", "B", "A"], Some("A")));
}

#[test]
fn retry_of_b_owed_a_person_pins_a_and_a_fails() {
    let mut world = World::at_a(retrying());
    world.look("B");
    world.end(Phase::Lost);
    world.manual_pinned("A");
    world.end_failed();
    world.advance(7_200);
    assert_eq!(world.building(), Some("B"), "nothing stands in its way");
}

#[test]
fn queue_with_a_veto_policy_and_a_stale_relation() {
    let mut world = World::with(queue().with_veto(no_rewinds()));
    let forward = Relation::Forward { by: Some(1) };
    world.look("A");
    world.look_with_relation("B", forward);
    let push = world.push();
    world.look_with_relation("C", forward);
    world.manual_pinned("D");
    world.end_good();
    assert_eq!(world.building(), Some("B"));
    world.end_good();
    assert_eq!((world.building(), world.waiting().len()), (Some("D"), 0), "the queue flows");
    assert_eq!((world.reason(push), world.look_in()), (Some(&EndReason::RelationStale), Some(0)));
    world.look_with_relation("C", forward);
    world.end_good();
    assert_eq!(world.building(), Some("C"), "the look that is due finds the debt");
}

#[test]
fn retry_refused() {
    let mut world = World::with(retrying());
    world.look("A");
    world.end(Phase::Lost);
    world.advance(60);
    assert_eq!(world.last().attempt, 1);
    world.refused(false);
    let retry = world.state.retry.clone().expect("A is still owed");
    assert_eq!((retry.reason, retry.attempt, retry.refusals), (RetryReason::LaunchRefused, 1, 1));
    world.advance(60);
    world.end_good();
    assert_eq!((world.started(), world.linked()), (vec!["A", "A", "A"], Some("A")));
}

#[test]
fn permanent_refusal() {
    let mut world = World::new();
    world.look("A");
    world.refused(true);
    for _ in 0..20 {
        world.advance(3_600);
        world.look("A");
    }
    assert_eq!(world.started(), ["A"], "no hot loop");
    assert!(world.state.retry.as_ref().is_some_and(|r| r.not_before.is_none()), "a person can see why");
    world.change_job();
    assert_eq!(world.started(), ["A", "A"]);
}

#[test]
fn manual_pin_of_a_while_b_is_accounted() {
    for policy in [OnHeld::Coalesce, OnHeld::Queue { max: 2 }, OnHeld::DiscardLoudly] {
        let mut world = World::at_a(Policy::default().with_on_held(policy));
        world.look("B");
        world.end_good();
        world.manual_pinned("A");
        world.look("B");
        world.end_good();
        let held_at = world.state.held_at.clone().expect("a person's word stands");
        assert_eq!((held_at.revision.as_str(), held_at.by), ("A", world.last().id));
        world.look("B");
        assert_eq!((world.started(), world.linked()), (vec!["A", "B", "A"], Some("A")), "no rebuild of B");
        world.look("C");
        world.end_good();
        assert_eq!((world.linked(), &world.state.held_at), (Some("C"), &None), "until the source moves");
    }
}

#[test]
fn manual_rebuild_waiting_automatic_change_arrives_source_returns() {
    for policy in [OnHeld::Coalesce, OnHeld::Queue { max: 5 }] {
        let mut world = World::on_held(policy);
        world.look("A");
        let manual = world.manual();
        world.look("A");
        world.cancel();
        let after = world.manual_pinned("A");
        world.look("B");
        world.look("A");
        world.end(Phase::Cancelled);
        assert_eq!(world.receipt(manual), &ReceiptState::Joined { build: world.builds[0].id });
        assert_eq!(world.receipt(after), &ReceiptState::Started { build: world.builds[1].id }, "{policy:?}");
    }
    let mut world = World::new();
    world.look("A");
    world.with_params("debug");
    world.look("A");
    world.look("B");
    world.look("A");
    world.end_good();
    assert_eq!(world.started(), ["A", "A"], "the manual one still runs");
    assert!(!world.last().parameters.is_empty());
}

#[test]
fn answers_like_304_with_a_debt() {
    let mut world = World::on_held(OnHeld::DiscardSilently);
    world.look("A");
    world.look("B");
    world.end_good();
    assert_eq!(world.building(), None);
    world.same_as_seen();
    assert_eq!(world.building(), Some("B"), "the debt is paid");
}

#[test]
fn answers_like_304_with_a_debt_and_a_policy_that_needs_a_relation() {
    let mut world = World::with(Policy::default().with_veto(no_rewinds()));
    world.look("A");
    world.look_with_relation("B", Relation::Forward { by: None });
    let late = world.begin_look();
    world.end_good();
    assert_eq!(world.building(), Some("B"));
    world.answer(&late, &seen("C", Some(Relation::Forward { by: None })));
    world.end_good();
    assert_eq!((world.decisions(), world.look_in()), (vec!["RelationStale"], Some(0)));
    world.same_as_seen();
    assert_eq!(world.building(), Some("C"), "the relation is unknown, which is allowed");
}
