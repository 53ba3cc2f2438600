//! Asking for a look or a build.

use crate::{
    Error, Result,
    decide::{MAX_WAITING, Occasion, PinnedTrigger},
    detect::begin_backoff_anew,
    error::ErrorKind,
    model::{
        BuildKey, Cause, DependencyId, EndReason, OnHeld, Parameters, ProjectBuildId, Receipt, ReceiptId,
        ReceiptState, Requester, Revision, StoredTrigger, Trigger,
    },
    scheduler::{Inner, Scheduler, apply::Applying, commit::Attempts, projects::whole_request},
    store::{Draft, DueChange, Record, Task},
    time::Timestamp,
};
use std::{collections::BTreeMap, time::Duration};

/// The most own parameters of one build.
const MAX_PARAMETERS: usize = 100;

/// What somebody asks of a dependency.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TriggerRequest {
    /// [`Trigger::Push`]: look, and build if something changed. [`Trigger::Manual`]: build.
    pub trigger: Trigger,
    /// Who asks.
    pub requester: Option<Requester>,
    /// The revision to build; whatever is there where absent. Manual only.
    pub revision: Option<Revision>,
    /// Own parameters of the build: at most 100, names of 1 to 200 bytes, values of at most 4 KiB. Manual only.
    pub parameters: Parameters,
    /// A key that the build is given.
    pub build_key: Option<BuildKey>,
    /// What to do if the dependency cannot be built now; its own policy where absent. Manual only.
    pub on_held: Option<OnHeld>,
}

impl TriggerRequest {
    /// Look soon, because the source may have changed.
    pub const fn push() -> Self {
        Self::of(Trigger::Push)
    }

    /// Build what is there.
    pub const fn manual() -> Self {
        Self::of(Trigger::Manual)
    }

    const fn of(trigger: Trigger) -> Self {
        Self {
            trigger,
            requester: None,
            revision: None,
            parameters: BTreeMap::new(),
            build_key: None,
            on_held: None,
        }
    }

    /// Who asks.
    #[must_use]
    pub fn by(mut self, requester: Requester) -> Self {
        self.requester = Some(requester);
        self
    }

    /// The revision to build.
    #[must_use]
    pub fn at(mut self, revision: Revision) -> Self {
        self.revision = Some(revision);
        self
    }

    /// One own parameter.
    #[must_use]
    pub fn with_parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }

    /// A key that the build is given.
    #[must_use]
    pub fn with_build_key(mut self, key: BuildKey) -> Self {
        self.build_key = Some(key);
        self
    }

    /// What to do if the dependency cannot be built now.
    #[must_use]
    pub const fn on_held(mut self, policy: OnHeld) -> Self {
        self.on_held = Some(policy);
        self
    }

    fn check(&self) -> Result<()> {
        if self.on_held.is_some_and(|o| !o.is_in_range()) {
            return Err(Error::invalid("on_held.queue.max is out of range: give 1 to 1,000"));
        }
        match self.trigger {
            Trigger::Push
                if self.revision.is_some() || !self.parameters.is_empty() || self.on_held.is_some() =>
            {
                Err(Error::invalid(
                    "a push only asks for a look: give revision, parameters and lock policy to a manual trigger",
                ))
            }
            Trigger::Push | Trigger::Manual => check_parameters(&self.parameters),
            _ => Err(Error::invalid(
                "only push and manual triggers can be given: schedules and retries are made by Capomastro",
            )),
        }
    }
}

pub(super) fn check_parameters(parameters: &Parameters) -> Result<()> {
    let bad_name = |n: &String| n.is_empty() || n.len() > 200 || n.chars().any(char::is_control);
    if parameters.len() > MAX_PARAMETERS
        || parameters.iter().any(|(n, v)| bad_name(n) || v.len() > 4_096 || v.contains('\0'))
    {
        return Err(Error::invalid(
            "parameters are out of range: give at most 100, with names of 1 to 200 printable bytes and values of at most 4 KiB without NUL",
        ));
    }
    Ok(())
}

/// A build of a whole project, or of some of its dependencies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WholeBuildRequest {
    /// The names of the dependencies to build; all where absent.
    pub members: Option<Vec<String>>,
    /// Who asks.
    pub requester: Option<Requester>,
    /// Own parameters of each build.
    pub parameters: Parameters,
    /// The key that all builds share; drawn where absent.
    pub build_key: Option<BuildKey>,
    /// Pinned dependencies to build too, whose pins move to the new builds when these end good.
    pub move_pins: Vec<String>,
}

impl WholeBuildRequest {
    /// All dependencies that are not pinned.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only these dependencies.
    #[must_use]
    pub fn only(mut self, members: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.members = Some(members.into_iter().map(Into::into).collect());
        self
    }

    /// Who asks.
    #[must_use]
    pub fn by(mut self, requester: Requester) -> Self {
        self.requester = Some(requester);
        self
    }

