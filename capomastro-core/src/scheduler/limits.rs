//! How many builds may run at once: counted in the commit of `Launching`, over all schedulers of the store.

use super::Inner;
use crate::{
    Result,
    model::{Build, BuildId, LauncherName},
    store::{Draft, DueChange, Key, LimitScope, LimitState, LimitWaiter, Record, Task},
    time::{Timestamp, until},
};
use std::{collections::BTreeSet, time::Duration};

/// How soon a build that waits for a limit asks again by itself.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(30);

/// When, and how long a build may be silent before it is passed over.
#[derive(Copy, Clone)]
struct Patience {
    now: Timestamp,
    silence: Duration,
}

impl Patience {
    fn is_silent(self, waiter: &LimitWaiter) -> bool {
        until(waiter.asked_at, self.now) > self.silence
    }
}

/// Counts the build if there is room and nobody goes before it; else it waits in order, manual ones first.
fn admit(state: &mut LimitState, limit: u32, build: BuildId, manual: bool, patience: Patience) -> bool {
    if state.active.contains(&build) {
        return true;
    }
    if let Some(waiter) = state.waiting.iter_mut().find(|w| w.build == build) {
        waiter.asked_at = patience.now;
    } else {
        state.waiting.push(LimitWaiter { build, manual, place: state.next_place, asked_at: patience.now });
        state.next_place += 1;
        state.waiting.sort_by_key(|w| (!w.manual, w.place));
    }
    let room = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(state.active.len());
    let admitted =
        state.waiting.iter().filter(|w| !patience.is_silent(w)).take(room).any(|w| w.build == build);
    if admitted {
        state.waiting.retain(|w| w.build != build);
        state.active.push(build);
    }
    admitted
}

/// Takes the build out, and names the builds that now have room.
fn leave(state: &mut LimitState, build: BuildId, patience: Patience) -> Vec<BuildId> {
    let before = (state.active.len(), state.waiting.len());
    state.active.retain(|b| *b != build);
    state.waiting.retain(|w| w.build != build);
    if before == (state.active.len(), state.waiting.len()) {
        return Vec::new();
    }
    // Whatever the limits are, the first in line looks for itself; one that is passed over is not waited for.
    let first = state.waiting.iter().take(1);
    let next = state.waiting.iter().filter(|w| !patience.is_silent(w)).take(1);
    let woken: BTreeSet<BuildId> = first.chain(next).map(|w| w.build).collect();
    woken.into_iter().collect()
}

/// Whether a build may be sent now.
pub(super) enum Admission {
    Admitted,
    /// It waits for this limit.
    Waits(LimitScope),
}

impl Inner {
    fn limits_of(&self, launcher: &LauncherName) -> Vec<(LimitScope, u32)> {
        let own =
            self.config.launcher_limits.get(launcher).map(|l| (LimitScope::Launcher(launcher.clone()), *l));
        own.into_iter().chain(self.config.overall_limit.map(|l| (LimitScope::Overall, l))).collect()
    }

    /// A build that is driven asks again at least so often.
    fn patience(&self, draft: &Draft<'_>) -> Result<Patience> {
        Ok(Patience { now: draft.now()?, silence: ASK_AGAIN * 4 + self.config.drive_lease })
    }

    /// Whether any limit counts builds of this launcher.
    pub(super) fn has_limit(&self, launcher: &LauncherName) -> bool {
        !self.limits_of(launcher).is_empty()
    }

    /// Counts a build against its limits, or lets it wait for the first that has no room.
    pub(super) async fn admit(&self, draft: &mut Draft<'_>, build: &Build) -> Result<Admission> {
        let limits = self.limits_of(&build.launcher);
        let mut states = Vec::with_capacity(limits.len());
        for (scope, limit) in limits {
            let state = match draft.record(Key::Limit(scope.clone())).await? {
                Some(Record::Limit(state)) => state,
                _ => LimitState::new(scope),
            };
            states.push((state, limit));
        }
        if states.is_empty() {
            return Ok(Admission::Admitted);
        }
        let patience = self.patience(draft)?;
        let refused = states
            .iter_mut()
            .position(|(state, limit)| !admit(state, *limit, build.id, build.manual, patience));
        if let Some(refused) = refused {
            // It counts nowhere until it counts everywhere, and holds up one line only.
            for (_, (state, _)) in states.iter_mut().enumerate().filter(|(i, _)| *i != refused) {
                for next in leave(state, build.id, patience) {
                    draft.due(DueChange::Nudge { task: Task::Drive(next), after: Duration::ZERO });
                }
            }
        }
        let answer = refused
            .and_then(|i| states.get(i))
            .map_or(Admission::Admitted, |(state, _)| Admission::Waits(state.scope.clone()));
        for (state, _) in states {
            draft.put(Record::Limit(state));
        }
        Ok(answer)
    }

