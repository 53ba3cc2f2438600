//! What the end of a build means: links, retries, refusals, and a person's older revision.

use super::world::{World, own, rev};
use crate::{
    events::EventKind,
    model::{EndReason, LaunchKey, OnHeld, Phase, Policy, ReceiptState, RetryOn, RetryPolicy, RetryReason},
    schedule::backoff,
    time::{later, until},
};
use std::time::Duration;

fn retrying(on: RetryOn) -> Policy {
    Policy::default().with_retry(RetryPolicy { max: 3, on, ..RetryPolicy::default() })
}

/// In how many seconds the owed retry may start.
fn retry_in(world: &World) -> Option<Duration> {
    world.state.retry.as_ref().and_then(|r| r.not_before).map(|at| until(world.now, at))
}

fn base() -> Duration {
    RetryPolicy::default().backoff
}

// --- links -----------------------------------------------------------------------------------------------------------

#[test]
fn only_good_builds_are_linked() {
    for (phase, unstable_is_good, linked) in [
        (Phase::Succeeded, false, true),
        (Phase::Unstable, false, false),
        (Phase::Unstable, true, true),
        (Phase::Failed, true, false),
        (Phase::Cancelled, true, false),
        (Phase::TimedOut, true, false),
        (Phase::Lost, true, false),
        (Phase::Refused, true, false),
    ] {
        let mut world = World::with(Policy::default().with_unstable_is_good(unstable_is_good));
        world.look("A");
        world.end(phase);
        assert_eq!(world.linked().is_some(), linked, "{phase}");
        let told = world.events.iter().any(|e| matches!(e, EventKind::Linked { .. }));
        assert_eq!(told, linked);
        assert_eq!(world.state.last_ended, Some((world.last().id, phase)));
        assert_eq!(world.building(), None, "the lock is free");
    }
}

#[test]
fn a_failed_build_moves_no_link() {
    let mut world = World::at_a(Policy::default());
    world.look("B");
    world.end_failed();
    assert_eq!((world.linked(), world.accounted()), (Some("A"), Some("B")));
}

#[test]
fn what_was_really_built_is_what_is_linked() {
    let mut world = World::new();
    world.look("A");
    world.builds[0].built = Some(rev("A2"));
    world.end_good();
    assert_eq!((world.linked(), world.accounted()), (Some("A2"), Some("A")));
}

#[test]
fn a_build_of_an_earlier_source_is_linked_if_good() {
    let mut world = World::new();
    world.look("A");
    world.edit_source();
    world.end_good();
    assert_eq!(
        (world.linked(), world.accounted()),
        (Some("A"), None),
        "the epoch governs detection, not linking"
    );
}

// --- failed ----------------------------------------------------------------------------------------------------------

#[test]
fn a_failed_build_of_r_leaves_r_accounted_and_is_no_retry_storm() {
    let mut world = World::new();
    world.look("A");
    world.end_failed();
    for _ in 0..5 {
        world.advance(3_600);
        world.look("A");
        assert_eq!(world.decisions(), ["Unchanged"]);
    }
    assert_eq!((world.started(), world.accounted()), (vec!["A"], Some("A")));
}

#[test]
fn which_ends_owe_a_retry() {
    for (phase, infrastructure, any) in [
        (Phase::Lost, true, true),
        (Phase::TimedOut, true, true),
        (Phase::Failed, false, true),
        (Phase::Unstable, false, true),
        (Phase::Cancelled, false, false),
        (Phase::Succeeded, false, false),
    ] {
        for (on, owed) in [(RetryOn::Infrastructure, infrastructure), (RetryOn::Any, any)] {
            let mut world = World::with(retrying(on));
            world.look("A");
            world.end(phase);
            assert_eq!(world.state.retry.is_some(), owed, "{phase} with {on:?}");
        }
    }
}

#[test]
fn no_policy_no_retry() {
    let mut world = World::new();
    world.look("A");
    world.end(Phase::Lost);
    assert_eq!(world.state.retry, None);
}

#[test]
fn a_retry_is_a_new_build_with_a_new_launch_key_and_the_same_parameters() {
    let mut world = World::with(retrying(RetryOn::Any));
    world.look("A");
    world.end_good();
    world.pin_with_key("A", own("x"), None, Some("whole"));
    world.end_failed();
    world.advance(base().as_secs());
    let [_, failed, again] = &world.builds[..] else { panic!("{:?}", world.started()) };
    assert_ne!((again.id, again.key), (failed.id, failed.key));
    assert_eq!(again.key, LaunchKey::of(again.id));
    assert_eq!(
        (&again.revision, &again.parameters, &again.build_key),
        (&failed.revision, &own("x"), &failed.build_key)
    );
    assert_eq!((again.retry_of, again.attempt), (Some(failed.id), 1));
    assert!(!again.manual && !again.person_pinned);
}

