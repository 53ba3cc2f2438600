//! Sealing and relinking: how a project build ends and becomes current.

use super::ProjectView;
use crate::{
    events::EventKind,
    model::{
        BuildId, CurrentBuild, DependencyId, ProjectBuild, ProjectBuildId, ProjectOutcome, Seal, Slot,
        SlotKind,
    },
};
use std::collections::BTreeMap;

impl ProjectView {
    /// Seals each open project build in which no slot awaits a build and every fresh one has ended, in the order in which
    /// they were requested.
    pub(super) fn seal_all(&mut self) {
        for id in self.project.open.clone() {
            let Some(mut build) = self.builds.remove(&id) else { continue };
            self.fill_ended(&mut build);
            // It is back before it is sealed, for sealing looks at all that is open.
            let is_ready = self.is_ready(&build);
            self.builds.insert(id, build);
            if is_ready {
                self.seal(id);
            }
        }
    }

    /// Relinks: where something stands for every member, the current project build is not exactly that, and no open one
    /// waits with one of those builds fresh, a project build of them is made, sealed and becomes current.
    pub(super) fn relink(&mut self, draw: &mut dyn FnMut() -> ProjectBuildId) {
        let Some(links) = self.links().filter(|_| self.project.deleted_at.is_none()) else { return };
        let is_current = self.project.current.as_ref().is_some_and(|c| c.builds == links);
        let is_awaited = self.open().any(|b| {
            b.slots
                .iter()
                .any(|(d, s)| matches!(s.kind, SlotKind::Fresh { build } if links.get(d) == Some(&build)))
        });
        if !is_current && !is_awaited {
            let id = self.open_build(BTreeMap::new(), draw);
            self.seal(id);
        }
    }

    fn is_ready(&self, build: &ProjectBuild) -> bool {
        build.slots.values().all(|s| match s.kind {
            SlotKind::Awaiting { .. } => false,
            SlotKind::Fresh { build } => self.has_ended(build),
            SlotKind::Carried { .. } | SlotKind::Pinned { .. } | SlotKind::Missing { .. } => true,
        })
    }

    fn fill_ended(&self, build: &mut ProjectBuild) {
        for slot in build.slots.values_mut() {
            if let SlotKind::Fresh { .. } = slot.kind {
                *slot = self.filled(slot.kind.clone(), slot.note.take());
            }
        }
    }

    fn seal(&mut self, id: ProjectBuildId) {
        self.project.open.retain(|open| *open != id);
        let Some(mut build) = self.builds.remove(&id) else { return };
        self.bind_again(&mut build);
        let outcome = self.outcome(&build);
        self.project.seals = self.project.seals.saturating_add(1);
        build.seal = Some(Seal { sequence: self.project.seals, at: self.now, outcome });
        let builds: Option<BTreeMap<DependencyId, BuildId>> =
            build.slots.iter().map(|(d, s)| Some((*d, s.build()?))).collect();
        let becomes =
            builds.filter(|b| outcome == ProjectOutcome::Succeeded && self.links().as_ref() == Some(b));
        let is_current = becomes.is_some();
        if let Some(builds) = becomes {
            self.project.current = Some(CurrentBuild { id, builds });
        }
        self.builds.insert(id, build);
        self.tell(EventKind::Sealed { project_build: id, outcome, current: is_current });
    }

    /// Binds carried and missing slots to the linked builds of now. What has left the project stays as it was.
    fn bind_again(&self, build: &mut ProjectBuild) {
        for (dependency, slot) in &mut build.slots {
            let rebinds = matches!(slot.kind, SlotKind::Carried { .. } | SlotKind::Missing { .. });
            let Some(member) = self.project.members.get(dependency).filter(|_| rebinds) else { continue };
            let kind = match member.linked {
                Some(build) => SlotKind::Carried { build },
                None => self.nothing(*dependency),
            };
            *slot = self.filled(kind, slot.note.take());
        }
    }

    fn outcome(&self, build: &ProjectBuild) -> ProjectOutcome {
        let is_bad = |s: &Slot| match s.kind {
            SlotKind::Fresh { build } => !self.facts.get(&build).is_some_and(|f| f.good),
            _ => false,
        };
        if build.slots.values().any(is_bad) {
            ProjectOutcome::Failed
        } else if build.slots.values().any(|s| s.build().is_none()) {
            ProjectOutcome::Incomplete
        } else {
            ProjectOutcome::Succeeded
        }
    }
}
