//! Due rows: who may take what, when. Pure: time comes in, nothing goes out but the answer.

use crate::{
    Result,
    model::{HolderId, Note},
    store::{
        Batch, Claim, ClaimAsk, Claimed, DueChange, DueRow, Lane, PutBack, Task,
        refusals::{check_lanes, claim_lost},
    },
    time::{Timestamp, later},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A due row.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    lane: Lane,
    /// When it is due; while claimed, when the lease ends.
    due_at: Timestamp,
    claimed_by: Option<Arc<HolderId>>,
    /// The ticket of the last claim; 0 before the first.
    ticket: u64,
    note: Note,
    /// The earliest time for which the task was nudged during the claim.
    nudge_at: Option<Timestamp>,
}

impl Row {
    fn new(lane: Lane, due_at: Timestamp, note: Note) -> Self {
        Self { lane, due_at, claimed_by: None, ticket: 0, note, nudge_at: None }
    }

    fn is_held(&self, holder: &HolderId, ticket: u64) -> bool {
        self.ticket == ticket && self.claimed_by.as_deref() == Some(holder)
    }

    fn nudge(&mut self, at: Timestamp) {
        if self.claimed_by.is_some() {
            self.nudge_at = Some(self.nudge_at.map_or(at, |earlier| earlier.min(at)));
        } else {
            self.due_at = self.due_at.min(at);
        }
    }

    /// Ends the claim: due at `at`, or earlier if a nudge said so, but not in the past.
    fn release(&mut self, now: Timestamp, at: Timestamp) {
        self.claimed_by = None;
        self.due_at = self.nudge_at.take().map_or(at, |nudged| nudged.max(now).min(at));
    }

    /// Starts a claim. What was nudged before is answered by it, since its work begins later.
    fn take(&mut self, holder: &Arc<HolderId>, ticket: u64, until: Timestamp) {
        self.claimed_by = Some(Arc::clone(holder));
        self.ticket = ticket;
        self.due_at = until;
        self.nudge_at = None;
    }
}

/// All due rows, in the order in which they are due, lane by lane.
#[derive(Clone, Debug, Default)]
pub(super) struct DueTable {
    rows: BTreeMap<Task, Row>,
    by_lane: BTreeMap<Lane, BTreeSet<(Timestamp, Task)>>,
    /// One counter for all tasks, so that a task whose row is made anew still gets higher tickets.
    last_ticket: u64,
}

