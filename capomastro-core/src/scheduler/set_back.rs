//! The store's clock may be set back. What was due by the old time would be waited for until the clock is there again, so
//! it is made due at once: looking or evaluating too early is harmless.

use super::{Inner, house::SWEEP_EVERY};
use crate::{
    Result,
    store::{DueChange, ListKey, Record, Task},
    time::Timestamp,
};
use chrono::TimeDelta;
use std::{sync::PoisonError, time::Duration};

/// By how much a clock may go back unnoticed: what is due comes later by no more than this.
const UNNOTICED: TimeDelta = TimeDelta::minutes(1);
/// How many records are read at once.
const PAGE: usize = 500;

/// Whether a clock that showed `before` was set back until `now`.
fn is_set_back(before: Timestamp, now: Timestamp) -> bool {
    before.signed_duration_since(now) > UNNOTICED
}

/// Whether the sweep, which is never due later than its period, tells that the clock was set back while nobody looked.
pub(super) fn tells_of_set_back(sweep_due: Timestamp, now: Timestamp) -> bool {
    is_set_back(sweep_due, crate::time::later(now, SWEEP_EVERY))
}

impl Inner {
    /// Follows the store's clock. What goes wrong is logged, and done with the next work that is taken.
    pub(super) async fn follow_clock(&self, now: Timestamp) {
        let before = *self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if before.is_some_and(|before| is_set_back(before, now)) {
            tracing::warn!(?before, %now, "the store's clock was set back: all work is made due");
            if let Err(error) = self.make_all_due().await {
                tracing::warn!(error = %error.report(), "work could not be made due after the clock was set back");
                return;
            }
        }
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// The sweep comes last, since it tells the next scheduler if this one does not come so far.
    pub(super) async fn make_all_due(&self) -> Result<()> {
        for list in [ListKey::open_builds(), ListKey::dependencies()] {
            let mut after: Option<String> = None;
            loop {
                let (records, next) = self.part_of(&list, after.as_deref(), PAGE).await?;
                let mut draft = self.draft();
                for task in records.iter().flat_map(tasks_of) {
                    draft.due(DueChange::Nudge { task, after: Duration::ZERO });
                }
                if !draft.is_empty() {
                    self.commit(draft).await?;
                }
                after = next;
                if after.is_none() {
                    break;
                }
            }
        }
        let mut draft = self.draft();
        draft.due(DueChange::Nudge { task: Task::Sweep, after: Duration::ZERO });
        self.commit(draft).await.map(drop)
    }
}

fn tasks_of(record: &Record) -> Vec<Task> {
    match record {
        Record::Build(build) => vec![Task::Drive(build.id)],
        Record::Dependency(d) => vec![Task::Look(d.id), Task::Evaluate(d.id), Task::Trim(d.id)],
        _ => Vec::new(),
    }
}
