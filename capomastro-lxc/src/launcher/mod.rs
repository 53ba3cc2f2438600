//! Builds inside containers.

mod container;
mod job;

pub use job::{Container, LxcJob};

use crate::{
    health::Health,
    root::{Root, is_plain},
    runner::LxcRunner,
};
use async_trait::async_trait;
use capomastro_core::{
    Error, Result,
    launch::{BuildLauncher, BuildOutput, Chunk, Found, Journal, LaunchRequest, Launched, Promise, Report},
    model::{ExternalRef, LaunchKey},
};
use capomastro_process::{CommandLauncher, CommandLauncherBuilder};
use container::Containers;
use job::Policy;
use serde_json::Value;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

/// Builds in containers of this machine, each in a fresh one of its own, whose outcome survives the scheduler.
///
/// A [`CommandLauncher`] whose builds run inside: folders, log, artifacts, what a build is told, what a launch key means,
/// and what is found after whom was killed are the same. The job is an [`LxcJob`]. A build sees its root, its own folders
/// under the paths that its environment names, what its job has shown by the launcher's leave, and nothing else of this
/// machine; it has the network and the limits of the runner that the launcher is made with.
///
/// A build that is to stop gets `SIGTERM`, all its processes at once, and after its job's grace the container is killed.
/// So it is when its supervisor dies. When the build's main process has ended, whatever else runs inside is killed.
///
/// A build whose container could not be set up is `Lost`, since nothing of the revision was run; its log says why. One
/// whose container was ended from outside has failed.
#[derive(Clone, Debug)]
pub struct LxcLauncher {
    launcher: CommandLauncher,
    runner: LxcRunner,
}

/// Sets an [`LxcLauncher`] up. Made by [`LxcLauncher::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing is set up until build is called"]
pub struct LxcLauncherBuilder {
    launcher: CommandLauncherBuilder,
    runner: LxcRunner,
    roots: BTreeMap<String, Root>,
    reads: Vec<PathBuf>,
    writes: Vec<PathBuf>,
}

impl LxcLauncher {
    /// Sets a launcher up that keeps its builds in the folder `folder`, an absolute path on a local disk, and runs them in
    /// containers like those of `runner`: its root (an ephemeral one, for builds that install what they need), network,
    /// limits and user. Several launchers, and several processes, may share the folder.
    pub fn builder(folder: impl Into<PathBuf>, runner: &LxcRunner) -> LxcLauncherBuilder {
        let setup = runner.setup();
        LxcLauncherBuilder {
            launcher: CommandLauncher::builder(folder)
                .clock(Arc::clone(&setup.clock))
                .random(Arc::clone(&setup.random)),
            runner: runner.clone(),
            roots: BTreeMap::new(),
            reads: Vec::new(),
            writes: Vec::new(),
        }
    }

    /// What is missing on this machine for containers; see [`LxcRunner::health`].
    ///
    /// # Errors
    /// Only where not even looking is possible.
    pub async fn health(&self) -> Result<Health> {
        self.runner.health().await
    }

    /// Removes these builds; see [`CommandLauncher::forget`].
    ///
    /// # Errors
    /// As there.
    pub async fn forget(&self, keys: &[LaunchKey]) -> Result<Vec<LaunchKey>> {
        self.launcher.forget(keys).await
    }

    /// Removes builds that ended at least this long ago; see [`CommandLauncher::sweep`].
    ///
    /// # Errors
    /// As there.
    pub async fn sweep(&self, older_than: Duration) -> Result<Vec<LaunchKey>> {
        self.launcher.sweep(older_than).await
    }
}

impl LxcLauncherBuilder {
    /// A root that jobs can choose by this name.
    pub fn root(mut self, name: impl Into<String>, root: Root) -> Self {
        self.roots.insert(name.into(), root);
        self
    }

    /// Jobs may have anything below this folder of this machine shown to them, read-only. Whoever writes jobs can read it.
    pub fn allow_reads(mut self, below: impl Into<PathBuf>) -> Self {
        self.reads.push(below.into());
        self
    }

    /// Jobs may write to anything below this folder of this machine, and read it. Symbolic links that lead out of it are
    /// not followed when a build starts; let nobody who is not trusted change what is in it at that moment.
    pub fn allow_writes(mut self, below: impl Into<PathBuf>) -> Self {
        self.writes.push(below.into());
        self
    }

    /// Where supervisors find their tools; see [`CommandLauncherBuilder::tools_path`].
    pub fn tools_path(mut self, path: impl Into<String>) -> Self {
        self.launcher = self.launcher.tools_path(path);
        self
    }

    /// The launcher. Makes nothing on disk yet.
    ///
    /// # Errors
    /// [`InvalidConfig`](capomastro_core::ErrorKind::InvalidConfig) for paths and roots that cannot be,
    /// [`Unsupported`](capomastro_core::ErrorKind::Unsupported) if this machine lacks a tool of supervisors or `/proc`.
    pub fn build(self) -> Result<LxcLauncher> {
        let setup = self.runner.setup();
        for root in self.roots.values() {
            root.check()?;
        }
        for path in self.reads.iter().chain(&self.writes) {
            if !is_plain(path) || path.parent().is_none() {
                return Err(Error::config(
                    "a folder that jobs are allowed is not an absolute path without dots, or is /: give such a path",
                )
                .with_context("folder", path.display()));
            }
        }
        let policy = Policy {
            roots: self.roots,
            reads: self.reads,
            writes: self.writes,
            limits: setup.limits.clone(),
        };
        let containers = Containers::new(setup.clone(), policy);
        let launcher = self.launcher.enclosed(Arc::new(containers)).build()?;
        Ok(LxcLauncher { launcher, runner: self.runner })
    }
}

#[async_trait]
impl BuildLauncher for LxcLauncher {
    fn promise(&self) -> Promise {
        self.launcher.promise()
    }

    fn check_job(&self, job: &Value) -> Result<()> {
        self.launcher.check_job(job)
    }

    /// A job that cannot work (a program that the root lacks, a folder that does not exist or is not allowed) is refused
    /// for good. Adopts a build of this key that is there already, whatever the request says.
    async fn launch(&self, request: &LaunchRequest, journal: &dyn Journal) -> Result<Launched> {
        self.launcher.launch(request, journal).await
    }

    async fn find(&self, request: &LaunchRequest) -> Result<Found> {
        self.launcher.find(request).await
    }

    async fn observe(&self, builds: &[(LaunchKey, ExternalRef)]) -> Vec<Result<Report>> {
        self.launcher.observe(builds).await
    }

    async fn cancel(&self, key: &LaunchKey, build: &ExternalRef) -> Result<()> {
        self.launcher.cancel(key, build).await
    }
}

#[async_trait]
impl BuildOutput for LxcLauncher {
    async fn log(&self, build: &ExternalRef, offset: u64, max: usize) -> Result<Chunk> {
        self.launcher.log(build, offset, max).await
    }

    async fn artifact(&self, build: &ExternalRef, name: &str, offset: u64, max: usize) -> Result<Chunk> {
        self.launcher.artifact(build, name, offset, max).await
    }
}
