//! What is stored, under which key, in which lists, with which unique names.

use crate::{
    model::{
        Build, BuildId, Dependency, DependencyId, DependencyState, LaunchKey, LauncherName, Note, Orphan,
        Project, ProjectBuild, ProjectBuildId, ProjectId, Receipt, ReceiptId, Revision,
    },
    store::{Lane, Task},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The version of a record; 0 never occurs.
pub type Version = u64;

/// The number of the form in which this version of the library writes records and due rows. A store keeps it beside each
/// and neither claims nor overwrites what has a higher one.
pub const RECORD_FORMAT: u32 = 1;

/// What a limit on running builds counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitScope {
    /// All builds.
    Overall,
    /// The builds of one launcher.
    Launcher(LauncherName),
}

/// A build that waits for a limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitWaiter {
    /// The build.
    pub build: BuildId,
    /// Whether a person asked for it; such go first.
    pub manual: bool,
    /// Its place among its like.
    pub place: u64,
    /// When it asked last. Who has been silent for long is passed over: nobody drives it, say since its launcher is
    /// registered in no scheduler that runs.
    pub asked_at: Timestamp,
}

/// Which builds count against a limit, and which wait for it. Written only where a limit is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitState {
    /// What it counts.
    pub scope: LimitScope,
    /// The builds that count.
    pub active: Vec<BuildId>,
    /// The builds that wait.
    pub waiting: Vec<LimitWaiter>,
    /// The next place.
    pub next_place: u64,
}

impl LimitState {
    /// Nothing counts, nothing waits.
    pub const fn new(scope: LimitScope) -> Self {
        Self { scope, active: Vec::new(), waiting: Vec::new(), next_place: 1 }
    }
}

/// A due row, as it can be read. It is written by [`DueChange`](crate::store::DueChange), never by a put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DueRow {
    /// The task.
    pub task: Task,
    /// Who may take it.
    pub lane: Lane,
    /// When it is due; while claimed, when the lease ends.
    pub due_at: Timestamp,
    /// Who holds it.
    pub claimed_by: Option<String>,
    /// The ticket of the last claim.
    pub ticket: u64,
    /// Lossy bookkeeping.
    pub note: Note,
}

/// The key of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// A dependency as people configured it.
    Dependency(DependencyId),
    /// What the machine knows of a dependency.
    State(DependencyId),
    /// A build.
    Build(BuildId),
    /// A project.
    Project(ProjectId),
    /// A project build.
    ProjectBuild(ProjectBuildId),
    /// A receipt.
    Receipt(ReceiptId),
    /// An orphan, by its build and what the launcher calls it.
    Orphan(BuildId, String),
    /// A limit.
    Limit(LimitScope),
    /// A due row; read-only. Its version says nothing and cannot be expected.
    Due(Task),
}

/// The key in one line of text, equal for equal keys only, as stores use it.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dependency(id) => write!(f, "dependency/{id}"),
            Self::State(id) => write!(f, "state/{id}"),
            Self::Build(id) => write!(f, "build/{id}"),
            Self::Project(id) => write!(f, "project/{id}"),
            Self::ProjectBuild(id) => write!(f, "project-build/{id}"),
            Self::Receipt(id) => write!(f, "receipt/{id}"),
            Self::Orphan(id, external) => write!(f, "orphan/{id}/{external}"),
            Self::Limit(LimitScope::Overall) => f.write_str("limit"),
            Self::Limit(LimitScope::Launcher(name)) => write!(f, "limit/{name}"),
            Self::Due(task) => write!(f, "due/{task}"),
        }
    }
}

/// A stored record.
#[expect(
    clippy::large_enum_variant,
    reason = "a box would stand in every pattern, and records are moved rarely"
)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// A dependency as people configured it.
    Dependency(Dependency),
    /// What the machine knows of a dependency.
    State(DependencyState),
    /// A build.
    Build(Build),
    /// A project.
    Project(Project),
    /// A project build.
    ProjectBuild(ProjectBuild),
    /// A receipt.
    Receipt(Receipt),
    /// An orphan.
    Orphan(Orphan),
    /// A limit.
    Limit(LimitState),
    /// A due row; read-only.
    Due(DueRow),
}

/// A name that only one record may have. At most 1,300 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UniqueKey(String);

impl UniqueKey {
    /// The living dependency of this name.
    pub fn dependency(name: &crate::model::DependencyName) -> Self {
        Self(format!("dependency/{name}"))
    }

    /// The living project of this name.
    pub fn project(name: &crate::model::ProjectName) -> Self {
        Self(format!("project/{name}"))
    }

