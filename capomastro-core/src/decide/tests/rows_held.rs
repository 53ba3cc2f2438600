//! The decision table, rows 8 to 12: what becomes of a change that may be built.

use super::world::{World, own, rev, secs};
use crate::{
    decide::Decision,
    model::{EndReason, Held, OnHeld, Parameters, Policy, Quiet, ReceiptState},
    time::later,
};

fn quietly() -> Policy {
    Policy::default().with_quiet(Some(Quiet { period: secs(60), at_most: secs(300) }))
}

// --- row 8 -----------------------------------------------------------------------------------------------------------

#[test]
fn row_8_waits_until_the_source_was_still_and_looks_then() {
    let mut world = World::at_a(quietly());
    world.look("B");
    let until = later(world.now, secs(60));
    assert_eq!(world.decided[0].decision, Decision::Quiet { until });
    assert_eq!(world.look_in(), Some(60));
    world.advance(59);
    world.look("B");
    assert_eq!((world.decisions(), world.look_in()), (vec!["Quiet"], Some(1)));
    world.advance(1);
    world.look("B");
    assert_eq!(world.building(), Some("B"));
}

#[test]
fn row_8_begins_again_when_the_source_moves_but_not_beyond_the_maximum() {
    let mut world = World::at_a(quietly());
    for (round, revision) in ["B", "C", "D", "E", "F", "G"].iter().enumerate() {
        world.look(revision);
        let left = 300 - 50 * round as u64;
        assert_eq!(world.look_in(), Some(left.min(60)), "{revision}");
        world.advance(50);
    }
    world.look("H");
    assert_eq!(world.started(), ["A", "H"], "300 s after the debt began");
}

#[test]
fn row_8_a_debt_that_ended_begins_anew() {
    let mut world = World::at_a(quietly());
    world.look("B");
    world.advance(50);
    world.look("A");
    world.advance(280);
    world.look("B");
    assert_eq!(world.look_in(), Some(60));
}

#[test]
fn row_8_a_first_observation_has_no_quiet_period() {
    let mut world = World::with(quietly());
    world.look("A");
    assert_eq!(world.building(), Some("A"));
}

#[test]
fn row_8_a_clock_that_is_set_back_does_not_stretch_it() {
    let mut world = World::at_a(quietly());
    world.look("B");
    world.set_back(86_400);
    world.look("B");
    assert_eq!(world.look_in(), Some(60));
    world.advance(60);
    world.look("B");
    assert_eq!(world.building(), Some("B"));
}

// --- row 9 -----------------------------------------------------------------------------------------------------------

#[test]
fn row_9_what_is_being_built_already() {
    let joined = |f: &dyn Fn(&mut World), own_parameters: &Parameters| {
        let mut world = World::new();
        world.pin("A", own_parameters.clone(), None);
        f(&mut world);
        world.look("A");
        world.decisions() == ["AlreadyBuilding"]
    };
    let (none, some) = (Parameters::new(), own("x"));
    assert!(joined(&|_| {}, &none));
    assert!(!joined(&|_| {}, &some), "own parameters");
    assert!(!joined(&World::edit_source, &none), "another epoch");
    assert!(!joined(&World::cancel, &none), "a cancel was asked for");
    assert!(!joined(&World::time_out, &none), "a time-out");
    assert!(
        !joined(
            &|w| {
                w.manual_pinned("C");
            },
            &none
        ),
        "a request waits"
    );
    assert!(!joined(&|w| w.state.held.as_mut().unwrap().revision = rev("B"), &none), "another revision");
}

