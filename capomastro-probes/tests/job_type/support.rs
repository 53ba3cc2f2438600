//! Checkouts in a folder of their own, and a runner that counts.

use capomastro_core::{
    Error, Result, async_trait,
    command::{Command, CommandOutput, CommandRunner},
    model::Revision,
    secret::Secrets,
};
use capomastro_probes::job_type::{Checkout, Checkouts, CheckoutsBuilder, JobType};
use capomastro_process::ProcessRunner;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;

pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Runs programs here, and remembers what they were asked for.
#[derive(Debug, Default)]
pub(crate) struct Remembering(Mutex<Vec<Vec<String>>>);

impl Remembering {
    /// How many commands had this word among their arguments.
    pub(crate) fn count(&self, word: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|args| args.iter().any(|a| a == word)).count()
    }
}

#[async_trait]
impl CommandRunner for Remembering {
    async fn run(&self, command: &Command) -> Result<CommandOutput> {
        let args = command.args.iter().map(|a| a.to_string_lossy().into_owned()).collect();
        self.0.lock().unwrap().push(args);
        ProcessRunner::new().run(command).await
    }
}

/// A folder for checkouts.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) root: TempDir,
    pub(crate) runner: Arc<Remembering>,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { root: TempDir::new().unwrap(), runner: Arc::default() }
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.root.path().join("job-types")
    }

    pub(crate) fn builder(&self) -> CheckoutsBuilder {
        Checkouts::builder(self.folder(), Arc::<Remembering>::clone(&self.runner)).fresh(Duration::ZERO)
    }

    pub(crate) fn checkouts(&self) -> Checkouts {
        self.builder().build().unwrap()
    }

    /// How many are being made, or were left half-done.
    pub(crate) fn making(&self) -> usize {
        entries(&self.folder().join("making"))
    }

    pub(crate) fn kept(&self) -> usize {
        entries(&self.folder().join("checkouts"))
    }
}

fn entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

pub(crate) async fn get(checkouts: &Checkouts, job_type: &JobType, at: &Revision) -> Result<Checkout, Error> {
    checkouts.get(job_type, at, &Secrets::none(), LONG).await
}
