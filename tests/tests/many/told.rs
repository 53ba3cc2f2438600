//! A store that tells how commits ended.

use crate::process::append;
use async_trait::async_trait;
use capomastro_core::{
    Result,
    model::{EventSeq, HolderId},
    store::{
        Batch, ClaimAsk, Claimed, Committed, EventFilter, EventPage, Key, Page, PutBack, Query, Snapshot,
        StateStore, StoreInfo,
    },
};
use capomastro_store_postgres::PostgresStore;
use std::path::PathBuf;

/// The store of one process, and the file in which all of them tell what went wrong with commits.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) store: PostgresStore,
    pub(crate) name: String,
    pub(crate) file: PathBuf,
}

#[async_trait]
impl StateStore for Told {
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
        let committed = self.store.commit(batch).await;
        let how = match &committed {
            Ok(c) if c.repeated => "repeated",
            Ok(_) => return committed,
            Err(e) => e.kind().as_str(),
        };
        append(&self.file, &format!("{how} {}\n", self.name));
        committed
    }
    async fn claim_due(&self, ask: &ClaimAsk) -> Result<Claimed> {
        self.store.claim_due(ask).await
    }
    async fn put_back(&self, holder: &HolderId, items: &[PutBack]) -> Result<()> {
        self.store.put_back(holder, items).await
    }
}