#[test]
fn retries_back_off_and_end_after_max() {
    let mut world = World::with(retrying(RetryOn::Any));
    world.look("A");
    for attempt in 1..=3 {
        world.end_failed();
        let wait = backoff(attempt, base(), false);
        assert_eq!(retry_in(&world), Some(wait), "before retry {attempt}");
        world.advance(wait.as_secs() - 1);
        assert_eq!(world.building(), None, "not before its time");
        world.advance(1);
        assert_eq!((world.building(), world.last().attempt), (Some("A"), attempt));
        assert_eq!(world.state.retry, None, "at most one, and it runs");
    }
    world.end_failed();
    assert_eq!((&world.state.retry, world.builds.len()), (&None, 4));
}

#[test]
fn a_clock_that_is_set_back_does_not_stretch_the_wait_of_a_retry() {
    let mut world = World::with(retrying(RetryOn::Any));
    world.look("A");
    world.end_failed();
    world.set_back(30 * 86_400);
    world.look("A");
    assert!(retry_in(&world) <= Some(Duration::from_secs(3_600)));
    world.advance(3_600);
    assert_eq!(world.started(), ["A", "A"]);
}

#[test]
fn a_retry_waits_for_the_lock_and_for_a_resume() {
    let mut world = World::at_a(retrying(RetryOn::Any));
    world.look("B");
    world.end_failed();
    world.manual_pinned("A");
    world.advance(600);
    assert_eq!(world.building(), Some("A"));
    world.pause();
    world.end_failed();
    world.advance(600);
    assert_eq!(world.building(), None);
    world.resume();
    assert_eq!((world.building(), world.last().attempt), (Some("B"), 1));
}

#[test]
fn a_retry_passes_where_the_source_is_gone() {
    let mut world = World::with(retrying(RetryOn::Any));
    world.look("A");
    world.end_failed();
    world.not_found();
    world.not_found();
    world.advance(600);
    assert_eq!(world.started(), ["A", "A"], "it is evaluated as a forced request that names its revision");
}

#[test]
fn a_retry_is_no_waiting_request_for_the_table() {
    let mut world = World::with(retrying(RetryOn::Any).with_on_held(OnHeld::DiscardLoudly));
    world.look("A");
    world.end_failed();
    world.look("A");
    assert_eq!(world.decisions(), ["Unchanged"]);
    world.manual_pinned("B");
    assert_eq!(world.building(), Some("B"), "nothing waits before it");
}

#[test]
fn retry_and_debt_due_together_the_debt_first() {
    let mut world = World::with(retrying(RetryOn::Any).with_on_held(OnHeld::DiscardSilently));
    world.look("A");
    world.look("B");
    world.end_failed();
    assert!(world.state.retry.is_some(), "under a discard policy the debt waits for a look");
    world.now = later(world.now, base());
    world.look("B");
    assert_eq!((world.building(), &world.state.retry), (Some("B"), &None));
}

#[test]
fn a_retry_lives_exactly_as_long_as_its_revision_is_accounted() {
    let owed = |f: &dyn Fn(&mut World)| {
        let mut world = World::at_a(retrying(RetryOn::Any));
        world.look("B");
        world.end_failed();
        f(&mut world);
        world.state.retry.is_some()
    };
    assert!(owed(&|_| {}));
    assert!(owed(&|w| w.look("B")));
    assert!(owed(&|w| {
        w.pause();
        w.look("C");
    }));
    assert!(!owed(&|w| w.look("C")), "another revision is accounted");
    assert!(!owed(&World::edit_source), "another epoch");
    assert!(
        !owed(&|w| {
            w.manual_pinned("B");
        }),
        "a build of it has started since"
    );
    assert!(
        !owed(&|w| {
            w.manual_pinned("A");
            w.end_good();
        }),
        "a person's revision stands"
    );
    assert!(
        owed(&|w| {
            w.manual_pinned("A");
            w.end(Phase::Cancelled);
        }),
        "it does not"
    );
}

#[test]
fn only_what_is_accounted_in_this_epoch_is_retried() {
    let mut world = World::at_a(retrying(RetryOn::Any));
    world.manual_pinned("0");
    world.end_failed();
    assert_eq!(world.state.retry, None, "an older revision");
    world.look("B");
    world.edit_source();
    world.end_failed();
    assert_eq!(world.state.retry, None, "another epoch");
}

#[test]
fn a_build_that_a_person_asked_to_cancel_is_not_begun_again_however_it_ends() {
    for phase in [Phase::Cancelled, Phase::Failed, Phase::Lost, Phase::TimedOut, Phase::Refused] {
        let mut world = World::with(retrying(RetryOn::Any));
        world.look("A");
        world.cancel();
        world.end(phase);
        assert_eq!(world.state.retry, None, "{phase}");
    }
    let mut world = World::with(retrying(RetryOn::Any));
    world.look("A");
    world.time_out();
    world.end(Phase::TimedOut);
    assert!(world.state.retry.is_some(), "a deadline is nobody's wish");
}

