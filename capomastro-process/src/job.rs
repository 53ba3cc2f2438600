//! What a dependency's job says to this launcher.

use capomastro_core::{Error, Result, model::without_value, secret::SecretRef};
use glob::Pattern;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
    time::Duration,
};

/// The longest log, in bytes.
const MAX_LOG: u64 = 16 * 1024 * 1024 * 1024;
/// The most bytes of artifacts.
const MAX_ARTIFACT_BYTES: u64 = 1024 * 1024 * 1024 * 1024;
/// The most artifacts that are kept of one build.
pub(crate) const MAX_ARTIFACTS: usize = 1_000;
const MAX_PATTERNS: usize = 100;
const MAX_GRACE: Duration = Duration::from_secs(3_600);

/// The job of a dependency that is built by [`CommandLauncher`](crate::CommandLauncher).
///
/// ```
/// use capomastro_process::CommandJob;
/// let job = CommandJob::new(["make", "-j2", "dist"]).env("LANG", "C.UTF-8").artifact("dist/*.tar.gz");
/// # assert!(job.check().is_ok());
/// let json = serde_json::json!({
///     "command": ["make", "-j2", "dist"],
///     "env": {"LANG": "C.UTF-8", "TOKEN": {"secret": "upload"}},
///     "artifacts": ["dist/*.tar.gz"],
/// });
/// # serde_json::from_value::<CommandJob>(json).unwrap().check().unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CommandJob {
    /// The argument vector. The first is the program: a path, or a name that is looked up in the `PATH` of the job's
    /// environment.
    pub command: Vec<String>,
    /// Whether the first of `command` is a script for `/bin/sh` instead, and the others its arguments (`$1`, …).
    #[serde(default)]
    pub shell: bool,
    /// Where it runs: an absolute path that exists. Absent: a fresh, empty folder for each build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Its environment, beside what the launcher adds; nothing is inherited. `PATH` has a default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, EnvValue>,
    /// What to keep: paths and patterns (`*`, `?`, `[…]`, `**`) relative to the working directory, at most 100. A path
    /// of a folder keeps all of it. Each must find at least one file, or a build that ended well has failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<String>,
    /// Exit statuses (1 to 255) that mean neither good nor bad, such as failed tests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unstable: Vec<u8>,
    /// How long a build that is asked to stop (`SIGTERM`) may take before it is killed. In whole seconds, rounded up;
    /// 1 s to 1 h, default 10 s.
    #[serde(default = "default_grace", with = "humantime_serde")]
    pub grace: Duration,
    /// How many bytes of the log are kept, rounded up to 512; what follows is dropped. Default 64 MiB, at most 16 GiB.
    #[serde(default = "default_log")]
    pub max_log_bytes: u64,
    /// How many bytes all artifacts may have together; more fails the build. Default 1 GiB, at most 1 TiB.
    #[serde(default = "default_artifact_bytes")]
    pub max_artifact_bytes: u64,
    /// How many artifacts there may be; more fails the build. Default and at most 1,000.
    #[serde(default = "default_artifacts")]
    pub max_artifacts: usize,
}

/// The value of a variable of a build's environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected text or {\"secret\": \"its name\"}")]
pub enum EnvValue {
    /// The value itself.
    Plain(String),
    /// The name of a secret. Its value is fetched at launch, given to the build, and written nowhere.
    Secret(SecretRef),
}

impl From<&str> for EnvValue {
    fn from(s: &str) -> Self {
        Self::Plain(s.into())
    }
}

impl From<String> for EnvValue {
    fn from(s: String) -> Self {
        Self::Plain(s)
    }
}

impl From<SecretRef> for EnvValue {
    fn from(s: SecretRef) -> Self {
        Self::Secret(s)
    }
}

const fn default_grace() -> Duration {
    Duration::from_secs(10)
}
const fn default_log() -> u64 {
    64 * 1024 * 1024
}
const fn default_artifact_bytes() -> u64 {
    1024 * 1024 * 1024
}
const fn default_artifacts() -> usize {
    MAX_ARTIFACTS
}