    /// The unfinished build of a dependency.
    pub fn open_build(dependency: DependencyId) -> Self {
        Self(format!("open-build/{dependency}"))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A list of records. At most 1,300 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListKey(String);

impl ListKey {
    /// The living dependencies, by name.
    pub fn dependencies() -> Self {
        Self("dependencies".into())
    }

    /// The living projects, by name.
    pub fn projects() -> Self {
        Self("projects".into())
    }

    /// The builds of a dependency, by number.
    pub fn builds_of(dependency: DependencyId) -> Self {
        Self(format!("builds/{dependency}"))
    }

    /// The unfinished builds, by id.
    pub fn open_builds() -> Self {
        Self("open-builds".into())
    }

    /// The unfinished build that was launched with this key; at most one.
    pub fn launched_with(key: LaunchKey) -> Self {
        Self(format!("launched-with/{key}"))
    }

    /// The finished builds, by the time of their end.
    pub fn ended_builds() -> Self {
        Self("ended-builds".into())
    }

    /// The good builds of a revision in a source epoch that had no own parameters, by number.
    pub fn good_builds(dependency: DependencyId, epoch: u32, revision: &Revision) -> Self {
        Self(format!("good-builds/{dependency}/{epoch}/{revision}"))
    }

    /// The project builds of a project, by the order of request.
    pub fn project_builds_of(project: ProjectId) -> Self {
        Self(format!("project-builds/{project}"))
    }

    /// The sealed project builds, by the time of their seal.
    pub fn sealed_project_builds() -> Self {
        Self("sealed-project-builds".into())
    }

    /// The receipts of a dependency, by id.
    pub fn receipts_of(dependency: DependencyId) -> Self {
        Self(format!("receipts/{dependency}"))
    }

    /// The settled receipts, by the time of their settlement.
    pub fn settled_receipts() -> Self {
        Self("settled-receipts".into())
    }

    /// The deleted dependencies whose records are still kept, by id.
    pub fn deleted_dependencies() -> Self {
        Self("deleted-dependencies".into())
    }

    /// The deleted projects whose records are still kept, by id.
    pub fn deleted_projects() -> Self {
        Self("deleted-projects".into())
    }

    /// The orphans of a build, by what the launcher calls them.
    pub fn orphans_of(build: BuildId) -> Self {
        Self(format!("orphans/{build}"))
    }

    /// The list as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A sort text for a time: later times sort behind earlier ones.
fn by_time(at: Timestamp, tie: impl fmt::Display) -> String {
    format!("{:020}/{tie}", at.timestamp_micros())
}

fn by_number(number: u64) -> String {
    format!("{number:020}")
}

impl Record {
    /// The key under which it is stored.
    pub fn key(&self) -> Key {
        match self {
            Self::Dependency(r) => Key::Dependency(r.id),
            Self::State(r) => Key::State(r.id),
            Self::Build(r) => Key::Build(r.id),
            Self::Project(r) => Key::Project(r.id),
            Self::ProjectBuild(r) => Key::ProjectBuild(r.id),
            Self::Receipt(r) => Key::Receipt(r.id),
            Self::Orphan(r) => Key::Orphan(r.build, r.external.0.clone()),
            Self::Limit(r) => Key::Limit(r.scope.clone()),
            Self::Due(r) => Key::Due(r.task),
        }
    }

    /// The name that no other record may have, if it has one.
    pub fn unique(&self) -> Option<UniqueKey> {
        match self {
            Self::Dependency(r) if r.deleted_at.is_none() => Some(UniqueKey::dependency(&r.name)),
            Self::Project(r) if r.deleted_at.is_none() => Some(UniqueKey::project(&r.name)),
            Self::Build(r) if !r.phase.is_terminal() => Some(UniqueKey::open_build(r.dependency)),
            _ => None,
        }
    }

    /// The lists in which it is found, each with the text by which it is sorted there. Sort texts are unique within a
    /// list.
    pub fn lists(&self) -> Vec<(ListKey, String)> {
        match self {
            Self::Dependency(r) => vec![match r.deleted_at {
                None => (ListKey::dependencies(), r.name.to_string()),
                Some(_) => (ListKey::deleted_dependencies(), r.id.to_string()),
            }],
            Self::Project(r) if r.deleted_at.is_none() => vec![(ListKey::projects(), r.name.to_string())],
            Self::Build(r) => {
                let mut lists = vec![(ListKey::builds_of(r.dependency), by_number(r.number))];
                match r.ended_at {
                    None => {
                        lists.push((ListKey::open_builds(), r.id.to_string()));
                        lists.push((ListKey::launched_with(r.key), r.id.to_string()));
                    }
                    Some(at) => lists.push((ListKey::ended_builds(), by_time(at, r.id))),
                }
                if r.good && r.parameters.is_empty() {
                    lists.push((
                        ListKey::good_builds(r.dependency, r.epoch, r.stands_for()),
                        by_number(r.number),
                    ));
                }
                lists
            }
            Self::ProjectBuild(r) => {
                let mut lists = vec![(ListKey::project_builds_of(r.project), by_time(r.requested_at, r.id))];
                if let Some(seal) = &r.seal {
                    lists.push((ListKey::sealed_project_builds(), by_time(seal.at, r.id)));
                }
                lists
            }
            Self::Receipt(r) => {
                let mut lists = vec![(ListKey::receipts_of(r.dependency), r.id.to_string())];
                if let Some(at) = r.settled_at {
                    lists.push((ListKey::settled_receipts(), by_time(at, r.id)));
                }
                lists
            }
            Self::Project(r) => vec![(ListKey::deleted_projects(), r.id.to_string())],
            Self::Orphan(r) => vec![(ListKey::orphans_of(r.build), r.external.to_string())],
            Self::State(_) | Self::Limit(_) | Self::Due(_) => vec![],
        }
    }
}
