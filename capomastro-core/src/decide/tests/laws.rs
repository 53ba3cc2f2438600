//! What must hold after every operation, whatever it was.

use super::world::World;
use crate::{
    decide::{Context, Decision, Evaluation, LockView, Occasion, evaluate},
    model::{DependencyState, Health, OnHeld, ReceiptState, Request, Settled},
    time::later,
};
use std::collections::BTreeSet;

/// A failed look changes neither what is observed, accounted or linked, nor anything that waits; it neither counts nor
/// resets how often the source was not found.
pub(crate) fn a_failed_look_changes_nothing_else(before: &DependencyState, after: &DependencyState) {
    let mut same = after.clone();
    same.applied_ticket = before.applied_ticket;
    same.health = before.health.clone();
    assert_eq!(same, *before);
    assert!(
        matches!(after.health, Health::Failing { failures, .. } if failures == before.health.failures() + 1)
    );
}

/// What is steady is decided by the table as `is_steady` says without it.
pub(super) fn a_steady_look_only_counts(before: &DependencyState, world: &World) {
    let mut same = world.state.clone();
    same.applied_ticket = before.applied_ticket;
    assert_eq!(same, *before);
    let decided: Vec<_> = world.decided.iter().map(|d| (&d.decision, d.counted)).collect();
    assert_eq!(decided, [(&Decision::Unchanged, true)]);
    assert_eq!(world.look_due, None);
    assert!(world.events.is_empty());
}

/// Fences, tickets, epochs and counters only grow.
pub(crate) fn only_grows(before: &DependencyState, after: &DependencyState) {
    assert!(after.fence >= before.fence);
    assert!(after.builds >= before.builds);
    assert!(after.epoch >= before.epoch);
    assert!(after.applied_ticket >= before.applied_ticket);
}

/// One evaluation, from the state that it was given.
pub(crate) fn evaluation(
    before: &DependencyState,
    context: &Context<'_>,
    occasion: &Occasion,
    said: &Evaluation,
) {
    starts_only_what_is_free(before, context, said);
    what_waits_keeps_its_order(before, said);
    each_is_decided_and_recorded(before, context, occasion, said);
    a_debt_is_built_unless_the_table_says_otherwise(context, said);
    accounted_moves_only_with_a_decision(before, said);
    if said.start.is_none() && !matches!(occasion, Occasion::Pinned(_)) {
        let again = evaluate(&said.state, context, &Occasion::Released);
        assert_eq!(again.start, None, "what can start, starts at once");
    }
}

/// At most one build, under a fence of its own, and never beside a lock, a pause or a deletion.
fn starts_only_what_is_free(before: &DependencyState, context: &Context<'_>, said: &Evaluation) {
    let Some(start) = &said.start else {
        assert_eq!(said.state.held, before.held);
        assert_eq!((said.state.fence, said.state.builds), (before.fence, before.builds));
        return;
    };
    assert_eq!(before.held, None, "a build is under way");
    assert!(before.paused.is_none() && !before.deleted);
    assert_eq!(context.lock, LockView::AsStored);
    let held = said.state.held.as_ref().expect("the build holds the dependency");
    assert_eq!(
        (held.owner, &held.revision, &held.parameters),
        (start.build, &start.revision, &start.parameters)
    );
    assert_eq!((held.fence, held.epoch, held.stopping), (said.state.fence, said.state.epoch, false));
    assert_eq!((said.state.fence, said.state.builds), (before.fence + 1, before.builds + 1));
    assert!(!start.causes.is_empty());
    assert!(said.state.retry.as_ref().is_none_or(|r| r.revision != start.revision));
}

/// Requests leave at the head and join at the tail; one that starts is the last that leaves.
fn what_waits_keeps_its_order(before: &DependencyState, said: &Evaluation) {
    let (old, new) = (&before.waiting, &said.state.waiting);
    let same = |a: &Request, b: &Request| {
        b.causes.starts_with(&a.causes)
            && (a.forced, &a.revision, &a.parameters, a.since)
                == (b.forced, &b.revision, &b.parameters, b.since)
    };
    let is_rest = |gone: usize| {
        let rest = &old[gone..];
        rest.len() <= new.len() && rest.iter().zip(new).all(|(a, b)| same(a, b))
    };
    let gone = (0..=old.len()).find(|n| is_rest(*n)).expect("what waits keeps its order");
    if gone > 0 {
        assert!(before.held.is_none() && before.paused.is_none(), "nothing leaves before its turn");
    }
    if let Some(start) = &said.start
        && gone < old.len()
    {
        assert_eq!(
            old[..gone].last().map(|r| &r.causes),
            Some(&start.causes),
            "nothing starts before what waits at the head"
        );
    }
}

