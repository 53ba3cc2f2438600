//! One dependency, driven by hand: what a scheduler does around the rules, without stores, probes or build systems.
//!
//! Every operation ends by checking the [`laws`](super::laws), so each story is a test of these too.

use super::laws;
use crate::{
    decide::{
        Context, Decided, EndOfBuild, Evaluation, LockView, Occasion, PinnedTrigger, Start,
        delete_dependency, edit_source, end_build, evaluate, is_steady,
    },
    detect::{Answer, Detection, Look, detect},
    error::ErrorKind,
    events::EventKind,
    model::{
        Build, BuildId, Cause, DependencyId, DependencyState, EndReason, LaunchKey, Observation, OnHeld,
        Parameters, Paused, Phase, Policy, ProbeFailure, ReceiptId, ReceiptState, Relation, Revision, Stop,
        StopReason, StoredTrigger, Trigger,
    },
    probe::Probed,
    time::{Timestamp, later},
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use uuid::Uuid;

/// A revision.
pub(super) fn rev(text: &str) -> Revision {
    text.parse().unwrap()
}

/// So many seconds.
pub(super) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Own parameters, told apart by one value.
pub(super) fn own(value: &str) -> Parameters {
    BTreeMap::from([("flavour".to_owned(), value.to_owned())])
}

/// A dependency and everything around it.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) state: DependencyState,
    pub(super) policy: Policy,
    pub(super) now: Timestamp,
    /// Every build, oldest first.
    pub(super) builds: Vec<Build>,
    /// Where each trigger stands.
    pub(super) receipts: BTreeMap<ReceiptId, ReceiptState>,
    /// What the last operation decided.
    pub(super) decided: Vec<Decided>,
    /// What happened in the last operation.
    pub(super) events: Vec<EventKind>,
    /// When a look is due that a decision asked for.
    pub(super) look_due: Option<Timestamp>,
    /// When an evaluation is due that a decision asked for.
    pub(super) evaluate_due: Option<Timestamp>,
    /// Whether a lock that is kept elsewhere is held by somebody else.
    pub(super) elsewhere: bool,
    /// What looks have seen in this epoch.
    pub(super) seen: BTreeSet<String>,
    /// Whether a caller ever chose a lock policy of its own.
    pub(super) own_policy: bool,
    /// Whether the clock was ever set back.
    pub(super) clock_jumped: bool,
    tickets: u64,
    drawn: u128,
}

impl World {
    /// A dependency that was just defined, with the default policy.
    pub(super) fn new() -> Self {
        Self::with(Policy::default())
    }

    /// A dependency that was just defined.
    pub(super) fn with(policy: Policy) -> Self {
        Self {
            state: DependencyState::new(DependencyId::from_uuid(Uuid::from_u128(1))),
            policy,
            now: Timestamp::from_timestamp(1_400_000_000, 0).unwrap(),
            builds: Vec::new(),
            receipts: BTreeMap::new(),
            decided: Vec::new(),
            events: Vec::new(),
            look_due: None,
            evaluate_due: None,
            elsewhere: false,
            seen: BTreeSet::new(),
            own_policy: false,
            clock_jumped: false,
            tickets: 0,
            drawn: 1_000,
        }
    }

    /// A dependency with this lock policy.
    pub(super) fn on_held(policy: OnHeld) -> Self {
        Self::with(Policy::default().with_on_held(policy))
    }

    /// A dependency whose revision `A` was seen and built well.
    pub(super) fn at_a(policy: Policy) -> Self {
        let mut world = Self::with(policy);
        world.look("A");
        world.end_good();
        world
    }

    // --- looks -------------------------------------------------------------------------------------------------------

    /// Begins a look, which is answered later.
    pub(super) fn begin_look(&mut self) -> Look {
        self.tickets += 1;
        Look {
            ticket: self.tickets,
            epoch: self.state.epoch,
            accounted: self.state.accounted_revision().cloned(),
            satisfies: self.state.stored.iter().map(|s| s.receipt).collect(),
        }
    }

    /// Answers a look that was begun.
    pub(super) fn answer(&mut self, look: &Look, answer: &Answer) -> Detection {
        let (before, receipts, due) = (self.state.clone(), self.receipts.clone(), self.evaluate_due);
        let detection = self.decide(look, answer);
        if let Answer::Probed(probed) = answer
            && look.epoch == before.epoch
            && is_steady(&before, look.ticket, probed, self.now)
        {
            laws::a_steady_look_only_counts(&before, self);
            assert_eq!((&self.receipts, self.evaluate_due), (&receipts, due));
        }
        detection
    }

