//! The outbox: what happened, in order, for whoever listens.

use crate::{
    model::{
        BuildId, DependencyId, EndReason, Phase, ProjectBuildId, ProjectId, ProjectOutcome, ReceiptId,
        Relation, Revision, StopReason,
    },
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// Something that happened. Committed together with what it tells of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// The dependency it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependency: Option<DependencyId>,
    /// The project it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectId>,
    /// What happened.
    pub kind: EventKind,
}

impl Event {
    /// An event about a dependency.
    pub const fn of_dependency(dependency: DependencyId, kind: EventKind) -> Self {
        Self { dependency: Some(dependency), project: None, kind }
    }

    /// An event about a project.
    pub const fn of_project(project: ProjectId, kind: EventKind) -> Self {
        Self { dependency: None, project: Some(project), kind }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// A dependency or project was defined.
    Defined {
        /// Its name.
        name: String,
    },
    /// Its configuration was changed.
    Changed {
        /// What, in words.
        what: String,
    },
    /// It was deleted.
    Deleted,
    /// It was paused.
    Paused {
        /// By whom.
        by: String,
        /// Why.
        reason: String,
    },
    /// It was resumed.
    Resumed,
    /// A decision was made.
    Decided {
        /// Its name, as in the decision table.
        decision: String,
        /// On which revision.
        revision: Option<Revision>,
        /// The build that is concerned, if one is.
        build: Option<BuildId>,
        /// For people.
        detail: Option<String>,
    },
    /// The source was seen at another revision than before.
    Observed {
        /// At which.
        revision: Revision,
        /// How it relates to the accounted one, where known.
        relation: Option<Relation>,
    },
    /// Looking at the source goes differently from before.
    HealthChanged {
        /// `healthy`, `failing` or `missing`.
        health: String,
        /// For people.
        message: Option<String>,
    },
    /// The policy forbids how the source moved. Loud.
    Vetoed {
        /// The revision that is not built.
        revision: Revision,
        /// How it moved.
        relation: Option<Relation>,
    },
    /// A trigger was dropped because a build holds the dependency. Loud.
    Discarded {
        /// The revision.
        revision: Option<Revision>,
        /// The build that holds it.
        held_by: Option<BuildId>,
    },
    /// A waiting request ended without a build.
    RequestEnded {
        /// Its receipts.
        receipts: Vec<ReceiptId>,
        /// Why.
        reason: EndReason,
    },
    /// A build was decided and recorded.
    BuildStarted {
        /// Which.
        build: BuildId,
        /// Of which revision.
        revision: Revision,
    },
    /// The build system accepted a build.
    BuildSubmitted {
        /// Which.
        build: BuildId,
    },
    /// A build is to be stopped.
    BuildStopping {
        /// Which.
        build: BuildId,
        /// Why.
        reason: StopReason,
    },
    /// A build ended.
    BuildEnded {
        /// Which.
        build: BuildId,
        /// How.
        phase: Phase,
        /// Whether it may be linked.
        good: bool,
    },
    /// The build system may still run a build that was given up. Loud.
    MayStillRun {
        /// Which.
        build: BuildId,
    },
    /// The revision that was built is not the pinned one. Loud.
    RevisionDrift {
        /// The build.
        build: BuildId,
        /// What was asked for.
        pinned: Revision,
        /// What was built.
        built: Revision,
    },
    /// A lock was broken by a person. Loud.
    LockBroken {
        /// The build that owned it.
        build: BuildId,
        /// By whom.
        by: String,
        /// Why.
        reason: String,
    },
    /// A lock that is kept elsewhere says that our lease is gone. Loud; the build goes on.
    LeaseLost {
        /// The build that owned it.
        build: BuildId,
    },
    /// An external build turned up when its driver had lost its claim.
    OrphanSeen {
        /// The build in whose name it was sent.
        build: BuildId,
    },
    /// The dependency's linked build moved.
    Linked {
        /// To which.
        build: BuildId,
    },
    /// A pin was set, moved or removed.
    Pinned {
        /// For which dependency.
        dependency: DependencyId,
        /// To which build; `None` for removed.
        build: Option<BuildId>,
    },
    /// A project build was requested.
    ProjectBuildRequested {
        /// Which.
        project_build: ProjectBuildId,
    },
    /// A project build was sealed: no slot awaits a build any more.
    Sealed {
        /// Which.
        project_build: ProjectBuildId,
        /// How.
        outcome: ProjectOutcome,
        /// Whether it became the project's current one.
        current: bool,
    },
}

/// An event as the store returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place in the stream.
    pub seq: crate::model::EventSeq,
    /// When it was committed.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
}
