//! What to define.

use crate::{
    Result,
    model::{DependencyName, LauncherName, Policy, ProjectName, Source},
};
use serde_json::Value;
use std::collections::BTreeSet;

/// A dependency to define, with its projects.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DependencySpec {
    /// Its name.
    pub name: DependencyName,
    /// Where it comes from.
    pub source: Source,
    /// The name of its launcher.
    pub launcher: LauncherName,
    /// The launcher's own configuration.
    pub job: Value,
    /// What to do when.
    pub policy: Policy,
    /// The projects that have it; those that do not exist are made.
    pub projects: BTreeSet<ProjectName>,
}

impl DependencySpec {
    /// A dependency with the default policy, an empty job and no project.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if a name is not one.
    pub fn new(name: &str, source: Source, launcher: &str) -> Result<Self> {
        Ok(Self {
            name: name.parse()?,
            source,
            launcher: launcher.parse()?,
            job: Value::Null,
            policy: Policy::default(),
            projects: BTreeSet::new(),
        })
    }

    /// What the launcher is to do, in the launcher's own terms.
    #[must_use]
    pub fn with_job(mut self, job: impl Into<Value>) -> Self {
        self.job = job.into();
        self
    }

    /// What to do when.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// One more project that has it.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the name is not one.
    pub fn in_project(mut self, project: &str) -> Result<Self> {
        self.projects.insert(project.parse()?);
        Ok(self)
    }
}
