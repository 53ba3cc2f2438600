//! Parts with one defect each, which the simulator must find.

use async_trait::async_trait;
use capomastro_core::{
    Result,
    launch::{BuildLauncher, Found, Journal, LaunchRequest, Launched, Promise, Report, SendBefore},
    model::{CommitId, EventSeq, ExternalRef, HolderId, LaunchKey},
    store::{
        Batch, ClaimAsk, Claimed, Committed, DueChange, EventFilter, EventPage, Key, Page, PutBack, Query,
        Snapshot, StateStore, StoreInfo,
    },
    time::{Monotonic, Random},
};
use capomastro_testkit::SeededRandom;
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// What a scheduler is made to forget when it commits.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Forgets {
    Nudges,
    Guards,
    Claims,
    /// Each repetition has an id of its own.
    CommitId,
}

#[derive(Debug)]
pub(crate) struct Careless {
    pub(crate) inner: Arc<dyn StateStore>,
    pub(crate) forgets: Forgets,
    pub(crate) random: SeededRandom,
}

#[async_trait]
impl StateStore for Careless {
    async fn check(&self) -> Result<StoreInfo> {
        self.inner.check().await
    }
    async fn get(&self, keys: &[Key]) -> Result<Snapshot> {
        self.inner.get(keys).await
    }
    async fn list(&self, query: &Query, after: Option<&str>, limit: usize) -> Result<Page> {
        self.inner.list(query, after, limit).await
    }
    async fn events(&self, filter: EventFilter, after: EventSeq, limit: usize) -> Result<EventPage> {
        self.inner.events(filter, after, limit).await
    }
    async fn commit(&self, batch: &Batch) -> Result<Committed> {
        let mut batch = batch.clone();
        match self.forgets {
            Forgets::Nudges => batch.due.retain(|d| !matches!(d, DueChange::Nudge { .. })),
            Forgets::Guards => batch.guards.clear(),
            Forgets::Claims => batch.claims.clear(),
            Forgets::CommitId => batch.id = CommitId::from_uuid(Uuid::from_u128(self.random.bits())),
        }
        self.inner.commit(&batch).await
    }
    async fn claim_due(&self, ask: &ClaimAsk) -> Result<Claimed> {
        self.inner.claim_due(ask).await
    }
    async fn put_back(&self, holder: &HolderId, items: &[PutBack]) -> Result<()> {
        self.inner.put_back(holder, items).await
    }
}

/// A launcher that sends whenever it wakes up.
#[derive(Debug)]
pub(crate) struct Tardy(pub(crate) Arc<dyn BuildLauncher>);

#[async_trait]
impl BuildLauncher for Tardy {
    fn promise(&self) -> Promise {
        self.0.promise()
    }
    fn check_job(&self, job: &Value) -> Result<()> {
        self.0.check_job(job)
    }
    async fn launch(&self, request: &LaunchRequest, journal: &dyn Journal) -> Result<Launched> {
        let mut request = request.clone();
        request.send_before = SendBefore(Monotonic(Duration::MAX));
        self.0.launch(&request, journal).await
    }
    async fn find(&self, request: &LaunchRequest) -> Result<Found> {
        self.0.find(request).await
    }
    async fn observe(&self, builds: &[(LaunchKey, ExternalRef)]) -> Vec<Result<Report>> {
        self.0.observe(builds).await
    }
    async fn cancel(&self, key: &LaunchKey, build: &ExternalRef) -> Result<()> {
        self.0.cancel(key, build).await
    }
}
