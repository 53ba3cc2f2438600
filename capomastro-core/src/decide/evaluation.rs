//! What an evaluation is asked and what it says.

use super::Decision;
use crate::{
    events::EventKind,
    model::{
        BuildId, BuildKey, Cause, DependencyState, OnHeld, Parameters, ReceiptId, ReceiptState, Revision,
    },
};
use std::time::Duration;

/// A trigger that names its revision; decided in the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedTrigger {
    /// The trigger.
    pub cause: Cause,
    /// The revision.
    pub revision: Revision,
    /// Own parameters.
    pub parameters: Parameters,
    /// The key shared by the builds of one whole-project request.
    pub build_key: Option<BuildKey>,
    /// The lock policy that the caller chose; the dependency's own where absent.
    pub on_held: Option<OnHeld>,
}

/// Why there is an evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// A look saw the source.
    Seen {
        /// The stored triggers that awaited it.
        satisfies: Vec<ReceiptId>,
    },
    /// A look did not find the source.
    NotFound {
        /// The stored triggers that awaited it.
        satisfies: Vec<ReceiptId>,
        /// Twice running: they end.
        twice: bool,
    },
    /// The dependency became free or was resumed, a retry is due, or a lock elsewhere may be free.
    Released,
    /// Somebody asked for a build of a revision.
    Pinned(PinnedTrigger),
}

/// One decision, to be recorded or counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// What was decided.
    pub decision: Decision,
    /// On which revision.
    pub revision: Option<Revision>,
    /// Whether it only repeats the last one and is counted.
    pub counted: bool,
}

/// What became of a trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptChange {
    /// The trigger.
    pub cause: Cause,
    /// On which revision it was decided.
    pub revision: Option<Revision>,
    /// Where it stands now.
    pub state: ReceiptState,
}

/// A build to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Its id.
    pub build: BuildId,
    /// The revision it pins.
    pub revision: Revision,
    /// What to show people for it.
    pub display: Option<String>,
    /// Own parameters.
    pub parameters: Parameters,
    /// The key shared by the builds of one whole-project request.
    pub build_key: Option<BuildKey>,
    /// Why.
    pub causes: Vec<Cause>,
    /// Whether a person named the revision.
    pub person_pinned: bool,
    /// The build that it repeats.
    pub retry_of: Option<BuildId>,
    /// How many retries of failed builds it makes.
    pub attempt: u32,
    /// How many refusals came before it.
    pub refusals: u32,
}

/// What an evaluation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// The state as it is to be stored.
    pub state: DependencyState,
    /// What was decided, in order.
    pub decided: Vec<Decided>,
    /// What became of triggers, in order; a later change of the same receipt replaces an earlier one.
    pub receipts: Vec<ReceiptChange>,
    /// The build to record, if one starts.
    pub start: Option<Start>,
    /// The build that was linked again, if one was.
    pub reused: Option<BuildId>,
    /// When a look is due at the latest, if the decision needs one.
    pub look_within: Option<Duration>,
    /// When an evaluation is due at the latest, if the decision needs one.
    pub evaluate_within: Option<Duration>,
    /// What happened.
    pub events: Vec<EventKind>,
}
