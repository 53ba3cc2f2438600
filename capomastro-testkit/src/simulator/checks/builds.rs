//! Builds: one at a time, never back, never twice.

use super::{Checker, Seen};
use crate::simulator::Counters;
use capomastro_core::{
    events::EventKind,
    model::{Build, DependencyId, Phase},
    store::{Key, Record},
};

impl Checker {
    pub(super) fn check_builds(&mut self, seen: &Seen<'_>, counters: &mut Counters) {
        for change in seen.changes() {
            match (change.before, change.after) {
                (None, Record::Build(new)) => {
                    counters.builds += 1;
                    self.new_build(seen, new);
                }
                (Some(Record::Build(old)), Record::Build(new)) => {
                    self.build_goes_on(seen, old, new, counters)
                }
                (Some(Record::Project(old)), Record::Project(new)) => {
                    let grows = new.seals >= old.seals && new.last_number >= old.last_number;
                    self.check(grows, "I9", || format!("the seals of project {} go back", new.name));
                }
                (Some(Record::ProjectBuild(old)), Record::ProjectBuild(new)) => {
                    let stays = old.seal.is_none() || (old.seal == new.seal && old.slots == new.slots);
                    self.check(stays, "I5", || format!("project build {} changed after its seal", new.name));
                }
                _ => {}
            }
        }
        for (key, _) in &seen.batch.deletes {
            if let Some(Record::Build(b)) = seen.before(key) {
                self.check(b.phase.is_terminal(), "I1", || {
                    format!("the unfinished build {} was deleted", b.id)
                });
            }
        }
    }

    fn new_build(&mut self, seen: &Seen<'_>, new: &Build) {
        let state = seen.state_before(new.dependency);
        let number = state.map_or(1, |s| s.builds + 1);
        self.check(new.number == number, "I9", || {
            format!("build {} has number {}, not {number}", new.id, new.number)
        });
        // By what was seen, not by what is stored: a state that forgets its fence must not hide it.
        let highest = self.fences.get(&new.dependency).copied().unwrap_or_default();
        self.check(new.fence > highest, "I9", || {
            format!("build {} has fence {}, and there was {highest} before", new.id, new.fence)
        });
        self.fences.insert(new.dependency, new.fence.max(highest));
        let known = self.keys.insert(new.key, new.id).is_some();
        self.check(!known, "I2", || format!("the launch key of build {} was drawn before", new.id));
        let is_new = matches!(new.phase, Phase::Requested | Phase::Launching);
        self.check(is_new, "I6", || format!("build {} begins as {}", new.id, new.phase));
        let events = &seen.batch.events;
        let told = events
            .iter()
            .position(|e| matches!(&e.kind, EventKind::BuildStarted { build, .. } if *build == new.id));
        let decided = events.iter().position(|e| {
            matches!(&e.kind, EventKind::Decided { decision, build, .. } if decision == "Build" && *build == Some(new.id))
        });
        self.check(decided.is_some() && decided < told, "I11", || {
            format!("build {} starts without a record of the decision before it", new.id)
        });
        let is_paused = seen.state_after(new.dependency).is_some_and(|s| s.paused.is_some());
        self.check(!is_paused, "I3", || format!("build {} starts, and its dependency is paused", new.id));
        self.open.insert(new.id, new.dependency);
    }

    fn build_goes_on(&mut self, seen: &Seen<'_>, old: &Build, new: &Build, counters: &mut Counters) {
        let id = new.id;
        if old.phase.is_terminal() {
            let same = old.phase == new.phase
                && old.built == new.built
                && old.artifacts == new.artifacts
                && old.ended_at == new.ended_at
                && old.good == new.good
                && old.message == new.message;
            self.check(same, "I6", || {
                format!("build {id} had ended as {} and changed to {}", old.phase, new.phase)
            });
            return;
        }
        self.check(new.phase.rank() >= old.phase.rank(), "I6", || {
            format!("build {id} went back from {} to {}", old.phase, new.phase)
        });
        self.check(new.sends >= old.sends || new.phase == Phase::Launching, "I9", || {
            format!("build {id} forgets that it was sent")
        });
        let fixed = old.revision == new.revision
            && old.key == new.key
            && old.fence == new.fence
            && old.number == new.number;
        self.check(fixed, "I6", || format!("build {id} became another one"));
        let told = seen.batch.events.iter().any(|e| {
            matches!(&e.kind, EventKind::BuildEnded { build, phase, good } if *build == id && *phase == new.phase && *good == new.good)
        });
        self.check(told == new.phase.is_terminal(), "I11", || {
            format!("the end of build {id} is not told as it is")
        });
        if new.phase.is_terminal() {
            counters.ended += 1;
            self.open.remove(&id);
        }
    }

    /// At most one unfinished build, and it holds the lock.
    pub(super) fn check_lock(&mut self, id: DependencyId) {
        let open: Vec<_> = self.open.iter().filter(|(_, d)| **d == id).map(|(b, _)| *b).collect();
        let held = self.state(id).and_then(|s| s.held.as_ref()).map(|h| h.owner);
        let fence = self.state(id).map(|s| s.fence);
        let highest = self.fences.get(&id).copied().unwrap_or_default();
        self.check(fence.is_none_or(|fence| fence >= highest), "I9", || {
            format!("a build of {id} was given fence {highest}, and {fence:?} is kept as the highest")
        });
        let other = self.state(id).and_then(|s| s.held.as_ref()).filter(|h| {
            self.build(h.owner).is_some_and(|b| (b.fence, &b.revision) != (h.fence, &h.revision))
        });
        if let Some(other) = other.cloned() {
            self.fail("I1", || format!("{id} is held by {other:?}, and that build is another"));
        }
        self.check(open.len() <= 1, "I1", || format!("{id} has unfinished builds {open:?}"));
        self.check(held == open.first().copied(), "I1", || {
            format!("{id} is held by {held:?}, and {open:?} is under way")
        });
        if let Some(build) = held {
            self.check(self.records.contains_key(&Key::Build(build)), "I1", || {
                format!("{build} holds {id} and is not written")
            });
        }
    }
}
