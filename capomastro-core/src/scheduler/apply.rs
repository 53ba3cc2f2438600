//! Turning an evaluation into records: receipts, the build that starts, links, events and due work, in one draft.

use super::{Inner, launching::Begun};
use crate::{
    ErrorKind, Result,
    decide::{Decision, Evaluation, ReceiptChange, Start},
    events::{Event, EventKind},
    lock::{Acquired, Lease, LockAsk},
    model::{
        Build, BuildId, Dependency, DependencyName, DependencyState, LaunchKey, Phase, Receipt, ReceiptState,
        Revision, Trigger,
    },
    store::{Committed, Draft, DueChange, Key, Lane, ListKey, Query, Record, Task},
    time::{Monotonic, Timestamp},
};
use std::time::Duration;

/// What one commit about a dependency carries along.
pub(super) struct Applying<'a> {
    pub(super) inner: &'a Inner,
    pub(super) dependency: Dependency,
    pub(super) now: Timestamp,
    /// When the claim under which a launch may follow was asked for.
    pub(super) asked: Monotonic,
    /// The lease of the build that starts.
    pub(super) lease: Option<Lease>,
    /// Who keeps the lock from the build that would start, in a place that is not the store.
    pub(super) kept_by: Option<String>,
    /// A good build that this very commit records, and so is in no list yet.
    pub(super) just_good: Option<(Revision, BuildId)>,
    /// Whether a build that starts may be sent directly after the commit, by this process.
    pub(super) may_launch: bool,
    /// The names of what was decided, counted once it is committed.
    decided: Vec<&'static str>,
    begun: Option<Build>,
}

impl<'a> Applying<'a> {
    pub(super) const fn new(inner: &'a Inner, dependency: Dependency, now: Timestamp) -> Self {
        Self {
            inner,
            dependency,
            now,
            asked: Monotonic(Duration::ZERO),
            lease: None,
            kept_by: None,
            just_good: None,
            may_launch: true,
            decided: Vec::new(),
            begun: None,
        }
    }

    /// For the revisions that the evaluation may ask about: a good build in this epoch, without own parameters.
    pub(super) async fn known_good(
        &self,
        draft: &mut Draft<'_>,
        state: &DependencyState,
    ) -> Result<Vec<(Revision, BuildId)>> {
        let policy = &self.dependency.policy;
        let first = state.accounted.is_none() && policy.first == crate::model::First::Auto;
        if !policy.reuse_known && !first {
            return Ok(Vec::new());
        }
        let waiting = state.waiting.iter().filter(|r| !r.forced).filter_map(|r| r.revision.clone());
        let mut revisions: Vec<Revision> =
            state.observed_revision().cloned().into_iter().chain(waiting).collect();
        revisions.dedup();
        let mut known: Vec<_> = self.just_good.clone().into_iter().collect();
        for revision in revisions {
            if known.iter().any(|(r, _)| *r == revision) {
                continue;
            }
            let query =
                Query::List { list: ListKey::good_builds(state.id, state.epoch, &revision), backwards: true };
            if let Some(Record::Build(build)) = draft.find(&query, 1).await?.into_iter().next() {
                known.push((revision, build.id));
            }
        }
        Ok(known)
    }

    /// Writes what an evaluation says into the draft, and returns the state as it will be stored.
    pub(super) async fn apply(
        &mut self,
        draft: &mut Draft<'_>,
        evaluation: Evaluation,
    ) -> Result<DependencyState> {
        let id = self.dependency.id;
        let mut state = evaluation.state;
        for d in evaluation.decided {
            self.decided.push(d.decision.name());
            if d.counted {
                continue;
            }
            let build = match &d.decision {
                Decision::AlreadyBuilding { build } | Decision::Reused { build } => Some(*build),
                Decision::Held { by, .. } => *by,
                Decision::Build => evaluation.start.as_ref().map(|s| s.build),
                _ => None,
            };
            draft.event(Event::of_dependency(
                id,
                EventKind::Decided {
                    decision: d.decision.name().into(),
                    revision: d.revision,
                    build,
                    detail: None,
                },
            ));
        }
        for event in evaluation.events {
            draft.event(Event::of_dependency(id, event));
        }
        let mut build = evaluation.start.map(|start| self.new_build(&mut state, start));
        for change in &evaluation.receipts {
            self.receipt(draft, change).await?;
        }
        self.inner
            .link_evaluation(draft, &state, &evaluation.receipts, build.as_mut(), evaluation.reused, self.now)
            .await?;
        if let Some(build) = build {
            self.begin(draft, build);
        }
        if let Some(within) = evaluation.look_within {
            draft.due(DueChange::Nudge { task: Task::Look(id), after: within });
        }
        if let Some(after) = evaluation.evaluate_within {
            draft.due(DueChange::Set { task: Task::Evaluate(id), lane: Lane::House, after, note: None });
        }
        draft.put(Record::State(state.clone()));
        Ok(state)
    }

