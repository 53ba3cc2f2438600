//! What people do to a dependency's state besides triggering it.

use crate::{
    detect::begin_backoff_anew,
    model::{Cause, DependencyState, EndReason, Request},
};

/// The source was edited: a new epoch begins, and nothing that was seen before is compared with what will be. Requests
/// that name a revision end; unpinned forced ones, and stored triggers, stay. How looking goes is for the next look to
/// say, so that a recovery is told; it backs off anew. Returns what ended.
pub fn edit_source(state: &mut DependencyState) -> Vec<(Cause, EndReason)> {
    state.epoch = state.epoch.saturating_add(1);
    state.observed = None;
    state.accounted = None;
    state.debt_since = None;
    state.not_found = 0;
    begin_backoff_anew(state);
    state.vetoed = None;
    state.discarded = None;
    state.retry = None;
    state.held_at = None;
    state.last_decision = None;
    let (ended, kept): (Vec<Request>, Vec<Request>) =
        std::mem::take(&mut state.waiting).into_iter().partition(|r| r.revision.is_some() || !r.forced);
    state.waiting = kept;
    ended.into_iter().flat_map(|r| r.causes).map(|c| (c, EndReason::Superseded)).collect()
}

/// The dependency was deleted: nothing is built any more, and what waits ends. A build that runs ends as usual. Returns
/// what ended.
pub fn delete_dependency(state: &mut DependencyState) -> Vec<(Cause, EndReason)> {
    state.deleted = true;
    state.retry = None;
    let waiting = std::mem::take(&mut state.waiting).into_iter().flat_map(|r| r.causes);
    let stored = std::mem::take(&mut state.stored).into_iter().map(|s| s.cause);
    waiting.chain(stored).map(|c| (c, EndReason::Deleted)).collect()
}
