//! Making leases last.

use super::{Leases, LockHarness, desk::Desk};
use capomastro_core::ErrorKind;

pub(super) async fn a_renewed_lease_lasts(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let mut dependency = desk.dependency();
    let mut lease = desk.started(&mut dependency).await;
    for _ in 0..3 {
        if let Leases::Expire(lasts) = harness.leases() {
            desk.pass(lasts * 6 / 10).await;
        }
        lease = desk.renew(&lease).await.expect("a lease that holds is renewed");
    }
    desk.refused(&dependency.ask(desk.build())).await;
}

pub(super) async fn a_renewed_lease_keeps_its_owner_and_fence(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let mut dependency = desk.dependency();
    let lease = desk.started(&mut dependency).await;
    let renewed = desk.renew(&lease).await.expect("a lease that holds is renewed");
    assert_eq!(
        (renewed.dependency, renewed.owner, renewed.fence),
        (lease.dependency, lease.owner, lease.fence),
        "the store knows the lease by these"
    );
    let again = desk.granted(&dependency.ask(lease.owner)).await;
    assert_eq!(again.fence, lease.fence, "and so does the lock");
}

pub(super) async fn renewals_are_answered_in_order(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let mut leases = Vec::new();
    for _ in 0..5 {
        leases.push(desk.started(&mut desk.dependency()).await);
    }
    desk.release(&leases[1]).await;
    desk.release(&leases[3]).await;
    let answers = desk.lock.renew(&leases).await;
    assert_eq!(answers.len(), leases.len(), "one answer for each lease");
    for (n, (answer, lease)) in answers.into_iter().zip(&leases).enumerate() {
        match answer {
            Ok(renewed) => {
                assert_eq!(renewed.dependency, lease.dependency, "answers come in the order of the leases");
                assert!(desk.is_in_the_store() || n % 2 == 0, "{n} was released");
            }
            Err(e) => assert!(n % 2 == 1, "what holds is renewed beside what is lost, not {e:?}"),
        }
    }
}

pub(super) async fn no_leases_no_answers(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    desk.started(&mut desk.dependency()).await;
    assert!(desk.lock.renew(&[]).await.is_empty(), "there is nothing to answer");
}

pub(super) async fn a_released_lease_cannot_be_renewed(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let mut dependency = desk.dependency();
    let lease = desk.started(&mut dependency).await;
    desk.release(&lease).await;
    dependency.free();
    match desk.renew(&lease).await {
        Ok(renewed) => {
            assert!(desk.is_in_the_store(), "it is not held any more, but was renewed: {renewed:?}")
        }
        Err(e) => assert_eq!(e.kind(), ErrorKind::LeaseLost, "{e:?}"),
    }
    desk.granted(&dependency.ask(desk.build())).await;
}

pub(super) async fn a_lease_that_lapsed_cannot_take_the_lock_back(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let mut dependency = desk.dependency();
    let late = desk.started(&mut dependency).await;
    let lease = match harness.leases() {
        Leases::Expire(lasts) => {
            desk.pass(lasts * 2).await;
            desk.started(&mut dependency).await
        }
        // It never lapses, so it is taken away.
        Leases::InTheStore | Leases::UntilReleased => desk.take_over(&dependency.ask(desk.build())).await,
    };
    match desk.renew(&late).await {
        Ok(renewed) => {
            assert!(desk.is_in_the_store(), "another one holds it, but it was renewed: {renewed:?}")
        }
        Err(e) => assert_eq!(e.kind(), ErrorKind::LeaseLost, "{e:?}"),
    }
    desk.record(&mut dependency, &lease);
    desk.holds(&dependency, &lease, "a late renewal came").await;
}
