//! The branch of a job type, of whatever kind: how it is looked at, and how a revision of it gets into a folder.

use crate::{
    bzr::{BzrProbe, BzrSource},
    git::{GitProbe, GitSource},
    hg::{HgProbe, HgSource},
    svn::{SvnProbe, SvnSource},
};
use capomastro_core::{
    Error, Result,
    command::{Command, CommandRunner},
    model::{DependencyName, Observation, Revision, Source},
    probe::{Ask, Probed, RevisionProbe},
    secret::Secrets,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{path::Path, sync::Arc, time::Duration};

/// A branch that holds scripts.
///
/// As JSON it is `{"git": {"url": "https://example.org/job-types.git", "branch": "python"}}`: the kind, and what the probe of
/// that kind takes as a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobType {
    /// Of git. Submodules stay empty and no filter (such as LFS) is applied.
    Git(GitSource),
    /// Of Bazaar (Breezy).
    Bzr(BzrSource),
    /// Of Mercurial. Subrepositories are left out.
    Hg(HgSource),
    /// Of Subversion. Externals are left out.
    Svn(SvnSource),
}

impl JobType {
    /// The branch as a source of the probe of its kind.
    ///
    /// # Errors
    /// [`InvalidConfig`](capomastro_core::ErrorKind::InvalidConfig), saying what to do.
    pub fn source(&self) -> Result<Source> {
        match self {
            Self::Git(source) => source.clone().source("git"),
            Self::Bzr(source) => source.clone().source("bzr"),
            Self::Hg(source) => source.clone().source("hg"),
            Self::Svn(source) => source.clone().source("svn"),
        }
    }

    /// What this branch is called among others: equal branches, equal names.
    pub(super) fn digest(&self, revision: &Revision) -> Result<String> {
        let config = serde_json::to_vec(&(self, revision)).map_err(|e| {
            Error::config("the job type cannot be written as JSON: give its URL as UTF-8").with_source(e)
        })?;
        Ok(Sha256::digest(config).iter().take(16).map(|b| format!("{b:02x}")).collect())
    }
}

/// Where and how a revision is to be written.
#[derive(Debug)]
pub(crate) struct Export<'a> {
    pub(crate) runner: &'a dyn CommandRunner,
    /// An empty folder that is there.
    pub(crate) tree: &'a Path,
    /// Another one, for what the version control system needs meanwhile.
    pub(crate) scratch: &'a Path,
    pub(crate) secrets: &'a Secrets,
    pub(crate) deadline: Duration,
}

impl Export<'_> {
    /// The command, which may take as long as the export.
    pub(crate) fn limit(&self, command: Command) -> Command {
        command.deadline(self.deadline)
    }
}

/// The probes by which branches are looked at and written.
#[derive(Clone, Debug)]
pub(super) struct Kinds {
    pub(super) git: GitProbe,
    pub(super) bzr: BzrProbe,
    pub(super) hg: HgProbe,
    pub(super) svn: SvnProbe,
}

impl Kinds {
    /// With programs that this runner runs.
    pub(super) fn new(runner: &Arc<dyn CommandRunner>) -> Self {
        Self {
            git: GitProbe::builder().runner(Arc::clone(runner)).build(),
            bzr: BzrProbe::builder().runner(Arc::clone(runner)).build(),
            hg: HgProbe::builder().runner(Arc::clone(runner)).build(),
            svn: SvnProbe::builder().runner(Arc::clone(runner)).build(),
        }
    }

    /// What the branch is at now.
    pub(super) async fn look(
        &self,
        job_type: &JobType,
        secrets: &Secrets,
        deadline: Duration,
    ) -> Result<Observation> {
        let name: DependencyName = "job type".parse()?;
        let asks = [Ask::new(name, job_type.source()?, deadline, secrets.clone())];
        let mut answers = match job_type {
            JobType::Git(_) => self.git.probe(&asks).await,
            JobType::Bzr(_) => self.bzr.probe(&asks).await,
            JobType::Hg(_) => self.hg.probe(&asks).await,
            JobType::Svn(_) => self.svn.probe(&asks).await,
        };
        match answers.pop() {
            Some(Ok(Probed::Observed(observation))) => Ok(observation),
            Some(Ok(_)) => Err(Error::config(
                "the branch of the job type is not there: make it, or correct the job type's URL and branch",
            )),
            Some(Err(e)) => Err(e),
            None => Err(Error::internal("a look at a job type was not answered")),
        }
    }

    /// Writes a revision's files.
    ///
    /// Errors: [`NotFound`](capomastro_core::ErrorKind::NotFound) if the repository has it no more.
    pub(super) async fn export(
        &self,
        job_type: &JobType,
        revision: &Revision,
        export: &Export<'_>,
    ) -> Result<()> {
        match job_type {
            JobType::Git(source) => self.git.export(source, revision, export).await,
            JobType::Bzr(source) => self.bzr.export(source, revision, export).await,
            JobType::Hg(source) => self.hg.export(source, revision, export).await,
            JobType::Svn(source) => self.svn.export(source, revision, export).await,
        }
    }
}
