//! Faults before a lock that is kept elsewhere.

use super::Faulty;
use capomastro_core::{
    Result, async_trait,
    lock::{Acquired, DependencyLock, Lease, LockAsk},
};

#[async_trait]
impl<L: DependencyLock + ?Sized> DependencyLock for Faulty<L> {
    async fn acquire(&self, ask: &LockAsk) -> Result<Acquired> {
        self.faults.one(true, || self.part.acquire(ask)).await
    }

    async fn renew(&self, leases: &[Lease]) -> Vec<Result<Lease>> {
        self.faults.each(true, leases.len(), || self.part.renew(leases)).await
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        self.faults.one(true, || self.part.release(lease)).await
    }

    async fn take_over(&self, ask: &LockAsk, reason: &str) -> Result<Lease> {
        self.faults.one(true, || self.part.take_over(ask, reason)).await
    }
}
