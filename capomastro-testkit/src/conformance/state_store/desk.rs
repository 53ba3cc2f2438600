//! What a case works with: a store, its clock, fresh ids, and short ways to say what is expected.

use super::StoreHarness;
use crate::fakes::ManualClock;
use capomastro_core::{
    ErrorKind,
    events::StoredEvent,
    model::{BuildId, CommitId, DependencyId, HolderId, ProjectId},
    store::{
        Batch, Claim, ClaimAsk, Claimed, Committed, DueChange, DueRow, EventFilter, FIRST_EVENT, Key, Lane,
        LaneAsk, ListKey, Put, PutBack, Query, Record, StateStore, Task, Version, Versioned,
    },
    time::{Clock, Timestamp, later},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use uuid::Uuid;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Clone)]
pub(super) struct Desk {
    pub(super) store: Arc<dyn StateStore>,
    pub(super) clock: ManualClock,
    ids: Arc<AtomicU64>,
}

pub(super) fn holder(name: &str) -> HolderId {
    name.parse().expect("a name")
}

/// The holder of batches that do not say otherwise.
pub(super) fn me() -> HolderId {
    holder("contract-1")
}

/// Somebody else.
pub(super) fn other() -> HolderId {
    holder("contract-2")
}

impl Desk {
    pub(super) async fn fresh(harness: &dyn StoreHarness) -> Self {
        Self { store: harness.fresh().await, clock: harness.clock(), ids: Arc::default() }
    }

    /// The same data, opened again.
    pub(super) async fn reopened(self, harness: &dyn StoreHarness) -> Self {
        Self { store: harness.reopen(self.store).await, ..self }
    }

