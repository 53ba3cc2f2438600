//! The event stream.

use crate::{
    events::{Event, StoredEvent},
    model::EventSeq,
    store::{EventFilter, EventPage},
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

/// All events that were not forgotten, by place and by time: a clock that was set back makes these two differ.
#[derive(Clone, Debug, Default)]
pub(super) struct Stream {
    events: BTreeMap<EventSeq, StoredEvent>,
    by_time: BTreeSet<(Timestamp, EventSeq)>,
    last: EventSeq,
}

impl Stream {
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &StoredEvent> {
        self.events.values()
    }

    pub(super) fn push(&mut self, at: Timestamp, event: Event) {
        self.last += 1;
        self.by_time.insert((at, self.last));
        self.events.insert(self.last, StoredEvent { seq: self.last, at, event });
    }

    pub(super) fn read(&self, filter: EventFilter, after: EventSeq, limit: usize) -> EventPage {
        let items: Vec<StoredEvent> = self
            .events
            .range((Bound::Excluded(after), Bound::Unbounded))
            .map(|(_, stored)| stored)
            .filter(|stored| matches(filter, &stored.event))
            .take(limit)
            .cloned()
            .collect();
        let upto = match items.last() {
            Some(last) if items.len() == limit => last.seq,
            _ => self.last.max(after),
        };
        EventPage { items, upto }
    }

    /// How many went.
    pub(super) fn forget(&mut self, before: Timestamp, keep: u64, at_most: usize) -> usize {
        let keep = usize::try_from(keep).unwrap_or(usize::MAX);
        let Some(newest) = self.events.keys().rev().nth(keep).copied() else { return 0 };
        let old: Vec<(Timestamp, EventSeq)> = self
            .by_time
            .iter()
            .take_while(|(at, _)| *at < before)
            .filter(|(_, seq)| *seq <= newest)
            .take(at_most)
            .copied()
            .collect();
        for entry in &old {
            self.by_time.remove(entry);
            self.events.remove(&entry.1);
        }
        old.len()
    }
}

fn matches(filter: EventFilter, event: &Event) -> bool {
    match filter {
        EventFilter::All => true,
        EventFilter::Dependency(id) => event.dependency == Some(id),
        EventFilter::Project(id) => event.project == Some(id),
    }
}
