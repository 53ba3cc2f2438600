//! A store in memory that does one thing otherwise than it should.

use capomastro_core::{
    Error, ErrorKind, Result, async_trait,
    memory::InMemoryStore,
    model::{CommitId, EventSeq, HolderId},
    store::{
        Batch, Claim, ClaimAsk, Claimed, Committed, DueRow, EventFilter, EventPage, Key, Page, PutBack,
        Query, Record, Snapshot, StateStore, StoreInfo, Task, Versioned,
    },
    time::{Clock, Timestamp},
};
use capomastro_testkit::fakes::ManualClock;
use futures_util::FutureExt;
use std::{fmt, sync::Arc};

/// The store in memory, without waiting: it answers at once.
#[derive(Clone, Debug)]
pub(crate) struct Mem {
    store: InMemoryStore,
    clock: ManualClock,
}

fn at_once<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    call.now_or_never().expect("the store in memory answers at once")
}

impl Mem {
    pub(crate) fn new(clock: &ManualClock) -> Self {
        Self { store: InMemoryStore::new(Arc::new(clock.clone())), clock: clock.clone() }
    }

    /// The same store by another clock.
    pub(crate) fn by(self, clock: Arc<dyn Clock>) -> Self {
        Self { store: self.store.fork_on(clock), ..self }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn get(&self, keys: &[Key]) -> Result<Snapshot> {
        at_once(self.store.get(keys))
    }

    pub(crate) fn list(&self, query: &Query, after: Option<&str>, limit: usize) -> Result<Page> {
        at_once(self.store.list(query, after, limit))
    }

    pub(crate) fn events(&self, filter: EventFilter, after: EventSeq, limit: usize) -> Result<EventPage> {
        at_once(self.store.events(filter, after, limit))
    }

    pub(crate) fn commit(&self, batch: &Batch) -> Result<Committed> {
        at_once(self.store.commit(batch))
    }

    pub(crate) fn claim_due(&self, ask: &ClaimAsk) -> Result<Claimed> {
        at_once(self.store.claim_due(ask))
    }

    pub(crate) fn put_back(&self, holder: &HolderId, items: &[PutBack]) -> Result<()> {
        at_once(self.store.put_back(holder, items))
    }

    /// A copy to try things on.
    pub(crate) fn fork(&self) -> Self {
        Self { store: self.store.fork(), clock: self.clock.clone() }
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.store.records().into_iter().map(|stored| stored.record).collect()
    }

    pub(crate) fn stored(&self, key: &Key) -> Option<Versioned> {
        self.get(std::slice::from_ref(key)).ok()?.records.into_iter().next().flatten()
    }

    pub(crate) fn row(&self, task: Task) -> Option<DueRow> {
        match self.stored(&Key::Due(task))?.record {
            Record::Due(row) => Some(row),
            _ => None,
        }
    }

    pub(crate) fn rows(&self) -> Vec<DueRow> {
        self.store.dump().due.into_values().collect()
    }

    /// For when a task was nudged during its claim.
    pub(crate) fn nudged(&self, task: Task) -> Option<Timestamp> {
        self.store.dump().nudges.get(&task).copied()
    }

    pub(crate) fn remembers(&self, commit: CommitId) -> bool {
        self.store.dump().commits.contains(&commit)
    }

    pub(crate) fn last_place(&self) -> EventSeq {
        self.store.dump().events.last().map_or(0, |stored| stored.seq)
    }
}

/// Whether the batch holds the claim of a task.
pub(crate) fn held(batch: &Batch, task: Task) -> Option<&Claim> {
    batch.claims.iter().find(|claim| claim.task == task)
}

pub(crate) fn refuse<T>(kind: ErrorKind) -> Result<T> {
    Err(Error::new(kind, "a twin's own refusal"))
}

/// An id that follows from another one.
pub(crate) fn derived(id: CommitId, by: u128) -> CommitId {
    CommitId::from_uuid(uuid::Uuid::from_u128(id.as_uuid().as_u128() ^ (by << 64)))
}

macro_rules! hooks {
    ($($hook:ident: ($($arg:ident: $type:ty),*) -> $answer:ty, $set:ident;)+) => {
        /// A store that is the one in memory, but for one method.
        pub(crate) struct Bent {
            mem: Mem,
            $($hook: Box<dyn Fn(&Mem, $($type),*) -> Result<$answer> + Send + Sync>,)+
        }

        impl Bent {
            /// What it does otherwise.
            $(pub(crate) fn $set(
                self,
                otherwise: impl Fn(&Mem, $($type),*) -> Result<$answer> + Send + Sync + 'static,
            ) -> Self {
                Self { $hook: Box::new(otherwise), ..self }
            })+
        }
    };
}

hooks! {
    check: () -> StoreInfo, on_check;
    get: (keys: &[Key]) -> Snapshot, on_get;
    list: (query: &Query, after: Option<&str>, limit: usize) -> Page, on_list;
    events: (filter: EventFilter, after: EventSeq, limit: usize) -> EventPage, on_events;
    commit: (batch: Batch) -> Committed, on_commit;
    claim: (ask: ClaimAsk) -> Claimed, on_claim;
    put_back: (holder: &HolderId, items: Vec<PutBack>) -> (), on_put_back;
}

impl Bent {
    /// Does everything as it should, as yet.
    pub(crate) fn new(mem: Mem) -> Self {
        Self {
            mem,
            check: Box::new(|mem| at_once(mem.store.check())),
            get: Box::new(Mem::get),
            list: Box::new(Mem::list),
            events: Box::new(Mem::events),
            commit: Box::new(|mem, batch| mem.commit(&batch)),
            claim: Box::new(|mem, ask| mem.claim_due(&ask)),
            put_back: Box::new(|mem, holder, items| mem.put_back(holder, &items)),
        }
    }
}

impl fmt::Debug for Bent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bent").field("mem", &self.mem).finish_non_exhaustive()
    }
}

#[async_trait]
impl StateStore for Bent {
    async fn check(&self) -> Result<StoreInfo> {
        (self.check)(&self.mem)
    }

    async fn get(&self, keys: &[Key]) -> Result<Snapshot> {
        (self.get)(&self.mem, keys)
    }

    async fn list(&self, query: &Query, after: Option<&str>, limit: usize) -> Result<Page> {
        (self.list)(&self.mem, query, after, limit)
    }

    async fn events(&self, filter: EventFilter, after: EventSeq, limit: usize) -> Result<EventPage> {
        (self.events)(&self.mem, filter, after, limit)
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed> {
        (self.commit)(&self.mem, batch.clone())
    }

    async fn claim_due(&self, ask: &ClaimAsk) -> Result<Claimed> {
        (self.claim)(&self.mem, ask.clone())
    }

    async fn put_back(&self, holder: &HolderId, items: &[PutBack]) -> Result<()> {
        (self.put_back)(&self.mem, holder, items.to_vec())
    }
}

/// Lets others go first, many times: what is checked before is old afterwards.
pub(crate) async fn later_on() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}