#[test]
fn a_broken_lock_is_not_retried_and_its_release_is_evaluated() {
    let mut world = World::with(retrying(RetryOn::Any));
    world.look("A");
    world.look("B");
    world.break_lock();
    assert_eq!((world.building(), &world.state.retry), (Some("B"), &None));
    world.break_lock();
    assert_eq!((world.building(), &world.state.retry), (None, &None));
}

// --- refused ---------------------------------------------------------------------------------------------------------

#[test]
fn a_refusal_of_what_is_accounted_owes_a_retry_outside_of_max() {
    let mut world = World::new();
    world.look("A");
    for refusals in 1..=9 {
        world.refused(false);
        let retry = world.state.retry.clone().expect("owed");
        assert_eq!((retry.reason, retry.refusals, retry.attempt), (RetryReason::LaunchRefused, refusals, 0));
        let wait = backoff(refusals, base(), false);
        assert_eq!(retry_in(&world), Some(wait));
        world.advance(wait.as_secs());
        assert_eq!(world.building(), Some("A"));
    }
    assert_eq!(world.accounted(), Some("A"), "nothing is rolled back");
    world.end_good();
    assert_eq!((world.linked(), &world.state.retry), (Some("A"), &None));
}

#[test]
fn a_refusal_of_anything_else_ends_the_request() {
    let mut world = World::at_a(Policy::default());
    let pinned = world.manual_pinned("0");
    world.refused(false);
    assert_eq!((world.reason(pinned), &world.state.retry), (Some(&EndReason::Refused), &None));
    let manual = world.manual();
    world.look("B");
    world.edit_source();
    world.refused(false);
    assert_eq!(
        (world.reason(manual), &world.state.retry),
        (Some(&EndReason::Refused), &None),
        "another epoch"
    );
}

#[test]
fn a_refusal_leaves_an_owed_retry_of_another_build_alone() {
    let mut world = World::at_a(retrying(RetryOn::Any));
    world.look("B");
    world.end_failed();
    let retry = world.state.retry.clone();
    world.manual_pinned("A");
    world.refused(true);
    assert_eq!(world.state.retry, retry);
}

#[test]
fn a_permanent_refusal_waits_for_a_person_or_a_change_of_source_launcher_or_job() {
    let refused = || {
        let mut world = World::new();
        world.look("A");
        world.refused(true);
        world.advance(86_400);
        assert_eq!((world.builds.len(), retry_in(&world)), (1, None));
        world
    };
    let mut world = refused();
    world.change_job();
    assert_eq!(world.building(), Some("A"), "the retry is due now");
    let mut world = refused();
    let manual = world.manual();
    world.look("A");
    assert_eq!(world.receipt(manual), &ReceiptState::Started { build: world.last().id });
    let mut world = refused();
    world.edit_source();
    world.look("A");
    assert_eq!(world.building(), Some("A"));
}

#[test]
fn changing_launcher_or_job_alone_rebuilds_nothing() {
    let mut world = World::at_a(Policy::default());
    world.change_job();
    assert_eq!(world.builds.len(), 1);
}

#[test]
fn the_last_start_is_that_of_a_build_that_was_not_refused() {
    let mut world = World::at_a(Policy::default());
    let start = world.state.last_start;
    world.advance(60);
    world.look("B");
    assert_ne!(world.state.last_start, start);
    world.refused(true);
    assert_eq!(world.state.last_start, start);
}

// --- a person's older revision ---------------------------------------------------------------------------------------

#[test]
fn an_older_revision_that_a_person_named_stands_only_if_it_is_good() {
    let mut world = World::at_a(Policy::default());
    world.manual_pinned("0");
    world.end_failed();
    assert_eq!((&world.state.held_at, world.linked()), (&None, Some("A")));
    world.manual_pinned("A");
    world.end_good();
    assert_eq!(world.state.held_at, None, "it is the accounted one");
}

#[test]
fn a_persons_older_revision_stands_until_a_debt_that_already_stood_is_paid() {
    let mut world = World::at_a(Policy::default());
    world.manual_pinned("0");
    world.look("B");
    world.end_good();
    assert_eq!((world.building(), world.linked()), (Some("B"), Some("0")));
    assert_eq!(world.state.held_at, None);
    world.end_good();
    assert_eq!(world.linked(), Some("B"));
}

#[test]
fn a_persons_older_revision_stands_no_more_when_the_source_has_moved_and_failed() {
    let mut world = World::at_a(Policy::default());
    world.manual_pinned("0");
    world.end_good();
    world.look("A");
    assert!(world.state.held_at.is_some());
    world.look("B");
    world.end_failed();
    assert_eq!((world.linked(), &world.state.held_at), (Some("0"), &None));
}

#[test]
fn an_older_revision_stands_from_the_queue_too() {
    let mut world = World::on_held(OnHeld::Queue { max: 5 });
    world.look("A");
    world.manual_pinned("0");
    world.end_good();
    world.end_good();
    assert_eq!(world.linked(), Some("0"));
    assert!(world.state.held_at.is_some());
}
