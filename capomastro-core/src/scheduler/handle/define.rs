//! Defining, renaming and deleting dependencies and projects.

use super::spec::DependencySpec;
use crate::{
    Error, Result,
    decide::{delete_dependency, edit_source},
    error::ErrorKind,
    events::{Event, EventKind},
    launch::Promise,
    model::{
        Cause, Dependency, DependencyId, DependencyName, DependencyState, EndReason, Project, ProjectId,
        ProjectName, ReceiptState, RetryReason,
    },
    schedule::next_due,
    scheduler::{Inner, Scheduler, apply::settle, commit::Attempts},
    store::{Draft, DueChange, Lane, ListKey, Page, Query, Record, Task, UniqueKey},
    time::Timestamp,
};
use std::{collections::BTreeSet, time::Duration};

/// What an application of a specification did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It was defined.
    Created(DependencyId),
    /// It existed and was changed; what, in words.
    Changed(DependencyId, Vec<&'static str>),
    /// It was so already.
    Unchanged(DependencyId),
}

impl Applied {
    /// The dependency.
    pub const fn id(&self) -> DependencyId {
        match self {
            Self::Created(id) | Self::Changed(id, _) | Self::Unchanged(id) => *id,
        }
    }
}

/// How an existing dependency is treated.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Mode {
    LeaveAsIs,
    Apply { same_source: bool },
}

impl Scheduler {
    /// Defines a dependency unless there is one of this name, which is left as it is. Makes its projects.
    ///
    /// *Idempotency*: by name.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if a probe or launcher is not registered here, or does not accept the
    /// source or job, or the policy is out of range.
    pub async fn ensure(&self, spec: &DependencySpec) -> Result<DependencyId> {
        Ok(self.define(spec, Mode::LeaveAsIs).await?.id())
    }

    /// Makes a dependency as the specification says: defines it, or changes the one of this name. Its projects become
    /// exactly those of the specification. Any difference in the source starts a new source epoch: what was seen before is
    /// not compared with what will be.
    ///
    /// *Idempotency*: by name.
    ///
    /// # Errors
    /// As [`ensure`](Scheduler::ensure).
    pub async fn apply(&self, spec: &DependencySpec) -> Result<Applied> {
        self.define(spec, Mode::Apply { same_source: false }).await
    }

    /// As [`apply`](Scheduler::apply), for a source that is the same by another way (a mirror, new credentials): what was
    /// seen and accounted for stays.
    ///
    /// # Errors
    /// As [`ensure`](Scheduler::ensure).
    pub async fn apply_same_source(&self, spec: &DependencySpec) -> Result<Applied> {
        self.define(spec, Mode::Apply { same_source: true }).await
    }

    async fn define(&self, spec: &DependencySpec, mode: Mode) -> Result<Applied> {
        let inner = &self.inner;
        inner.check_spec(spec)?;
        let mut attempts = Attempts::default();
        loop {
            let mut draft = inner.draft();
            let applied = inner.define(&mut draft, spec, mode).await?;
            if draft.is_empty() {
                return Ok(applied);
            }
            match inner.commit(draft).await {
                Ok(_) => {
                    inner.wake.notify_one();
                    return Ok(applied);
                }
                // Somebody defined the same name meanwhile.
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                    let taken =
                        Error::new(ErrorKind::Conflict, "the name was taken meanwhile").with_source(e);
                    attempts.again(inner, taken).await?;
                }
                Err(e) => attempts.again(&self.inner, e).await?,
            }
        }
    }

    /// Gives a dependency another name. Its identity and history stay.
    ///
    /// *Idempotency*: renaming it to the name it has changes nothing.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), or [`AlreadyExists`](ErrorKind::AlreadyExists) if the name is taken.
    pub async fn rename(&self, dependency: &str, to: &str) -> Result<()> {
        let to: DependencyName = to.parse()?;
        let mut attempts = Attempts::default();
        loop {
            let mut draft = self.inner.draft();
            let mut found = self.inner.dependency_named(&mut draft, dependency).await?;
            if found.name == to {
                return Ok(());
            }
            found.name = to.clone();
            let what = format!("renamed to {to}");
            draft.event(Event::of_dependency(found.id, EventKind::Changed { what }));
            draft.put(Record::Dependency(found));
            match self.inner.commit(draft).await {
                Ok(_) => return Ok(()),
                Err(e) => attempts.again(&self.inner, e).await?,
            }
        }
    }

    /// Deletes a dependency. Requests that wait end; a build that runs ends as usual. It leaves its projects, whose records
    /// keep what they showed.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is none of this name.
    pub async fn delete(&self, dependency: &str) -> Result<()> {
        let mut attempts = Attempts::default();
        loop {
            let mut draft = self.inner.draft();
            let mut found = self.inner.dependency_named(&mut draft, dependency).await?;
            let mut state = self.inner.state_of(&mut draft, found.id).await?;
            let now = draft.now()?;
            found.deleted_at = Some(now);
            let before = state.clone();
            let ended = delete_dependency(&mut state);
            self.inner.end_causes(&mut draft, found.id, ended, now).await?;
            self.inner.set_membership(&mut draft, found.id, &mut state, &BTreeSet::new(), now).await?;
            debug_assert_eq!(before.held, state.held, "a running build ends as usual");
            draft.due(DueChange::Drop { task: Task::Look(found.id) });
            draft.due(DueChange::Drop { task: Task::Evaluate(found.id) });
            draft.event(Event::of_dependency(found.id, EventKind::Deleted));
            draft.put(Record::State(state));
            draft.put(Record::Dependency(found));
            match self.inner.commit(draft).await {
                Ok(_) => return Ok(()),
                Err(e) => attempts.again(&self.inner, e).await?,
            }
        }
    }

    /// A part of the living dependencies, by name: at most `limit` (1 to 1,000) behind `after`.
    ///
    /// # Errors
    /// What the store says.
    pub async fn dependencies(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Dependency>, Option<String>)> {
        let query = Query::List { list: ListKey::dependencies(), backwards: false };
        let Page { items, next, .. } = self.inner.store.list(&query, after, limit).await?;
        let found = items.into_iter().filter_map(|v| match v.record {
            Record::Dependency(d) => Some(d),
            _ => None,
        });
        Ok((found.collect(), next))
    }
}

