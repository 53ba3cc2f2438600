//! Due rows, and what the records demand of them: a task that nobody will take is work that is lost.

use super::Checker;
use capomastro_core::{
    model::{DependencyId, Health, HolderId, OnHeld, ReceiptState},
    store::{Batch, ClaimAsk, Claimed, Committed, DueChange, Key, Lane, PutBack, Record, Task},
    time::{Timestamp, later},
};
use std::{collections::BTreeMap, time::Duration};

#[derive(Clone, Debug)]
struct Row {
    lane: Lane,
    due_at: Timestamp,
    holder: Option<HolderId>,
    ticket: u64,
    nudge_at: Option<Timestamp>,
}

impl Row {
    /// When the task is taken at the latest, if its holder crashes or answers.
    fn effective(&self) -> Timestamp {
        self.nudge_at.map_or(self.due_at, |n| n.min(self.due_at))
    }

    fn release(&mut self, at: Timestamp) {
        self.holder = None;
        self.due_at = self.nudge_at.take().map_or(at, |n| n.min(at));
    }
}

/// The due rows as what was claimed, committed and given back makes them.
#[derive(Debug, Default)]
pub(super) struct Rows {
    rows: BTreeMap<Task, Row>,
    tickets: BTreeMap<Task, u64>,
}

impl Rows {
    pub(super) fn holder(&self, task: Task) -> Option<&HolderId> {
        self.rows.get(&task)?.holder.as_ref()
    }

    /// The ticket by which this holder has the task.
    pub(super) fn ticket(&self, task: Task, holder: &HolderId) -> Option<u64> {
        let row = self.rows.get(&task)?;
        (row.holder.as_ref() == Some(holder)).then_some(row.ticket)
    }

    /// Until when the holder of the task has it for certain.
    pub(super) fn held_until(&self, task: Task) -> Option<Timestamp> {
        let row = self.rows.get(&task)?;
        row.holder.is_some().then_some(row.due_at)
    }

    fn take(&mut self, task: Task, ticket: u64, holder: &HolderId, until: Timestamp) -> Result<(), String> {
        let last = self.tickets.insert(task, ticket).unwrap_or_default();
        if ticket <= last {
            return Err(format!("ticket {ticket} of {task} follows {last}"));
        }
        if let Some(row) = self.rows.get_mut(&task) {
            row.holder = Some(holder.clone());
            row.ticket = ticket;
            row.due_at = until;
            row.nudge_at = None;
        }
        Ok(())
    }

    pub(super) fn claimed(&mut self, ask: &ClaimAsk, claimed: &Claimed) -> Result<(), String> {
        for claim in &claimed.claims {
            let Some(row) = self.rows.get(&claim.task) else {
                return Err(format!("{} was claimed and nothing made it due", claim.task));
            };
            if row.due_at > claimed.now {
                return Err(format!("{} was claimed before it was due", claim.task));
            }
            let Some(lane) = ask.lanes.iter().find(|l| l.lane == row.lane) else {
                return Err(format!("{} was claimed from another lane", claim.task));
            };
            self.take(claim.task, claim.ticket, &ask.holder, later(claimed.now, lane.lease))?;
        }
        Ok(())
    }

    pub(super) fn put_back(&mut self, now: Timestamp, holder: &HolderId, items: &[PutBack]) {
        for item in items {
            if let Some(row) = self.rows.get_mut(&item.claim.task)
                && row.ticket == item.claim.ticket
                && row.holder.as_ref() == Some(holder)
            {
                row.release(later(now, item.after));
            }
        }
    }

