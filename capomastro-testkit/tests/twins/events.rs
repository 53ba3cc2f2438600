//! Twins of the cases about the event stream.

use crate::{
    Ground,
    bent::{Bent, Mem, later_on},
    twins,
};
use capomastro_core::{
    Result, async_trait,
    events::EventKind,
    model::{EventSeq, HolderId},
    store::{
        Batch, ClaimAsk, Claimed, Committed, EventFilter, EventPage, Key, Page, PutBack, Query, Snapshot,
        StateStore, StoreInfo,
    },
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

/// Places are given out before they can be read, and every other commit is slow in between: a follower that reads
/// meanwhile passes its events.
#[derive(Debug)]
struct Slow {
    mem: Mem,
    sound: Bent,
    hidden: Arc<Mutex<BTreeSet<EventSeq>>>,
    /// Keeps the place of a commit beside the commit.
    order: Mutex<u64>,
}

impl Slow {
    fn new(ground: &Ground) -> Self {
        let mem = ground.mem();
        let hidden: Arc<Mutex<BTreeSet<EventSeq>>> = Arc::default();
        let unseen = Arc::clone(&hidden);
        let sound = Bent::new(mem.clone()).on_events(move |mem, filter, after, limit| {
            let mut page = mem.events(filter, after, limit)?;
            let unseen = unseen.lock().unwrap();
            page.items.retain(|stored| !unseen.contains(&stored.seq));
            Ok(page)
        });
        Self { mem, sound, hidden, order: Mutex::default() }
    }

    /// Commits, and hides the events of every other commit.
    fn hide(&self, batch: &Batch) -> (Result<Committed>, Vec<EventSeq>) {
        let mut order = self.order.lock().unwrap();
        let mut hidden = self.hidden.lock().unwrap();
        let before = self.mem.last_place();
        let committed = self.mem.commit(batch);
        *order += 1;
        let own: Vec<EventSeq> =
            if order.is_multiple_of(2) { (before + 1..=self.mem.last_place()).collect() } else { Vec::new() };
        hidden.extend(&own);
        (committed, own)
    }
}

#[async_trait]
impl StateStore for Slow {
    async fn check(&self) -> Result<StoreInfo> {
        self.sound.check().await
    }
    async fn get(&self, keys: &[Key]) -> Result<Snapshot> {
        self.sound.get(keys).await
    }
    async fn list(&self, query: &Query, after: Option<&str>, limit: usize) -> Result<Page> {
        self.sound.list(query, after, limit).await
    }
    async fn events(&self, filter: EventFilter, after: EventSeq, limit: usize) -> Result<EventPage> {
        self.sound.events(filter, after, limit).await
    }
    async fn commit(&self, batch: &Batch) -> Result<Committed> {
        let (committed, own) = self.hide(batch);
        if !own.is_empty() {
            later_on().await;
            self.hidden.lock().unwrap().retain(|seq| !own.contains(seq));
        }
        committed
    }
    async fn claim_due(&self, ask: &ClaimAsk) -> Result<Claimed> {
        self.sound.claim_due(ask).await
    }
    async fn put_back(&self, holder: &HolderId, items: &[PutBack]) -> Result<()> {
        self.sound.put_back(holder, items).await
    }
}

twins! {
    events_come_in_the_order_of_their_commits, "the events of a page are dated like its first": |ground: &Ground| {
        ground.sound().on_events(|mem, filter, after, limit| {
            let mut page = mem.events(filter, after, limit)?;
            if let Some(at) = page.items.first().map(|stored| stored.at) {
                page.items.iter_mut().for_each(|stored| stored.at = at);
            }
            Ok(page)
        })
    };
    each_kind_of_event_returns_as_it_was_written, "what a health says is lost": |ground: &Ground| {
        ground.sound().on_commit(|mem, mut batch| {
            for event in &mut batch.events {
                if let EventKind::HealthChanged { message, .. } = &mut event.kind {
                    *message = None;
                }
            }
            mem.commit(&batch)
        })
    };
    events_can_be_filtered, "what is about a dependency is not about a project": |ground: &Ground| {
        ground.sound().on_events(|mem, filter, after, limit| {
            let mut page = mem.events(filter, after, limit)?;
            if matches!(filter, EventFilter::Project(_)) {
                page.items.retain(|stored| stored.event.dependency.is_none());
            }
            Ok(page)
        })
    };
    a_place_in_the_stream_never_goes_back, "no place is beyond the last event": |ground: &Ground| {
        ground.sound().on_events(|mem, filter, after, limit| {
            let mut page = mem.events(filter, after, limit)?;
            page.upto = page.upto.min(mem.last_place());
            Ok(page)
        })
    };
    a_follower_misses_nothing_while_others_write, "places are given out before their events can be read": Slow::new;
}
