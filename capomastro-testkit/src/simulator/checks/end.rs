//! The end of a history: faults have stopped, deadlines have passed, and nothing may be left over.

use super::Checker;
use capomastro_core::{
    model::{DependencyId, Health, Revision, Settled},
    store::{Key, Record, Task},
    time::Timestamp,
};

impl Checker {
    pub(super) fn living(&self) -> impl Iterator<Item = DependencyId> {
        self.records.values().filter_map(|r| match r {
            Record::Dependency(d) if d.deleted_at.is_none() => Some(d.id),
            _ => None,
        })
    }

    /// What is still to come, or `None` if all has ended. `at` says where a dependency's source is.
    pub(in crate::simulator) fn unfinished(
        &self,
        now: Timestamp,
        at: impl Fn(&str) -> Option<Revision>,
    ) -> Option<String> {
        let since = self.healing_since?;
        if let Some((build, _)) = self.open.iter().next() {
            return Some(format!("build {build} has not ended: {:?}", self.build(*build)));
        }
        for record in self.records.values() {
            match record {
                Record::Project(p) if p.deleted_at.is_none() && !p.open.is_empty() => {
                    let waits_for_paused = p.open.iter().all(|open| self.waits_for_paused(*open));
                    if !waits_for_paused {
                        return Some(format!("project {} has open builds {:?}", p.name, p.open));
                    }
                }
                Record::Orphan(o) if o.verdict.is_none() => return Some(format!("{o:?} is not judged")),
                Record::Limit(l) if !l.active.is_empty() || !l.waiting.is_empty() => {
                    return Some(format!("{l:?} counts what has ended"));
                }
                Record::Receipt(r) if !r.is_settled() => {
                    let paused = self.state(r.dependency).is_some_and(|s| s.paused.is_some());
                    if !paused {
                        return Some(format!("{r:?} is not settled"));
                    }
                }
                _ => {}
            }
        }
        for id in self.living() {
            let (Some(state), Some(dependency)) = (self.state(id), self.dependency(id)) else { continue };
            let name = dependency.name.as_str();
            if self.probed.get(name).is_none_or(|p| *p <= since) {
                return Some(format!("{name} was not looked at since faults have stopped"));
            }
            if state.paused.is_some() {
                continue;
            }
            let source = at(name);
            match (&state.health, &source) {
                (Health::Healthy, Some(revision)) if state.observed_revision() == Some(revision) => {}
                (Health::Missing { .. }, None) => {}
                _ => {
                    return Some(format!(
                        "{name} is {:?} at {:?}, and its source at {source:?}",
                        state.health,
                        state.observed_revision()
                    ));
                }
            }
            if !state.waiting.is_empty() || !state.stored.is_empty() {
                return Some(format!("{name} has requests: {:?} {:?}", state.waiting, state.stored));
            }
            if state.retry.as_ref().is_some_and(|r| r.not_before.is_some()) {
                return Some(format!("{name} owes a retry: {:?}", state.retry));
            }
            let vetoed = state.last_decision.as_ref().is_some_and(|l| l.decision == "Vetoed");
            if source.is_some() && state.in_debt() && !vetoed {
                return Some(format!(
                    "{name} is in debt: {:?} {:?}",
                    state.observed_revision(),
                    state.last_decision
                ));
            }
        }
        let stays = |t: &Task| matches!(t, Task::Look(_) | Task::Sweep | Task::Trim(_));
        let left = self.rows.tasks().find(|t| !stays(t));
        if let Some(task) = left {
            return Some(format!("{task} is still to be done"));
        }
        self.rows.busy(now).map(|t| format!("{t} is due or held"))
    }

    fn waits_for_paused(&self, open: capomastro_core::model::ProjectBuildId) -> bool {
        match self.records.get(&Key::ProjectBuild(open)) {
            Some(Record::ProjectBuild(b)) => {
                b.slots.keys().any(|d| self.state(*d).is_some_and(|s| s.paused.is_some()))
            }
            _ => true,
        }
    }

    /// What must be true when nothing is left to be done.
    pub(in crate::simulator) fn check_end(&mut self) {
        let ids: Vec<DependencyId> = self.living().collect();
        for id in ids {
            let Some(state) = self.state(id) else { continue };
            if state.paused.is_some() || state.in_debt() {
                continue;
            }
            // What is accounted for by a build that ended good is linked, unless a person's word stands.
            if let Some(accounted) = &state.accounted
                && let Settled::Built(build) = accounted.by
                && state.held_at.is_none()
                && let Some(good) = self.build(build).filter(|b| b.good)
            {
                let linked = state.linked.as_ref().map(|l| l.build);
                let newest = linked.and_then(|l| self.build(l)).is_some_and(|l| l.number >= good.number);
                self.check(newest, "I7", || {
                    format!("build {build} is good and stands, and {linked:?} is linked for {id}")
                });
            }
        }
    }

    /// All that was written, for comparing with what the store has.
    pub(in crate::simulator) fn records(&self) -> impl Iterator<Item = (&Key, &Record)> {
        self.records.iter()
    }

    pub(in crate::simulator) fn summary(&self) -> String {
        let builds: Vec<String> = self
            .records
            .values()
            .filter_map(|r| match r {
                Record::Build(b) => Some(format!("{} {}", b.revision, b.phase)),
                _ => None,
            })
            .collect();
        format!("{} records, builds {builds:?}", self.records.len())
    }
}