/// The job as a dependency stores it.
impl From<CommandJob> for Value {
    fn from(job: CommandJob) -> Self {
        serde_json::to_value(job).expect("text, numbers and maps with text as keys are JSON")
    }
}

impl CommandJob {
    /// A job with this argument vector.
    pub fn new<A: Into<String>>(command: impl IntoIterator<Item = A>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            shell: false,
            dir: None,
            env: BTreeMap::new(),
            artifacts: Vec::new(),
            unstable: Vec::new(),
            grace: default_grace(),
            max_log_bytes: default_log(),
            max_artifact_bytes: default_artifact_bytes(),
            max_artifacts: default_artifacts(),
        }
    }

    /// A job that is a script for `/bin/sh`.
    pub fn script(text: impl Into<String>) -> Self {
        Self { shell: true, ..Self::new([text.into()]) }
    }

    /// The same job in this folder, an absolute path.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// The same job with one more variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<EnvValue>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// The same job that keeps one more path or pattern.
    #[must_use]
    pub fn artifact(mut self, pattern: impl Into<String>) -> Self {
        self.artifacts.push(pattern.into());
        self
    }

    /// The same job in which this exit status means neither good nor bad.
    #[must_use]
    pub fn unstable(mut self, status: u8) -> Self {
        self.unstable.push(status);
        self
    }

    /// The same job with another grace between asking to stop and killing.
    #[must_use]
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    pub(crate) fn parse(job: &Value) -> Result<Self> {
        let job = Self::deserialize(job).map_err(|e| {
            Error::config("the job does not fit the command launcher: see the fields of CommandJob")
                .with_context("problem", without_value(&e.to_string()))
        })?;
        job.check()?;
        Ok(job)
    }

    /// Checks what can be told without looking at the machine.
    ///
    /// # Errors
    /// [`InvalidConfig`](capomastro_core::ErrorKind::InvalidConfig), saying what to do.
    pub fn check(&self) -> Result<()> {
        let Some(program) = self.command.first() else {
            return Err(Error::config("the job's command is empty: give a program and its arguments"));
        };
        if program.is_empty() {
            return Err(Error::config("the job's program is empty: give its name or path"));
        }
        let values = self.env.values().filter_map(|v| match v {
            EnvValue::Plain(text) => Some(text),
            EnvValue::Secret(_) => None,
        });
        if self.command.iter().chain(values).any(|text| text.contains('\0')) {
            return Err(Error::config("the job's command or environment contains a NUL: remove it"));
        }
        for name in self.env.keys() {
            check_variable(name)?;
        }
        if self.dir.as_ref().is_some_and(|d| !d.is_absolute() || d.to_string_lossy().contains('\0')) {
            return Err(Error::config("the job's dir is not an absolute path: give one that starts with /"));
        }
        if self.artifacts.len() > MAX_PATTERNS {
            return Err(Error::config("the job names more than 100 artifacts: use patterns"));
        }
        for pattern in &self.artifacts {
            check_pattern(pattern)?;
        }
        if self.unstable.contains(&0) {
            return Err(Error::config("exit status 0 always means success: remove it from unstable"));
        }
        let within = |what: &str, ok: bool, range: &str| {
            if ok { Ok(()) } else { Err(Error::config(format!("the job's {what} is out of range: {range}"))) }
        };
        within("grace", self.grace <= MAX_GRACE && self.grace >= Duration::from_secs(1), "give 1s to 1h")?;
        within("max_log_bytes", (1..=MAX_LOG).contains(&self.max_log_bytes), "give 1 to 16 GiB")?;
        within("max_artifact_bytes", self.max_artifact_bytes <= MAX_ARTIFACT_BYTES, "give at most 1 TiB")?;
        within("max_artifacts", self.max_artifacts <= MAX_ARTIFACTS, "give at most 1,000")
    }

    /// The grace in whole seconds.
    pub(crate) fn grace_seconds(&self) -> u64 {
        self.grace.as_secs() + u64::from(self.grace.subsec_nanos() > 0)
    }
}

