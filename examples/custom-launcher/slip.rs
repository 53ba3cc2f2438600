//! What stands in the files: the form that launcher and workers agree on.

use capomastro_core::{
    Error, Result,
    launch::{Ended, LaunchRequest, Outcome},
    model::{Artifact, BuildKey, DependencyName, Parameters, Revision},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The launcher's own part of a dependency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Job {
    /// Which of the recipes that the workers know.
    recipe: String,
}

impl Job {
    pub(crate) fn parse(job: &Value) -> Result<Self> {
        let text = "a job of the spool is {\"recipe\": \"name\"}, of letters, digits and dashes";
        let job: Self =
            serde_json::from_value(job.clone()).map_err(|e| Error::config(text).with_source(e))?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if job.recipe.is_empty() || job.recipe.len() > 100 || !job.recipe.chars().all(is_name) {
            return Err(Error::config(text));
        }
        Ok(job)
    }
}

/// An order: everything that a worker must know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Slip {
    job: Job,
    pub(crate) dependency: DependencyName,
    pub(crate) number: u64,
    pub(crate) revision: Revision,
    pub(crate) parameters: Parameters,
    pub(crate) build_key: Option<BuildKey>,
}

impl Slip {
    pub(crate) fn new(request: &LaunchRequest) -> Result<Self> {
        Ok(Self {
            job: Job::parse(&request.job)?,
            dependency: request.dependency.clone(),
            number: request.number,
            revision: request.revision.clone(),
            parameters: request.parameters.clone(),
            build_key: request.build_key.clone(),
        })
    }
}

/// How it ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SlipEnd {
    pub(crate) result: SlipResult,
    /// The revision that was really built.
    pub(crate) built: Option<Revision>,
    pub(crate) artifacts: Vec<Artifact>,
}

#[derive(Copy, Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SlipResult {
    Good,
    Mixed,
    Bad,
    Stopped,
}

impl From<Outcome> for SlipResult {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => Self::Good,
            Outcome::Unstable => Self::Mixed,
            Outcome::Failed | Outcome::Lost => Self::Bad,
            Outcome::Cancelled => Self::Stopped,
        }
    }
}

impl From<SlipEnd> for Ended {
    fn from(end: SlipEnd) -> Self {
        let mut ended = Self::new(match end.result {
            SlipResult::Good => Outcome::Succeeded,
            SlipResult::Mixed => Outcome::Unstable,
            SlipResult::Bad => Outcome::Failed,
            SlipResult::Stopped => Outcome::Cancelled,
        });
        (ended.built, ended.artifacts) = (end.built, end.artifacts);
        ended
    }
}
