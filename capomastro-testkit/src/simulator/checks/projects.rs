//! Projects: what is sealed is good, and what is current is what stands.

use super::{Checker, Seen};
use capomastro_core::{
    events::EventKind,
    model::{BuildId, DependencyId, ProjectBuild, ProjectBuildId, ProjectId, ProjectOutcome, SlotKind},
    store::{Batch, Key, Record},
};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

impl Checker {
    pub(super) fn check_projects(&mut self, batch: &Batch) {
        let mut touched: BTreeSet<ProjectId> = BTreeSet::new();
        for put in &batch.puts {
            match &put.record {
                Record::Project(p) => {
                    touched.insert(p.id);
                }
                Record::ProjectBuild(p) => {
                    touched.insert(p.project);
                    let key = (p.project, p.id);
                    match p.seal {
                        Some(_) => self.unsealed.remove(&key),
                        None => self.unsealed.insert(key),
                    };
                    self.check_seal(p);
                    self.check_slots(p);
                }
                Record::State(s) => touched.extend(&s.projects),
                _ => {}
            }
        }
        for id in touched {
            self.check_open(id);
            self.check_current(id);
        }
    }

    /// What a project calls open is what is not sealed.
    fn check_open(&mut self, id: ProjectId) {
        let Some(Record::Project(project)) = self.records.get(&Key::Project(id)) else { return };
        let nil = ProjectBuildId::from_uuid(Uuid::nil());
        let unsealed = self.unsealed.range((id, nil)..).take_while(|(p, _)| *p == id).map(|(_, b)| *b);
        let (unsealed, open): (BTreeSet<_>, BTreeSet<_>) =
            (unsealed.collect(), project.open.iter().copied().collect());
        if unsealed != open || open.len() != project.open.len() {
            let name = project.name.clone();
            self.fail("I5", || format!("project {name} has {open:?} open, and {unsealed:?} are not sealed"));
        }
    }

    /// A pin is set, moved and removed where that is told, and nowhere else.
    pub(super) fn check_pins(&mut self, seen: &Seen<'_>) {
        for change in seen.changes() {
            let Record::Project(new) = change.after else { continue };
            let old = match change.before {
                Some(Record::Project(old)) => Some(old),
                _ => None,
            };
            for (dependency, member) in &new.members {
                let before = old.and_then(|o| o.members.get(dependency)).and_then(|m| m.pin);
                let told = seen.batch.events.iter().rev().find_map(|e| match &e.kind {
                    EventKind::Pinned { dependency: d, build }
                        if e.project == Some(new.id) && d == dependency =>
                    {
                        Some(*build)
                    }
                    _ => None,
                });
                let fits = member.pin == told.unwrap_or(before);
                self.check(fits, "I5", || {
                    format!(
                        "project {} is to hold {dependency} at {:?}, and {:?} is written",
                        new.name,
                        told.unwrap_or(before),
                        member.pin
                    )
                });
                self.pins.insert((new.id, *dependency, member.pin));
            }
        }
    }

    /// Somebody was told that a pin is set: that it was is seen, whatever came after it.
    pub(in crate::simulator) fn pinned(
        &mut self,
        project: &str,
        dependency: DependencyId,
        build: Option<BuildId>,
    ) {
        let is_set = self.records.values().any(|record| match record {
            Record::Project(p) => {
                p.name.as_str() == project && self.pins.contains(&(p.id, dependency, build))
            }
            _ => false,
        });
        self.check(is_set, "I5", || {
            format!("a pin of {dependency} in {project} at {build:?} was never written")
        });
    }

    fn check_seal(&mut self, build: &ProjectBuild) {
        let Some(seal) = &build.seal else { return };
        let good = |b: BuildId| self.build(b).is_some_and(|b| b.good);
        let is_good = build.slots.values().all(|s| s.build().is_some_and(good));
        if seal.outcome == ProjectOutcome::Succeeded {
            self.check(is_good, "I5", || {
                format!("project build {} succeeded with a build that is not good", build.name)
            });
        }
        let waits = build.slots.values().any(|s| match s.kind {
            SlotKind::Awaiting { .. } => true,
            SlotKind::Fresh { build } => self.build(build).is_none_or(|b| !b.phase.is_terminal()),
            _ => false,
        });
        self.check(!waits, "I5", || format!("project build {} was sealed while it waits", build.name));
    }

    fn check_current(&mut self, id: ProjectId) {
        let Some(Record::Project(project)) = self.records.get(&Key::Project(id)) else { return };
        if project.deleted_at.is_some() {
            return;
        }
        let mut problem = None;
        for (dependency, member) in &project.members {
            let linked = self.state(*dependency).and_then(|s| s.linked.as_ref()).map(|l| l.build);
            if linked != member.linked {
                problem = Some(format!(
                    "project {} has {:?} linked for {dependency}, and {linked:?} is",
                    project.name, member.linked
                ));
            }
            if !self.state(*dependency).is_some_and(|s| s.projects.contains(&id)) {
                problem = Some(format!("{dependency} is in project {} and does not know it", project.name));
            }
        }
        let stands: Option<BTreeMap<DependencyId, BuildId>> =
            project.members.iter().map(|(d, m)| Some((*d, m.stands()?))).collect();
        if let Some(stands) = stands.filter(|s| !s.is_empty()) {
            let is_current = project.current.as_ref().is_some_and(|c| c.builds == stands);
            let awaited = project.open.iter().any(|open| match self.records.get(&Key::ProjectBuild(*open)) {
                Some(Record::ProjectBuild(open)) => open.slots.iter().any(
                    |(d, s)| matches!(s.kind, SlotKind::Fresh { build } if stands.get(d) == Some(&build)),
                ),
                _ => false,
            });
            if !is_current && !awaited {
                problem = Some(format!(
                    "{stands:?} stand for project {}, and {:?} is current",
                    project.name, project.current
                ));
            }
        }
        if let Some(problem) = problem {
            self.fail("I5", || problem);
        }
    }
}