impl Inner {
    /// Refuses what this scheduler could not work with.
    fn check_spec(&self, spec: &DependencySpec) -> Result<()> {
        let named = |e: Error| e.with_context("dependency", &spec.name);
        spec.policy.validate().map_err(named)?;
        self.key_of(&spec.source).map_err(named)?;
        let launcher = self.launchers.get(&spec.launcher).ok_or_else(|| {
            named(
                Error::config(
                    "no launcher of this name is registered: register it when the scheduler is built, or name another",
                )
                .with_context("launcher", &spec.launcher),
            )
        })?;
        launcher.check_job(&spec.job).map_err(named)?;
        if launcher.promise() == Promise::Blind && spec.policy.when_blind.is_none() {
            return Err(named(Error::config(
                "the launcher cannot find builds again: choose at_most_once or at_least_once in policy.when_blind",
            )));
        }
        Ok(())
    }

    /// The living dependency of this name.
    pub(in crate::scheduler) async fn dependency_named(
        &self,
        draft: &mut Draft<'_>,
        name: &str,
    ) -> Result<Dependency> {
        let name: DependencyName = name.parse()?;
        match draft.find(&Query::Unique(UniqueKey::dependency(&name)), 1).await?.into_iter().next() {
            Some(Record::Dependency(found)) => Ok(found),
            _ => Err(Error::new(ErrorKind::NotFound, "there is no dependency of this name")
                .with_context("dependency", name)),
        }
    }

    /// The living project of this name.
    pub(in crate::scheduler) async fn project_named(
        &self,
        draft: &mut Draft<'_>,
        name: &str,
    ) -> Result<Project> {
        let name: ProjectName = name.parse()?;
        match draft.find(&Query::Unique(UniqueKey::project(&name)), 1).await?.into_iter().next() {
            Some(Record::Project(found)) => Ok(found),
            _ => Err(Error::new(ErrorKind::NotFound, "there is no project of this name")
                .with_context("project", name)),
        }
    }

