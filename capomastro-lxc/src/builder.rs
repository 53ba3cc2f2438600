//! How a runner is put together.

use crate::{
    config::{IdMap, Mount, User},
    network::Network,
    root::{Root, is_plain},
    runner::LxcRunner,
};
use capomastro_core::{
    Error, Result,
    time::{Clock, Random, SystemClock, SystemRandom},
};
use std::{ffi::OsString, path::PathBuf, sync::Arc};

/// How much a container may take.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of memory, scratch space included; `None` for as much as there is. Whoever wants more is killed. 1 GiB
    /// unless given.
    pub memory: Option<u64>,
    /// Processes and threads at a time. 1,024 unless given.
    pub processes: u32,
    /// Files that each process has open at a time. 4,096 unless given.
    pub open_files: u32,
    /// Bytes below `/tmp` and below `/dev/shm`, each; they are memory. 256 MiB unless given.
    pub scratch: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: Some(1 << 30), processes: 1_024, open_files: 4_096, scratch: 256 << 20 }
    }
}

impl Limits {
    /// The same limits with so many bytes of memory.
    #[must_use]
    pub const fn memory(mut self, bytes: Option<u64>) -> Self {
        self.memory = bytes;
        self
    }

    /// The same limits with so many processes.
    #[must_use]
    pub const fn processes(mut self, count: u32) -> Self {
        self.processes = count;
        self
    }

    /// The same limits with so many open files.
    #[must_use]
    pub const fn open_files(mut self, count: u32) -> Self {
        self.open_files = count;
        self
    }

    /// The same limits with so many bytes of scratch space.
    #[must_use]
    pub const fn scratch(mut self, bytes: u64) -> Self {
        self.scratch = bytes;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.memory.is_some_and(|m| m < 4 << 20) || self.processes < 8 || self.open_files < 16 {
            return Err(Error::config(
                "the limits are too low for any container: give 4 MiB of memory, 8 processes and 16 open files at least",
            ));
        }
        if self.scratch == 0 {
            return Err(Error::config("a container without scratch space cannot run: give some bytes"));
        }
        Ok(())
    }
}

/// Makes an [`LxcRunner`].
#[derive(Clone, Debug)]
pub struct LxcRunnerBuilder {
    pub(crate) state: PathBuf,
    pub(crate) root: Root,
    pub(crate) network: Network,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) limits: Limits,
    pub(crate) user: Option<User>,
    pub(crate) ids: Option<IdMap>,
    pub(crate) program: OsString,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
}

impl LxcRunnerBuilder {
    pub(crate) fn new(state: PathBuf, root: Root) -> Self {
        Self {
            state,
            root,
            network: Network::None,
            mounts: Vec::new(),
            limits: Limits::default(),
            user: None,
            ids: None,
            program: "lxc-execute".into(),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
        }
    }

    /// What containers can reach; nothing unless given.
    #[must_use]
    pub fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// Shows the folder or file `from` of this machine as `inside`, read-only.
    #[must_use]
    pub fn show(mut self, from: impl Into<PathBuf>, inside: impl Into<PathBuf>) -> Self {
        let (from, inside) = (from.into(), inside.into());
        let is_folder = !from.is_file();
        self.mounts.push(Mount::read_only(&from, &inside, is_folder));
        self
    }

    /// Shows the folder or file `from` of this machine as `inside`, where commands may write to it.
    #[must_use]
    pub fn share(mut self, from: impl Into<PathBuf>, inside: impl Into<PathBuf>) -> Self {
        let (from, inside) = (from.into(), inside.into());
        let is_folder = !from.is_file();
        self.mounts.push(Mount::read_only(&from, &inside, is_folder).writable());
        self
    }

    /// How much a container may take.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The user and group, inside, that commands run as; root unless given.
    #[must_use]
    pub const fn user(mut self, uid: u32, gid: u32) -> Self {
        self.user = Some(User { uid, gid });
        self
    }

    /// Ids inside, from 0, are `count` ids outside from `first`, so that root inside is nobody outside. `/etc/subuid` and
    /// `/etc/subgid` must grant them to the user that runs this. What is shown of this machine must be readable by them.
    #[must_use]
    pub const fn id_map(mut self, first: u32, count: u32) -> Self {
        self.ids = Some(IdMap { first, count });
        self
    }

    /// The program that runs containers; `lxc-execute`, looked up in the usual folders, unless given.
    #[must_use]
    pub fn lxc_execute(mut self, program: impl Into<OsString>) -> Self {
        self.program = program.into();
        self
    }

    /// The clock that measures deadlines.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where names of containers come from.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// The runner. Nothing is run or written yet.
    ///
    /// # Errors
    /// [`InvalidConfig`](capomastro_core::ErrorKind::InvalidConfig) for paths that are not absolute and plain, limits
    /// that are too low, and a network that cannot be.
    pub fn build(self) -> Result<LxcRunner> {
        if !is_plain(&self.state) || self.state.to_str().is_none_or(|s| s.contains([',', ':', '\n'])) {
            return Err(Error::config(
                "the state folder is not an absolute path of UTF-8 without dots, commas, colons and line breaks: give one",
            )
            .with_context("state", self.state.display()));
        }
        for mount in &self.mounts {
            let inside = std::path::Path::new("/").join(mount.inside());
            if !is_plain(mount.from()) || !is_plain(&inside) || mount.inside().as_os_str().is_empty() {
                return Err(Error::config(
                    "what is shown inside a container has absolute paths without dots, here and there: give such",
                )
                .with_context("from", mount.from().display())
                .with_context("inside", mount.inside().display()));
            }
        }
        if self.ids.is_some_and(|ids| ids.count == 0 || ids.first == 0) {
            return Err(Error::config("a map of ids starts above 0 and has at least one id: correct it"));
        }
        self.root.check()?;
        self.network.check()?;
        self.limits.check()?;
        Ok(LxcRunner::of(self))
    }
}
