//! What a dependency's job says to this launcher.

use crate::address::{JobName, is_dots};
use capomastro_core::{Error, Result, model::without_value, secret::SecretRef};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};

/// The parameter that carries the launch key, unless a job says otherwise.
pub(crate) const ID_PARAMETER: &str = "CAPOMASTRO_BUILD_ID";
const REVISION_PARAMETER: &str = "CAPOMASTRO_REVISION";
/// Shorter, and the safe time for asking again is over before it can be used; longer, and builds wait for nothing.
const QUIET: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(60);
const MAX_PARAMETERS: usize = 200;
const MAX_PATH: usize = 500;

/// The job of a dependency that is built by [`JenkinsLauncher`](crate::JenkinsLauncher).
///
/// The Jenkins job must be parameterised and **declare** each parameter that is sent: Jenkins drops others silently, so
/// the launcher refuses to launch when one is missing. The launch key travels in [`id_parameter`](Self::id_parameter); a
/// job must hand it to nothing that could start a second build.
///
/// ```
/// use capomastro_jenkins::JenkinsJob;
/// let job = JenkinsJob::new("team/libfoo").parameter("TARGET", "arm64");
/// # job.check().unwrap();
/// let json = serde_json::json!({
///     "job": "team/libfoo",
///     "parameters": {"TARGET": "arm64", "UPLOAD_TOKEN": {"secret": "upload"}},
///     "quiet_period": "15s",
///     "built": {"git": {"remote": "https://git.example.org/libfoo.git"}},
///     "artifacts": "digest",
/// });
/// # serde_json::from_value::<JenkinsJob>(json).unwrap().check().unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct JenkinsJob {
    /// The job's full name, with its folders: `folder/job`. Raw, not encoded.
    pub job: String,
    /// The declared text parameter that carries the launch key; default `CAPOMASTRO_BUILD_ID`. Not `BUILD_ID`, which is
    /// Jenkins' own and would keep it from ending what a build leaves behind.
    #[serde(default = "id_parameter", skip_serializing_if = "is_id_parameter")]
    pub id_parameter: String,
    /// The declared text parameter that carries the revision to build; default `CAPOMASTRO_REVISION`.
    #[serde(default = "revision_parameter", skip_serializing_if = "is_revision_parameter")]
    pub revision_parameter: String,
    /// The declared parameter that carries the dependency's name, if it is to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependency_parameter: Option<String>,
    /// The declared parameter that carries the build's number, if it is to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number_parameter: Option<String>,
    /// The declared parameter that carries the key shared by the builds of one request, if it is to be told. Empty where
    /// there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_key_parameter: Option<String>,
    /// The declared parameter that carries who asked for the build, separated by commas, if it is to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester_parameter: Option<String>,
    /// Further declared parameters, sent with each build; those that somebody gives for one build come before them. At
    /// most 200.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, ParameterValue>,
    /// How long Jenkins lets the build wait in its queue before it starts: 10 s to 60 s in whole seconds, default 10 s.
    /// While it waits, asking for it once more is harmless.
    #[serde(default = "quiet_period", with = "humantime_serde")]
    pub quiet_period: Duration,
    /// Where the revision that was really built is read; default nowhere.
    #[serde(default, skip_serializing_if = "Built::is_default")]
    pub built: Built,
    /// What is told of the build's artifacts; default their names.
    #[serde(default, skip_serializing_if = "Artifacts::is_default")]
    pub artifacts: Artifacts,
}

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected text or {\"secret\": \"its name\"}")]
pub enum ParameterValue {
    /// The value itself.
    Plain(String),
    /// The name of a secret, whose value is fetched at launch. Declare the parameter as a password in Jenkins, which
    /// shows it otherwise.
    Secret(SecretRef),
}

impl From<&str> for ParameterValue {
    fn from(s: &str) -> Self {
        Self::Plain(s.into())
    }
}

impl From<String> for ParameterValue {
    fn from(s: String) -> Self {
        Self::Plain(s)
    }
}

impl From<SecretRef> for ParameterValue {
    fn from(s: SecretRef) -> Self {
        Self::Secret(s)
    }
}

/// Where the revision that a build has really built is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Built {
    /// Nowhere: the build stands for the revision that was asked for.
    #[default]
    Unknown,
    /// What the git plugin says it has checked out.
    Git {
        /// The URL of the repository, as the job checks it out, where a build checks out several. Without it a build
        /// that checked out more than one revision tells none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remote: Option<String>,
    },
    /// The first line of an artifact, for whatever else a job checks out with.
    Artifact {
        /// Its path among the build's artifacts.
        path: String,
    },
}

