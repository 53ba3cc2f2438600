//! Defining projects, and holding them at builds.

use crate::{
    Error, Result,
    error::ErrorKind,
    events::{Event, EventKind},
    model::{BuildId, Project, ProjectId, ProjectName},
    scheduler::{Scheduler, commit::Attempts},
    store::{ListKey, Query, Record, UniqueKey},
};
use std::collections::BTreeSet;

impl Scheduler {
    /// Defines a project unless there is one of this name.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the name is not one.
    pub async fn ensure_project(&self, project: &str) -> Result<ProjectId> {
        let name: ProjectName = project.parse()?;
        let mut attempts = Attempts::default();
        loop {
            let mut draft = self.inner.draft();
            let query = Query::Unique(UniqueKey::project(&name));
            if let Some(Record::Project(found)) = draft.find(&query, 1).await?.into_iter().next() {
                return Ok(found.id);
            }
            let now = draft.now()?;
            let id = self.inner.create_project(&mut draft, name.clone(), now);
            match self.inner.commit(draft).await {
                Ok(_) => return Ok(id),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                    let taken =
                        Error::new(ErrorKind::Conflict, "the name was taken meanwhile").with_source(e);
                    attempts.again(&self.inner, taken).await?;
                }
                Err(e) => attempts.again(&self.inner, e).await?,
            }
        }
    }

    /// Gives a project another name. Its identity and history stay.
    ///
    /// *Idempotency*: renaming it to the name it has changes nothing.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), or [`AlreadyExists`](ErrorKind::AlreadyExists) if the name is taken.
    pub async fn rename_project(&self, project: &str, to: &str) -> Result<()> {
        let to: ProjectName = to.parse()?;
        let mut attempts = Attempts::default();
        loop {
            let mut draft = self.inner.draft();
            let mut found = self.inner.project_named(&mut draft, project).await?;
            if found.name == to {
                return Ok(());
            }
            found.name = to.clone();
            draft.event(Event::of_project(found.id, EventKind::Changed { what: format!("renamed to {to}") }));
            draft.put(Record::Project(found));
            match self.inner.commit(draft).await {
                Ok(_) => return Ok(()),
                Err(e) => attempts.again(&self.inner, e).await?,
            }
        }
    }

    /// Deletes a project. Its dependencies leave it; its records are kept for as long as the retention says.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is none of this name.
    pub async fn delete_project(&self, project: &str) -> Result<()> {
        let mut attempts = Attempts::default();
        loop {
            let mut draft = self.inner.draft();
            let mut found = self.inner.project_named(&mut draft, project).await?;
            let now = draft.now()?;
            // First, so that no project build is made of what remains after each that leaves.
            found.deleted_at = Some(now);
            let stood = found.current.take().map(|c| c.builds).unwrap_or_default();
            draft.put(Record::Project(found.clone()));
            for id in found.members.keys().copied().collect::<Vec<_>>() {
                let mut state = self.inner.state_of(&mut draft, id).await?;
                let mut projects = state.projects.clone();
                projects.remove(&found.id);
                self.inner.set_membership(&mut draft, id, &mut state, &projects, now).await?;
                draft.put(Record::State(state));
            }
            for build in stood.into_values() {
                self.inner.stands_no_more(&mut draft, build, now).await?;
            }
            draft.event(Event::of_project(found.id, EventKind::Deleted));
            match self.inner.commit(draft).await {
                Ok(_) => return Ok(()),
                Err(e) => attempts.again(&self.inner, e).await?,
            }
        }
    }

    /// A part of the living projects, by name: at most `limit` (1 to 1,000) behind `after`.
    ///
    /// # Errors
    /// What the store says.
    pub async fn projects(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Project>, Option<String>)> {
        let query = Query::List { list: ListKey::projects(), backwards: false };
        let page = self.inner.store.list(&query, after, limit).await?;
        let found = page.items.into_iter().filter_map(|v| match v.record {
            Record::Project(p) => Some(p),
            _ => None,
        });
        Ok((found.collect(), page.next))
    }

    /// Adds a dependency to a project, which is made if there is none of this name.
    ///
    /// *Idempotency*: adding one that is in it changes nothing.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such dependency.
    pub async fn add_to_project(&self, project: &str, dependency: &str) -> Result<()> {
        let id = self.ensure_project(project).await?;
        self.change_membership(dependency, |projects| {
            projects.insert(id);
        })
        .await
    }

    /// Takes a dependency out of a project. It stays in the records that have it.
    ///
    /// *Idempotency*: taking out one that is not in it changes nothing.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such project or dependency.
    pub async fn remove_from_project(&self, project: &str, dependency: &str) -> Result<()> {
        let mut draft = self.inner.draft();
        let id = self.inner.project_named(&mut draft, project).await?.id;
        drop(draft);
        self.change_membership(dependency, |projects| {
            projects.remove(&id);
        })
        .await
    }

    async fn change_membership(
        &self,
        dependency: &str,
        change: impl Fn(&mut BTreeSet<ProjectId>) + Send + Sync,
    ) -> Result<()> {
        let mut attempts = Attempts::default();
        loop {
            let mut draft = self.inner.draft();
            let found = self.inner.dependency_named(&mut draft, dependency).await?;
            let mut state = self.inner.state_of(&mut draft, found.id).await?;
            let mut projects = state.projects.clone();
            change(&mut projects);
            if projects == state.projects {
                return Ok(());
            }
            let now = draft.now()?;
            self.inner.set_membership(&mut draft, found.id, &mut state, &projects, now).await?;
            draft.event(Event::of_dependency(found.id, EventKind::Changed { what: "projects".into() }));
            draft.put(Record::State(state));
            match self.inner.commit(draft).await {
                Ok(_) => return Ok(()),
                Err(e) => attempts.again(&self.inner, e).await?,
            }
        }
    }

    /// Holds a project at one build of a dependency until it is moved by hand. Touches linking, never looking or building.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the build is not a good one of that dependency,
    /// [`NotFound`](ErrorKind::NotFound) if there is no such project, member or build.
    pub async fn pin(&self, project: &str, dependency: &str, build: BuildId) -> Result<()> {
        self.set_pin(project, dependency, Some(build)).await
    }

    /// Lets a project follow a dependency's linked build again.
    ///
    /// *Idempotency*: letting go what is not held changes nothing.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such project or member.
    pub async fn unpin(&self, project: &str, dependency: &str) -> Result<()> {
        self.set_pin(project, dependency, None).await
    }

    async fn set_pin(&self, project: &str, dependency: &str, build: Option<BuildId>) -> Result<()> {
        let mut attempts = Attempts::default();
        loop {
            let mut draft = self.inner.draft();
            let project = self.inner.project_named(&mut draft, project).await?;
            let found = self.inner.dependency_named(&mut draft, dependency).await?;
            let now = draft.now()?;
            if !project.members.contains_key(&found.id) {
                return Err(Error::new(ErrorKind::NotFound, "the dependency is not in the project")
                    .with_context("dependency", dependency)
                    .with_context("project", project.name));
            }
            let build = match build {
                None => None,
                Some(id) => Some(draft.build(id).await?.ok_or_else(|| {
                    Error::new(ErrorKind::NotFound, "there is no such build, or none any more")
                        .with_context("build", id)
                })?),
            };
            self.inner.link_pin(&mut draft, project.id, found.id, build.as_ref(), now).await?;
            if draft.is_empty() {
                return Ok(());
            }
            match self.inner.commit(draft).await {
                Ok(_) => return Ok(()),
                Err(e) => attempts.again(&self.inner, e).await?,
            }
        }
    }
}
