//! The configuration of a script source.

use capomastro_core::{Error, Result, model::Source, secret::SecretRef};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

/// The names of variables that the probe sets begin so; a source may not set them.
pub(super) const RESERVED: &str = "CAPOMASTRO_";

/// Linux takes at most 128 KiB for one argument; no source needs as much in all.
const MAX_BYTES: usize = 100_000;

/// How a script answers.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// It prints the revision on one line and exits with 0. The better language: the same source always has the same
    /// token, so that a source that goes back to what was built is seen to be back, and a lost answer costs nothing.
    #[default]
    Token,
    /// It answers "changed since the last build?" by its exit status: 0 changed, 1 not changed, anything else failed.
    /// It must answer the same when it is asked again. What it prints is ignored.
    Changed,
}

/// A source that a script looks at.
///
/// As JSON: `{"command": ["./revision", "lib"], "language": "token", "dir": "/srv/scripts", "env": {"BRANCH": "main"},
/// "secret_env": {"TOKEN": {"secret": "forge"}}, "timeout": "20s"}`; only `command` has to be there.
///
/// ```
/// use capomastro_probes::script::ScriptSource;
/// use std::time::Duration;
///
/// # fn main() -> capomastro_core::Result<()> {
/// let source = ScriptSource::token(["./revision", "lib"])
///     .dir("/srv/scripts")
///     .secret_env("TOKEN", "forge")
///     .timeout(Duration::from_secs(20))
///     .into_source("script")?;
/// assert_eq!(source.config["timeout"], "20s");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ScriptSource {
    /// The program and its arguments; no shell reads them. A program without a slash is looked up in `PATH`; one with a
    /// slash that is not absolute is looked up from `dir`.
    pub command: Vec<String>,
    /// How it answers.
    #[serde(default)]
    pub language: Language,
    /// The working directory, absolute; an empty one of its own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Further environment. Beside it a script has only `PATH`, which may be set here, and the variables that begin with
    /// `CAPOMASTRO_`, which may not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Further environment with secret values, which are fetched for each run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_env: BTreeMap<String, SecretRef>,
    /// How long one run may take, as in `"20s"`; the probe's deadline where absent or longer than that.
    #[serde(default, with = "humantime_serde::option", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
}

impl ScriptSource {
    /// A source whose script prints a revision.
    pub fn token<A: Into<String>>(command: impl IntoIterator<Item = A>) -> Self {
        Self::new(Language::Token, command)
    }

    /// A source whose script says by its exit status whether there is a change since the last build.
    pub fn changed<A: Into<String>>(command: impl IntoIterator<Item = A>) -> Self {
        Self::new(Language::Changed, command)
    }

    pub(crate) fn new<A: Into<String>>(language: Language, command: impl IntoIterator<Item = A>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            language,
            dir: None,
            env: BTreeMap::new(),
            secret_env: BTreeMap::new(),
            timeout: None,
        }
    }

    /// The working directory.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
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

    /// How long one run may take.
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

    pub(crate) fn check(&self) -> Result<()> {
        if self.command.first().is_none_or(String::is_empty) {
            return Err(Error::config("a script source has no program: name it first in `command`"));
        }
        if self.dir.as_deref().is_some_and(|dir| !dir.is_absolute()) {
            return Err(Error::config("a script source's `dir` is relative: give an absolute path"));
        }
        if self.timeout == Some(Duration::ZERO) {
            return Err(Error::config("a script source's `timeout` is zero: give a time such as \"20s\""));
        }
        for name in self.env.keys().chain(self.secret_env.keys()) {
            let problem = if name.is_empty() || name.contains('=') {
                "is not a variable's name: remove `=`, and do not leave it empty"
            } else if name.starts_with(RESERVED) {
                "is one that the probe sets: choose a name that does not begin with CAPOMASTRO_"
            } else if self.env.contains_key(name) && self.secret_env.contains_key(name) {
                "stands in both `env` and `secret_env`: remove one"
            } else {
                continue;
            };
            let message = format!("a name in a script source's environment {problem}");
            return Err(Error::config(message).with_context("name", name.escape_debug()));
        }
        let dir = self.dir.as_deref().and_then(Path::to_str).unwrap_or_default();
        let env = self.env.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
        let texts = self.command.iter().map(String::as_str).chain(env).chain([dir]);
        let names = self.secret_env.keys().map(String::as_str);
        let mut bytes = 0;
        for text in texts.chain(names) {
            if text.contains('\0') {
                return Err(Error::config("a script source contains a NUL: remove it"));
            }
            bytes += text.len();
        }
        if bytes > MAX_BYTES {
            return Err(Error::config(
                "a script source's command and environment exceed 100,000 bytes: put the script into a file",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capomastro_core::ErrorKind;
    use serde_json::json;

    #[test]
    fn what_is_built_is_what_is_written() {
        let built = ScriptSource::changed(["./changed", "lib"])
            .dir("/srv")
            .env("BRANCH", "main")
            .secret_env("TOKEN", "forge")
            .timeout(Duration::from_millis(1_500))
            .into_source("script")
            .unwrap();
        let written = json!({
            "command": ["./changed", "lib"], "language": "changed", "dir": "/srv", "env": {"BRANCH": "main"},
            "secret_env": {"TOKEN": {"secret": "forge"}}, "timeout": "1s 500ms",
        });
        assert_eq!(built.config, written);
        let read = ScriptSource::parse(&built).unwrap();
        assert_eq!(read.timeout, Some(Duration::from_millis(1_500)));
    }

    #[test]
    fn a_command_is_enough_and_prints_a_token() {
        let source = Source::new("script", json!({"command": ["rev"]})).unwrap();
        assert_eq!(ScriptSource::parse(&source).unwrap(), ScriptSource::token(["rev"]));
    }

    #[test]
    fn what_cannot_run_is_refused_with_what_to_do() {
        let long = "x".repeat(100_000);
        let cases = [
            (json!({"command": []}), "no program"),
            (json!({"command": [""]}), "no program"),
            (json!({"command": ["a", "b\0"]}), "NUL"),
            (json!({"command": ["a", long]}), "put the script into a file"),
            (json!({"command": ["a"], "dir": "here"}), "absolute"),
            (json!({"command": ["a"], "timeout": "0s"}), "zero"),
            (json!({"command": ["a"], "env": {"": "v"}}), "not a variable's name"),
            (json!({"command": ["a"], "env": {"A=B": "v"}}), "not a variable's name"),
            (json!({"command": ["a"], "env": {"CAPOMASTRO_X": "v"}}), "the probe sets"),
            (json!({"command": ["a"], "secret_env": {"CAPOMASTRO_X": {"secret": "s"}}}), "the probe sets"),
            (json!({"command": ["a"], "env": {"A": "v"}, "secret_env": {"A": {"secret": "s"}}}), "both"),
            (json!({"command": ["a"], "secret_env": {"A": "in the clear"}}), "does not fit"),
            (json!({"command": ["a"], "language": "french"}), "does not fit"),
            (json!({"command": ["a"], "shell": true}), "does not fit"),
            (json!({}), "does not fit"),
        ];
        for (config, expected) in cases {
            let error = ScriptSource::parse(&Source::new("script", &config).unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{config}");
            assert!(error.message().contains(expected), "{error} of {config}");
        }
    }
}
