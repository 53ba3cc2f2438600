//! The end of a build, in one commit: result, lock, retry, links, receipts, limits, and the evaluation of the release.

use super::{
    Inner,
    apply::{Applying, settle},
    commit::Attempts,
    launching::Begun,
};
use crate::{
    Error, Result,
    decide::{Occasion, end_build},
    error::ErrorKind,
    events::{Event, EventKind},
    model::{Build, BuildId, EndReason, Phase, ReceiptState},
    store::{Claim, Draft, DueChange, Lane, Record, Task},
    track::Ending,
};
use std::time::Duration;

impl Inner {
    /// Ends a build. Nothing happens if it has ended before: the first terminal phase stays. Returns the build that the
    /// release starts, if it is to be sent now.
    pub(super) async fn end(
        &self,
        id: BuildId,
        claim: Option<&Claim>,
        ending: &Ending,
    ) -> Result<Option<Begun>> {
        Ok(self.end_if(id, claim, ending, |b| !b.phase.is_terminal()).await?.flatten())
    }

    /// Ends a build if it stands as it must; `None` if it does not.
    pub(super) async fn end_if(
        &self,
        id: BuildId,
        claim: Option<&Claim>,
        ending: &Ending,
        stands: impl Fn(&Build) -> bool + Send + Sync,
    ) -> Result<Option<Option<Begun>>> {
        let mut attempts = Attempts::default();
        loop {
            match self.try_end(id, claim, ending, &stands).await {
                Err(error) => attempts.again(error)?,
                done => return done,
            }
        }
    }

    async fn try_end(
        &self,
        id: BuildId,
        claim: Option<&Claim>,
        ending: &Ending,
        stands: &(impl Fn(&Build) -> bool + Send + Sync),
    ) -> Result<Option<Option<Begun>>> {
        let asked = self.clock.monotonic();
        let mut draft = self.draft();
        let task = Task::Drive(id);
        match claim {
            Some(claim) => {
                draft.claim(claim.clone());
                draft.due(DueChange::Done { task });
            }
            None => draft.due(DueChange::Drop { task }),
        }
        let Some(mut build) = draft.build(id).await? else {
            return Err(Error::new(ErrorKind::NotFound, "no such build").with_context("build", id));
        };
        if !stands(&build) {
            if claim.is_some() && build.phase.is_terminal() {
                self.commit(draft).await?;
            }
            return Ok(None);
        }
        draft.load(Self::keys_about(build.dependency)).await?;
        let (Some(dependency), Some(mut state)) =
            (draft.dependency(build.dependency).await?, draft.state(build.dependency).await?)
        else {
            return Err(Error::new(ErrorKind::Corrupt, "a build's dependency is not stored")
                .with_context("build", id));
        };
        let now = draft.now()?;
        let before = state.clone();
        let policy = dependency.policy.clone();
        build.phase = ending.end.phase;
        build.ended_at = Some(now);
        build.built.clone_from(&ending.built);
        build.artifacts.clone_from(&ending.artifacts);
        build.message.clone_from(&ending.message);
        build.good = ending.end.is_good(&policy);
        let mut events = end_build(&mut state, &build, ending.end, &policy, now);
        events.insert(0, EventKind::BuildEnded { build: id, phase: build.phase, good: build.good });
        if let Some(built) = build.built.as_ref().filter(|b| **b != build.revision) {
            events.push(EventKind::RevisionDrift {
                build: id,
                pinned: build.revision.clone(),
                built: built.clone(),
            });
        }
        if let Some((by, reason)) = ending.broken.clone() {
            events.push(EventKind::LockBroken { build: id, by, reason });
        }
        let still = ending.may_still_run.then_some(EventKind::MayStillRun { build: id });
        for event in events.into_iter().chain(still) {
            draft.event(Event::of_dependency(build.dependency, event));
        }
        self.leave(&mut draft, &build).await?;
        self.trim_if_many(&mut draft, build.dependency, state.builds);
        if build.lease.is_some() {
            let after = Duration::ZERO;
            draft.due(DueChange::Set { task: Task::Release(id), lane: Lane::House, after, note: None });
        }
        if build.phase == Phase::Refused && state.retry.as_ref().is_none_or(|r| r.of != id) {
            self.refuse_receipts(&mut draft, &build).await?;
        }
        metrics::counter!("capomastro_builds_ended_total", "phase" => build.phase.to_string()).increment(1);
        tracing::info!(build.id = %id, dependency = %dependency.name, phase = %build.phase, good = build.good, "build ended");
        draft.put(Record::Build(build.clone()));
        self.link_end(&mut draft, &before, &state, &build, now).await?;
        let mut applying = Applying::new(self, dependency, now);
        applying.asked = asked;
        if build.good && build.epoch == state.epoch && build.parameters.is_empty() {
            applying.just_good = Some((build.stands_for().clone(), build.id));
        }
        let evaluation = applying.evaluate(&mut draft, state, &Occasion::Released).await?;
        applying.apply(&mut draft, evaluation).await?;
        applying.commit(draft).await.map(Some)
    }

    async fn refuse_receipts(&self, draft: &mut Draft<'_>, build: &Build) -> Result<()> {
        let now = draft.now()?;
        for id in build.causes.iter().filter_map(|c| c.receipt) {
            if let Some(mut receipt) = draft.receipt(id).await? {
                settle(&mut receipt, None, ReceiptState::Ended { reason: EndReason::Refused }, now);
                draft.put(Record::Receipt(receipt));
            }
        }
        Ok(())
    }
}