    fn decide(&mut self, look: &Look, answer: &Answer) -> Detection {
        let detected = detect(&self.state, look, answer, self.now);
        self.decided.clear();
        self.events = detected.events;
        if detected.detection == Detection::Stale {
            assert_eq!(detected.state, self.state, "a stale answer changes nothing");
            return Detection::Stale;
        }
        if detected.detection == Detection::Failed {
            laws::a_failed_look_changes_nothing_else(&self.state, &detected.state);
        }
        self.look_due = None;
        self.state = detected.state;
        if let Some(observed) = self.state.observed_revision() {
            self.seen.insert(observed.to_string());
        }
        let satisfies = look.satisfies.clone();
        match detected.detection {
            Detection::Seen => self.evaluate(&Occasion::Seen { satisfies }),
            Detection::NotFound { twice } => {
                if !twice {
                    self.look_due = Some(self.now);
                }
                self.evaluate(&Occasion::NotFound { satisfies, twice });
            }
            _ => self.check(),
        }
        let again = detect(&self.state, look, answer, self.now);
        assert_eq!((again.detection, &again.state), (Detection::Stale, &self.state), "applied twice");
        detected.detection
    }

    fn look_at(&mut self, answer: &Answer) -> Detection {
        let look = self.begin_look();
        self.answer(&look, answer)
    }

    /// Looks; the source is at `revision`, and the probe says nothing of its relation.
    pub(super) fn look(&mut self, revision: &str) {
        self.look_at(&seen(revision, None));
    }

    /// Looks; the source is at `revision`, and this is how it relates to the accounted one.
    pub(super) fn look_with_relation(&mut self, revision: &str, relation: Relation) {
        self.look_at(&seen(revision, Some(relation)));
    }

    /// Looks; nothing changed since the last look, says the source.
    pub(super) fn same_as_seen(&mut self) -> Detection {
        self.look_at(&Answer::Probed(Probed::SameAsSeen))
    }

    /// Looks; nothing can be said yet.
    pub(super) fn nothing(&mut self) -> Detection {
        self.look_at(&Answer::Probed(Probed::Nothing))
    }

    /// Looks; the source is not there.
    pub(super) fn not_found(&mut self) {
        self.look_at(&Answer::Probed(Probed::NotFound));
    }

    /// Looks in vain.
    pub(super) fn fail(&mut self) {
        self.look_at(&failed());
    }

    // --- triggers ----------------------------------------------------------------------------------------------------

    fn store(&mut self, trigger: Trigger, parameters: Parameters, on_held: Option<OnHeld>) -> ReceiptId {
        let receipt = ReceiptId::from_uuid(self.draw());
        let cause = Cause { trigger, requester: None, receipt: Some(receipt), project_build: None };
        self.own_policy |= on_held.is_some();
        self.receipts.insert(receipt, ReceiptState::AwaitsLook);
        self.state.stored.push(StoredTrigger {
            cause,
            receipt,
            parameters,
            build_key: None,
            on_held,
            since: self.now,
        });
        self.look_due = Some(self.now);
        self.check();
        receipt
    }

    /// The source may have changed.
    pub(super) fn push(&mut self) -> ReceiptId {
        self.store(Trigger::Push, Parameters::new(), None)
    }

    /// A "build regardless" is due.
    pub(super) fn schedule(&mut self) -> ReceiptId {
        self.store(Trigger::Schedule, Parameters::new(), None)
    }

    /// Somebody asks for a build of whatever is there.
    pub(super) fn manual(&mut self) -> ReceiptId {
        self.store(Trigger::Manual, Parameters::new(), None)
    }

    /// The same, with own parameters.
    pub(super) fn with_params(&mut self, value: &str) -> ReceiptId {
        self.store(Trigger::Manual, own(value), None)
    }

    /// The same, with a lock policy of the caller's.
    pub(super) fn manual_with(&mut self, on_held: OnHeld) -> ReceiptId {
        self.store(Trigger::Manual, Parameters::new(), Some(on_held))
    }

    /// Somebody asks for a build of this revision.
    pub(super) fn manual_pinned(&mut self, revision: &str) -> ReceiptId {
        self.pin(revision, Parameters::new(), None)
    }

    /// The same, with own parameters and a lock policy of the caller's.
    pub(super) fn pin(
        &mut self,
        revision: &str,
        parameters: Parameters,
        on_held: Option<OnHeld>,
    ) -> ReceiptId {
        self.pin_with_key(revision, parameters, on_held, None)
    }

