//! What a trigger got.

use crate::{
    model::{BuildId, DependencyId, ProjectBuildId, ProjectId, ReceiptId, Requester, Revision},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// Why we look or build.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Trigger {
    /// A look was due.
    Look,
    /// Somebody told us that the source may have changed.
    Push,
    /// A "build regardless" schedule was due.
    Schedule,
    /// A person asked for a build.
    Manual,
    /// A build that did not end good is tried again.
    Retry,
}

impl Trigger {
    /// Whether it builds even though nothing changed.
    pub const fn is_forced(self) -> bool {
        matches!(self, Self::Schedule | Self::Manual | Self::Retry)
    }
}

/// One trigger, as it is carried along until it is settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// What kind.
    pub trigger: Trigger,
    /// Who asked, if somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<Requester>,
    /// Its receipt; automatic looks have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<ReceiptId>,
    /// The project build in which a slot awaits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_build: Option<(ProjectId, ProjectBuildId)>,
}

impl Cause {
    /// A look that was due.
    pub const fn look() -> Self {
        Self { trigger: Trigger::Look, requester: None, receipt: None, project_build: None }
    }
}

/// Where a trigger stands or how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReceiptState {
    /// Stored; the first probe started after it decides.
    AwaitsLook,
    /// It waits in order for the dependency to be free.
    Waiting {
        /// The build that holds the dependency.
        behind: Option<BuildId>,
    },
    /// A build was started for it.
    Started {
        /// Which.
        build: BuildId,
    },
    /// It was joined to a build that was under way.
    Joined {
        /// Which.
        build: BuildId,
    },
    /// An earlier good build of the same revision was linked instead.
    Reused {
        /// Which.
        build: BuildId,
    },
    /// It was dropped because of this build; the change, if there is one, is not.
    LostTo {
        /// The build that holds the dependency.
        build: Option<BuildId>,
    },
    /// It ended without a build.
    Ended {
        /// Why.
        reason: EndReason,
    },
}

/// Why a trigger or a waiting request ended without a build of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndReason {
    /// The source is at the accounted revision.
    Unchanged,
    /// The first revision was taken as it is.
    Baselined,
    /// The revision it waited for is the accounted one again.
    Reverted,
    /// The policy forbids how the source moved.
    Vetoed,
    /// The source must be quiet first; the debt stays and a look is due.
    Quiet {
        /// Until when.
        until: Timestamp,
    },
    /// How the source moved has to be looked at again; the debt stays and a look is due.
    RelationStale,
    /// The dependency is paused.
    Paused,
    /// The source was not found, twice.
    SourceMissing,
    /// The source was edited.
    Superseded,
    /// The dependency was deleted.
    Deleted,
    /// The build system refused the build.
    Refused,
    /// The automatic change is covered by the debt, which the release evaluates.
    Coalesced,
    /// Somebody withdrew it.
    Withdrawn {
        /// Who.
        by: Requester,
    },
}

/// Whether a trigger's revision is in a build.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// It is.
    Is,
    /// It will be.
    WillBe,
    /// It will not be, by this trigger.
    WillNotBe,
}

/// What a trigger got. Durable; kept for as long as the retention says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Receipt {
    /// Its identity.
    pub id: ReceiptId,
    /// Whose trigger it was.
    pub dependency: DependencyId,
    /// What kind.
    pub trigger: Trigger,
    /// Who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<Requester>,
    /// The revision that was asked for, or that it was decided on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// Where it stands.
    pub state: ReceiptState,
    /// When it was given.
    pub given_at: Timestamp,
    /// When it was settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<Timestamp>,
}

impl Receipt {
    /// A receipt for a trigger that was just taken in.
    pub fn new(id: ReceiptId, dependency: DependencyId, cause: &Cause, given_at: Timestamp) -> Self {
        Self {
            id,
            dependency,
            trigger: cause.trigger,
            requester: cause.requester.clone(),
            revision: None,
            state: ReceiptState::AwaitsLook,
            given_at,
            settled_at: None,
        }
    }

    /// Whether nothing more will happen to it.
    pub const fn is_settled(&self) -> bool {
        !matches!(self.state, ReceiptState::AwaitsLook | ReceiptState::Waiting { .. })
    }

    /// Whether its revision is, will be or will not be in a build because of it.
    pub const fn coverage(&self) -> Coverage {
        match &self.state {
            ReceiptState::AwaitsLook
            | ReceiptState::Waiting { .. }
            | ReceiptState::Started { .. }
            | ReceiptState::Joined { .. }
            | ReceiptState::Ended { reason: EndReason::Coalesced | EndReason::Quiet { .. } } => {
                Coverage::WillBe
            }
            ReceiptState::Reused { .. }
            | ReceiptState::Ended {
                reason: EndReason::Unchanged | EndReason::Reverted | EndReason::Baselined,
            } => Coverage::Is,
            ReceiptState::LostTo { .. } | ReceiptState::Ended { .. } => Coverage::WillNotBe,
        }
    }
}
