//! A small world that does with the link rules what a scheduler does, and checks the invariants after each commit.

use super::{Asked, BuildFacts, ProjectChange, ProjectView, SlotEnd, WholeRequest, needed_builds};
use crate::{
    Result,
    model::{
        Build, BuildId, DependencyId, MissingReason, Phase, Project, ProjectBuild, ProjectBuildId, ProjectId,
        ProjectOutcome, ReceiptId, SlotKind,
    },
    sample,
    time::Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const A: DependencyId = sample::dependency(1);
pub(super) const B: DependencyId = sample::dependency(2);
pub(super) const C: DependencyId = sample::dependency(3);
pub(super) const P: ProjectId = sample::project(1);
pub(super) const Q: ProjectId = sample::project(2);

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) projects: BTreeMap<ProjectId, Project>,
    pub(super) records: BTreeMap<ProjectBuildId, ProjectBuild>,
    pub(super) builds: BTreeMap<BuildId, Build>,
    pub(super) links: BTreeMap<DependencyId, BuildId>,
    pub(super) running: BTreeMap<DependencyId, BuildId>,
    /// The receipts that wait for their dependency to be free.
    pub(super) waiting: BTreeMap<DependencyId, Vec<ReceiptId>>,
    drawn: u128,
}

type Draw<'a> = &'a mut dyn FnMut() -> ProjectBuildId;

impl World {
    /// Projects with these members.
    pub(super) fn of(projects: &[(ProjectId, &[DependencyId])]) -> Self {
        let mut world = Self {
            now: sample::at(0),
            projects: BTreeMap::new(),
            records: BTreeMap::new(),
            builds: BTreeMap::new(),
            links: BTreeMap::new(),
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            drawn: 0,
        };
        for (id, members) in projects {
            world.projects.insert(*id, Project::new(*id, "p".parse().unwrap(), world.now));
            for member in *members {
                world.join(*id, *member);
            }
        }
        world
    }

    /// The same, with each member built once: builds 1, 2, … of A, B, ….
    pub(super) fn built(projects: &[(ProjectId, &[DependencyId])]) -> Self {
        let mut world = Self::of(projects);
        let members: BTreeSet<DependencyId> = projects.iter().flat_map(|(_, m)| m.iter().copied()).collect();
        for member in members {
            world.start(member);
            world.end(member, Phase::Succeeded);
        }
        world
    }