    pub(in crate::scheduler) async fn state_of(
        &self,
        draft: &mut Draft<'_>,
        id: DependencyId,
    ) -> Result<DependencyState> {
        draft.state(id).await?.ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "a dependency's state is not stored")
                .with_context("dependency", id)
        })
    }

    async fn define(&self, draft: &mut Draft<'_>, spec: &DependencySpec, mode: Mode) -> Result<Applied> {
        let query = Query::Unique(UniqueKey::dependency(&spec.name));
        match draft.find(&query, 1).await?.into_iter().next() {
            Some(Record::Dependency(found)) => match mode {
                Mode::LeaveAsIs => Ok(Applied::Unchanged(found.id)),
                Mode::Apply { same_source } => self.change(draft, found, spec, same_source).await,
            },
            _ => self.create(draft, spec).await,
        }
    }

    async fn create(&self, draft: &mut Draft<'_>, spec: &DependencySpec) -> Result<Applied> {
        let now = draft.now()?;
        let id = DependencyId::draw(now, self.random.as_ref());
        let dependency = Dependency::new(
            id,
            spec.name.clone(),
            spec.source.clone(),
            spec.launcher.clone(),
            spec.job.clone(),
            spec.policy.clone(),
            now,
        );
        let mut state = DependencyState::new(id);
        state.regardless_due = next_due(&spec.policy.build_regardless, now, id, now);
        let projects = self.projects_named(draft, &spec.projects, now).await?;
        self.set_membership(draft, id, &mut state, &projects, now).await?;
        draft.event(Event::of_dependency(id, EventKind::Defined { name: spec.name.to_string() }));
        draft.due(self.look_now(&dependency));
        draft.put(Record::State(state));
        draft.put(Record::Dependency(dependency));
        Ok(Applied::Created(id))
    }

    async fn change(
        &self,
        draft: &mut Draft<'_>,
        mut found: Dependency,
        spec: &DependencySpec,
        same_source: bool,
    ) -> Result<Applied> {
        let id = found.id;
        let mut state = self.state_of(draft, id).await?;
        let now = draft.now()?;
        let mut what = Vec::new();
        if found.source != spec.source {
            what.push("source");
            if !same_source {
                let ended = edit_source(&mut state);
                self.end_causes(draft, id, ended, now).await?;
            }
        }
        if found.launcher != spec.launcher {
            what.push("launcher");
        }
        if found.job != spec.job {
            what.push("job");
        }
        if found.policy != spec.policy {
            what.push("policy");
        }
        let refused = state.retry.as_mut().filter(|r| r.reason == RetryReason::LaunchRefused);
        if let Some(retry) = refused.filter(|_| what.iter().any(|w| *w != "policy")) {
            // A refusal may be mended by the change.
            retry.not_before = Some(now);
            draft.due(DueChange::Set {
                task: Task::Evaluate(id),
                lane: Lane::House,
                after: Duration::ZERO,
                note: None,
            });
        }
        if found.policy.build_regardless != spec.policy.build_regardless {
            state.regardless_due = next_due(&spec.policy.build_regardless, found.created_at, id, now);
        }
        found.source = spec.source.clone();
        found.launcher = spec.launcher.clone();
        found.job = spec.job.clone();
        found.policy = spec.policy.clone();
        let projects = self.projects_named(draft, &spec.projects, now).await?;
        if projects != state.projects {
            what.push("projects");
            self.set_membership(draft, id, &mut state, &projects, now).await?;
        }
        if what.is_empty() {
            return Ok(Applied::Unchanged(id));
        }
        draft.event(Event::of_dependency(id, EventKind::Changed { what: what.join(", ") }));
        if what.iter().any(|w| *w != "projects") {
            draft.due(self.look_now(&found));
        }
        draft.put(Record::State(state));
        draft.put(Record::Dependency(found));
        Ok(Applied::Changed(id, what))
    }

    fn look_now(&self, dependency: &Dependency) -> DueChange {
        DueChange::Set {
            task: Task::Look(dependency.id),
            lane: Lane::Probe(dependency.source.probe.clone()),
            after: Duration::ZERO,
            note: None,
        }
    }

    /// The projects of these names; those that do not exist are made.
    async fn projects_named(
        &self,
        draft: &mut Draft<'_>,
        names: &BTreeSet<ProjectName>,
        now: Timestamp,
    ) -> Result<BTreeSet<ProjectId>> {
        let mut ids = BTreeSet::new();
        for name in names {
            let query = Query::Unique(UniqueKey::project(name));
            let id = match draft.find(&query, 1).await?.into_iter().next() {
                Some(Record::Project(found)) => found.id,
                _ => self.create_project(draft, name.clone(), now),
            };
            ids.insert(id);
        }
        Ok(ids)
    }

    pub(super) fn create_project(
        &self,
        draft: &mut Draft<'_>,
        name: ProjectName,
        now: Timestamp,
    ) -> ProjectId {
        let id = ProjectId::draw(now, self.random.as_ref());
        draft.event(Event::of_project(id, EventKind::Defined { name: name.to_string() }));
        draft.put(Record::Project(Project::new(id, name, now)));
        id
    }

    /// Makes the projects that have a dependency exactly these.
    pub(super) async fn set_membership(
        &self,
        draft: &mut Draft<'_>,
        id: DependencyId,
        state: &mut DependencyState,
        projects: &BTreeSet<ProjectId>,
        now: Timestamp,
    ) -> Result<()> {
        let joined: Vec<ProjectId> = projects.difference(&state.projects).copied().collect();
        let left: Vec<ProjectId> = state.projects.difference(projects).copied().collect();
        for project in joined {
            self.link_join(draft, project, id, state, now).await?;
            state.past_projects.remove(&project);
        }
        for project in left {
            self.link_leave(draft, project, id, now).await?;
            state.past_projects.insert(project);
        }
        state.projects.clone_from(projects);
        Ok(())
    }

    /// Requests and stored triggers that ended because of what a person did.
    pub(super) async fn end_causes(
        &self,
        draft: &mut Draft<'_>,
        dependency: DependencyId,
        ended: Vec<(Cause, EndReason)>,
        now: Timestamp,
    ) -> Result<()> {
        for (cause, reason) in &ended {
            let Some(id) = cause.receipt else { continue };
            if let Some(mut receipt) = draft.receipt(id).await? {
                settle(&mut receipt, None, ReceiptState::Ended { reason: reason.clone() }, now);
                draft.put(Record::Receipt(receipt));
            }
            draft.event(Event::of_dependency(
                dependency,
                EventKind::RequestEnded { receipts: vec![id], reason: reason.clone() },
            ));
        }
        self.link_ended_causes(draft, &ended, now).await
    }
}
