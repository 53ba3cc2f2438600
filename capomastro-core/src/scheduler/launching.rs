//! Doing what the rules of tracking say, and sending a build to its launcher, exactly once per recorded intent.

use super::{
    Inner,
    commit::Attempts,
    limits::{self, Admission},
};
use crate::{
    Error, Result,
    error::ErrorKind,
    events::{Event, EventKind},
    launch::{BuildLauncher, Journal, LaunchRequest, Launched, Promise, send_before},
    model::{Build, BuildId, Dependency, DependencyName, ExternalRef, LauncherName, Note, Orphan},
    store::{Claim, Draft, DueChange, Key, Lane, LimitScope, Record, Task},
    time::Monotonic,
    track::{Situation, Step},
};
use async_trait::async_trait;
use futures_util::future::{Either, select};
use serde_json::Value;
use std::{pin::pin, sync::Arc, time::Duration};

/// A build that is recorded as `Launching` and to be sent now, under a claim that was asked for at `asked`.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) build: Build,
    /// What the dependency was called when this was decided.
    pub(super) name: DependencyName,
    pub(super) claim: Claim,
    pub(super) asked: Monotonic,
}

/// What is left to do after a step was recorded.
#[derive(Debug)]
pub(super) enum After {
    /// Nothing.
    Nothing,
    /// Nothing: the build was recorded further on, with this reference.
    Advanced(Option<ExternalRef>),
    /// Send this build: the one that was decided on, or the one that its end has started.
    Send(Box<Begun>),
    /// Search for the build by its key.
    Find,
}

/// Keeps a launcher's memo with the build, under the claim that drives it.
#[derive(Debug)]
struct MemoJournal<'a> {
    inner: &'a Inner,
    build: BuildId,
    claim: &'a Claim,
}

#[async_trait]
impl Journal for MemoJournal<'_> {
    async fn keep(&self, memo: Value) -> Result<()> {
        let mut attempts = Attempts::default();
        loop {
            let mut draft = self.inner.draft();
            draft.claim(self.claim.clone());
            let Some(mut build) = draft.build(self.build).await?.filter(|b| !b.phase.is_terminal()) else {
                return Err(Error::new(ErrorKind::ClaimLost, "the build has ended"));
            };
            build.memo = Some(memo.clone());
            draft.put(Record::Build(build));
            match self.inner.commit(draft).await {
                Ok(_) => return Ok(()),
                Err(e) => attempts.again(self.inner, e).await?,
            }
        }
    }
}

impl Inner {
    /// The launcher of a build, if it is registered here.
    pub(super) fn launcher(&self, name: &LauncherName) -> Result<&Arc<dyn BuildLauncher>> {
        self.launchers.get(name).ok_or_else(|| {
            Error::config("no launcher of this name is registered here").with_context("launcher", name)
        })
    }

    /// What the launcher of a build promises; the least where it is not registered here.
    pub(super) fn promise_of(&self, build: &Build) -> Promise {
        self.launchers.get(&build.launcher).map_or(Promise::Blind, |l| l.promise())
    }

