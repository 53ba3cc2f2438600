//! Decisions: nothing is owed that a free dependency does not build, nothing overtakes, nothing is decided in silence.

use super::{
    Checker, Seen,
    due::COMMIT_WITHIN,
    table::{Row, row},
};
use capomastro_core::{
    events::EventKind,
    model::{
        Cause, DependencyId, DependencyState, EndReason, Health, OnHeld, Receipt, ReceiptState, Request,
    },
    store::{Batch, Key, Record, Task},
    time::Timestamp,
};

/// By what a request is known: the first trigger that it collects, or when it came.
fn name(request: &Request) -> (Option<capomastro_core::model::ReceiptId>, Timestamp) {
    (request.causes.first().and_then(|c| c.receipt), request.since)
}

impl Checker {
    pub(super) fn check_decisions(&mut self, seen: &Seen<'_>) {
        for change in seen.changes() {
            match (change.before, change.after) {
                (Some(Record::State(old)), Record::State(new)) => self.state_goes_on(seen, old, new),
                (None, Record::State(new)) => self.account_is_true(seen, None, new),
                (before, Record::Receipt(new)) => {
                    let old = match before {
                        Some(Record::Receipt(r)) => Some(r),
                        _ => None,
                    };
                    self.receipt_goes_on(seen, old, new);
                }
                _ => {}
            }
        }
        for event in &seen.batch.events {
            if let (EventKind::Decided { decision, build: Some(build), .. }, true) = (&event.kind, true)
                && decision == "Build"
            {
                let writes =
                    seen.batch.puts.iter().any(|p| matches!(&p.record, Record::Build(b) if b.id == *build));
                self.check(writes, "I11", || format!("build {build} is decided and not written"));
            }
        }
    }

    fn state_goes_on(&mut self, seen: &Seen<'_>, old: &DependencyState, new: &DependencyState) {
        let id = new.id;
        let grows = new.epoch >= old.epoch
            && new.applied_ticket >= old.applied_ticket
            && new.fence >= old.fence
            && new.builds >= old.builds;
        self.check(grows, "I9", || format!("a number of {id} goes back"));
        let looked = seen.holds(Task::Look(id)) && old.applied_ticket != new.applied_ticket;
        if looked {
            self.look_is_true(old, new);
        }
        self.account_is_true(seen, Some(old), new);
        self.check_order(seen, old, new);
        if old.accounted.as_ref().map(|a| &a.revision) != new.accounted.as_ref().map(|a| &a.revision)
            && new.epoch == old.epoch
        {
            let decided = seen
                .batch
                .events
                .iter()
                .any(|e| e.dependency == Some(id) && matches!(e.kind, EventKind::Decided { .. }));
            self.check(decided, "I11", || format!("what is accounted of {id} moved without a record"));
        }
        if let (Some(accounted), true) = (&new.accounted, old.accounted != new.accounted) {
            let seen_now = new.observed_revision() == Some(&accounted.revision);
            let waited =
                old.waiting.iter().any(|r| !r.forced && r.revision.as_ref() == Some(&accounted.revision));
            self.check(seen_now || waited, "I3", || {
                format!("{id} accounts for {} that no look saw", accounted.revision)
            });
        }
    }

    /// Requests start in their order, and none overtakes.
    fn check_order(&mut self, seen: &Seen<'_>, old: &DependencyState, new: &DependencyState) {
        let place =
            |r: &Request| old.waiting.iter().position(|o| name(o) == name(r) && o.revision == r.revision);
        let mut last = None;
        for request in &new.waiting {
            let now = place(request);
            let in_order = match (last, now) {
                (Some(None), Some(_)) => false,
                (Some(Some(a)), Some(b)) => a < b,
                _ => true,
            };
            self.check(in_order, "I10", || format!("a request of {} overtook another", new.id));
            last = Some(now);
        }
        let started = seen.batch.puts.iter().find_map(|p| match &p.record {
            Record::Build(b) if b.dependency == new.id && seen.before(&Key::Build(b.id)).is_none() => Some(b),
            _ => None,
        });
        if let Some(build) = started {
            let is_its = |r: &Request| {
                r.causes.iter().any(|c: &Cause| c.receipt.is_some() && build.causes.contains(c))
            };
            if let Some(head) = old.waiting.iter().position(is_its) {
                let passed =
                    old.waiting[..head].iter().any(|r| new.waiting.iter().any(|n| name(n) == name(r)));
                self.check(!passed, "I10", || {
                    format!("build {} started before a request that came first", build.id)
                });
            }
        }
    }

