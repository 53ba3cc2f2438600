//! What people do to a dependency's state besides triggering it.

use crate::{
    detect::begin_backoff_anew,
    model::{Cause, DependencyState, EndReason, ReceiptId, Request, Requester},
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

/// A trigger that waits for a look or for its turn was withdrawn. What others asked for in the same request stays. Returns
/// what ended: nothing if the trigger does not wait any more.
pub fn withdraw(state: &mut DependencyState, receipt: ReceiptId, by: &Requester) -> Vec<(Cause, EndReason)> {
    let is_it = |cause: &Cause| cause.receipt == Some(receipt);
    let mut ended = Vec::new();
    let stored = std::mem::take(&mut state.stored);
    for trigger in stored {
        if is_it(&trigger.cause) {
            ended.push(trigger.cause);
        } else {
            state.stored.push(trigger);
        }
    }
    let waiting = std::mem::take(&mut state.waiting);
    for mut request in waiting {
        let (gone, kept): (Vec<Cause>, Vec<Cause>) = request.causes.into_iter().partition(is_it);
        if !gone.is_empty() {
            request.forced = kept.iter().any(|c| c.trigger.is_forced());
        }
        request.causes = kept;
        ended.extend(gone);
        if !request.causes.is_empty() {
            state.waiting.push(request);
        }
    }
    ended.into_iter().map(|c| (c, EndReason::Withdrawn { by: by.clone() })).collect()
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
