//! The requests that wait their turn: how they come to the table, and how they came to wait.

use super::{Decision, PinnedTrigger, Start, Subject, evaluate::Run, joinable, row};
use crate::model::{EndReason, ReceiptState, Request, Settled, StoredTrigger, Trigger};
use std::time::Duration;

impl Run<'_> {
    /// The waiting requests, in order, until one starts.
    pub(super) fn flow(&mut self) {
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
                Decision::Vetoed => {
                    self.veto(&revision, request.relation.as_ref().and_then(|r| r.relation));
                    EndReason::Vetoed
                }
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
            let stored = &mut self.out.state.stored;
            let place = stored.partition_point(|s| s.since <= request.since);
            stored.insert(
                place,
                StoredTrigger {
                    cause,
                    receipt,
                    parameters: request.parameters.clone(),
                    build_key: request.build_key.clone(),
                    on_held: request.on_held,
                    since: request.since,
                },
            );
        }
        self.look_within(Duration::ZERO);
    }

    pub(super) fn wait(&mut self, trigger: &PinnedTrigger, pinned: bool) {
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
            on_held: trigger.on_held,
            since: self.context.now,
        });
    }
}
