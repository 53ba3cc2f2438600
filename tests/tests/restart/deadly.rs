//! Parts that kill their own process at a chosen point.

use async_trait::async_trait;
use capomastro_core::{
    Result,
    launch::{BuildLauncher, Found, Journal, LaunchRequest, Launched, Promise, Report},
    model::{EventSeq, ExternalRef, HolderId, LaunchKey, ProbeKey, Source},
    probe::{Ask, Probed, RevisionProbe},
    store::{
        Batch, ClaimAsk, Claimed, Committed, EventFilter, EventPage, Key, Page, PutBack, Query, Snapshot,
        StateStore, StoreInfo,
    },
};
use rustix::process::{Signal, getpid, kill_process};
use serde_json::Value;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// All points at which a scheduler can be killed between two steps that somebody else sees.
pub(crate) const POINTS: [&str; 12] = [
    "before commit",
    "after commit",
    "after claim",
    "before return",
    "after return",
    "before probe",
    "after probe",
    "before launch",
    "before keep",
    "after launch",
    "before observe",
    "after observe",
];

/// One of the times that a process comes to a point: the name of the point, and the number of the time, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) point: String,
    pub(crate) time: u64,
    /// It is frozen there, not killed.
    pub(crate) freezes: bool,
}

/// Counts the points that this process comes to, and kills it with `SIGKILL` at one of them, or freezes it with `SIGSTOP`.
#[derive(Clone, Debug)]
pub(crate) struct Points {
    last: Option<Place>,
    passed: Arc<AtomicU64>,
}

impl Points {
    /// Dies at this place; never, if there is none.
    pub(crate) fn new(last: Option<Place>) -> Self {
        Self { last, passed: Arc::default() }
    }

    fn pass(&self, name: &str) {
        if let Some(last) = self.last.as_ref().filter(|l| l.point == name)
            && self.passed.fetch_add(1, Ordering::SeqCst) + 1 == last.time
        {
            if last.freezes {
                kill_process(getpid(), Signal::STOP).unwrap();
                return;
            }
            kill_process(getpid(), Signal::KILL).unwrap();
            loop {
                std::thread::park();
            }
        }
    }
}

/// A part, and the points before and after what it does.
#[derive(Debug)]
pub(crate) struct Deadly<T>(pub(crate) T, pub(crate) Points);

#[async_trait]
impl<T: StateStore> StateStore for Deadly<T> {
    async fn check(&self) -> Result<StoreInfo> {
        self.0.check().await
    }
    async fn get(&self, keys: &[Key]) -> Result<Snapshot> {
        self.0.get(keys).await
    }
    async fn list(&self, query: &Query, after: Option<&str>, limit: usize) -> Result<Page> {
        self.0.list(query, after, limit).await
    }
    async fn events(&self, filter: EventFilter, after: EventSeq, limit: usize) -> Result<EventPage> {
        self.0.events(filter, after, limit).await
    }
    async fn commit(&self, batch: &Batch) -> Result<Committed> {
        self.1.pass("before commit");
        let committed = self.0.commit(batch).await;
        self.1.pass("after commit");
        committed
    }
    async fn claim_due(&self, ask: &ClaimAsk) -> Result<Claimed> {
        let claimed = self.0.claim_due(ask).await;
        // Looking in vain changes nothing.
        if claimed.as_ref().is_ok_and(|c| !c.claims.is_empty()) {
            self.1.pass("after claim");
        }
        claimed
    }
    async fn put_back(&self, holder: &HolderId, items: &[PutBack]) -> Result<()> {
        self.1.pass("before return");
        let returned = self.0.put_back(holder, items).await;
        self.1.pass("after return");
        returned
    }
}

#[derive(Debug)]
struct DeadlyJournal<'a>(&'a dyn Journal, &'a Points);

#[async_trait]
impl Journal for DeadlyJournal<'_> {
    async fn keep(&self, memo: Value) -> Result<()> {
        // What comes after it are the points around its commit.
        self.1.pass("before keep");
        self.0.keep(memo).await
    }
}

#[async_trait]
impl<T: BuildLauncher> BuildLauncher for Deadly<T> {
    fn promise(&self) -> Promise {
        self.0.promise()
    }
    fn check_job(&self, job: &Value) -> Result<()> {
        self.0.check_job(job)
    }
    async fn launch(&self, request: &LaunchRequest, journal: &dyn Journal) -> Result<Launched> {
        self.1.pass("before launch");
        let launched = self.0.launch(request, &DeadlyJournal(journal, &self.1)).await;
        self.1.pass("after launch");
        launched
    }
    async fn find(&self, request: &LaunchRequest) -> Result<Found> {
        self.0.find(request).await
    }
    async fn observe(&self, builds: &[(LaunchKey, ExternalRef)]) -> Vec<Result<Report>> {
        self.1.pass("before observe");
        let reports = self.0.observe(builds).await;
        self.1.pass("after observe");
        reports
    }
    async fn cancel(&self, key: &LaunchKey, build: &ExternalRef) -> Result<()> {
        self.0.cancel(key, build).await
    }
}

#[async_trait]
impl<T: RevisionProbe> RevisionProbe for Deadly<T> {
    fn key(&self, source: &Source) -> Result<ProbeKey> {
        self.0.key(source)
    }
    async fn probe(&self, asks: &[Ask]) -> Vec<Result<Probed>> {
        self.1.pass("before probe");
        let answers = self.0.probe(asks).await;
        self.1.pass("after probe");
        answers
    }
}