    /// The same, as a part of a whole-project request.
    pub(super) fn pin_with_key(
        &mut self,
        revision: &str,
        parameters: Parameters,
        on_held: Option<OnHeld>,
        build_key: Option<&str>,
    ) -> ReceiptId {
        let receipt = ReceiptId::from_uuid(self.draw());
        let cause =
            Cause { trigger: Trigger::Manual, requester: None, receipt: Some(receipt), project_build: None };
        let build_key = build_key.map(|k| k.parse().unwrap());
        self.own_policy |= on_held.is_some();
        self.begin();
        let revision = rev(revision);
        self.evaluate(&Occasion::Pinned(PinnedTrigger { cause, revision, parameters, build_key, on_held }));
        receipt
    }

    // --- builds ------------------------------------------------------------------------------------------------------

    /// The build under way ends like this.
    pub(super) fn end(&mut self, phase: Phase) {
        self.end_as(EndOfBuild::of(phase));
    }

    /// The build under way ends well.
    pub(super) fn end_good(&mut self) {
        self.end(Phase::Succeeded);
    }

    /// The build under way ends badly.
    pub(super) fn end_failed(&mut self) {
        self.end(Phase::Failed);
    }

    /// The build system refuses the build under way.
    pub(super) fn refused(&mut self, permanent: bool) {
        self.end_as(EndOfBuild { permanent, ..EndOfBuild::of(Phase::Refused) });
    }

    /// Somebody breaks the lock of the build under way.
    pub(super) fn break_lock(&mut self) {
        self.end_as(EndOfBuild { broken: true, ..EndOfBuild::of(Phase::Lost) });
    }

    fn end_as(&mut self, end: EndOfBuild) {
        let owner = self.state.held.as_ref().expect("a build is under way").owner;
        let place = self.builds.iter().position(|b| b.id == owner).expect("its record is kept");
        self.builds[place].phase = end.phase;
        self.builds[place].good = end.is_good(&self.policy);
        let build = self.builds[place].clone();
        self.decided.clear();
        self.events = end_build(&mut self.state, &build, end, &self.policy, self.now);
        if end.phase == Phase::Refused && self.state.retry.as_ref().is_none_or(|r| r.of != owner) {
            for receipt in build.causes.iter().filter_map(|c| c.receipt) {
                self.receipts.insert(receipt, ReceiptState::Ended { reason: EndReason::Refused });
            }
        }
        self.evaluate(&Occasion::Released);
    }

    /// Somebody asks to stop the build under way.
    pub(super) fn cancel(&mut self) {
        self.stop(StopReason::Cancel { by: "a person".into() });
    }

    /// A deadline of the build under way has passed.
    pub(super) fn time_out(&mut self) {
        self.stop(StopReason::RunDeadline);
    }

    fn stop(&mut self, reason: StopReason) {
        let held = self.state.held.as_mut().expect("a build is under way");
        held.stopping = true;
        let build = self.builds.iter_mut().find(|b| b.id == held.owner).expect("its record is kept");
        build.stop = Some(Stop { reason, asked_at: self.now });
        self.check();
    }

    // --- people and time ---------------------------------------------------------------------------------------------

    /// Nothing is to be built.
    pub(super) fn pause(&mut self) {
        self.state.paused =
            Some(Paused { by: "a person".parse().unwrap(), reason: String::new(), at: self.now });
        self.check();
    }

    /// Things are to be built again.
    pub(super) fn resume(&mut self) {
        self.begin();
        self.state.paused = None;
        self.evaluate(&Occasion::Released);
    }

    /// The source is edited.
    pub(super) fn edit_source(&mut self) {
        let ended = edit_source(&mut self.state);
        self.ended(ended);
        self.seen.clear();
        self.check();
    }

    /// The dependency is deleted.
    pub(super) fn delete(&mut self) {
        let ended = delete_dependency(&mut self.state);
        self.ended(ended);
        self.check();
    }

    fn ended(&mut self, ended: Vec<(Cause, EndReason)>) {
        for (cause, reason) in ended {
            if let Some(receipt) = cause.receipt {
                self.receipts.insert(receipt, ReceiptState::Ended { reason });
            }
        }
    }

    /// Launcher or job are changed, which may mend a refusal.
    pub(super) fn change_job(&mut self) {
        self.begin();
        if let Some(retry) = &mut self.state.retry {
            retry.not_before = Some(self.now);
            self.evaluate(&Occasion::Released);
        }
    }