    /// The dependency of a build, whose policy and name count now.
    pub(super) async fn dependency_of(&self, draft: &mut Draft<'_>, build: &Build) -> Result<Dependency> {
        draft.dependency(build.dependency).await?.ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "a build's dependency is not stored")
                .with_context("build", build.id)
        })
    }

    /// Sends a build that is recorded as `Launching`, and whatever its end starts in turn.
    pub(super) async fn launch_begun(&self, begun: Begun) {
        let mut next = Some(begun);
        while let Some(begun) = next.take() {
            let claim = begun.claim.clone();
            match self.send(begun).await {
                Ok(following) => next = following,
                Err(error) => self.stall(claim, &error),
            }
        }
    }

    /// Decides a step of a build as it is stored now, and does it. `decide` may be asked again after a conflict.
    pub(super) async fn step(
        &self,
        build: &Build,
        claim: &Claim,
        decide: impl Fn(&Situation<'_>) -> Step + Send + Sync,
    ) -> Result<After> {
        let mut attempts = Attempts::default();
        loop {
            match self.try_step(build, claim, &decide).await {
                Err(e) => attempts.again(self, e).await?,
                done => return done,
            }
        }
    }

    async fn try_step(
        &self,
        build: &Build,
        claim: &Claim,
        decide: &(impl Fn(&Situation<'_>) -> Step + Send + Sync),
    ) -> Result<After> {
        let asked = self.clock.monotonic();
        let mut draft = self.draft();
        let task = claim.task;
        draft.load([Key::Build(build.id), Key::Dependency(build.dependency)]).await?;
        let Some(stored) = draft.build(build.id).await? else {
            draft.claim(claim.clone());
            draft.due(DueChange::Done { task });
            return self.commit(draft).await.map(|_| After::Nothing);
        };
        let dependency = self.dependency_of(&mut draft, &stored).await?;
        let situation = Situation {
            build: &stored,
            note: &claim.note,
            policy: &dependency.policy,
            promise: self.promise_of(&stored),
            now: draft.now()?,
        };
        let lane = Lane::Launcher(stored.launcher.clone());
        match decide(&situation) {
            Step::Done => {
                draft.claim(claim.clone());
                draft.due(DueChange::Done { task });
                self.commit(draft).await?;
            }
            Step::Nothing { after, note } => {
                self.give_back(claim.clone(), within_lease(after, &stored), note);
            }
            // Somebody is looking at it already: what it says comes with the next look.
            Step::Observe { .. } => self.give_back(claim.clone(), Duration::ZERO, claim.note.clone()),
            Step::Find => return Ok(After::Find),
            Step::Advance { build, events, after, note } => {
                self.mark_stopping(&mut draft, &build).await?;
                for event in events {
                    draft.event(event);
                }
                draft.claim(claim.clone());
                draft.due(DueChange::Set {
                    task,
                    lane,
                    after: within_lease(after, &build),
                    note: Some(note),
                });
                let external = build.external.clone();
                draft.put(Record::Build(*build));
                self.commit(draft).await?;
                return Ok(After::Advanced(external));
            }
            Step::Send { build } => {
                return self.admit_and_record(draft, claim, *build, dependency.name, asked).await;
            }
            Step::End(end) => {
                let started = self.finish(draft, Some(claim), dependency, *end, false).await?;
                return Ok(started.map_or(After::Nothing, |b| After::Send(Box::new(b))));
            }
        }
        Ok(After::Nothing)
    }

    /// A build that is to be stopped is joined by nothing any more.
    pub(super) async fn mark_stopping(&self, draft: &mut Draft<'_>, build: &Build) -> Result<()> {
        if build.stop.is_some()
            && let Some(mut state) = draft.state(build.dependency).await?
            && let Some(held) = state.held.as_mut().filter(|h| h.owner == build.id && !h.stopping)
        {
            held.stopping = true;
            draft.put(Record::State(state));
        }
        Ok(())
    }

    /// Passes the limits and records the intent to send.
    async fn admit_and_record(
        &self,
        mut draft: Draft<'_>,
        claim: &Claim,
        build: Build,
        name: DependencyName,
        asked: Monotonic,
    ) -> Result<After> {
        let lane = Lane::Launcher(build.launcher.clone());
        draft.claim(claim.clone());
        if let Admission::Waits(scope) = self.admit(&mut draft, &build).await? {
            let waits_for = Some(match scope {
                LimitScope::Overall => "the limit of running builds".to_owned(),
                LimitScope::Launcher(name) => format!("the limit of running builds of {name}"),
            });
            let note = Note { waits_for, stalls: 0, ..claim.note.clone() };
            let after = within_lease(limits::ASK_AGAIN, &build);
            draft.due(DueChange::Set { task: claim.task, lane, after, note: Some(note) });
            return self.commit(draft).await.map(|_| After::Nothing);
        }
        draft.put(Record::Build(build.clone()));
        draft.due(DueChange::Hold { task: claim.task, lane, lease: self.config.drive_lease });
        let committed = self.commit(draft).await?;
        let claim = committed.claims.into_iter().next().unwrap_or_else(|| claim.clone());
        Ok(After::Send(Box::new(Begun { build, name, claim, asked })))
    }

    /// Sends a recorded intent, and records what came of it. Returns the build that its end starts, if it does.
    #[tracing::instrument(name = "capomastro.launch", skip_all, fields(build.id = %begun.build.id, launch.key = %begun.build.key))]
    async fn send(&self, begun: Begun) -> Result<Option<Begun>> {
        let Begun { build, name, claim, asked } = begun;
        let launcher = Arc::clone(self.launcher(&build.launcher)?);
        let request = self.request(&build, name, asked);
        let journal = MemoJournal { inner: self, build: build.id, claim: &claim };
        metrics::counter!("capomastro_launches_total", "launcher" => build.launcher.to_string()).increment(1);
        let answer = match request.send_before.check(self.clock.as_ref()) {
            Err(late) => Err(late),
            Ok(()) => {
                let timeout = pin!(self.clock.sleep(self.config.request_timeout));
                match select(launcher.launch(&request, &journal), timeout).await {
                    Either::Left((answer, _)) => answer,
                    Either::Right(_) => Err(Error::new(
                        ErrorKind::OutcomeUnknown,
                        "the build system did not answer the launch in time",
                    )),
                }
            }
        };
        if let Err(error) = &answer {
            tracing::warn!(build.id = %build.id, error = %error.report(), "a launch was not answered");
        }
        self.record_launch(&build, &claim, answer).await
    }

    /// What a launcher is told of a build.
    pub(super) fn request(&self, build: &Build, name: DependencyName, asked: Monotonic) -> LaunchRequest {
        let mut request = LaunchRequest::new(
            build.id,
            build.key,
            name,
            build.number,
            build.revision.clone(),
            build.fence,
            build.job.clone(),
            self.config.request_timeout,
            send_before(asked, self.config.drive_lease, self.config.request_timeout),
            self.secrets.clone(),
        );
        request.display.clone_from(&build.display);
        request.parameters.clone_from(&build.parameters);
        request.build_key.clone_from(&build.build_key);
        request.requesters = build.causes.iter().filter_map(|c| c.requester.clone()).collect();
        request.memo.clone_from(&build.memo);
        request
    }

    async fn record_launch(
        &self,
        sent: &Build,
        claim: &Claim,
        answer: Result<Launched>,
    ) -> Result<Option<Begun>> {
        let evidence = match &answer {
            Ok(Launched::Accepted(external)) => Some(external.clone()),
            _ => None,
        };
        let recorded = self.step(sent, claim, |s| s.launched(copy(&answer))).await;
        // It may have been ended or driven on by another meanwhile: what was sent is evidence, unless it is the record's own.
        let is_recorded = match (&evidence, &recorded) {
            (None, _) => true,
            (Some(external), Ok(After::Advanced(own))) => own.as_ref() == Some(external),
            (Some(external), _) => {
                self.draft().build(sent.id).await?.is_some_and(|b| b.external.as_ref() == Some(external))
            }
        };
        if let Some(external) = evidence.filter(|_| !is_recorded) {
            self.keep_orphan(sent, &external).await?;
        }
        match recorded? {
            After::Send(begun) => Ok(Some(*begun)),
            After::Nothing | After::Advanced(_) | After::Find => Ok(None),
        }
    }

    /// An external build whose driver has lost its claim is kept until somebody has judged it.
    async fn keep_orphan(&self, build: &Build, external: &ExternalRef) -> Result<()> {
        let mut attempts = Attempts::default();
        loop {
            let mut draft = self.draft();
            if draft.record(Key::Orphan(build.id, external.0.clone())).await?.is_some() {
                return Ok(());
            }
            draft.put(Record::Orphan(Orphan {
                build: build.id,
                external: external.clone(),
                seen_by: self.holder.to_string(),
                seen_at: draft.now()?,
                verdict: None,
            }));
            draft.event(Event::of_dependency(build.dependency, EventKind::OrphanSeen { build: build.id }));
            draft.due(DueChange::Set {
                task: Task::Judge(build.id),
                lane: Lane::Launcher(build.launcher.clone()),
                after: Duration::ZERO,
                note: None,
            });
            match self.commit(draft).await {
                Ok(_) => {
                    metrics::counter!("capomastro_orphans_total").increment(1);
                    return Ok(());
                }
                Err(e) => attempts.again(self, e).await?,
            }
        }
    }
}

/// An answer once more, since a step may have to be decided again after a conflict.
pub(super) fn copy<T: Clone>(answer: &Result<T>) -> Result<T> {
    match answer {
        Ok(value) => Ok(value.clone()),
        Err(error) => Err(error.copy()),
    }
}

/// A lease of a lock that is kept elsewhere is renewed with each drive, three times in its life.
fn within_lease(after: Duration, build: &Build) -> Duration {
    match build.lease.as_ref().and_then(|l| l.expires_in) {
        Some(expires) => after.min(expires / 3),
        None => after,
    }
}
