//! What stands between a scheduler and its store: faults, and who watches what is really written.

use super::{
    checks::System,
    executor::{at_once, yield_once},
    stage::Stage,
};
use async_trait::async_trait;
use capomastro_core::{
    Error, ErrorKind, Result,
    model::{EventSeq, HolderId},
    store::{
        Batch, ClaimAsk, Claimed, Committed, EventFilter, EventPage, FIRST_EVENT, Key, ListKey, Page,
        PutBack, Query, Record, Snapshot, StateStore, StoreInfo,
    },
    time::Clock,
};
use std::{sync::Arc, time::Duration};

/// A store over a network that loses requests and answers, for one process.
#[derive(Debug)]
pub(super) struct Faulty {
    pub(super) watched: Watched,
    pub(super) stage: Arc<Stage>,
    pub(super) process: usize,
}

/// What happens to one call.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Before,
    After,
}

impl Faulty {
    async fn before(&self, changes: bool) -> Result<Fault> {
        let (fault, slow) = {
            let now = self.stage.now();
            let mut world = self.stage.world();
            let faults =
                (world.plan.faults.store_before, world.plan.faults.store_after, world.plan.faults.slow);
            let healing = world.healing;
            let fault = if healing {
                Fault::None
            } else if now < world.store_out_until || world.dice.chance(faults.0) {
                Fault::Before
            } else if changes && world.dice.chance(faults.1) {
                Fault::After
            } else {
                Fault::None
            };
            if fault != Fault::None {
                world.counters.faults += 1;
            }
            let slow = (!healing && world.dice.chance(faults.2 / 4)).then(|| world.dice.millis(1, 3_000));
            (fault, slow)
        };
        match slow {
            Some(wait) => self.stage.clock.sleep(wait).await,
            None => yield_once().await,
        }
        if fault == Fault::Before {
            let lost = changes && self.stage.world().dice.chance(500);
            return Err(self.error(if lost { ErrorKind::OutcomeUnknown } else { ErrorKind::Unavailable }));
        }
        Ok(fault)
    }

    fn error(&self, kind: ErrorKind) -> Error {
        let process = self.process;
        self.stage.world().trace.line(|| format!("process {process}: the store answers {kind}"));
        Error::new(kind, "the store does not answer in this part of the history")
    }

    /// The way back of an answer, at which a crash or a freeze may strike.
    async fn after<T>(&self, fault: Fault, answer: Result<T>) -> Result<T> {
        yield_once().await;
        if fault == Fault::After { Err(self.error(ErrorKind::OutcomeUnknown)) } else { answer }
    }
}

#[async_trait]
impl StateStore for Faulty {
    async fn check(&self) -> Result<StoreInfo> {
        self.before(false).await?;
        self.watched.check().await
    }

    async fn get(&self, keys: &[Key]) -> Result<Snapshot> {
        self.before(false).await?;
        self.watched.get(keys).await
    }

    async fn list(&self, query: &Query, after: Option<&str>, limit: usize) -> Result<Page> {
        self.before(false).await?;
        self.watched.list(query, after, limit).await
    }

    async fn events(&self, filter: EventFilter, after: EventSeq, limit: usize) -> Result<EventPage> {
        self.before(false).await?;
        self.watched.events(filter, after, limit).await
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed> {
        let fault = match self.before(true).await {
            Ok(fault) => fault,
            Err(error) => {
                self.stage.world().checker.unanswered(batch, error.kind());
                return Err(error);
            }
        };
        let answer = self.watched.commit(batch).await;
        let answer = self.after(fault, answer).await;
        if let Err(error) = &answer {
            self.stage.world().checker.unanswered(batch, error.kind());
        }
        answer
    }

    async fn claim_due(&self, ask: &ClaimAsk) -> Result<Claimed> {
        let fault = self.before(true).await?;
        let answer = self.watched.claim_due(ask).await;
        self.after(fault, answer).await
    }

    async fn put_back(&self, holder: &HolderId, items: &[PutBack]) -> Result<()> {
        let fault = self.before(true).await?;
        let answer = self.watched.put_back(holder, items).await;
        self.after(fault, answer).await
    }
}

/// The real store, each of whose calls is done at one moment of the history and checked.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) base: Arc<dyn StateStore>,
    pub(super) stage: Arc<Stage>,
}

fn wrong(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Internal | ErrorKind::Corrupt | ErrorKind::InvalidInput)
}

