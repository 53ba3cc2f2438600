//! Who watches: every commit, claim, send and probe of a history is held against what must always be true.
//!
//! The checker keeps a picture of its own of what was written, made only of what it saw being committed, claimed and given
//! back; it never asks a scheduler.

mod builds;
mod decisions;
mod due;
mod end;
mod guards;
mod owed;
mod projects;
mod reads;
mod table;
mod truth;

pub(super) use truth::System;

use super::{Counters, Violation, plan::Plan};
use capomastro_core::{
    ErrorKind,
    launch::LaunchRequest,
    model::{
        Build, BuildId, Dependency, DependencyId, DependencyState, HolderId, LaunchKey, Phase,
        ProjectBuildId, ProjectId, ReceiptId, ReceiptState,
    },
    store::{Batch, ClaimAsk, Claimed, Committed, Key, PutBack, Record, Task},
    time::Timestamp,
};
use due::Rows;
use std::collections::{BTreeMap, BTreeSet};

/// What was seen of a history.
#[derive(Debug)]
pub(super) struct Checker {
    pub(super) violations: Vec<Violation>,
    records: BTreeMap<Key, Record>,
    rows: Rows,
    commits: guards::Commits,
    reads: reads::Reads,
    answers: truth::Answers,
    /// The highest fence of each dependency that a build was ever given.
    fences: BTreeMap<DependencyId, u64>,
    /// The project builds that are not sealed.
    unsealed: BTreeSet<(ProjectId, ProjectBuildId)>,
    /// Every pin that was ever written, and that there was none.
    pins: BTreeSet<(ProjectId, DependencyId, Option<BuildId>)>,
    /// The unfinished builds.
    open: BTreeMap<BuildId, DependencyId>,
    /// Builds by the key that travels with them.
    keys: BTreeMap<LaunchKey, BuildId>,
    /// Keys that the network or a person's choice may have built twice.
    excused: BTreeSet<LaunchKey>,
    /// By what name each process holds claims now.
    holders: Vec<Option<HolderId>>,
    /// Counts what is seen, so that it can be told what came first.
    step: u64,
    /// When a probe of a dependency last started, by name.
    probed: BTreeMap<String, u64>,
    /// Since when a receipt awaits a look.
    awaits: BTreeMap<ReceiptId, u64>,
    /// Looks under way: when the claim that they run under was taken.
    looked_since: BTreeMap<String, u64>,
    healing_since: Option<u64>,
    lock_is_elsewhere: bool,
    blind: bool,
    /// Whether the wall clock was moved: then claims and settle times hold by another time than the processes'.
    jumped: bool,
}

/// A record that a batch writes, with what it was before.
struct Change<'a> {
    before: Option<&'a Record>,
    after: &'a Record,
}

/// One commit as it is checked.
struct Seen<'a> {
    batch: &'a Batch,
    /// The records before the commit.
    old: &'a BTreeMap<Key, Record>,
}

impl<'a> Seen<'a> {
    fn before(&self, key: &Key) -> Option<&'a Record> {
        self.old.get(key)
    }

    fn changes(&self) -> impl Iterator<Item = Change<'a>> + use<'a> {
        let (old, batch) = (self.old, self.batch);
        batch.puts.iter().map(move |put| Change { before: old.get(&put.record.key()), after: &put.record })
    }

    fn holds(&self, task: Task) -> bool {
        self.batch.claims.iter().any(|claim| claim.task == task)
    }

    fn state_before(&self, id: DependencyId) -> Option<&'a DependencyState> {
        match self.before(&Key::State(id)) {
            Some(Record::State(state)) => Some(state),
            _ => None,
        }
    }

    fn dependency_before(&self, id: DependencyId) -> Option<&'a Dependency> {
        match self.before(&Key::Dependency(id)) {
            Some(Record::Dependency(dependency)) => Some(dependency),
            _ => None,
        }
    }

    fn state_after(&self, id: DependencyId) -> Option<&'a DependencyState> {
        self.batch.puts.iter().find_map(|put| match &put.record {
            Record::State(state) if state.id == id => Some(state),
            _ => None,
        })
    }

    /// The build of a dependency that starts here.
    fn started(&self, id: DependencyId) -> Option<&'a Build> {
        self.changes().find_map(|change| match (change.before, change.after) {
            (None, Record::Build(build)) if build.dependency == id => Some(build),
            _ => None,
        })
    }

    /// The builds of a dependency that end here.
    fn ended(&self, id: DependencyId) -> impl Iterator<Item = &'a Build> {
        self.changes().filter_map(move |change| match (change.before, change.after) {
            (Some(Record::Build(old)), Record::Build(new))
                if new.dependency == id && !old.phase.is_terminal() && new.phase.is_terminal() =>
            {
                Some(new)
            }
            _ => None,
        })
    }
}

