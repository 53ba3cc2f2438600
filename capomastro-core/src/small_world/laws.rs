//! What holds in the whole world after every step, beside the laws of single rules.

use super::{World, drive::copy_of};
use crate::{
    Result,
    decide::{Occasion, ReceiptChange},
    launch::{Launched, Promise, Report, Seen},
    link::ProjectChange,
    model::{
        Build, BuildId, DependencyId, DependencyState, ExternalRef, Phase, Project, ProjectBuild,
        ProjectOutcome, ReceiptId, ReceiptState, Request, SlotKind,
    },
    track::{Situation, Step},
};
use std::collections::{BTreeMap, BTreeSet};

/// What only grows.
#[derive(Debug)]
pub(super) struct Marks {
    fences: Vec<(u64, u64, u32, u64)>,
    seals: Vec<(u64, u64)>,
}

impl World {
    pub(super) fn marks(&self) -> Marks {
        let of = |s: &DependencyState| (s.fence, s.builds, s.epoch, s.applied_ticket);
        Marks {
            fences: self.dependencies.iter().map(|d| of(&d.state)).collect(),
            seals: self.projects.iter().map(|p| p.seals).zip(self.current_since.iter().copied()).collect(),
        }
    }

    pub(super) fn check(&self, before: &Marks) {
        let after = self.marks();
        for (a, b) in before.fences.iter().zip(&after.fences) {
            assert!(a.0 <= b.0 && a.1 <= b.1 && a.2 <= b.2 && a.3 <= b.3, "{before:?} {after:?}");
        }
        for (a, b) in before.seals.iter().zip(&after.seals) {
            assert!(a.0 <= b.0 && a.1 <= b.1, "{before:?} {after:?}");
        }
        for d in 0..self.dependencies.len() {
            self.one_build_holds_the_lock(d);
            self.what_stands_is_known_everywhere(d);
            self.nothing_heads_a_free_lock(d);
            self.accounted_is_what_a_look_saw(d);
        }
        self.every_trigger_is_somewhere();
        for p in 0..self.projects.len() {
            self.current_is_what_stands(p);
            self.open_ones_wait_for_something(p);
        }
    }

    fn one_build_holds_the_lock(&self, d: usize) {
        let state = &self.dependencies[d].state;
        let unfinished: Vec<_> = self
            .builds
            .values()
            .filter(|b| b.dependency == state.id && !b.phase.is_terminal())
            .map(|b| (b.id, b.fence, &b.revision, b.stop.is_some()))
            .collect();
        let held: Vec<_> = state.held.iter().map(|h| (h.owner, h.fence, &h.revision, h.stopping)).collect();
        assert_eq!(unfinished, held, "at most one unfinished build, and it holds the lock");
    }

    /// The copies of a link in projects say what the dependency says, and all of them are good builds.
    fn what_stands_is_known_everywhere(&self, d: usize) {
        let state = &self.dependencies[d].state;
        let linked = state.linked.as_ref().map(|l| l.build);
        if let Some(build) = &linked {
            assert!(self.builds[build].good, "only good builds are linked");
        }
        for project in &self.projects {
            let member = project.members.get(&state.id);
            assert_eq!(member.is_some(), state.projects.contains(&project.id));
            assert!(!state.past_projects.contains(&project.id) || member.is_none());
            let Some(member) = member else { continue };
            assert_eq!(member.linked, linked, "a project follows the linked build");
            assert!(
                member.pin.is_none_or(|b| self.builds[&b].good && self.builds[&b].dependency == state.id)
            );
        }
    }

    fn nothing_heads_a_free_lock(&self, d: usize) {
        let state = &self.dependencies[d].state;
        if state.held.is_none() && state.paused.is_none() {
            assert!(state.waiting.is_empty(), "a request heads a free, unpaused lock: {:?}", state.waiting);
        }
        assert_eq!(state.debt_since.is_some(), state.in_debt(), "the time of the debt");
        assert!(
            !state.deleted || (state.waiting.is_empty() && state.stored.is_empty() && state.retry.is_none())
        );
    }

    fn accounted_is_what_a_look_saw(&self, d: usize) {
        let dependency = &self.dependencies[d];
        if let Some(accounted) = dependency.state.accounted_revision() {
            assert!(dependency.seen.contains(accounted.as_str()), "accounted moves only to what a look saw");
        }
    }