    fn uuid(&self) -> Uuid {
        let n = self.ids.fetch_add(1, Ordering::Relaxed) + 1;
        Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + u128::from(n))
    }

    pub(super) fn dependency_id(&self) -> DependencyId {
        DependencyId::from_uuid(self.uuid())
    }

    pub(super) fn build_id(&self) -> BuildId {
        BuildId::from_uuid(self.uuid())
    }

    pub(super) fn project_id(&self) -> ProjectId {
        ProjectId::from_uuid(self.uuid())
    }

    pub(super) fn any_uuid(&self) -> Uuid {
        self.uuid()
    }

    /// The store's time: that of the clock, which stands still between the steps of a case.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The store's time after this long.
    pub(super) fn after(&self, by: Duration) -> Timestamp {
        later(self.now(), by)
    }

    /// An empty batch under a fresh id.
    pub(super) fn batch(&self) -> Batch {
        Batch::new(CommitId::from_uuid(self.uuid()), me())
    }

    /// A batch of these changes of due rows, under the claims.
    pub(super) fn due_batch(&self, claims: &[&Claim], due: impl IntoIterator<Item = DueChange>) -> Batch {
        let mut batch = self.batch();
        batch.claims = claims.iter().copied().cloned().collect();
        batch.due = due.into_iter().collect();
        batch
    }

    /// Commits what must succeed and be written for the first time.
    pub(super) async fn commit(&self, batch: &Batch) -> Committed {
        let committed = self.store.commit(batch).await.expect("the batch is committed");
        assert!(!committed.repeated, "the batch was not committed before");
        assert_eq!(committed.at, self.now(), "the time of a commit is the store's");
        committed
    }

    /// Commits what must fail in this way.
    pub(super) async fn refuse(&self, batch: &Batch, kind: ErrorKind) {
        match self.store.commit(batch).await {
            Ok(committed) => panic!("the batch must fail with {kind}, but: {committed:?}"),
            Err(e) => assert_eq!(e.kind(), kind, "{e:?}"),
        }
    }

    /// Creates records.
    pub(super) async fn create(&self, records: impl IntoIterator<Item = Record>) {
        let mut batch = self.batch();
        batch.puts = records.into_iter().map(create).collect();
        self.commit(&batch).await;
    }

    /// Writes a record whatever its stored version is. Returns the new version.
    pub(super) async fn write(&self, record: Record) -> Version {
        let key = record.key();
        let mut batch = self.batch();
        batch.puts = vec![Put { expect: self.version(&key).await, record }];
        self.commit(&batch).await;
        self.version(&key).await.expect("what was written is there")
    }

    /// Deletes a record whatever its stored version is.
    pub(super) async fn delete(&self, key: Key) {
        let mut batch = self.batch();
        batch.deletes = vec![(key.clone(), self.version(&key).await.expect("what is deleted is there"))];
        self.commit(&batch).await;
    }

    pub(super) async fn get(&self, key: &Key) -> Option<Versioned> {
        let snapshot = self.store.get(std::slice::from_ref(key)).await.expect("the record is read");
        assert_eq!(snapshot.at, self.now(), "the time of a snapshot is the store's");
        assert_eq!(snapshot.records.len(), 1, "one answer for each key");
        snapshot.records.into_iter().next().flatten()
    }

    pub(super) async fn version(&self, key: &Key) -> Option<Version> {
        self.get(key).await.map(|stored| stored.version)
    }

    pub(super) async fn due_row(&self, task: Task) -> Option<DueRow> {
        match self.get(&Key::Due(task)).await?.record {
            Record::Due(row) => Some(row),
            record => panic!("a due row is asked for, but: {record:?}"),
        }
    }

    /// A whole list, in pages of this many.
    pub(super) async fn pages(&self, query: &Query, limit: usize) -> Vec<Versioned> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(query, after.as_deref(), limit).await.expect("the page is read");
            assert_eq!(page.at, self.now(), "the time of a page is the store's");
            assert!(page.items.len() <= limit, "a page is within its limit");
            assert!(page.next.is_none() || page.items.len() == limit, "only the last page may be short");
            all.extend(page.items);
            match page.next {
                Some(next) => {
                    assert_ne!(after.as_ref(), Some(&next), "paging goes on");
                    after = Some(next);
                }
                None => return all,
            }
        }
    }

    /// The keys of a whole list, in its order.
    pub(super) async fn list(&self, list: ListKey) -> Vec<Key> {
        let found = self.pages(&Query::List { list, backwards: false }, 100).await;
        found.iter().map(|stored| stored.record.key()).collect()
    }

    /// All events.
    pub(super) async fn events(&self) -> Vec<StoredEvent> {
        let mut all = Vec::new();
        let mut after = FIRST_EVENT;
        loop {
            let page = self.store.events(EventFilter::All, after, 1_000).await.expect("events are read");
            if page.items.is_empty() {
                return all;
            }
            after = page.upto;
            all.extend(page.items);
        }
    }

    /// Takes what is due in one lane, for a minute.
    pub(super) async fn claim(&self, lane: &Lane, by: &HolderId, limit: usize) -> Claimed {
        self.ask([LaneAsk { lane: lane.clone(), limit, lease: MINUTE }], by).await
    }

    pub(super) async fn ask(&self, lanes: impl IntoIterator<Item = LaneAsk>, by: &HolderId) -> Claimed {
        let ask = ClaimAsk { lanes: lanes.into_iter().collect(), holder: by.clone() };
        let claimed = self.store.claim_due(&ask).await.expect("due work is taken");
        assert_eq!(claimed.now, self.now(), "the time of a claim is the store's");
        claimed
    }

    /// Takes the one task that is due in the house, for a minute.
    pub(super) async fn claim_one(&self, by: &HolderId) -> Claim {
        let mut claimed = self.claim(&Lane::House, by, 10).await;
        assert_eq!(claimed.claims.len(), 1, "one task is due: {claimed:?}");
        claimed.claims.remove(0)
    }

    /// Makes a task of the house, due now, and takes it.
    pub(super) async fn claimed_task(&self, by: &HolderId) -> (Task, Claim) {
        let task = Task::Look(self.dependency_id());
        self.commit(&self.due_batch(&[], [set(task, Duration::ZERO)])).await;
        let claim = self.claim_one(by).await;
        assert_eq!(claim.task, task);
        (task, claim)
    }

    pub(super) async fn put_back(&self, by: &HolderId, items: &[PutBack]) {
        self.store.put_back(by, items).await.expect("claims are given back");
    }
}

/// A record that must not exist yet.
pub(super) fn create(record: Record) -> Put {
    Put { record, expect: None }
}

/// A task of the house, due after this long.
pub(super) fn set(task: Task, after: Duration) -> DueChange {
    DueChange::Set { task, lane: Lane::House, after, note: None }
}

/// A task of the house, held for this long.
pub(super) fn hold(task: Task, lease: Duration) -> DueChange {
    DueChange::Hold { task, lane: Lane::House, lease }
}

pub(super) fn nudge(task: Task, after: Duration) -> DueChange {
    DueChange::Nudge { task, after }
}

pub(super) fn tasks(claims: &[Claim]) -> Vec<Task> {
    claims.iter().map(|claim| claim.task).collect()
}
