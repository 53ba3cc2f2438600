//! Several processes at one place, and a place that cannot be reached.

use super::{LockHarness, desk::Desk};
use crate::conformance::abandon::abandoned;
use capomastro_core::{Error, ErrorKind, lock::Acquired};
use futures_util::FutureExt;

pub(super) async fn another_process_meets_the_holder(harness: &dyn LockHarness) {
    let mut desk = Desk::new(harness).await;
    let mut dependency = desk.dependency();
    let lease = desk.started(&mut dependency).await;
    desk.lock = harness.open().await;
    desk.refused(&dependency.ask(desk.build())).await;
    let again = desk.granted(&dependency.ask(lease.owner)).await;
    assert_eq!(again.fence, lease.fence, "the owner is the build, not the process");
}

pub(super) async fn another_process_goes_on_with_a_lease(harness: &dyn LockHarness) {
    let mut desk = Desk::new(harness).await;
    let mut dependency = desk.dependency();
    let lease = desk.started(&mut dependency).await;
    // What a store keeps of it.
    let lease = serde_json::to_string(&lease).expect("a lease is JSON");
    let lease = serde_json::from_str(&lease).expect("a lease is read as it was written");
    desk.lock = harness.open().await;
    let lease = desk.renew(&lease).await.expect("another process renews a lease");
    desk.release(&lease).await;
    dependency.free();
    desk.lock = harness.open().await;
    desk.granted(&dependency.ask(desk.build())).await;
}

/// It may hold the lock; its owner can ask again, and give it back.
pub(super) async fn a_dropped_ask_harms_nobody(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    for polls in 0..8 {
        let mut dependency = desk.dependency();
        let ask = dependency.ask(desk.build());
        drop(abandoned(desk.lock.acquire(&ask), polls).await);
        let lease = desk.granted(&ask).await;
        desk.record(&mut dependency, &lease);
        desk.refused(&dependency.ask(desk.build())).await;
        drop(abandoned(desk.lock.renew(std::slice::from_ref(&lease)), polls).await);
        drop(abandoned(desk.lock.release(&lease), polls).await);
        desk.release(&lease).await;
        dependency.free();
        desk.granted(&dependency.ask(desk.build())).await;
    }
}

pub(super) async fn a_lock_out_of_reach_is_an_error(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let mut dependency = desk.dependency();
    let lease = desk.started(&mut dependency).await;
    let ask = dependency.ask(desk.build());
    if !harness.cut(true).await {
        // Nothing is asked of anybody else.
        let answer = desk.lock.acquire(&ask).now_or_never().expect("an answer comes at once");
        assert!(matches!(answer, Ok(Acquired::Held { .. })), "{answer:?}");
        assert!(desk.lock.renew(std::slice::from_ref(&lease)).now_or_never().is_some(), "at once too");
        return;
    }
    let tell = |what: &str, e: Error| {
        assert!(
            !matches!(e.kind(), ErrorKind::LeaseLost | ErrorKind::Held | ErrorKind::NotFound),
            "{what}: a lock that cannot be asked proves nothing, but: {e:?}"
        );
    };
    for ask in [ask, desk.dependency().ask(desk.build())] {
        match desk.lock.acquire(&ask).await {
            Err(e) => tell("acquire", e),
            Ok(answer) => panic!("the lock cannot be asked, but answered {answer:?}"),
        }
        match desk.lock.take_over(&ask, "a person said so").await {
            Err(e) => tell("take_over", e),
            Ok(lease) => panic!("the lock cannot be asked, but granted {lease:?}"),
        }
    }
    match desk.renew(&lease).await {
        Err(e) => tell("renew", e),
        Ok(lease) => panic!("the lock cannot be asked, but renewed {lease:?}"),
    }
    match desk.lock.release(&lease).await {
        Err(e) => tell("release", e),
        Ok(()) => panic!("a lease was not given back, and nobody was told"),
    }
}

pub(super) async fn what_was_held_is_held_when_it_is_back(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let mut dependency = desk.dependency();
    let lease = desk.started(&mut dependency).await;
    if harness.cut(true).await {
        let ask = dependency.ask(desk.build());
        assert!(desk.lock.acquire(&ask).await.is_err(), "it cannot be asked");
        assert!(desk.lock.release(&lease).await.is_err(), "it cannot be asked");
        assert!(harness.cut(false).await, "what was out of reach is in reach again");
    }
    desk.holds(&dependency, &lease, "the lock was out of reach for a while").await;
    desk.release(&lease).await;
    dependency.free();
    desk.granted(&dependency.ask(desk.build())).await;
}
