//! What the machine knows of a dependency: the aggregate that one decision reads and writes.

use crate::{
    error::ErrorKind,
    model::{
        BuildId, BuildKey, Cause, DependencyId, Observed, OnHeld, Parameters, ProjectId, ReceiptId,
        RelationTo, Requester, Revision,
    },
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How the accounted revision was settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settled {
    /// A build was started for it.
    Built(BuildId),
    /// A build that was under way covers it.
    Joined(BuildId),
    /// An earlier good build of it was linked.
    Reused(BuildId),
    /// It was taken as it is.
    Baseline,
}

/// The revision that the last decision settled because a look saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounted {
    /// Which.
    pub revision: Revision,
    /// How.
    pub by: Settled,
}

/// The build that holds the dependency. The owner is the build, not the process that drives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The build.
    pub owner: BuildId,
    /// Its fence.
    pub fence: u64,
    /// The revision it pins.
    pub revision: Revision,
    /// The epoch in which it was decided.
    pub epoch: u32,
    /// The parameters that somebody gave for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: Parameters,
    /// Whether a cancel or a time-out has been asked for, so that nothing joins it any more.
    pub stopping: bool,
    /// Since when.
    pub since: Timestamp,
}

/// A build that waits its turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The triggers that it collects, oldest first.
    pub causes: Vec<Cause>,
    /// Whether somebody asked for it; else it stands for a change that was seen.
    pub forced: bool,
    /// The revision it is pinned to; `None` means whatever is observed when its turn comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// How the pinned revision relates to the accounted one, as the look that made it saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relation: Option<RelationTo>,
    /// Own parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: Parameters,
    /// The key shared by the builds of one whole-project request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_key: Option<BuildKey>,
    /// The lock policy that the caller chose for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_held: Option<OnHeld>,
    /// Since when it waits.
    pub since: Timestamp,
}

/// An unpinned trigger that the first probe started after it decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredTrigger {
    /// The triggers it collects; the first one's receipt names it.
    pub cause: Cause,
    /// The receipt by which it is known.
    pub receipt: ReceiptId,
    /// Own parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: Parameters,
    /// The key shared by the builds of one whole-project request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_key: Option<BuildKey>,
    /// The lock policy that the caller chose for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_held: Option<OnHeld>,
    /// Since when it is stored.
    pub since: Timestamp,
}

/// Why a retry is owed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryReason {
    /// The build did not end good.
    BuildFailed,
    /// The build system refused it: proven that nothing started.
    LaunchRefused,
}

/// A build of the accounted revision that is owed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedRetry {
    /// The revision.
    pub revision: Revision,
    /// The build that it repeats.
    pub of: BuildId,
    /// Why.
    pub reason: RetryReason,
    /// Not before; `None` waits for a person or a change of source, launcher or job.
    pub not_before: Option<Timestamp>,
    /// How many retries of failed builds it makes, this one included.
    pub attempt: u32,
    /// How many refusals came in a row.
    pub refusals: u32,
    /// The parameters of the build that it repeats.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: Parameters,
    /// Its build key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_key: Option<BuildKey>,
}

/// How looking at the source goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// The last look was answered.
    #[default]
    Healthy,
    /// Looks fail.
    Failing {
        /// How many in a row, or since somebody asked for a look.
        failures: u32,
        /// The last one's kind, as in [`ErrorKind::as_str`].
        kind: String,
        /// The last one's report.
        message: String,
        /// Since when.
        since: Timestamp,
    },
    /// The source was not found, twice running.
    Missing {
        /// Since when.
        since: Timestamp,
    },
}

impl Health {
    /// How many looks failed in a row.
    pub const fn failures(&self) -> u32 {
        match self {
            Self::Failing { failures, .. } => *failures,
            _ => 0,
        }
    }

    /// One word for events and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Failing { .. } => "failing",
            Self::Missing { .. } => "missing",
        }
    }
}

/// Why a probe failed, as `detect` needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeFailure {
    /// The kind of error.
    pub kind: ErrorKind,
    /// Whether trying again soon is useless.
    pub permanent: bool,
    /// The report, without secrets.
    pub message: String,
    /// How long the other side asks to be left alone.
    pub retry_after: Option<std::time::Duration>,
}

/// A build of a revision that a person named stands, although another one is accounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldAt {
    /// The revision.
    pub revision: Revision,
    /// The build.
    pub by: BuildId,
}

