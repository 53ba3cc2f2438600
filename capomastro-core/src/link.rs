//! Which slots does a project build have, and which project build stands for a project now? Pure.
//!
//! Each function changes a [`View`] of one project; [`View::settle`] then seals what is complete and relinks, and must
//! follow in the same commit.

use crate::{
    events::{Event, EventKind},
    model::{
        Artifact, Build, BuildId, BuildKey, CurrentBuild, DependencyId, Member, MissingReason, Phase,
        Project, ProjectBuild, ProjectBuildId, ProjectOutcome, ReceiptId, Requester, Revision, Seal, Slot,
        SlotKind,
    },
    time::Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};

/// What a slot shows of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildFacts {
    /// Where the build stands.
    pub phase: Phase,
    /// Whether it ended good.
    pub good: bool,
    /// The revision for which it stands.
    pub revision: Revision,
    /// What it left behind.
    pub artifacts: Vec<Artifact>,
}

impl From<&Build> for BuildFacts {
    fn from(build: &Build) -> Self {
        Self {
            phase: build.phase,
            good: build.good,
            revision: build.stands_for().clone(),
            artifacts: build.artifacts.clone(),
        }
    }
}

/// What is known of the builds that may come into a slot.
pub type Facts = BTreeMap<BuildId, BuildFacts>;

/// How a request that a slot awaited ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotEnd {
    /// It was joined to this build.
    Joined(BuildId),
    /// There will be no build for it; why, for people.
    NoBuild(String),
}

/// A request for a build of a whole project, or of some of its dependencies.
#[derive(Clone, Debug)]
pub struct WholeRequest {
    /// The id of the project build.
    pub id: ProjectBuildId,
    /// The dependencies that were asked, with the receipts by which they are awaited.
    pub awaited: BTreeMap<DependencyId, ReceiptId>,
    /// Those that could not be asked, with the reason for people.
    pub refused: BTreeMap<DependencyId, String>,
    /// Pinned dependencies whose pins move to the fresh builds.
    pub moves_pins: Vec<DependencyId>,
    /// Who asks.
    pub requester: Option<Requester>,
    /// The key that the builds share.
    pub build_key: Option<BuildKey>,
}

/// A project, its project builds that are not sealed, and those that are made or sealed meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The project.
    pub project: Project,
    /// Its project builds, by id, which is also their order of request.
    pub builds: BTreeMap<ProjectBuildId, ProjectBuild>,
    /// What happened.
    pub events: Vec<Event>,
}

impl View {
    /// A view of a project and its open project builds.
    pub fn new(project: Project, open: impl IntoIterator<Item = ProjectBuild>) -> Self {
        let builds = open.into_iter().map(|b| (b.id, b)).collect();
        Self { project, builds, events: Vec::new() }
    }

    /// The builds of which [`settle`](View::settle) must know the facts.
    pub fn needed_builds(&self) -> BTreeSet<BuildId> {
        let standing = self.project.members.values().filter_map(Member::stands);
        let slots = self.open().flat_map(|b| b.slots.values()).filter_map(Slot::build);
        standing.chain(slots).collect()
    }

    fn open(&self) -> impl Iterator<Item = &ProjectBuild> {
        self.builds.values().filter(|b| b.seal.is_none())
    }

    fn open_mut(&mut self) -> impl Iterator<Item = &mut ProjectBuild> {
        self.builds.values_mut().filter(|b| b.seal.is_none())
    }

    /// What stands for each dependency now; `None` if one has nothing, or there is no dependency.
    fn standing(&self) -> Option<BTreeMap<DependencyId, BuildId>> {
        if self.project.members.is_empty() {
            return None;
        }
        self.project.members.iter().map(|(id, m)| Some((*id, m.stands()?))).collect()
    }

    /// A build of a dependency starts: the slots that awaited it are fresh. If there are none and the project tracks the
    /// dependency, the project gets a project build. Returns the project builds in which the build is fresh.
    pub fn build_started(
        &mut self,
        dependency: DependencyId,
        build: &Build,
        draw: impl FnOnce() -> ProjectBuildId,
        now: Timestamp,
    ) -> Vec<ProjectBuildId> {
        let receipts: BTreeSet<ReceiptId> = build.causes.iter().filter_map(|c| c.receipt).collect();
        let mut fresh_in = Vec::new();
        for open in self.open_mut() {
            let Some(slot) = open.slots.get_mut(&dependency) else { continue };
            if matches!(slot.kind, SlotKind::Awaiting { receipt } if receipts.contains(&receipt)) {
                *slot = Slot::of(SlotKind::Fresh { build: build.id });
                fresh_in.push(open.id);
            }
        }
        let tracks = self.project.members.get(&dependency).is_some_and(|m| m.pin.is_none());
        if fresh_in.is_empty() && tracks {
            let requester = build.causes.iter().find_map(|c| c.requester.clone());
            let mut slots = self.bound_slots();
            slots.insert(dependency, Slot::of(SlotKind::Fresh { build: build.id }));
            let id = draw();
            self.add(id, slots, Vec::new(), requester, build.build_key.clone(), now);
            fresh_in.push(id);
        }
        fresh_in
    }

