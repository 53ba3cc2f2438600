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
                retry_after: None,
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
                && observed.relation.accounted.as_ref() != state.accounted_revision()
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

/// Somebody asked, or changed what is looked at: a look that fails backs off as the first one does.
pub const fn begin_backoff_anew(state: &mut DependencyState) {
    if let Health::Failing { failures, .. } = &mut state.health {
        *failures = 0;
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Accounted, BuildId, DependencyId, Relation, Settled};
    use uuid::Uuid;

    fn rev(text: &str) -> Revision {
        text.parse().unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_400_000_000 + seconds, 0).unwrap()
    }

    fn look(ticket: u64, accounted: Option<&str>) -> Look {
        Look { ticket, epoch: 1, accounted: accounted.map(rev), satisfies: Vec::new() }
    }

    fn is_at(revision: &str, relation: Option<Relation>) -> Answer {
        Answer::Probed(Probed::Observed(Observation { relation, ..Observation::of(rev(revision)) }))
    }

    fn failed(permanent: bool) -> Answer {
        let kind = if permanent { ErrorKind::PermissionDenied } else { ErrorKind::Unavailable };
        Answer::Failed(ProbeFailure { kind, permanent, message: format!("{kind:?}"), retry_after: None })
    }

    fn new() -> DependencyState {
        DependencyState::new(DependencyId::from_uuid(Uuid::from_u128(1)))
    }

    /// `revision` was seen and built.
    fn built(revision: &str) -> DependencyState {
        let mut state = detect(&new(), &look(1, None), &is_at(revision, None), at(0)).state;
        state.accounted = Some(Accounted {
            revision: rev(revision),
            by: Settled::Built(BuildId::from_uuid(Uuid::from_u128(2))),
        });
        state.debt_since = None;
        state
    }

    fn health(event: &EventKind) -> Option<&str> {
        match event {
            EventKind::HealthChanged { health, .. } => Some(health),
            _ => None,
        }
    }

    #[test]
    fn what_an_answer_means() {
        let probed = |p: Probed| Answer::Probed(p);
        for (nothing_seen, answer, detection) in [
            (true, is_at("A", None), Detection::Seen),
            (false, is_at("A", None), Detection::Seen),
            (true, probed(Probed::SameAsSeen), Detection::Failed),
            (false, probed(Probed::SameAsSeen), Detection::Seen),
            (true, probed(Probed::Nothing), Detection::Nothing),
            (false, probed(Probed::Nothing), Detection::Seen),
            (true, probed(Probed::NotFound), Detection::NotFound { twice: false }),
            (false, probed(Probed::NotFound), Detection::NotFound { twice: false }),
            (true, failed(false), Detection::Failed),
            (false, failed(true), Detection::Failed),
        ] {
            let state = if nothing_seen { new() } else { built("A") };
            let detected = detect(&state, &look(2, None), &answer, at(1));
            assert_eq!(detected.detection, detection, "{answer:?}, nothing seen before: {nothing_seen}");
            assert_eq!(detected.state.applied_ticket, 2);
        }
    }

    #[test]
    fn an_answer_is_stale_by_ticket_epoch_or_deletion() {
        let mut state = built("A");
        state.applied_ticket = 5;
        for ticket in [1, 4, 5] {
            let detected = detect(&state, &look(ticket, None), &is_at("B", None), at(1));
            assert_eq!(
                (detected.detection, &detected.state, detected.events.len()),
                (Detection::Stale, &state, 0)
            );
        }
        assert_eq!(detect(&state, &look(6, None), &is_at("B", None), at(1)).detection, Detection::Seen);
        for answer in [is_at("B", None), failed(false), Answer::Probed(Probed::NotFound)] {
            let old = Look { epoch: 0, ..look(6, None) };
            assert_eq!(detect(&state, &old, &answer, at(1)).detection, Detection::Stale);
            let deleted = DependencyState { deleted: true, ..state.clone() };
            assert_eq!(detect(&deleted, &look(6, None), &answer, at(1)).detection, Detection::Stale);
        }
    }

    #[test]
    fn what_is_seen_is_kept_and_told_when_it_moves() {
        let mut seen = Observation::of(rev("B"));
        seen.cursor = Some("etag".into());
        seen.display = Some("r2".into());
        seen.relation = Some(Relation::Rewound);
        seen.metadata.insert("author".into(), "somebody".into());
        let answer = Answer::Probed(Probed::Observed(seen.clone()));
        let detected = detect(&built("A"), &look(2, Some("A")), &answer, at(7));
        let observed = detected.state.observed.clone().unwrap();
        assert_eq!(
            (&observed.revision, &observed.cursor, &observed.display),
            (&seen.revision, &seen.cursor, &seen.display)
        );
        assert_eq!(
            observed.relation,
            RelationTo { accounted: Some(rev("A")), relation: Some(Relation::Rewound) }
        );
        assert_eq!((observed.metadata, observed.moved_at), (seen.metadata, at(7)));
        assert_eq!(detected.state.debt_since, Some(at(7)));
        assert_eq!(
            detected.events,
            [EventKind::Observed { revision: rev("B"), relation: Some(Relation::Rewound) }]
        );
        let again = detect(&detected.state, &look(3, Some("A")), &answer, at(9));
        let observed = again.state.observed.unwrap();
        assert_eq!((observed.moved_at, again.state.debt_since, again.events.len()), (at(7), Some(at(7)), 0));
    }

    #[test]
    fn a_cursor_that_changes_without_the_revision_is_kept() {
        let mut seen = Observation::of(rev("A"));
        seen.cursor = Some("another".into());
        let detected =
            detect(&built("A"), &look(2, Some("A")), &Answer::Probed(Probed::Observed(seen)), at(1));
        assert_eq!(detected.state.observed.unwrap().cursor.as_deref(), Some("another"));
    }

    #[test]
    fn what_is_seen_is_bounded() {
        let mut seen = Observation::of(rev("A"));
        seen.display = Some("d".repeat(5_000));
        let detected = detect(&new(), &look(1, None), &Answer::Probed(Probed::Observed(seen)), at(1));
        assert_eq!(detected.state.observed.unwrap().display.unwrap().len(), 1_024);
    }

    #[test]
    fn a_relation_is_stored_with_the_revision_that_the_probe_was_told_of() {
        let state = built("B");
        let answer = is_at("C", Some(Relation::Diverged));
        let detected = detect(&state, &look(2, Some("A")), &answer, at(1));
        let told = RelationTo { accounted: Some(rev("A")), relation: Some(Relation::Diverged) };
        assert_eq!(detected.state.observed.unwrap().relation, told);
    }

    #[test]
    fn what_a_304_leaves_of_a_relation() {
        let forward = Some(Relation::Forward { by: Some(1) });
        // What it refers to, what is accounted, what this look was told, what is left of it.
        for (refers, told, kept) in [
            ("A", "A", RelationTo { accounted: Some(rev("A")), relation: forward }),
            ("A", "0", RelationTo { accounted: Some(rev("A")), relation: forward }),
            ("0", "A", RelationTo { accounted: Some(rev("A")), relation: None }),
            ("0", "0", RelationTo { accounted: Some(rev("0")), relation: None }),
        ] {
            let mut state = detect(&built("A"), &look(2, Some(refers)), &is_at("B", forward), at(1)).state;
            for probed in [Probed::SameAsSeen, Probed::Nothing] {
                state = detect(
                    &state,
                    &look(state.applied_ticket + 1, Some(told)),
                    &Answer::Probed(probed),
                    at(2),
                )
                .state;
                assert_eq!(state.observed.as_ref().unwrap().relation, kept, "of {refers}, told {told}");
            }
        }
    }

    #[test]
    fn not_found_counts_to_two_and_only_a_good_answer_resets_it() {
        let answers = [
            (Answer::Probed(Probed::NotFound), 1, "healthy"),
            (failed(false), 1, "failing"),
            (Answer::Probed(Probed::NotFound), 2, "missing"),
            (Answer::Probed(Probed::NotFound), 2, "missing"),
            (failed(false), 2, "failing"),
            (Answer::Probed(Probed::NotFound), 2, "missing"),
            (Answer::Probed(Probed::SameAsSeen), 0, "healthy"),
            (Answer::Probed(Probed::NotFound), 1, "healthy"),
            (is_at("A", None), 0, "healthy"),
        ];
        let mut state = built("A");
        for (n, (answer, count, word)) in answers.into_iter().enumerate() {
            let before = state.health.as_str();
            let detected = detect(&state, &look(n as u64 + 2, None), &answer, at(n as i64));
            state = detected.state;
            assert_eq!((state.not_found, state.health.as_str()), (count, word), "after answer {n}");
            let told: Vec<_> = detected.events.iter().filter_map(health).collect();
            assert_eq!(told, if before == word { vec![] } else { vec![word] }, "only a change is told");
        }
        let nothing = detect(
            &DependencyState { not_found: 2, ..new() },
            &look(9, None),
            &Answer::Probed(Probed::Nothing),
            at(1),
        );
        assert_eq!(nothing.state.not_found, 0);
    }

    #[test]
    fn failures_are_counted_for_the_back_off_and_a_good_answer_begins_anew() {
        let mut state = built("A");
        for n in 1..=5 {
            let permanent = n % 2 == 0;
            state = detect(&state, &look(n + 1, None), &failed(permanent), at(n as i64)).state;
            let kind = if permanent { ErrorKind::PermissionDenied } else { ErrorKind::Unavailable };
            let expected = Health::Failing {
                failures: u32::try_from(n).unwrap(),
                kind: kind.as_str().into(),
                message: format!("{kind:?}"),
                since: at(1),
            };
            assert_eq!(state.health, expected);
        }
        let good = detect(&state, &look(9, None), &is_at("A", None), at(9)).state;
        assert_eq!(good.health, Health::Healthy);
        let mut asked = state;
        begin_backoff_anew(&mut asked);
        let asked = detect(&asked, &look(9, None), &failed(false), at(9)).state;
        assert_eq!(asked.health.failures(), 1);
    }

    #[test]
    fn a_debt_begins_when_what_is_seen_differs_and_ends_when_it_is_back() {
        let mut state = built("A");
        let mut debt = |n: u64, revision: &str| {
            state = detect(&state, &look(n + 1, Some("A")), &is_at(revision, None), at(n as i64)).state;
            state.debt_since
        };
        assert_eq!(debt(1, "A"), None);
        assert_eq!(debt(2, "B"), Some(at(2)));
        assert_eq!(debt(3, "C"), Some(at(2)));
        assert_eq!(debt(4, "A"), None);
        assert_eq!(debt(5, "C"), Some(at(5)));
    }
}