impl Built {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::Unknown
    }
}

/// What is told of a build's artifacts.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Artifacts {
    /// Nothing.
    None,
    /// Their names.
    #[default]
    List,
    /// Their names, sizes and SHA-256 digests, for which each is downloaded once when the build has ended.
    Digest,
}

impl Artifacts {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::List
    }
}

fn id_parameter() -> String {
    ID_PARAMETER.into()
}
pub(crate) fn is_id_parameter(name: &str) -> bool {
    name == ID_PARAMETER
}
fn revision_parameter() -> String {
    REVISION_PARAMETER.into()
}
fn is_revision_parameter(name: &str) -> bool {
    name == REVISION_PARAMETER
}
const fn quiet_period() -> Duration {
    Duration::from_secs(10)
}

/// The job as a dependency stores it.
impl From<JenkinsJob> for Value {
    fn from(job: JenkinsJob) -> Self {
        serde_json::to_value(job).expect("text, numbers and maps with text as keys are JSON")
    }
}

impl JenkinsJob {
    /// The job of this full name.
    pub fn new(job: impl Into<String>) -> Self {
        Self {
            job: job.into(),
            id_parameter: id_parameter(),
            revision_parameter: revision_parameter(),
            dependency_parameter: None,
            number_parameter: None,
            build_key_parameter: None,
            requester_parameter: None,
            parameters: BTreeMap::new(),
            quiet_period: quiet_period(),
            built: Built::default(),
            artifacts: Artifacts::default(),
        }
    }

    /// The same job with one more parameter.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<ParameterValue>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }

    /// The same job with another quiet period.
    #[must_use]
    pub const fn quiet_period(mut self, wait: Duration) -> Self {
        self.quiet_period = wait;
        self
    }

    /// The same job, telling the revision really built from this place.
    #[must_use]
    pub fn built(mut self, built: Built) -> Self {
        self.built = built;
        self
    }

    /// The same job, telling this of its artifacts.
    #[must_use]
    pub const fn artifacts(mut self, artifacts: Artifacts) -> Self {
        self.artifacts = artifacts;
        self
    }

    pub(crate) fn parse(job: &Value) -> Result<Self> {
        let job = Self::deserialize(job).map_err(|e| {
            Error::config("the job does not fit the Jenkins launcher: see the fields of JenkinsJob")
                .with_context("problem", without_value(&e.to_string()))
        })?;
        job.check()?;
        Ok(job)
    }

    pub(crate) fn name(&self) -> Result<JobName> {
        JobName::parse(&self.job)
    }

    /// The parameters that the launcher itself fills in.
    fn own(&self) -> impl Iterator<Item = &str> {
        [Some(&self.id_parameter), Some(&self.revision_parameter)]
            .into_iter()
            .chain([
                self.dependency_parameter.as_ref(),
                self.number_parameter.as_ref(),
                self.build_key_parameter.as_ref(),
                self.requester_parameter.as_ref(),
            ])
            .flatten()
            .map(String::as_str)
    }

    pub(crate) fn is_own(&self, name: &str) -> bool {
        self.own().any(|own| own == name)
    }

