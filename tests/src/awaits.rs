//! Parts that really wait at each await, and futures that are dropped at one of them.

use async_trait::async_trait;
use capomastro_core::{
    Result,
    launch::{BuildLauncher, Found, Journal, LaunchRequest, Launched, Promise, Report},
    lock::{Acquired, DependencyLock, Lease, LockAsk},
    model::{EventSeq, ExternalRef, HolderId, LaunchKey, ProbeKey, Source},
    probe::{Ask, Probed, RevisionProbe},
    store::{
        Batch, ClaimAsk, Claimed, Committed, EventFilter, EventPage, Key, Page, PutBack, Query, Snapshot,
        StateStore, StoreInfo,
    },
};
use serde_json::Value;
use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll, Waker},
};

/// Does what the inner part does, and is pending once before and once after each of its calls, as a part is that does I/O.
#[derive(Clone, Debug)]
pub struct Awaits<T>(pub T);

async fn pending_once() {
    let mut first = true;
    poll_fn(move |context| {
        if std::mem::take(&mut first) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

async fn waits<T>(call: impl Future<Output = T>) -> T {
    pending_once().await;
    let answer = call.await;
    pending_once().await;
    answer
}

/// Polls a future at most this often and then drops it. Returns what is left of the number, and the answer if there was
/// one.
pub fn polled<T>(polls: usize, future: impl Future<Output = T>) -> (usize, Option<T>) {
    // Nobody gets a turn in between, so that a budget for being fair to others would never be filled again.
    let mut future = pin!(tokio::task::unconstrained(future));
    let mut context = Context::from_waker(Waker::noop());
    for left in (0..polls).rev() {
        if let Poll::Ready(answer) = future.as_mut().poll(&mut context) {
            return (left, Some(answer));
        }
    }
    (0, None)
}

#[async_trait]
impl<T: StateStore> StateStore for Awaits<T> {
    async fn check(&self) -> Result<StoreInfo> {
        waits(self.0.check()).await
    }
    async fn get(&self, keys: &[Key]) -> Result<Snapshot> {
        waits(self.0.get(keys)).await
    }
    async fn list(&self, query: &Query, after: Option<&str>, limit: usize) -> Result<Page> {
        waits(self.0.list(query, after, limit)).await
    }
    async fn events(&self, filter: EventFilter, after: EventSeq, limit: usize) -> Result<EventPage> {
        waits(self.0.events(filter, after, limit)).await
    }
    async fn commit(&self, batch: &Batch) -> Result<Committed> {
        waits(self.0.commit(batch)).await
    }
    async fn claim_due(&self, ask: &ClaimAsk) -> Result<Claimed> {
        waits(self.0.claim_due(ask)).await
    }
    async fn put_back(&self, holder: &HolderId, items: &[PutBack]) -> Result<()> {
        waits(self.0.put_back(holder, items)).await
    }
}

#[async_trait]
impl<T: BuildLauncher> BuildLauncher for Awaits<T> {
    fn promise(&self) -> Promise {
        self.0.promise()
    }
    fn check_job(&self, job: &Value) -> Result<()> {
        self.0.check_job(job)
    }
    async fn launch(&self, request: &LaunchRequest, journal: &dyn Journal) -> Result<Launched> {
        waits(self.0.launch(request, journal)).await
    }
    async fn find(&self, request: &LaunchRequest) -> Result<Found> {
        waits(self.0.find(request)).await
    }
    async fn observe(&self, builds: &[(LaunchKey, ExternalRef)]) -> Vec<Result<Report>> {
        waits(self.0.observe(builds)).await
    }
    async fn cancel(&self, key: &LaunchKey, build: &ExternalRef) -> Result<()> {
        waits(self.0.cancel(key, build)).await
    }
}

#[async_trait]
impl<T: RevisionProbe> RevisionProbe for Awaits<T> {
    fn key(&self, source: &Source) -> Result<ProbeKey> {
        self.0.key(source)
    }
    async fn probe(&self, asks: &[Ask]) -> Vec<Result<Probed>> {
        waits(self.0.probe(asks)).await
    }
}

#[async_trait]
impl<T: DependencyLock> DependencyLock for Awaits<T> {
    async fn acquire(&self, ask: &LockAsk) -> Result<Acquired> {
        waits(self.0.acquire(ask)).await
    }
    async fn renew(&self, leases: &[Lease]) -> Vec<Result<Lease>> {
        waits(self.0.renew(leases)).await
    }
    async fn release(&self, lease: &Lease) -> Result<()> {
        waits(self.0.release(lease)).await
    }
    async fn take_over(&self, ask: &LockAsk, reason: &str) -> Result<Lease> {
        waits(self.0.take_over(ask, reason)).await
    }
}
