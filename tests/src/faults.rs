//! A store that fails when a test says so.

use async_trait::async_trait;
use capomastro_core::{
    Error, ErrorKind, Result,
    model::{EventSeq, HolderId},
    store::{
        Batch, ClaimAsk, Claimed, Committed, EventFilter, EventPage, Key, Page, PutBack, Query, Snapshot,
        StateStore, StoreInfo,
    },
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

/// What goes wrong with one commit.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It does not happen, and an error of this kind says so.
    Fails(ErrorKind),
    /// It happens, and nobody is told.
    AnswerLost,
    /// It does not happen, and nobody can tell.
    RequestLost,
}

/// A store whose commits go wrong as a test says. Clones are the same store.
#[derive(Clone, Debug)]
pub struct FaultyStore {
    inner: Arc<dyn StateStore>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    commits: Arc<Mutex<usize>>,
    away: Arc<Mutex<usize>>,
}

impl FaultyStore {
    /// This store, faultless so far.
    pub fn new(inner: Arc<dyn StateStore>) -> Self {
        Self { inner, faults: Arc::default(), commits: Arc::default(), away: Arc::default() }
    }

    /// What goes wrong with the next commits, in order.
    pub fn next_commits(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
    }

    /// How often its next checks find nobody there.
    pub fn is_away_for(&self, checks: usize) {
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = checks;
    }

    /// How many more checks will find nobody there.
    pub fn away(&self) -> usize {
        *self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many commits were asked for.
    pub fn commits(&self) -> usize {
        *self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_fault(&self) -> Fault {
        *self.commits.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or(Fault::None)
    }
}

fn unknown() -> Error {
    Error::new(ErrorKind::OutcomeUnknown, "the test says that the commit's answer is lost")
}

#[async_trait]
impl StateStore for FaultyStore {
    async fn check(&self) -> Result<StoreInfo> {
        let is_away = {
            let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
            let is_away = *away > 0;
            *away = away.saturating_sub(1);
            is_away
        };
        if is_away {
            return Err(Error::new(ErrorKind::Unavailable, "the test says that nobody is there"));
        }
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
        match self.next_fault() {
            Fault::None => self.inner.commit(batch).await,
            Fault::Fails(kind) => Err(Error::new(kind, "the test says that the commit fails")),
            Fault::RequestLost => Err(unknown()),
            Fault::AnswerLost => {
                self.inner.commit(batch).await?;
                Err(unknown())
            }
        }
    }
    async fn claim_due(&self, ask: &ClaimAsk) -> Result<Claimed> {
        self.inner.claim_due(ask).await
    }
    async fn put_back(&self, holder: &HolderId, items: &[PutBack]) -> Result<()> {
        self.inner.put_back(holder, items).await
    }
}
