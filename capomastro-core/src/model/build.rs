//! A build: one launch of one dependency.

use crate::{
    lock::Lease,
    model::{
        BuildId, BuildKey, Cause, DependencyId, LaunchKey, LauncherName, ProjectBuildId, ProjectId, Revision,
    },
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeMap, fmt};

/// Parameters that somebody gave for one build, by name.
pub type Parameters = BTreeMap<String, String>;

/// What a launcher calls a build: opaque to everyone else. At most 4 KiB.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExternalRef(pub String);

impl fmt::Debug for ExternalRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl fmt::Display for ExternalRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a build stands. Only ever moves down this list, and the first terminal phase stays.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Decided and recorded; nothing has been sent. May wait here for a limit.
    Requested,
    /// It may have been sent: only evidence from the build system tells.
    Launching,
    /// The build system has accepted it.
    Submitted,
    /// It runs.
    Running,
    /// It ended well.
    Succeeded,
    /// It ended with a result that is neither good nor bad, such as failed tests.
    Unstable,
    /// It ended badly.
    Failed,
    /// It was stopped because somebody asked for it.
    Cancelled,
    /// A deadline passed and it was stopped.
    TimedOut,
    /// The build system lost it or does not know it any more, or its lock was broken.
    Lost,
    /// The build system refused it: proven that nothing started.
    Refused,
}

impl Phase {
    /// Whether it has ended.
    pub const fn is_terminal(self) -> bool {
        self.rank() == TERMINAL_RANK
    }

    /// Its place in the order of phases; all terminal ones share the last.
    pub const fn rank(self) -> u8 {
        match self {
            Self::Requested => 0,
            Self::Launching => 1,
            Self::Submitted => 2,
            Self::Running => 3,
            _ => TERMINAL_RANK,
        }
    }
}

const TERMINAL_RANK: u8 = 4;

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requested => "requested",
            Self::Launching => "launching",
            Self::Submitted => "submitted",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Unstable => "unstable",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed out",
            Self::Lost => "lost",
            Self::Refused => "refused",
        })
    }
}

/// One artifact of a build. At most 1,000 are kept of one build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its path inside the build's output, with `/` between the parts, never leading outside.
    pub name: String,
    /// `sha256:` and 64 hexadecimal digits, or whatever digest the build system gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Its size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Where it can be had, in the launcher's own terms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// Why a running build is being stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Somebody asked for it.
    Cancel {
        /// Who.
        by: String,
    },
    /// It waited too long at the build system.
    QueueDeadline,
    /// It ran too long.
    RunDeadline,
}

/// That the build system is to stop a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Why.
    pub reason: StopReason,
    /// Since when.
    pub asked_at: Timestamp,
}

/// One launch of one dependency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Build {
    /// Its identity.
    pub id: BuildId,
    /// Whose build it is.
    pub dependency: DependencyId,
    /// Counts the builds of the dependency, from 1.
    pub number: u64,
    /// The source epoch in which it was decided.
    pub epoch: u32,
    /// The idempotency key that travels with it.
    pub key: LaunchKey,
    /// The fence of the dependency lock it holds.
    pub fence: u64,
    /// A lease of a lock that is kept elsewhere, to be released after the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// The revision it is to build.
    pub revision: Revision,
    /// What to show people for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<String>,
    /// Parameters that somebody gave for this build.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: Parameters,
    /// The key shared by the builds of one whole-project request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_key: Option<BuildKey>,
    /// Why it was started, and who was told so.
    pub causes: Vec<Cause>,
    /// Whether a person asked for it, so that it goes first when a limit is reached.
    pub manual: bool,
    /// Whether a person named the revision.
    pub person_pinned: bool,
    /// The build that it repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<BuildId>,
    /// How many retries of failed builds it makes; 0 for a build that is no retry.
    pub attempt: u32,
    /// How many refusals in a row came before it.
    pub refusals: u32,
    /// The launcher's name when it was decided.
    pub launcher: LauncherName,
    /// The launcher's configuration when it was decided.
    pub job: Value,
    /// Where it stands.
    pub phase: Phase,
    /// Facts that the launcher made durable before it sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memo: Option<Value>,
    /// How often a send was begun of which it is not proven that it never left.
    pub sends: u32,
    /// What the launcher calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalRef>,
    /// The revision that was really built, if the launcher could tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built: Option<Revision>,
    /// What it left behind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// What the build system, or Capomastro, said of its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// That it is to be stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// The project builds in which it is fresh.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub project_builds: Vec<(ProjectId, ProjectBuildId)>,
    /// When the last build before it was started, to go back to if this one is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_start: Option<Timestamp>,
    /// When it was decided.
    pub requested_at: Timestamp,
    /// When the last send was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launching_at: Option<Timestamp>,
    /// When the build system accepted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_at: Option<Timestamp>,
    /// When it was first seen running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_at: Option<Timestamp>,
    /// When its end was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Whether it ended good by the policy at its end.
    pub good: bool,
    /// Since when it stands for its dependency nowhere any more: project builds sealed later do not refer to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stood_until: Option<Timestamp>,
}

impl Build {
    /// The revision for which it stands: what was really built, or else what was asked for.
    pub fn stands_for(&self) -> &Revision {
        self.built.as_ref().unwrap_or(&self.revision)
    }
}

/// An external build that turned up when its driver had lost its claim, kept until someone has judged it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// The build in whose name it was sent.
    pub build: BuildId,
    /// What the launcher calls it.
    pub external: ExternalRef,
    /// Who saw it.
    pub seen_by: String,
    /// When.
    pub seen_at: Timestamp,
    /// What became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<OrphanVerdict>,
}

/// What became of an orphan.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrphanVerdict {
    /// It is the build's own external build.
    Adopted,
    /// It was a second one and the build system was asked to stop it.
    Cancelled,
    /// It had ended, or its launcher is gone.
    Ignored,
}