#[test]
fn row_9_joins_a_forced_trigger_only_with_the_same_parameters() {
    for (building, asked, joins) in [
        (None, None, true),
        (Some("x"), Some("x"), true),
        (Some("x"), Some("y"), false),
        (Some("x"), None, false),
        (None, Some("x"), false),
    ] {
        let parameters = |p: Option<&str>| p.map_or_else(Parameters::new, own);
        let mut world = World::new();
        world.pin("A", parameters(building), None);
        let receipt = world.pin("A", parameters(asked), None);
        let is_joined = matches!(world.receipt(receipt), ReceiptState::Joined { .. });
        assert_eq!(is_joined, joins, "{asked:?} while {building:?} builds");
    }
}

// --- row 10 ----------------------------------------------------------------------------------------------------------

#[test]
fn row_10_what_each_lock_policy_does_with_a_change() {
    for (policy, decision, loud, waiting) in [
        (OnHeld::DiscardSilently, "DiscardedSilently", 0, 0),
        (OnHeld::DiscardLoudly, "DiscardedLoudly", 1, 0),
        (OnHeld::Coalesce, "Coalesced", 0, 0),
        (OnHeld::Queue { max: 1 }, "Queued", 0, 1),
    ] {
        let mut world = World::on_held(policy);
        world.look("A");
        let push = world.push();
        world.look("B");
        assert_eq!((world.recorded(), world.loud(), world.waiting().len()), (Some(decision), loud, waiting));
        assert_eq!(world.accounted(), Some("A"), "accounted is left alone");
        let owner = world.state.held.as_ref().map(|h| h.owner);
        let state = match policy {
            OnHeld::Coalesce => ReceiptState::Ended { reason: EndReason::Coalesced },
            OnHeld::Queue { .. } => ReceiptState::Waiting { behind: owner },
            _ => ReceiptState::LostTo { build: owner },
        };
        assert_eq!(world.receipt(push), &state);
    }
}

#[test]
fn row_10_what_each_lock_policy_does_with_a_forced_trigger() {
    for (policy, decision, loud, waits) in [
        (OnHeld::DiscardSilently, "DiscardedSilently", 0, false),
        (OnHeld::DiscardLoudly, "DiscardedLoudly", 1, false),
        (OnHeld::Coalesce, "Coalesced", 0, true),
        (OnHeld::Queue { max: 1 }, "Queued", 0, true),
    ] {
        let mut world = World::on_held(policy);
        world.look("A");
        let receipt = world.manual_pinned("B");
        assert_eq!((world.recorded(), world.loud()), (Some(decision), loud));
        let owner = world.state.held.as_ref().map(|h| h.owner);
        let lost = ReceiptState::LostTo { build: owner };
        let waiting = ReceiptState::Waiting { behind: owner };
        assert_eq!(world.receipt(receipt), if waits { &waiting } else { &lost });
    }
}

#[test]
fn row_10_a_loud_discard_is_raised_once_per_holder_and_revision() {
    let mut world = World::on_held(OnHeld::DiscardLoudly);
    world.look("A");
    let mut loud = |revision: &str| {
        world.look(revision);
        world.loud()
    };
    assert_eq!((loud("B"), loud("B"), loud("C"), loud("C")), (1, 0, 1, 0));
    world.end_good();
    world.manual_pinned("A");
    world.look("C");
    assert_eq!(world.loud(), 1, "another holder");
}

#[test]
fn row_10_a_full_queue_discards_loudly() {
    let mut world = World::on_held(OnHeld::Queue { max: 2 });
    world.look("A");
    world.look("B");
    world.look("C");
    world.look("D");
    assert_eq!((world.recorded(), world.loud()), (Some("DiscardedLoudly"), 1));
    let pinned = world.manual_pinned("E");
    assert!(matches!(world.receipt(pinned), ReceiptState::LostTo { .. }));
    assert_eq!(world.waiting(), ["B", "C"]);
}

