//! A store below what is wrong that is not asked for ever.

use async_trait::async_trait;
use capomastro_core::{
    Result,
    model::{EventSeq, HolderId},
    store::{
        Batch, ClaimAsk, Claimed, Committed, EventFilter, EventPage, Key, Page, PutBack, Query, Snapshot,
        StateStore, StoreInfo,
    },
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// How often a store may be asked. Sound parts ask about 3,000 times at most, in any case, history or scene.
const MOST: usize = 20_000;

/// Fails when it was asked so often that it will be asked for ever. That is the same on any machine, and leaves no thread
/// behind that spins.
#[derive(Debug)]
pub(crate) struct Patient {
    inner: Arc<dyn StateStore>,
    asked: AtomicUsize,
}

impl Patient {
    pub(crate) fn over(inner: Arc<dyn StateStore>) -> Arc<dyn StateStore> {
        Arc::new(Self { inner, asked: AtomicUsize::new(0) })
    }

    fn asked(&self) -> &dyn StateStore {
        assert!(self.asked.fetch_add(1, Ordering::Relaxed) < MOST, "the store is asked for ever");
        &*self.inner
    }
}

#[async_trait]
impl StateStore for Patient {
    async fn check(&self) -> Result<StoreInfo> {
        self.asked().check().await
    }
    async fn get(&self, keys: &[Key]) -> Result<Snapshot> {
        self.asked().get(keys).await
    }
    async fn list(&self, query: &Query, after: Option<&str>, limit: usize) -> Result<Page> {
        self.asked().list(query, after, limit).await
    }
    async fn events(&self, filter: EventFilter, after: EventSeq, limit: usize) -> Result<EventPage> {
        self.asked().events(filter, after, limit).await
    }
    async fn commit(&self, batch: &Batch) -> Result<Committed> {
        self.asked().commit(batch).await
    }
    async fn claim_due(&self, ask: &ClaimAsk) -> Result<Claimed> {
        self.asked().claim_due(ask).await
    }
    async fn put_back(&self, holder: &HolderId, items: &[PutBack]) -> Result<()> {
        self.asked().put_back(holder, items).await
    }
}
