//! Stores that are wrong. Most change what passes through: a guard that is not handed on is one that was forgotten.

use crate::{Bug, Part};
use async_trait::async_trait;
use capomastro_core::{
    Result,
    model::{EventSeq, HolderId, Phase},
    store::{
        Batch, Claim, ClaimAsk, Claimed, Committed, DueChange, EventFilter, EventPage, Key, Page, PutBack,
        Query, Record, Snapshot, StateStore, StoreInfo,
    },
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

/// A store that hands on something else than it was given.
struct Passing {
    inner: Arc<dyn StateStore>,
    batch: fn(&mut Batch),
    committed: fn(&mut Committed),
    ask: fn(&mut ClaimAsk),
    claimed: fn(&mut Claimed),
    back: fn(&mut Vec<PutBack>),
}

impl Passing {
    fn all(inner: Arc<dyn StateStore>) -> Self {
        Self { inner, batch: |_| {}, committed: |_| {}, ask: |_| {}, claimed: |_| {}, back: |_| {} }
    }
}

impl fmt::Debug for Passing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl StateStore for Passing {
    async fn check(&self) -> Result<StoreInfo> {
        self.inner.check().await
    }
    async fn get(&self, keys: &[Key]) -> Result<Snapshot> {
        self.inner.get(keys).await
    }
    async fn list(&self, query: &Query, after: Option<&str>, limit: usize) -> Result<Page> {
        self.inner.list(query, after, limit).await
    }
    async fn events(&self, filter: EventFilter, after: EventSeq, limit: usize) -> Result<EventPage> {
        self.inner.events(filter, after, limit).await
    }
    async fn commit(&self, batch: &Batch) -> Result<Committed> {
        let mut batch = batch.clone();
        (self.batch)(&mut batch);
        let mut committed = self.inner.commit(&batch).await?;
        (self.committed)(&mut committed);
        Ok(committed)
    }
    async fn claim_due(&self, ask: &ClaimAsk) -> Result<Claimed> {
        let mut ask = ask.clone();
        (self.ask)(&mut ask);
        let mut claimed = self.inner.claim_due(&ask).await?;
        (self.claimed)(&mut claimed);
        Ok(claimed)
    }
    async fn put_back(&self, holder: &HolderId, items: &[PutBack]) -> Result<()> {
        let mut items = items.to_vec();
        (self.back)(&mut items);
        self.inner.put_back(holder, &items).await
    }
}

/// What is wrong with a store that remembers something of its own.
#[derive(Debug)]
enum Wrong {
    /// Answers reads as they were answered the first time.
    Stale(Mutex<BTreeMap<Key, Snapshot>>),
    /// Shows a task that was taken to the next one who asks, too.
    TwoHolders(Mutex<Vec<Claim>>),
    /// Draws a new id for each commit.
    NewIds(Mutex<u64>),
    /// Says of a conflict that it was written.
    Swallows,
    /// Writes a batch record by record.
    Torn,
}

#[derive(Debug)]
struct Remembering {
    inner: Arc<dyn StateStore>,
    wrong: Wrong,
}

fn remembering(inner: Arc<dyn StateStore>, wrong: Wrong) -> Arc<dyn StateStore> {
    Arc::new(Remembering { inner, wrong })
}

#[async_trait]
impl StateStore for Remembering {
    async fn check(&self) -> Result<StoreInfo> {
        self.inner.check().await
    }
    async fn get(&self, keys: &[Key]) -> Result<Snapshot> {
        let mut snapshot = self.inner.get(keys).await?;
        if let (Wrong::Stale(seen), [key]) = (&self.wrong, keys) {
            let mut seen = seen.lock().unwrap();
            if snapshot.records[0].is_some() {
                let at = snapshot.at;
                snapshot = seen.entry(key.clone()).or_insert(snapshot).clone();
                snapshot.at = at;
            }
        }
        Ok(snapshot)
    }
    async fn list(&self, query: &Query, after: Option<&str>, limit: usize) -> Result<Page> {
        self.inner.list(query, after, limit).await
    }
    async fn events(&self, filter: EventFilter, after: EventSeq, limit: usize) -> Result<EventPage> {
        self.inner.events(filter, after, limit).await
    }
    async fn commit(&self, batch: &Batch) -> Result<Committed> {
        match &self.wrong {
            Wrong::NewIds(count) => {
                let mut batch = batch.clone();
                {
                    let mut count = count.lock().unwrap();
                    *count += 1;
                    let id = batch.id.as_uuid().as_u128() ^ (u128::from(*count) << 32);
                    batch.id = capomastro_core::model::CommitId::from_uuid(uuid::Uuid::from_u128(id));
                }
                self.inner.commit(&batch).await
            }
            Wrong::Swallows => match self.inner.commit(batch).await {
                Err(e) if e.kind() == capomastro_core::ErrorKind::Conflict => {
                    let at = self.inner.check().await?.now;
                    Ok(Committed { at, repeated: false, claims: Vec::new(), forgotten: 0 })
                }
                answer => answer,
            },
            Wrong::Torn => {
                let mut first = batch.clone();
                first.puts.truncate(1);
                let wanted = batch.puts.len();
                let answer = self.inner.commit(&first).await?;
                for put in batch.puts.iter().skip(1).take(wanted) {
                    let id = put_id(batch, put.record.key());
                    let mut next = Batch::new(id, batch.holder.clone());
                    next.puts = vec![put.clone()];
                    self.inner.commit(&next).await?;
                }
                Ok(answer)
            }
            _ => self.inner.commit(batch).await,
        }
    }
    async fn claim_due(&self, ask: &ClaimAsk) -> Result<Claimed> {
        let mut claimed = self.inner.claim_due(ask).await?;
        if let Wrong::TwoHolders(taken) = &self.wrong {
            let mut taken = taken.lock().unwrap();
            let again = std::mem::replace(&mut *taken, claimed.claims.clone());
            claimed.claims.extend(again);
        }
        Ok(claimed)
    }
    async fn put_back(&self, holder: &HolderId, items: &[PutBack]) -> Result<()> {
        self.inner.put_back(holder, items).await
    }
}

/// An id of its own for one record of a batch.
fn put_id(batch: &Batch, key: Key) -> capomastro_core::model::CommitId {
    let salt = key.to_string().bytes().fold(17_u128, |sum, byte| sum.wrapping_mul(31) + u128::from(byte));
    capomastro_core::model::CommitId::from_uuid(uuid::Uuid::from_u128(batch.id.as_uuid().as_u128() ^ salt))
}

/// A bug that changes a batch on its way.
macro_rules! batches {
    ($part:ident: $($name:literal, $what:literal: $change:expr;)+) => {
        &[$(Bug {
            name: $name,
            what: $what,
            part: Part::$part(|inner| {
                let batch: fn(&mut Batch) = $change;
                Arc::new(Passing { batch, ..Passing::all(inner) })
            }),
        },)+]
    };
}

fn ends_a_build(batch: &Batch) -> bool {
    batch.puts.iter().any(|put| matches!(&put.record, Record::Build(build) if build.phase.is_terminal()))
}

/// What a batch writes of one kind, one by one.
macro_rules! each {
    ($batch:expr, $kind:ident, $change:expr) => {{
        for put in &mut $batch.puts {
            if let Record::$kind(record) = &mut put.record {
                ($change)(record);
            }
        }
    }};
}

/// Without any sense of what a batch is about.
pub(crate) const PLAIN: &[Bug] = batches! {
    Store:
    "guards dropped", "no batch has a guard": |batch| batch.guards.clear();
    "last guard dropped", "the last guard of each batch is missing": |batch| drop(batch.guards.pop());
    "claims dropped", "no commit needs a claim": |batch| batch.claims.clear();
    "changes dropped", "nothing is written over what is stored": |batch| {
        batch.puts.retain(|put| put.expect.is_none());
    };
    "deletes dropped", "nothing is ever deleted": |batch| batch.deletes.clear();
    "nudges dropped", "a nudge nudges nobody": |batch| {
        batch.due.retain(|change| !matches!(change, DueChange::Nudge { .. }));
    };
    "holds dropped", "no claim is born or made longer": |batch| {
        batch.due.retain(|change| !matches!(change, DueChange::Hold { .. }));
    };
    "holds in the open", "what is to be held from birth is free": |batch| {
        for change in &mut batch.due {
            if let DueChange::Hold { task, lane, .. } = change.clone() {
                *change = DueChange::Set { task, lane, after: Duration::ZERO, note: None };
            }
        }
    };
    "done for set", "what is to be done again is done": |batch| {
        for change in &mut batch.due {
            if let DueChange::Set { task, .. } = change {
                *change = DueChange::Done { task: *task };
            }
        }
    };
    "drops dropped", "no row is dropped": |batch| {
        batch.due.retain(|change| !matches!(change, DueChange::Drop { .. }));
    };
    "events reordered", "the events of a commit come backwards": |batch| batch.events.reverse();
    "events dropped", "the last event of each commit is missing": |batch| drop(batch.events.pop());
};

/// Of one step of the work: what a rule forgets, or does too early.
pub(crate) const STEPS: &[Bug] = batches! {
    Rule:
    "relink forgotten", "a project is not told that a build ended": |batch| {
        if ends_a_build(batch) {
            batch.puts.retain(|put| !matches!(put.record, Record::Project(_)));
        }
    };
    "seal forgotten", "a project build stays open": |batch| {
        each!(batch, ProjectBuild, |record: &mut capomastro_core::model::ProjectBuild| record.seal = None);
    };
    "promotion around the table", "what is sealed becomes current only once": |batch| {
        each!(batch, Project, |record: &mut capomastro_core::model::Project| {
            if record.seals > 1 {
                record.current = None;
            }
        });
    };
    "promotion of what failed", "a build that failed is linked like a good one": |batch| {
        let failed: Vec<_> = batch.puts.iter().filter_map(|put| match &put.record {
            Record::Build(build) if build.phase == Phase::Failed => Some(build.clone()),
            _ => None,
        }).collect();
        for build in failed {
            each!(batch, State, |record: &mut capomastro_core::model::DependencyState| {
                record.linked = Some(capomastro_core::model::Linked {
                    build: build.id,
                    revision: build.revision.clone(),
                });
            });
        }
    };
    "lock kept", "the end of a build does not release its dependency": |batch| {
        if ends_a_build(batch) {
            let owner = batch.puts.iter().find_map(|put| match &put.record {
                Record::Build(build) => Some(build.clone()),
                _ => None,
            });
            each!(batch, State, |record: &mut capomastro_core::model::DependencyState| {
                if let (None, Some(build)) = (&record.held, &owner) {
                    record.held = Some(capomastro_core::model::Held {
                        owner: build.id,
                        fence: build.fence,
                        revision: build.revision.clone(),
                        epoch: build.epoch,
                        parameters: build.parameters.clone(),
                        stopping: false,
                        since: build.requested_at,
                    });
                }
            });
        }
    };
    "lock not taken", "a build starts without holding its dependency": |batch| {
        each!(batch, State, |record: &mut capomastro_core::model::DependencyState| record.held = None);
    };
    "account not kept", "a build accounts for no revision": |batch| {
        each!(batch, State, |record: &mut capomastro_core::model::DependencyState| record.accounted = None);
    };
    "debt forgotten", "what is seen while a build runs is taken for built": |batch| {
        each!(batch, State, |record: &mut capomastro_core::model::DependencyState| {
            if let (Some(_), Some(observed), Some(accounted)) =
                (&record.held, &record.observed, &mut record.accounted)
            {
                accounted.revision = observed.revision.clone();
            }
        });
    };
    "requests forgotten", "what waits for a dependency is lost": |batch| {
        each!(batch, State, |record: &mut capomastro_core::model::DependencyState| record.waiting.clear());
    };
    "retry forgotten", "what is owed after a failure is lost": |batch| {
        each!(batch, State, |record: &mut capomastro_core::model::DependencyState| record.retry = None);
    };
    "trigger forgotten", "a push leaves nothing behind": |batch| {
        each!(batch, State, |record: &mut capomastro_core::model::DependencyState| record.stored.clear());
    };
    "stop forgotten", "that a build is to stop is not recorded": |batch| {
        each!(batch, Build, |record: &mut capomastro_core::model::Build| record.stop = None);
    };
    "intent after the send", "that a build may have been sent is recorded with the answer": |batch| {
        each!(batch, Build, |record: &mut capomastro_core::model::Build| {
            if record.phase == Phase::Launching {
                (record.phase, record.sends, record.launching_at) = (Phase::Requested, 0, None);
            }
        });
    };
    "reference lost", "what the build system calls a build is not kept": |batch| {
        each!(batch, Build, |record: &mut capomastro_core::model::Build| record.external = None);
    };
    "fence kept", "the fence of a dependency does not grow": |batch| {
        each!(batch, State, |record: &mut capomastro_core::model::DependencyState| record.fence = 0);
    };
    "pin forgotten", "a pin is not kept": |batch| {
        each!(batch, Project, |record: &mut capomastro_core::model::Project| {
            record.members.values_mut().for_each(|member| member.pin = None);
        });
    };
    "receipts forgotten", "a receipt stays as it was given": |batch| {
        batch.puts.retain(|put| !matches!(put.record, Record::Receipt(_)) || put.expect.is_none());
    };
    "result dropped", "what was built, and what it left, is not kept": |batch| {
        each!(batch, Build, |record: &mut capomastro_core::model::Build| {
            record.built = None;
            record.artifacts.clear();
        });
    };
    "slots dropped", "a project build does not say what is in it": |batch| {
        each!(batch, ProjectBuild, |record: &mut capomastro_core::model::ProjectBuild| {
            for slot in record.slots.values_mut() {
                slot.revision = None;
                slot.artifacts.clear();
            }
        });
    };
    "failure hidden", "a look that failed is taken for a good one": |batch| {
        each!(batch, State, |record: &mut capomastro_core::model::DependencyState| {
            if matches!(record.health, capomastro_core::model::Health::Failing { .. }) {
                record.health = capomastro_core::model::Health::Healthy;
            }
        });
    };
    "fences stand still", "each build of a dependency has the same fence": |batch| {
        each!(batch, Build, |record: &mut capomastro_core::model::Build| record.fence = 1);
        each!(batch, State, |record: &mut capomastro_core::model::DependencyState| {
            record.fence = record.fence.min(1);
            record.held.iter_mut().for_each(|held| held.fence = 1);
        });
    };
    "drive forgotten", "nobody drives a new build": |batch| {
        use capomastro_core::store::Task;
        batch.due.retain(|change| !matches!(change.task(), Task::Drive(_)));
    };
};

macro_rules! stores {
    ($($name:literal, $what:literal: $wrap:expr;)+) => {
        &[$(Bug { name: $name, what: $what, part: Part::Store($wrap) },)+]
    };
}

/// Of the answers, and of what a store remembers.
pub(crate) const ANSWERS: &[Bug] = stores! {
    "stale reads", "a record that was read once is answered from memory":
        |inner| remembering(inner, Wrong::Stale(Mutex::default()));
    "two holders", "a claim is given to the next one who asks, too":
        |inner| remembering(inner, Wrong::TwoHolders(Mutex::default()));
    "new commit ids", "a repeated commit is written again":
        |inner| remembering(inner, Wrong::NewIds(Mutex::default()));
    "conflicts swallowed", "a conflict is answered as a success": |inner| remembering(inner, Wrong::Swallows);
    "torn commits", "a batch is written record by record": |inner| remembering(inner, Wrong::Torn);
    "claims not told", "a commit does not tell the claims that were born": |inner| {
        Arc::new(Passing { committed: |committed| committed.claims.clear(), ..Passing::all(inner) })
    };
    "repetitions not told", "a repeated commit looks like a new one": |inner| {
        Arc::new(Passing { committed: |committed| committed.repeated = false, ..Passing::all(inner) })
    };
    "limits ignored", "more is taken than was asked for": |inner| {
        Arc::new(Passing {
            ask: |ask| ask.lanes.iter_mut().for_each(|lane| lane.limit = usize::MAX),
            ..Passing::all(inner)
        })
    };
    "leases too short", "a claim lapses at once": |inner| {
        Arc::new(Passing {
            ask: |ask| ask.lanes.iter_mut().for_each(|lane| lane.lease = Duration::ZERO),
            ..Passing::all(inner)
        })
    };
    "last come first served", "what is due last is worked on first": |inner| {
        Arc::new(Passing { claimed: |claimed| claimed.claims.reverse(), ..Passing::all(inner) })
    };
    "never due", "nothing is said to be due later": |inner| {
        Arc::new(Passing { claimed: |claimed| claimed.next_due = None, ..Passing::all(inner) })
    };
    "nothing given back", "what is given back stays claimed": |inner| {
        Arc::new(Passing { back: Vec::clear, ..Passing::all(inner) })
    };
};