impl Watched {
    /// Reads what a client can read: all events in parts, and what there is in every list, from both ends.
    pub(super) async fn read_all(&self) -> Result<()> {
        const PART: usize = 40;
        const MOST: usize = 1_000;
        let mut after = FIRST_EVENT;
        loop {
            let page = self.events(EventFilter::All, after, PART).await?;
            after = page.upto;
            if page.items.len() < PART {
                break;
            }
        }
        let mut lists = vec![ListKey::open_builds(), ListKey::ended_builds(), ListKey::settled_receipts()];
        for record in self.all_of(ListKey::dependencies(), PART).await? {
            if let Record::Dependency(d) = record {
                self.events(EventFilter::Dependency(d.id), FIRST_EVENT, MOST).await?;
                lists.extend([ListKey::builds_of(d.id), ListKey::receipts_of(d.id)]);
            }
        }
        for record in self.all_of(ListKey::projects(), PART).await? {
            if let Record::Project(p) = record {
                self.events(EventFilter::Project(p.id), FIRST_EVENT, MOST).await?;
                lists.push(ListKey::project_builds_of(p.id));
            }
        }
        for list in lists {
            self.all_of(list, PART).await?;
        }
        Ok(())
    }

    /// A list in parts, and its other end.
    async fn all_of(&self, list: ListKey, part: usize) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        let mut query = Query::List { list: list.clone(), backwards: false };
        let mut after: Option<String> = None;
        loop {
            let page = self.list(&query, after.as_deref(), part).await?;
            records.extend(page.items.into_iter().map(|item| item.record));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        query = Query::List { list, backwards: true };
        let last = self.list(&query, None, 1).await?.items.into_iter().next().map(|item| item.record);
        if last.as_ref() != records.last() {
            self.stage
                .world()
                .checker
                .fail("store", || "a list does not end as it begins from behind".into());
        }
        Ok(records)
    }

    fn answered<T>(&self, what: u64, answer: Result<T>) -> Result<T> {
        let mut world = self.stage.world();
        world.trace.number(what);
        if let Err(error) = &answer {
            world.trace.text(error.kind().as_str());
            if wrong(error) {
                world.checker.fail("store", || error.report());
            }
        }
        answer
    }
}

#[async_trait]
impl StateStore for Watched {
    async fn check(&self) -> Result<StoreInfo> {
        self.answered(1, at_once(self.base.check()))
    }

    async fn get(&self, keys: &[Key]) -> Result<Snapshot> {
        let answer = at_once(self.base.get(keys));
        if let Ok(snapshot) = &answer {
            let mut world = self.stage.world();
            world.checker.read(keys, snapshot);
            world.trace.number(snapshot.records.iter().filter(|record| record.is_some()).count() as u64);
        }
        self.answered(2, answer)
    }

    async fn list(&self, query: &Query, after: Option<&str>, limit: usize) -> Result<Page> {
        let answer = at_once(self.base.list(query, after, limit));
        if let Ok(page) = &answer {
            let mut world = self.stage.world();
            // Neither versions nor cursors: each store counts in its own way. What they mean is checked.
            for item in &page.items {
                world.trace.value(&item.record.key());
            }
            world.trace.number(page.items.len() as u64 * 2 + u64::from(page.next.is_some()));
            world.checker.listed(page);
        }
        self.answered(3, answer)
    }

    async fn events(&self, filter: EventFilter, after: EventSeq, limit: usize) -> Result<EventPage> {
        let answer = at_once(self.base.events(filter, after, limit));
        if let Ok(page) = &answer {
            let mut world = self.stage.world();
            for item in &page.items {
                world.trace.value(&item.at);
                world.trace.value(&item.event);
            }
            world.trace.number(page.items.len() as u64);
            world.checker.told(filter, after, limit, page);
        }
        self.answered(4, answer)
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed> {
        let answer = at_once(self.base.commit(batch));
        {
            let mut guard = self.stage.world();
            let world = &mut *guard;
            world.counters.commits += 1;
            if let Ok(committed) = &answer {
                for put in &batch.puts {
                    world.trace.value(&put.record.key());
                }
                world.trace.value(&batch.events);
                world.trace.value(&batch.due);
                world.trace.value(&committed.at);
                if world.trace.tells() && !committed.repeated {
                    for line in super::story::told(batch) {
                        world.trace.line(|| line);
                    }
                }
                let system = System { builds: &world.builds, now: self.stage.clock.monotonic() };
                world.checker.committed(batch, committed, &mut world.counters, &system);
            }
        }
        self.answered(5, answer)
    }

    async fn claim_due(&self, ask: &ClaimAsk) -> Result<Claimed> {
        let answer = at_once(self.base.claim_due(ask));
        if let Ok(claimed) = &answer {
            let mut world = self.stage.world();
            for claim in &claimed.claims {
                world.trace.value(&claim.task);
            }
            world.checker.claimed(ask, claimed);
        }
        self.answered(6, answer)
    }

    async fn put_back(&self, holder: &HolderId, items: &[PutBack]) -> Result<()> {
        let answer = at_once(self.base.put_back(holder, items));
        if answer.is_ok() {
            let now = self.stage.clock.now();
            self.stage.world().checker.put_back(now, holder, items);
        }
        self.answered(7, answer)
    }
}

/// How long a process waits before it asks a store again that did not answer.
pub(super) const AGAIN: Duration = Duration::from_millis(700);