    fn new_build(&self, state: &mut DependencyState, start: Start) -> Build {
        if let (Some(held), Some(lease)) = (&mut state.held, &self.lease) {
            held.fence = lease.fence;
            state.fence = state.fence.max(lease.fence);
        }
        let previous_start = state.last_start.replace(self.now);
        let manual = start.causes.iter().any(|c| c.trigger == Trigger::Manual);
        Build {
            id: start.build,
            dependency: state.id,
            number: state.builds,
            epoch: state.epoch,
            key: LaunchKey::of(start.build),
            fence: state.fence,
            lease: self.lease.clone().filter(|_| self.inner.config.is_lock_elsewhere),
            revision: start.revision,
            display: start.display,
            parameters: start.parameters,
            build_key: start.build_key,
            causes: start.causes,
            manual,
            person_pinned: start.person_pinned,
            retry_of: start.retry_of,
            attempt: start.attempt,
            refusals: start.refusals,
            launcher: self.dependency.launcher.clone(),
            job: self.dependency.job.clone(),
            phase: Phase::Requested,
            memo: None,
            sends: 0,
            external: None,
            built: None,
            artifacts: Vec::new(),
            message: None,
            stop: None,
            project_builds: Vec::new(),
            previous_start,
            requested_at: self.now,
            launching_at: None,
            submitted_at: None,
            running_at: None,
            ended_at: None,
            good: false,
            stood_until: None,
        }
    }

    /// Records a build: ready to be sent directly after the commit, or due to be driven by whoever can.
    fn begin(&mut self, draft: &mut Draft<'_>, mut build: Build) {
        let lane = Lane::Launcher(build.launcher.clone());
        let task = Task::Drive(build.id);
        let here = self.may_launch
            && self.inner.launchers.contains_key(&build.launcher)
            && !self.inner.has_limit(&build.launcher);
        if here {
            // Nobody else can come between the record and the send, so the intent and `Launching` are one commit.
            build.phase = Phase::Launching;
            build.launching_at = Some(self.now);
            build.sends = 1;
            draft.due(DueChange::Hold { task, lane, lease: self.inner.config.drive_lease });
            self.begun = Some(build.clone());
        } else {
            draft.due(DueChange::Set { task, lane, after: Duration::ZERO, note: None });
        }
        draft.put(Record::Build(build));
    }

    async fn receipt(&self, draft: &mut Draft<'_>, change: &ReceiptChange) -> Result<()> {
        let Some(id) = change.cause.receipt else { return Ok(()) };
        let mut receipt = draft
            .receipt(id)
            .await?
            .unwrap_or_else(|| Receipt::new(id, self.dependency.id, &change.cause, self.now));
        settle(&mut receipt, change.revision.clone(), change.state.clone(), self.now);
        draft.put(Record::Receipt(receipt));
        Ok(())
    }

    /// Writes the draft. Returns the build that is to be sent now, if there is one.
    pub(super) async fn commit(self, draft: Draft<'_>) -> Result<Option<Begun>> {
        let committed = match self.inner.commit(draft).await {
            Ok(committed) => committed,
            Err(error) => {
                // If the commit may have been made, the build may hold the lock.
                let unmade = error.kind() != ErrorKind::OutcomeUnknown;
                if let Some(lease) = self.lease.filter(|_| unmade && self.inner.config.is_lock_elsewhere) {
                    // Best effort: it expires by itself.
                    drop(self.inner.in_time(self.inner.lock.release(&lease), Err).await);
                }
                return Err(error);
            }
        };
        for decision in self.decided {
            metrics::counter!("capomastro_decisions_total", "decision" => decision).increment(1);
        }
        self.inner.wake.notify_one();
        Ok(self.begun.and_then(|build| begun(build, self.dependency.name, &committed, self.asked)))
    }
}

fn begun(build: Build, name: DependencyName, committed: &Committed, asked: Monotonic) -> Option<Begun> {
    let task = Task::Drive(build.id);
    let claim = committed.claims.iter().find(|c| c.task == task)?.clone();
    Some(Begun { build, name, claim, asked })
}

