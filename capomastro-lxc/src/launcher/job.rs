//! What a dependency's job says to the launcher of containers.

use crate::{
    builder::Limits,
    root::{Root, is_plain},
};
use capomastro_core::{Error, Result, model::without_value};
use capomastro_process::CommandJob;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// How many folders a job may have shown.
const MAX_FOLDERS: usize = 32;

/// The job of a dependency that is built by [`LxcLauncher`](crate::LxcLauncher): a [`CommandJob`], and what its container
/// is to be. As JSON all fields stand side by side.
///
/// ```
/// use capomastro_lxc::LxcJob;
/// use capomastro_process::CommandJob;
/// let job = LxcJob::new(CommandJob::new(["make", "dist"]).artifact("dist/*.tar.gz"))
///     .root("bookworm")
///     .memory(2 << 30)
///     .writes("/srv/cache/ccache");
/// # assert!(job.check().is_ok());
/// let json = serde_json::json!({
///     "command": ["make", "dist"],
///     "artifacts": ["dist/*.tar.gz"],
///     "root": "bookworm",
///     "memory": 2_147_483_648_u64,
///     "writes": ["/srv/cache/ccache"],
/// });
/// # let again: LxcJob = serde_json::from_value(json).unwrap();
/// # assert_eq!(again, job);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LxcJob {
    /// What is run inside, and what is kept of it. Its `dir` must lie in a folder of [`reads`](Self::reads) or
    /// [`writes`](Self::writes).
    #[serde(flatten)]
    pub command: CommandJob,
    /// What its container is to be.
    #[serde(flatten)]
    pub container: Container,
}

/// What the container of a job is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Container {
    /// The name of one of the launcher's roots; its own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// Folders and files of this machine that are shown under their own paths, read-only. The launcher must allow them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<PathBuf>,
    /// Folders of this machine that are shown under their own paths and may be written to. The launcher must allow them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writes: Vec<PathBuf>,
    /// Bytes of memory; at most, and where absent, what the launcher allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Processes and threads at a time; at most, and where absent, what the launcher allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
}

/// The names of the fields of [`Container`].
const FIELDS: [&str; 5] = ["root", "reads", "writes", "memory", "processes"];

impl<'de> Deserialize<'de> for LxcJob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let all = Map::deserialize(deserializer)?;
        let (container, command): (Map<_, _>, Map<_, _>) =
            all.into_iter().partition(|(name, _)| FIELDS.contains(&name.as_str()));
        let container = Container::deserialize(Value::Object(container)).map_err(serde::de::Error::custom)?;
        let command = CommandJob::deserialize(Value::Object(command)).map_err(serde::de::Error::custom)?;
        Ok(Self { command, container })
    }
}

/// The job as a dependency stores it.
impl From<LxcJob> for Value {
    fn from(job: LxcJob) -> Self {
        serde_json::to_value(job).expect("text, numbers and maps with text as keys are JSON")
    }
}

impl LxcJob {
    /// A job that runs this command in a container of the launcher's kind.
    pub fn new(command: CommandJob) -> Self {
        Self { command, container: Container::default() }
    }

    /// The same job with the launcher's root of this name.
    #[must_use]
    pub fn root(mut self, name: impl Into<String>) -> Self {
        self.container.root = Some(name.into());
        self
    }

    /// The same job that is shown this folder or file of this machine, read-only.
    #[must_use]
    pub fn reads(mut self, path: impl Into<PathBuf>) -> Self {
        self.container.reads.push(path.into());
        self
    }

    /// The same job that may write to this folder of this machine.
    #[must_use]
    pub fn writes(mut self, path: impl Into<PathBuf>) -> Self {
        self.container.writes.push(path.into());
        self
    }

    /// The same job with so many bytes of memory.
    #[must_use]
    pub const fn memory(mut self, bytes: u64) -> Self {
        self.container.memory = Some(bytes);
        self
    }

    /// The same job with so many processes and threads.
    #[must_use]
    pub const fn processes(mut self, count: u32) -> Self {
        self.container.processes = Some(count);
        self
    }

    pub(crate) fn parse(job: &Value) -> Result<Self> {
        let job = Self::deserialize(job).map_err(|e| {
            Error::config("the job does not fit the launcher of containers: see the fields of LxcJob")
                .with_context("problem", without_value(&e.to_string()))
        })?;
        job.check()?;
        Ok(job)
    }

    /// Checks what can be told without the launcher and the machine.
    ///
    /// # Errors
    /// [`InvalidConfig`](capomastro_core::ErrorKind::InvalidConfig), saying what to do.
    pub fn check(&self) -> Result<()> {
        self.command.check()?;
        let Container { reads, writes, .. } = &self.container;
        if reads.len() + writes.len() > MAX_FOLDERS {
            return Err(Error::config("the job names more than 32 folders: name folders that hold them"));
        }
        for path in reads.iter().chain(writes) {
            if !is_plain(path) || path.parent().is_none() || path.to_str().is_none_or(|p| p.contains('\0')) {
                return Err(Error::config(
                    "a folder of the job is not an absolute path in UTF-8 without dots, or is /: give such a path",
                )
                .with_context("folder", path.display().to_string().escape_debug()));
            }
        }
        if let Some(dir) = &self.command.dir
            && !(is_plain(dir) && reads.iter().chain(writes).any(|shown| dir.starts_with(shown)))
        {
            return Err(Error::config("the job's dir is not shown in its container: name it among writes")
                .with_context("dir", dir.display()));
        }
        Ok(())
    }
}

