//! A harness may own a runtime, and may be made of what needs one.

use capomastro_core::{
    async_trait,
    lock::{DependencyLock, StoreLock},
};
use capomastro_testkit::conformance::{
    Time,
    lock::{Leases, LockHarness},
};
use std::sync::Arc;
use tokio::runtime::{Handle, Runtime};

/// Its lock is made on a runtime of the harness's own, as one with a connection that outlives each case would be.
#[derive(Debug)]
struct Owning(Runtime);

#[async_trait]
impl LockHarness for Owning {
    fn time(&self) -> Time {
        Time::Machine
    }

    fn leases(&self) -> Leases {
        Leases::InTheStore
    }

    async fn open(&self) -> Arc<dyn DependencyLock> {
        self.0.spawn(async { Arc::new(StoreLock) }).await.expect("a lock")
    }

    async fn cut(&self, _cut: bool) -> bool {
        false
    }
}

capomastro_testkit::dependency_lock_conformance!(of_its_own, Owning(Runtime::new().expect("a runtime")));

/// What it is made of is spawned before the first case begins.
#[derive(Debug)]
struct Spawned(Handle);

impl Spawned {
    fn new() -> Self {
        tokio::spawn(std::future::ready(()));
        Self(Handle::current())
    }
}

#[async_trait]
impl LockHarness for Spawned {
    fn time(&self) -> Time {
        Time::Machine
    }

    fn leases(&self) -> Leases {
        Leases::InTheStore
    }

    async fn open(&self) -> Arc<dyn DependencyLock> {
        self.0.spawn(async { Arc::new(StoreLock) }).await.expect("a lock")
    }

    async fn cut(&self, _cut: bool) -> bool {
        false
    }
}

capomastro_testkit::dependency_lock_conformance!(of_the_case, Spawned::new());
