//! Steering: cancel, retry, pause, resume, break a lock.

use super::ask::TriggerRequest;
use crate::{
    Error, Result,
    decide::{EndOfBuild, Occasion},
    error::ErrorKind,
    events::{Event, EventKind},
    lock::LockAsk,
    model::{Build, BuildId, OnHeld, Paused, Phase, ReceiptId, Requester, Stop, StopReason},
    scheduler::{Inner, Scheduler, apply::Applying, commit::Attempts},
    store::{DueChange, Record, Task},
    track::Ending,
};
use std::time::Duration;

/// What a request to cancel met.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// Nothing had been sent: it has ended.
    AtOnce,
    /// The build system is asked to stop it; what it reports is what counts.
    Asked,
    /// It had ended before, like this.
    TooLate(Phase),
}

impl Scheduler {
    /// Cancels a build. A cancelled build is not retried. The change that it stood for stays accounted for: only a trigger,
    /// or another change, builds again.
    ///
    /// *Idempotency*: may be repeated.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such build.
    pub async fn cancel(&self, build: BuildId, by: &Requester) -> Result<Cancelled> {
        let mut attempts = Attempts::default();
        loop {
            match self.inner.try_cancel(build, by).await {
                Err(error) => attempts.again(error)?,
                done => {
                    self.inner.wake.notify_one();
                    return done;
                }
            }
        }
    }

    /// Builds again what a build was to build: the same revision with the same parameters, as a manual trigger.
    ///
    /// # Errors
    /// As [`trigger`](Scheduler::trigger), and [`NotFound`](ErrorKind::NotFound) if there is no such build.
    pub async fn retry(&self, build: BuildId, by: &Requester) -> Result<ReceiptId> {
        let build = self.build(build).await?;
        let dependency = self.inner.dependency_of(&build).await?;
        if dependency.deleted_at.is_some() {
            return Err(Error::new(ErrorKind::NotFound, "the build's dependency was deleted")
                .with_context("dependency", dependency.name));
        }
        let mut request =
            TriggerRequest::manual().by(by.clone()).at(build.revision).on_held(OnHeld::Coalesce);
        request.parameters = build.parameters;
        request.build_key = build.build_key;
        self.trigger(dependency.name.as_str(), request).await
    }

    /// A build.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such build, or none any more.
    pub async fn build(&self, id: BuildId) -> Result<Build> {
        self.inner.draft().build(id).await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "there is no such build, or none any more")
                .with_context("build", id)
        })
    }

    /// Lets nothing of a dependency be built until it is resumed. Looking goes on; a build that runs ends as usual; what
    /// waits keeps its place.
    ///
    /// *Idempotency*: pausing what is paused changes who said so and why.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) for an unknown name; [`InvalidInput`](ErrorKind::InvalidInput) for a reason of over
    /// 1,000 bytes.
    pub async fn pause(&self, dependency: &str, by: &Requester, reason: &str) -> Result<()> {
        check_reason(reason)?;
        let mut attempts = Attempts::default();
        loop {
            let mut draft = self.inner.draft();
            let found = self.inner.dependency_named(&mut draft, dependency).await?;
            let mut state = self.inner.state_of(&mut draft, found.id).await?;
            let at = draft.now()?;
            state.paused = Some(Paused { by: by.clone(), reason: reason.to_owned(), at });
            draft.event(Event::of_dependency(
                found.id,
                EventKind::Paused { by: by.to_string(), reason: reason.to_owned() },
            ));
            draft.put(Record::State(state));
            match self.inner.commit(draft).await {
                Ok(_) => return Ok(()),
                Err(e) => attempts.again(e)?,
            }
        }
    }

    /// Lets a dependency be built again. What waited is decided in this call, in order; then the debt; and a look is due.
    ///
    /// *Idempotency*: resuming what is not paused changes nothing.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) for an unknown name.
    pub async fn resume(&self, dependency: &str) -> Result<()> {
        let mut attempts = Attempts::default();
        loop {
            match self.inner.try_resume(dependency).await {
                Err(error) => attempts.again(error)?,
                Ok(()) => {
                    self.inner.wake.notify_one();
                    return Ok(());
                }
            }
        }
    }

    /// Frees a dependency whatever its build is doing: the build ends as `Lost`, loudly, and is not retried; the build
    /// system may still run it. What waits is decided in the same commit.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if the name is unknown or no build holds the dependency.
    pub async fn break_lock(&self, dependency: &str, by: &Requester, reason: &str) -> Result<BuildId> {
        check_reason(reason)?;
        let inner = &self.inner;
        let mut draft = inner.draft();
        let found = inner.dependency_named(&mut draft, dependency).await?;
        let state = inner.state_of(&mut draft, found.id).await?;
        let Some(held) = state.held.clone() else {
            return Err(Error::new(ErrorKind::NotFound, "no build holds the dependency")
                .with_context("dependency", dependency));
        };
        let end = EndOfBuild { broken: true, ..EndOfBuild::of(Phase::Lost) };
        let mut ending = Ending::of(end).because(format!("its lock was broken by {by}: {reason}"));
        ending.may_still_run = true;
        ending.broken = Some((by.to_string(), reason.to_owned()));
        let Some(begun) = inner.end_if(held.owner, None, &ending, |b| !b.phase.is_terminal()).await? else {
            return Err(Error::new(ErrorKind::NotFound, "the build that held the dependency has just ended")
                .with_context("build", held.owner));
        };
        if let Some(begun) = begun {
            inner.launch_begun(begun).await;
        }
        let build = self.build(held.owner).await?;
        if build.lease.is_some() {
            // The lock is kept elsewhere: take it from whoever it thinks has it, and give it back.
            let ask = LockAsk::new(found.id, found.name, held.owner, None, state.fence);
            let lease = inner
                .lock
                .take_over(&ask, reason)
                .await
                .map_err(|e| e.with_operation("take the lock over"))?;
            inner.lock.release(&lease).await.map_err(|e| e.with_operation("release the lock"))?;
        }
        inner.wake.notify_one();
        Ok(held.owner)
    }
}

