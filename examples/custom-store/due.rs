//! Due rows: who may take what, when.

use capomastro_core::{
    Error, ErrorKind, Result,
    model::{HolderId, Note},
    store::{Batch, Claim, ClaimAsk, Claimed, DueChange, DueRow, Lane, PutBack, Task},
    time::{Timestamp, later},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// A due row, and the earliest time for which its task was nudged during its claim.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    row: DueRow,
    nudged: Option<Timestamp>,
}

impl Row {
    fn new(task: Task, lane: &Lane, due_at: Timestamp) -> Self {
        let (lane, note) = (lane.clone(), Note::default());
        Self { row: DueRow { task, lane, due_at, claimed_by: None, ticket: 0, note }, nudged: None }
    }

    fn nudge(&mut self, at: Timestamp) {
        if self.row.claimed_by.is_some() {
            self.nudged = Some(self.nudged.map_or(at, |earlier| earlier.min(at)));
        } else {
            self.row.due_at = self.row.due_at.min(at);
        }
    }

    /// Ends the claim. A nudge that came during it is not lost; if its time has come, it is due now.
    fn release(&mut self, now: Timestamp, at: Timestamp) {
        self.row.claimed_by = None;
        self.row.due_at = self.nudged.take().map_or(at, |nudged| nudged.max(now).min(at));
    }
}

/// All due rows. One counter for all tickets, so that a row that is made anew gets higher ones than before.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct DueRows {
    rows: BTreeMap<String, Row>,
    last_ticket: u64,
}

fn lost(task: Task) -> Error {
    let text = "the claim is not held any more: drop the work, whoever holds it now goes on with it";
    Error::new(ErrorKind::ClaimLost, text).with_context("task", task)
}

fn claim_of(batch: &Batch, task: Task) -> Option<&Claim> {
    batch.claims.iter().find(|claim| claim.task == task)
}

/// A later version of core may have further changes: refused, since one that is passed over would be lost.
const fn known(change: &DueChange) -> bool {
    use DueChange::{Done, Drop, Hold, Nudge, Set};
    matches!(change, Set { .. } | Hold { .. } | Nudge { .. } | Done { .. } | Drop { .. })
}

impl DueRows {
    pub(crate) fn get(&self, task: Task) -> Option<DueRow> {
        self.rows.get(&task.to_string()).map(|row| row.row.clone())
    }

    /// A lease that has ended ends no claim: that somebody else took the task does.
    fn holds(&self, holder: &HolderId, claim: &Claim) -> bool {
        let holder = Some(holder.as_str());
        self.get(claim.task)
            .is_some_and(|row| row.ticket == claim.ticket && row.claimed_by.as_deref() == holder)
    }

    /// The claims of a batch must hold, and what it wants to hold must be free.
    pub(crate) fn check(&self, now: Timestamp, batch: &Batch) -> Result<()> {
        if let Some(claim) = batch.claims.iter().find(|claim| !self.holds(&batch.holder, claim)) {
            return Err(lost(claim.task));
        }
        for change in &batch.due {
            let task = change.task();
            if !known(change) {
                let text = "this store does not know such a change of a due row: it is older than core";
                return Err(Error::new(ErrorKind::Unsupported, text).with_context("task", task));
            }
            if matches!(change, DueChange::Hold { .. })
                && claim_of(batch, task).is_none()
                && self.get(task).is_some_and(|row| row.claimed_by.is_some() && row.due_at > now)
            {
                return Err(lost(task));
            }
        }
        Ok(())
    }

    /// Makes one change of a batch. Returns the claim that was born or made longer.
    pub(crate) fn change(&mut self, now: Timestamp, batch: &Batch, change: &DueChange) -> Option<Claim> {
        let (task, held) = (change.task(), claim_of(batch, change.task()));
        let name = task.to_string();
        match change {
            DueChange::Set { lane, after, note, .. } => {
                let at = later(now, *after);
                let row = self.rows.entry(name).or_insert_with(|| Row::new(task, lane, at));
                match &row.row.claimed_by {
                    Some(_) if held.is_some() => row.release(now, at),
                    Some(_) => row.nudge(at),
                    None => row.row.due_at = at,
                }
                row.row.lane = lane.clone();
                row.row.note = note.clone().unwrap_or(std::mem::take(&mut row.row.note));
                None
            }
            DueChange::Hold { lane, lease, .. } => {
                let row = self.rows.entry(name).or_insert_with(|| Row::new(task, lane, now));
                row.row.lane = lane.clone();
                if let Some(held) = held {
                    row.row.due_at = later(now, *lease);
                    Some(Claim { note: row.row.note.clone(), ..held.clone() })
                } else {
                    self.take(now, task, &batch.holder, *lease)
                }
            }
            DueChange::Nudge { after, .. } => {
                if let Some(row) = self.rows.get_mut(&name) {
                    row.nudge(later(now, *after));
                }
                None
            }
            DueChange::Done { .. } => {
                match self.rows.get_mut(&name) {
                    Some(row) if held.is_some() && row.nudged.is_some() => {
                        row.release(now, Timestamp::MAX_UTC)
                    }
                    _ => drop(self.rows.remove(&name)),
                }
                None
            }
            DueChange::Drop { .. } => {
                self.rows.remove(&name);
                None
            }
            _ => None,
        }
    }

    fn take(&mut self, now: Timestamp, task: Task, by: &HolderId, lease: Duration) -> Option<Claim> {
        let row = self.rows.get_mut(&task.to_string())?;
        let claim =
            Claim { task, ticket: self.last_ticket + 1, due_at: row.row.due_at, note: row.row.note.clone() };
        self.last_ticket = claim.ticket;
        row.row.claimed_by = Some(by.to_string());
        row.row.ticket = claim.ticket;
        row.row.due_at = later(now, lease);
        row.nudged = None;
        Some(claim)
    }

    /// The rows of a lane in due order. This looks at all rows; a store for many dependencies keeps an index.
    fn lane(&self, lane: &Lane) -> Vec<(Timestamp, Task)> {
        let of_lane = self.rows.values().filter(|row| row.row.lane == *lane);
        let mut rows: Vec<_> = of_lane.map(|row| (row.row.due_at, row.row.task)).collect();
        rows.sort_unstable();
        rows
    }

    pub(crate) fn claim(&mut self, now: Timestamp, ask: &ClaimAsk) -> Result<Claimed> {
        let lanes: BTreeSet<&Lane> = ask.lanes.iter().map(|one| &one.lane).collect();
        if lanes.len() < ask.lanes.len() {
            return Err(Error::invalid("a lane is asked for twice: name each lane once"));
        }
        let mut claimed = Claimed { now, claims: Vec::new(), next_due: None };
        for one in &ask.lanes {
            let rows = self.lane(&one.lane);
            let due = rows.iter().take_while(|(at, _)| *at <= now).take(one.limit).count();
            for (_, task) in &rows[..due] {
                claimed.claims.extend(self.take(now, *task, &ask.holder, one.lease));
            }
            // What another one holds is next, too: it is due when its lease ends.
            claimed.next_due = claimed.next_due.into_iter().chain(rows.get(due).map(|(at, _)| *at)).min();
        }
        Ok(claimed)
    }

    pub(crate) fn put_back(&mut self, now: Timestamp, holder: &HolderId, items: &[PutBack]) {
        for item in items {
            if self.holds(holder, &item.claim)
                && let Some(row) = self.rows.get_mut(&item.claim.task.to_string())
            {
                row.release(now, later(now, item.after));
                row.row.note = item.note.clone();
            }
        }
    }
}
