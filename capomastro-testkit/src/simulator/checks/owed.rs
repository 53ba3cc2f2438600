//! What is accounted, and what is owed: nothing is taken for built that was not, and no retry is lost.

use super::{Checker, Seen};
use capomastro_core::{
    events::EventKind,
    model::{Build, DependencyState, OwedRetry, Phase, Policy, RetryOn, RetryReason, Settled, StopReason},
    store::{Key, Record},
};

impl Checker {
    pub(super) fn check_owed(&mut self, seen: &Seen<'_>) {
        for change in seen.changes() {
            match (change.before, change.after) {
                (Some(Record::State(old)), Record::State(new)) => self.retry_goes_on(seen, old, new),
                (Some(Record::Build(old)), Record::Build(new))
                    if !old.phase.is_terminal() && new.phase.is_terminal() =>
                {
                    self.retry_is_owed(seen, new);
                }
                _ => {}
            }
        }
    }

    /// A bad end that the policy has tried again leaves a retry, unless the release has moved on.
    fn retry_is_owed(&mut self, seen: &Seen<'_>, build: &Build) {
        let (Some(old), Some(dependency)) =
            (seen.state_before(build.dependency), seen.dependency_before(build.dependency))
        else {
            return;
        };
        let Some(new) = seen.state_after(build.dependency) else {
            return self
                .fail("retry", || format!("build {} ended and its dependency was not told", build.id));
        };
        let broken = seen
            .batch
            .events
            .iter()
            .any(|e| matches!(&e.kind, EventKind::LockBroken { build: b, .. } if *b == build.id));
        let concerns =
            !old.deleted && old.epoch == build.epoch && old.accounted_revision() == Some(&build.revision);
        let reason = reason_to_retry(build, &dependency.policy).filter(|_| concerns && !broken);
        let owed = new.retry.as_ref().filter(|r| r.of == build.id);
        let Some(reason) = reason else {
            return self.check(owed.is_none(), "retry", || {
                format!("a retry of build {} is owed, which ended as {}", build.id, build.phase)
            });
        };
        // The release has accounted for another revision, or has started this one for somebody who waited.
        let moved_on = new.accounted_revision() != Some(&build.revision)
            || seen.started(build.dependency).is_some_and(|b| b.revision == build.revision);
        let fits = |r: &OwedRetry| {
            let (attempt, refusals) = match reason {
                RetryReason::BuildFailed => (build.attempt + 1, 0),
                RetryReason::LaunchRefused => (build.attempt, build.refusals + 1),
            };
            r.revision == build.revision
                && r.reason == reason
                && (r.attempt, r.refusals) == (attempt, refusals)
                && r.parameters == build.parameters
                && r.build_key == build.build_key
                && (reason == RetryReason::LaunchRefused || r.not_before.is_some())
        };
        self.check(moved_on || owed.is_some_and(fits), "retry", || {
            format!("build {} ended as {}, and what is owed is {:?}", build.id, build.phase, new.retry)
        });
    }

    /// A retry that is owed stays until it is built, or there is a reason why it is not.
    fn retry_goes_on(&mut self, seen: &Seen<'_>, old: &DependencyState, new: &DependencyState) {
        let id = new.id;
        if let Some(retry) = &new.retry {
            let is_known = old.retry.as_ref().is_some_and(|r| is_same(r, retry));
            let begins = seen.ended(id).any(|b| b.id == retry.of);
            self.check(is_known || begins, "retry", || format!("a retry of {id} is owed out of nothing"));
        }
        let Some(owed) = &old.retry else { return };
        let stays = new.retry.as_ref().is_some_and(|r| is_same(r, owed));
        let renewed = new.retry.as_ref().is_some_and(|r| seen.ended(id).any(|b| b.id == r.of));
        let is_over = new.deleted
            || new.epoch != old.epoch
            || new.accounted_revision() != Some(&owed.revision)
            || seen.started(id).is_some_and(|b| b.revision == owed.revision)
            // A person's word stands over what is accounted.
            || seen.ended(id).any(|b| b.good && b.person_pinned && b.revision != owed.revision);
        self.check(stays || renewed || is_over, "retry", || {
            format!("the retry of build {}, which {id} owes, is forgotten", owed.of)
        });
    }

    /// What is written as accounted is of the build that it names, and was decided in this very commit.
    pub(super) fn account_is_true(
        &mut self,
        seen: &Seen<'_>,
        old: Option<&DependencyState>,
        new: &DependencyState,
    ) {
        let id = new.id;
        let Some(accounted) = &new.accounted else { return };
        let revision = &accounted.revision;
        let in_batch = |build| {
            seen.batch.puts.iter().find_map(|p| match &p.record {
                Record::Build(b) if b.id == build => Some(b),
                _ => None,
            })
        };
        let stored = |build| match seen.before(&Key::Build(build)) {
            Some(Record::Build(b)) => Some(b),
            _ => None,
        };
        let named = match accounted.by {
            Settled::Built(b) | Settled::Joined(b) | Settled::Reused(b) => in_batch(b).or_else(|| stored(b)),
            Settled::Baseline => None,
        };
        let fits = match (&accounted.by, named) {
            (Settled::Baseline, _) => true,
            (Settled::Reused(_), Some(b)) => {
                b.dependency == id && b.good && b.built.as_ref().unwrap_or(&b.revision) == revision
            }
            (_, Some(b)) => b.dependency == id && b.revision == *revision,
            (_, None) => false,
        };
        self.check(fits, "I3", || {
            format!("{id} accounts for {revision} by {:?}, which is not of it", accounted.by)
        });
        if old.is_some_and(|o| o.accounted == new.accounted) {
            return;
        }
        let decided = |wanted: &str, of: Option<capomastro_core::model::BuildId>| {
            seen.batch.events.iter().any(|e| {
                e.dependency == Some(id)
                    && matches!(&e.kind, EventKind::Decided { decision, revision: r, build, .. }
                        if decision == wanted && r.as_ref() == Some(revision) && (of.is_none() || *build == of))
            })
        };
        let is_decided = match accounted.by {
            Settled::Built(b) => decided("Build", Some(b)) && stored(b).is_none(),
            Settled::Joined(b) => decided("AlreadyBuilding", Some(b)),
            Settled::Reused(b) => decided("Reused", Some(b)),
            Settled::Baseline => decided("Baselined", None) && old.is_none_or(|o| o.accounted.is_none()),
        };
        self.check(is_decided, "I3", || {
            format!("{id} accounts for {revision} by {:?}, and nothing of the kind was decided", accounted.by)
        });
    }
}

/// Whether it is the same debt, whenever it is to be paid.
fn is_same(one: &OwedRetry, other: &OwedRetry) -> bool {
    (&one.revision, one.of, one.reason, one.attempt, one.refusals)
        == (&other.revision, other.of, other.reason, other.attempt, other.refusals)
}

/// Why a build that has ended is to be tried again, by the policy alone. What a person has cancelled is not.
fn reason_to_retry(build: &Build, policy: &Policy) -> Option<RetryReason> {
    if build.stop.as_ref().is_some_and(|s| matches!(s.reason, StopReason::Cancel { .. })) {
        return None;
    }
    let is_wanted = match build.phase {
        Phase::Refused => return Some(RetryReason::LaunchRefused),
        Phase::Lost | Phase::TimedOut => true,
        Phase::Failed => policy.retry.on == RetryOn::Any,
        Phase::Unstable => policy.retry.on == RetryOn::Any && !policy.unstable_is_good,
        _ => false,
    };
    (is_wanted && build.attempt < policy.retry.max).then_some(RetryReason::BuildFailed)
}