/// No decision without a record or a count, and no record without a decision.
fn each_is_decided_and_recorded(
    before: &DependencyState,
    context: &Context<'_>,
    occasion: &Occasion,
    said: &Evaluation,
) {
    if before.deleted {
        assert!(said.decided.is_empty());
        return;
    }
    let discards = matches!(context.policy.on_held, OnHeld::DiscardLoudly | OnHeld::DiscardSilently);
    let owed = match occasion {
        Occasion::Seen { .. } | Occasion::NotFound { .. } | Occasion::Pinned(_) => true,
        Occasion::Released => before.in_debt() && before.held.is_none() && !discards,
    };
    assert!(!owed || !said.decided.is_empty(), "every evaluation leaves a decision");
    let builds: Vec<_> = said.decided.iter().filter(|d| d.decision == Decision::Build).collect();
    match &said.start {
        None => assert!(builds.is_empty(), "a decision to build that starts none"),
        Some(start) => {
            assert_eq!(builds.len(), 1);
            assert!(!builds[0].counted && builds[0].revision.as_ref() == Some(&start.revision));
        }
    }
    for counted in said.decided.iter().filter(|d| d.counted) {
        assert!(
            !matches!(
                counted.decision,
                Decision::Build
                    | Decision::Reused { .. }
                    | Decision::Baselined
                    | Decision::AlreadyBuilding { .. }
                    | Decision::Held { policy: OnHeld::Queue { .. }, .. }
            ),
            "what changes something is recorded: {counted:?}"
        );
    }
    // A receipt that is settled stays settled, and says of a start what started.
    for change in &said.receipts {
        if let ReceiptState::Started { build } = change.state {
            assert_eq!(said.start.as_ref().map(|s| s.build), Some(build));
        }
    }
}

/// Last answer good, unpaused, unlocked, nothing waiting and in debt, no discard policy, no refusal waiting, and the table
/// says none of Baselined, Vetoed, Quiet, Reused or owed retry: a build starts in that evaluation.
fn a_debt_is_built_unless_the_table_says_otherwise(context: &Context<'_>, said: &Evaluation) {
    let after = &said.state;
    let discards = matches!(context.policy.on_held, OnHeld::DiscardLoudly | OnHeld::DiscardSilently);
    if after.deleted
        || !after.in_debt()
        || after.held.is_some()
        || after.paused.is_some()
        || after.not_found > 0
        || discards
        || context.lock != LockView::AsStored
    {
        return;
    }
    assert!(after.waiting.is_empty(), "a request heads a free lock: {:?}", after.waiting);
    let observed = after.observed.as_ref().expect("in debt");
    let policy = context.policy;
    let first = after.accounted.is_none();
    let fresh = observed.relation.accounted.as_ref() == after.accounted_revision();
    let vetoed =
        !first && policy.veto.needs_relation() && (!fresh || policy.veto.forbids(observed.relation.relation));
    let quiet = !first
        && policy.quiet.is_some_and(|q| {
            let began = after.debt_since.expect("in debt");
            context.now < later(observed.moved_at, q.period) && context.now < later(began, q.at_most)
        });
    assert!(vetoed || quiet, "the debt {:?} waits for nothing", observed.revision);
    let said_so = |name: &str| said.decided.iter().any(|d| d.decision.name() == name);
    if vetoed && !fresh {
        assert!(said_so("RelationStale") && said.look_within.is_some_and(|w| w.is_zero()));
    } else {
        assert!(said_so("Vetoed") || said_so("Quiet"));
        assert!(vetoed || said.look_within.is_some(), "a look is due when it has been quiet");
    }
}

/// Accounted moves only to what a look saw, and a decision says so.
fn accounted_moves_only_with_a_decision(before: &DependencyState, said: &Evaluation) {
    let after = &said.state;
    if before.accounted == after.accounted {
        return;
    }
    let accounted = after.accounted.as_ref().expect("an evaluation never forgets what is accounted");
    let names: Vec<&str> = said
        .decided
        .iter()
        .filter(|d| d.revision.as_ref() == Some(&accounted.revision))
        .map(|d| d.decision.name())
        .collect();
    let named = match accounted.by {
        Settled::Built(_) => "Build",
        Settled::Joined(_) => "AlreadyBuilding",
        Settled::Reused(_) => "Reused",
        Settled::Baseline => "Baselined",
    };
    assert!(names.contains(&named), "{accounted:?} by {names:?}");
}

