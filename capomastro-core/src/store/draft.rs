//! A batch in the making that remembers what was read, so that no guard can be forgotten.

use super::{Batch, Claim, DueChange, Key, Put, Query, Record, StateStore, Version, Versioned};
use crate::{
    Error, Result,
    events::Event,
    model::{
        Build, BuildId, CommitId, Dependency, DependencyId, DependencyState, HolderId, Project, ProjectBuild,
        ProjectBuildId, ProjectId, Receipt,
    },
    time::Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};

/// A batch in the making.
///
/// Everything that is read through it becomes a guard, unless it is written, and then its version is expected. The
/// first read sets [`Draft::now`], the store's time by which the decision is made.
#[derive(Debug)]
pub struct Draft<'a> {
    store: &'a dyn StateStore,
    batch: Batch,
    now: Option<Timestamp>,
    read: BTreeMap<Key, Option<Versioned>>,
    unguarded: BTreeSet<Key>,
    written: BTreeMap<Key, Record>,
    deleted: BTreeSet<Key>,
}

macro_rules! typed {
    ($($(#[$doc:meta])* $get:ident($id:ty) -> $ty:ident, $key:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// As [`StateStore::get`].
        pub async fn $get(&mut self, id: $id) -> Result<Option<$ty>> {
            Ok(match self.record(Key::$key(id)).await? {
                Some(Record::$key(r)) => Some(r),
                _ => None,
            })
        }
    )*};
}

impl<'a> Draft<'a> {
    /// An empty draft for a batch with this id.
    pub const fn new(store: &'a dyn StateStore, id: CommitId, holder: HolderId) -> Self {
        Self {
            store,
            batch: Batch::new(id, holder),
            now: None,
            read: BTreeMap::new(),
            unguarded: BTreeSet::new(),
            written: BTreeMap::new(),
            deleted: BTreeSet::new(),
        }
    }

    /// The store's time at the first read.
    ///
    /// # Errors
    /// [`Internal`](crate::ErrorKind::Internal) before anything was read.
    pub fn now(&self) -> Result<Timestamp> {
        self.now.ok_or_else(|| Error::internal("a draft has no time before its first read"))
    }

    /// Reads these records in one snapshot, so that later calls find them here.
    ///
    /// # Errors
    /// As [`StateStore::get`].
    pub async fn load(&mut self, keys: impl IntoIterator<Item = Key>) -> Result<()> {
        let keys: Vec<Key> = keys
            .into_iter()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .filter(|k| !self.read.contains_key(k))
            .collect();
        if keys.is_empty() {
            return Ok(());
        }
        let snapshot = self.store.get(&keys).await?;
        self.now.get_or_insert(snapshot.at);
        self.read.extend(keys.into_iter().zip(snapshot.records));
        Ok(())
    }

    /// As [`load`](Draft::load), without guards: for what cannot change any more, or whose change would write a record that
    /// is guarded.
    ///
    /// # Errors
    /// As [`StateStore::get`].
    pub async fn load_unguarded(&mut self, keys: impl IntoIterator<Item = Key>) -> Result<()> {
        let keys: Vec<Key> = keys.into_iter().filter(|k| !self.read.contains_key(k)).collect();
        self.unguarded.extend(keys.iter().cloned());
        self.load(keys).await
    }

    /// A record as this draft would leave it.
    ///
    /// # Errors
    /// As [`StateStore::get`].
    pub async fn record(&mut self, key: Key) -> Result<Option<Record>> {
        if let Some(record) = self.written.get(&key) {
            return Ok(Some(record.clone()));
        }
        if self.deleted.contains(&key) {
            return Ok(None);
        }
        self.load([key.clone()]).await?;
        Ok(self.read.get(&key).and_then(Option::as_ref).map(|v| v.record.clone()))
    }

    typed! {
        /// A dependency as people configured it.
        dependency(DependencyId) -> Dependency, Dependency;
        /// What the machine knows of a dependency.
        state(DependencyId) -> DependencyState, State;
        /// A build.
        build(BuildId) -> Build, Build;
        /// A project.
        project(ProjectId) -> Project, Project;
        /// A project build.
        project_build(ProjectBuildId) -> ProjectBuild, ProjectBuild;
        /// A receipt.
        receipt(crate::model::ReceiptId) -> Receipt, Receipt;
    }

    /// The build of an id, read without a guard: only for a build that has ended, of which nothing changes any more.
    ///
    /// # Errors
    /// As [`StateStore::get`].
    pub async fn ended_build(&mut self, id: BuildId) -> Result<Option<Build>> {
        if !self.read.contains_key(&Key::Build(id)) {
            self.unguarded.insert(Key::Build(id));
        }
        self.build(id).await
    }

    /// The first records of a list or of a unique name. Each record that is found is guarded; that no other one comes in
    /// between must hang on a record that is read too.
    ///
    /// # Errors
    /// As [`StateStore::list`].
    pub async fn find(&mut self, query: &Query, limit: usize) -> Result<Vec<Record>> {
        let page = self.store.list(query, None, limit).await?;
        self.now.get_or_insert(page.at);
        let mut found = Vec::with_capacity(page.items.len());
        for item in page.items {
            let key = item.record.key();
            found.push(item.record.clone());
            self.read.entry(key).or_insert(Some(item));
        }
        Ok(found)
    }

    /// Writes a record. What was read of it before must still be stored at the commit; what was not read must not exist.
    pub fn put(&mut self, record: Record) {
        let key = record.key();
        self.deleted.remove(&key);
        self.written.insert(key, record);
    }

    /// Deletes a record that was read.
    pub fn delete(&mut self, key: Key) {
        self.written.remove(&key);
        self.deleted.insert(key);
    }

    /// A claim that must hold at the commit.
    pub fn claim(&mut self, claim: Claim) {
        self.batch.claims.push(claim);
    }

    /// A change of a due row. A second change of the same task replaces the first, except that a nudge never replaces
    /// anything but a later nudge.
    pub fn due(&mut self, change: DueChange) {
        let task = change.task();
        match self.batch.due.iter_mut().find(|d| d.task() == task) {
            None => self.batch.due.push(change),
            Some(stored) => match (&*stored, &change) {
                (DueChange::Nudge { after: old, .. }, DueChange::Nudge { after: new, .. }) if new < old => {
                    *stored = change;
                }
                (DueChange::Set { after: old, lane, note, .. }, DueChange::Nudge { after: new, .. }) => {
                    let (after, lane, note) = ((*old).min(*new), lane.clone(), note.clone());
                    *stored = DueChange::Set { task, lane, after, note };
                }
                (_, DueChange::Nudge { .. }) => {}
                _ => *stored = change,
            },
        }
    }

    /// Something that happened.
    pub fn event(&mut self, event: Event) {
        self.batch.events.push(event);
    }

    /// Lets the store forget old events and commit ids.
    pub const fn forget(&mut self, forget: super::Forget) {
        self.batch.forget = Some(forget);
    }

    /// Whether nothing would be written.
    pub fn is_empty(&self) -> bool {
        self.changed().next().is_none()
            && self.deleted.is_empty()
            && self.batch.due.is_empty()
            && self.batch.events.is_empty()
            && self.batch.forget.is_none()
    }

    /// What would be written, in the order of the keys: records that differ from what was read.
    pub fn changed(&self) -> impl Iterator<Item = &Record> {
        self.written
            .iter()
            .filter(|(key, record)| {
                !matches!(self.read.get(key), Some(Some(stored)) if stored.record == **record)
            })
            .map(|(_, record)| record)
    }

    /// What would happen.
    pub fn events(&self) -> &[Event] {
        &self.batch.events
    }

    fn version(&self, key: &Key) -> Option<Version> {
        self.read.get(key).and_then(Option::as_ref).map(|v| v.version)
    }

    /// The finished batch: what was read is guarded or expected.
    pub fn finish(mut self) -> Batch {
        let puts: Vec<Put> = self
            .changed()
            .map(|record| Put { expect: self.version(&record.key()), record: record.clone() })
            .collect();
        let writes: BTreeSet<Key> = puts.iter().map(|p| p.record.key()).collect();
        self.batch.deletes = self
            .deleted
            .iter()
            .filter_map(|key| self.version(key).map(|version| (key.clone(), version)))
            .collect();
        self.batch.guards = self
            .read
            .iter()
            .filter(|(key, _)| {
                !writes.contains(key)
                    && !self.deleted.contains(key)
                    && !self.unguarded.contains(key)
                    && !matches!(key, Key::Due(_))
            })
            .map(|(key, stored)| (key.clone(), stored.as_ref().map(|v| v.version)))
            .collect();
        self.batch.puts = puts;
        self.batch
    }
}

impl DueChange {
    /// The task that is changed.
    pub const fn task(&self) -> super::Task {
        match self {
            Self::Set { task, .. }
            | Self::Hold { task, .. }
            | Self::Nudge { task, .. }
            | Self::Done { task }
            | Self::Drop { task } => *task,
        }
    }
}
