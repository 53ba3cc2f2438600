//! Projects: what is sealed is good, and what is current is what stands.

use super::Checker;
use capomastro_core::{
    model::{BuildId, DependencyId, ProjectBuild, ProjectId, ProjectOutcome, SlotKind},
    store::{Batch, Key, Record},
};
use std::collections::{BTreeMap, BTreeSet};

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
                    self.check_seal(p);
                }
                Record::State(s) => touched.extend(&s.projects),
                _ => {}
            }
        }
        for id in touched {
            self.check_current(id);
        }
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