    /// One own parameter.
    #[must_use]
    pub fn with_parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }

    /// Builds this pinned dependency too, and moves its pin.
    #[must_use]
    pub fn moving_pin(mut self, dependency: impl Into<String>) -> Self {
        self.move_pins.push(dependency.into());
        self
    }
}

/// What a whole build got.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WholeBuild {
    /// The project build.
    pub project_build: ProjectBuildId,
    /// Its `YYYYMMDD.n`.
    pub name: String,
    /// The key that its builds share.
    pub build_key: BuildKey,
    /// The receipt of each dependency that was asked.
    pub receipts: BTreeMap<DependencyId, ReceiptId>,
}

impl Scheduler {
    /// Asks for a look or a build, and returns the receipt by which the outcome can be read or awaited.
    ///
    /// A manual trigger that names a revision is decided in this call. Any other is stored, and decided by the first probe
    /// that is started after it.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a request that makes no sense,
    /// [`NotFound`](ErrorKind::NotFound) for an unknown name, [`Paused`](ErrorKind::Paused) for a build of a paused
    /// dependency, [`Held`](ErrorKind::Held) if a named revision is discarded loudly,
    /// [`RateLimited`](ErrorKind::RateLimited) if too many triggers wait already.
    #[tracing::instrument(name = "capomastro.trigger", skip_all, fields(dependency = dependency))]
    pub async fn trigger(&self, dependency: &str, request: TriggerRequest) -> Result<ReceiptId> {
        request.check()?;
        let mut attempts = Attempts::default();
        loop {
            match self.inner.try_trigger(dependency, &request).await {
                Err(error) => attempts.again(&self.inner, error).await?,
                done => {
                    self.inner.wake.notify_one();
                    return done;
                }
            }
        }
    }

    /// What a trigger got.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such receipt, or none any more.
    pub async fn receipt(&self, id: ReceiptId) -> Result<Receipt> {
        self.inner.draft().receipt(id).await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "there is no such receipt, or none any more")
                .with_context("receipt", id)
        })
    }

    /// Waits until nothing more will happen to a receipt.
    ///
    /// *Cancellation*: harmless.
    ///
    /// # Errors
    /// As [`receipt`](Scheduler::receipt).
    pub async fn settled(&self, id: ReceiptId) -> Result<Receipt> {
        let mut wait = Duration::from_millis(20);
        loop {
            let receipt = self.receipt(id).await?;
            if receipt.is_settled() {
                return Ok(receipt);
            }
            self.inner.clock.sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(1));
        }
    }

    /// Builds a whole project, or some of its dependencies, as one project build.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) for an unknown name or one that is not in the project,
    /// [`InvalidInput`](ErrorKind::InvalidInput) if nothing is left to build.
    pub async fn build_project(&self, project: &str, request: &WholeBuildRequest) -> Result<WholeBuild> {
        check_parameters(&request.parameters)?;
        let mut attempts = Attempts::default();
        loop {
            match self.inner.try_build_project(project, request).await {
                Err(error) => attempts.again(&self.inner, error).await?,
                done => {
                    self.inner.wake.notify_one();
                    return done;
                }
            }
        }
    }
}

impl Inner {
    async fn try_trigger(&self, name: &str, request: &TriggerRequest) -> Result<ReceiptId> {
        let mut draft = self.draft();
        let dependency = self.dependency_named(&mut draft, name).await?;
        let mut state = self.state_of(&mut draft, dependency.id).await?;
        let now = draft.now()?;
        let receipt = ReceiptId::draw(now, self.random.as_ref());
        let cause = Cause {
            trigger: request.trigger,
            requester: request.requester.clone(),
            receipt: Some(receipt),
            project_build: None,
        };
        if request.trigger.is_forced() && state.paused.is_some() {
            return Err(paused(name));
        }
        let Some(revision) = request.revision.clone() else {
            self.store_trigger(&mut draft, &mut state, cause, receipt, request, now)?;
            draft.put(Record::State(state));
            self.commit(draft).await?;
            return Ok(receipt);
        };
        let occasion = Occasion::Pinned(PinnedTrigger {
            cause,
            revision,
            parameters: request.parameters.clone(),
            build_key: request.build_key.clone(),
            on_held: request.on_held,
        });
        let mut applying = Applying::new(self, dependency, now);
        applying.may_launch = false;
        let evaluation = applying.evaluate(&mut draft, state, &occasion).await?;
        let outcome = evaluation.receipts.iter().rev().find(|c| c.cause.receipt == Some(receipt)).cloned();
        let loud = evaluation.decided.iter().any(|d| d.decision.name() == "DiscardedLoudly");
        applying.apply(&mut draft, evaluation).await?;
        applying.commit(draft).await?;
        match outcome.map(|c| c.state) {
            Some(ReceiptState::LostTo { build }) if loud => {
                let by = build.map_or_else(|| "a lock that is kept elsewhere".to_owned(), |b| b.to_string());
                Err(Error::new(
                    ErrorKind::Held,
                    "the dependency is held or its queue is full: try again later, or choose to coalesce or queue",
                )
                .with_context("dependency", name)
                .with_context("held_by", by)
                .with_context("receipt", receipt))
            }
            Some(ReceiptState::Ended { reason: EndReason::Paused }) => Err(paused(name)),
            _ => Ok(receipt),
        }
    }