    pub(super) fn committed(&mut self, batch: &Batch, committed: &Committed) -> Result<(), String> {
        let now = committed.at;
        for claim in &batch.claims {
            let row = self.rows.get(&claim.task);
            if !row.is_some_and(|r| r.ticket == claim.ticket && r.holder.as_ref() == Some(&batch.holder)) {
                return Err(format!("a commit went through under a lost claim of {}", claim.task));
            }
        }
        for change in &batch.due {
            let task = change.task();
            let held = batch.claims.iter().any(|c| c.task == task);
            match change {
                DueChange::Set { lane, after, .. } => {
                    let at = later(now, *after);
                    let row = self.rows.entry(task).or_insert_with(|| Row {
                        lane: lane.clone(),
                        due_at: at,
                        holder: None,
                        ticket: 0,
                        nudge_at: None,
                    });
                    if held {
                        row.release(at);
                    } else if row.holder.is_some() {
                        row.nudge_at = Some(row.nudge_at.map_or(at, |n| n.min(at)));
                    } else {
                        row.due_at = at;
                    }
                    row.lane = lane.clone();
                }
                DueChange::Hold { lane, lease, .. } => {
                    let until = later(now, *lease);
                    let Some(claim) = committed.claims.iter().find(|c| c.task == task) else {
                        return Err(format!("{task} was to be held and no claim came back"));
                    };
                    let row = self.rows.entry(task).or_insert_with(|| Row {
                        lane: lane.clone(),
                        due_at: until,
                        holder: None,
                        ticket: 0,
                        nudge_at: None,
                    });
                    row.lane = lane.clone();
                    if held {
                        row.due_at = until;
                    } else {
                        self.take(task, claim.ticket, &batch.holder, until)?;
                    }
                }
                DueChange::Nudge { after, .. } => {
                    if let Some(row) = self.rows.get_mut(&task) {
                        let at = later(now, *after);
                        if row.holder.is_some() {
                            row.nudge_at = Some(row.nudge_at.map_or(at, |n| n.min(at)));
                        } else {
                            row.due_at = row.due_at.min(at);
                        }
                    }
                }
                DueChange::Done { .. } => match self.rows.remove(&task) {
                    Some(mut row) if held && row.nudge_at.is_some() => {
                        row.release(now);
                        self.rows.insert(task, row);
                    }
                    _ => {}
                },
                DueChange::Drop { .. } => {
                    self.rows.remove(&task);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// When a task is taken at the latest.
    pub(super) fn due(&self, task: Task) -> Option<Timestamp> {
        self.rows.get(&task).map(Row::effective)
    }

    fn lane(&self, task: Task) -> Option<&Lane> {
        self.rows.get(&task).map(|r| &r.lane)
    }

    /// Tasks that are due or held.
    pub(super) fn busy(&self, now: Timestamp) -> Option<Task> {
        self.rows.iter().find(|(_, r)| r.due_at <= now || r.holder.is_some()).map(|(t, _)| *t)
    }

    pub(super) fn tasks(&self) -> impl Iterator<Item = Task> {
        self.rows.keys().copied()
    }
}

/// How much later than a decision was made its commit may count from: it is repeated while its outcome is not known.
pub(super) const COMMIT_WITHIN: Duration = Duration::from_secs(20);
/// How soon a source that was not found is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How long anything may be put off that concerns a build under way.
const DRIVE_WITHIN: Duration = Duration::from_secs(300);
/// How long a look may be put off: the longest back-off, and a phase.
const LOOK_WITHIN: Duration = Duration::from_secs(4_000);

impl Checker {
    fn is_due(&self, task: Task, by: Timestamp) -> bool {
        self.rows.due(task).is_some_and(|at| at <= by)
    }

    fn demand(&mut self, task: Task, by: Timestamp, why: &str) {
        if !self.is_due(task, by) {
            let row = self.rows.rows.get(&task).cloned();
            self.fail("due", || format!("{task} must be due by {by}, since {why}: {row:?}"));
        }
    }

    /// What a dependency's records demand of due rows.
    pub(super) fn check_demands(&mut self, id: DependencyId, at: Timestamp) {
        let (Some(state), Some(dependency)) = (self.state(id).cloned(), self.dependency(id).cloned()) else {
            return;
        };
        if let Some(held) = &state.held {
            self.demand(Task::Drive(held.owner), later(at, DRIVE_WITHIN), "its build is under way");
            if let Some(build) = self.build(held.owner) {
                let lane = Lane::Launcher(build.launcher.clone());
                let is_there = self.rows.lane(Task::Drive(held.owner)) == Some(&lane);
                self.check(is_there, "due", || format!("build {} is driven in another lane", held.owner));
            }
        }
        if dependency.deleted_at.is_some() {
            return;
        }
        self.demand(Task::Look(id), later(at, LOOK_WITHIN), "it is to be looked at");
        let lane = Lane::Probe(dependency.source.probe.clone());
        let is_there = self.rows.lane(Task::Look(id)) == Some(&lane);
        self.check(is_there, "due", || format!("{id} is looked at in another lane"));
        let is_free = state.held.is_none() && state.paused.is_none();
        if let Some(not_before) = state.retry.as_ref().and_then(|r| r.not_before).filter(|_| is_free) {
            self.demand(Task::Evaluate(id), later(not_before.max(at), COMMIT_WITHIN), "a retry is owed");
        }
        if is_free && self.lock_is_elsewhere {
            let discards =
                matches!(dependency.policy.on_held, OnHeld::DiscardLoudly | OnHeld::DiscardSilently);
            let coalesced = state.last_decision.as_ref().is_some_and(|l| l.decision == "Coalesced");
            if !state.waiting.is_empty() || (coalesced && state.in_debt() && !discards) {
                self.demand(
                    Task::Evaluate(id),
                    later(at, Duration::from_secs(5)),
                    "the lock elsewhere may get free",
                );
            }
        }
    }

    /// What a batch itself says, and the rows that it must make due.
    pub(super) fn check_rows_of_batch(&mut self, batch: &Batch, at: Timestamp) {
        for put in &batch.puts {
            match &put.record {
                Record::Receipt(r) if r.state == ReceiptState::AwaitsLook => {
                    let living = self.dependency(r.dependency).is_some_and(|d| d.deleted_at.is_none());
                    if living {
                        // A look that did not find the source, and to which a request came back, is followed by another soon.
                        let looked = batch.claims.iter().any(|c| c.task == Task::Look(r.dependency));
                        let by = if looked { later(at, LOOK_AGAIN) } else { at };
                        self.demand(Task::Look(r.dependency), by, "a trigger awaits a look");
                    }
                }
                Record::State(s) if s.last_decision.as_ref().is_some_and(|l| l.decision == "Quiet") => {
                    let period = self.dependency(s.id).and_then(|d| d.policy.quiet).map(|q| q.period);
                    let look = batch.claims.iter().any(|c| c.task == Task::Look(s.id));
                    let good = s.health == Health::Healthy && s.not_found == 0 && s.in_debt();
                    if let Some(period) =
                        period.filter(|_| look && good && s.paused.is_none() && s.held.is_none())
                    {
                        self.demand(Task::Look(s.id), later(at, period), "it is to be quiet until then");
                    }
                }
                Record::Build(b) if b.phase.is_terminal() => {
                    let ends = batch.events.iter().any(|e| {
                        matches!(e.kind,
                        capomastro_core::events::EventKind::BuildEnded { build, .. } if build == b.id)
                    });
                    if ends && b.lease.is_some() {
                        self.demand(Task::Release(b.id), at, "its lease is to be given back");
                    }
                }
                Record::Build(b) => {
                    let asked = batch.events.iter().any(|e| {
                        matches!(&e.kind,
                        capomastro_core::events::EventKind::BuildStopping { build, .. } if *build == b.id)
                    });
                    if asked {
                        self.demand(Task::Drive(b.id), at, "the build is to be stopped");
                    }
                    self.demand(Task::Drive(b.id), later(at, DRIVE_WITHIN), "the build is under way");
                }
                Record::Orphan(o) if o.verdict.is_none() => {
                    self.demand(Task::Judge(o.build), at, "an orphan is to be judged");
                }
                Record::Limit(l) => {
                    let ended = batch
                        .events
                        .iter()
                        .any(|e| matches!(e.kind, capomastro_core::events::EventKind::BuildEnded { .. }));
                    if ended && let Some(first) = l.waiting.first().map(|w| w.build) {
                        self.demand(Task::Drive(first), at, "there is room under the limit");
                    }
                }
                _ => {}
            }
        }
        let regardless: Vec<_> = batch
            .puts
            .iter()
            .filter_map(|p| match &p.record {
                Record::State(s) if !s.deleted => Some((s.id, s.regardless_due?)),
                _ => None,
            })
            .collect();
        for (id, by) in regardless {
            let good = self.state(id).is_some_and(|s| s.health == Health::Healthy && s.not_found == 0);
            let look = batch.claims.iter().any(|c| c.task == Task::Look(id));
            if good && look && by > at {
                self.demand(Task::Look(id), later(by, COMMIT_WITHIN), "it is to be built regardless");
            }
        }
    }

    /// A look that was given back must not put off a trigger that it did not answer.
    pub(super) fn demands_of_look_given_back(&mut self, item: &PutBack) {
        let Task::Look(id) = item.claim.task else { return };
        let gone = !self.records.contains_key(&Key::Dependency(id));
        let due = self.rows.due(item.claim.task).is_some();
        self.check(gone || due || self.dependency(id).is_some_and(|d| d.deleted_at.is_some()), "due", || {
            format!("a look at {id} was given back and is due no more")
        });
    }
}
