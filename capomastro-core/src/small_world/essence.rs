//! What of a world can matter for what happens next, so that a walk goes on from each such state once.
//!
//! Ids are named in the order of their first mention, times are told by their distance from now, and numbers that only
//! grow are left out. Each record is taken apart field by field, so that a new field must be thought about.

use super::{Dependency, External, World};
use crate::{
    detect::Look,
    model::{
        Build, Cause, DependencyState, Health, Note, Project, ProjectBuild, Request, SlotKind, StoredTrigger,
    },
    time::{Timestamp, until},
};
use std::{
    fmt::{Debug, Write as _},
    hash::{DefaultHasher, Hash, Hasher as _},
};
use uuid::Uuid;

/// Beyond this nothing changes any more by mere waiting.
const LONG: u64 = 1_000;

struct Essence {
    hasher: DefaultHasher,
    names: Vec<Uuid>,
    text: String,
    now: Timestamp,
}

impl Essence {
    fn put(&mut self, value: impl Hash) {
        value.hash(&mut self.hasher);
    }

    /// For small values without ids and times.
    fn show(&mut self, value: &impl Debug) {
        self.text.clear();
        write!(self.text, "{value:?}").unwrap();
        self.text.hash(&mut self.hasher);
    }

    fn name(&mut self, id: Uuid) {
        let place = self.names.iter().position(|n| *n == id).unwrap_or_else(|| {
            self.names.push(id);
            self.names.len() - 1
        });
        self.put(place);
    }

    fn maybe(&mut self, id: Option<Uuid>) {
        self.put(id.is_some());
        if let Some(id) = id {
            self.name(id);
        }
    }

    fn time(&mut self, at: Option<Timestamp>) {
        let now = self.now;
        let distance = |at| (until(at, now).as_secs().min(LONG), until(now, at).as_secs().min(LONG));
        self.put(at.map(distance));
    }

    fn cause(&mut self, cause: &Cause) {
        let Cause { trigger, requester: _, receipt, project_build } = cause;
        self.put(trigger);
        self.maybe(receipt.map(|r| r.as_uuid()));
        self.maybe(project_build.map(|(_, b)| b.as_uuid()));
    }

    fn request(&mut self, request: &Request) {
        let Request { causes, forced, revision, relation, parameters, build_key: _, on_held: _, since: _ } =
            request;
        causes.iter().for_each(|c| self.cause(c));
        self.put((forced, revision.as_ref().map(|r| r.as_str()), parameters.len()));
        self.show(relation);
    }

    fn stored(&mut self, stored: &StoredTrigger) {
        let StoredTrigger { cause, receipt: _, parameters, build_key: _, on_held, since: _ } = stored;
        self.cause(cause);
        self.put(parameters.len());
        self.show(on_held);
    }

    fn state(&mut self, state: &DependencyState) {
        let DependencyState {
            id: _,
            epoch: _,
            applied_ticket: _,
            observed,
            accounted,
            debt_since,
            not_found,
            health,
            vetoed,
            discarded,
            held,
            fence: _,
            builds: _,
            waiting,
            stored,
            retry,
            held_at,
            linked,
            last_ended: _,
            last_start: _,
            paused,
            regardless_due: _,
            projects,
            past_projects: _,
            last_decision,
            deleted,
        } = state;
        self.put(observed.is_some());
        if let Some(observed) = observed {
            self.put(observed.revision.as_str());
            self.show(&observed.relation);
            self.time(Some(observed.moved_at));
        }
        self.put(accounted.as_ref().map(|a| a.revision.as_str()));
        self.time(*debt_since);
        self.put((not_found, paused.is_some(), deleted, projects.len()));
        self.put(matches!(health, Health::Failing { .. }));
        self.show(&(vetoed, last_decision));
        self.put(discarded.is_some());
        if let Some((by, revision)) = discarded {
            self.maybe(by.map(|b| b.as_uuid()));
            self.put(revision.as_str());
        }
        self.put(held.is_some());
        if let Some(held) = held {
            self.name(held.owner.as_uuid());
            self.put((
                held.revision.as_str(),
                held.stopping,
                held.epoch == state.epoch,
                held.parameters.len(),
            ));
        }
        waiting.iter().for_each(|r| self.request(r));
        self.put(stored.len());
        stored.iter().for_each(|s| self.stored(s));
        self.put(retry.is_some());
        if let Some(retry) = retry {
            self.put((retry.revision.as_str(), retry.attempt, retry.refusals.min(3), retry.parameters.len()));
            self.time(retry.not_before);
        }
        self.put(held_at.as_ref().map(|h| h.revision.as_str()));
        self.maybe(linked.as_ref().map(|l| l.build.as_uuid()));
    }

