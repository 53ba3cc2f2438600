//! What the end of a build means for its dependency: the lock is free, a link moves, a retry may be owed.

use super::evaluate::settle_debt;
use crate::{
    events::EventKind,
    model::{
        Build, DependencyState, HeldAt, Linked, OwedRetry, Parameters, Phase, Policy, RetryOn, RetryReason,
        Revision, Stop, StopReason,
    },
    schedule::backoff,
    time::{Timestamp, later},
};

/// How a build ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct EndOfBuild {
    /// Its terminal phase.
    pub phase: Phase,
    /// A refusal that trying again does not mend.
    pub permanent: bool,
    /// A person broke its lock; it is not retried.
    pub broken: bool,
}

impl EndOfBuild {
    /// An ordinary end.
    pub const fn of(phase: Phase) -> Self {
        Self { phase, permanent: false, broken: false }
    }

    /// Whether it may be linked.
    pub const fn is_good(self, policy: &Policy) -> bool {
        match self.phase {
            Phase::Succeeded => true,
            Phase::Unstable => policy.unstable_is_good,
            _ => false,
        }
    }
}

/// Frees the dependency and settles what the end changes. The release itself is an evaluation that follows in the same
/// commit. Returns what happened.
pub fn end_build(
    state: &mut DependencyState,
    build: &Build,
    end: EndOfBuild,
    policy: &Policy,
    now: Timestamp,
) -> Vec<EventKind> {
    let mut events = Vec::new();
    if state.held.as_ref().is_some_and(|h| h.owner == build.id) {
        state.held = None;
    }
    state.last_ended = Some((build.id, end.phase));
    let owes = owes_retry(state, build);
    if end.phase == Phase::Refused {
        state.last_start = build.previous_start;
        if owes && !is_cancelled(build) {
            let refusals = build.refusals.saturating_add(1);
            let wait = backoff(refusals, policy.retry.backoff, false);
            state.retry = Some(OwedRetry {
                not_before: (!end.permanent).then(|| later(now, wait)),
                refusals,
                ..retry_of(build, RetryReason::LaunchRefused)
            });
        }
    } else if end.is_good(policy) {
        let revision = build.stands_for().clone();
        state.linked = Some(Linked { build: build.id, revision });
        events.push(EventKind::Linked { build: build.id });
        let other = build.person_pinned && state.accounted_revision() != Some(&build.revision);
        state.held_at = other.then(|| HeldAt { revision: build.revision.clone(), by: build.id });
        if other && state.retry.as_ref().is_some_and(|r| r.revision != build.revision) {
            // Nothing is built again over a person's word.
            state.retry = None;
        }
    } else if owes
        && !end.broken
        && !is_cancelled(build)
        && is_retried(end.phase, policy)
        && build.attempt < policy.retry.max
    {
        let attempt = build.attempt.saturating_add(1);
        let wait = backoff(attempt, policy.retry.backoff, false);
        state.retry = Some(OwedRetry {
            not_before: Some(later(now, wait)),
            attempt,
            ..retry_of(build, RetryReason::BuildFailed)
        });
    }
    settle_debt(state, now);
    events
}

fn owes_retry(state: &DependencyState, build: &Build) -> bool {
    !state.deleted && build.epoch == state.epoch && state.accounted_revision() == Some(&build.revision)
}

/// Whether a person wants it stopped: however it ends, it is not begun again.
fn is_cancelled(build: &Build) -> bool {
    matches!(build.stop, Some(Stop { reason: StopReason::Cancel { .. }, .. }))
}

fn is_retried(phase: Phase, policy: &Policy) -> bool {
    match phase {
        Phase::Lost | Phase::TimedOut => true,
        Phase::Failed | Phase::Unstable => policy.retry.on == RetryOn::Any,
        _ => false,
    }
}

fn retry_of(build: &Build, reason: RetryReason) -> OwedRetry {
    let (revision, parameters): (Revision, Parameters) = (build.revision.clone(), build.parameters.clone());
    OwedRetry {
        revision,
        of: build.id,
        reason,
        not_before: None,
        attempt: build.attempt,
        refusals: 0,
        parameters,
        build_key: build.build_key.clone(),
    }
}
