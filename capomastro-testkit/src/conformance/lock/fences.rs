//! Numbers that only grow.

use super::{
    Leases, LockHarness,
    desk::{Dependency, Desk},
};
use capomastro_core::lock::Lease;

/// A fence is higher than the store has seen, and than any that was granted before.
fn higher(lease: &Lease, dependency: &Dependency, before: &mut u64) {
    assert!(
        lease.fence > dependency.highest_fence,
        "a fence is higher than the store's {}: {lease:?}",
        dependency.highest_fence
    );
    assert!(lease.fence > *before, "a fence is higher than {before}, granted before: {lease:?}");
    *before = lease.fence;
}

pub(super) async fn a_fence_is_higher_than_the_stores(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    for seen in [0, 1, 41, 1 << 40] {
        let mut dependency = desk.dependency();
        dependency.highest_fence = seen;
        let lease = desk.granted(&dependency.ask(desk.build())).await;
        higher(&lease, &dependency, &mut 0);
        let mut dependency = desk.dependency();
        dependency.highest_fence = seen;
        let lease = desk.take_over(&dependency.ask(desk.build())).await;
        higher(&lease, &dependency, &mut 0);
    }
}

pub(super) async fn fences_grow_over_releases(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let (mut dependency, mut before) = (desk.dependency(), 0);
    for _ in 0..4 {
        let lease = desk.granted(&dependency.ask(desk.build())).await;
        higher(&lease, &dependency, &mut before);
        desk.record(&mut dependency, &lease);
        desk.release(&lease).await;
        dependency.free();
    }
}

pub(super) async fn fences_grow_over_take_overs(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let mut dependency = desk.dependency();
    let mut before = desk.started(&mut dependency).await.fence;
    for _ in 0..4 {
        let lease = desk.take_over(&dependency.ask(desk.build())).await;
        higher(&lease, &dependency, &mut before);
        desk.record(&mut dependency, &lease);
    }
    // Somebody who holds it already may take it over too, and is not mistaken for a repetition of the first ask.
    let owner = desk.build();
    let first = desk.take_over(&dependency.ask(owner)).await;
    higher(&first, &dependency, &mut before);
}

pub(super) async fn fences_grow_over_lapses(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let (mut dependency, mut before) = (desk.dependency(), 0);
    let Leases::Expire(lasts) = harness.leases() else {
        // Nothing lapses: the next one has to wait for a release, whatever time has passed.
        let lease = desk.started(&mut dependency).await;
        desk.holds(&dependency, &lease, "leases of this lock never lapse").await;
        return;
    };
    for _ in 0..4 {
        let lease = desk.granted(&dependency.ask(desk.build())).await;
        higher(&lease, &dependency, &mut before);
        desk.pass(lasts * 2).await;
    }
}

/// A fence that the store has passed meanwhile would be refused there.
pub(super) async fn a_lease_that_the_store_has_passed_is_granted_anew(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let mut dependency = desk.dependency();
    let lease = desk.granted(&dependency.ask(desk.build())).await;
    dependency.highest_fence = lease.fence + 6;
    let again = desk.granted(&dependency.ask(lease.owner)).await;
    assert!(again.fence > dependency.highest_fence, "the store would refuse the fence of {again:?}");
}