/// Whether this is a name for a variable that every shell can hold.
pub(crate) fn is_variable(name: &str) -> bool {
    name.len() <= 200
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

/// Variables that mean something to the shell that supervises, so that they would not reach the build unchanged, or would
/// change what the supervisor does.
const SHELLS_OWN: [&str; 20] = [
    "_",
    "BASHOPTS",
    "BASH_ENV",
    "CDPATH",
    "ENV",
    "EUID",
    "IFS",
    "LINENO",
    "OLDPWD",
    "OPTARG",
    "OPTIND",
    "POSIXLY_CORRECT",
    "PPID",
    "PS1",
    "PS2",
    "PS4",
    "PWD",
    "SHELLOPTS",
    "SHLVL",
    "UID",
];

fn check_variable(name: &str) -> Result<()> {
    let problem = if !is_variable(name) {
        "is not made of letters, digits and underscores: rename it"
    } else if name.to_ascii_uppercase().starts_with("CAPOMASTRO_") {
        "begins with CAPOMASTRO_, which is the launcher's: rename it"
    } else if SHELLS_OWN.contains(&name) {
        "means something to the shell that supervises: set it in the build itself"
    } else {
        return Ok(());
    };
    Err(Error::config(format!("a variable of the job's environment {problem}"))
        .with_context("variable", name.escape_debug()))
}

fn check_pattern(pattern: &str) -> Result<()> {
    let problem = if pattern.is_empty() || pattern.len() > 1_000 {
        "is empty or longer than 1,000 bytes"
    } else if pattern.contains('\0')
        || Path::new(pattern).components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir))
    {
        "leads outside the working directory"
    } else if Pattern::new(pattern).is_err() {
        "is no valid pattern"
    } else {
        return Ok(());
    };
    Err(Error::config(format!(
        "an artifact {problem}: give a path or pattern relative to the working directory"
    ))
    .with_context("artifact", pattern.escape_debug()))
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
            (json!({"command": []}), "empty"),
            (json!({"command": [""]}), "empty"),
            (json!({"command": "make"}), "does not fit"),
            (json!({"command": ["make"], "comand": 1}), "does not fit"),
            (json!({"command": ["a\u{0}b"]}), "NUL"),
            (json!({"command": ["a"], "env": {"A": "\u{0}"}}), "NUL"),
            (json!({"command": ["a"], "env": {"A-B": ""}}), "letters"),
            (json!({"command": ["a"], "env": {"1A": ""}}), "letters"),
            (json!({"command": ["a"], "env": {"capomastro_x": ""}}), "launcher's"),
            (json!({"command": ["a"], "env": {"IFS": ""}}), "shell"),
            (json!({"command": ["a"], "env": {"A": 1}}), "does not fit"),
            (json!({"command": ["a"], "dir": "relative"}), "absolute"),
            (json!({"command": ["a"], "artifacts": ["../x"]}), "outside"),
            (json!({"command": ["a"], "artifacts": ["/x"]}), "outside"),
            (json!({"command": ["a"], "artifacts": ["a***"]}), "valid pattern"),
            (json!({"command": ["a"], "artifacts": [""]}), "is empty"),
            (json!({"command": ["a"], "unstable": [0]}), "success"),
            (json!({"command": ["a"], "grace": "2h"}), "grace"),
            (json!({"command": ["a"], "grace": "0s"}), "grace"),
            (json!({"command": ["a"], "max_log_bytes": 0}), "max_log_bytes"),
            (json!({"command": ["a"], "max_artifacts": 1001}), "max_artifacts"),
        ] {
            let e = CommandJob::parse(&job).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{job}");
            assert!(e.to_string().contains(says), "{job}: {e}");
        }
    }

    #[test]
    fn a_job_is_what_was_written() {
        let job = CommandJob::script("make")
            .dir("/src")
            .env("TOKEN", SecretRef::new("upload"))
            .env("A", "b")
            .artifact("dist/**/*.deb")
            .unstable(3)
            .grace(Duration::from_millis(2_500));
        assert_eq!(CommandJob::parse(&serde_json::to_value(&job).unwrap()).unwrap(), job);
        assert_eq!(job.grace_seconds(), 3);
    }
}
