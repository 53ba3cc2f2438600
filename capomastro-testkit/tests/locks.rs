//! The lock in the store's record and the fake of a lock elsewhere are what a lock must be.

use capomastro_core::{
    async_trait,
    lock::{DependencyLock, StoreLock},
};
use capomastro_testkit::{
    conformance::{
        Time,
        lock::{Leases, LockHarness},
    },
    fakes::{ExpiringLock, ManualClock},
};
use std::{sync::Arc, time::Duration};

#[derive(Debug)]
struct InTheStore;

#[async_trait]
impl LockHarness for InTheStore {
    fn time(&self) -> Time {
        Time::Machine
    }

    fn leases(&self) -> Leases {
        Leases::InTheStore
    }

    async fn open(&self) -> Arc<dyn DependencyLock> {
        Arc::new(StoreLock)
    }

    async fn cut(&self, _cut: bool) -> bool {
        false
    }
}

capomastro_testkit::dependency_lock_conformance!(store_lock, InTheStore);

const LASTS: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Elsewhere {
    clock: ManualClock,
    server: ExpiringLock,
}

impl Elsewhere {
    fn new() -> Self {
        let clock = ManualClock::new();
        Self { server: ExpiringLock::new(Arc::new(clock.clone()), LASTS), clock }
    }
}

#[async_trait]
impl LockHarness for Elsewhere {
    fn time(&self) -> Time {
        Time::Manual(self.clock.clone())
    }

    fn leases(&self) -> Leases {
        Leases::Expire(LASTS)
    }

    async fn open(&self) -> Arc<dyn DependencyLock> {
        Arc::new(self.server.clone())
    }

    async fn cut(&self, cut: bool) -> bool {
        self.server.unreachable(cut);
        true
    }
}

capomastro_testkit::dependency_lock_conformance!(expiring_lock, Elsewhere::new());
