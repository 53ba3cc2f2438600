//! What the store keeps, and what a batch makes of it. Nothing here waits or touches the disk.

use crate::due::DueRows;
use capomastro_core::{
    Error, ErrorKind, Result,
    events::{Event, StoredEvent},
    model::{CommitId, EventSeq},
    store::{
        Batch, Committed, EventFilter, EventPage, Forget, Key, Page, Query, RECORD_FORMAT, Record, Version,
        Versioned,
    },
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stored {
    version: Version,
    record: Record,
}

/// All of it, as it stands in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// In which form it is written.
    pub(crate) format: u32,
    records: BTreeMap<String, Stored>,
    /// One counter for all records, so that no version repeats after a delete.
    last_version: Version,
    pub(crate) due: DueRows,
    events: BTreeMap<EventSeq, (Timestamp, Event)>,
    last_event: EventSeq,
    commits: BTreeMap<CommitId, Timestamp>,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            format: RECORD_FORMAT,
            records: BTreeMap::new(),
            last_version: 0,
            due: DueRows::default(),
            events: BTreeMap::new(),
            last_event: 0,
            commits: BTreeMap::new(),
        }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Versioned> {
        if let Key::Due(task) = key {
            return self.due.get(*task).map(|row| Versioned { version: 1, record: Record::Due(row) });
        }
        self.records.get(&key.to_string()).map(Stored::answer)
    }

    /// Core says in which lists a record is and what it is called. This looks at all records for each page; a store for
    /// many keeps an index.
    pub(crate) fn list(&self, at: Timestamp, query: &Query, after: Option<&str>, limit: usize) -> Page {
        let place = |record: &Record| match query {
            Query::Unique(name) => record.unique().filter(|own| own == name).map(|_| String::new()),
            Query::List { list, .. } => {
                record.lists().into_iter().find(|(own, _)| own == list).map(|(_, p)| p)
            }
            _ => None,
        };
        let backwards = matches!(query, Query::List { backwards: true, .. });
        let mut found: Vec<(String, &Stored)> =
            self.records.values().filter_map(|stored| Some((place(&stored.record)?, stored))).collect();
        found.retain(|(place, _)| {
            after.is_none_or(|after| if backwards { place.as_str() < after } else { place.as_str() > after })
        });
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        if backwards {
            found.reverse();
        }
        let next = (found.len() > limit).then(|| found[limit - 1].0.clone());
        let items = found.into_iter().take(limit).map(|(_, stored)| stored.answer()).collect();
        Page { at, items, next }
    }

    pub(crate) fn events(&self, filter: EventFilter, after: EventSeq, limit: usize) -> EventPage {
        let wanted = |event: &Event| match filter {
            EventFilter::Dependency(id) => event.dependency == Some(id),
            EventFilter::Project(id) => event.project == Some(id),
            _ => true,
        };
        let items: Vec<StoredEvent> = self
            .events
            .range((Bound::Excluded(after), Bound::Unbounded))
            .filter(|(_, (_, event))| wanted(event))
            .take(limit)
            .map(|(seq, (at, event))| StoredEvent { seq: *seq, at: *at, event: event.clone() })
            .collect();
        let upto = match items.last() {
            Some(last) if items.len() == limit => last.seq,
            _ => self.last_event.max(after),
        };
        EventPage { items, upto }
    }

    /// Writes a batch. An error may leave a part of it behind, so this is called on a copy.
    pub(crate) fn commit(&mut self, now: Timestamp, batch: &Batch) -> Result<Committed> {
        if let Some(at) = self.commits.get(&batch.id) {
            return Ok(Committed { at: *at, repeated: true, claims: Vec::new(), forgotten: 0 });
        }
        well_formed(batch)?;
        self.due.check(now, batch)?;
        let puts = batch.puts.iter().map(|put| (put.record.key(), put.expect));
        let deletes = batch.deletes.iter().map(|(key, version)| (key.clone(), Some(*version)));
        for (key, expected) in puts.chain(deletes).chain(batch.guards.iter().cloned()) {
            if self.records.get(&key.to_string()).map(|stored| stored.version) != expected {
                let text = "a record has changed since it was read: read again and decide again";
                return Err(Error::new(ErrorKind::Conflict, text).with_context("record", key));
            }
        }
        for (key, _) in &batch.deletes {
            self.records.remove(&key.to_string());
        }
        for put in &batch.puts {
            self.last_version += 1;
            let stored = Stored { version: self.last_version, record: put.record.clone() };
            self.records.insert(put.record.key().to_string(), stored);
        }
        self.check_names()?;
        let claims = batch.due.iter().filter_map(|change| self.due.change(now, batch, change)).collect();
        let forgotten = batch.forget.as_ref().map_or(0, |forget| self.forget(forget));
        for event in &batch.events {
            self.last_event += 1;
            self.events.insert(self.last_event, (now, event.clone()));
        }
        self.commits.insert(batch.id, now);
        Ok(Committed { at: now, repeated: false, claims, forgotten })
    }

    /// After the whole batch each name has one record, so that two records may swap theirs.
    fn check_names(&self) -> Result<()> {
        let mut names = BTreeSet::new();
        for stored in self.records.values() {
            if let Some(name) = stored.record.unique()
                && let Some(twice) = names.replace(name)
            {
                let text =
                    "another record has this name: choose another one, or rename or delete that record";
                return Err(Error::new(ErrorKind::AlreadyExists, text).with_context("name", twice.as_str()));
            }
        }
        Ok(())
    }

    /// How many events or ids went: the greater number.
    fn forget(&mut self, forget: &Forget) -> u64 {
        let at_most = usize::try_from(forget.at_most).unwrap_or(usize::MAX);
        let keep = usize::try_from(forget.keep_events).unwrap_or(usize::MAX);
        let newest_first = self.events.iter().rev().skip(keep);
        let old = newest_first.filter(|(_, (at, _))| *at < forget.events_before);
        let mut old: Vec<EventSeq> = old.map(|(seq, _)| *seq).collect();
        old.reverse();
        old.truncate(at_most);
        self.events.retain(|seq, _| old.binary_search(seq).is_err());
        let mut ids: Vec<_> = self.commits.iter().map(|(id, at)| (*at, *id)).collect();
        ids.sort_unstable();
        ids.truncate(at_most);
        ids.retain(|(at, _)| *at < forget.commits_before);
        for (_, id) in &ids {
            self.commits.remove(id);
        }
        old.len().max(ids.len()) as u64
    }
}

impl Stored {
    fn answer(&self) -> Versioned {
        Versioned { version: self.version, record: self.record.clone() }
    }
}

/// Refuses what no batch may say, whatever is stored.
fn well_formed(batch: &Batch) -> Result<()> {
    let puts = batch.puts.iter().map(|put| put.record.key());
    let written: Vec<Key> = puts.chain(batch.deletes.iter().map(|(key, _)| key.clone())).collect();
    let read = batch.guards.iter().map(|(key, _)| key);
    if written.iter().chain(read).any(|key| matches!(key, Key::Due(_))) {
        return Err(Error::invalid("a due row is no record: change it by a change of due rows"));
    }
    if written.iter().collect::<BTreeSet<_>>().len() < written.len() {
        return Err(Error::invalid("a batch writes a record twice: put or delete it once"));
    }
    let tasks: BTreeSet<_> = batch.due.iter().map(capomastro_core::store::DueChange::task).collect();
    if tasks.len() < batch.due.len() {
        return Err(Error::invalid("a batch changes a due row twice: give one change for each task"));
    }
    Ok(())
}