/// The dependency and all its records.
pub(super) fn world(world: &World) {
    let state = &world.state;
    the_lock_belongs_to_the_one_unfinished_build(world);
    waiting_is_bounded_by_policy(world);
    every_trigger_is_somewhere(world);
    if state.held.is_none() && state.paused.is_none() && !state.waiting.is_empty() {
        assert!(world.evaluate_due.is_some(), "a request heads a free, unpaused lock: {:?}", state.waiting);
    }
    assert_eq!(state.debt_since.is_some(), state.in_debt(), "the time of the debt");
    if let Some(retry) = &state.retry {
        assert_eq!(
            state.accounted_revision(),
            Some(&retry.revision),
            "a retry lives while its revision is accounted"
        );
    }
    if let Some(accounted) = world.accounted() {
        assert!(world.seen.contains(accounted), "accounted moves only to what a look saw");
    }
    if let Some(linked) = &state.linked {
        let build = world.builds.iter().find(|b| b.id == linked.build).expect("a link is to a build");
        assert!(build.good && linked.revision == *build.stands_for(), "only good builds are linked");
    }
    assert!(world.builds.is_sorted_by(|a, b| a.fence < b.fence && a.number < b.number));
    if state.deleted {
        assert!(state.waiting.is_empty() && state.stored.is_empty() && state.retry.is_none());
    }
}

fn the_lock_belongs_to_the_one_unfinished_build(world: &World) {
    let unfinished: Vec<_> = world.builds.iter().filter(|b| !b.phase.is_terminal()).map(|b| b.id).collect();
    let held: Vec<_> = world.state.held.iter().map(|h| h.owner).collect();
    assert_eq!(unfinished, held, "at most one unfinished build, and it holds the lock");
}

fn waiting_is_bounded_by_policy(world: &World) {
    let waiting = &world.state.waiting;
    let unpinned = waiting.iter().filter(|r| r.revision.is_none() && r.parameters.is_empty()).count();
    assert!(unpinned <= 1, "one unpinned request, which later ones join");
    for request in waiting.iter().filter(|r| !r.forced) {
        assert!(request.revision.is_some() && request.relation.is_some() && request.parameters.is_empty());
        assert!(
            matches!(world.policy.on_held, OnHeld::Queue { .. }),
            "only a queue keeps changes that were seen"
        );
    }
    if world.own_policy {
        return;
    }
    match world.policy.on_held {
        OnHeld::DiscardSilently | OnHeld::DiscardLoudly => assert!(waiting.is_empty()),
        OnHeld::Queue { max } => assert!(waiting.len() <= max as usize),
        OnHeld::Coalesce => assert!(waiting.iter().all(|r| r.forced)),
    }
}

/// Each receipt that is not settled is in exactly the one place that it names, so no trigger is lost or waits twice.
fn every_trigger_is_somewhere(world: &World) {
    let unsettled = |waits: bool| -> BTreeSet<_> {
        let is = |s: &ReceiptState| match s {
            ReceiptState::AwaitsLook => !waits,
            ReceiptState::Waiting { .. } => waits,
            _ => false,
        };
        world.receipts.iter().filter(|(_, s)| is(s)).map(|(id, _)| *id).collect()
    };
    let stored: Vec<_> = world.state.stored.iter().map(|s| s.receipt).collect();
    let waiting: Vec<_> =
        world.state.waiting.iter().flat_map(|r| &r.causes).filter_map(|c| c.receipt).collect();
    assert_eq!(
        stored.iter().copied().collect::<BTreeSet<_>>(),
        unsettled(false),
        "triggers that await a look"
    );
    assert_eq!(
        waiting.iter().copied().collect::<BTreeSet<_>>(),
        unsettled(true),
        "triggers that wait their turn"
    );
    let all: BTreeSet<_> = stored.iter().chain(&waiting).collect();
    assert_eq!(all.len(), stored.len() + waiting.len(), "none is in two places");
    assert!(world.clock_jumped || world.state.stored.is_sorted_by_key(|s| s.since), "oldest first");
}