    /// Checks what can be told without asking the server.
    ///
    /// # Errors
    /// [`InvalidConfig`](capomastro_core::ErrorKind::InvalidConfig), saying what to do.
    pub fn check(&self) -> Result<()> {
        self.name()?;
        if self.id_parameter == "BUILD_ID" {
            return Err(Error::config(
                "BUILD_ID is Jenkins' own variable: name the id parameter differently, such as CAPOMASTRO_BUILD_ID",
            ));
        }
        let mut own: Vec<&str> = self.own().collect();
        own.sort_unstable();
        if own.windows(2).any(|w| w[0] == w[1]) {
            return Err(Error::config("one parameter is to carry two things: give each its own"));
        }
        for name in self.own().chain(self.parameters.keys().map(String::as_str)) {
            check_parameter(name)?;
        }
        if let Some(name) = self.parameters.keys().find(|name| self.is_own(name)) {
            return Err(Error::config("a parameter is filled in by the launcher: remove it from the others")
                .with_context("parameter", name.escape_debug()));
        }
        if self.parameters.len() > MAX_PARAMETERS {
            return Err(Error::config("the job has more than 200 parameters: leave some to their defaults"));
        }
        if !QUIET.contains(&self.quiet_period) || self.quiet_period.subsec_nanos() > 0 {
            return Err(Error::config(
                "the job's quiet_period is out of range: give 10s to 60s, in whole seconds",
            ));
        }
        match &self.built {
            Built::Artifact { path } => check_artifact(path),
            Built::Git { remote: Some(remote) } if remote.is_empty() || remote.len() > MAX_PATH => {
                Err(Error::config("the git remote is empty or longer than 500 bytes: give its URL, or none"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether `name` can be a parameter at all.
pub(crate) fn is_parameter(name: &str) -> bool {
    // `delay`, `token` and `cause` mean something to Jenkins beside the parameters.
    !name.is_empty()
        && name.len() <= 200
        && !name.chars().any(char::is_control)
        && !matches!(
            name,
            "delay" | "token" | "cause" | "json" | "statusCode" | "redirectTo" | "Jenkins-Crumb" | ".crumb"
        )
}

fn check_parameter(name: &str) -> Result<()> {
    if is_parameter(name) {
        return Ok(());
    }
    Err(Error::config(
        "a parameter's name is empty, too long, unprintable, or means something to Jenkins itself: rename it",
    )
    .with_context("parameter", name.escape_debug()))
}

/// Whether a path among artifacts stays inside them and means a file and nothing else.
pub(crate) fn is_artifact_path(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= 4_096
        && !path.contains(['\\', '\0'])
        && !path.chars().any(char::is_control)
        && path.split('/').all(|s| !s.is_empty() && !is_dots(s))
}

fn check_artifact(path: &str) -> Result<()> {
    if path.len() <= MAX_PATH && is_artifact_path(path) && !path.contains(['*', '?']) {
        return Ok(());
    }
    Err(Error::config("the artifact with the revision has no path of a file: give one such as dist/REVISION")
        .with_context("path", path.escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use capomastro_core::ErrorKind;
    use serde_json::json;

    #[test]
    fn jobs_that_cannot_work_are_refused_with_what_to_do() {
        for (job, says) in [
            (json!({}), "does not fit"),
            (json!(null), "does not fit"),
            (json!({"job": 1}), "does not fit"),
            (json!({"job": "a", "jbo": 1}), "does not fit"),
            (json!({"job": ""}), "empty"),
            (json!({"job": "a/../b"}), ".."),
            (json!({"job": "a", "id_parameter": "BUILD_ID"}), "Jenkins' own"),
            (json!({"job": "a", "id_parameter": ""}), "name is empty"),
            (json!({"job": "a", "revision_parameter": "delay"}), "Jenkins itself"),
            (json!({"job": "a", "revision_parameter": "CAPOMASTRO_BUILD_ID"}), "two things"),
            (json!({"job": "a", "parameters": {"CAPOMASTRO_REVISION": "x"}}), "filled in"),
            (json!({"job": "a", "parameters": {"A": 1}}), "does not fit"),
            (json!({"job": "a", "parameters": {"A": {"secret": "x", "y": 1}}}), "does not fit"),
            (json!({"job": "a", "quiet_period": "9s"}), "quiet_period"),
            (json!({"job": "a", "quiet_period": "61s"}), "quiet_period"),
            (json!({"job": "a", "quiet_period": "10s 5ms"}), "quiet_period"),
            (json!({"job": "a", "built": {"artifact": {"path": "../x"}}}), "path of a file"),
            (json!({"job": "a", "built": {"artifact": {"path": "*"}}}), "path of a file"),
            (json!({"job": "a", "built": {"git": {"remote": ""}}}), "remote"),
            (json!({"job": "a", "artifacts": "all"}), "does not fit"),
        ] {
            let e = JenkinsJob::parse(&job).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{job}");
            assert!(e.to_string().contains(says), "{job}: {e}");
        }
    }

    #[test]
    fn a_job_is_what_was_written() {
        let job = JenkinsJob::new("folder/job")
            .parameter("TOKEN", SecretRef::new("upload"))
            .parameter("A", "b")
            .quiet_period(Duration::from_secs(60))
            .built(Built::Artifact { path: "dist/REVISION".into() })
            .artifacts(Artifacts::Digest);
        assert_eq!(JenkinsJob::parse(&job.clone().into()).unwrap(), job);
        let least = JenkinsJob::parse(&json!({"job": "a"})).unwrap();
        assert_eq!(least, JenkinsJob::new("a"));
    }

    #[test]
    fn paths_of_artifacts_stay_inside() {
        for path in ["a", "dist/b 🦀.bin", "a/b/c", "...", "a*b"] {
            assert!(is_artifact_path(path), "{path}");
        }
        for path in ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a\\b", "a\0b", "a\nb", "../a"] {
            assert!(!is_artifact_path(path), "{path}");
        }
    }
}
