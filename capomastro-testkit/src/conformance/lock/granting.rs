//! Who gets the lock.

use super::{LockHarness, desk::Desk};
use capomastro_core::lock::{Acquired, LockAsk};
use std::sync::Arc;
use tokio::{sync::Barrier, task::JoinSet};

const RACERS: usize = 16;

pub(super) async fn a_free_lock_is_granted(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let ask = desk.dependency().ask(desk.build());
    let lease = desk.granted(&ask).await;
    assert!(lease.fence > 0, "fences begin above zero, which is what a store has seen at first");
}

pub(super) async fn of_two_owners_one_holds(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let mut dependency = desk.dependency();
    desk.started(&mut dependency).await;
    for _ in 0..3 {
        desk.refused(&dependency.ask(desk.build())).await;
    }
}

pub(super) async fn a_refusal_says_who_holds_it(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let mut dependency = desk.dependency();
    desk.started(&mut dependency).await;
    let by = desk.refused(&dependency.ask(desk.build())).await;
    assert!(!by.trim().is_empty(), "people are told who holds the lock");
    assert!(by.len() <= 1_000 && !by.chars().any(char::is_control), "on one short line: {by:?}");
}

pub(super) async fn the_same_owner_gets_the_same_lease_again(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let mut dependency = desk.dependency();
    let lease = desk.started(&mut dependency).await;
    for _ in 0..3 {
        let again = desk.granted(&dependency.ask(lease.owner)).await;
        assert_eq!(again.fence, lease.fence, "a repeated ask is the same ask");
    }
}

pub(super) async fn each_dependency_has_a_lock_of_its_own(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let (mut one, mut other) = (desk.dependency().named("one"), desk.dependency().named("other"));
    let lease = desk.started(&mut one).await;
    let of_other = desk.started(&mut other).await;
    desk.release(&of_other).await;
    desk.holds(&one, &lease, "another dependency was freed").await;
}

/// They may be changed, and two dependencies may have had the same.
pub(super) async fn names_are_for_people(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let mut dependency = desk.dependency().named("lib foo");
    let lease = desk.started(&mut dependency).await;
    let hostile = ["lib bar", "../../lib", "/", ".", "a%2fb", "🦀 'x' \"y\" $(z)", "LIB FOO"];
    for name in hostile {
        desk.refused(&dependency.named(name).ask(desk.build())).await;
        let again = desk.granted(&dependency.named(name).ask(lease.owner)).await;
        assert_eq!(again.fence, lease.fence, "a dependency that was renamed is the same one");
        let mut namesake = desk.dependency().named(name);
        desk.started(&mut namesake).await;
        let mut second = desk.dependency().named(name);
        desk.started(&mut second).await;
    }
}

async fn race(
    desk: &Desk<'_>,
    asks: impl IntoIterator<Item = LockAsk>,
) -> Vec<capomastro_core::Result<Acquired>> {
    let asks: Vec<LockAsk> = asks.into_iter().collect();
    let start = Arc::new(Barrier::new(asks.len()));
    let mut racers = JoinSet::new();
    for ask in asks {
        let (lock, start) = (desk.harness.open().await, Arc::clone(&start));
        racers.spawn(async move {
            start.wait().await;
            lock.acquire(&ask).await
        });
    }
    racers.join_all().await
}

pub(super) async fn racing_owners_never_share(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    for _ in 0..10 {
        let dependency = desk.dependency();
        let answers = race(&desk, (0..RACERS).map(|_| dependency.ask(desk.build()))).await;
        let mut granted = Vec::new();
        for answer in answers {
            if let Acquired::Granted(lease) = answer.expect("the lock can be asked") {
                granted.push(lease);
            }
        }
        if desk.is_in_the_store() {
            // The commits decide: each would write a fence that the record has not seen yet, and one of them does.
            assert_eq!(
                granted.len(),
                RACERS,
                "a lock without a place of its own refuses by the record alone"
            );
            assert!(granted.iter().all(|lease| lease.fence == dependency.highest_fence + 1), "{granted:?}");
        } else {
            assert_eq!(granted.len(), 1, "of owners who race one holds: {granted:?}");
        }
    }
}

pub(super) async fn racing_asks_of_one_owner_are_one_ask(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    for _ in 0..10 {
        let dependency = desk.dependency();
        let owner = desk.build();
        let answers = race(&desk, (0..RACERS).map(|_| dependency.ask(owner))).await;
        let mut fences = Vec::new();
        for answer in answers {
            match answer.expect("the lock can be asked") {
                Acquired::Granted(lease) => fences.push(lease.fence),
                Acquired::Held { by } => panic!("the owner itself was told that {by:?} holds its lock"),
            }
        }
        fences.dedup();
        assert_eq!(fences.len(), 1, "all of its asks get the same lease");
    }
}
