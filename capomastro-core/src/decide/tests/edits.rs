//! What people do to a dependency besides asking for builds: editing its source, deleting it.

use super::world::{World, secs, seen};
use crate::{
    detect::Detection,
    events::EventKind,
    model::{EndReason, Health, OnHeld, Phase, Policy, Quiet, ReceiptState, RetryPolicy},
};

fn queue(max: u32) -> World {
    World::on_held(OnHeld::Queue { max })
}

fn quietly() -> Policy {
    Policy::default().with_quiet(Some(Quiet { period: secs(60), at_most: secs(300) }))
}

#[test]
fn an_edit_begins_a_new_epoch_and_forgets_what_was_seen() {
    let mut world = World::with(quietly());
    world.look("A");
    world.end(Phase::Succeeded);
    world.look("B");
    world.not_found();
    world.edit_source();
    let state = &world.state;
    assert_eq!((state.epoch, &state.observed, &state.accounted, state.not_found), (2, &None, &None, 0));
    assert_eq!((&state.retry, &state.held_at, &state.debt_since), (&None, &None, &None));
    assert_eq!(world.linked(), Some("A"), "what stands, stands");
    world.look("A");
    assert_eq!(world.building(), Some("A"), "old revisions are not compared with new ones");
}

#[test]
fn an_edit_ends_pinned_requests_and_keeps_unpinned_forced_ones() {
    let mut world = queue(9);
    world.look("A");
    let unpinned = world.manual();
    let push = world.push();
    world.look("B");
    let own_parameters = world.with_params("x");
    world.look("B");
    let pinned = world.manual_pinned("C");
    let stored = world.manual();
    assert_eq!(world.waiting(), ["!", "B", "!", "!C"]);
    world.edit_source();
    assert_eq!(world.waiting(), ["!", "!"]);
    for receipt in [push, pinned] {
        assert_eq!(world.reason(receipt), Some(&EndReason::Superseded));
    }
    for receipt in [unpinned, own_parameters] {
        assert!(matches!(world.receipt(receipt), ReceiptState::Waiting { .. }));
    }
    assert_eq!(world.receipt(stored), &ReceiptState::AwaitsLook);
    assert_eq!(world.building(), Some("A"), "a running build ends as it ends");
}

#[test]
fn an_edit_backs_off_anew_and_leaves_the_recovery_to_be_told() {
    let mut world = World::at_a(Policy::default());
    world.fail();
    world.fail();
    world.edit_source();
    assert!(matches!(world.state.health, Health::Failing { failures: 0, .. }));
    world.fail();
    assert_eq!(world.state.health.failures(), 1);
    world.edit_source();
    world.look("A");
    let told = |e: &EventKind| matches!(e, EventKind::HealthChanged { health, .. } if health == "healthy");
    assert!(world.events.iter().any(told));
}

#[test]
fn deleted_while_building() {
    let mut world = queue(9);
    world.look("A");
    let receipts = [world.manual(), world.push()];
    world.look("B");
    let pinned = world.manual_pinned("C");
    let stored = world.manual();
    world.delete();
    for receipt in receipts.into_iter().chain([pinned, stored]) {
        assert_eq!(world.reason(receipt), Some(&EndReason::Deleted));
    }
    world.end_good();
    assert_eq!((world.linked(), world.started(), world.building()), (Some("A"), vec!["A"], None));
    let look = world.begin_look();
    assert_eq!(world.answer(&look, &seen("D", None)), Detection::Stale);
    let mut world =
        World::with(Policy::default().with_retry(RetryPolicy { max: 1, ..RetryPolicy::default() }));
    world.look("A");
    world.delete();
    world.end(Phase::Lost);
    assert_eq!(world.state.retry, None);
}
