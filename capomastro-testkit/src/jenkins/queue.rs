//! The queue: items and their stages, folding, and when each leaves.

use super::{
    build::{Given, Values, millis},
    job::{Job, JobId},
    state::State,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long an item that left the queue can be read.
pub(super) const LEFT_ITEMS_KEPT: u64 = 300_000;

/// Why something was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    User(String),
    Remote {
        address: String,
        note: Option<String>,
    },
    /// A build that somebody repeated with its parameters. Not seen live.
    Rebuild {
        upstream: String,
        number: u32,
    },
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Waiting {
        due: u64,
    },
    Blocked {
        since: u64,
    },
    Buildable {
        since: u64,
    },
    /// An executor was chosen.
    Pending {
        since: u64,
        until: u64,
    },
}

/// An item of the queue.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) id: u64,
    pub(super) job: JobId,
    pub(super) values: Option<Values>,
    pub(super) causes: Vec<Cause>,
    pub(super) since: u64,
    pub(super) stage: Stage,
}

/// How an item left.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Cancelled,
    /// With this build; shown from the time at which it has been created.
    Started {
        number: u32,
        shown_from: u64,
    },
    /// Without any build, for ever.
    Nothing,
}

/// An item that left the queue, and how its job was called then if that is gone.
#[derive(Clone, Debug)]
pub(super) struct Left {
    pub(super) item: Item,
    pub(super) at: u64,
    pub(super) fate: Fate,
}

/// What is on disk of the queue.
#[derive(Clone, Debug, Default)]
pub(super) struct Saved {
    pub(super) items: Vec<Item>,
    pub(super) last_id: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    pub(super) items: BTreeMap<u64, Item>,
    pub(super) left: BTreeMap<u64, Left>,
    /// When the first of those is forgotten.
    pub(super) forget_at: Option<u64>,
    pub(super) last_id: u64,
    pub(super) saved: Saved,
    /// When the next save is due.
    pub(super) save_due: Option<u64>,
    /// How many builds the next passes give up when they would start them.
    pub(super) drop_next: u32,
}

impl Queue {
    /// Forgets items that left long enough ago.
    pub(super) fn forget(&mut self, now: u64) {
        if self.forget_at.is_some_and(|at| at <= now) {
            self.left.retain(|_, left| left.at.saturating_add(LEFT_ITEMS_KEPT) > now);
            self.forget_at = self.left.values().map(|left| left.at.saturating_add(LEFT_ITEMS_KEPT)).min();
        }
    }
}

/// What became of a request to build.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Scheduled {
    Created(u64),
    Existing(u64),
    Refused,
}

fn same_values(one: Option<&Values>, other: Option<&Values>) -> bool {
    let empty = Vec::new();
    let (one, other) = (one.map_or(&empty, |v| v.as_ref()), other.map_or(&empty, |v| v.as_ref()));
    let has = |all: &[(String, Given)], name: &str, value: &Given| {
        all.iter().any(|(n, v)| n == name && v.same(value))
    };
    one.len() == other.len() && one.iter().all(|(name, value)| has(other, name, value))
}

impl State {
    /// Puts a request into the queue, or folds it into an item that is there.
    pub(super) fn schedule(
        &mut self,
        job: JobId,
        values: Option<Values>,
        cause: Cause,
        quiet: Duration,
    ) -> Scheduled {
        let now = self.now;
        let due = now.saturating_add(millis(quiet));
        let Some(known) = self.jobs.get(&job) else { return Scheduled::Refused };
        if known.settings.refuses {
            return Scheduled::Refused;
        }
        let twin = known.queued.iter().copied().find(|id| {
            self.queue.items.get(id).is_some_and(|item| {
                !matches!(item.stage, Stage::Pending { .. })
                    && same_values(item.values.as_ref(), values.as_ref())
            })
        });
        if let Some(item) = twin.and_then(|id| self.queue.items.get_mut(&id)) {
            item.causes.push(cause);
            if let Stage::Waiting { due: before } = &mut item.stage {
                *before = due.min(*before);
            }
            let id = item.id;
            self.queue_changed();
            self.maintain();
            return Scheduled::Existing(id);
        }
        self.queue.last_id += 1;
        let id = self.queue.last_id;
        let item = Item { id, job, values, causes: vec![cause], since: now, stage: Stage::Waiting { due } };
        self.queue.items.insert(id, item);
        if let Some(known) = self.jobs.get_mut(&job) {
            known.queued.insert(id);
        }
        self.accepted.push(id);
        self.queue_changed();
        self.maintain();
        Scheduled::Created(id)
    }