#[test]
fn row_10_a_lock_that_is_kept_elsewhere_holds_too() {
    for (policy, decision) in [
        (OnHeld::Coalesce, "Coalesced"),
        (OnHeld::Queue { max: 2 }, "Queued"),
        (OnHeld::DiscardSilently, "DiscardedSilently"),
        (OnHeld::DiscardLoudly, "DiscardedLoudly"),
    ] {
        let mut world = World::on_held(policy);
        world.elsewhere = true;
        world.look("A");
        assert_eq!((world.recorded(), world.builds.len()), (Some(decision), 0));
        world.advance(5);
        world.look("A");
        assert_eq!((world.loud(), world.waiting().len()), (0, usize::from(decision == "Queued")));
        world.elsewhere = false;
        world.advance(5);
        world.look("A");
        assert_eq!(world.started(), ["A"], "{policy:?}");
    }
}

#[test]
fn row_10_a_lock_that_is_kept_elsewhere_is_asked_again_without_a_look() {
    let mut world = World::new();
    world.elsewhere = true;
    world.look("A");
    world.advance(5);
    assert_eq!(world.decisions(), ["Coalesced"]);
    assert!(world.decided[0].counted, "a repetition counts");
    world.elsewhere = false;
    world.advance(5);
    assert_eq!(world.building(), Some("A"));
}

// --- row 11 ----------------------------------------------------------------------------------------------------------

#[test]
fn row_11_links_a_good_build_that_is_known_again() {
    let mut world = World::at_a(Policy::default().with_reuse_known(true));
    let a = world.last().id;
    world.look("B");
    world.end_good();
    let push = world.push();
    world.look("A");
    assert_eq!((world.recorded(), world.linked(), world.accounted()), (Some("Reused"), Some("A"), Some("A")));
    assert_eq!(world.state.linked.as_ref().unwrap().build, a);
    assert_eq!(world.receipt(push), &ReceiptState::Reused { build: a });
    assert_eq!(world.builds.len(), 2);
}

#[test]
fn row_11_is_off_by_default_and_not_for_forced_or_failed_or_edited_or_own() {
    let again = |policy: Policy, f: &dyn Fn(&mut World)| {
        let mut world = World::with(policy);
        f(&mut world);
        let builds = world.builds.len();
        world.look("A");
        world.builds.len() > builds
    };
    let reuse = || Policy::default().with_reuse_known(true);
    let a_then_b = |w: &mut World| {
        w.look("A");
        w.end_good();
        w.look("B");
        w.end_good();
    };
    assert!(again(Policy::default(), &a_then_b), "off by default");
    assert!(!again(reuse(), &a_then_b));
    assert!(
        again(reuse(), &|w| {
            a_then_b(w);
            w.manual();
        }),
        "forced"
    );
    assert!(
        again(reuse(), &|w| {
            w.look("A");
            w.end_failed();
            w.look("B");
            w.end_good();
        }),
        "not good"
    );
    assert!(
        again(reuse(), &|w| {
            a_then_b(w);
            w.edit_source();
        }),
        "another epoch"
    );
    assert!(
        again(reuse(), &|w| {
            w.pin("A", own("x"), None);
            w.end_good();
            w.look("B");
            w.end_good();
        }),
        "own parameters"
    );
}

#[test]
fn row_11_needs_the_lock_free() {
    let mut world = World::at_a(Policy::default().with_reuse_known(true));
    world.look("B");
    world.look("A");
    assert_eq!((world.recorded(), world.linked()), (Some("Coalesced"), Some("A")));
    assert_eq!(world.accounted(), Some("B"));
}

// --- row 12 ----------------------------------------------------------------------------------------------------------

#[test]
fn row_12_builds_under_a_new_fence_and_accounts_for_it() {
    let mut world = World::new();
    world.look("A");
    assert_eq!((world.recorded(), world.accounted()), (Some("Build"), Some("A")));
    assert_eq!((world.last().fence, world.last().number), (1, 1));
    let Held { owner, fence, .. } = world.state.held.clone().unwrap();
    assert_eq!((owner, fence), (world.last().id, 1));
    world.end_good();
    world.look("B");
    assert_eq!((world.last().fence, world.last().number), (2, 2));
}
