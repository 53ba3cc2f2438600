//! Giving the lock back.

use super::{LockHarness, desk::Desk};
use capomastro_core::lock::Lease;

pub(super) async fn a_released_lock_is_free(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let mut dependency = desk.dependency();
    let lease = desk.started(&mut dependency).await;
    desk.release(&lease).await;
    dependency.free();
    desk.granted(&dependency.ask(desk.build())).await;
}

pub(super) async fn releasing_twice_is_harmless(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let lease = desk.started(&mut desk.dependency()).await;
    for _ in 0..3 {
        desk.release(&lease).await;
    }
}

pub(super) async fn a_late_release_frees_nothing(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let mut dependency = desk.dependency();
    let late = desk.started(&mut dependency).await;
    desk.release(&late).await;
    dependency.free();
    let lease = desk.started(&mut dependency).await;
    desk.release(&late).await;
    desk.holds(&dependency, &lease, "a late release of an earlier holder came").await;
}

pub(super) async fn only_the_holder_releases(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let mut dependency = desk.dependency();
    let lease = desk.started(&mut dependency).await;
    let strangers = [
        Lease { owner: desk.build(), ..lease.clone() },
        Lease { fence: lease.fence + 1, ..lease.clone() },
        Lease { dependency: desk.dependency().ask(desk.build()).dependency, ..lease.clone() },
    ];
    for stranger in strangers {
        desk.release(&stranger).await;
        desk.holds(&dependency, &lease, "somebody else released it").await;
    }
}