    /// Somebody asks for a build of the whole project, or of some of its dependencies. Returns the project build's name.
    pub fn request_whole(&mut self, request: WholeRequest, now: Timestamp) -> String {
        let mut slots = self.bound_slots();
        for (dependency, receipt) in request.awaited {
            slots.insert(dependency, Slot::of(SlotKind::Awaiting { receipt }));
        }
        for (dependency, reason) in request.refused {
            if let Some(slot) = slots.get_mut(&dependency) {
                slot.note = Some(reason);
            }
        }
        self.add(request.id, slots, request.moves_pins, request.requester, request.build_key, now)
    }

    /// A request that a slot may await has ended without a build of its own.
    pub fn request_ended(&mut self, receipt: ReceiptId, end: &SlotEnd) {
        let members = self.project.members.clone();
        for open in self.open_mut() {
            for (dependency, slot) in &mut open.slots {
                if slot.kind != (SlotKind::Awaiting { receipt }) {
                    continue;
                }
                *slot = match end {
                    SlotEnd::Joined(build) => Slot::of(SlotKind::Fresh { build: *build }),
                    SlotEnd::NoBuild(reason) => Slot {
                        note: Some(reason.clone()),
                        ..Slot::of(bound(members.get(dependency).unwrap_or(&Member::default())))
                    },
                };
            }
        }
    }

    /// The dependency's linked build is this one now.
    pub fn linked(&mut self, dependency: DependencyId, build: Option<BuildId>) {
        if let Some(member) = self.project.members.get_mut(&dependency) {
            member.linked = build;
        }
    }

    /// A build ended good: pins that were named for it move to it.
    pub fn move_pins(&mut self, dependency: DependencyId, build: BuildId) {
        let fresh = SlotKind::Fresh { build };
        let named = self.open().any(|b| {
            b.moves_pins.contains(&dependency) && b.slots.get(&dependency).is_some_and(|s| s.kind == fresh)
        });
        if named {
            self.pin(dependency, Some(build));
        }
    }

    /// A person holds the project at a build of a dependency, or lets it follow again. The caller has checked that the build
    /// is a good one of that dependency.
    pub fn pin(&mut self, dependency: DependencyId, build: Option<BuildId>) {
        let Some(member) = self.project.members.get_mut(&dependency) else { return };
        if member.pin == build {
            return;
        }
        member.pin = build;
        let kind = EventKind::Pinned { dependency, build };
        self.events.push(Event::of_project(self.project.id, kind));
    }

    /// A dependency joins the project, with what is linked for it.
    pub fn join(&mut self, dependency: DependencyId, linked: Option<BuildId>) {
        self.project.members.entry(dependency).or_insert(Member { linked, pin: None });
    }

    /// A dependency leaves the project. It stays in the records that have it; a slot that awaits a request of it is bound.
    pub fn leave(&mut self, dependency: DependencyId) {
        let member = self.project.members.remove(&dependency).unwrap_or_default();
        for open in self.open_mut() {
            if let Some(slot) = open.slots.get_mut(&dependency)
                && matches!(slot.kind, SlotKind::Awaiting { .. })
            {
                *slot = Slot { note: Some("left the project".into()), ..Slot::of(bound(&member)) };
            }
        }
    }

    /// Seals what waits for nothing any more, and then makes sure that the project's current project build is what stands
    /// for its dependencies. Part of every commit that ends a build, reuses one, changes a pin or membership.
    pub fn settle(&mut self, facts: &Facts, now: Timestamp, mut draw: impl FnMut() -> ProjectBuildId) {
        let ended = |slot: &Slot| match slot.kind {
            SlotKind::Awaiting { .. } => false,
            SlotKind::Fresh { build } => facts.get(&build).is_none_or(|f| f.phase.is_terminal()),
            _ => true,
        };
        let ready: Vec<ProjectBuildId> =
            self.open().filter(|b| b.slots.values().all(ended)).map(|b| b.id).collect();
        for id in ready {
            self.seal(id, facts, now);
        }
        self.relink(facts, now, &mut draw);
    }

