//! The sentences about revisions and decisions that are neither a row nor a story.

use super::world::{World, secs, seen};
use crate::{
    decide::MAX_WAITING,
    detect::{Answer, Detection},
    model::{
        Cause, EndReason, First, OnHeld, Parameters, Policy, Quiet, ReceiptState, Relation, Settled, Veto,
    },
    probe::Probed,
    time::later,
};

fn queue(max: u32) -> World {
    World::on_held(OnHeld::Queue { max })
}

fn quietly() -> Policy {
    Policy::default().with_quiet(Some(Quiet { period: secs(60), at_most: secs(300) }))
}

// --- revisions -------------------------------------------------------------------------------------------------------

#[test]
fn revisions_are_compared_byte_for_byte_and_never_ordered() {
    let mut world = World::new();
    for revision in ["10", "9", "09", "a", "A", "A ", "ä", "a\u{308}"] {
        world.look(revision);
        assert_eq!(world.building(), Some(revision));
        world.end_good();
    }
}

#[test]
fn a_relation_is_never_for_detection() {
    let mut world = World::at_a(Policy::default().with_veto(Veto { rewound: true, ..Veto::default() }));
    world.look_with_relation("A", Relation::Rewound);
    assert_eq!(world.decisions(), ["Unchanged"]);
    world.look_with_relation("B", Relation::Forward { by: Some(0) });
    assert_eq!(world.building(), Some("B"));
}

#[test]
fn only_the_newest_of_several_revisions_between_two_looks_exists() {
    let mut world = World::new();
    world.look("A");
    world.look("B");
    world.look("C");
    world.end_good();
    world.end_good();
    assert_eq!(world.started(), ["A", "C"]);
}

// --- observed and accounted ------------------------------------------------------------------------------------------

#[test]
fn every_applied_good_look_stores_what_was_observed() {
    let mut world = World::with(quietly());
    world.look("A");
    world.look("B");
    assert_eq!(world.observed(), Some("B"), "while held");
    world.end_good();
    world.look("C");
    assert_eq!((world.decisions(), world.observed()), (vec!["Quiet"], Some("C")));
    world.pause();
    world.look("D");
    assert_eq!(world.observed(), Some("D"), "while paused");
}

#[test]
fn a_forced_build_of_another_revision_than_the_observed_one_leaves_accounted() {
    let mut world = World::at_a(Policy::default());
    world.manual_pinned("0");
    assert_eq!((world.building(), world.accounted()), (Some("0"), Some("A")));
    world.manual_pinned("0");
    assert_eq!(world.accounted(), Some("A"), "joined, and still not what a look saw");
}

#[test]
fn a_forced_build_of_the_observed_revision_settles_the_debt() {
    let mut world = World::at_a(quietly());
    world.look("B");
    world.manual_pinned("B");
    assert_eq!((world.accounted(), world.state.in_debt()), (Some("B"), false));
    world.end_good();
    assert_eq!(world.started(), ["A", "B"]);
}

#[test]
fn a_forced_trigger_that_joins_the_observed_revision_settles_the_debt() {
    let mut world = World::at_a(quietly());
    world.manual_pinned("B");
    world.look("B");
    assert_eq!(world.recorded(), Some("Quiet"));
    world.manual_pinned("B");
    assert_eq!(world.state.accounted.as_ref().unwrap().by, Settled::Joined(world.last().id));
}

#[test]
fn a_build_with_own_parameters_settles_the_debt_too() {
    let mut world = World::at_a(Policy::default());
    world.with_params("debug");
    world.look("B");
    assert_eq!((world.accounted(), world.started()), (Some("B"), vec!["A", "B"]));
    world.end_good();
    world.look("B");
    assert_eq!((world.linked(), world.builds.len()), (Some("B"), 2));
}

#[test]
fn build_keys_and_requesters_are_no_own_parameters() {
    let mut world = World::new();
    world.look("A");
    let joined = world.pin_with_key("A", Parameters::new(), None, Some("whole"));
    assert_eq!(world.receipt(joined), &ReceiptState::Joined { build: world.last().id });
    assert_eq!(world.last().build_key, None, "a joined build keeps its first key");
}

// --- lock policies ---------------------------------------------------------------------------------------------------

#[test]
fn a_discard_drops_the_request_and_not_the_change() {
    for policy in [OnHeld::DiscardSilently, OnHeld::DiscardLoudly] {
        let mut world = World::on_held(policy);
        world.look("A");
        world.look("B");
        world.end_good();
        assert_eq!((world.building(), world.state.in_debt()), (None, true), "not at the release");
        world.look("B");
        assert_eq!(world.building(), Some("B"), "the next look finds the debt");
    }
}

