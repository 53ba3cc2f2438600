//! Given what was seen and what is running: what do we do? Pure.
//!
//! [`row`] is rows 3 to 12 of the decision table, the first that matches; [`evaluate`] puts everything that waits
//! through it, in order; [`end_build`] says what the end of a build means for its dependency.

mod end;
mod evaluate;
mod evaluation;
mod people;
mod queue;
mod steady;
#[cfg(test)]
pub(crate) mod tests;

pub use end::{EndOfBuild, end_build};
pub use evaluate::evaluate;
pub use evaluation::{Decided, Evaluation, Occasion, PinnedTrigger, ReceiptChange, Start};
pub use people::{delete_dependency, edit_source, withdraw};
pub use steady::is_steady;

use crate::{
    model::{BuildId, DependencyState, First, OnHeld, Parameters, Policy, RelationTo, Revision},
    time::{Timestamp, later},
};

/// The most requests, the most triggers that one request collects, and the most stored triggers that a dependency keeps.
pub const MAX_WAITING: usize = 1_000;

/// Whether the dependency can be built now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockView {
    /// As the state says.
    AsStored,
    /// The state says free, but a lock that is kept elsewhere does not.
    HeldElsewhere {
        /// By whom, for people.
        by: String,
    },
}

/// What a decision is made by, besides the state.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// The dependency's policy.
    pub policy: &'a Policy,
    /// The store's time.
    pub now: Timestamp,
    /// Whether the dependency can be built now.
    pub lock: LockView,
    /// For revisions that matter: a good build of it in this epoch, without own parameters.
    pub known_good: &'a [(Revision, BuildId)],
    /// The build that would be started; drawn once per evaluation.
    pub build: BuildId,
}

impl Context<'_> {
    fn good_build_of(&self, revision: &Revision) -> Option<BuildId> {
        self.known_good.iter().find(|(r, _)| r == revision).map(|(_, b)| *b)
    }
}

/// What is put through the table.
#[derive(Copy, Clone, Debug)]
pub struct Subject<'a> {
    /// Whether somebody asked for it whatever the source says.
    pub forced: bool,
    /// The revision to build.
    pub revision: &'a Revision,
    /// Whether somebody named it, or is it just what is observed?
    pub pinned: bool,
    /// How it relates to the accounted one.
    pub relation: Option<&'a RelationTo>,
    /// Own parameters.
    pub parameters: &'a Parameters,
    /// What to do if it cannot be built now.
    pub on_held: OnHeld,
    /// Whether it has waited in the queue and it is its turn.
    pub waited: bool,
}

/// A row of the decision table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Row 3.
    SourceMissing,
    /// Row 4.
    Paused,
    /// Row 5.
    Baselined,
    /// Row 6.
    Unchanged,
    /// Row 7.
    Vetoed,
    /// Row 7 cannot be answered: the relation refers to a revision that is not the accounted one any more.
    RelationStale,
    /// Row 8.
    Quiet {
        /// Until when.
        until: Timestamp,
    },
    /// Row 9.
    AlreadyBuilding {
        /// The build that covers it.
        build: BuildId,
    },
    /// Row 10: what the lock policy says.
    Held {
        /// The policy, with a full queue turned into a loud discard.
        policy: OnHeld,
        /// The build that holds it, if it is one of ours.
        by: Option<BuildId>,
    },
    /// Row 11.
    Reused {
        /// The build that is linked again.
        build: BuildId,
    },
    /// Row 12.
    Build,
}

impl Decision {
    /// The name by which it is recorded and counted.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::SourceMissing => "SourceMissing",
            Self::Paused => "Paused",
            Self::Baselined => "Baselined",
            Self::Unchanged => "Unchanged",
            Self::Vetoed => "Vetoed",
            Self::RelationStale => "RelationStale",
            Self::Quiet { .. } => "Quiet",
            Self::AlreadyBuilding { .. } => "AlreadyBuilding",
            Self::Held { policy, .. } => match policy {
                OnHeld::DiscardSilently => "DiscardedSilently",
                OnHeld::DiscardLoudly => "DiscardedLoudly",
                OnHeld::Coalesce => "Coalesced",
                OnHeld::Queue { .. } => "Queued",
            },
            Self::Reused { .. } => "Reused",
            Self::Build => "Build",
        }
    }
}

