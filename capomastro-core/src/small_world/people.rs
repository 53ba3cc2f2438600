//! What people do besides asking for builds.

use super::World;
use crate::{
    decide::{Occasion, delete_dependency, edit_source},
    link::{SlotEnd, end_note},
    model::{BuildId, Cause, EndReason, Paused, ReceiptState},
};

impl World {
    pub(super) fn pause(&mut self, d: usize) -> bool {
        let (at, state) = (self.now, &mut self.dependencies[d].state);
        let can = state.paused.is_none() && !state.deleted;
        if can {
            state.paused = Some(Paused { by: "ann".parse().unwrap(), reason: String::new(), at });
        }
        can
    }

    pub(super) fn resume(&mut self, d: usize) -> bool {
        if self.dependencies[d].state.paused.take().is_none() || self.dependencies[d].state.deleted {
            return false;
        }
        self.evaluate(d, &Occasion::Released);
        let dependency = &mut self.dependencies[d];
        if dependency.state.retry.is_some() && dependency.state.held.is_none() {
            dependency.evaluate_at = Some(self.now);
        }
        true
    }

    pub(super) fn edit(&mut self, d: usize) -> bool {
        let dependency = &mut self.dependencies[d];
        if dependency.state.deleted {
            return false;
        }
        dependency.seen.clear();
        let ended = edit_source(&mut dependency.state);
        self.end_causes(ended);
        true
    }

    pub(super) fn change_job(&mut self, d: usize) -> bool {
        let (now, dependency) = (self.now, &mut self.dependencies[d]);
        let Some(retry) = dependency.state.retry.as_mut() else { return false };
        retry.not_before = Some(now);
        dependency.evaluate_at = Some(now);
        true
    }

    pub(super) fn delete(&mut self, d: usize) -> bool {
        if self.dependencies[d].state.deleted {
            return false;
        }
        let ended = delete_dependency(&mut self.dependencies[d].state);
        self.end_causes(ended);
        for p in 0..self.projects.len() {
            self.leave(p, d);
        }
        self.dependencies[d].evaluate_at = None;
        true
    }

    fn end_causes(&mut self, ended: Vec<(Cause, EndReason)>) {
        for (cause, reason) in ended {
            let Some(receipt) = cause.receipt else { continue };
            assert!(self.receipts.remove(&receipt).is_some(), "it was not settled before");
            let Some((project, _)) = cause.project_build else { continue };
            let p = self.place_of(project);
            let mut view = self.view(p);
            if let Some(note) = end_note(&ReceiptState::Ended { reason }) {
                view.slot_ended(receipt, SlotEnd::Otherwise(&note));
            }
            self.put_view(view);
        }
    }

    /// Holds a project at the build that is linked, or at the oldest good one that is known.
    pub(super) fn pin(&mut self, p: usize, d: usize, oldest: bool) -> bool {
        let state = &self.dependencies[d].state;
        let good = self.builds.values().find(|b| b.good && b.dependency == state.id).map(|b| b.id);
        let linked = state.linked.as_ref().map(|l| l.build);
        let Some(build) = (if oldest { good } else { linked }) else { return false };
        self.set_pin(p, d, Some(build))
    }

    pub(super) fn unpin(&mut self, p: usize, d: usize) -> bool {
        self.set_pin(p, d, None)
    }

    fn set_pin(&mut self, p: usize, d: usize, build: Option<BuildId>) -> bool {
        let id = self.dependencies[d].state.id;
        let Some(member) = self.projects[p].members.get(&id) else { return false };
        if member.pin == build {
            return false;
        }
        let mut view = self.view(p);
        view.set_pin(id, build.map(|b| &self.builds[&b])).unwrap();
        self.put_view(view);
        true
    }

    pub(super) fn join(&mut self, p: usize, d: usize) -> bool {
        let state = &self.dependencies[d].state;
        if state.deleted || state.projects.contains(&self.projects[p].id) {
            return false;
        }
        let (id, linked) = (state.id, state.linked.as_ref().map(|l| self.builds[&l.build].clone()));
        let mut view = self.view(p);
        view.add_member(id, linked.as_ref()).unwrap();
        self.put_view(view);
        let project = self.projects[p].id;
        let state = &mut self.dependencies[d].state;
        state.projects.insert(project);
        state.past_projects.remove(&project);
        true
    }

    pub(super) fn leave(&mut self, p: usize, d: usize) -> bool {
        let project = self.projects[p].id;
        let state = &mut self.dependencies[d].state;
        if !state.projects.remove(&project) {
            return false;
        }
        state.past_projects.insert(project);
        let id = state.id;
        let mut view = self.view(p);
        assert!(view.remove_member(id));
        self.put_view(view);
        true
    }
}
