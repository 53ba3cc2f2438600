//! What stands between a scheduler and its store: faults, and who watches what is really written.

use super::{
    executor::{at_once, yield_once},
    stage::Stage,
};
use async_trait::async_trait;
use capomastro_core::{
    Error, ErrorKind, Result,
    model::{EventSeq, HolderId},
    store::{
        Batch, ClaimAsk, Claimed, Committed, EventFilter, EventPage, Key, Page, PutBack, Query, Snapshot,
        StateStore, StoreInfo,
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
            self.stage.world().checker.read(keys, snapshot);
        }
        self.answered(2, answer)
    }

    async fn list(&self, query: &Query, after: Option<&str>, limit: usize) -> Result<Page> {
        let answer = at_once(self.base.list(query, after, limit));
        let count = answer.as_ref().map_or(0, |page| page.items.len() as u64);
        self.answered(3 + 16 * count, answer)
    }

    async fn events(&self, filter: EventFilter, after: EventSeq, limit: usize) -> Result<EventPage> {
        self.answered(4, at_once(self.base.events(filter, after, limit)))
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
                world.checker.committed(batch, committed, &mut world.counters);
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