/// The first row that matches.
pub fn row(state: &DependencyState, context: &Context<'_>, subject: &Subject<'_>) -> Decision {
    let accounted = state.accounted_revision();
    let first = accounted.is_none();
    // Row 3: a state, so that releases see it too. Only a forced request that names its revision passes.
    if state.not_found > 0 && !(subject.forced && subject.pinned) {
        return Decision::SourceMissing;
    }
    // Row 4.
    if state.paused.is_some() {
        return Decision::Paused;
    }
    let known = context.good_build_of(subject.revision).filter(|_| subject.parameters.is_empty());
    if !subject.forced {
        // Row 5.
        if first
            && match context.policy.first {
                First::Baseline => true,
                First::Auto => known.is_some(),
                First::Build => false,
            }
        {
            return Decision::Baselined;
        }
        // Row 6: a waiting request compares with what is accounted, a look with what will be.
        let target = if subject.waited {
            accounted
        } else {
            state.waiting.iter().rev().find(|r| !r.forced).and_then(|r| r.revision.as_ref()).or(accounted)
        };
        if target == Some(subject.revision) {
            return Decision::Unchanged;
        }
        // Row 7. What is accounted itself is behind what waits, and has not moved.
        if !first && accounted != Some(subject.revision) && context.policy.veto.needs_relation() {
            match subject.relation {
                Some(r) if r.accounted.as_ref() != accounted => return Decision::RelationStale,
                Some(r) if context.policy.veto.forbids(r.relation) => return Decision::Vetoed,
                None if context.policy.veto.forbids(None) => return Decision::Vetoed,
                _ => {}
            }
        }
        // Row 8: not asked again of what has waited.
        if let Some(until) = quiet_until(state, context).filter(|_| !first && !subject.waited) {
            return Decision::Quiet { until };
        }
    }
    // Row 9.
    let others_wait = !subject.waited && !state.waiting.is_empty();
    if let Some(held) = &state.held
        && held.epoch == state.epoch
        && held.revision == *subject.revision
        && held.parameters == *subject.parameters
        && !held.stopping
        && !others_wait
    {
        return Decision::AlreadyBuilding { build: held.owner };
    }
    // Row 10.
    if state.held.is_some() || others_wait || context.lock != LockView::AsStored {
        return Decision::Held {
            policy: if is_full(state, subject) { OnHeld::DiscardLoudly } else { subject.on_held },
            by: state.held.as_ref().map(|h| h.owner),
        };
    }
    // Row 11.
    if let Some(build) = known.filter(|_| !subject.forced && context.policy.reuse_known) {
        return Decision::Reused { build };
    }
    // Row 12.
    Decision::Build
}

/// Whether a request for this subject would find no place.
fn is_full(state: &DependencyState, subject: &Subject<'_>) -> bool {
    let most = match subject.on_held {
        OnHeld::Queue { max } => usize::try_from(max).unwrap_or(MAX_WAITING).min(MAX_WAITING),
        OnHeld::Coalesce if subject.forced => MAX_WAITING,
        _ => return false,
    };
    let joins = subject.forced && !subject.pinned && subject.parameters.is_empty();
    match joinable(state).filter(|_| joins) {
        Some(place) => state.waiting[place].causes.len() >= MAX_WAITING,
        None => state.waiting.len() >= most,
    }
}

/// The waiting request that unpinned forced triggers without own parameters join.
fn joinable(state: &DependencyState) -> Option<usize> {
    state.waiting.iter().position(|r| r.forced && r.revision.is_none() && r.parameters.is_empty())
}

/// Until when the source must be still, if that is not over.
fn quiet_until(state: &DependencyState, context: &Context<'_>) -> Option<Timestamp> {
    let quiet = context.policy.quiet?;
    let observed = state.observed.as_ref()?;
    let still = later(observed.moved_at, quiet.period);
    let latest = later(state.debt_since.unwrap_or(observed.moved_at), quiet.at_most);
    // A clock that was set back must not stretch the wait beyond what the policy names.
    let until = still.min(latest).min(later(context.now, quiet.period));
    (until > context.now).then_some(until)
}
