//! The decision table once more, in the words of the specification and without its code: what is decided first in an
//! evaluation must be what it says.

use crate::{
    decide::{Context, Evaluation, Occasion},
    model::{DependencyState, First, OnHeld, RelationTo, Revision},
    time::later,
};

/// What comes to the table.
struct Comer<'a> {
    forced: bool,
    pinned: bool,
    waited: bool,
    revision: &'a Revision,
    relation: Option<&'a RelationTo>,
    own_parameters: bool,
    on_held: OnHeld,
}

pub(super) fn says_so(
    before: &DependencyState,
    context: &Context<'_>,
    occasion: &Occasion,
    said: &Evaluation,
) {
    if before.deleted {
        return;
    }
    let Some(decided) = said.decided.first() else { return };
    if let Some(comer) = first_comer(before, context, occasion) {
        let row = row(before, context, &comer);
        assert_eq!(decided.decision.name(), row, "the table says {row}: {before:#?}");
    }
}

/// Who comes to the table first, if that is plain.
fn first_comer<'a>(
    state: &'a DependencyState,
    context: &Context<'_>,
    occasion: &'a Occasion,
) -> Option<Comer<'a>> {
    let policy = context.policy.on_held;
    if state.held.is_none()
        && state.paused.is_none()
        && let Some(head) = state.waiting.first()
    {
        let observed = state.observed_revision().filter(|_| state.not_found == 0);
        return Some(Comer {
            forced: head.forced,
            pinned: head.revision.is_some(),
            waited: true,
            revision: head.revision.as_ref().or(observed)?,
            relation: head.relation.as_ref(),
            own_parameters: !head.parameters.is_empty(),
            on_held: policy,
        });
    }
    let look = || {
        let observed = state.observed.as_ref()?;
        Some(Comer {
            forced: false,
            pinned: false,
            waited: false,
            revision: &observed.revision,
            relation: Some(&observed.relation),
            own_parameters: false,
            on_held: policy,
        })
    };
    match occasion {
        Occasion::Seen { satisfies } => {
            let is_asked = |s: &&crate::model::StoredTrigger| {
                satisfies.contains(&s.receipt) && s.cause.trigger.is_forced()
            };
            match state.stored.iter().find(is_asked) {
                Some(asked) => Some(Comer {
                    forced: true,
                    own_parameters: !asked.parameters.is_empty(),
                    on_held: asked.on_held.unwrap_or(policy),
                    ..look()?
                }),
                None => look(),
            }
        }
        Occasion::Pinned(trigger) => Some(Comer {
            forced: true,
            pinned: true,
            waited: false,
            revision: &trigger.revision,
            relation: None,
            own_parameters: !trigger.parameters.is_empty(),
            on_held: trigger.on_held.unwrap_or(policy),
        }),
        Occasion::Released => {
            let discards = matches!(policy, OnHeld::DiscardLoudly | OnHeld::DiscardSilently);
            look().filter(|_| state.held.is_none() && state.in_debt() && !discards)
        }
        Occasion::NotFound { .. } => None,
    }
}

/// The first row that matches.
fn row(state: &DependencyState, context: &Context<'_>, comer: &Comer<'_>) -> &'static str {
    let policy = context.policy;
    let accounted = state.accounted_revision();
    let first = accounted.is_none();
    let unforced = !comer.forced;
    let known = !comer.own_parameters && context.known_good.iter().any(|(r, _)| r == comer.revision);
    let baselined = policy.first == First::Baseline || (policy.first == First::Auto && known);
    let last_unforced = state.waiting.iter().rfind(|r| !r.forced);
    let target = match last_unforced {
        Some(request) if !comer.waited => request.revision.as_ref(),
        _ => accounted,
    };
    let has_moved = !first && accounted != Some(comer.revision);
    let vetoes = unforced && has_moved && policy.veto.needs_relation();
    let stale = vetoes && comer.relation.is_some_and(|r| r.accounted.as_ref() != accounted);
    let forbidden = vetoes && policy.veto.forbids(comer.relation.and_then(|r| r.relation));
    let is_quiet_over = policy.quiet.is_none_or(|q| {
        let Some(moved) = state.observed.as_ref().map(|o| o.moved_at) else { return true };
        let owed = state.debt_since.unwrap_or(moved);
        later(moved, q.period) <= context.now || later(owed, q.at_most) <= context.now
    });
    let waits = !comer.waited && !state.waiting.is_empty();
    let covered = state.held.as_ref().is_some_and(|h| {
        (h.epoch, &h.revision) == (state.epoch, comer.revision)
            && h.parameters.is_empty() != comer.own_parameters
            && !h.stopping
    });
    let joins = comer.forced && !comer.pinned && !comer.own_parameters && {
        let unpinned =
            |r: &&crate::model::Request| r.forced && r.revision.is_none() && r.parameters.is_empty();
        state.waiting.iter().any(|r| unpinned(&r))
    };
    let held = match comer.on_held {
        OnHeld::DiscardSilently => "DiscardedSilently",
        OnHeld::Queue { max } if state.waiting.len() < max as usize || joins => "Queued",
        OnHeld::Coalesce => "Coalesced",
        OnHeld::DiscardLoudly | OnHeld::Queue { .. } => "DiscardedLoudly",
    };
    let rows = [
        (state.not_found > 0 && !(comer.forced && comer.pinned), "SourceMissing"),
        (state.paused.is_some(), "Paused"),
        (unforced && first && baselined, "Baselined"),
        (unforced && target == Some(comer.revision), "Unchanged"),
        (stale, "RelationStale"),
        (forbidden, "Vetoed"),
        (unforced && !first && !comer.waited && !is_quiet_over, "Quiet"),
        (covered && !waits, "AlreadyBuilding"),
        (state.held.is_some() || waits, held),
        (unforced && policy.reuse_known && known, "Reused"),
        (true, "Build"),
    ];
    rows.iter().find(|(matches, _)| *matches).unwrap().1
}
