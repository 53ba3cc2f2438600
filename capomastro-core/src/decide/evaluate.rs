//! One evaluation: everything that waits, then what was asked, then the debt, then an owed retry.

use super::{
    Context, Decided, Decision, Evaluation, LockView, Occasion, PinnedTrigger, ReceiptChange, Start, Subject,
    row,
};
use crate::{
    events::EventKind,
    model::{
        Accounted, BuildId, Cause, DependencyState, EndReason, Held, LastDecision, Linked, OnHeld,
        Parameters, ReceiptId, ReceiptState, Relation, Request, Revision, Settled, StoredTrigger, Trigger,
    },
    schedule::MAX_BACKOFF,
    time::{Timestamp, later, until},
};
use std::time::Duration;

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
    run.no_time_from_the_future();
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

pub(super) struct Run<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) out: Evaluation,
}

impl Run<'_> {
    /// A clock that was set back must not stretch a wait beyond what the policy names.
    fn no_time_from_the_future(&mut self) {
        let now = self.context.now;
        let state = &mut self.out.state;
        if let Some(observed) = &mut state.observed {
            observed.moved_at = observed.moved_at.min(now);
        }
        state.debt_since = state.debt_since.map(|t| t.min(now));
        if let Some(not_before) = state.retry.as_mut().and_then(|r| r.not_before.as_mut()) {
            *not_before = (*not_before).min(later(now, MAX_BACKOFF));
        }
    }

    pub(super) fn is_free(&self) -> bool {
        self.out.state.held.is_none() && self.context.lock == LockView::AsStored
    }

    pub(super) fn record(&mut self, decision: &Decision, revision: Option<&Revision>) {
        self.out.decided.push(Decided {
            decision: decision.clone(),
            revision: revision.cloned(),
            counted: false,
        });
    }

    pub(super) fn receipt(&mut self, cause: &Cause, revision: Option<&Revision>, state: ReceiptState) {
        if cause.receipt.is_some() {
            self.out.receipts.push(ReceiptChange {
                cause: cause.clone(),
                revision: revision.cloned(),
                state,
            });
        }
    }

    pub(super) fn end(&mut self, causes: &[Cause], revision: Option<&Revision>, reason: &EndReason) {
        for cause in causes {
            self.receipt(cause, revision, ReceiptState::Ended { reason: reason.clone() });
        }
        let receipts: Vec<ReceiptId> = causes.iter().filter_map(|c| c.receipt).collect();
        self.out.events.push(EventKind::RequestEnded { receipts, reason: reason.clone() });
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

    fn discard(&mut self, policy: OnHeld, revision: Option<&Revision>, by: Option<BuildId>) {
        if policy != OnHeld::DiscardLoudly {
            return;
        }
        let mark = revision.map(|r| (by, r.clone()));
        if self.out.state.discarded != mark {
            self.out.state.discarded = mark;
            self.out.events.push(EventKind::Discarded { revision: revision.cloned(), held_by: by });
        }
    }

    /// Loud, once per revision.
    pub(super) fn veto(&mut self, revision: &Revision, relation: Option<Relation>) {
        if self.out.state.vetoed.as_ref() != Some(revision) {
            self.out.state.vetoed = Some(revision.clone());
            self.out.events.push(EventKind::Vetoed { revision: revision.clone(), relation });
        }
    }

    /// The look itself: automatic, with the pushes that awaited it.
    fn look(&mut self, satisfies: &[ReceiptId]) {
        let pushes: Vec<Cause> = self.take_stored(satisfies, false).into_iter().map(|s| s.cause).collect();
        self.automatic(pushes, true);
    }

    /// The stored observation, at a release.
    fn debt(&mut self) {
        if self.out.state.held.is_none() && self.debt_is_evaluated() {
            self.automatic(Vec::new(), false);
        }
    }

    /// Whether there is a debt for a release to evaluate: under a discard policy the next look finds it.
    fn debt_is_evaluated(&self) -> bool {
        let discards = matches!(self.context.policy.on_held, OnHeld::DiscardLoudly | OnHeld::DiscardSilently);
        self.out.state.in_debt() && !discards
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
        // What repeats itself is counted where looks, and asks for a lock that is kept elsewhere, are written; what else is
        // decided at a release is recorded.
        let is_asked_again = self.context.lock != LockView::AsStored;
        let counted = (is_look || is_asked_again) && self.only_repeats(&decision, revision);
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
                    on_held: None,
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
                self.veto(revision, observed.relation.relation);
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
        let wait = until(self.context.now, not_before);
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

    pub(super) fn display_of(&self, revision: &Revision) -> Option<String> {
        self.out.state.observed.as_ref().filter(|o| o.revision == *revision).and_then(|o| o.display.clone())
    }

    pub(super) fn account(&mut self, revision: &Revision, by: Settled) {
        if self.out.state.accounted_revision() != Some(revision) {
            self.out.state.vetoed = None;
            self.out.state.discarded = None;
            self.out.state.held_at = None;
        }
        self.out.state.accounted = Some(Accounted { revision: revision.clone(), by });
    }

    pub(super) fn reuse(&mut self, revision: &Revision, build: BuildId) {
        self.account(revision, Settled::Reused(build));
        self.out.state.linked = Some(Linked { build, revision: revision.clone() });
        self.out.state.held_at = None;
        self.out.reused = Some(build);
        self.out.events.push(EventKind::Linked { build });
    }

    /// Row 12: the dependency is held by this build from now on.
    pub(super) fn start(&mut self, start: Start, forced: bool) {
        let state = &mut self.out.state;
        state.fence = state.fence.saturating_add(1);
        state.builds = state.builds.saturating_add(1);
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

    pub(super) fn look_within(&mut self, wait: Duration) {
        let within = self.out.look_within.get_or_insert(wait);
        *within = (*within).min(wait);
    }

    fn evaluate_within(&mut self, wait: Duration) {
        let within = self.out.evaluate_within.get_or_insert(wait);
        *within = (*within).min(wait);
    }

    fn finish(mut self) -> Evaluation {
        if let LockView::HeldElsewhere { .. } = self.context.lock
            && self.out.state.held.is_none()
            && (self.debt_is_evaluated() || !self.out.state.waiting.is_empty())
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
