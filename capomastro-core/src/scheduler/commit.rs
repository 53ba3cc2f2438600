//! Writing drafts: repeating what is harmless to repeat, starting over on a conflict.

use super::Inner;
use crate::{
    Error, Result, Retry,
    error::ErrorKind,
    model::CommitId,
    store::{Committed, Draft},
};
use futures_util::future::{Either, select};
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// How often a decision is made anew because what it had read was changed meanwhile.
const MOST_CONFLICTS: u32 = 100;
/// How often a batch is repeated whose outcome is not known.
const MOST_REPEATS: u32 = 6;

/// How long a decision that is made anew waits for its turn. A future that has its turn may be one that nobody polls.
const PATIENCE: Duration = Duration::from_millis(250);
/// How many records can be stood in line for at once.
const LINES: usize = 32;

/// The lines in which the decisions of this process stand that have met a conflict, by the record they met it on. Without
/// them a hundred callers that want the same record make a hundred rounds of which each lets one through.
#[derive(Debug, Default)]
pub(super) struct Turns([Arc<Mutex<()>>; LINES]);

impl Turns {
    fn line(&self, error: &Error) -> Arc<Mutex<()>> {
        let record = error.context().find(|(key, _)| *key == "record").map_or("", |(_, record)| record);
        let sum = record.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        self.0.get(sum % LINES).map(Arc::clone).unwrap_or_default()
    }
}

/// Counts how often a decision was made anew, and keeps its turn. Dropped before anything slow is done.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    made: u32,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Attempts {
    /// `Ok` if the decision is to be made anew after this error; waits for its turn.
    pub(super) async fn again(&mut self, inner: &Inner, error: Error) -> Result<()> {
        self.made += 1;
        if error.kind() != ErrorKind::Conflict {
            return Err(error);
        }
        if self.made == MOST_CONFLICTS {
            return Err(Error::new(
                ErrorKind::Conflict,
                "others kept changing what this call is about: call again",
            )
            .with_source(error));
        }
        metrics::counter!("capomastro_commit_conflicts_total").increment(1);
        self.turn = None;
        let line = inner.turns.line(&error);
        self.turn = match select(pin!(line.lock_owned()), pin!(inner.clock.sleep(PATIENCE))).await {
            Either::Left((turn, _)) => Some(turn),
            Either::Right(_) => None,
        };
        Ok(())
    }
}

impl Inner {
    /// An empty draft.
    pub(super) fn draft(&self) -> Draft<'_> {
        let id = CommitId::draw(self.clock.now(), self.random.as_ref());
        Draft::new(self.store.as_ref(), id, self.holder.clone())
    }

    /// Writes a draft. A batch of unknown outcome is repeated. Whatever but a refusal comes of that says nothing of the
    /// earlier times: the outcome stays unknown.
    pub(super) async fn commit(&self, draft: Draft<'_>) -> Result<Committed> {
        let batch = draft.finish();
        let mut wait = Duration::from_millis(20);
        let mut is_unknown = false;
        let mut repeats = 0;
        loop {
            let error = match self.store.commit(&batch).await {
                Ok(committed) => return Ok(committed),
                Err(error) => error.with_operation("commit"),
            };
            is_unknown |= error.retry() == Retry::SameAgain;
            if !is_unknown || is_refusal(error.kind()) {
                return Err(error);
            }
            if repeats == MOST_REPEATS {
                return Err(unknown(error));
            }
            repeats += 1;
            tracing::debug!(error = %error.report(), repeats, "repeating a commit of unknown outcome");
            self.clock.sleep(wait).await;
            wait *= 2;
        }
    }
}

/// Whether this answer proves that the batch was not written before: a store looks for its id first.
const fn is_refusal(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Conflict | ErrorKind::ClaimLost | ErrorKind::AlreadyExists | ErrorKind::InvalidInput
    )
}

/// The error of a batch that may have been written, whatever its last repetition says.
fn unknown(last: Error) -> Error {
    if last.kind() == ErrorKind::OutcomeUnknown {
        return last;
    }
    Error::new(
        ErrorKind::OutcomeUnknown,
        "it is not known whether the commit was written, and the store has failed since: see its last failure, and look at what is stored",
    )
    .with_operation("commit")
    .with_source(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_unknown_says_so_and_why() {
        for (kind, report) in [(ErrorKind::StorageFull, "no room"), (ErrorKind::OutcomeUnknown, "no room")] {
            let error = unknown(Error::new(kind, "no room"));
            assert_eq!((error.kind(), error.retry()), (ErrorKind::OutcomeUnknown, Retry::SameAgain));
            assert!(error.report().contains(report), "{error:?}");
        }
    }

    #[test]
    fn only_what_comes_after_the_look_for_the_id_is_a_refusal() {
        use ErrorKind as K;
        for kind in [K::Conflict, K::ClaimLost, K::AlreadyExists, K::InvalidInput] {
            assert!(is_refusal(kind), "{kind}");
        }
        for kind in [K::OutcomeUnknown, K::Unavailable, K::StorageFull, K::ReadOnly, K::TimedOut, K::Internal]
        {
            assert!(!is_refusal(kind), "{kind}");
        }
    }
}
