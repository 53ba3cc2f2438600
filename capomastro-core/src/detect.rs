//! What does this answer of a probe mean? Pure: rows 1 to 3 of the decision table.

use crate::{
    error::ErrorKind,
    events::EventKind,
    model::{DependencyState, Health, Observation, Observed, ProbeFailure, ReceiptId, RelationTo, Revision},
    probe::Probed,
    time::Timestamp,
};

/// What was known when a look was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The ticket of the claim under which it ran.
    pub ticket: u64,
    /// The source epoch of the source that was looked at.
    pub epoch: u32,
    /// The accounted revision that the probe was told of.
    pub accounted: Option<Revision>,
    /// The stored triggers that had come before it: it is the look they await.
    pub satisfies: Vec<ReceiptId>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The probe answered.
    Probed(Probed),
    /// It did not.
    Failed(ProbeFailure),
}

/// What the answer means.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Detection {
    /// Row 1: it is older than what is known. It is dropped, and its triggers stay due.
    Stale,
    /// Row 2: the source could not be looked at.
    Failed,
    /// Nothing can be said of the source yet: neither seen nor missing.
    Nothing,
    /// Row 3: the source is not there.
    NotFound {
        /// Twice running.
        twice: bool,
    },
    /// The source is at [`DependencyState::observed`].
    Seen,
}

/// An answer applied to the state: what is observed, and how looking goes. Nothing is decided yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// What it means.
    pub detection: Detection,
    /// The state with the answer applied; unchanged where it is stale.
    pub state: DependencyState,
    /// What happened.
    pub events: Vec<EventKind>,
}

/// Applies the answer of a look.
pub fn detect(state: &DependencyState, look: &Look, answer: &Answer, now: Timestamp) -> Detected {
    let mut detected = Detected { detection: Detection::Stale, state: state.clone(), events: Vec::new() };
    if look.ticket <= state.applied_ticket || look.epoch != state.epoch || state.deleted {
        return detected;
    }
    let next = &mut detected.state;
    next.applied_ticket = look.ticket;
    detected.detection = match answer {
        Answer::Failed(failure) => {
            next.health = failing(&state.health, failure, now);
            Detection::Failed
        }
        Answer::Probed(Probed::Nothing) if state.observed.is_none() => {
            next.health = Health::Healthy;
            next.not_found = 0;
            Detection::Nothing
        }
        Answer::Probed(Probed::SameAsSeen | Probed::Nothing) if state.observed.is_none() => {
            let failure = ProbeFailure {
                kind: ErrorKind::Internal,
                permanent: false,
                message: "the probe says that nothing changed, but nothing was seen before".into(),
            };
            next.health = failing(&state.health, &failure, now);
            Detection::Failed
        }
        Answer::Probed(Probed::NotFound) => {
            next.not_found = state.not_found.saturating_add(1).min(2);
            let twice = next.not_found == 2;
            next.health = match (&state.health, twice) {
                (Health::Missing { since }, true) => Health::Missing { since: *since },
                (_, true) => Health::Missing { since: now },
                (_, false) => Health::Healthy,
            };
            Detection::NotFound { twice }
        }
        Answer::Probed(Probed::SameAsSeen | Probed::Nothing) => {
            next.health = Health::Healthy;
            next.not_found = 0;
            if let Some(observed) = &mut next.observed
                && observed.relation.accounted != look.accounted
                && state.in_debt()
            {
                // Nothing new was said of the relation, and the old one refers to another revision.
                observed.relation = RelationTo { accounted: look.accounted.clone(), relation: None };
            }
            Detection::Seen
        }
        Answer::Probed(Probed::Observed(observation)) => {
            next.health = Health::Healthy;
            next.not_found = 0;
            observe(next, observation.clone().bounded(), look, now, &mut detected.events);
            Detection::Seen
        }
    };
    if next.health.as_str() != state.health.as_str() {
        let message = match &next.health {
            Health::Failing { message, .. } => Some(message.clone()),
            _ => None,
        };
        detected.events.push(EventKind::HealthChanged { health: next.health.as_str().into(), message });
    }
    detected
}

fn failing(health: &Health, failure: &ProbeFailure, now: Timestamp) -> Health {
    let since = match health {
        Health::Failing { since, .. } => *since,
        _ => now,
    };
    Health::Failing {
        failures: health.failures().saturating_add(1),
        kind: failure.kind.as_str().into(),
        message: failure.message.clone(),
        since,
    }
}

fn observe(
    state: &mut DependencyState,
    seen: Observation,
    look: &Look,
    now: Timestamp,
    events: &mut Vec<EventKind>,
) {
    let same = state.observed.as_ref().filter(|o| o.revision == seen.revision);
    let (moved_at, kept_relation) = match same {
        Some(old) => (old.moved_at, (!state.in_debt()).then(|| old.relation.clone())),
        None => (now, None),
    };
    if same.is_none() {
        events.push(EventKind::Observed { revision: seen.revision.clone(), relation: seen.relation });
    }
    let relation = kept_relation
        .unwrap_or_else(|| RelationTo { accounted: look.accounted.clone(), relation: seen.relation });
    state.observed = Some(Observed {
        revision: seen.revision,
        cursor: seen.cursor,
        display: seen.display,
        relation,
        metadata: seen.metadata,
        moved_at,
    });
    if state.in_debt() {
        state.debt_since.get_or_insert(now);
    } else {
        state.debt_since = None;
    }
}
