//! Which slots does a project build have, and which project build stands for a project now?
//!
//! One commit makes one [`ProjectView`] of each project that it touches, tells it what happened, and writes what
//! [`ProjectView::finish`] says. Sealing and relinking happen there and nowhere else, so that no commit can forget them.

mod change;
mod seal;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod stories;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod whole;
#[cfg(test)]
mod world;

pub use change::{Asked, SlotEnd, WholeRequest, end_note};

use crate::{
    Error, ErrorKind, Result,
    events::Event,
    model::{
        Artifact, Build, BuildId, DependencyId, Member, MissingReason, Phase, Project, ProjectBuild,
        ProjectBuildId, Revision, Slot, SlotKind,
    },
    time::Timestamp,
};
use chrono::Datelike;
use std::collections::{BTreeMap, BTreeSet};

/// What a slot keeps of a build, and what sealing asks of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildFacts {
    /// What it stands for.
    pub revision: Revision,
    /// What it left behind, with digests.
    pub artifacts: Vec<Artifact>,
    /// Whether it ended good.
    pub good: bool,
    /// Where it stands.
    pub phase: Phase,
}

impl BuildFacts {
    /// The facts of a build as it is recorded.
    pub fn of(build: &Build) -> Self {
        Self {
            revision: build.stands_for().clone(),
            artifacts: build.artifacts.clone(),
            good: build.good,
            phase: build.phase,
        }
    }
}

/// The builds whose [`BuildFacts`] a [`ProjectView`] of this project needs: the linked and pinned ones and those in open
/// slots. The builds that the commit itself is about are given to the view's methods.
pub fn needed_builds<'a>(
    project: &Project,
    open: impl IntoIterator<Item = &'a ProjectBuild>,
) -> BTreeSet<BuildId> {
    let members = project.members.values().flat_map(|m| [m.linked, m.pin]).flatten();
    let slots = open.into_iter().flat_map(|b| b.slots.values()).filter_map(Slot::build);
    members.chain(slots).collect()
}

/// A project and its open project builds, while one commit changes them.
#[derive(Clone, Debug)]
pub struct ProjectView {
    project: Project,
    builds: BTreeMap<ProjectBuildId, ProjectBuild>,
    facts: BTreeMap<BuildId, BuildFacts>,
    now: Timestamp,
    events: Vec<Event>,
    fresh: BTreeSet<(BuildId, ProjectBuildId)>,
    stored: BTreeMap<ProjectBuildId, ProjectBuild>,
    stood: BTreeSet<BuildId>,
}

/// What a commit writes of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProjectChange {
    /// The project, changed or not.
    pub project: Project,
    /// The project builds that were made, changed or sealed.
    pub project_builds: Vec<ProjectBuild>,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// The builds that became fresh in a project build here: to be added to
    /// [`Build::project_builds`].
    pub fresh: BTreeSet<(BuildId, ProjectBuildId)>,
    /// The builds that stood in this project before, as a link, a pin, in its current or in an open project build, and
    /// do not any more. A build that stands nowhere else either may be forgotten with the records that refer to it.
    pub stopped_standing: BTreeSet<BuildId>,
    /// The builds that did not stand in this project before and do now; one that was written off stands again.
    pub began_standing: BTreeSet<BuildId>,
}

impl ProjectChange {
    /// Whether the current or an open project build has a slot for this dependency, or it is a member.
    pub fn refers_to(&self, dependency: DependencyId) -> bool {
        let project = &self.project;
        project.members.contains_key(&dependency)
            || project.current.as_ref().is_some_and(|c| c.builds.contains_key(&dependency))
            || self.project_builds.iter().any(|b| b.seal.is_none() && b.slots.contains_key(&dependency))
    }
}

