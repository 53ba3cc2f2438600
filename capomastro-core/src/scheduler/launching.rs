//! Sending a build to its launcher, exactly once per recorded intent.

use super::{Inner, commit::Attempts, limits::Admission};
use crate::{
    Error, Result,
    error::ErrorKind,
    events::{Event, EventKind},
    launch::{BuildLauncher, Journal, LaunchRequest, Launched, Promise, send_before},
    model::{Build, BuildId, Dependency, ExternalRef, LauncherName, Note, Orphan, Phase, Policy},
    store::{Claim, DueChange, Key, Lane, LimitScope, Record, Task},
    time::Monotonic,
    track::{self, Step},
};
use async_trait::async_trait;
use futures_util::future::{Either, select};
use serde_json::Value;
use std::{pin::pin, sync::Arc, time::Duration};

/// A build that is recorded as `Launching` and to be sent now, under a claim that was asked for at `asked`.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) build: Build,
    pub(super) claim: Claim,
    pub(super) asked: Monotonic,
}

/// What is left to do after a step.
#[derive(Debug)]
pub(super) enum After {
    /// Nothing.
    Nothing,
    /// The build is to be sent again.
    Send,
    /// The release has started this build, which is to be sent now.
    Launch(Box<Begun>),
}

/// How long a build that waits for a limit sleeps unless it is woken.
const LIMIT_WAIT: Duration = Duration::from_secs(30);

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
                Err(e) => attempts.again(e)?,
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

    /// The dependency of a build, whose policy and name count now.
    pub(super) async fn dependency_of(&self, build: &Build) -> Result<Dependency> {
        let snapshot = self.store.get(&[Key::Dependency(build.dependency)]).await?;
        match snapshot.records.into_iter().next().flatten().map(|v| v.record) {
            Some(Record::Dependency(dependency)) => Ok(dependency),
            _ => Err(Error::new(ErrorKind::Corrupt, "a build's dependency is not stored")
                .with_context("build", build.id)),
        }
    }

    /// Sends a build that was recorded in the same commit as its start, and whatever its end starts in turn.
    pub(super) async fn launch_begun(&self, begun: Begun) {
        let mut next = Some(begun);
        while let Some(begun) = next.take() {
            let claim = begun.claim.clone();
            match self.send_begun(begun).await {
                Ok(following) => next = following,
                Err(error) => self.stall(claim, &error),
            }
        }
    }

    async fn send_begun(&self, begun: Begun) -> Result<Option<Begun>> {
        let dependency = self.dependency_of(&begun.build).await?;
        self.send(begun, &dependency).await
    }

    /// Passes the limits, records the intent and sends.
    pub(super) async fn admit_and_send(
        &self,
        build: BuildId,
        claim: &Claim,
        dependency: &Dependency,
    ) -> Result<()> {
        let mut attempts = Attempts::default();
        loop {
            match self.try_admit(build, claim).await {
                Ok(Some(begun)) => {
                    if let Some(following) = self.send(begun, dependency).await? {
                        self.launch_begun(following).await;
                    }
                    return Ok(());
                }
                Ok(None) => return Ok(()),
                Err(e) => attempts.again(e)?,
            }
        }
    }

    async fn try_admit(&self, id: BuildId, claim: &Claim) -> Result<Option<Begun>> {
        let asked = self.clock.monotonic();
        let mut draft = self.draft();
        draft.claim(claim.clone());
        let Some(mut build) = draft.build(id).await? else { return Ok(None) };
        if !matches!(build.phase, Phase::Requested | Phase::Launching) || build.stop.is_some() {
            // Somebody else has moved it on; the next drive sees where it stands.
            self.give_back(claim.clone(), Duration::ZERO, claim.note.clone());
            return Ok(None);
        }
        let now = draft.now()?;
        let lane = Lane::Launcher(build.launcher.clone());
        if let Admission::Waits(scope) = self.admit(&mut draft, &build).await? {
            let waits_for = Some(match scope {
                LimitScope::Overall => "the limit of running builds".to_owned(),
                LimitScope::Launcher(name) => format!("the limit of running builds of {name}"),
            });
            let note = Note { waits_for, stalls: 0, ..claim.note.clone() };
            let after = within_lease(LIMIT_WAIT, Some(&build));
            draft.due(DueChange::Set { task: claim.task, lane, after, note: Some(note) });
            self.commit(draft).await?;
            return Ok(None);
        }
        build.phase = Phase::Launching;
        build.launching_at = Some(now);
        build.sends = build.sends.saturating_add(1);
        draft.put(Record::Build(build.clone()));
        draft.due(DueChange::Hold { task: claim.task, lane, lease: self.config.drive_lease });
        let committed = self.commit(draft).await?;
        let claim = committed.claims.into_iter().next().unwrap_or_else(|| claim.clone());
        Ok(Some(Begun { build, claim, asked }))
    }

    /// Sends a recorded intent, and records what came of it. Returns the build that its end starts, if it does.
    #[tracing::instrument(name = "capomastro.launch", skip_all, fields(build.id = %begun.build.id, launch.key = %begun.build.key))]
    async fn send(&self, begun: Begun, dependency: &Dependency) -> Result<Option<Begun>> {
        let Begun { build, claim, asked } = begun;
        let launcher = Arc::clone(self.launcher(&build.launcher)?);
        let request = self.request(&build, dependency, asked);
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
        self.record_launch(&build, &claim, &answer, launcher.promise(), &dependency.policy).await
    }

    /// What a launcher is told of a build.
    pub(super) fn request(&self, build: &Build, dependency: &Dependency, asked: Monotonic) -> LaunchRequest {
        let mut request = LaunchRequest::new(
            build.id,
            build.key,
            dependency.name.clone(),
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
        answer: &Result<Launched>,
        promise: Promise,
        policy: &Policy,
    ) -> Result<Option<Begun>> {
        let mut attempts = Attempts::default();
        loop {
            let mut draft = self.draft();
            let stored = draft.build(sent.id).await?;
            let now = draft.now()?;
            let Some(build) = stored.filter(|b| !b.phase.is_terminal()) else {
                // It was ended meanwhile (its lock was broken, say): what was sent is kept as evidence.
                self.keep_evidence(sent, answer).await?;
                return Ok(None);
            };
            if build.external.is_some() {
                // It was found while it was sent: whether both are one build is to be judged.
                self.keep_evidence(sent, answer).await?;
            }
            let step = track::launched(&build, answer, promise, policy, &claim.note, now);
            match self.perform_step(draft, build.id, claim, step).await {
                Err(e) if e.kind() == ErrorKind::ClaimLost => {
                    self.keep_evidence(sent, answer).await?;
                    return Err(e);
                }
                Err(e) => attempts.again(e)?,
                Ok(After::Launch(begun)) => return Ok(Some(*begun)),
                Ok(After::Nothing | After::Send) => return Ok(None),
            }
        }
    }

    /// An external build whose driver has lost its claim is kept until somebody has judged it.
    async fn keep_evidence(&self, build: &Build, answer: &Result<Launched>) -> Result<()> {
        let Ok(Launched::Accepted(external)) = answer else { return Ok(()) };
        self.keep_orphan(build, external).await
    }

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
            metrics::counter!("capomastro_orphans_total").increment(1);
            match self.commit(draft).await {
                Ok(_) => return Ok(()),
                Err(e) => attempts.again(e)?,
            }
        }
    }

    /// Does what a step says, under the claim.
    pub(super) async fn perform_step(
        &self,
        mut draft: crate::store::Draft<'_>,
        id: BuildId,
        claim: &Claim,
        step: Step,
    ) -> Result<After> {
        match step {
            Step::Again { after, note } => {
                let build = draft.build(id).await?;
                self.give_back(claim.clone(), within_lease(after, build.as_ref()), note);
            }
            Step::Send => return Ok(After::Send),
            Step::Advance { build, after, note, events } => {
                if build.stop.is_some()
                    && let Some(mut state) = draft.state(build.dependency).await?
                    && let Some(held) = state.held.as_mut().filter(|h| h.owner == id)
                {
                    held.stopping = true;
                    draft.put(Record::State(state));
                }
                for event in events {
                    draft.event(Event::of_dependency(build.dependency, event));
                }
                draft.claim(claim.clone());
                draft.due(DueChange::Set {
                    task: claim.task,
                    lane: Lane::Launcher(build.launcher.clone()),
                    after: within_lease(after, Some(&build)),
                    note: Some(note),
                });
                draft.put(Record::Build(*build));
                self.commit(draft).await?;
            }
            Step::End(ending) => {
                let begun = self.end(id, Some(claim), &ending).await?;
                return Ok(begun.map_or(After::Nothing, |b| After::Launch(Box::new(b))));
            }
        }
        Ok(After::Nothing)
    }
}

/// A lease of a lock that is kept elsewhere is renewed with each drive, three times in its life.
pub(super) fn within_lease(after: Duration, build: Option<&Build>) -> Duration {
    match build.and_then(|b| b.lease.as_ref()).and_then(|l| l.expires_in) {
        Some(expires) => after.min(expires / 3),
        None => after,
    }
}
