//! What a store answers: the records that were written, versions that grow with each write, events in the order of their
//! commits.

use super::Checker;
use capomastro_core::{
    events::Event,
    model::EventSeq,
    store::{Batch, EventFilter, EventPage, FIRST_EVENT, Key, Page, Snapshot, Version, Versioned},
    time::Timestamp,
};
use std::collections::BTreeMap;

/// What is known of what a store counts, which each does in its own way.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// For each record that was ever written: how often, and the version last read with how often it had been written then.
    versions: BTreeMap<Key, (u64, Option<(Version, u64)>)>,
    /// All events, in the order of their commits.
    events: Vec<(Timestamp, Event)>,
    /// The numbers by which the store calls places in `events`: each is the number of events up to there.
    places: BTreeMap<EventSeq, usize>,
}

impl Reads {
    fn read(&mut self, key: &Key, version: Version) -> bool {
        let Some((writes, last)) = self.versions.get_mut(key) else { return false };
        let fits = match last {
            Some((known, at)) if at == writes => *known == version,
            Some((known, _)) => *known < version,
            None => true,
        };
        *last = Some((version, *writes));
        fits
    }

    fn is_newest(&self, key: &Key, expected: Version) -> bool {
        match self.versions.get(key) {
            Some((writes, Some((version, at)))) if writes == at => *version == expected,
            _ => true,
        }
    }

    fn wrote(&mut self, key: Key) {
        self.versions.entry(key).or_default().0 += 1;
    }
}

fn is_asked(filter: EventFilter, event: &Event) -> bool {
    match filter {
        EventFilter::All => true,
        EventFilter::Dependency(id) => event.dependency == Some(id),
        EventFilter::Project(id) => event.project == Some(id),
        _ => false,
    }
}

impl Checker {
    /// What a scheduler was told is what was written.
    pub(in crate::simulator) fn read(&mut self, keys: &[Key], snapshot: &Snapshot) {
        for (key, stored) in keys.iter().zip(&snapshot.records) {
            match stored {
                _ if matches!(key, Key::Due(_)) => {}
                Some(stored) => self.is_as_written(key, stored),
                None => {
                    let is_there = self.records.contains_key(key);
                    self.check(!is_there, "store", || {
                        format!("the store does not have {key}, which was written")
                    });
                }
            }
        }
    }

    pub(in crate::simulator) fn listed(&mut self, page: &Page) {
        for item in &page.items {
            self.is_as_written(&item.record.key(), item);
        }
    }

    fn is_as_written(&mut self, key: &Key, stored: &Versioned) {
        if self.records.get(key) != Some(&stored.record) {
            self.fail("store", || format!("the store gives another {key} than was written"));
        }
        let grows = self.reads.read(key, stored.version);
        self.check(grows, "store", || {
            format!("version {} of {key} does not tell whether it was written meanwhile", stored.version)
        });
    }

    /// A part of the events was told: it must be what was committed, in the order of the commits, without a gap.
    pub(in crate::simulator) fn told(
        &mut self,
        filter: EventFilter,
        after: EventSeq,
        limit: usize,
        page: &EventPage,
    ) {
        let from = if after == FIRST_EVENT { Some(0) } else { self.reads.places.get(&after).copied() };
        let Some(from) = from else { return };
        let mut place = from;
        let mut last = after;
        let mut problem = None;
        for item in &page.items {
            if item.seq <= last {
                problem = Some(format!("event {} comes after event {last}", item.seq));
            }
            last = item.seq;
            let next = self.reads.events[place..].iter().position(|(_, e)| is_asked(filter, e));
            match next.map(|n| (place + n, &self.reads.events[place + n])) {
                Some((at, (when, event))) if *event == item.event && *when == item.at => {
                    place = at + 1;
                    let known = *self.reads.places.entry(item.seq).or_insert(place);
                    if known != place {
                        problem = Some(format!("event {} is another than before", item.seq));
                    }
                }
                other => {
                    let expected = other.map(|(_, (_, event))| &event.kind);
                    problem = Some(format!("{:?} is told and {expected:?} was committed", item.event.kind));
                    break;
                }
            }
        }
        let is_short = page.items.len() < limit;
        if is_short && self.reads.events[place..].iter().any(|(_, e)| is_asked(filter, e)) {
            problem = problem.or_else(|| Some("the events end before all were told".into()));
        }
        if is_short && problem.is_none() {
            let all = self.reads.events.len();
            self.reads.places.entry(page.upto).or_insert(all);
        }
        if let Some(problem) = problem {
            self.fail("store", || problem);
        }
    }

    /// A store that writes over a record has been given the newest version of it.
    pub(super) fn check_versions(&mut self, batch: &Batch) {
        for put in &batch.puts {
            let key = put.record.key();
            let fits = put.expect.is_none_or(|version| self.reads.is_newest(&key, version));
            self.check(fits, "guard", || format!("{key} was written over another version than was read"));
            self.reads.wrote(key);
        }
        for (key, version) in &batch.deletes {
            let fits = self.reads.is_newest(key, *version);
            self.check(fits, "guard", || format!("{key} was deleted at another version than was read"));
            self.reads.wrote(key.clone());
        }
        for (key, version) in &batch.guards {
            let fits = version.is_none_or(|version| self.reads.is_newest(key, version));
            self.check(fits, "guard", || format!("a commit went through, although {key} had changed"));
        }
    }

    pub(super) fn tell(&mut self, batch: &Batch, at: Timestamp) {
        self.reads.events.extend(batch.events.iter().map(|event| (at, event.clone())));
    }
}
