//! The configuration of a source that a job looks at.

use crate::address::JobName;
use capomastro_core::{Error, Result, model::Source};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// Names of parameters that the probe sends begin so; a source may not.
const RESERVED: &str = "CAPOMASTRO_PROBE_";
/// The most parameters of a source.
const MAX_PARAMETERS: usize = 200;
/// The most bytes of names and values together.
const MAX_BYTES: usize = 100_000;
/// The longest that one look may be given.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);

/// How a job answers, between the marks.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// It prints the revision on one line. The better language: one run answers all dependencies with this source.
    #[default]
    Token,
    /// It prints `true` or `false`: whether something has changed since the last build. Each dependency has a run of its
    /// own.
    Changed,
}

/// A source that a job on Jenkins looks at.
///
/// As JSON: `{"job": "probes/lib", "language": "token", "parameters": {"CAPOMASTRO_BRANCH": "lib"}, "timeout": "5m"}`;
/// only `job` has to be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct JobSource {
    /// The job's full name, folders first: `folder/job`. It is made from a template
    /// [for probes](crate::template::JobTemplate::for_probes), or declares the same parameters and prints the same marks.
    pub job: String,
    /// How it answers.
    #[serde(default)]
    pub language: Language,
    /// Further parameters; the job declares them. Not secret: Jenkins shows them to all who may see the job. At most 200
    /// with 100,000 bytes, and none whose name begins with `CAPOMASTRO_PROBE_`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// How long one look may take, from the request to the answer, waiting in Jenkins' queue included; as in `"5m"`, at
    /// most a day. The probe's deadline where absent or longer than that: raise the dependency's
    /// [time-out](capomastro_core::model::Timeouts::probe) as well.
    #[serde(default, with = "humantime_serde::option", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
}

impl JobSource {
    /// A source whose job prints a revision.
    pub fn token(job: impl Into<String>) -> Self {
        Self { job: job.into(), language: Language::Token, parameters: BTreeMap::new(), timeout: None }
    }

    /// A source whose job prints whether something has changed since the last build.
    pub fn changed(job: impl Into<String>) -> Self {
        Self { language: Language::Changed, ..Self::token(job) }
    }

    /// One more parameter.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }

    /// How long one look may take.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The source of a dependency, for the probe registered as `probe`.
    ///
    /// # Errors
    /// [`InvalidConfig`](capomastro_core::ErrorKind::InvalidConfig) with what to do where something is not acceptable;
    /// [`InvalidInput`](capomastro_core::ErrorKind::InvalidInput) if the probe's name is not one.
    pub fn into_source(self, probe: &str) -> Result<Source> {
        self.check()?;
        Source::new(probe, self)
    }

    pub(super) fn parse(source: &Source) -> Result<Self> {
        let parsed: Self = source.parse()?;
        parsed.check().map_err(|e| e.with_context("probe", &source.probe))?;
        Ok(parsed)
    }

    fn check(&self) -> Result<()> {
        JobName::parse(&self.job)?;
        if self.timeout.is_some_and(|t| t < Duration::from_secs(1) || t > MAX_TIMEOUT) {
            return Err(Error::config(
                "a job source's `timeout` is not 1 s to a day: give a time such as \"5m\"",
            ));
        }
        if self.parameters.len() > MAX_PARAMETERS
            || self.parameters.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_BYTES
        {
            return Err(Error::config(
                "a job source has more than 200 parameters or 100,000 bytes in them: remove some",
            ));
        }
        for name in self.parameters.keys() {
            if name.is_empty() || name.starts_with(RESERVED) || name == "delay" {
                let message = "a job source has a parameter whose name is empty or one that the probe or Jenkins takes: choose another";
                return Err(Error::config(message).with_context("name", name.escape_debug()));
            }
        }
        Ok(())
    }
}