    /// Keeps an unpinned trigger for the next look, which is made due.
    fn store_trigger(
        &self,
        draft: &mut Draft<'_>,
        state: &mut crate::model::DependencyState,
        cause: Cause,
        receipt: ReceiptId,
        request: &TriggerRequest,
        now: Timestamp,
    ) -> Result<()> {
        if state.stored.len() >= MAX_WAITING {
            return Err(Error::new(
                ErrorKind::RateLimited,
                "too many triggers wait for the next look: try again when it is over",
            )
            .with_context("waiting", state.stored.len()));
        }
        draft.put(Record::Receipt(Receipt::new(receipt, state.id, &cause, now)));
        // Somebody expects an answer.
        begin_backoff_anew(state);
        state.stored.push(StoredTrigger {
            cause,
            receipt,
            parameters: request.parameters.clone(),
            build_key: request.build_key.clone(),
            on_held: request.on_held,
            since: now,
        });
        draft.due(DueChange::Nudge { task: Task::Look(state.id), after: Duration::ZERO });
        Ok(())
    }

    async fn try_build_project(&self, name: &str, request: &WholeBuildRequest) -> Result<WholeBuild> {
        let mut draft = self.draft();
        let project = self.project_named(&mut draft, name).await?;
        let now = draft.now()?;
        let mut names: BTreeMap<String, DependencyId> = BTreeMap::new();
        for id in project.members.keys() {
            if let Some(d) = draft.dependency(*id).await? {
                names.insert(d.name.to_string(), *id);
            }
        }
        let find = |n: &String| {
            names.get(n).copied().ok_or_else(|| {
                Error::new(ErrorKind::NotFound, "there is no dependency of this name in the project")
                    .with_context("project", name)
                    .with_context("dependency", n.escape_debug())
            })
        };
        let moves: Vec<DependencyId> = request.move_pins.iter().map(find).collect::<Result<_>>()?;
        let asked: Vec<DependencyId> = match &request.members {
            Some(members) => members.iter().map(find).collect::<Result<_>>()?,
            None => names.values().copied().collect(),
        };
        let pinned = |id: &DependencyId| project.members.get(id).is_some_and(|m| m.pin.is_some());
        let mut chosen: Vec<DependencyId> =
            asked.into_iter().filter(|id| !pinned(id)).chain(moves.clone()).collect();
        chosen.sort_unstable();
        chosen.dedup();
        if chosen.is_empty() {
            return Err(Error::invalid(
                "nothing is left to build: the project is empty, or what was chosen is pinned; name pins to move them",
            )
            .with_context("project", name));
        }
        let build_key = match &request.build_key {
            Some(key) => key.clone(),
            None => format!("{:032x}", self.random.bits()).parse()?,
        };
        let id = ProjectBuildId::draw(now, self.random.as_ref());
        let mut receipts: BTreeMap<DependencyId, (ReceiptId, bool)> = BTreeMap::new();
        for dependency in chosen {
            let mut state = self.state_of(&mut draft, dependency).await?;
            let receipt = ReceiptId::draw(now, self.random.as_ref());
            let cause = Cause {
                trigger: Trigger::Manual,
                requester: request.requester.clone(),
                receipt: Some(receipt),
                project_build: Some((project.id, id)),
            };
            receipts.insert(dependency, (receipt, state.paused.is_some()));
            if state.paused.is_some() {
                let mut refused = Receipt::new(receipt, dependency, &cause, now);
                refused.state = ReceiptState::Ended { reason: EndReason::Paused };
                refused.settled_at = Some(now);
                draft.put(Record::Receipt(refused));
                continue;
            }
            let trigger = TriggerRequest {
                parameters: request.parameters.clone(),
                build_key: Some(build_key.clone()),
                ..TriggerRequest::manual()
            };
            self.store_trigger(&mut draft, &mut state, cause, receipt, &trigger, now)?;
            draft.put(Record::State(state));
        }
        let request = whole_request(&receipts, &moves, build_key.clone(), request.requester.clone());
        let name = self.link_whole(&mut draft, project.id, id, request, now).await?;
        self.commit(draft).await?;
        let receipts = receipts.into_iter().map(|(d, (r, _))| (d, r)).collect();
        Ok(WholeBuild { project_build: id, name, build_key, receipts })
    }
}

fn paused(name: &str) -> Error {
    Error::new(ErrorKind::Paused, "the dependency is paused: resume it first")
        .with_context("dependency", name)
}