/// The build whose artifacts stand for a dependency now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linked {
    /// The build.
    pub build: BuildId,
    /// What it stands for.
    pub revision: Revision,
}

/// That nothing is to be built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Who said so.
    pub by: Requester,
    /// Why.
    pub reason: String,
    /// Since when.
    pub at: Timestamp,
}

/// The last decision about a look, so that its repetition only counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastDecision {
    /// Its name.
    pub decision: String,
    /// About which revision.
    pub revision: Option<Revision>,
}

/// What the machine knows of a dependency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DependencyState {
    /// Whose state it is.
    pub id: DependencyId,
    /// Grows when the source is edited.
    pub epoch: u32,
    /// The ticket of the last look that was applied.
    pub applied_ticket: u64,
    /// What the last good probe saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,
    /// What the last decision settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accounted: Option<Accounted>,
    /// Since when observed differs from accounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debt_since: Option<Timestamp>,
    /// How many looks in a row said that the source is not there; 2 stands for more.
    pub not_found: u8,
    /// How looking goes.
    pub health: Health,
    /// The revision for which a veto was raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vetoed: Option<Revision>,
    /// The holder and revision for which a loud discard was raised; no build where the lock is kept elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discarded: Option<(Option<BuildId>, Revision)>,
    /// The build that holds the dependency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// The highest fence given out; only grows.
    pub fence: u64,
    /// How many builds there have been.
    pub builds: u64,
    /// Builds that wait their turn, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<Request>,
    /// Unpinned triggers that await a look, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stored: Vec<StoredTrigger>,
    /// A build of the accounted revision that is owed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<OwedRetry>,
    /// A person's older revision stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_at: Option<HeldAt>,
    /// The build whose artifacts stand for the dependency now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linked: Option<Linked>,
    /// How the last build ended, and which it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ended: Option<(BuildId, crate::model::Phase)>,
    /// When the last build that was not refused was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_start: Option<Timestamp>,
    /// That nothing is to be built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// When the next "build regardless" is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regardless_due: Option<Timestamp>,
    /// The projects that have the dependency.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub projects: BTreeSet<ProjectId>,
    /// The projects that had it once and whose records may still refer to its builds.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub past_projects: BTreeSet<ProjectId>,
    /// The last decision about a look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_decision: Option<LastDecision>,
    /// Whether the dependency was deleted.
    pub deleted: bool,
}

impl DependencyState {
    /// The state of a dependency that was just defined.
    pub fn new(id: DependencyId) -> Self {
        Self {
            id,
            epoch: 1,
            applied_ticket: 0,
            observed: None,
            accounted: None,
            debt_since: None,
            not_found: 0,
            health: Health::Healthy,
            vetoed: None,
            discarded: None,
            held: None,
            fence: 0,
            builds: 0,
            waiting: Vec::new(),
            stored: Vec::new(),
            retry: None,
            held_at: None,
            linked: None,
            last_ended: None,
            last_start: None,
            paused: None,
            regardless_due: None,
            projects: BTreeSet::new(),
            past_projects: BTreeSet::new(),
            last_decision: None,
            deleted: false,
        }
    }

    /// The revision that the last good probe saw.
    pub fn observed_revision(&self) -> Option<&Revision> {
        self.observed.as_ref().map(|o| &o.revision)
    }

    /// The revision that the last decision settled.
    pub fn accounted_revision(&self) -> Option<&Revision> {
        self.accounted.as_ref().map(|a| &a.revision)
    }

    /// Whether observed differs from accounted.
    pub fn in_debt(&self) -> bool {
        self.observed.is_some() && self.observed_revision() != self.accounted_revision()
    }
}

/// Facts about a due row that are written lazily; a crash may lose the last ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Note {
    /// When the last run of the task ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run: Option<Timestamp>,
    /// How often each uneventful decision was repeated, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u64>,
    /// When a build was first seen running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_at: Option<Timestamp>,
    /// Since when the build system does not know a build, by successful contact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_since: Option<Timestamp>,
    /// How a later send of a build was refused, of which an earlier one may have arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<crate::launch::Refusal>,
    /// How often in a row the task was held up.
    #[serde(skip_serializing_if = "is_zero")]
    pub stalls: u32,
    /// What the task waits for, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
const fn is_zero(n: &u32) -> bool {
    *n == 0
}