#[test]
fn coalesce_stores_nothing_and_the_release_evaluates_the_debt() {
    let mut world = World::new();
    world.look("A");
    world.look("B");
    assert!(world.state.waiting.is_empty());
    world.end_good();
    assert_eq!(world.building(), Some("B"));
}

#[test]
fn coalesce_is_the_default() {
    assert_eq!(Policy::default().on_held, OnHeld::Coalesce);
}

#[test]
fn a_queue_pins_what_was_seen_and_builds_all_of_it() {
    let mut world = queue(5);
    for revision in ["A", "B", "C", "D"] {
        world.look(revision);
    }
    assert_eq!(world.waiting(), ["B", "C", "D"]);
    for _ in 0..4 {
        world.end_good();
    }
    assert_eq!((world.started(), world.building()), (vec!["A", "B", "C", "D"], None));
}

// --- evaluations -----------------------------------------------------------------------------------------------------

#[test]
fn a_release_a_resume_and_any_look_put_what_waits_through_the_table_first() {
    let waiting = || {
        let mut world = queue(5);
        world.look("A");
        world.look("B");
        world
    };
    let mut released = waiting();
    released.end_failed();
    assert_eq!(released.building(), Some("B"));
    let mut resumed = waiting();
    resumed.pause();
    resumed.end_failed();
    resumed.resume();
    assert_eq!(resumed.building(), Some("B"));
    let mut looked = World::on_held(OnHeld::Queue { max: 5 });
    looked.elsewhere = true;
    looked.look("A");
    looked.elsewhere = false;
    looked.look("B");
    assert_eq!((looked.building(), looked.waiting()), (Some("A"), vec!["B".to_owned()]));
    let mut asked = World::on_held(OnHeld::Queue { max: 5 });
    asked.elsewhere = true;
    asked.look("A");
    asked.elsewhere = false;
    asked.manual_pinned("B");
    assert_eq!((asked.building(), asked.waiting()), (Some("A"), vec!["!B".to_owned()]), "nor around it");
}

#[test]
fn what_debt_remains_is_evaluated_after_the_requests() {
    let mut world = World::new();
    world.look("A");
    world.manual_pinned("0");
    world.look("B");
    world.end_good();
    assert_eq!(world.building(), Some("0"), "the request first");
    world.end_good();
    assert_eq!(world.building(), Some("B"), "then the debt");
}

#[test]
fn the_quiet_period_is_not_asked_again_of_what_waited() {
    let quiet = Quiet { period: secs(60), at_most: secs(300) };
    let mut world = World::with(Policy::default().with_on_held(OnHeld::Queue { max: 5 }));
    world.look("A");
    world.look("B");
    world.policy.quiet = Some(quiet);
    world.end_good();
    assert_eq!(world.building(), Some("B"));
}

#[test]
fn a_first_observation_that_waited_is_a_baseline_where_the_policy_says_so() {
    let mut world = queue(5);
    world.look("A");
    world.edit_source();
    let push = world.push();
    world.look("A");
    world.policy.first = First::Baseline;
    world.end_good();
    assert_eq!((world.reason(push), world.accounted()), (Some(&EndReason::Baselined), Some("A")));
    assert_eq!(world.builds.len(), 1);
}

#[test]
fn an_unpinned_request_with_nothing_observed_is_a_stored_trigger_again() {
    let mut world = World::new();
    world.look("A");
    let first = world.manual();
    world.look("B");
    let second = world.manual();
    world.look("B");
    world.edit_source();
    assert_eq!(world.waiting(), ["!"], "unpinned forced ones stay");
    world.end_good();
    assert_eq!((world.building(), world.look_in()), (None, Some(0)));
    assert_eq!(world.receipt(first), &ReceiptState::AwaitsLook);
    world.fail();
    assert_eq!(world.receipt(first), &ReceiptState::AwaitsLook, "failed looks leave it due");
    world.look("A");
    assert_eq!(world.receipt(first), &ReceiptState::Started { build: world.last().id });
    assert_eq!(world.receipt(second), &ReceiptState::Joined { build: world.last().id });
}

