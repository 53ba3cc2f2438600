//! What is written together, and how due work is taken.

use crate::{
    Error, Result,
    events::Event,
    model::{BuildId, CommitId, DependencyId, EventSeq, HolderId, LauncherName, Note, ProbeName, ProjectId},
    store::{Key, Record, Version},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

/// Something to be done at a time.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Task {
    /// Look at a dependency's source.
    Look(DependencyId),
    /// Evaluate a dependency without looking: a retry is due, or a lock elsewhere may be free.
    Evaluate(DependencyId),
    /// Move a build one step on.
    Drive(BuildId),
    /// Give a lease back to a lock that is kept elsewhere.
    Release(BuildId),
    /// Judge the orphans of a build.
    Judge(BuildId),
    /// Delete a dependency's oldest builds: there are more than are kept.
    Trim(DependencyId),
    /// Delete what need not be kept any more.
    Sweep,
}

/// The task in one line of text, as stores use it.
impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Look(id) => write!(f, "look/{id}"),
            Self::Evaluate(id) => write!(f, "evaluate/{id}"),
            Self::Drive(id) => write!(f, "drive/{id}"),
            Self::Release(id) => write!(f, "release/{id}"),
            Self::Judge(id) => write!(f, "judge/{id}"),
            Self::Trim(id) => write!(f, "trim/{id}"),
            Self::Sweep => f.write_str("sweep"),
        }
    }
}

impl FromStr for Task {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let unknown =
            || Error::new(crate::ErrorKind::Corrupt, "not a task").with_context("task", s.escape_debug());
        if s == "sweep" {
            return Ok(Self::Sweep);
        }
        let (kind, id) = s.split_once('/').ok_or_else(unknown)?;
        Ok(match kind {
            "look" => Self::Look(id.parse()?),
            "evaluate" => Self::Evaluate(id.parse()?),
            "drive" => Self::Drive(id.parse()?),
            "release" => Self::Release(id.parse()?),
            "judge" => Self::Judge(id.parse()?),
            "trim" => Self::Trim(id.parse()?),
            _ => return Err(unknown()),
        })
    }
}

/// Who may take a task: a replica takes only what it can do, and one slow host does not block the rest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Lane {
    /// Looks with this probe.
    Probe(ProbeName),
    /// Builds with this launcher.
    Launcher(LauncherName),
    /// Work that needs neither.
    House,
}

/// The lane in one line of text, as stores use it.
impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Probe(name) => write!(f, "probe/{name}"),
            Self::Launcher(name) => write!(f, "launcher/{name}"),
            Self::House => f.write_str("house"),
        }
    }
}

impl FromStr for Lane {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        if s == "house" {
            return Ok(Self::House);
        }
        match s.split_once('/') {
            Some(("probe", name)) => Ok(Self::Probe(name.parse()?)),
            Some(("launcher", name)) => Ok(Self::Launcher(name.parse()?)),
            _ => {
                Err(Error::new(crate::ErrorKind::Corrupt, "not a lane")
                    .with_context("lane", s.escape_debug()))
            }
        }
    }
}

/// That a holder has taken a task. Holds while nobody else has taken it, even after its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The task.
    pub task: Task,
    /// Grows with each claim of the task.
    pub ticket: u64,
    /// When the task was due; of a claim at birth, its birth.
    pub due_at: Timestamp,
    /// Lossy bookkeeping.
    pub note: Note,
}

/// A change of a due row. All times count from the store's own time at the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DueChange {
    /// Makes the task due after this long, in this lane, making the row where there is none.
    ///
    /// If the batch holds the task's claim, the claim ends with it, and a nudge that came during the claim makes the task
    /// due no later than it said. If another one holds it, the lane changes and the time is taken as a nudge. The note stays
    /// unless one is given.
    Set {
        /// The task.
        task: Task,
        /// Who may take it.
        lane: Lane,
        /// After how long.
        after: Duration,
        /// New bookkeeping.
        note: Option<Note>,
    },
    /// Makes the row where there is none, claimed by the batch's holder for this long from birth; if the batch holds its
    /// claim, that lasts this long from now. A row that nobody holds, or whose lease has ended, is taken. The claim is in
    /// [`Committed::claims`].
    Hold {
        /// The task.
        task: Task,
        /// Who may take it afterwards.
        lane: Lane,
        /// For how long.
        lease: Duration,
    },
    /// Makes the task due no later than after this long, whoever holds it. A nudge during a claim survives the
    /// reschedule. Nothing happens where there is no row.
    Nudge {
        /// The task.
        task: Task,
        /// After how long at the most.
        after: Duration,
    },
    /// The task is done: the row goes, unless a nudge came during the claim that the batch holds; then the claim ends and
    /// the task is due when the nudge said.
    Done {
        /// The task.
        task: Task,
    },
    /// The row goes, whoever holds it: what it is about was deleted.
    Drop {
        /// The task.
        task: Task,
    },
}