impl Checker {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            violations: Vec::new(),
            records: BTreeMap::new(),
            rows: Rows::default(),
            commits: guards::Commits::default(),
            reads: reads::Reads::default(),
            answers: truth::Answers::default(),
            fences: BTreeMap::new(),
            unsealed: BTreeSet::new(),
            pins: BTreeSet::new(),
            open: BTreeMap::new(),
            keys: BTreeMap::new(),
            excused: BTreeSet::new(),
            holders: vec![None; plan.processes.len() + 1],
            step: 0,
            probed: BTreeMap::new(),
            awaits: BTreeMap::new(),
            looked_since: BTreeMap::new(),
            healing_since: None,
            lock_is_elsewhere: plan.lock_lasts.is_some(),
            blind: plan.promise == capomastro_core::launch::Promise::Blind,
            jumped: false,
        }
    }

    /// Something that must never be true is true.
    pub(super) fn fail(&mut self, invariant: &'static str, what: impl FnOnce() -> String) {
        if self.violations.len() < 5 {
            self.violations.push(Violation { invariant, what: what() });
        }
    }

    fn check(&mut self, holds: bool, invariant: &'static str, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(invariant, what);
        }
    }

    /// A process has begun to hold claims by this name.
    pub(super) fn began(&mut self, process: usize, holder: HolderId) {
        if let Some(place) = self.holders.get_mut(process) {
            *place = Some(holder);
        }
    }

    pub(super) fn heals(&mut self) {
        self.healing_since = Some(self.step);
    }

    pub(super) const fn clock_jumped(&mut self) {
        self.jumped = true;
    }

    /// The build of this key may really run twice.
    pub(super) fn excuse(&mut self, key: LaunchKey) {
        self.excused.insert(key);
    }

    pub(super) fn unanswered(&mut self, batch: &Batch, kind: ErrorKind) {
        self.commits.unanswered(batch, kind);
    }

    pub(super) fn claimed(&mut self, ask: &ClaimAsk, claimed: &Claimed) {
        self.step += 1;
        if let Err(what) = self.rows.claimed(ask, claimed) {
            self.fail("I9", || what);
        }
        for claim in &claimed.claims {
            if let Task::Look(id) = claim.task
                && let Some(Record::Dependency(d)) = self.records.get(&Key::Dependency(id))
            {
                self.looked_since.insert(d.name.to_string(), self.step);
            }
        }
    }

    pub(super) fn put_back(&mut self, now: Timestamp, holder: &HolderId, items: &[PutBack]) {
        self.step += 1;
        self.rows.put_back(now, holder, items);
        for item in items {
            self.demands_of_look_given_back(item);
        }
    }

    /// A batch was written, or is said to have been.
    pub(super) fn committed(
        &mut self,
        batch: &Batch,
        committed: &Committed,
        counters: &mut Counters,
        system: &System<'_>,
    ) {
        self.step += 1;
        if let Err(what) = self.commits.committed(batch, committed.repeated) {
            self.fail("commit id", || what);
        }
        if committed.repeated {
            return;
        }
        let old = std::mem::take(&mut self.records);
        let seen = Seen { batch, old: &old };
        self.check_guards(&seen);
        self.check_builds(&seen, counters);
        self.check_decisions(&seen);
        self.check_truth(&seen, system);
        self.check_owed(&seen);
        self.check_pins(&seen);
        self.check_versions(batch);
        self.tell(batch, committed.at);
        let touched = Self::touched(&seen);
        // From here on the picture shows what is written.
        let mut records = old;
        for (key, _) in &batch.deletes {
            records.remove(key);
        }
        for put in &batch.puts {
            records.insert(put.record.key(), put.record.clone());
        }
        self.records = records;
        if let Err(what) = self.rows.committed(batch, committed) {
            self.fail("I9", || what);
        }
        self.after_commit(batch, committed.at, &touched);
    }

    /// The dependencies that a commit is about.
    fn touched(seen: &Seen<'_>) -> BTreeSet<DependencyId> {
        let mut touched = BTreeSet::new();
        for put in &seen.batch.puts {
            match &put.record {
                Record::State(s) => touched.insert(s.id),
                Record::Build(b) => touched.insert(b.dependency),
                Record::Dependency(d) => touched.insert(d.id),
                _ => false,
            };
        }
        touched
    }

    fn after_commit(&mut self, batch: &Batch, at: Timestamp, touched: &BTreeSet<DependencyId>) {
        for id in touched {
            self.check_lock(*id);
            self.check_demands(*id, at);
            self.check_release(batch, *id, at);
        }
        self.check_rows_of_batch(batch, at);
        self.check_projects(batch);
    }

    fn state(&self, id: DependencyId) -> Option<&DependencyState> {
        match self.records.get(&Key::State(id)) {
            Some(Record::State(state)) => Some(state),
            _ => None,
        }
    }

    fn dependency(&self, id: DependencyId) -> Option<&Dependency> {
        match self.records.get(&Key::Dependency(id)) {
            Some(Record::Dependency(d)) => Some(d),
            _ => None,
        }
    }

    fn build(&self, id: BuildId) -> Option<&Build> {
        match self.records.get(&Key::Build(id)) {
            Some(Record::Build(b)) => Some(b),
            _ => None,
        }
    }

    /// A process sends: the intent must be written, nobody else may have taken the build over, and nobody else may take it
    /// over now.
    pub(super) fn sending(&mut self, process: usize, request: &LaunchRequest, now: Timestamp) {
        self.step += 1;
        let build = self.build(request.build);
        // It may have been adopted meanwhile: what an earlier send started was found.
        let is_intended = build.is_some_and(|b| {
            b.phase != Phase::Requested && !b.phase.is_terminal() && b.key == request.key && b.sends > 0
        });
        let fits = build.is_some_and(|b| b.revision == request.revision && b.fence == request.fence);
        let holder = self.holders.get(process).cloned().flatten();
        let is_held = self.rows.holder(Task::Drive(request.build)) == holder.as_ref();
        let until = self.rows.held_until(Task::Drive(request.build));
        let ended = build.is_some_and(|b| b.phase.is_terminal());
        // A person may end a build while it is being sent; that is told loudly and what was sent is kept.
        self.check(is_intended || ended || self.jumped, "I2", || {
            format!("build {} is sent without a written intent", request.build)
        });
        self.check(fits, "I2", || format!("build {} is sent otherwise than it was decided", request.build));
        self.check(is_held || ended || self.jumped, "I2", || {
            format!("build {} is sent by process {process}, which does not hold it any more", request.build)
        });
        self.check(until.is_some_and(|until| until > now) || ended || self.jumped, "I2", || {
            format!("build {} is sent although its claim ended at {until:?}", request.build)
        });
        if self.blind
            && let Some(Record::Build(b)) = self.records.get(&Key::Build(request.build))
            && self
                .dependency(b.dependency)
                .is_some_and(|d| d.policy.when_blind == Some(capomastro_core::model::WhenBlind::AtLeastOnce))
        {
            self.excused.insert(request.key);
        }
    }

    /// A build really starts at the build system; `again` if its key did before.
    pub(super) fn started(&mut self, key: LaunchKey, again: bool) {
        let excused = self.jumped || self.excused.contains(&key);
        self.check(!again || excused, "I2", || format!("a second external build of launch key {key} starts"));
    }

    /// Where a receipt that a caller was given stands.
    pub(super) fn given(&mut self, id: ReceiptId) {
        let is_there = self.records.contains_key(&Key::Receipt(id));
        self.check(is_there, "I8", || format!("receipt {id} was given and is not written"));
    }

    fn receipt_state(record: Option<&Record>) -> Option<&ReceiptState> {
        match record {
            Some(Record::Receipt(r)) => Some(&r.state),
            _ => None,
        }
    }
}