    /// The build has ended: who waits for its place is woken. Whatever limits are set here now: it may have been counted
    /// under others, by another scheduler or before a restart, and nobody else takes it out.
    pub(super) async fn leave(&self, draft: &mut Draft<'_>, build: &Build) -> Result<()> {
        let scopes = [LimitScope::Launcher(build.launcher.clone()), LimitScope::Overall];
        draft.load(scopes.iter().cloned().map(Key::Limit)).await?;
        let patience = self.patience(draft)?;
        for scope in scopes {
            let Some(Record::Limit(mut state)) = draft.record(Key::Limit(scope)).await? else { continue };
            for next in leave(&mut state, build.id, patience) {
                draft.due(DueChange::Nudge { task: Task::Drive(next), after: Duration::ZERO });
            }
            draft.put(Record::Limit(state));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InMemoryStore, Scheduler, sample, time::SystemClock};
    use futures_util::FutureExt;
    use std::sync::Arc;
    use uuid::Uuid;

    fn id(n: u128) -> BuildId {
        BuildId::from_uuid(Uuid::from_u128(n))
    }

    fn after(seconds: u64) -> Patience {
        let now = crate::time::later(sample::at(0), Duration::from_secs(seconds));
        Patience { now, silence: Duration::from_secs(100) }
    }

    #[test]
    fn who_is_silent_for_long_is_passed_over_and_keeps_its_place() {
        let mut s = LimitState::new(LimitScope::Overall);
        assert!(admit(&mut s, 1, id(1), false, after(0)));
        assert!(!admit(&mut s, 1, id(2), true, after(0)));
        assert!(!admit(&mut s, 1, id(3), false, after(90)));
        assert!(leave(&mut s, id(1), after(100)).contains(&id(2)));
        assert!(!admit(&mut s, 1, id(3), false, after(100)), "the manual one may still come");
        assert!(admit(&mut s, 1, id(3), false, after(101)));
        assert!(!admit(&mut s, 1, id(4), false, after(101)));
        assert!(!admit(&mut s, 1, id(2), true, after(110)));
        assert_eq!(leave(&mut s, id(3), after(111)), [id(2)]);
        assert!(!admit(&mut s, 1, id(4), false, after(112)));
        assert!(admit(&mut s, 1, id(2), true, after(112)));
        // The next one is woken beside a first one that may never come.
        assert!(!admit(&mut s, 1, id(4), false, after(150)));
        assert!(!admit(&mut s, 1, id(5), true, after(150)));
        assert!(!admit(&mut s, 1, id(4), false, after(251)));
        assert_eq!(leave(&mut s, id(2), after(260)), [id(4), id(5)]);
    }

    #[test]
    fn manual_builds_go_first_and_the_rest_in_order() {
        let mut s = LimitState::new(LimitScope::Overall);
        assert!(admit(&mut s, 1, id(1), false, after(0)));
        assert!(!admit(&mut s, 1, id(2), false, after(0)));
        assert!(!admit(&mut s, 1, id(3), false, after(0)));
        assert!(!admit(&mut s, 1, id(4), true, after(0)));
        assert_eq!(leave(&mut s, id(1), after(0)), [id(4)]);
        assert!(!admit(&mut s, 1, id(2), false, after(0)), "the manual one goes before it");
        assert!(admit(&mut s, 1, id(4), true, after(0)));
        assert_eq!(leave(&mut s, id(4), after(0)), [id(2)]);
        assert!(admit(&mut s, 1, id(2), false, after(0)));
    }

    #[test]
    fn asking_twice_changes_nothing() {
        let mut s = LimitState::new(LimitScope::Overall);
        assert!(admit(&mut s, 1, id(1), false, after(0)));
        assert!(admit(&mut s, 1, id(1), false, after(0)));
        assert!(!admit(&mut s, 1, id(2), false, after(0)));
        assert!(!admit(&mut s, 1, id(2), false, after(0)));
        assert_eq!((s.active.len(), s.waiting.len()), (1, 1));
    }

    #[test]
    fn a_waiter_that_is_gone_lets_the_next_one_through() {
        let mut s = LimitState::new(LimitScope::Overall);
        assert!(admit(&mut s, 1, id(1), false, after(0)));
        assert!(!admit(&mut s, 1, id(2), false, after(0)));
        assert!(!admit(&mut s, 1, id(3), false, after(0)));
        assert!(leave(&mut s, id(2), after(0)).contains(&id(3)));
        assert_eq!(leave(&mut s, id(1), after(0)), [id(3)]);
    }

    #[test]
    fn a_raised_limit_lets_several_through() {
        let mut s = LimitState::new(LimitScope::Overall);
        assert!(admit(&mut s, 1, id(1), false, after(0)));
        assert!(!admit(&mut s, 1, id(2), false, after(0)));
        assert!(!admit(&mut s, 1, id(3), false, after(0)));
        assert!(admit(&mut s, 3, id(3), false, after(0)));
        assert!(admit(&mut s, 3, id(2), false, after(0)));
    }

    #[test]
    fn a_build_that_ends_where_no_limit_is_set_counts_no_more() {
        let store = InMemoryStore::new(Arc::new(SystemClock));
        let limited = Scheduler::builder(store.clone()).overall_limit(1).build().unwrap();
        let unlimited = Scheduler::builder(store).build().unwrap();
        let admitted = |n: u128| {
            let mut draft = limited.inner.draft();
            let build = sample::build(n, sample::dependency(n));
            let answer = limited.inner.admit(&mut draft, &build).now_or_never().unwrap().unwrap();
            limited.inner.commit(draft).now_or_never().unwrap().unwrap();
            matches!(answer, Admission::Admitted)
        };
        assert!(admitted(1));
        assert!(!admitted(2));
        let mut draft = unlimited.inner.draft();
        let first = sample::build(1, sample::dependency(1));
        unlimited.inner.leave(&mut draft, &first).now_or_never().unwrap().unwrap();
        unlimited.inner.commit(draft).now_or_never().unwrap().unwrap();
        assert!(admitted(2));
    }
}
