//! One evaluation: everything that waits, then what was asked, then the debt, then an owed retry.

use super::{Context, Decision, LockView, Subject, joinable, row};
use crate::{
    events::EventKind,
    model::{
        Accounted, BuildId, BuildKey, Cause, DependencyState, EndReason, Held, LastDecision, Linked, OnHeld,
        Parameters, ReceiptId, ReceiptState, Request, Revision, Settled, StoredTrigger, Trigger,
    },
    time::{Timestamp, until},
};
use std::time::Duration;

/// A trigger that names its revision; decided in the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedTrigger {
    /// The trigger.
    pub cause: Cause,
    /// The revision.
    pub revision: Revision,
    /// Own parameters.
    pub parameters: Parameters,
    /// The key shared by the builds of one whole-project request.
    pub build_key: Option<BuildKey>,
    /// The lock policy that the caller chose; the dependency's own where absent.
    pub on_held: Option<OnHeld>,
}

/// Why there is an evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// A look saw the source.
    Seen {
        /// The stored triggers that awaited it.
        satisfies: Vec<ReceiptId>,
    },
    /// A look did not find the source.
    NotFound {
        /// The stored triggers that awaited it.
        satisfies: Vec<ReceiptId>,
        /// Twice running: they end.
        twice: bool,
    },
    /// The dependency became free or was resumed, a retry is due, or a lock elsewhere may be free.
    Released,
    /// Somebody asked for a build of a revision.
    Pinned(PinnedTrigger),
}

/// One decision, to be recorded or counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// What was decided.
    pub decision: Decision,
    /// On which revision.
    pub revision: Option<Revision>,
    /// Whether it only repeats the last one and is counted.
    pub counted: bool,
}

/// What became of a trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptChange {
    /// The trigger.
    pub cause: Cause,
    /// On which revision it was decided.
    pub revision: Option<Revision>,
    /// Where it stands now.
    pub state: ReceiptState,
}

/// A build to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Its id.
    pub build: BuildId,
    /// The revision it pins.
    pub revision: Revision,
    /// What to show people for it.
    pub display: Option<String>,
    /// Own parameters.
    pub parameters: Parameters,
    /// The key shared by the builds of one whole-project request.
    pub build_key: Option<BuildKey>,
    /// Why.
    pub causes: Vec<Cause>,
    /// Whether a person named the revision.
    pub person_pinned: bool,
    /// The build that it repeats.
    pub retry_of: Option<BuildId>,
    /// How many retries of failed builds it makes.
    pub attempt: u32,
    /// How many refusals came before it.
    pub refusals: u32,
}

/// What an evaluation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// The state as it is to be stored.
    pub state: DependencyState,
    /// What was decided, in order.
    pub decided: Vec<Decided>,
    /// What became of triggers, in order; a later change of the same receipt replaces an earlier one.
    pub receipts: Vec<ReceiptChange>,
    /// The build to record, if one starts.
    pub start: Option<Start>,
    /// The build that was linked again, if one was.
    pub reused: Option<BuildId>,
    /// When a look is due at the latest, if the decision needs one.
    pub look_within: Option<Duration>,
    /// When an evaluation is due at the latest, if the decision needs one.
    pub evaluate_within: Option<Duration>,
    /// What happened.
    pub events: Vec<EventKind>,
}

/// How long a lock that is held elsewhere is left alone.
const HELD_ELSEWHERE: Duration = Duration::from_secs(5);

/// Puts everything that waits through the table, in order, then the occasion itself, then what debt remains, then an
/// owed retry.
pub fn evaluate(state: &DependencyState, context: &Context<'_>, occasion: &Occasion) -> Evaluation {
    let mut run = Run {
        context,
        out: Evaluation {
            state: state.clone(),
            decided: Vec::new(),
            receipts: Vec::new(),
            start: None,
            reused: None,
            look_within: None,
            evaluate_within: None,
            events: Vec::new(),
        },
    };
    if state.deleted {
        return run.out;
    }
    run.flow();
    match occasion {
        Occasion::Seen { satisfies } => {
            run.stored(satisfies);
            run.look(satisfies);
        }
        Occasion::NotFound { satisfies, twice } => run.not_found(satisfies, *twice),
        Occasion::Released => run.debt(),
        Occasion::Pinned(trigger) => run.pinned(trigger),
    }
    run.retry();
    run.finish()
}

struct Run<'a> {
    context: &'a Context<'a>,
    out: Evaluation,
}

