//! Everything that the store keeps, and what a batch makes of it. Pure: time comes in, nothing is waited for.

use super::{due::DueTable, stream::Stream};
use crate::{
    Result,
    model::CommitId,
    store::{
        Batch, Committed, Forget, Key, ListKey, Page, Query, Record, UniqueKey, Version, Versioned,
        refusals::{conflict, name_taken, place_taken},
    },
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

/// Everything that the store keeps.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    records: BTreeMap<Key, Versioned>,
    unique: BTreeMap<UniqueKey, Key>,
    lists: BTreeMap<ListKey, BTreeMap<String, Key>>,
    /// One counter for all records, so that no version repeats after a delete.
    last_version: Version,
    pub(super) due: DueTable,
    pub(super) stream: Stream,
    commits: BTreeMap<CommitId, Timestamp>,
    commits_by_time: BTreeSet<(Timestamp, CommitId)>,
}

impl State {
    pub(super) fn records(&self) -> &BTreeMap<Key, Versioned> {
        &self.records
    }

    pub(super) fn commit_ids(&self) -> impl Iterator<Item = CommitId> {
        self.commits.keys().copied()
    }

    pub(super) fn get(&self, key: &Key) -> Option<Versioned> {
        match key {
            Key::Due(task) => {
                let row = self.due.get(*task)?;
                Some(Versioned { version: row.ticket.saturating_add(1), record: Record::Due(row) })
            }
            _ => self.records.get(key).cloned(),
        }
    }

    pub(super) fn list(&self, at: Timestamp, query: &Query, after: Option<&str>, limit: usize) -> Page {
        match query {
            Query::Unique(name) => {
                let items = self.unique.get(name).and_then(|key| self.get(key)).into_iter().collect();
                Page { at, items, next: None }
            }
            Query::List { list, backwards } => {
                let Some(entries) = self.lists.get(list) else {
                    return Page { at, items: Vec::new(), next: None };
                };
                if *backwards {
                    let before = after.map_or(Bound::Unbounded, Bound::Excluded);
                    self.page(at, entries.range::<str, _>((Bound::Unbounded, before)).rev(), limit)
                } else {
                    let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
                    self.page(at, entries.range::<str, _>((behind, Bound::Unbounded)), limit)
                }
            }
        }
    }

    fn page<'a>(
        &self,
        at: Timestamp,
        entries: impl Iterator<Item = (&'a String, &'a Key)>,
        limit: usize,
    ) -> Page {
        let mut entries = entries.peekable();
        let mut items = Vec::new();
        let mut last = None;
        for (sort, key) in entries.by_ref().take(limit) {
            items.extend(self.get(key));
            last = Some(sort);
        }
        let next = last.filter(|_| entries.peek().is_some()).cloned();
        Page { at, items, next }
    }

    /// Writes a batch, all of it or nothing: everything is checked before anything is changed.
    pub(super) fn commit(&mut self, now: Timestamp, batch: &Batch) -> Result<Committed> {
        if let Some(at) = self.commits.get(&batch.id) {
            return Ok(Committed { at: *at, repeated: true, claims: Vec::new(), forgotten: 0 });
        }
        batch.check_form()?;
        self.due.check_claims(now, batch)?;
        self.check_versions(batch)?;
        self.check_names(batch)?;

        for (key, _) in &batch.deletes {
            self.remove(key);
        }
        // Names and places are freed before they are taken again, so that two records can swap them.
        for put in &batch.puts {
            self.remove(&put.record.key());
        }
        for put in &batch.puts {
            self.insert(put.record.clone());
        }
        let claims = self.due.apply(now, batch);
        let forgotten = batch.forget.as_ref().map_or(0, |forget| self.forget(forget));
        for event in &batch.events {
            self.stream.push(now, event.clone());
        }
        self.commits.insert(batch.id, now);
        self.commits_by_time.insert((now, batch.id));
        Ok(Committed { at: now, repeated: false, claims, forgotten })
    }

    fn check_versions(&self, batch: &Batch) -> Result<()> {
        let puts = batch.puts.iter().map(|put| (put.record.key(), put.expect));
        let deletes = batch.deletes.iter().map(|(key, version)| (key.clone(), Some(*version)));
        for (key, expected) in puts.chain(deletes).chain(batch.guards.iter().cloned()) {
            let stored = self.records.get(&key).map(|v| v.version);
            if stored != expected {
                return Err(conflict(key, expected, stored));
            }
        }
        Ok(())
    }

    /// Checks unique names, and that core keeps its promise of one sort text for each record of a list.
    fn check_names(&self, batch: &Batch) -> Result<()> {
        let written: BTreeSet<Key> = batch
            .puts
            .iter()
            .map(|put| put.record.key())
            .chain(batch.deletes.iter().map(|(key, _)| key.clone()))
            .collect();
        fn other<'a>(owner: Option<&'a Key>, written: &BTreeSet<Key>) -> Option<&'a Key> {
            owner.filter(|key| !written.contains(key))
        }
        let mut names = BTreeSet::new();
        let mut places = BTreeSet::new();
        for put in &batch.puts {
            if let Some(name) = put.record.unique() {
                let taken = other(self.unique.get(&name), &written);
                if taken.is_some() || !names.insert(name.clone()) {
                    return Err(name_taken(name.as_str(), taken.map(ToString::to_string).as_deref()));
                }
            }
            for (list, sort) in put.record.lists() {
                let owner = self.lists.get(&list).and_then(|entries| entries.get(&sort));
                if other(owner, &written).is_some() || !places.insert((list.clone(), sort.clone())) {
                    return Err(place_taken(list.as_str(), sort));
                }
            }
        }
        Ok(())
    }

    fn insert(&mut self, record: Record) {
        let key = record.key();
        if let Some(name) = record.unique() {
            self.unique.insert(name, key.clone());
        }
        for (list, sort) in record.lists() {
            self.lists.entry(list).or_default().insert(sort, key.clone());
        }
        self.last_version += 1;
        self.records.insert(key, Versioned { version: self.last_version, record });
    }

    fn remove(&mut self, key: &Key) {
        let Some(stored) = self.records.remove(key) else { return };
        if let Some(name) = stored.record.unique() {
            self.unique.remove(&name);
        }
        for (list, sort) in stored.record.lists() {
            if let Some(entries) = self.lists.get_mut(&list) {
                entries.remove(&sort);
                if entries.is_empty() {
                    self.lists.remove(&list);
                }
            }
        }
    }

    /// How many events or ids went: the greater number.
    fn forget(&mut self, forget: &Forget) -> u64 {
        let at_most = usize::try_from(forget.at_most).unwrap_or(usize::MAX);
        let events = self.stream.forget(forget.events_before, forget.keep_events, at_most);
        let mut ids = 0;
        while ids < at_most {
            match self.commits_by_time.first() {
                Some((at, id)) if *at < forget.commits_before => {
                    self.commits.remove(id);
                    self.commits_by_time.pop_first();
                    ids += 1;
                }
                _ => break,
            }
        }
        events.max(ids) as u64
    }
}