#[test]
fn a_request_that_is_stored_again_keeps_its_place_and_its_callers_lock_policy() {
    let mut world = World::on_held(OnHeld::DiscardLoudly);
    world.look("A");
    let waits = world.manual_with(OnHeld::Queue { max: 3 });
    world.look("B");
    world.advance(1);
    let later = world.with_params("later");
    world.edit_source();
    world.end_good();
    let order: Vec<_> = world.state.stored.iter().map(|s| s.receipt).collect();
    assert_eq!(order, [waits, later], "oldest first");
    assert_eq!(world.state.stored[0].on_held, Some(OnHeld::Queue { max: 3 }));
    world.manual_pinned("0");
    world.look("C");
    assert!(matches!(world.receipt(waits), ReceiptState::Waiting { .. }), "as its caller chose");
    assert!(matches!(world.receipt(later), ReceiptState::LostTo { .. }), "as the dependency's policy says");
}

// --- forced triggers -------------------------------------------------------------------------------------------------

#[test]
fn forced_triggers_skip_rows_5_to_8_and_11() {
    let policy = || quietly().with_reuse_known(true).with_veto(Veto { unknown: true, ..Veto::default() });
    let mut first = World::with(policy().with_first(First::Baseline));
    first.manual();
    first.look("A");
    assert_eq!(first.building(), Some("A"), "row 5");
    for revision in ["A", "B"] {
        for forced in [World::manual, World::schedule] {
            let mut world = World::at_a(policy());
            let receipt = forced(&mut world);
            world.look(revision);
            assert_eq!(world.receipt(receipt), &ReceiptState::Started { build: world.last().id });
            assert_eq!((world.builds.len(), world.building()), (2, Some(revision)), "rows 6 to 8 and 11");
        }
    }
}

#[test]
fn a_caller_may_choose_its_lock_policy() {
    let mut world = World::on_held(OnHeld::DiscardLoudly);
    world.look("A");
    let waits = world.pin("B", Parameters::new(), Some(OnHeld::Coalesce));
    assert!(matches!(world.receipt(waits), ReceiptState::Waiting { .. }));
    let lost = world.pin("C", Parameters::new(), Some(OnHeld::DiscardSilently));
    assert_eq!((world.decisions(), world.loud()), (vec!["DiscardedSilently"], 0));
    assert!(matches!(world.receipt(lost), ReceiptState::LostTo { .. }));
}

#[test]
fn unpinned_forced_triggers_wait_as_one_request_that_later_ones_join() {
    for policy in [OnHeld::Coalesce, OnHeld::Queue { max: 1 }] {
        let mut world = World::on_held(policy);
        world.look("A");
        let first = world.manual();
        world.look("B");
        let second = world.manual();
        let third = world.schedule();
        world.look("C");
        assert_eq!(world.waiting(), ["!"]);
        world.end_good();
        let started = ReceiptState::Started { build: world.last().id };
        for receipt in [first, second, third] {
            assert_eq!(world.receipt(receipt), &started, "triggers are collected");
        }
        assert_eq!(
            (world.building(), world.accounted()),
            (Some("C"), Some("C")),
            "whatever is there by then"
        );
    }
}

#[test]
fn an_unpinned_request_counts_against_max() {
    let mut world = queue(1);
    world.look("A");
    world.manual();
    world.look("B");
    assert_eq!(
        (world.waiting(), world.decisions()),
        (vec!["!".to_owned()], vec!["Queued", "DiscardedLoudly"])
    );
}

#[test]
fn what_one_request_collects_is_bounded() {
    let mut world = World::new();
    world.look("A");
    world.manual();
    world.look("B");
    let cause = world.state.waiting[0].causes[0].clone();
    let unnamed = Cause { receipt: None, ..cause };
    world.state.waiting[0].causes.resize(MAX_WAITING, unnamed);
    let lost = world.manual();
    world.look("B");
    assert!(matches!(world.receipt(lost), ReceiptState::LostTo { .. }));
    assert_eq!(world.state.waiting[0].causes.len(), MAX_WAITING);
}

#[test]
fn requests_that_name_a_revision_or_have_own_parameters_keep_their_own_place() {
    for policy in [OnHeld::Coalesce, OnHeld::Queue { max: 9 }] {
        let mut world = World::on_held(policy);
        world.look("A");
        world.manual_pinned("B");
        world.with_params("x");
        world.look("A");
        world.manual_pinned("B");
        world.with_params("x");
        world.look("A");
        assert_eq!(world.waiting(), ["!B", "!", "!B", "!"], "one FIFO");
        for _ in 0..5 {
            world.end_good();
        }
        assert_eq!(world.started(), ["A", "B", "A", "B", "A"]);
    }
}