    fn relink(&mut self, facts: &Facts, now: Timestamp, draw: &mut impl FnMut() -> ProjectBuildId) {
        let Some(standing) = self.standing() else { return };
        if self.project.current.as_ref().is_some_and(|c| c.builds == standing) {
            return;
        }
        let builds: BTreeSet<BuildId> = standing.values().copied().collect();
        let awaited = self
            .open()
            .flat_map(|b| b.slots.values())
            .any(|s| matches!(s.kind, SlotKind::Fresh { build } if builds.contains(&build)));
        if awaited {
            return;
        }
        let id = draw();
        let slots = self.bound_slots();
        self.add(id, slots, Vec::new(), None, None, now);
        self.seal(id, facts, now);
    }

    fn seal(&mut self, id: ProjectBuildId, facts: &Facts, now: Timestamp) {
        let standing = self.standing();
        let project = &mut self.project;
        let Some(sealed) = self.builds.get_mut(&id) else { return };
        let mut bad = false;
        let mut missing = false;
        for (dependency, slot) in &mut sealed.slots {
            if let SlotKind::Fresh { build } = slot.kind {
                bad |= facts.get(&build).is_none_or(|f| !f.good);
            } else if let Some(member) = project.members.get(dependency) {
                slot.kind = bound(member);
            }
            missing |= slot.build().is_none();
            if let Some(f) = slot.build().and_then(|b| facts.get(&b)) {
                slot.revision = Some(f.revision.clone());
                slot.artifacts.clone_from(&f.artifacts);
            }
        }
        let outcome = match (bad, missing) {
            (true, _) => ProjectOutcome::Failed,
            (false, true) => ProjectOutcome::Incomplete,
            (false, false) => ProjectOutcome::Succeeded,
        };
        project.seals += 1;
        project.open.retain(|open| *open != id);
        sealed.seal = Some(Seal { sequence: project.seals, at: now, outcome });
        let content: Option<BTreeMap<DependencyId, BuildId>> =
            sealed.slots.iter().map(|(d, s)| Some((*d, s.build()?))).collect();
        let current = outcome == ProjectOutcome::Succeeded && content.is_some() && content == standing;
        if let Some(builds) = content.filter(|_| current) {
            project.current = Some(CurrentBuild { id, builds });
        }
        let kind = EventKind::Sealed { project_build: id, outcome, current };
        self.events.push(Event::of_project(project.id, kind));
    }

    /// A slot for each dependency, bound to what stands for it now.
    fn bound_slots(&self) -> BTreeMap<DependencyId, Slot> {
        self.project.members.iter().map(|(id, member)| (*id, Slot::of(bound(member)))).collect()
    }

    fn add(
        &mut self,
        id: ProjectBuildId,
        slots: BTreeMap<DependencyId, Slot>,
        moves_pins: Vec<DependencyId>,
        requester: Option<Requester>,
        build_key: Option<BuildKey>,
        now: Timestamp,
    ) -> String {
        // A clock that was set back must not give a name twice.
        let today = now.date_naive();
        let (day, number) = match self.project.last_number {
            Some((last, number)) if last >= today => (last, number + 1),
            _ => (today, 1),
        };
        self.project.last_number = Some((day, number));
        let name = format!("{}.{number}", day.format("%Y%m%d"));
        let bound_at_request = slots
            .iter()
            .filter(|(_, s)| !matches!(s.kind, SlotKind::Fresh { .. }))
            .filter_map(|(d, s)| Some((*d, s.build()?)))
            .collect();
        self.project.open.push(id);
        self.builds.insert(
            id,
            ProjectBuild {
                id,
                project: self.project.id,
                name: name.clone(),
                slots,
                bound_at_request,
                moves_pins,
                build_key,
                requester,
                requested_at: now,
                seal: None,
            },
        );
        let kind = EventKind::ProjectBuildRequested { project_build: id };
        self.events.push(Event::of_project(self.project.id, kind));
        name
    }
}

/// What stands for a dependency in a project: the pin, or else the linked build, or nothing.
fn bound(member: &Member) -> SlotKind {
    match (member.pin, member.linked) {
        (Some(build), _) => SlotKind::Pinned { build },
        (None, Some(build)) => SlotKind::Carried { build },
        (None, None) => SlotKind::Missing { reason: MissingReason::NeverBuilt },
    }
}
