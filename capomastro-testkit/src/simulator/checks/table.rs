//! The decision table once more, for the one case that the checker asks of it: a look's own revision at a free dependency
//! that waits for nothing. Written from the specification, without the code of the scheduler.

use capomastro_core::{
    model::{DependencyState, First, Policy, Relation},
    time::Timestamp,
};
use chrono::TimeDelta;
use std::time::Duration;

/// What is to be done about what is observed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Row {
    SourceMissing,
    Paused,
    Baselined,
    Unchanged,
    RelationStale,
    Vetoed,
    Quiet,
    Build,
}

fn after(at: Timestamp, wait: Duration) -> Timestamp {
    at + TimeDelta::from_std(wait).unwrap_or(TimeDelta::MAX)
}

/// The first row that matches, for a dependency that is free, in which nothing waits, and of which no good build of what is
/// observed is known. `None` where nothing is observed.
pub(super) fn row(state: &DependencyState, policy: &Policy, now: Timestamp) -> Option<Row> {
    let observed = state.observed.as_ref()?;
    let accounted = state.accounted.as_ref().map(|a| &a.revision);
    let rows = [
        (state.not_found > 0, Row::SourceMissing),
        (state.paused.is_some(), Row::Paused),
        (accounted.is_none() && policy.first == First::Baseline, Row::Baselined),
        (accounted == Some(&observed.revision), Row::Unchanged),
        (
            is_relation_asked(state, policy) && observed.relation.accounted.as_ref() != accounted,
            Row::RelationStale,
        ),
        (is_relation_asked(state, policy) && is_forbidden(observed.relation.relation, policy), Row::Vetoed),
        (accounted.is_some() && is_quiet_wanted(state, policy, now), Row::Quiet),
    ];
    Some(rows.into_iter().find_map(|(matches, row)| matches.then_some(row)).unwrap_or(Row::Build))
}

const fn is_relation_asked(state: &DependencyState, policy: &Policy) -> bool {
    let veto = &policy.veto;
    state.accounted.is_some() && (veto.rewound || veto.diverged || veto.recreated || veto.unknown)
}

fn is_forbidden(relation: Option<Relation>, policy: &Policy) -> bool {
    let veto = &policy.veto;
    (veto.rewound && relation == Some(Relation::Rewound))
        || (veto.diverged && relation == Some(Relation::Diverged))
        || (veto.recreated && relation == Some(Relation::Recreated))
        || (veto.unknown && relation.is_none())
}

/// Whether the source was still for too short a time, and the debt is not too old.
fn is_quiet_wanted(state: &DependencyState, policy: &Policy, now: Timestamp) -> bool {
    let (Some(quiet), Some(observed)) = (policy.quiet, &state.observed) else { return false };
    let owed_since = state.debt_since.unwrap_or(observed.moved_at);
    now < after(observed.moved_at, quiet.period) && now < after(owed_since, quiet.at_most)
}