#[test]
fn a_pinned_trigger_is_decided_in_the_call_and_an_unpinned_one_by_the_first_look_started_after_it() {
    let mut world = World::at_a(Policy::default());
    let flying = world.begin_look();
    let unpinned = world.manual();
    world.answer(&flying, &seen("A", None));
    assert_eq!((world.receipt(unpinned), world.builds.len()), (&ReceiptState::AwaitsLook, 1));
    let pinned = world.manual_pinned("0");
    assert_eq!(world.receipt(pinned), &ReceiptState::Started { build: world.last().id });
    world.end_good();
    world.look("A");
    assert_eq!(world.receipt(unpinned), &ReceiptState::Started { build: world.last().id });
}

#[test]
fn a_second_not_found_ends_an_unpinned_trigger() {
    let mut world = World::at_a(Policy::default());
    let manual = world.manual();
    let push = world.push();
    world.not_found();
    assert_eq!(world.receipt(manual), &ReceiptState::AwaitsLook, "once leaves it due");
    let flying = world.begin_look();
    let late = world.manual();
    world.answer(&flying, &Answer::Probed(Probed::NotFound));
    for receipt in [manual, push] {
        assert_eq!(world.reason(receipt), Some(&EndReason::SourceMissing));
    }
    assert_eq!(world.receipt(late), &ReceiptState::AwaitsLook, "no look started after it yet");
}

#[test]
fn a_push_is_satisfied_only_by_a_look_started_after_it() {
    let mut world = World::at_a(Policy::default());
    let flying = world.begin_look();
    let push = world.push();
    world.answer(&flying, &seen("A", None));
    assert_eq!(world.receipt(push), &ReceiptState::AwaitsLook);
    world.look("B");
    assert_eq!(world.receipt(push), &ReceiptState::Started { build: world.last().id });
}

#[test]
fn a_true_false_script_that_can_say_nothing_yet_leaves_triggers_due() {
    let mut world = World::new();
    let push = world.push();
    assert_eq!(world.nothing(), Detection::Nothing);
    assert_eq!((world.observed(), world.receipt(push)), (None, &ReceiptState::AwaitsLook));
}

// --- receipts and records --------------------------------------------------------------------------------------------

#[test]
fn each_decision_is_recorded_and_repeated_ones_only_count() {
    let counted = |world: &mut World, revision: &str| {
        world.look(revision);
        world.decided.iter().map(|d| d.counted).collect::<Vec<_>>()
    };
    let mut world = World::at_a(quietly());
    assert_eq!(counted(&mut world, "A"), [true], "Unchanged");
    assert_eq!(counted(&mut world, "B"), [false], "Quiet");
    assert_eq!(counted(&mut world, "B"), [true], "Quiet again");
    assert_eq!(counted(&mut world, "C"), [false], "another revision");
    world.pause();
    assert_eq!(counted(&mut world, "C"), [false], "Paused");
    assert_eq!(counted(&mut world, "C"), [true], "Paused again");
    world.not_found();
    assert!(!world.decided[0].counted);
    world.not_found();
    assert!(world.decided[0].counted, "SourceMissing again");
}

#[test]
fn receipts_are_durable_where_decisions_only_count() {
    let mut world = World::at_a(Policy::default());
    let push = world.push();
    world.look("A");
    assert!(world.decided[0].counted);
    assert_eq!(world.reason(push), Some(&EndReason::Unchanged));
}

#[test]
fn a_push_is_told_what_became_of_it() {
    let reason = |policy: Policy, f: &dyn Fn(&mut World)| {
        let mut world = World::at_a(policy);
        let push = world.push();
        f(&mut world);
        world.reason(push).cloned()
    };
    let veto = Veto { rewound: true, ..Veto::default() };
    let mut expected = World::at_a(quietly());
    expected.look("B");
    let quiet = reason(quietly(), &|w| w.look("B"));
    assert_eq!(quiet, Some(EndReason::Quiet { until: later(expected.now, secs(60)) }));
    let vetoed = reason(Policy::default().with_veto(veto), &|w| w.look_with_relation("0", Relation::Rewound));
    assert_eq!(vetoed, Some(EndReason::Vetoed));
    let paused = reason(Policy::default(), &|w| {
        w.pause();
        w.look("B");
    });
    assert_eq!(paused, Some(EndReason::Paused));
}