    pub(super) fn change<T>(
        &mut self,
        id: ProjectId,
        act: impl FnOnce(&mut ProjectView, Draw<'_>) -> T,
    ) -> (T, ProjectChange) {
        self.now = crate::time::later(self.now, std::time::Duration::from_secs(1));
        let before = self.projects[&id].clone();
        let open: Vec<ProjectBuild> = before.open.iter().map(|o| self.records[o].clone()).collect();
        let facts = needed_builds(&before, &open)
            .into_iter()
            .map(|b| (b, BuildFacts::of(&self.builds[&b])))
            .collect();
        let mut view = ProjectView::new(before.clone(), open, facts, self.now).unwrap();
        let mut drawn = self.drawn;
        let mut draw = || {
            drawn += 1;
            sample::project_build(drawn)
        };
        let out = act(&mut view, &mut draw);
        let change = view.finish(&mut draw);
        self.drawn = drawn;
        for record in &change.project_builds {
            let old = self.records.insert(record.id, record.clone());
            assert!(old.is_none_or(|o| o.seal.is_none()), "a sealed record was changed");
        }
        for (build, record) in &change.fresh {
            self.builds.get_mut(build).unwrap().project_builds.push((id, *record));
        }
        self.check(&before, &change.project);
        self.projects.insert(id, change.project.clone());
        (out, change)
    }

    fn each(
        &mut self,
        mut act: impl FnMut(&mut ProjectView, Draw<'_>),
    ) -> BTreeMap<ProjectId, ProjectChange> {
        let ids: Vec<ProjectId> = self.projects.keys().copied().collect();
        ids.into_iter().map(|id| (id, self.change(id, &mut act).1)).collect()
    }

    /// Starts a build of the dependency for everything that waits.
    pub(super) fn start(&mut self, dependency: DependencyId) -> BuildId {
        let mut build = sample::build(u128::try_from(self.builds.len() + 1).unwrap(), dependency);
        for receipt in self.waiting.remove(&dependency).unwrap_or_default() {
            build = sample::started_for(build, receipt);
        }
        let id = build.id;
        assert!(self.running.insert(dependency, id).is_none());
        self.builds.insert(id, build.clone());
        self.each(|v, d| v.request_for_build(&build, d));
        id
    }

    /// Ends the running build of the dependency.
    pub(super) fn end(
        &mut self,
        dependency: DependencyId,
        phase: Phase,
    ) -> BTreeMap<ProjectId, ProjectChange> {
        let id = self.running.remove(&dependency).unwrap();
        let build = sample::ended(self.builds[&id].clone(), phase);
        if build.good {
            self.links.insert(dependency, id);
        }
        self.builds.insert(id, build.clone());
        self.each(|v, _| v.build_ended(&build))
    }

    pub(super) fn reuse(&mut self, build: BuildId) {
        let build = self.builds[&build].clone();
        self.links.insert(build.dependency, build.id);
        self.each(|v, _| v.reused(&build).unwrap());
    }

    /// Asks for a whole build; the receipt of each chosen member is made from the number.
    pub(super) fn whole(
        &mut self,
        id: ProjectId,
        number: u128,
        chosen: &[DependencyId],
        move_pins: &[DependencyId],
    ) -> ProjectBuildId {
        let asked = chosen.iter().map(|d| (*d, receipt(*d, number)));
        let asked: BTreeMap<_, _> = asked.collect();
        for (dependency, receipt) in &asked {
            self.waiting.entry(*dependency).or_default().push(*receipt);
        }
        let request = WholeRequest {
            chosen: asked.into_iter().map(|(d, r)| (d, Asked::Receipt(r))).collect(),
            move_pins: move_pins.iter().copied().collect(),
            build_key: Some("key".parse().unwrap()),
            requester: Some("ann".parse().unwrap()),
        };
        self.change(id, |v, d| v.request_whole(request, d)).0.unwrap()
    }

    /// Ends a waiting request without a build.
    pub(super) fn drop_request(&mut self, dependency: DependencyId, receipt: ReceiptId, why: &str) {
        self.waiting.entry(dependency).or_default().retain(|r| *r != receipt);
        self.each(|v, _| v.slot_ended(receipt, SlotEnd::Otherwise(why)));
    }

    /// Joins what waits to the running build.
    pub(super) fn join_running(&mut self, dependency: DependencyId) {
        let build = self.builds[&self.running[&dependency]].clone();
        for receipt in self.waiting.remove(&dependency).unwrap_or_default() {
            self.each(|v, _| v.slot_ended(receipt, SlotEnd::Joined(&build)));
        }
    }

    pub(super) fn pin(
        &mut self,
        id: ProjectId,
        dependency: DependencyId,
        build: Option<BuildId>,
    ) -> Result<()> {
        let build = build.map(|b| self.builds[&b].clone());
        self.change(id, |v, _| v.set_pin(dependency, build.as_ref())).0
    }

    pub(super) fn join(&mut self, id: ProjectId, dependency: DependencyId) {
        let linked = self.links.get(&dependency).map(|b| self.builds[b].clone());
        self.change(id, |v, _| v.add_member(dependency, linked.as_ref())).0.unwrap();
    }

    pub(super) fn leave(&mut self, id: ProjectId, dependency: DependencyId) -> bool {
        self.change(id, |v, _| v.remove_member(dependency)).0
    }

    pub(super) fn current(&self, id: ProjectId) -> BTreeMap<DependencyId, BuildId> {
        self.projects[&id].current.as_ref().map(|c| c.builds.clone()).unwrap_or_default()
    }

    pub(super) fn slot(&self, id: ProjectBuildId, dependency: DependencyId) -> &SlotKind {
        &self.records[&id].slots[&dependency].kind
    }

    pub(super) fn outcome(&self, id: ProjectBuildId) -> Option<ProjectOutcome> {
        self.records[&id].seal.as_ref().map(|s| s.outcome)
    }

    /// The open project builds of a project.
    pub(super) fn open(&self, id: ProjectId) -> Vec<ProjectBuildId> {
        self.projects[&id].open.clone()
    }

    /// The project build that was sealed last.
    pub(super) fn latest(&self, id: ProjectId) -> &ProjectBuild {
        let sealed = self.records.values().filter(|r| r.project == id);
        sealed.max_by_key(|r| r.seal.as_ref().map(|s| s.sequence)).unwrap()
    }

    fn check(&self, before: &Project, after: &Project) {
        let links: Option<BTreeMap<DependencyId, BuildId>> =
            after.members.iter().map(|(d, m)| Some((*d, m.stands()?))).collect();
        let awaited = |links: &BTreeMap<DependencyId, BuildId>| {
            after.open.iter().any(|o| {
                self.records[o]
                    .slots
                    .iter()
                    .any(|(d, s)| matches!(s.kind, SlotKind::Fresh { build } if links.get(d) == Some(&build)))
            })
        };
        if let Some(links) = links.filter(|l| !l.is_empty()) {
            let current = after.current.as_ref().map(|c| &c.builds);
            assert!(
                current == Some(&links) || awaited(&links),
                "current {current:?} is not {links:?}: {after:?}"
            );
        }
        let mut sequences = BTreeSet::new();
        for record in self.records.values().filter(|r| r.project == after.id) {
            assert_eq!(record.seal.is_none(), after.open.contains(&record.id), "{record:?}");
            let Some(seal) = &record.seal else {
                let waits = record.slots.values().any(|s| match &s.kind {
                    SlotKind::Awaiting { .. } => true,
                    SlotKind::Fresh { build } => !self.builds[build].phase.is_terminal(),
                    _ => false,
                });
                assert!(waits, "an open project build waits for nothing: {record:?}");
                continue;
            };
            assert!(sequences.insert(seal.sequence) && seal.sequence <= after.seals, "{record:?}");
            for slot in record.slots.values() {
                let build = slot.build().map(|b| &self.builds[&b]);
                assert_eq!(slot.revision.as_ref(), build.map(Build::stands_for), "{record:?}");
                if seal.outcome == ProjectOutcome::Succeeded {
                    assert!(build.is_some_and(|b| b.good), "{record:?}");
                }
            }
        }
        assert!(after.seals >= before.seals);
        let sequence =
            |p: &Project| p.current.as_ref().map(|c| self.records[&c.id].seal.clone().unwrap().sequence);
        assert!(sequence(after) >= sequence(before), "current went back");
        let names: Vec<_> =
            self.records.values().filter(|r| r.project == after.id).map(|r| &r.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    }
}

/// The receipt that [`World::whole`] makes.
pub(super) fn receipt(dependency: DependencyId, number: u128) -> ReceiptId {
    sample::receipt(dependency.as_uuid().as_u128() * 1_000 + number)
}

pub(super) const fn fresh(build: BuildId) -> SlotKind {
    SlotKind::Fresh { build }
}
pub(super) const fn carried(build: BuildId) -> SlotKind {
    SlotKind::Carried { build }
}
pub(super) const fn pinned(build: BuildId) -> SlotKind {
    SlotKind::Pinned { build }
}
pub(super) const fn missing(reason: MissingReason) -> SlotKind {
    SlotKind::Missing { reason }
}