    /// Each open receipt is in exactly the one place that it names, and each slot that awaits one awaits an open one of its
    /// own dependency.
    fn every_trigger_is_somewhere(&self) {
        let mut places: BTreeMap<ReceiptId, (bool, DependencyId)> = BTreeMap::new();
        let mut carried = BTreeSet::new();
        for d in &self.dependencies {
            let stored = d.state.stored.iter().map(|s| (&s.cause, false));
            let waiting = d.state.waiting.iter().flat_map(|r| &r.causes).map(|c| (c, true));
            for (cause, waits) in stored.chain(waiting) {
                let Some(receipt) = cause.receipt else { continue };
                assert!(places.insert(receipt, (waits, d.state.id)).is_none(), "in two places");
                carried.extend(cause.project_build.map(|(_, b)| (b, receipt)));
            }
        }
        let waits = |s: &ReceiptState| matches!(s, ReceiptState::Waiting { .. });
        let open: BTreeMap<_, _> = self.receipts.iter().map(|(id, s)| (*id, waits(s))).collect();
        assert_eq!(
            places.iter().map(|(id, p)| (*id, p.0)).collect::<BTreeMap<_, _>>(),
            open,
            "no trigger is lost"
        );
        let mut awaited = BTreeSet::new();
        for build in self.open.values() {
            for (dependency, slot) in &build.slots {
                let SlotKind::Awaiting { receipt } = slot.kind else { continue };
                assert_eq!(places.get(&receipt).map(|p| p.1), Some(*dependency), "a slot waits for ever");
                awaited.insert((build.id, receipt));
            }
        }
        assert_eq!(awaited, carried, "whoever was asked by a project build is awaited there");
    }

    fn current_is_what_stands(&self, p: usize) {
        let project = &self.projects[p];
        let Some(links) = links(project) else { return };
        let current = project.current.as_ref().map(|c| &c.builds);
        let awaited = project.open.iter().flat_map(|o| &self.open[o].slots);
        let mut fresh = awaited.filter_map(|(d, s)| match s.kind {
            SlotKind::Fresh { build } => Some((*d, build)),
            _ => None,
        });
        assert!(
            current == Some(&links) || fresh.any(|(d, b)| links.get(&d) == Some(&b)),
            "current {current:?} is not {links:?}"
        );
    }

    fn open_ones_wait_for_something(&self, p: usize) {
        let project = &self.projects[p];
        for id in &project.open {
            let record = &self.open[id];
            assert!(record.seal.is_none());
            let waits = record.slots.values().any(|s| match &s.kind {
                SlotKind::Awaiting { .. } => true,
                SlotKind::Fresh { build } => !self.builds[build].phase.is_terminal(),
                _ => false,
            });
            assert!(waits, "an open project build waits for nothing: {record:?}");
            for slot in record.slots.values() {
                if let SlotKind::Fresh { build } = slot.kind {
                    let back = &self.builds[&build].project_builds;
                    assert!(back.contains(&(project.id, *id)), "a build knows where it is fresh");
                }
            }
        }
        let all = self.open.values().filter(|b| b.project == project.id).count();
        assert_eq!(all, project.open.len());
    }
}

/// What stands for each member, if something stands for every one.
fn links(project: &Project) -> Option<BTreeMap<DependencyId, BuildId>> {
    let links =
        project.members.iter().map(|(d, m)| Some((*d, m.stands()?))).collect::<Option<BTreeMap<_, _>>>();
    links.filter(|l| !l.is_empty())
}

/// A trigger that awaits a look is decided only by a look that was begun after it; all else keeps its place.
pub(super) fn each_trigger_is_answered_by_its_own_look(
    occasion: &Occasion,
    waited: &[Request],
    receipts: &[ReceiptChange],
) {
    let mut may: BTreeSet<ReceiptId> =
        waited.iter().flat_map(|r| &r.causes).filter_map(|c| c.receipt).collect();
    match occasion {
        Occasion::Seen { satisfies } | Occasion::NotFound { satisfies, .. } => may.extend(satisfies),
        Occasion::Pinned(trigger) => may.extend(trigger.cause.receipt),
        Occasion::Released => {}
    }
    for change in receipts {
        assert!(change.cause.receipt.is_some_and(|r| may.contains(&r)), "not its look: {change:?}");
    }
}

pub(super) fn an_end_frees_its_own_lock_only(
    before: &DependencyState,
    after: &DependencyState,
    build: &Build,
    good: bool,
) {
    assert_eq!(before.held.as_ref().map(|h| h.owner), Some(build.id));
    assert_eq!(after.held, None);
    assert_eq!(after.observed, before.observed);
    assert_eq!(after.accounted, before.accounted, "a failed build rolls nothing back");
    assert_eq!((&after.waiting, &after.stored), (&before.waiting, &before.stored));
    let linked = if good { Some(build.id) } else { before.linked.as_ref().map(|l| l.build) };
    assert_eq!(after.linked.as_ref().map(|l| l.build), linked, "a good build is linked, and no other");
}

