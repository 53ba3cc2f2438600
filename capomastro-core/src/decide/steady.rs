//! The answer that nearly every look gets: nothing has changed, and nothing waits.

use crate::{
    model::{DependencyState, Health, Observed},
    probe::Probed,
    time::Timestamp,
};

/// Whether it can be told without the table what a look means that was begun on this state and answered at `now`: it only
/// counts one more [`Unchanged`](super::Decision::Unchanged). All that [`detect`](crate::detect::detect) and
/// [`evaluate`](super::evaluate) would change then is the ticket.
///
/// `false` says nothing: the table decides.
pub fn is_steady(state: &DependencyState, ticket: u64, answer: &Probed, now: Timestamp) -> bool {
    let Some(observed) = &state.observed else { return false };
    let nothing_new = match answer {
        Probed::SameAsSeen | Probed::Nothing => true,
        Probed::Observed(seen) => {
            let Observed { revision, cursor, display, metadata, .. } = observed;
            (revision, cursor, display, metadata)
                == (&seen.revision, &seen.cursor, &seen.display, &seen.metadata)
        }
        Probed::NotFound => false,
    };
    nothing_new
        && ticket > state.applied_ticket
        && !state.deleted
        && !state.in_debt()
        && state.debt_since.is_none()
        && state.not_found == 0
        && state.health == Health::Healthy
        && state.paused.is_none()
        && state.waiting.is_empty()
        && state.stored.is_empty()
        && state.retry.is_none()
        // A time from the future would be corrected.
        && observed.moved_at <= now
}
