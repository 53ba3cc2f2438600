//! What a case works with: locks at one place, a store's record of each dependency, and short ways to say what is expected.

use super::{Leases, LockHarness};
use capomastro_core::{
    Result,
    lock::{Acquired, DependencyLock, Lease, LockAsk},
    model::{BuildId, DependencyId, Held, Parameters},
    time::Timestamp,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use uuid::Uuid;

pub(super) struct Desk<'a> {
    pub(super) harness: &'a dyn LockHarness,
    pub(super) lock: Arc<dyn DependencyLock>,
    ids: AtomicU64,
}

/// What a scheduler's store says of a dependency.
#[derive(Clone, Debug)]
pub(super) struct Dependency {
    id: DependencyId,
    name: &'static str,
    pub(super) stored: Option<Held>,
    pub(super) highest_fence: u64,
}

impl Dependency {
    pub(super) fn named(&self, name: &'static str) -> Self {
        Self { name, ..self.clone() }
    }

    /// What one who would own it with this build asks.
    pub(super) fn ask(&self, owner: BuildId) -> LockAsk {
        let name = self.name.parse().expect("a name");
        LockAsk::new(self.id, name, owner, self.stored.clone(), self.highest_fence)
    }

    /// The commit that starts a build under this lease.
    pub(super) fn record(&mut self, lease: &Lease) {
        self.highest_fence = self.highest_fence.max(lease.fence);
        self.stored = Some(Held {
            owner: lease.owner,
            fence: lease.fence,
            revision: "r1".parse().expect("a revision"),
            epoch: 1,
            parameters: Parameters::new(),
            stopping: false,
            since: Timestamp::UNIX_EPOCH,
        });
    }

    /// The commit that ends the build.
    pub(super) fn free(&mut self) {
        self.stored = None;
    }
}

impl<'a> Desk<'a> {
    pub(super) async fn new(harness: &'a dyn LockHarness) -> Self {
        Self { harness, lock: harness.open().await, ids: AtomicU64::new(0) }
    }

    fn uuid(&self) -> Uuid {
        let n = self.ids.fetch_add(1, Ordering::Relaxed) + 1;
        Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + u128::from(n))
    }

    pub(super) fn build(&self) -> BuildId {
        BuildId::from_uuid(self.uuid())
    }

    pub(super) fn dependency(&self) -> Dependency {
        Dependency { id: DependencyId::from_uuid(self.uuid()), name: "lib", stored: None, highest_fence: 0 }
    }

    /// Whether only the store knows who holds what.
    pub(super) fn is_in_the_store(&self) -> bool {
        self.harness.leases() == Leases::InTheStore
    }

    pub(super) async fn pass(&self, by: Duration) {
        self.harness.time().pass(by).await;
    }

    pub(super) async fn acquire(&self, ask: &LockAsk) -> Acquired {
        self.lock.acquire(ask).await.expect("the lock can be asked")
    }

    /// Asks for what must be granted, and looks at the lease.
    pub(super) async fn granted(&self, ask: &LockAsk) -> Lease {
        match self.acquire(ask).await {
            Acquired::Granted(lease) => {
                assert_eq!(
                    lease.dependency, ask.dependency,
                    "a lease is of the dependency that was asked for"
                );
                assert_eq!(lease.owner, ask.owner, "a lease is the asker's");
                lease
            }
            Acquired::Held { by } => panic!("a lock that is free is granted, not held by {by:?}"),
        }
    }

    /// Grants to a new build, as a scheduler that starts it: the lock is asked, and the store's record is written.
    pub(super) async fn started(&self, dependency: &mut Dependency) -> Lease {
        let lease = self.granted(&dependency.ask(self.build())).await;
        self.record(dependency, &lease);
        lease
    }

    /// Writes the store's record where only it knows who holds what. A lock with a place of its own must do without.
    pub(super) fn record(&self, dependency: &mut Dependency, lease: &Lease) {
        if self.is_in_the_store() {
            dependency.record(lease);
        }
    }

    /// Asks for what another one holds.
    pub(super) async fn refused(&self, ask: &LockAsk) -> String {
        match self.acquire(ask).await {
            Acquired::Held { by } => by,
            Acquired::Granted(lease) => panic!("another one holds the lock, but it was granted: {lease:?}"),
        }
    }

    pub(super) async fn renew(&self, lease: &Lease) -> Result<Lease> {
        let mut answers = self.lock.renew(std::slice::from_ref(lease)).await;
        assert_eq!(answers.len(), 1, "one answer for each lease");
        answers.remove(0)
    }

    pub(super) async fn release(&self, lease: &Lease) {
        self.lock.release(lease).await.expect("a lease is given back");
    }

    pub(super) async fn take_over(&self, ask: &LockAsk) -> Lease {
        self.lock.take_over(ask, "a person said so").await.expect("the lock is taken over")
    }

    /// The lease still holds: another one is refused, and its owner may go on.
    pub(super) async fn holds(&self, dependency: &Dependency, lease: &Lease, why: &str) {
        match self.acquire(&dependency.ask(self.build())).await {
            Acquired::Held { .. } => {}
            Acquired::Granted(other) => panic!("{why}: the lock is held, but was granted: {other:?}"),
        }
        let renewed = self.renew(lease).await;
        assert!(renewed.is_ok(), "{why}: a lease that holds can be renewed, but: {renewed:?}");
    }
}