/// What the launcher allows its jobs.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) roots: BTreeMap<String, Root>,
    pub(crate) reads: Vec<PathBuf>,
    pub(crate) writes: Vec<PathBuf>,
    pub(crate) limits: Limits,
}

impl Policy {
    /// Checks that the launcher allows what a job asks for.
    pub(crate) fn check(&self, container: &Container) -> Result<()> {
        if let Some(name) = &container.root
            && !self.roots.contains_key(name)
        {
            return Err(Error::config(
                "the launcher has no root of this name: set it up there, or correct the job",
            )
            .with_context("root", name.escape_debug()));
        }
        for path in &container.writes {
            self.allows(path, true)?;
        }
        for path in &container.reads {
            self.allows(path, false)?;
        }
        self.limits(container).map(drop)
    }

    /// Whether a path, as it is written or as it really leads, may be shown.
    pub(crate) fn allows(&self, path: &Path, written: bool) -> Result<()> {
        let reads: &[PathBuf] = if written { &[] } else { &self.reads };
        if self.writes.iter().chain(reads).any(|allowed| path.starts_with(allowed)) {
            return Ok(());
        }
        Err(Error::config(
            "the launcher does not allow its jobs this folder of the machine: allow it there, or take one that is \
             allowed",
        )
        .with_context("folder", path.display())
        .with_context("written", written))
    }

    /// The limits of a job's container.
    pub(crate) fn limits(&self, container: &Container) -> Result<Limits> {
        let mut limits = self.limits.clone();
        let over = |what: &str| {
            Error::config(format!("the job asks for more {what} than its launcher allows: ask for less"))
        };
        if let Some(memory) = container.memory {
            if limits.memory.is_some_and(|most| memory > most) {
                return Err(over("memory"));
            }
            limits.memory = Some(memory);
        }
        if let Some(processes) = container.processes {
            if processes > limits.processes {
                return Err(over("processes"));
            }
            limits.processes = processes;
        }
        limits.check()?;
        Ok(limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capomastro_core::ErrorKind;
    use serde_json::json;

    fn policy() -> Policy {
        Policy {
            roots: BTreeMap::from([("small".into(), Root::Folder("/srv/small".into()))]),
            reads: vec!["/srv/sources".into()],
            writes: vec!["/srv/cache".into()],
            limits: Limits::default().memory(Some(1 << 30)).processes(100),
        }
    }

    #[test]
    fn jobs_that_cannot_work_are_refused_with_what_to_do() {
        for (job, says) in [
            (json!({}), "does not fit"),
            (json!(null), "does not fit"),
            (json!({"command": []}), "empty"),
            (json!({"command": ["a"], "comand": 1}), "does not fit"),
            (json!({"command": ["a"], "reads": "x"}), "does not fit"),
            (json!({"command": ["a"], "memory": -1}), "does not fit"),
            (json!({"command": ["a"], "reads": ["x"]}), "absolute"),
            (json!({"command": ["a"], "reads": ["/"]}), "absolute"),
            (json!({"command": ["a"], "writes": ["/srv/cache/../.."]}), "absolute"),
            (json!({"command": ["a"], "dir": "/srv/cache"}), "not shown"),
            (json!({"command": ["a"], "writes": ["/srv/cache"], "dir": "/srv/cache/../x"}), "not shown"),
            (json!({"command": ["a"], "writes": vec!["/srv/cache"; 33]}), "more than 32"),
            (json!({"command": ["a"], "root": "large"}), "no root"),
            (json!({"command": ["a"], "writes": ["/srv/sources"]}), "does not allow"),
            (json!({"command": ["a"], "writes": ["/srv/caches"]}), "does not allow"),
            (json!({"command": ["a"], "reads": ["/etc"]}), "does not allow"),
            (json!({"command": ["a"], "memory": 1_u64 << 31}), "more memory"),
            (json!({"command": ["a"], "memory": 1}), "too low"),
            (json!({"command": ["a"], "processes": 101}), "more processes"),
        ] {
            let e = LxcJob::parse(&job).and_then(|job| policy().check(&job.container)).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{job}");
            assert!(e.to_string().contains(says), "{job}: {e}");
        }
    }

    #[test]
    fn a_job_is_what_was_written() {
        let job = LxcJob::new(CommandJob::script("make").dir("/srv/cache/a").artifact("x"))
            .root("small")
            .reads("/srv/sources")
            .reads("/srv/cache/b")
            .writes("/srv/cache/a")
            .memory(1 << 29)
            .processes(50);
        let again = LxcJob::parse(&Value::from(job.clone())).unwrap();
        assert_eq!(again, job);
        policy().check(&job.container).unwrap();
        let limits = policy().limits(&job.container).unwrap();
        assert_eq!((limits.memory, limits.processes), (Some(1 << 29), 50));
    }
}
