//! The configuration of a dependency that a job type's script looks at.

use super::{branch::JobType, measure::is_inside};
use crate::script::{Language, ScriptSource};
use capomastro_core::{Error, Result, model::Source, secret::SecretRef};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// Names that the probe sets begin with one of these; a source may not set them.
const OURS: [&str; 2] = ["CAPOMASTRO_", "JOB_TYPE_"];
/// The longest text for `CAPOMASTRO_SOURCE`, in bytes.
const MAX_SOURCE: usize = 4_096;

/// A source that a script of a job type looks at.
///
/// As JSON: `{"job_type": {"git": {"url": "https://example.org/job-types.git"}}, "source": "https://example.org/lib",
/// "probe": ["probe", "--fast"], "language": "changed", "env": {"BRANCH": "main"}, "secret_env": {"TOKEN": {"secret":
/// "forge"}}, "timeout": "20s", "rebuild_on_type_change": true}`; only `job_type` has to be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct JobTypeSource {
    /// The branch that holds the script.
    pub job_type: JobType,
    /// The script, as a path in the branch (`probe` unless given), and its arguments; no shell reads them.
    #[serde(default = "default_probe")]
    pub probe: Vec<String>,
    /// How it answers.
    #[serde(default)]
    pub language: Language,
    /// Where the dependency's own source is, in whatever form the script understands; at most 4,096 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Further environment. Names that begin with `CAPOMASTRO_` or `JOB_TYPE_` are the probe's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Further environment with secret values, which are fetched for each run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_env: BTreeMap<String, SecretRef>,
    /// How long one run of the script may take, as in `"20s"`; what is left of the probe's deadline where absent or longer.
    #[serde(default, with = "humantime_serde::option", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Whether a new revision of the branch is a change of the dependency. Not so unless given: what the script says decides
    /// alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rebuild_on_type_change: bool,
}

fn default_probe() -> Vec<String> {
    vec!["probe".into()]
}

impl JobTypeSource {
    /// A source whose script prints a revision.
    pub fn token(job_type: JobType) -> Self {
        Self::new(job_type, Language::Token)
    }

    /// A source whose script says by its exit status whether there is a change since the last build: true or false.
    pub fn changed(job_type: JobType) -> Self {
        Self::new(job_type, Language::Changed)
    }

    fn new(job_type: JobType, language: Language) -> Self {
        Self {
            job_type,
            probe: default_probe(),
            language,
            source: None,
            env: BTreeMap::new(),
            secret_env: BTreeMap::new(),
            timeout: None,
            rebuild_on_type_change: false,
        }
    }

    /// The script's path in the branch, and its arguments.
    #[must_use]
    pub fn probe<A: Into<String>>(mut self, command: impl IntoIterator<Item = A>) -> Self {
        self.probe = command.into_iter().map(Into::into).collect();
        self
    }

    /// Where the dependency's own source is.
    #[must_use]
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// One variable of the environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// One variable of the environment whose value is the secret of this name.
    #[must_use]
    pub fn secret_env(mut self, name: impl Into<String>, secret: impl Into<String>) -> Self {
        self.secret_env.insert(name.into(), SecretRef::new(secret));
        self
    }

    /// How long one run of the script may take.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Whether a new revision of the branch is a change of the dependency.
    #[must_use]
    pub const fn rebuild_on_type_change(mut self, rebuild: bool) -> Self {
        self.rebuild_on_type_change = rebuild;
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
        self.job_type.source()?;
        if !self.probe.first().is_some_and(|script| is_inside(script)) {
            return Err(Error::config(
                "`probe` does not begin with the path of a script inside the branch: write one such as bin/probe",
            ));
        }
        if self.source.as_ref().is_some_and(|source| source.len() > MAX_SOURCE) {
            return Err(Error::config("`source` is longer than 4,096 bytes: give the script a shorter one"));
        }
        for name in self.env.keys().chain(self.secret_env.keys()) {
            if OURS.iter().any(|ours| name.starts_with(ours)) {
                return Err(Error::config(
                    "a variable of the environment begins with CAPOMASTRO_ or JOB_TYPE_, which are the probe's: rename it",
                )
                .with_context("name", name.escape_debug()));
            }
        }
        if self.source.as_ref().is_some_and(|source| source.contains('\0')) {
            return Err(Error::config("`source` contains a NUL: remove it"));
        }
        self.script("probe".into()).check()
    }

    /// The script at this place as a source of its own.
    pub(super) fn script(&self, program: String) -> ScriptSource {
        let arguments = self.probe.iter().skip(1).cloned();
        let mut script = ScriptSource::new(self.language, std::iter::once(program).chain(arguments));
        script.env.clone_from(&self.env);
        script.secret_env.clone_from(&self.secret_env);
        script.timeout = self.timeout;
        script
    }
}
