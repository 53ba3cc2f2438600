//! Steering: cancel, withdraw, retry, pause, resume, break a lock.

use super::ask::TriggerRequest;
use crate::{
    Error, Result,
    decide::{Occasion, withdraw},
    error::ErrorKind,
    events::{Event, EventKind},
    lock::LockAsk,
    model::{Build, BuildId, LaunchKey, Note, OnHeld, Paused, Phase, ReceiptId, ReceiptState, Requester},
    scheduler::{Inner, Scheduler, apply::Applying, around::is_of_one_record, commit::Attempts},
    store::{DueChange, ListKey, Query, Record, Task},
    track::{Situation, Step},
};
use std::{collections::BTreeSet, time::Duration};

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

/// What a request to withdraw a trigger met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withdrawn {
    /// It waited, and has ended.
    Done,
    /// It had been answered before, like this. A build that it was given is cancelled by
    /// [`cancel`](Scheduler::cancel).
    TooLate(ReceiptState),
}

impl Scheduler {
    /// Withdraws a trigger that waits for a look, or for its turn behind a build. A change of the source that was seen
    /// meanwhile is built all the same.
    ///
    /// *Idempotency*: may be repeated.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such receipt, or none any more.
    pub async fn withdraw(&self, trigger: ReceiptId, by: &Requester) -> Result<Withdrawn> {
        let mut attempts = Attempts::default();
        loop {
            match self.inner.try_withdraw(trigger, by).await {
                Err(error) => attempts.again(&self.inner, error).await?,
                done => return done,
            }
        }
    }

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
                Err(error) => attempts.again(&self.inner, error).await?,
                done => {
                    self.inner.wake.notify_one();
                    return done;
                }
            }
        }
    }

    /// Looks at these builds now instead of at their next turn: a build system has said that something happened to them. A
    /// hint: nothing is believed but what the look shows. Says how many of the keys are of unfinished builds; the others
    /// mean nothing.
    ///
    /// *Idempotency*: may be repeated. *Cancellation*: all are looked at or none.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for more than 1,000 keys, and what the storage says.
    pub async fn look_sooner(&self, launched_with: &[LaunchKey]) -> Result<usize> {
        const MOST: usize = 1_000;
        if launched_with.len() > MOST {
            return Err(Error::invalid("too many keys at once: give at most 1,000"));
        }
        let mut draft = self.inner.draft();
        let mut found = BTreeSet::new();
        for key in launched_with {
            let list = Query::List { list: ListKey::launched_with(*key), backwards: false };
            let page = match self.inner.store.list(&list, None, 1).await {
                Err(error) if is_of_one_record(&error) => continue,
                page => page?,
            };
            for item in page.items {
                if let Record::Build(build) = item.record
                    && found.insert(build.id)
                {
                    draft.due(DueChange::Nudge { task: Task::Drive(build.id), after: Duration::ZERO });
                }
            }
        }
        if !found.is_empty() {
            self.inner.commit(draft).await?;
            self.inner.wake.notify_one();
        }
        Ok(found.len())
    }

    /// Builds again what a build was to build: the same revision with the same parameters, as a manual trigger.
    ///
    /// # Errors
    /// As [`trigger`](Scheduler::trigger), [`NotFound`](ErrorKind::NotFound) if there is no such build, and
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the source was edited since.
    pub async fn retry(&self, build: BuildId, by: &Requester) -> Result<ReceiptId> {
        let build = self.build(build).await?;
        let dependency = self.inner.dependency_of(&mut self.inner.draft(), &build).await?;
        if dependency.deleted_at.is_some() {
            return Err(Error::new(ErrorKind::NotFound, "the build's dependency was deleted")
                .with_context("dependency", dependency.name));
        }
        let state = self.inner.state_of(&mut self.inner.draft(), dependency.id).await?;
        if build.epoch != state.epoch {
            return Err(Error::invalid(
                "the build was of the source as it was before an edit, and its revision means nothing to the source as \
                 it is: trigger the dependency instead",
            )
            .with_context("build", build.id)
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
                Err(e) => attempts.again(&self.inner, e).await?,
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
                Err(error) => attempts.again(&self.inner, error).await?,
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
    /// [`NotFound`](ErrorKind::NotFound) if the name is unknown or no build holds the dependency. A lock that is kept
    /// elsewhere and does not answer is no error: it is given back when it does.
    pub async fn break_lock(&self, dependency: &str, by: &Requester, reason: &str) -> Result<BuildId> {
        check_reason(reason)?;
        let mut attempts = Attempts::default();
        loop {
            match self.inner.try_break(dependency, by, reason).await {
                Err(error) => attempts.again(&self.inner, error).await?,
                done => {
                    self.inner.wake.notify_one();
                    return done;
                }
            }
        }
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
        let Some(build) = draft.build(id).await? else {
            return Err(Error::new(ErrorKind::NotFound, "there is no such build").with_context("build", id));
        };
        let dependency = self.dependency_of(&mut draft, &build).await?;
        let note = Note::default();
        let situation = Situation {
            build: &build,
            note: &note,
            policy: &dependency.policy,
            promise: self.promise_of(&build),
            now: draft.now()?,
        };
        match situation.cancel(by.as_str()) {
            Step::Done => Ok(Cancelled::TooLate(build.phase)),
            Step::Advance { build, events, .. } => {
                self.mark_stopping(&mut draft, &build).await?;
                for event in events {
                    draft.event(event);
                }
                draft.due(DueChange::Nudge { task: Task::Drive(id), after: Duration::ZERO });
                draft.put(Record::Build(*build));
                self.commit(draft).await?;
                Ok(Cancelled::Asked)
            }
            Step::End(end) => {
                self.finish(draft, None, dependency, *end, false).await?;
                Ok(Cancelled::AtOnce)
            }
            Step::Nothing { .. } | Step::Send { .. } | Step::Find | Step::Observe { .. } => {
                Ok(Cancelled::Asked)
            }
        }
    }

    async fn try_withdraw(&self, trigger: ReceiptId, by: &Requester) -> Result<Withdrawn> {
        let mut draft = self.draft();
        let Some(receipt) = draft.receipt(trigger).await? else {
            return Err(Error::new(ErrorKind::NotFound, "there is no such receipt, or none any more")
                .with_context("receipt", trigger));
        };
        let id = receipt.dependency;
        let mut state = self.state_of(&mut draft, id).await?;
        let ended = withdraw(&mut state, trigger, by);
        if ended.is_empty() {
            return Ok(Withdrawn::TooLate(receipt.state));
        }
        let now = draft.now()?;
        self.end_causes(&mut draft, id, ended, now).await?;
        // It may have been what others waited for.
        draft.due(DueChange::Nudge { task: Task::Evaluate(id), after: Duration::ZERO });
        draft.put(Record::State(state));
        self.commit(draft).await.map(|_| Withdrawn::Done)
    }

    async fn try_break(&self, name: &str, by: &Requester, reason: &str) -> Result<BuildId> {
        let mut draft = self.draft();
        let found = self.dependency_named(&mut draft, name).await?;
        let state = self.state_of(&mut draft, found.id).await?;
        let held = match &state.held {
            Some(held) => draft.build(held.owner).await?,
            None => None,
        };
        let Some(build) = held else {
            return Err(Error::new(ErrorKind::NotFound, "no build holds the dependency")
                .with_context("dependency", name));
        };
        let note = Note::default();
        let situation = Situation {
            build: &build,
            note: &note,
            policy: &found.policy,
            promise: self.promise_of(&build),
            now: draft.now()?,
        };
        let Step::End(end) = situation.broken(by.as_str(), reason) else {
            return Err(Error::new(ErrorKind::Conflict, "the build has ended meanwhile"));
        };
        let ask = LockAsk::new(found.id, found.name.clone(), build.id, None, state.fence);
        let id = found.id;
        self.finish(draft, None, found, *end, true).await?;
        let is_free = self.state_of(&mut self.draft(), id).await?.held.is_none();
        if build.lease.is_some() && is_free {
            // The lock is kept elsewhere: take it from whoever it thinks has it, and give it back.
            let taken = self.in_time(self.lock.take_over(&ask, reason), Err).await;
            let free = match taken {
                Ok(lease) => self.in_time(self.lock.release(&lease), Err).await,
                Err(error) => Err(error),
            };
            if let Err(error) = free {
                // The dependency is free here; the lease of the build that ended is given back by due work.
                tracing::warn!(dependency = name, error = %error.report(), "the lock cannot be taken over now");
            }
        }
        Ok(build.id)
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
