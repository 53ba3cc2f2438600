//! Writing drafts: repeating what is harmless to repeat, starting over on a conflict.

use super::Inner;
use crate::{
    Error, Result, Retry,
    error::ErrorKind,
    model::CommitId,
    store::{Committed, Draft},
};
use std::time::Duration;

/// How often a decision is made anew because what it had read was changed meanwhile.
const MOST_CONFLICTS: u32 = 100;
/// How often a batch is repeated whose outcome is not known.
const MOST_REPEATS: u32 = 6;

/// Counts how often a decision was made anew.
#[derive(Debug, Default)]
pub(super) struct Attempts(u32);

impl Attempts {
    /// `Ok` if the decision is to be made anew after this error.
    pub(super) fn again(&mut self, error: Error) -> Result<()> {
        self.0 += 1;
        if error.kind() == ErrorKind::Conflict && self.0 < MOST_CONFLICTS {
            metrics::counter!("capomastro_commit_conflicts_total").increment(1);
            return Ok(());
        }
        Err(error)
    }
}

impl Inner {
    /// An empty draft.
    pub(super) fn draft(&self) -> Draft<'_> {
        let id = CommitId::draw(self.clock.now(), self.random.as_ref());
        Draft::new(self.store.as_ref(), id, self.holder.clone())
    }

    /// Writes a draft.
    pub(super) async fn commit(&self, draft: Draft<'_>) -> Result<Committed> {
        let batch = draft.finish();
        let mut wait = Duration::from_millis(20);
        let mut repeats = 0;
        loop {
            match self.store.commit(&batch).await {
                Err(e) if e.retry() == Retry::SameAgain && repeats < MOST_REPEATS => {
                    repeats += 1;
                    tracing::debug!(error = %e.report(), repeats, "repeating a commit of unknown outcome");
                    self.clock.sleep(wait).await;
                    wait *= 2;
                }
                other => return other.map_err(|e| e.with_operation("commit")),
            }
        }
    }
}