impl ProjectView {
    /// A view of `project` with all its `open` project builds and the facts of the builds that
    /// [`needed_builds`] names; `now` is the time of the commit.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) if one of the project builds was not given,
    /// [`Corrupt`](ErrorKind::Corrupt) if a build to which the project refers is not among the facts.
    pub fn new(
        project: Project,
        open: impl IntoIterator<Item = ProjectBuild>,
        facts: BTreeMap<BuildId, BuildFacts>,
        now: Timestamp,
    ) -> Result<Self> {
        let builds: BTreeMap<_, _> =
            open.into_iter().filter(|b| b.seal.is_none()).map(|b| (b.id, b)).collect();
        if let Some(id) = project.open.iter().find(|id| !builds.contains_key(id)) {
            return Err(Error::internal("load every open project build of a project before changing it")
                .with_context("project", &project.name)
                .with_context("project_build", id));
        }
        if let Some(id) = needed_builds(&project, builds.values()).iter().find(|id| !facts.contains_key(id)) {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "a project refers to a build that is not stored: restore the store from a backup",
            )
            .with_context("project", &project.name)
            .with_context("build", id));
        }
        let mut view = Self {
            project,
            stored: builds.clone(),
            builds,
            facts,
            now,
            events: Vec::new(),
            fresh: BTreeSet::new(),
            stood: BTreeSet::new(),
        };
        view.stood = view.standing_builds();
        Ok(view)
    }

    /// The project as it is so far.
    pub const fn project(&self) -> &Project {
        &self.project
    }

    /// The project builds that are open so far, in the order in which they were requested.
    pub fn open(&self) -> impl Iterator<Item = &ProjectBuild> {
        self.project.open.iter().filter_map(|id| self.builds.get(id))
    }

    /// Seals what can be sealed, relinks, and says what to write. `draw` gives new ids; at most one is drawn.
    pub fn finish(mut self, draw: &mut dyn FnMut() -> ProjectBuildId) -> ProjectChange {
        self.seal_all();
        self.relink(draw);
        let standing = self.standing_builds();
        let project_builds =
            self.builds.iter().filter(|(id, b)| self.stored.get(id) != Some(b)).map(|(_, b)| b.clone());
        ProjectChange {
            project_builds: project_builds.collect(),
            stopped_standing: self.stood.difference(&standing).copied().collect(),
            began_standing: standing.difference(&self.stood).copied().collect(),
            project: self.project,
            events: self.events,
            fresh: self.fresh,
        }
    }

    fn learn(&mut self, build: &Build) {
        self.facts.insert(build.id, BuildFacts::of(build));
    }

    fn standing_builds(&self) -> BTreeSet<BuildId> {
        let current = self.project.current.iter().flat_map(|c| c.builds.values().copied());
        needed_builds(&self.project, self.open()).into_iter().chain(current).collect()
    }

    /// What stands for each member, if something stands for every one and there is one.
    fn links(&self) -> Option<BTreeMap<DependencyId, BuildId>> {
        let members = &self.project.members;
        let links = members.iter().map(|(d, m)| Some((*d, m.stands()?))).collect::<Option<BTreeMap<_, _>>>();
        links.filter(|l| !l.is_empty())
    }

    fn is_under_way(&self, dependency: DependencyId) -> bool {
        self.open().any(|b| match b.slots.get(&dependency).map(|s| &s.kind) {
            Some(SlotKind::Awaiting { .. }) => true,
            Some(SlotKind::Fresh { build }) => !self.has_ended(*build),
            _ => false,
        })
    }

    fn has_ended(&self, build: BuildId) -> bool {
        self.facts.get(&build).is_some_and(|f| f.phase.is_terminal())
    }

    fn nothing(&self, dependency: DependencyId) -> SlotKind {
        let reason = match self.is_under_way(dependency) {
            true => MissingReason::NotYetBuilt,
            false => MissingReason::NeverBuilt,
        };
        SlotKind::Missing { reason }
    }

    /// What a slot holds that is not built for its project build.
    fn at_rest(&self, dependency: DependencyId) -> SlotKind {
        match self.project.members.get(&dependency) {
            Some(Member { pin: Some(build), .. }) => SlotKind::Pinned { build: *build },
            Some(Member { linked: Some(build), .. }) => SlotKind::Carried { build: *build },
            Some(_) => self.nothing(dependency),
            None => SlotKind::Missing { reason: MissingReason::Left },
        }
    }

    /// A slot with what is known of its build, once that has ended.
    fn filled(&self, kind: SlotKind, note: Option<String>) -> Slot {
        let mut slot = Slot { note, ..Slot::of(kind) };
        if let Some(facts) = slot.build().and_then(|b| self.facts.get(&b)).filter(|f| f.phase.is_terminal()) {
            slot.revision = Some(facts.revision.clone());
            slot.artifacts.clone_from(&facts.artifacts);
        }
        slot
    }

    /// The next name. The day never goes back, so that no name comes twice when the clock is set back.
    fn next_name(&mut self) -> String {
        let today = self.now.date_naive();
        let (day, number) = match self.project.last_number {
            Some((day, number)) if day >= today => (day, number.saturating_add(1)),
            _ => (today, 1),
        };
        self.project.last_number = Some((day, number));
        format!("{:04}{:02}{:02}.{number}", day.year(), day.month(), day.day())
    }
}