/// A record to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The record.
    pub record: Record,
    /// The version that must be stored now; `None` means that there must be none.
    pub expect: Option<Version>,
}

/// What may be forgotten: bounded at each call, so that a batch stays small.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Forget {
    /// Events older than this.
    pub events_before: Timestamp,
    /// But keep at least this many of the newest events.
    pub keep_events: u64,
    /// Ids of commits older than this.
    pub commits_before: Timestamp,
    /// At most this many of each.
    pub at_most: u32,
}

impl Forget {
    /// Forgets events and commit ids older than these times.
    pub const fn new(
        events_before: Timestamp,
        keep_events: u64,
        commits_before: Timestamp,
        at_most: u32,
    ) -> Self {
        Self { events_before, keep_events, commits_before, at_most }
    }
}

/// What is written together: all of it or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Batch {
    /// Makes a repetition harmless.
    pub id: CommitId,
    /// Who writes.
    pub holder: HolderId,
    /// Records to write.
    pub puts: Vec<Put>,
    /// Records to delete, each with the version that must be stored now.
    pub deletes: Vec<(Key, Version)>,
    /// The version of everything else that the decision read; `None` where there was no record.
    pub guards: Vec<(Key, Option<Version>)>,
    /// Claims that must hold.
    pub claims: Vec<Claim>,
    /// Changes of due rows; at most one for each task.
    pub due: Vec<DueChange>,
    /// What happened.
    pub events: Vec<Event>,
    /// What may be forgotten.
    pub forget: Option<Forget>,
}

impl Batch {
    /// An empty batch.
    pub const fn new(id: CommitId, holder: HolderId) -> Self {
        Self {
            id,
            holder,
            puts: Vec::new(),
            deletes: Vec::new(),
            guards: Vec::new(),
            claims: Vec::new(),
            due: Vec::new(),
            events: Vec::new(),
            forget: None,
        }
    }

    /// Refuses what no batch may say, whatever is stored.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if a record is written twice, a task changed twice, or a due row
    /// put, deleted or guarded.
    pub fn check_form(&self) -> Result<()> {
        let mut written = BTreeSet::new();
        let puts = self.puts.iter().map(|put| put.record.key());
        for key in puts.chain(self.deletes.iter().map(|(key, _)| key.clone())) {
            if matches!(key, Key::Due(_)) {
                return Err(Error::invalid("a due row is not written as a record: change it by `due`")
                    .with_context("key", key));
            }
            if let Some(twice) = written.replace(key) {
                return Err(Error::invalid("a batch writes a record twice: write its last state only")
                    .with_context("key", twice));
            }
        }
        if let Some((key, _)) = self.guards.iter().find(|(key, _)| matches!(key, Key::Due(_))) {
            return Err(Error::invalid("a due row cannot be guarded: hold its claim instead")
                .with_context("key", key));
        }
        let mut tasks = BTreeSet::new();
        match self.due.iter().find(|change| !tasks.insert(change.task())) {
            Some(twice) => {
                Err(Error::invalid("a batch changes a due row twice: give one change for each task")
                    .with_context("task", twice.task()))
            }
            None => Ok(()),
        }
    }
}

/// That a batch was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The store's time of the write.
    pub at: Timestamp,
    /// Whether it had been written before, by its id. The claims are not repeated then.
    pub repeated: bool,
    /// The claims that were born or made longer, in the order of the batch.
    pub claims: Vec<Claim>,
    /// How many events, or how many ids of commits, were forgotten: the greater number. There may be more to forget if it is
    /// [`Forget::at_most`]. Nothing is told by a repetition.
    pub forgotten: u64,
}

/// How much of a lane to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneAsk {
    /// The lane.
    pub lane: Lane,
    /// At most this many.
    pub limit: usize,
    /// For how long.
    pub lease: Duration,
}

/// An ask for due work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimAsk {
    /// The lanes, each once.
    pub lanes: Vec<LaneAsk>,
    /// Who asks.
    pub holder: HolderId,
}

/// Due work that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The store's time.
    pub now: Timestamp,
    /// The claims: by lane in the order of the ask, within a lane in due order.
    pub claims: Vec<Claim>,
    /// When the next task of these lanes is due that was not taken; `None` if there is none.
    pub next_due: Option<Timestamp>,
}

/// A claim that is given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutBack {
    /// The claim.
    pub claim: Claim,
    /// After how long the task is due again, from the store's own time.
    pub after: Duration,
    /// New bookkeeping.
    pub note: Note,
}

/// Which events to read.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventFilter {
    /// All.
    All,
    /// Those about a dependency.
    Dependency(DependencyId),
    /// Those about a project.
    Project(ProjectId),
}

/// Where an event stream starts.
pub const FIRST_EVENT: EventSeq = 0;