impl DueTable {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn get(&self, task: Task) -> Option<DueRow> {
        self.rows.get(&task).map(|row| DueRow {
            task,
            lane: row.lane.clone(),
            due_at: row.due_at,
            claimed_by: row.claimed_by.as_ref().map(ToString::to_string),
            ticket: row.ticket,
            note: row.note.clone(),
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = DueRow> {
        self.rows.keys().filter_map(|task| self.get(*task))
    }

    pub(super) fn nudges(&self) -> impl Iterator<Item = (Task, Timestamp)> {
        self.rows.iter().filter_map(|(task, row)| row.nudge_at.map(|at| (*task, at)))
    }

    /// Whether nobody else has taken the task and the claim was not given back. A lapsed lease alone ends no claim.
    fn holds(&self, holder: &HolderId, claim: &Claim) -> bool {
        self.rows.get(&claim.task).is_some_and(|row| row.is_held(holder, claim.ticket))
    }

    /// Checks the claims of a batch, and that what it wants to hold is not held by another one.
    pub(super) fn check_claims(&self, now: Timestamp, batch: &Batch) -> Result<()> {
        if let Some(claim) = batch.claims.iter().find(|claim| !self.holds(&batch.holder, claim)) {
            return Err(claim_lost(claim.task));
        }
        for change in &batch.due {
            if let DueChange::Hold { task, .. } = change
                && !batch.claims.iter().any(|claim| claim.task == *task)
                && let Some(row) = self.rows.get(task)
                && row.claimed_by.is_some()
                && row.due_at > now
            {
                return Err(claim_lost(task));
            }
        }
        Ok(())
    }

    /// Applies the changes of a batch whose claims were checked. Returns the claims that were born or made longer.
    pub(super) fn apply(&mut self, now: Timestamp, batch: &Batch) -> Vec<Claim> {
        let mut claims = Vec::new();
        let holder = Arc::new(batch.holder.clone());
        for change in &batch.due {
            let held = batch.claims.iter().find(|claim| claim.task == change.task());
            claims.extend(self.change(now, &holder, change, held));
        }
        claims
    }

    fn change(
        &mut self,
        now: Timestamp,
        holder: &Arc<HolderId>,
        change: &DueChange,
        held: Option<&Claim>,
    ) -> Option<Claim> {
        let task = change.task();
        let row = self.remove(task);
        match change {
            DueChange::Set { lane, after, note, .. } => {
                let at = later(now, *after);
                let mut row = row.unwrap_or_else(|| Row::new(lane.clone(), at, Note::default()));
                if held.is_some() {
                    row.release(now, at);
                } else if row.claimed_by.is_some() {
                    row.nudge(at);
                } else {
                    row.due_at = at;
                }
                row.lane = lane.clone();
                if let Some(note) = note {
                    row.note = note.clone();
                }
                self.insert(task, row);
                None
            }
            DueChange::Hold { lane, lease, .. } => {
                let until = later(now, *lease);
                let mut row = row.unwrap_or_else(|| Row::new(lane.clone(), now, Note::default()));
                row.lane = lane.clone();
                let claim = if let Some(held) = held {
                    row.due_at = until;
                    Claim { note: row.note.clone(), ..held.clone() }
                } else {
                    let due_at = row.due_at;
                    row.take(holder, self.next_ticket(), until);
                    Claim { task, ticket: row.ticket, due_at, note: row.note.clone() }
                };
                self.insert(task, row);
                Some(claim)
            }
            DueChange::Nudge { after, .. } => {
                if let Some(mut row) = row {
                    row.nudge(later(now, *after));
                    self.insert(task, row);
                }
                None
            }
            DueChange::Done { .. } => {
                if let (Some(mut row), Some(_)) = (row, held)
                    && let Some(nudged) = row.nudge_at
                {
                    row.release(now, nudged.max(now));
                    self.insert(task, row);
                }
                None
            }
            DueChange::Drop { .. } => None,
        }
    }

    pub(super) fn claim(&mut self, now: Timestamp, ask: &ClaimAsk) -> Result<Claimed> {
        check_lanes(ask)?;
        let mut claims = Vec::new();
        let mut next_due: Option<Timestamp> = None;
        let holder = Arc::new(ask.holder.clone());
        for lane_ask in &ask.lanes {
            let Some(lane) = self.by_lane.get_mut(&lane_ask.lane) else { continue };
            let until = later(now, lane_ask.lease);
            let mut taken = Vec::new();
            while taken.len() < lane_ask.limit
                && lane.first().is_some_and(|(at, _)| *at <= now)
                && let Some((_, task)) = lane.pop_first()
            {
                let Some(row) = self.rows.get_mut(&task) else { continue };
                let due_at = row.due_at;
                self.last_ticket += 1;
                row.take(&holder, self.last_ticket, until);
                claims.push(Claim { task, ticket: row.ticket, due_at, note: row.note.clone() });
                taken.push((until, task));
            }
            next_due = next_due.into_iter().chain(lane.first().map(|(at, _)| *at)).min();
            lane.extend(taken);
        }
        Ok(Claimed { now, claims, next_due })
    }

    pub(super) fn put_back(&mut self, now: Timestamp, holder: &HolderId, items: &[PutBack]) {
        for item in items {
            let task = item.claim.task;
            let held = self.rows.get_mut(&task).filter(|row| row.is_held(holder, item.claim.ticket));
            let Some(row) = held else { continue };
            let before = row.due_at;
            row.release(now, later(now, item.after));
            row.note.clone_from(&item.note);
            if let Some(lane) = self.by_lane.get_mut(&row.lane) {
                lane.remove(&(before, task));
                lane.insert((row.due_at, task));
            }
        }
    }

    fn next_ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }

    fn insert(&mut self, task: Task, row: Row) {
        self.by_lane.entry(row.lane.clone()).or_default().insert((row.due_at, task));
        self.rows.insert(task, row);
    }

    fn remove(&mut self, task: Task) -> Option<Row> {
        let row = self.rows.remove(&task)?;
        if let Some(lane) = self.by_lane.get_mut(&row.lane) {
            lane.remove(&(row.due_at, task));
            if lane.is_empty() {
                self.by_lane.remove(&row.lane);
            }
        }
        Some(row)
    }
}
