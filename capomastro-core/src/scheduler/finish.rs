//! The end of a build, in one commit: result, lock, retry, links, receipts, limits, and the evaluation of the release.

use super::{
    Inner,
    apply::{Applying, settle},
    launching::Begun,
};
use crate::{
    Result,
    decide::{EndOfBuild, Occasion, end_build},
    events::Event,
    model::{Build, Dependency, EndReason, Phase, ReceiptState},
    store::{Claim, Draft, DueChange, Lane, Record, Task},
    time::until,
    track::End,
};
use std::time::Duration;

impl Inner {
    /// Ends a build as `end` says, which was made of the build in this draft. Returns the build that the release starts, if
    /// it is to be sent now.
    pub(super) async fn finish(
        &self,
        mut draft: Draft<'_>,
        claim: Option<&Claim>,
        dependency: Dependency,
        end: End,
        is_broken: bool,
    ) -> Result<Option<Begun>> {
        let asked = self.clock.monotonic();
        let End { build, events, refusal, .. } = end;
        let id = build.id;
        let task = Task::Drive(id);
        match claim {
            Some(claim) => {
                draft.claim(claim.clone());
                draft.due(DueChange::Done { task });
            }
            None => draft.due(DueChange::Drop { task }),
        }
        let mut state = self.state_of(&mut draft, build.dependency).await?;
        let now = draft.now()?;
        let before = state.clone();
        let policy = dependency.policy.clone();
        let end = EndOfBuild {
            phase: build.phase,
            permanent: refusal.is_some_and(|r| r.permanent),
            broken: is_broken,
        };
        for event in events {
            draft.event(event);
        }
        for event in end_build(&mut state, &build, end, &policy, now) {
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
        draft.put(Record::Build(build.clone()));
        self.link_end(&mut draft, &before, &state, &build, now).await?;
        let mut applying = Applying::new(self, dependency, now);
        applying.asked = asked;
        // A caller of the handle may go away at any time: what it starts is left to who drives.
        applying.may_launch = claim.is_some();
        if build.good && build.epoch == state.epoch && build.parameters.is_empty() {
            applying.just_good = Some((build.stands_for().clone(), build.id));
        }
        let evaluation = applying.evaluate(&mut draft, state, &Occasion::Released).await?;
        applying.apply(&mut draft, evaluation).await?;
        let name = applying.dependency.name.clone();
        let begun = applying.commit(draft).await?;
        let phase = build.phase.to_string().replace(' ', "_");
        tracing::info!(build.id = %id, dependency = %name, phase, good = build.good, "build ended");
        let took = until(build.requested_at, build.ended_at.unwrap_or(now));
        metrics::histogram!("capomastro_build_seconds", "launcher" => build.launcher.to_string())
            .record(took.as_secs_f64());
        metrics::counter!("capomastro_builds_ended_total", "phase" => phase).increment(1);
        Ok(begun)
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
