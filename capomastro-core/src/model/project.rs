//! Projects and their builds.

use crate::{
    model::{
        Artifact, BuildId, BuildKey, DependencyId, ProjectBuildId, ProjectId, ProjectName, ReceiptId,
        Requester, Revision,
    },
    time::Timestamp,
};
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a project stands to one of its dependencies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The dependency's linked build, copied here in the commit that moves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linked: Option<BuildId>,
    /// The build at which a person holds this project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<BuildId>,
}

impl Member {
    /// The build that stands for the dependency in this project: the pin, or else the linked build.
    pub fn stands(&self) -> Option<BuildId> {
        self.pin.or(self.linked)
    }
}

/// A set of dependencies that is delivered together, with what stands for each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Project {
    /// Its identity; survives renaming.
    pub id: ProjectId,
    /// Its name.
    pub name: ProjectName,
    /// Its dependencies and what stands for them.
    pub members: BTreeMap<DependencyId, Member>,
    /// Its project builds that are not sealed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<ProjectBuildId>,
    /// The project build that stands for it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<CurrentBuild>,
    /// How many project builds were sealed; the order of seals is what "latest" means.
    pub seals: u64,
    /// The day and number of the last project build's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_number: Option<(NaiveDate, u32)>,
    /// When it was defined.
    pub created_at: Timestamp,
    /// When it was deleted, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
}

impl Project {
    /// A project without members.
    pub fn new(id: ProjectId, name: ProjectName, created_at: Timestamp) -> Self {
        Self {
            id,
            name,
            members: BTreeMap::new(),
            open: Vec::new(),
            current: None,
            seals: 0,
            last_number: None,
            created_at,
            deleted_at: None,
        }
    }
}

/// The project build that stands for a project now, with what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurrentBuild {
    /// Which.
    pub id: ProjectBuildId,
    /// What is in it.
    pub builds: BTreeMap<DependencyId, BuildId>,
}

/// Why a slot is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MissingReason {
    /// The dependency has never ended good.
    NeverBuilt,
    /// The dependency's first build is under way elsewhere or waits.
    NotYetBuilt,
    /// The dependency has left the project while its request waited.
    Left,
}

/// Where the content of one slot comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotKind {
    /// It is being built, or was built, for this project build.
    Fresh {
        /// The build.
        build: BuildId,
    },
    /// It is the dependency's linked build, from earlier.
    Carried {
        /// The build.
        build: BuildId,
    },
    /// It is the build at which a person holds this project.
    Pinned {
        /// The build.
        build: BuildId,
    },
    /// A request that has not started yet.
    Awaiting {
        /// The request's receipt.
        receipt: ReceiptId,
    },
    /// There is nothing.
    Missing {
        /// Why.
        reason: MissingReason,
    },
}

/// What stands for one dependency in a project build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Where the content comes from.
    pub kind: SlotKind,
    /// What a request that this slot awaited ended with, if it did not start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The revision, once resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// The artifacts with their digests, once resolved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
}

impl Slot {
    /// A slot without content yet.
    pub const fn of(kind: SlotKind) -> Self {
        Self { kind, note: None, revision: None, artifacts: Vec::new() }
    }

    /// The build in it, if there is one.
    pub const fn build(&self) -> Option<BuildId> {
        match self.kind {
            SlotKind::Fresh { build } | SlotKind::Carried { build } | SlotKind::Pinned { build } => {
                Some(build)
            }
            SlotKind::Awaiting { .. } | SlotKind::Missing { .. } => None,
        }
    }
}

/// How a project build ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProjectOutcome {
    /// Every slot holds a good build.
    Succeeded,
    /// A slot is empty.
    Incomplete,
    /// A fresh build did not end good.
    Failed,
}

/// The end of a project build: no slot awaits a build any more and every fresh one has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// Its place in the order of this project's seals, from 1.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// How it ended.
    pub outcome: ProjectOutcome,
}

/// The record of a project at a moment: one slot for each of its dependencies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProjectBuild {
    /// Its identity.
    pub id: ProjectBuildId,
    /// Whose record it is.
    pub project: ProjectId,
    /// `YYYYMMDD.n`, unique in the project; the day is in UTC.
    pub name: String,
    /// What stands for each dependency.
    pub slots: BTreeMap<DependencyId, Slot>,
    /// What stood for the carried and pinned ones when it was requested, kept for audit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bound_at_request: BTreeMap<DependencyId, BuildId>,
    /// Pinned dependencies that move to the fresh build when that ends good, because somebody named them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves_pins: Vec<DependencyId>,
    /// The key shared by the builds of one whole-project request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_key: Option<BuildKey>,
    /// Who asked for it, if somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<Requester>,
    /// When it was requested.
    pub requested_at: Timestamp,
    /// Its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
}
