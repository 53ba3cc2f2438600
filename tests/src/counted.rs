//! What a benchmark asks of a store, counted.

use capomastro_core::{
    Result, async_trait,
    model::{EventSeq, HolderId},
    store::{
        Batch, ClaimAsk, Claimed, Committed, EventFilter, EventPage, Key, Page, PutBack, Query, Snapshot,
        StateStore, StoreInfo,
    },
};
use capomastro_store_sqlite::SqliteStore;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A store that counts what it writes: each commit waits for the disk, claims and their return do not.
#[derive(Debug)]
pub struct Counted {
    store: SqliteStore,
    durable: AtomicUsize,
    lossy: AtomicUsize,
}

impl Counted {
    /// Nothing is counted yet.
    pub const fn new(store: SqliteStore) -> Self {
        Self { store, durable: AtomicUsize::new(0), lossy: AtomicUsize::new(0) }
    }

    /// How many batches were to be durable.
    pub fn durable(&self) -> usize {
        self.durable.load(Ordering::Relaxed)
    }

    /// How often claims were taken or given back.
    pub fn lossy(&self) -> usize {
        self.lossy.load(Ordering::Relaxed)
    }

    /// Closes the store.
    pub async fn close(&self) {
        self.store.close().await;
    }
}

#[async_trait]
impl StateStore for Counted {
    async fn check(&self) -> Result<StoreInfo> {
        self.store.check().await
    }

    async fn get(&self, keys: &[Key]) -> Result<Snapshot> {
        self.store.get(keys).await
    }

    async fn list(&self, query: &Query, after: Option<&str>, limit: usize) -> Result<Page> {
        self.store.list(query, after, limit).await
    }

    async fn events(&self, filter: EventFilter, after: EventSeq, limit: usize) -> Result<EventPage> {
        self.store.events(filter, after, limit).await
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed> {
        self.durable.fetch_add(1, Ordering::Relaxed);
        self.store.commit(batch).await
    }

    async fn claim_due(&self, ask: &ClaimAsk) -> Result<Claimed> {
        let claimed = self.store.claim_due(ask).await?;
        // Asking in vain writes nothing.
        self.lossy.fetch_add(usize::from(!claimed.claims.is_empty()), Ordering::Relaxed);
        Ok(claimed)
    }

    async fn put_back(&self, holder: &HolderId, items: &[PutBack]) -> Result<()> {
        self.lossy.fetch_add(1, Ordering::Relaxed);
        self.store.put_back(holder, items).await
    }
}
