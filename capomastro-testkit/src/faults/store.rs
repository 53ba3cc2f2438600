//! Faults before a store.

use super::Faulty;
use capomastro_core::{
    Result, async_trait,
    model::{EventSeq, HolderId},
    store::{
        Batch, ClaimAsk, Claimed, Committed, EventFilter, EventPage, Key, Page, PutBack, Query, Snapshot,
        StateStore, StoreInfo,
    },
};

#[async_trait]
impl<S: StateStore + ?Sized> StateStore for Faulty<S> {
    async fn check(&self) -> Result<StoreInfo> {
        self.faults.one(false, || self.part.check()).await
    }

    async fn get(&self, keys: &[Key]) -> Result<Snapshot> {
        self.faults.one(false, || self.part.get(keys)).await
    }

    async fn list(&self, query: &Query, after: Option<&str>, limit: usize) -> Result<Page> {
        self.faults.one(false, || self.part.list(query, after, limit)).await
    }

    async fn events(&self, filter: EventFilter, after: EventSeq, limit: usize) -> Result<EventPage> {
        self.faults.one(false, || self.part.events(filter, after, limit)).await
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed> {
        self.faults.one(true, || self.part.commit(batch)).await
    }

    async fn claim_due(&self, ask: &ClaimAsk) -> Result<Claimed> {
        self.faults.one(true, || self.part.claim_due(ask)).await
    }

    async fn put_back(&self, holder: &HolderId, items: &[PutBack]) -> Result<()> {
        self.faults.one(true, || self.part.put_back(holder, items)).await
    }
}
