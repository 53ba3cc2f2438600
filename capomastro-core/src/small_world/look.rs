//! Looks and triggers.

use super::{Sight, World};
use crate::{
    decide::{Occasion, PinnedTrigger},
    detect::{Answer, Detection, Look, begin_backoff_anew, detect},
    error::ErrorKind,
    link::{Asked, WholeRequest, end_note},
    model::{
        Cause, EndReason, Observation, OnHeld, Parameters, ProbeFailure, ProjectBuildId, ProjectId,
        ReceiptId, ReceiptState, StoredTrigger, Trigger,
    },
    probe::Probed,
    sample,
};
use std::collections::{BTreeMap, BTreeSet};

impl World {
    pub(super) fn begin_look(&mut self, d: usize) -> Option<Look> {
        let state = &self.dependencies[d].state;
        if state.deleted {
            return None;
        }
        self.tickets += 1;
        Some(Look {
            ticket: self.tickets,
            epoch: state.epoch,
            accounted: state.accounted_revision().cloned(),
            satisfies: state.stored.iter().map(|s| s.receipt).collect(),
        })
    }

    pub(super) fn answer(&mut self, d: usize, look: &Look, sight: Sight) -> bool {
        let answer = answer_of(sight);
        let before = self.dependencies[d].state.clone();
        let detected = detect(&before, look, &answer, self.now);
        if detected.detection == Detection::Stale {
            assert_eq!(detected.state, before, "a stale answer changes nothing");
            return true;
        }
        if detected.detection == Detection::Failed {
            crate::decide::tests::laws::a_failed_look_changes_nothing_else(&before, &detected.state);
        }
        let mut satisfies = look.satisfies.clone();
        let seen = detected.detection == Detection::Seen;
        let dependency = &mut self.dependencies[d];
        dependency.state = detected.state;
        if seen {
            dependency.seen.extend(dependency.state.observed_revision().map(ToString::to_string));
            if std::mem::take(&mut dependency.regardless) {
                satisfies.push(self.store(d, Trigger::Schedule, Parameters::new(), None, None));
            }
        }
        let occasion = match detected.detection {
            Detection::Seen => Occasion::Seen { satisfies },
            Detection::NotFound { twice } => Occasion::NotFound { satisfies, twice },
            Detection::Failed | Detection::Nothing | Detection::Stale => return true,
        };
        self.evaluate(d, &occasion);
        let state = &self.dependencies[d].state;
        let again = detect(state, look, &answer, self.now);
        assert_eq!((again.detection, &again.state), (Detection::Stale, state), "applied twice");
        true
    }

    fn store(
        &mut self,
        d: usize,
        trigger: Trigger,
        parameters: Parameters,
        on_held: Option<OnHeld>,
        project_build: Option<(ProjectId, ProjectBuildId)>,
    ) -> ReceiptId {
        let receipt = ReceiptId::from_uuid(self.draw());
        let cause = Cause { trigger, requester: None, receipt: Some(receipt), project_build };
        self.receipts.insert(receipt, ReceiptState::AwaitsLook);
        let state = &mut self.dependencies[d].state;
        if trigger != Trigger::Schedule {
            begin_backoff_anew(state);
        }
        state.stored.push(StoredTrigger {
            cause,
            receipt,
            parameters,
            build_key: None,
            on_held,
            since: self.now,
        });
        receipt
    }

    pub(super) fn push(&mut self, d: usize) -> bool {
        let can = !self.dependencies[d].state.deleted;
        if can {
            self.store(d, Trigger::Push, Parameters::new(), None, None);
        }
        can
    }

    pub(super) fn manual(&mut self, d: usize, own: bool, on_held: Option<OnHeld>) -> bool {
        let can = self.can_ask(d);
        if can {
            let own = own.then(|| ("flavour".to_owned(), "debug".to_owned()));
            self.store(d, Trigger::Manual, own.into_iter().collect(), on_held, None);
        }
        can
    }

    fn can_ask(&self, d: usize) -> bool {
        let state = &self.dependencies[d].state;
        !state.deleted && state.paused.is_none()
    }

    pub(super) fn pinned(&mut self, d: usize, revision: &str, on_held: Option<OnHeld>) -> bool {
        if !self.can_ask(d) {
            return false;
        }
        let receipt = ReceiptId::from_uuid(self.draw());
        self.receipts.insert(receipt, ReceiptState::AwaitsLook);
        let cause =
            Cause { trigger: Trigger::Manual, requester: None, receipt: Some(receipt), project_build: None };
        self.evaluate(
            d,
            &Occasion::Pinned(PinnedTrigger {
                cause,
                revision: sample::revision(revision),
                parameters: Parameters::new(),
                build_key: None,
                on_held,
            }),
        );
        let state = self.receipts.get(&receipt);
        assert_ne!(state, Some(&ReceiptState::AwaitsLook), "decided in the call");
        true
    }

    /// Asks for all members of a project that are not pinned, and for the one whose pin is to move.
    pub(super) fn whole(&mut self, p: usize, moving: Option<usize>) -> bool {
        let project = self.projects[p].clone();
        let place = |d: usize| self.dependencies[d].state.id;
        let moving: BTreeSet<_> = moving.map(place).into_iter().collect();
        let is_chosen = |d: &usize| {
            let member = project.members.get(&place(*d));
            member.is_some_and(|m| m.pin.is_none() || moving.contains(&place(*d)))
        };
        let chosen: Vec<usize> = (0..self.dependencies.len()).filter(is_chosen).collect();
        if chosen.is_empty() || !moving.iter().all(|d| project.members.contains_key(d)) {
            return false;
        }
        let id = ProjectBuildId::from_uuid(self.draw());
        let mut asked = BTreeMap::new();
        for d in chosen {
            let state = &self.dependencies[d].state;
            let dependency = state.id;
            let answer = if state.paused.is_some() {
                Asked::Not(end_note(&ReceiptState::Ended { reason: EndReason::Paused }).unwrap())
            } else {
                let carried = Some((project.id, id));
                Asked::Receipt(self.store(d, Trigger::Manual, Parameters::new(), None, carried))
            };
            asked.insert(dependency, answer);
        }
        let request = WholeRequest { chosen: asked, move_pins: moving, build_key: None, requester: None };
        let mut view = self.view(p);
        view.request_whole(request, &mut || id).unwrap();
        self.put_view(view);
        true
    }
}

fn answer_of(sight: Sight) -> Answer {
    Answer::Probed(match sight {
        Sight::At(revision, relation) => {
            Probed::Observed(Observation { relation, ..Observation::of(sample::revision(revision)) })
        }
        Sight::Same => Probed::SameAsSeen,
        Sight::Nothing => Probed::Nothing,
        Sight::NotFound => Probed::NotFound,
        Sight::Failed => {
            return Answer::Failed(ProbeFailure {
                kind: ErrorKind::Unavailable,
                permanent: false,
                message: "the host does not answer".into(),
                retry_after: None,
            });
        }
    })
}