impl Run<'_> {
    fn is_free(&self) -> bool {
        self.out.state.held.is_none() && self.context.lock == LockView::AsStored
    }

    fn record(&mut self, decision: &Decision, revision: Option<&Revision>) {
        self.out.decided.push(Decided {
            decision: decision.clone(),
            revision: revision.cloned(),
            counted: false,
        });
    }

    fn receipt(&mut self, cause: &Cause, revision: Option<&Revision>, state: ReceiptState) {
        if cause.receipt.is_some() {
            self.out.receipts.push(ReceiptChange {
                cause: cause.clone(),
                revision: revision.cloned(),
                state,
            });
        }
    }

    fn end(&mut self, causes: &[Cause], revision: Option<&Revision>, reason: &EndReason) {
        for cause in causes {
            self.receipt(cause, revision, ReceiptState::Ended { reason: reason.clone() });
        }
        let receipts: Vec<ReceiptId> = causes.iter().filter_map(|c| c.receipt).collect();
        self.out.events.push(EventKind::RequestEnded { receipts, reason: reason.clone() });
    }

    /// The waiting requests, in order, until one starts.
    fn flow(&mut self) {
        while self.is_free() && self.out.state.paused.is_none() && !self.out.state.waiting.is_empty() {
            let request = self.out.state.waiting.remove(0);
            let observed = self.out.state.observed.clone().filter(|_| self.out.state.not_found == 0);
            let Some(revision) = request.revision.clone().or_else(|| observed.map(|o| o.revision)) else {
                self.back_to_stored(request);
                continue;
            };
            let subject = Subject {
                forced: request.forced,
                revision: &revision,
                pinned: request.revision.is_some(),
                relation: request.relation.as_ref(),
                parameters: &request.parameters,
                on_held: self.context.policy.on_held,
                waited: true,
            };
            let decision = row(&self.out.state, self.context, &subject);
            self.record(&decision, Some(&revision));
            let reason = match decision {
                Decision::Build => {
                    let person_pinned = request.revision.is_some()
                        && request.causes.iter().any(|c| c.trigger == Trigger::Manual);
                    self.start(
                        Start {
                            build: self.context.build,
                            display: self.display_of(&revision),
                            revision,
                            parameters: request.parameters,
                            build_key: request.build_key,
                            causes: request.causes,
                            person_pinned,
                            retry_of: None,
                            attempt: 0,
                            refusals: 0,
                        },
                        request.forced,
                    );
                    return;
                }
                Decision::Reused { build } => {
                    self.reuse(&revision, build);
                    for cause in &request.causes {
                        self.receipt(cause, Some(&revision), ReceiptState::Reused { build });
                    }
                    continue;
                }
                Decision::Baselined => {
                    self.account(&revision, Settled::Baseline);
                    EndReason::Baselined
                }
                Decision::Unchanged => EndReason::Reverted,
                Decision::Vetoed => EndReason::Vetoed,
                Decision::RelationStale => {
                    self.look_within(Duration::ZERO);
                    EndReason::RelationStale
                }
                Decision::SourceMissing => EndReason::SourceMissing,
                // A waiting request is put through only while the dependency is free and unpaused, and row 8 is not
                // asked: what is left cannot match. It keeps its place all the same.
                Decision::Paused
                | Decision::Quiet { .. }
                | Decision::AlreadyBuilding { .. }
                | Decision::Held { .. } => {
                    self.out.state.waiting.insert(0, request);
                    return;
                }
            };
            self.end(&request.causes, Some(&revision), &reason);
        }
    }

    /// An unpinned request at the head while nothing is observed: the first probe started from now on decides.
    fn back_to_stored(&mut self, request: Request) {
        for cause in request.causes {
            let Some(receipt) = cause.receipt else { continue };
            self.receipt(&cause, None, ReceiptState::AwaitsLook);
            self.out.state.stored.push(StoredTrigger {
                cause,
                receipt,
                parameters: request.parameters.clone(),
                build_key: request.build_key.clone(),
                on_held: None,
                since: request.since,
            });
        }
        self.look_within(Duration::ZERO);
    }

    /// The forced triggers that awaited this look.
    fn stored(&mut self, satisfies: &[ReceiptId]) {
        let Some(observed) = self.out.state.observed.clone() else { return };
        for trigger in self.take_stored(satisfies, true) {
            let pinned = PinnedTrigger {
                cause: trigger.cause,
                revision: observed.revision.clone(),
                parameters: trigger.parameters,
                build_key: trigger.build_key,
                on_held: trigger.on_held,
            };
            self.forced(&pinned, false);
        }
    }

    fn take_stored(&mut self, satisfies: &[ReceiptId], forced: bool) -> Vec<StoredTrigger> {
        let (taken, kept) = std::mem::take(&mut self.out.state.stored)
            .into_iter()
            .partition(|s| satisfies.contains(&s.receipt) && s.cause.trigger.is_forced() == forced);
        self.out.state.stored = kept;
        taken
    }

    fn pinned(&mut self, trigger: &PinnedTrigger) {
        self.forced(trigger, true);
    }

    /// A forced trigger through the table.
    fn forced(&mut self, trigger: &PinnedTrigger, pinned: bool) {
        let revision = &trigger.revision;
        let subject = Subject {
            forced: true,
            revision,
            pinned,
            relation: None,
            parameters: &trigger.parameters,
            on_held: trigger.on_held.unwrap_or(self.context.policy.on_held),
            waited: false,
        };
        let decision = row(&self.out.state, self.context, &subject);
        self.record(&decision, Some(revision));
        let cause = &trigger.cause;
        match decision {
            Decision::Build => self.start(
                Start {
                    build: self.context.build,
                    revision: revision.clone(),
                    display: self.display_of(revision),
                    parameters: trigger.parameters.clone(),
                    build_key: trigger.build_key.clone(),
                    causes: vec![cause.clone()],
                    person_pinned: pinned && cause.trigger == Trigger::Manual,
                    retry_of: None,
                    attempt: 0,
                    refusals: 0,
                },
                true,
            ),
            Decision::AlreadyBuilding { build } => {
                self.receipt(cause, Some(revision), ReceiptState::Joined { build });
                if self.out.state.observed_revision() == Some(revision) {
                    self.account(revision, Settled::Joined(build));
                }
            }
            Decision::Held { policy: OnHeld::Coalesce | OnHeld::Queue { .. }, by } => {
                self.wait(trigger, pinned);
                self.receipt(cause, Some(revision), ReceiptState::Waiting { behind: by });
            }
            Decision::Held { policy, by } => {
                self.discard(policy, Some(revision), by);
                self.receipt(cause, Some(revision), ReceiptState::LostTo { build: by });
            }
            Decision::Paused => self.ended(cause, Some(revision), EndReason::Paused),
            Decision::SourceMissing => self.ended(cause, Some(revision), EndReason::SourceMissing),
            // Rows 5 to 8 and 11 are not asked of forced triggers.
            Decision::Baselined
            | Decision::Unchanged
            | Decision::Vetoed
            | Decision::RelationStale
            | Decision::Quiet { .. }
            | Decision::Reused { .. } => {}
        }
    }

    fn ended(&mut self, cause: &Cause, revision: Option<&Revision>, reason: EndReason) {
        self.receipt(cause, revision, ReceiptState::Ended { reason });
    }

    fn wait(&mut self, trigger: &PinnedTrigger, pinned: bool) {
        let own_place = pinned || !trigger.parameters.is_empty();
        if !own_place && let Some(place) = joinable(&self.out.state) {
            self.out.state.waiting[place].causes.push(trigger.cause.clone());
            return;
        }
        self.out.state.waiting.push(Request {
            causes: vec![trigger.cause.clone()],
            forced: true,
            revision: pinned.then(|| trigger.revision.clone()),
            relation: None,
            parameters: trigger.parameters.clone(),
            build_key: trigger.build_key.clone(),
            since: self.context.now,
        });
    }

    fn discard(&mut self, policy: OnHeld, revision: Option<&Revision>, by: Option<BuildId>) {
        if policy != OnHeld::DiscardLoudly {
            return;
        }
        let mark = by.zip(revision.cloned());
        if mark.is_none() || self.out.state.discarded != mark {
            self.out.state.discarded = mark;
            self.out.events.push(EventKind::Discarded { revision: revision.cloned(), held_by: by });
        }
    }

    /// The look itself: automatic, with the pushes that awaited it.
    fn look(&mut self, satisfies: &[ReceiptId]) {
        let pushes: Vec<Cause> = self.take_stored(satisfies, false).into_iter().map(|s| s.cause).collect();
        self.automatic(pushes, true);
    }

    /// The stored observation, at a release: under a discard policy the next look finds it.
    fn debt(&mut self) {
        let discards = matches!(self.context.policy.on_held, OnHeld::DiscardLoudly | OnHeld::DiscardSilently);
        if self.is_free() && self.out.state.in_debt() && !discards {
            self.automatic(Vec::new(), false);
        }
    }

    fn automatic(&mut self, pushes: Vec<Cause>, is_look: bool) {
        let Some(observed) = self.out.state.observed.clone() else { return };
        let revision = &observed.revision;
        let none = Parameters::new();
        let subject = Subject {
            forced: false,
            revision,
            pinned: false,
            relation: Some(&observed.relation),
            parameters: &none,
            on_held: self.context.policy.on_held,
            waited: false,
        };
        let decision = row(&self.out.state, self.context, &subject);
        // Looks that repeat themselves are counted where they are written; what is decided at a release is recorded.
        let counted = is_look && self.only_repeats(&decision, revision);
        self.out.decided.push(Decided {
            decision: decision.clone(),
            revision: Some(revision.clone()),
            counted,
        });
        self.out.state.last_decision = match decision {
            Decision::Unchanged => self.out.state.last_decision.take(),
            _ => Some(LastDecision { decision: decision.name().into(), revision: Some(revision.clone()) }),
        };
        let state = match decision {
            Decision::Build => {
                let causes = if pushes.is_empty() { vec![Cause::look()] } else { pushes };
                self.start(
                    Start {
                        build: self.context.build,
                        revision: revision.clone(),
                        display: observed.display.clone(),
                        parameters: Parameters::new(),
                        build_key: None,
                        causes,
                        person_pinned: false,
                        retry_of: None,
                        attempt: 0,
                        refusals: 0,
                    },
                    false,
                );
                return;
            }
            Decision::Reused { build } => {
                self.reuse(revision, build);
                ReceiptState::Reused { build }
            }
            Decision::AlreadyBuilding { build } => {
                self.account(revision, Settled::Joined(build));
                ReceiptState::Joined { build }
            }
            Decision::Held { policy: OnHeld::Queue { .. }, by } => {
                self.out.state.waiting.push(Request {
                    causes: if pushes.is_empty() { vec![Cause::look()] } else { pushes.clone() },
                    forced: false,
                    revision: Some(revision.clone()),
                    relation: Some(observed.relation.clone()),
                    parameters: Parameters::new(),
                    build_key: None,
                    since: self.context.now,
                });
                ReceiptState::Waiting { behind: by }
            }
            Decision::Held { policy: OnHeld::Coalesce, .. } => {
                ReceiptState::Ended { reason: EndReason::Coalesced }
            }
            Decision::Held { policy, by } => {
                self.discard(policy, Some(revision), by);
                ReceiptState::LostTo { build: by }
            }
            Decision::Baselined => {
                self.account(revision, Settled::Baseline);
                ReceiptState::Ended { reason: EndReason::Baselined }
            }
            Decision::Vetoed => {
                if self.out.state.vetoed.as_ref() != Some(revision) {
                    self.out.state.vetoed = Some(revision.clone());
                    self.out.events.push(EventKind::Vetoed {
                        revision: revision.clone(),
                        relation: observed.relation.relation,
                    });
                }
                ReceiptState::Ended { reason: EndReason::Vetoed }
            }
            Decision::RelationStale => {
                self.look_within(Duration::ZERO);
                ReceiptState::Ended { reason: EndReason::RelationStale }
            }
            Decision::Quiet { until: end } => {
                self.look_within(until(self.context.now, end));
                ReceiptState::Ended { reason: EndReason::Quiet { until: end } }
            }
            Decision::Unchanged => ReceiptState::Ended { reason: EndReason::Unchanged },
            Decision::Paused => ReceiptState::Ended { reason: EndReason::Paused },
            Decision::SourceMissing => ReceiptState::Ended { reason: EndReason::SourceMissing },
        };
        for cause in &pushes {
            self.receipt(cause, Some(revision), state.clone());
        }
    }

    /// Whether a decision about a look changes nothing and says what the last one said.
    fn only_repeats(&self, decision: &Decision, revision: &Revision) -> bool {
        match decision {
            Decision::Unchanged => true,
            Decision::Build
            | Decision::Reused { .. }
            | Decision::Baselined
            | Decision::AlreadyBuilding { .. } => false,
            Decision::Held { policy: OnHeld::Queue { .. }, .. } => false,
            _ => self
                .out
                .state
                .last_decision
                .as_ref()
                .is_some_and(|l| l.decision == decision.name() && l.revision.as_ref() == Some(revision)),
        }
    }

    fn not_found(&mut self, satisfies: &[ReceiptId], twice: bool) {
        self.record(&Decision::SourceMissing, None);
        let last = LastDecision { decision: Decision::SourceMissing.name().into(), revision: None };
        if let Some(decided) = self.out.decided.last_mut() {
            decided.counted = self.out.state.last_decision.as_ref() == Some(&last);
        }
        self.out.state.last_decision = Some(last);
        if !twice {
            return;
        }
        for forced in [true, false] {
            for trigger in self.take_stored(satisfies, forced) {
                self.ended(&trigger.cause, None, EndReason::SourceMissing);
            }
        }
    }

    /// An owed retry whose time has come, as a forced request that names its revision.
    fn retry(&mut self) {
        self.drop_dead_retry();
        let Some(retry) = self.out.state.retry.clone() else { return };
        let Some(not_before) = retry.not_before else { return };
        if self.out.state.held.is_some() || self.out.state.paused.is_some() {
            return;
        }
        // A clock that was set back must not stretch the wait: no retry waits longer than the longest back-off.
        let wait = until(self.context.now, not_before).min(Duration::from_secs(3_600));
        if wait > Duration::ZERO {
            self.evaluate_within(wait);
            return;
        }
        if self.context.lock != LockView::AsStored {
            self.evaluate_within(HELD_ELSEWHERE);
            return;
        }
        if !self.out.state.waiting.is_empty() {
            return;
        }
        self.record(&Decision::Build, Some(&retry.revision));
        self.start(
            Start {
                build: self.context.build,
                display: self.display_of(&retry.revision),
                revision: retry.revision.clone(),
                parameters: retry.parameters,
                build_key: retry.build_key,
                causes: vec![Cause {
                    trigger: Trigger::Retry,
                    requester: None,
                    receipt: None,
                    project_build: None,
                }],
                person_pinned: false,
                retry_of: Some(retry.of),
                attempt: retry.attempt,
                refusals: retry.refusals,
            },
            true,
        );
    }

    /// A retry lives exactly as long as its revision is the accounted one.
    fn drop_dead_retry(&mut self) {
        let accounted = self.out.state.accounted_revision().cloned();
        if self.out.state.retry.as_ref().is_some_and(|r| Some(&r.revision) != accounted.as_ref()) {
            self.out.state.retry = None;
        }
    }

    fn display_of(&self, revision: &Revision) -> Option<String> {
        self.out.state.observed.as_ref().filter(|o| o.revision == *revision).and_then(|o| o.display.clone())
    }

    fn account(&mut self, revision: &Revision, by: Settled) {
        if self.out.state.accounted_revision() != Some(revision) {
            self.out.state.vetoed = None;
            self.out.state.discarded = None;
        }
        self.out.state.accounted = Some(Accounted { revision: revision.clone(), by });
    }

    fn reuse(&mut self, revision: &Revision, build: BuildId) {
        self.account(revision, Settled::Reused(build));
        self.out.state.linked = Some(Linked { build, revision: revision.clone() });
        self.out.state.held_at = None;
        self.out.reused = Some(build);
        self.out.events.push(EventKind::Linked { build });
    }

    /// Row 12: the dependency is held by this build from now on.
    fn start(&mut self, start: Start, forced: bool) {
        let state = &mut self.out.state;
        state.fence += 1;
        state.builds += 1;
        state.held = Some(Held {
            owner: start.build,
            fence: state.fence,
            revision: start.revision.clone(),
            epoch: state.epoch,
            parameters: start.parameters.clone(),
            stopping: false,
            since: self.context.now,
        });
        if state.retry.as_ref().is_some_and(|r| r.revision == start.revision) {
            state.retry = None;
        }
        if !forced || state.observed_revision() == Some(&start.revision) {
            self.account(&start.revision, Settled::Built(start.build));
        }
        for cause in &start.causes {
            self.receipt(cause, Some(&start.revision), ReceiptState::Started { build: start.build });
        }
        self.out
            .events
            .push(EventKind::BuildStarted { build: start.build, revision: start.revision.clone() });
        self.out.start = Some(start);
    }

    fn look_within(&mut self, wait: Duration) {
        let within = self.out.look_within.get_or_insert(wait);
        *within = (*within).min(wait);
    }

    fn evaluate_within(&mut self, wait: Duration) {
        let within = self.out.evaluate_within.get_or_insert(wait);
        *within = (*within).min(wait);
    }

    fn finish(mut self) -> Evaluation {
        self.drop_dead_retry();
        if let LockView::HeldElsewhere { .. } = self.context.lock
            && self.out.state.held.is_none()
            && (self.out.state.in_debt() || !self.out.state.waiting.is_empty())
        {
            self.evaluate_within(HELD_ELSEWHERE);
        }
        let state = &mut self.out.state;
        settle_debt(state, self.context.now);
        self.out
    }
}

/// Keeps the time since when observed differs from accounted.
pub(super) fn settle_debt(state: &mut DependencyState, now: Timestamp) {
    if state.in_debt() {
        state.debt_since.get_or_insert(now);
    } else {
        state.debt_since = None;
    }
}