    /// Time passes. An evaluation that falls due is made; looks are made by hand.
    pub(super) fn advance(&mut self, seconds: u64) {
        self.begin();
        self.now = later(self.now, secs(seconds));
        if self.evaluate_due.is_some_and(|at| at <= self.now) {
            self.evaluate_due = None;
            self.evaluate(&Occasion::Released);
        }
    }

    /// The clock is set back. What was due stays due after as long a wait.
    pub(super) fn set_back(&mut self, seconds: u64) {
        let by = chrono::TimeDelta::from_std(secs(seconds)).unwrap();
        self.now -= by;
        self.clock_jumped = true;
        self.look_due = self.look_due.map(|t| t - by);
        self.evaluate_due = self.evaluate_due.map(|t| t - by);
    }

    // --- the scheduler's part ----------------------------------------------------------------------------------------

    fn draw(&mut self) -> Uuid {
        self.drawn += 1;
        Uuid::from_u128(self.drawn)
    }

    /// Good builds of this epoch without own parameters; a newer one hides an older one.
    pub(super) fn known_good(&self) -> Vec<(Revision, BuildId)> {
        let good = |b: &&Build| b.good && b.epoch == self.state.epoch && b.parameters.is_empty();
        self.builds.iter().rev().filter(good).map(|b| (b.stands_for().clone(), b.id)).collect()
    }

    fn begin(&mut self) {
        self.decided.clear();
        self.events.clear();
    }

    fn evaluate(&mut self, occasion: &Occasion) {
        let known_good = self.known_good();
        let build = BuildId::from_uuid(self.draw());
        let mut context = Context {
            policy: &self.policy,
            now: self.now,
            lock: LockView::AsStored,
            known_good: &known_good,
            build,
        };
        let mut evaluation = evaluate(&self.state, &context, occasion);
        assert_eq!(evaluation, evaluate(&self.state, &context, occasion), "the same again");
        if evaluation.start.is_some() && self.elsewhere {
            context.lock = LockView::HeldElsewhere { by: "somebody else".into() };
            evaluation = evaluate(&self.state, &context, occasion);
        }
        laws::evaluation(&self.state, &context, occasion, &evaluation);
        self.apply(evaluation);
    }

    fn apply(&mut self, evaluation: Evaluation) {
        let before = std::mem::replace(&mut self.state, evaluation.state);
        if let Some(start) = evaluation.start {
            self.record(start);
        }
        for change in evaluation.receipts {
            let id = change.cause.receipt.expect("only receipts change");
            let was = self.receipts.insert(id, change.state);
            assert!(
                matches!(was, None | Some(ReceiptState::AwaitsLook | ReceiptState::Waiting { .. })),
                "what is settled stays: {was:?}"
            );
        }
        self.decided.extend(evaluation.decided);
        self.events.extend(evaluation.events);
        let soonest = |due: Option<Timestamp>, within: Option<Duration>| {
            within.map(|w| later(self.now, w)).into_iter().chain(due).min()
        };
        self.look_due = soonest(self.look_due, evaluation.look_within);
        self.evaluate_due = soonest(self.evaluate_due, evaluation.evaluate_within);
        laws::only_grows(&before, &self.state);
        self.check();
    }

    fn record(&mut self, start: Start) {
        let previous_start = self.state.last_start.replace(self.now);
        let build = json!({
            "id": start.build, "dependency": self.state.id, "number": self.state.builds,
            "epoch": self.state.epoch, "key": LaunchKey::of(start.build), "fence": self.state.fence,
            "revision": start.revision, "parameters": start.parameters, "build_key": start.build_key,
            "causes": start.causes, "manual": start.causes.iter().any(|c| c.trigger == Trigger::Manual),
            "person_pinned": start.person_pinned, "retry_of": start.retry_of, "attempt": start.attempt,
            "refusals": start.refusals, "launcher": "fake", "job": null, "phase": Phase::Requested, "sends": 0,
            "previous_start": previous_start, "requested_at": self.now, "good": false,
        });
        self.builds.push(serde_json::from_value(build).expect("a build as it is stored"));
    }

    fn check(&self) {
        laws::world(self);
    }
}

/// The source is at `revision`.
pub(super) fn seen(revision: &str, relation: Option<Relation>) -> Answer {
    Answer::Probed(Probed::Observed(Observation { relation, ..Observation::of(rev(revision)) }))
}

/// The source could not be looked at.
pub(super) fn failed() -> Answer {
    Answer::Failed(ProbeFailure {
        kind: ErrorKind::Unavailable,
        permanent: false,
        message: "the host does not answer".into(),
        retry_after: None,
    })
}