    fn receipt_goes_on(&mut self, seen: &Seen<'_>, old: Option<&Receipt>, new: &Receipt) {
        if let Some(old) = old {
            let refused = matches!(new.state, ReceiptState::Ended { reason: EndReason::Refused });
            let stays = !old.is_settled() || old.state == new.state || refused;
            self.check(stays, "I8", || {
                format!("receipt {} was {:?} and became {:?}", new.id, old.state, new.state)
            });
        }
        let awaited = Self::receipt_state(old.map(|r| Record::Receipt(r.clone())).as_ref())
            == Some(&ReceiptState::AwaitsLook);
        if new.state == ReceiptState::AwaitsLook {
            if !awaited {
                self.awaits.insert(new.id, self.step);
            }
            return;
        }
        if let (true, Some(since)) = (awaited, self.awaits.remove(&new.id)) {
            let by_person = matches!(
                new.state,
                ReceiptState::Ended {
                    reason: EndReason::Deleted | EndReason::Superseded | EndReason::Withdrawn { .. }
                }
            );
            let probed = match seen.before(&Key::Dependency(new.dependency)) {
                Some(Record::Dependency(d)) => self.probed.get(d.name.as_str()).copied().unwrap_or_default(),
                _ => 0,
            };
            self.check(by_person || probed > since, "I8", || {
                format!(
                    "trigger {} was answered as {:?} without a look that started after it",
                    new.id, new.state
                )
            });
        }
        if let ReceiptState::Started { build } | ReceiptState::Joined { build } = new.state {
            let key = Key::Build(build);
            let is_there =
                seen.before(&key).is_some() || seen.batch.puts.iter().any(|p| p.record.key() == key);
            self.check(is_there, "I8", || {
                format!("receipt {} names build {build}, which is not there", new.id)
            });
        }
    }

    /// After an evaluation, a free dependency in debt has a reason by the table, and nothing waits at a free lock.
    pub(super) fn check_release(&mut self, batch: &Batch, id: DependencyId, at: Timestamp) {
        let (Some(state), Some(dependency)) = (self.state(id), self.dependency(id)) else { return };
        if state.deleted || state.held.is_some() || state.paused.is_some() || self.lock_is_elsewhere {
            return;
        }
        if !state.waiting.is_empty() {
            let n = state.waiting.len();
            return self.fail("I10", || format!("{n} requests wait at the free lock of {id}"));
        }
        // A build that ended long ago may be written for its links alone.
        let is_driven = |build| batch.due.iter().any(|due| due.task() == Task::Drive(build));
        let ended = batch.puts.iter().any(|p| {
            matches!(&p.record, Record::Build(b) if b.dependency == id && b.phase.is_terminal() && is_driven(b.id))
        });
        let looked = batch.claims.iter().any(|c| c.task == Task::Look(id));
        let evaluated = looked || ended || batch.claims.iter().any(|c| c.task == Task::Evaluate(id));
        let discards = matches!(dependency.policy.on_held, OnHeld::DiscardSilently | OnHeld::DiscardLoudly);
        if !evaluated
            || state.health != Health::Healthy
            || !state.in_debt()
            || (discards && !looked)
            || state.retry.is_some()
        {
            return;
        }
        let said = state.last_decision.as_ref().map(|l| l.decision.as_str());
        // A commit may be repeated until the time to be quiet is over.
        let decided_at = if said == Some("Quiet") { at - COMMIT_WITHIN } else { at };
        if row(state, &dependency.policy, decided_at) == Some(Row::Build) {
            let (observed, said) = (state.observed_revision().cloned(), said.map(str::to_owned));
            self.fail("I3", || format!("{id} is free and in debt at {observed:?}, and not built: {said:?}"));
        }
    }
}
