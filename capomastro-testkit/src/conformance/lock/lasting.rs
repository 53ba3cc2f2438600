//! How long a lease holds.

use super::{Leases, LockHarness, desk::Desk};
use std::time::Duration;

/// Long, where nothing lapses.
const LONG: Duration = Duration::from_millis(200);

pub(super) async fn a_lease_says_how_long_it_lasts(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let mut dependency = desk.dependency();
    let lease = desk.started(&mut dependency).await;
    let renewed = desk.renew(&lease).await.expect("a lease that holds is renewed");
    let other = desk.dependency();
    let taken = desk.take_over(&other.ask(desk.build())).await;
    for lease in [lease, renewed, taken] {
        match harness.leases() {
            Leases::Expire(lasts) => {
                let said = lease.expires_in.expect("a lease that expires says when");
                assert!(said <= lasts && said > Duration::ZERO, "it lasts {lasts:?}, not {said:?}");
            }
            Leases::InTheStore | Leases::UntilReleased => {
                assert_eq!(lease.expires_in, None, "a lease that does not expire says so");
            }
        }
    }
}

pub(super) async fn a_lease_holds_until_it_lapses(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let mut dependency = desk.dependency();
    desk.started(&mut dependency).await;
    match harness.leases() {
        Leases::Expire(lasts) => desk.pass(lasts / 2).await,
        Leases::InTheStore | Leases::UntilReleased => desk.pass(LONG).await,
    }
    desk.refused(&dependency.ask(desk.build())).await;
}

pub(super) async fn what_is_not_renewed_lapses(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let mut dependency = desk.dependency();
    let lease = desk.started(&mut dependency).await;
    let Leases::Expire(lasts) = harness.leases() else {
        desk.pass(LONG).await;
        desk.holds(&dependency, &lease, "leases of this lock never lapse").await;
        return;
    };
    desk.pass(lasts * 2).await;
    desk.granted(&dependency.ask(desk.build())).await;
}

/// The answer to the first ask may have been lost, so the one who repeats it has the whole time before it.
pub(super) async fn asking_again_makes_a_lease_last(harness: &dyn LockHarness) {
    let desk = Desk::new(harness).await;
    let mut dependency = desk.dependency();
    let lease = desk.started(&mut dependency).await;
    let lasts = match harness.leases() {
        Leases::Expire(lasts) => lasts,
        Leases::InTheStore | Leases::UntilReleased => LONG,
    };
    desk.pass(lasts * 6 / 10).await;
    let again = desk.granted(&dependency.ask(lease.owner)).await;
    // Either it lasts from now on, or it says how little is left of it.
    let left = again.expires_in.unwrap_or(lasts);
    desk.pass(left * 6 / 10).await;
    desk.refused(&dependency.ask(desk.build())).await;
}
