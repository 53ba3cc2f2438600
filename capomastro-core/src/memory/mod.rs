//! A state store in memory: for tests, dry runs, and programs that may forget everything when they end.

mod due;
mod state;
mod stream;

use crate::{
    Error, Result,
    events::StoredEvent,
    model::{CommitId, EventSeq, HolderId},
    store::{
        Batch, ClaimAsk, Claimed, Committed, DueRow, EventFilter, EventPage, Key, Page, PutBack, Query,
        Snapshot, StateStore, StoreInfo, Task, Versioned, refusals::check_limit,
    },
    time::{Clock, Timestamp},
};
use async_trait::async_trait;
use chrono::SubsecRound;
use state::State;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A state store in memory. A clone shares the data; what it keeps is lost with the last clone.
///
/// Deterministic: the same calls at the same times give the same answers.
///
/// ```
/// use capomastro_core::{memory::InMemoryStore, store::StateStore, time::SystemClock};
/// use std::sync::Arc;
///
/// let store = InMemoryStore::new(Arc::new(SystemClock));
/// let same = store.clone();
/// let copy = store.fork();
/// assert_eq!(store.dump(), copy.dump());
/// # let _: Arc<dyn StateStore> = Arc::new(same);
/// ```
#[derive(Clone)]
pub struct InMemoryStore {
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
}

/// All that a store in memory keeps, for assertions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dump {
    /// The records, without due rows.
    pub records: BTreeMap<Key, Versioned>,
    /// The due rows.
    pub due: BTreeMap<Task, DueRow>,
    /// For when tasks were nudged that are claimed.
    pub nudges: BTreeMap<Task, Timestamp>,
    /// The events, in order.
    pub events: Vec<StoredEvent>,
    /// The ids of commits that are remembered.
    pub commits: BTreeSet<CommitId>,
}

impl InMemoryStore {
    /// An empty store whose time is that of `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Arc::default() }
    }

    /// A copy that goes its own way from now on, on the same clock.
    #[must_use]
    pub fn fork(&self) -> Self {
        self.fork_on(Arc::clone(&self.clock))
    }

    /// A copy that goes its own way from now on, on another clock.
    #[must_use]
    pub fn fork_on(&self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Arc::new(Mutex::new(self.peek().clone())) }
    }

    /// All that is kept, as it stands at one moment.
    pub fn dump(&self) -> Dump {
        let state = self.peek();
        Dump {
            records: state.records().clone(),
            due: state.due.iter().map(|row| (row.task, row)).collect(),
            nudges: state.due.nudges().collect(),
            events: state.stream.iter().cloned().collect(),
            commits: state.commit_ids().collect(),
        }
    }

    /// All records, without due rows, in the order of their keys.
    pub fn records(&self) -> Vec<Versioned> {
        self.peek().records().values().cloned().collect()
    }

    /// The state for a look at it, even after a panic.
    fn peek(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state and the time, for one step.
    fn step(&self) -> Result<(Timestamp, MutexGuard<'_, State>)> {
        let state = self.state.lock().map_err(|_| {
            Error::internal(
                "the store in memory may be half written, since a thread panicked in it: start anew",
            )
        })?;
        Ok((self.clock.now().trunc_subsecs(6), state))
    }
}

impl fmt::Debug for InMemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.peek();
        f.debug_struct("InMemoryStore")
            .field("records", &state.records().len())
            .field("due", &state.due.len())
            .field("events", &state.stream.len())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl StateStore for InMemoryStore {
    async fn check(&self) -> Result<StoreInfo> {
        let (now, _state) = self.step()?;
        Ok(StoreInfo { now, description: "in memory".into() })
    }

    async fn get(&self, keys: &[Key]) -> Result<Snapshot> {
        let (at, state) = self.step()?;
        Ok(Snapshot { at, records: keys.iter().map(|key| state.get(key)).collect() })
    }

    async fn list(&self, query: &Query, after: Option<&str>, limit: usize) -> Result<Page> {
        check_limit(limit)?;
        let (at, state) = self.step()?;
        Ok(state.list(at, query, after, limit))
    }

    async fn events(&self, filter: EventFilter, after: EventSeq, limit: usize) -> Result<EventPage> {
        check_limit(limit)?;
        let (_, state) = self.step()?;
        Ok(state.stream.read(filter, after, limit))
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed> {
        let (now, mut state) = self.step()?;
        state.commit(now, batch)
    }

    async fn claim_due(&self, ask: &ClaimAsk) -> Result<Claimed> {
        let (now, mut state) = self.step()?;
        state.due.claim(now, ask)
    }

    async fn put_back(&self, holder: &HolderId, items: &[PutBack]) -> Result<()> {
        let (now, mut state) = self.step()?;
        state.due.put_back(now, holder, items);
        Ok(())
    }
}