fn check_reason(reason: &str) -> Result<()> {
    if reason.len() > 1_000 || reason.chars().any(char::is_control) {
        return Err(Error::invalid("the reason is out of range: give at most 1,000 bytes on one line"));
    }
    Ok(())
}

impl Inner {
    async fn try_cancel(&self, id: BuildId, by: &Requester) -> Result<Cancelled> {
        let mut draft = self.draft();
        let Some(mut build) = draft.build(id).await? else {
            return Err(Error::new(ErrorKind::NotFound, "there is no such build").with_context("build", id));
        };
        if build.phase.is_terminal() {
            return Ok(Cancelled::TooLate(build.phase));
        }
        if build.phase == Phase::Requested {
            drop(draft);
            let ending = Ending::of(EndOfBuild::of(Phase::Cancelled)).because(format!("cancelled by {by}"));
            return self.cancel_requested(id, &ending).await;
        }
        if build.stop.is_some() {
            return Ok(Cancelled::Asked);
        }
        let mut state = self.state_of(&mut draft, build.dependency).await?;
        let reason = StopReason::Cancel { by: by.to_string() };
        build.stop = Some(Stop { reason: reason.clone(), asked_at: draft.now()? });
        if let Some(held) = state.held.as_mut().filter(|h| h.owner == id) {
            held.stopping = true;
        }
        draft.event(Event::of_dependency(build.dependency, EventKind::BuildStopping { build: id, reason }));
        draft.due(DueChange::Nudge { task: Task::Drive(id), after: Duration::ZERO });
        draft.put(Record::State(state));
        draft.put(Record::Build(build));
        self.commit(draft).await?;
        Ok(Cancelled::Asked)
    }

    /// Ends a build that was not sent, unless a driver has begun to send it meanwhile.
    async fn cancel_requested(&self, id: BuildId, ending: &Ending) -> Result<Cancelled> {
        match self.end_if(id, None, ending, |b| b.phase == Phase::Requested).await? {
            Some(begun) => {
                if let Some(begun) = begun {
                    self.launch_begun(begun).await;
                }
                Ok(Cancelled::AtOnce)
            }
            None => Err(Error::new(ErrorKind::Conflict, "the build was moved on meanwhile")),
        }
    }

    async fn try_resume(&self, name: &str) -> Result<()> {
        let mut draft = self.draft();
        let found = self.dependency_named(&mut draft, name).await?;
        let id = found.id;
        let mut state = self.state_of(&mut draft, id).await?;
        if state.paused.is_none() {
            return Ok(());
        }
        let now = draft.now()?;
        state.paused = None;
        draft.event(Event::of_dependency(id, EventKind::Resumed));
        draft.due(DueChange::Nudge { task: Task::Look(id), after: Duration::ZERO });
        let mut applying = Applying::new(self, found, now);
        applying.may_launch = false;
        let evaluation = applying.evaluate(&mut draft, state, &Occasion::Released).await?;
        let state = applying.apply(&mut draft, evaluation).await?;
        if state.retry.is_some() && state.held.is_none() {
            draft.due(DueChange::Nudge { task: Task::Evaluate(id), after: Duration::ZERO });
        }
        applying.commit(draft).await.map(drop)
    }
}