/// What one commit may do to a project: seals are numbered on, current never goes back, names are new, and a project build
/// that succeeded is made of good builds of all its members.
pub(super) fn a_project_changes_as_it_may(
    world: &World,
    p: usize,
    before: &Project,
    change: &ProjectChange,
    start: Option<&Build>,
) {
    let after = &change.project;
    let build = |id: &BuildId| start.filter(|b| b.id == *id).unwrap_or_else(|| &world.builds[id]);
    let sealed: Vec<&ProjectBuild> = change.project_builds.iter().filter(|b| b.seal.is_some()).collect();
    let mut sequences: Vec<u64> = sealed.iter().map(|b| b.seal.as_ref().unwrap().sequence).collect();
    sequences.sort_unstable();
    assert_eq!(sequences, (before.seals + 1..=after.seals).collect::<Vec<_>>(), "seals are counted on");
    for record in &change.project_builds {
        let is_new = !before.open.contains(&record.id);
        assert!(!is_new || record.seal.is_some() || after.open.contains(&record.id));
        assert_eq!(record.seal.is_none(), after.open.contains(&record.id));
        if is_new {
            assert!(
                record.slots.keys().eq(after.members.keys()),
                "complete from its first moment: {record:?}"
            );
        }
        let Some(seal) = &record.seal else { continue };
        for slot in record.slots.values() {
            let built = slot.build().map(|b| build(&b));
            assert_eq!(slot.revision.as_ref(), built.map(Build::stands_for));
            assert!(!matches!(slot.kind, SlotKind::Awaiting { .. }));
            assert!(built.is_none_or(|b| b.phase.is_terminal()), "sealed before its end: {record:?}");
            assert!(
                seal.outcome != ProjectOutcome::Succeeded || built.is_some_and(|b| b.good),
                "a good one of what is not good: {record:?}"
            );
        }
        let failed =
            record.slots.values().any(|s| matches!(s.kind, SlotKind::Fresh { build: b } if !build(&b).good));
        assert_eq!(seal.outcome == ProjectOutcome::Failed, failed);
    }
    if after.current != before.current {
        let current = after.current.as_ref().expect("current is never taken away");
        let record = sealed.iter().find(|b| b.id == current.id).expect("sealed here");
        assert!(record.seal.as_ref().unwrap().sequence > world.current_since[p], "current went back");
        assert_eq!(record.seal.as_ref().unwrap().outcome, ProjectOutcome::Succeeded);
        assert_eq!(Some(&current.builds), links(after).as_ref(), "current is what stands");
    }
    assert!(after.last_number >= before.last_number);
}

pub(super) fn phases_move_on(before: &Build, after: &Build) {
    assert!(!before.phase.is_terminal(), "the first terminal phase stays");
    assert!(after.phase.rank() >= before.phase.rank(), "{before:?} {after:?}");
    assert_eq!((after.id, after.key, after.fence), (before.id, before.key, before.fence));
    assert_eq!((&after.revision, after.epoch), (&before.revision, before.epoch));
    assert!(before.stop.is_none() || after.stop == before.stop, "the first reason to stop stays");
}

/// Another send of the same key only where the last is proven not to be there, or where it cannot do harm.
pub(super) fn sent_again_only_where_it_is_safe(world: &World, before: &Build) {
    if before.sends == 0 {
        return;
    }
    match world.promise {
        Promise::IdempotentByKey => {}
        Promise::Blind => panic!("a blind launcher is asked once"),
        Promise::FindableByKey { settle } => {
            let since = before.launching_at.expect("it was sent");
            assert!(crate::time::until(since, world.now) >= settle, "a search is not believed so soon");
        }
    }
}

fn situation<'a>(world: &'a World, d: usize, build: &'a Build) -> Situation<'a> {
    let dependency = &world.dependencies[d];
    let (note, policy) = (&dependency.note, &dependency.policy);
    Situation { build, note, policy, promise: world.promise, now: world.now }
}

/// Any report on a build that has ended is too late, in any order.
pub(super) fn nothing_moves_what_has_ended(world: &World, d: usize, ended: &Build) {
    let s = situation(world, d, ended);
    let name = ended.external.clone().unwrap_or_else(|| ExternalRef("x".into()));
    let report = |seen| Ok(Report { external: None, seen });
    for step in [
        s.resume(),
        s.cancel("ann"),
        s.broken("ann", "again"),
        s.launched(Ok(Launched::Accepted(name.clone()))),
        s.found(Ok(crate::launch::Found::Absent)),
        s.observed(&name, report(Seen::Running)),
        s.observed(&name, report(Seen::Unknown)),
        s.observed(&name, report(Seen::Ended(crate::launch::Ended::new(crate::launch::Outcome::Failed)))),
    ] {
        assert_eq!(step, Step::Done);
    }
}

/// A report that comes again, or older ones that come after it, leave the record as it is.
pub(super) fn reports_again_change_nothing(
    world: &World,
    d: usize,
    before: &Build,
    asked: &ExternalRef,
    answer: &Result<Report>,
) {
    let Some(now) = world.under_way(d).filter(|b| b.id == before.id) else { return };
    let s = situation(world, d, now);
    let record = |step| match step {
        Step::Nothing { .. } | Step::Observe { .. } => now.clone(),
        Step::Advance { build, .. } => *build,
        Step::End(end) => end.build,
        other => panic!("{other:?}"),
    };
    let again = record(s.observed(asked, copy_of(answer)));
    assert_eq!((again.phase, &again.external, &again.stop), (now.phase, &now.external, &now.stop));
    // What runs has been waiting once; hearing so again moves nothing back and stops nothing.
    if now.phase == Phase::Running || world.dependencies[d].note.running_at.is_some() {
        let older = Report { external: None, seen: Seen::Queued { why: None } };
        let after = record(s.observed(asked, Ok(older)));
        assert!(
            after.phase.rank() >= now.phase.rank() && after.stop == now.stop || after.phase.is_terminal()
        );
    }
}
