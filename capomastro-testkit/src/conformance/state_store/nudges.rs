//! Nudges: none is lost.

use super::{
    StoreHarness,
    desk::{Desk, HOUR, MINUTE, SECOND, hold, me, nudge, other, set},
};
use capomastro_core::{
    ErrorKind,
    store::{Claim, DueChange, Lane, PutBack, Task},
};
use std::time::Duration;

/// Another one's nudge.
async fn nudged(desk: &Desk, task: Task, after: Duration) {
    let mut batch = desk.due_batch(&[], [nudge(task, after)]);
    batch.holder = other();
    desk.commit(&batch).await;
}

/// Checks that the task is free and due after this long.
async fn due_after(desk: &Desk, task: Task, after: Duration) {
    let row = desk.due_row(task).await.expect("there is a row");
    assert_eq!((row.due_at, row.claimed_by), (desk.after(after), None));
}

fn given_back(claim: &Claim, after: Duration) -> PutBack {
    PutBack { claim: claim.clone(), after, note: claim.note.clone() }
}

pub(super) async fn a_nudge_brings_forward_and_never_delays(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let task = Task::Look(desk.dependency_id());
    desk.commit(&desk.due_batch(&[], [set(task, MINUTE)])).await;
    for (after, expected) in
        [(HOUR, MINUTE), (2 * SECOND, 2 * SECOND), (MINUTE, 2 * SECOND), (SECOND, SECOND)]
    {
        nudged(&desk, task, after).await;
        due_after(&desk, task, expected).await;
    }
    desk.clock.advance(MINUTE);
    let overdue = desk.due_row(task).await.map(|row| row.due_at);
    nudged(&desk, task, Duration::ZERO).await;
    assert_eq!(desk.due_row(task).await.map(|row| row.due_at), overdue, "what is due keeps its turn");
    assert_eq!(desk.claim_one(&me()).await.task, task);
}

pub(super) async fn a_nudge_of_nothing_makes_nothing(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let task = Task::Look(desk.dependency_id());
    nudged(&desk, task, Duration::ZERO).await;
    assert_eq!(desk.due_row(task).await, None);
    assert_eq!(desk.claim(&Lane::House, &me(), 9).await.next_due, None);
    desk.commit(&desk.due_batch(&[], [set(task, HOUR)])).await;
    due_after(&desk, task, HOUR).await;
}

pub(super) async fn a_nudge_during_a_claim_survives_set(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (task, claim) = desk.claimed_task(&me()).await;
    let lapses = desk.after(MINUTE);
    nudged(&desk, task, 5 * SECOND).await;
    let row = desk.due_row(task).await.expect("there is a row");
    assert_eq!((row.due_at, row.claimed_by), (lapses, Some(me().to_string())), "the claim is not disturbed");
    let longer = desk.commit(&desk.due_batch(&[&claim], [hold(task, HOUR)])).await.claims.remove(0);
    let desk = desk.reopened(harness).await;
    desk.commit(&desk.due_batch(&[&longer], [set(task, HOUR)])).await;
    due_after(&desk, task, 5 * SECOND).await;
    // It has served.
    desk.clock.advance(5 * SECOND);
    let claim = desk.claim_one(&me()).await;
    desk.commit(&desk.due_batch(&[&claim], [set(task, HOUR)])).await;
    due_after(&desk, task, HOUR).await;
}

pub(super) async fn a_nudge_during_a_claim_survives_put_back(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (task, claim) = desk.claimed_task(&me()).await;
    nudged(&desk, task, Duration::ZERO).await;
    desk.put_back(&me(), &[given_back(&claim, HOUR)]).await;
    due_after(&desk, task, Duration::ZERO).await;

    let claim = desk.claim_one(&me()).await;
    nudged(&desk, task, 5 * SECOND).await;
    desk.put_back(&me(), &[given_back(&claim, HOUR)]).await;
    due_after(&desk, task, 5 * SECOND).await;

    desk.clock.advance(5 * SECOND);
    let claim = desk.claim_one(&me()).await;
    desk.put_back(&me(), &[given_back(&claim, HOUR)]).await;
    due_after(&desk, task, HOUR).await;
}

pub(super) async fn a_nudge_during_a_claim_survives_done(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (task, claim) = desk.claimed_task(&me()).await;
    nudged(&desk, task, 5 * SECOND).await;
    desk.commit(&desk.due_batch(&[&claim], [DueChange::Done { task }])).await;
    due_after(&desk, task, 5 * SECOND).await;
    desk.refuse(&desk.due_batch(&[&claim], [DueChange::Done { task }]), ErrorKind::ClaimLost).await;

    desk.clock.advance(5 * SECOND);
    let claim = desk.claim_one(&me()).await;
    desk.commit(&desk.due_batch(&[&claim], [DueChange::Done { task }])).await;
    assert_eq!(desk.due_row(task).await, None);
    // One that was nudged before it was taken has no claim that a nudge could have come in.
    let free = Task::Look(desk.dependency_id());
    desk.commit(&desk.due_batch(&[], [set(free, HOUR)])).await;
    nudged(&desk, free, Duration::ZERO).await;
    let claim = desk.claim_one(&me()).await;
    desk.commit(&desk.due_batch(&[&claim], [DueChange::Done { task: free }])).await;
    assert_eq!(desk.due_row(free).await, None);
}

pub(super) async fn the_earliest_nudge_counts(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (task, claim) = desk.claimed_task(&me()).await;
    for seconds in [30, 10, 20] {
        nudged(&desk, task, Duration::from_secs(seconds)).await;
    }
    desk.commit(&desk.due_batch(&[&claim], [set(task, HOUR)])).await;
    due_after(&desk, task, 10 * SECOND).await;
}

pub(super) async fn a_nudge_does_not_delay_what_is_due_sooner(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (task, claim) = desk.claimed_task(&me()).await;
    nudged(&desk, task, HOUR).await;
    desk.commit(&desk.due_batch(&[&claim], [set(task, Duration::ZERO)])).await;
    due_after(&desk, task, Duration::ZERO).await;
    let claim = desk.claim_one(&me()).await;
    nudged(&desk, task, HOUR).await;
    desk.put_back(&me(), &[given_back(&claim, SECOND)]).await;
    due_after(&desk, task, SECOND).await;
}

pub(super) async fn a_new_claim_answers_the_nudges_before_it(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (task, _) = desk.claimed_task(&me()).await;
    nudged(&desk, task, SECOND).await;
    // Whoever takes over begins after the nudge.
    desk.clock.advance(MINUTE);
    let claim = desk.claim_one(&me()).await;
    desk.commit(&desk.due_batch(&[&claim], [set(task, HOUR)])).await;
    due_after(&desk, task, HOUR).await;
}