    /// The queue goes to disk some time after a change.
    pub(super) fn queue_changed(&mut self) {
        let due = self.now.saturating_add(millis(self.config.queue_save_delay));
        self.queue.save_due.get_or_insert(due);
    }

    pub(super) fn save_queue(&mut self) {
        self.queue.saved =
            Saved { items: self.queue.items.values().cloned().collect(), last_id: self.queue.last_id };
        self.queue.save_due = None;
    }

    /// Takes an item out of the queue.
    pub(super) fn leave(&mut self, id: u64, fate: Fate) -> Option<Item> {
        let item = self.queue.items.remove(&id)?;
        if let Some(job) = self.jobs.get_mut(&item.job) {
            job.queued.remove(&id);
        }
        self.queue.forget_at.get_or_insert(self.now.saturating_add(LEFT_ITEMS_KEPT));
        self.queue.left.insert(id, Left { item: item.clone(), at: self.now, fate });
        self.queue_changed();
        Some(item)
    }

    /// Whether another build or item of its job keeps `item` from starting.
    fn is_blocked(&self, item: &Item, job: &Job) -> bool {
        !job.settings.concurrent
            && (!job.running.is_empty()
                || job.queued.iter().any(|other| {
                    *other != item.id
                        && self.queue.items.get(other).is_some_and(|other| {
                            matches!(other.stage, Stage::Buildable { .. } | Stage::Pending { .. })
                        })
                }))
    }

    /// One pass of the scheduler: what is due moves on, and what has an executor starts.
    pub(super) fn maintain(&mut self) {
        let now = self.now;
        let ids: Vec<u64> = self.queue.items.keys().copied().collect();
        for id in ids {
            let Some(item) = self.queue.items.get(&id).cloned() else { continue };
            let Some(job) = self.jobs.get(&item.job) else {
                self.queue.items.remove(&id);
                continue;
            };
            let stage = match item.stage {
                Stage::Waiting { due } if due > now => continue,
                Stage::Pending { until, .. } if until > now => continue,
                Stage::Pending { .. } => {
                    self.start(id);
                    continue;
                }
                Stage::Buildable { since } => Stage::Buildable { since },
                Stage::Waiting { .. } | Stage::Blocked { .. } if !self.is_blocked(&item, job) => {
                    Stage::Buildable { since: now }
                }
                Stage::Blocked { since } => Stage::Blocked { since },
                Stage::Waiting { .. } => Stage::Blocked { since: now },
            };
            let ready = matches!(stage, Stage::Buildable { .. })
                && self.quieting.is_none()
                && !self.hold_queue
                && self.runs_here(job)
                && (job.kind == super::job::JobKind::Pipeline || self.has_executor());
            let pending = millis(self.config.pending_for);
            if let Some(item) = self.queue.items.get_mut(&id) {
                item.stage = match (ready, pending) {
                    (true, 1..) => Stage::Pending { since: now, until: now.saturating_add(pending) },
                    _ => stage,
                };
            }
            if ready && pending == 0 {
                self.start(id);
            }
        }
    }

    /// Whether an executor is neither used nor chosen for an item that is pending.
    fn has_executor(&self) -> bool {
        let mut taken = self.executing.len();
        if !self.config.pending_for.is_zero() {
            taken +=
                self.queue.items.values().filter(|item| matches!(item.stage, Stage::Pending { .. })).count();
        }
        taken < self.config.executors
    }

    /// Whether a node has the label that the job asks for.
    pub(super) fn runs_here(&self, job: &Job) -> bool {
        job.settings.label.as_ref().is_none_or(|label| self.config.labels.contains(label))
    }

    /// When the scheduler has something to do by itself.
    pub(super) fn next_pass(&self) -> Option<u64> {
        self.queue
            .items
            .values()
            .filter_map(|item| match item.stage {
                Stage::Waiting { due } => Some(self.tick_at(due)),
                Stage::Pending { until, .. } => Some(until),
                Stage::Blocked { .. } | Stage::Buildable { .. } => None,
            })
            .min()
    }

    /// The first tick of the scheduler that is not before `due`.
    fn tick_at(&self, due: u64) -> u64 {
        let tick = millis(self.config.tick);
        if tick == 0 {
            return due;
        }
        let since = due.saturating_sub(self.booted);
        self.booted.saturating_add(since.div_ceil(tick).saturating_mul(tick))
    }
}
