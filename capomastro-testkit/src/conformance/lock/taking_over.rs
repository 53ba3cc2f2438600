//! Taking the lock from who holds it.

use super::{LockHarness, desk::Desk};

pub(super) async fn a_take_over_ousts_the_holder(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let mut dependency = desk.dependency();
    let ousted = desk.started(&mut dependency).await;
    let ask = dependency.ask(desk.build());
    let lease = desk.take_over(&ask).await;
    assert_eq!((lease.dependency, lease.owner), (ask.dependency, ask.owner), "the lease is the asker's");
    desk.record(&mut dependency, &lease);
    desk.refused(&dependency.ask(ousted.owner)).await;
    desk.holds(&dependency, &lease, "it was taken over").await;
}

pub(super) async fn a_free_lock_can_be_taken_over(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let mut dependency = desk.dependency();
    let ask = dependency.ask(desk.build());
    let lease = desk.lock.take_over(&ask, "its owner is known to have ended").await;
    let lease = lease.expect("a lock that is free can be taken over");
    desk.record(&mut dependency, &lease);
    desk.refused(&dependency.ask(desk.build())).await;
}

pub(super) async fn a_take_over_may_have_any_reason(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let mut dependency = desk.dependency();
    let long = "x".repeat(100_000);
    for reason in ["", "a\nb\0c", "'; DROP TABLE locks; --", "$(id) `id` ../..", "🦀\u{202e}", &long] {
        let taken = desk.lock.take_over(&dependency.ask(desk.build()), reason).await;
        let lease = taken.expect("what people say of it does not matter");
        desk.record(&mut dependency, &lease);
    }
}
