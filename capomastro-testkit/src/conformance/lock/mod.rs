//! What every [`DependencyLock`] must do, as cases: each a test of its own, none of which can be forgotten.
//!
//! A lock of one's own is tested by a harness and one line. The harness makes locks, says how their leases end, and can
//! keep a lock from what is behind it. The macro makes one `#[test]` for each case:
//!
//! ```
//! use capomastro_core::{async_trait, lock::DependencyLock};
//! use capomastro_testkit::{
//!     conformance::{Time, lock::{Leases, LockHarness}},
//!     fakes::{ExpiringLock, ManualClock},
//! };
//! use std::{sync::{Arc, Mutex}, time::Duration};
//!
//! /// `ExpiringLock`, which stands for a lock of one's own: its clones share one server.
//! #[derive(Debug, Default)]
//! struct Mine {
//!     clock: ManualClock,
//!     server: Mutex<Option<ExpiringLock>>,
//! }
//!
//! const LASTS: Duration = Duration::from_secs(30);
//!
//! #[async_trait]
//! impl LockHarness for Mine {
//!     fn time(&self) -> Time {
//!         Time::Manual(self.clock.clone())
//!     }
//!     fn leases(&self) -> Leases {
//!         Leases::Expire(LASTS)
//!     }
//!     async fn open(&self) -> Arc<dyn DependencyLock> {
//!         let mut server = self.server.lock().unwrap();
//!         let clock = Arc::new(self.clock.clone());
//!         Arc::new(server.get_or_insert_with(|| ExpiringLock::new(clock, LASTS)).clone())
//!     }
//!     async fn cut(&self, cut: bool) -> bool {
//!         self.server.lock().unwrap().iter().for_each(|server| server.unreachable(cut));
//!         true
//!     }
//! }
//!
//! capomastro_testkit::dependency_lock_conformance!(Mine::default());
//! ```
//!
//! The cases play the scheduler: they ask for a lock only as a scheduler would, and say in each ask what its store would
//! say.

mod desk;
mod fences;
mod granting;
mod lasting;
mod places;
mod releasing;
mod renewing;
mod taking_over;

use crate::conformance::{Time, suite};
use capomastro_core::{async_trait, lock::DependencyLock};
use std::{fmt, sync::Arc, time::Duration};

/// How the leases of a lock end.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Leases {
    /// The lock has no place of its own: the store's record says who holds what, as with
    /// [`StoreLock`](capomastro_core::lock::StoreLock). Its leases never expire.
    InTheStore,
    /// The lock keeps them in a place of its own, and they lapse when they have not been renewed for this long.
    Expire(Duration),
    /// The lock keeps them in a place of its own, until they are released or taken over.
    UntilReleased,
}

/// Makes the locks that are tested. One harness is one place in which locks are kept, empty at first.
#[async_trait]
pub trait LockHarness: fmt::Debug + Send + Sync {
    /// The time by which leases lapse.
    fn time(&self) -> Time;

    /// How the leases of this lock end.
    fn leases(&self) -> Leases;

    /// The lock, opened as a process does at its start: two of them are two processes at one place.
    async fn open(&self) -> Arc<dyn DependencyLock>;

    /// Keeps every lock of this harness from reaching its place, or lets it again. `false` if there is nothing that could
    /// be out of reach; it is expected then that every answer comes at once.
    async fn cut(&self, cut: bool) -> bool;
}

suite! {
    lock, LockHarness, dependency_lock_conformance:
    granting:
        a_free_lock_is_granted
        of_two_owners_one_holds
        a_refusal_says_who_holds_it
        the_same_owner_gets_the_same_lease_again
        each_dependency_has_a_lock_of_its_own
        names_are_for_people
        racing_owners_never_share
        racing_asks_of_one_owner_are_one_ask;
    fences:
        a_fence_is_higher_than_the_stores
        fences_grow_over_releases
        fences_grow_over_take_overs
        fences_grow_over_lapses
        a_lease_that_the_store_has_passed_is_granted_anew;
    lasting:
        a_lease_says_how_long_it_lasts
        a_lease_holds_until_it_lapses
        what_is_not_renewed_lapses
        asking_again_makes_a_lease_last;
    renewing:
        a_renewed_lease_lasts
        a_renewed_lease_keeps_its_owner_and_fence
        renewals_are_answered_in_order
        no_leases_no_answers
        a_released_lease_cannot_be_renewed
        a_lease_that_lapsed_cannot_take_the_lock_back;
    releasing:
        a_released_lock_is_free
        releasing_twice_is_harmless
        a_late_release_frees_nothing
        only_the_holder_releases;
    taking_over:
        a_take_over_ousts_the_holder
        a_free_lock_can_be_taken_over
        a_take_over_may_have_any_reason;
    places:
        another_process_meets_the_holder
        another_process_goes_on_with_a_lease
        a_dropped_ask_harms_nobody
        a_lock_out_of_reach_is_an_error
        what_was_held_is_held_when_it_is_back;
}