    fn dependency(&mut self, dependency: &Dependency) {
        let Dependency { state, policy, look, note, regardless, evaluate_at, seen: _ } = dependency;
        self.state(state);
        self.show(&policy.on_held);
        self.put((regardless, look.is_some()));
        self.time(*evaluate_at);
        if let Some(Look { ticket, epoch, accounted, satisfies }) = look {
            self.put((*ticket > state.applied_ticket, *epoch == state.epoch));
            self.put(accounted.as_ref().map(|r| r.as_str()));
            satisfies.iter().for_each(|r| self.name(r.as_uuid()));
        }
        let Note { last_run, counts: _, running_at, unknown_since, refused, stalls, waits_for: _ } = note;
        self.time(*last_run);
        self.time(*running_at);
        self.time(*unknown_since);
        self.put((refused.is_some(), stalls.min(&3)));
    }

    /// What is drawn, counted, shown to people or fixed at the start is left out.
    fn build(&mut self, build: &Build, epoch: u32) {
        self.name(build.id.as_uuid());
        self.put((
            build.revision.as_str(),
            build.phase,
            build.good,
            build.epoch == epoch,
            build.parameters.len(),
        ));
        self.put((build.sends.min(3), build.attempt, build.refusals.min(3), build.person_pinned));
        self.put(build.external.is_some());
        if build.phase.is_terminal() {
            return;
        }
        build.causes.iter().for_each(|c| self.cause(c));
        for (_, fresh_in) in &build.project_builds {
            self.name(fresh_in.as_uuid());
        }
        self.put(build.stop.as_ref().map(|s| matches!(s.reason, crate::model::StopReason::Cancel { .. })));
        self.time(build.stop.as_ref().map(|s| s.asked_at));
        for at in [Some(build.requested_at), build.launching_at, build.submitted_at, build.running_at] {
            self.time(at);
        }
    }

    fn project(&mut self, project: &Project) {
        for (dependency, member) in &project.members {
            self.put(dependency);
            self.maybe(member.linked.map(|b| b.as_uuid()));
            self.maybe(member.pin.map(|b| b.as_uuid()));
        }
        self.put(project.current.is_some());
        for (dependency, build) in project.current.iter().flat_map(|c| &c.builds) {
            self.put(dependency);
            self.name(build.as_uuid());
        }
    }

    fn open(&mut self, record: &ProjectBuild) {
        self.name(record.id.as_uuid());
        self.put(&record.moves_pins);
        for (dependency, slot) in &record.slots {
            self.put((dependency, std::mem::discriminant(&slot.kind)));
            self.maybe(slot.build().map(|b| b.as_uuid()));
            match &slot.kind {
                SlotKind::Awaiting { receipt } => self.name(receipt.as_uuid()),
                SlotKind::Missing { reason } => self.show(reason),
                _ => {}
            }
        }
    }
}

impl World {
    pub(super) fn essence(&self) -> u64 {
        let mut e =
            Essence { hasher: DefaultHasher::new(), names: Vec::new(), text: String::new(), now: self.now };
        for dependency in &self.dependencies {
            e.dependency(dependency);
        }
        for project in &self.projects {
            e.project(project);
            for id in &project.open {
                e.open(&self.open[id]);
            }
        }
        for build in self.builds.values() {
            let of = self.dependencies.iter().find(|d| d.state.id == build.dependency).unwrap();
            e.put(build.dependency);
            e.build(build, of.state.epoch);
        }
        for External { build, number, fate, stopping } in &self.externals {
            e.name(build.as_uuid());
            e.put((number, stopping));
            e.show(fate);
        }
        e.hasher.finish()
    }
}