/// Moves a receipt on. One that is settled stays, except that a build that was refused turns it into a refusal.
pub(super) fn settle(receipt: &mut Receipt, revision: Option<Revision>, state: ReceiptState, now: Timestamp) {
    receipt.revision = revision.or(receipt.revision.take());
    receipt.state = state;
    receipt.settled_at = receipt.is_settled().then_some(now);
}

impl Inner {
    /// Asks the lock for a build that is about to be recorded.
    pub(super) async fn acquire(
        &self,
        dependency: &Dependency,
        state: &DependencyState,
        build: BuildId,
    ) -> Result<Acquired> {
        let ask =
            LockAsk::new(dependency.id, dependency.name.clone(), build, state.held.clone(), state.fence);
        let answer = self.in_time(self.lock.acquire(&ask), Err).await;
        let acquired = answer.map_err(|e| e.with_operation("acquire the lock"))?;
        if let Acquired::Granted(lease) = &acquired
            && lease.fence <= state.fence
        {
            return Err(crate::Error::internal("the lock granted a fence that does not grow")
                .with_context("fence", lease.fence)
                .with_context("highest", state.fence));
        }
        Ok(acquired)
    }

    /// The records that most commits about a dependency read.
    pub(super) fn keys_about(id: crate::model::DependencyId) -> [Key; 2] {
        [Key::Dependency(id), Key::State(id)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        InMemoryStore, Scheduler,
        decide::Start,
        lock::{DependencyLock, StoreLock},
        model::{Cause, Parameters, Policy, Source},
        sample,
        time::SystemClock,
    };
    use futures_util::FutureExt;
    use std::sync::Arc;

    /// Never answers.
    #[derive(Debug)]
    struct Silent;

    #[async_trait::async_trait]
    impl DependencyLock for Silent {
        async fn acquire(&self, _: &LockAsk) -> Result<Acquired> {
            std::future::pending().await
        }

        async fn renew(&self, _: &[Lease]) -> Vec<Result<Lease>> {
            std::future::pending().await
        }

        async fn release(&self, _: &Lease) -> Result<()> {
            std::future::pending().await
        }

        async fn take_over(&self, _: &LockAsk, _: &str) -> Result<Lease> {
            std::future::pending().await
        }
    }

    /// Does not wait.
    #[derive(Debug)]
    struct Hasty;

    #[async_trait::async_trait]
    impl crate::time::Clock for Hasty {
        fn now(&self) -> Timestamp {
            sample::at(0)
        }

        fn monotonic(&self) -> Monotonic {
            Monotonic::default()
        }

        async fn sleep(&self, _: Duration) {}
    }

    fn dependency() -> Dependency {
        let (source, policy) = (Source::new("p", ()).unwrap(), Policy::default());
        let (name, launcher) = ("lib".parse().unwrap(), "l".parse().unwrap());
        Dependency::new(
            sample::dependency(1),
            name,
            source,
            launcher,
            serde_json::Value::Null,
            policy,
            sample::at(0),
        )
    }

    #[test]
    fn a_plain_lease_of_a_lock_of_ones_own_is_kept_to_be_given_back() {
        let store = InMemoryStore::new(Arc::new(SystemClock));
        let own = Scheduler::builder(store.clone()).lock(Arc::new(StoreLock)).build().unwrap();
        let default = Scheduler::builder(store).build().unwrap();
        for (scheduler, is_kept) in [(own, true), (default, false)] {
            let mut state = DependencyState::new(sample::dependency(1));
            let mut applying = Applying::new(&scheduler.inner, dependency(), sample::at(0));
            let owner = sample::build_id(1);
            applying.lease =
                Some(Lease { dependency: state.id, owner, fence: 1, expires_in: None, token: None });
            let start = Start {
                build: owner,
                revision: sample::revision("r1"),
                display: None,
                parameters: Parameters::new(),
                build_key: None,
                causes: vec![Cause::look()],
                person_pinned: false,
                retry_of: None,
                attempt: 0,
                refusals: 0,
            };
            assert_eq!(applying.new_build(&mut state, start).lease.is_some(), is_kept);
        }
    }

    #[test]
    fn a_lock_that_does_not_answer_holds_up_nothing() {
        let store = InMemoryStore::new(Arc::new(SystemClock));
        let scheduler =
            Scheduler::builder(store).lock(Arc::new(Silent)).clock(Arc::new(Hasty)).build().unwrap();
        let state = DependencyState::new(sample::dependency(1));
        let (asked, owner) = (dependency(), sample::build_id(1));
        let answer = scheduler.inner.acquire(&asked, &state, owner).now_or_never().unwrap();
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
