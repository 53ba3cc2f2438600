//! The job of a dependency whose build script is in a job type, and what it becomes for the launcher that builds.

use super::{branch::JobType, measure::is_inside};
use capomastro_core::{
    Error, Result,
    model::{Revision, without_value},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// The job of a dependency that is built by [`JobTypeLauncher`](super::JobTypeLauncher).
///
/// As JSON: `{"job_type": {"git": {"url": "https://example.org/job-types.git"}}, "build": ["build", "--fast"], "job":
/// {"artifacts": ["dist/*"]}}`; only `job_type` has to be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct JobTypeJob {
    /// The branch that holds the script.
    pub job_type: JobType,
    /// The script, as a path in the branch (`build` unless given), and its arguments; no shell reads them.
    #[serde(default = "default_build")]
    pub build: Vec<String>,
    /// The job as the launcher that builds takes it, without the command: artifacts, environment, limits.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub job: Map<String, Value>,
}

fn default_build() -> Vec<String> {
    vec!["build".into()]
}

/// The job as a dependency stores it.
impl From<JobTypeJob> for Value {
    fn from(job: JobTypeJob) -> Self {
        serde_json::to_value(job).expect("text, and maps with text as keys, are JSON")
    }
}

impl JobTypeJob {
    /// A job that runs the `build` script of this branch.
    pub fn new(job_type: JobType) -> Self {
        Self { job_type, build: default_build(), job: Map::new() }
    }

    /// The script's path in the branch, and its arguments.
    #[must_use]
    pub fn build<A: Into<String>>(mut self, command: impl IntoIterator<Item = A>) -> Self {
        self.build = command.into_iter().map(Into::into).collect();
        self
    }

    /// One field of the job as the launcher that builds takes it, such as `artifacts`.
    #[must_use]
    pub fn with(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        self.job.insert(field.into(), value.into());
        self
    }

    pub(super) fn parse(job: &Value) -> Result<Self> {
        let job = Self::deserialize(job).map_err(|e| {
            Error::config("the job does not fit the launcher of job types: see the fields of JobTypeJob")
                .with_context("problem", without_value(&e.to_string()))
        })?;
        job.job_type.source()?;
        if !job.build.first().is_some_and(|script| is_inside(script)) {
            return Err(Error::config(
                "`build` does not begin with the path of a script inside the branch: write one such as bin/build",
            ));
        }
        Ok(job)
    }
}

/// A build script of a job type, as it is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BuildScript {
    /// The folder with the branch's files.
    pub dir: PathBuf,
    /// The revision of the branch.
    pub revision: Revision,
    /// The script's path in `dir`, and its arguments.
    pub command: Vec<String>,
}

/// The job of a `CommandLauncher` (of the crate `capomastro-process`) that runs the script: `job` with the `command`, and
/// with `JOB_TYPE_DIR` and `JOB_TYPE_REVISION` in the environment.
///
/// # Errors
/// [`InvalidConfig`](capomastro_core::ErrorKind::InvalidConfig) if the job has a command or one of these variables.
pub fn command_job(mut job: Map<String, Value>, script: &BuildScript) -> Result<Value> {
    for field in ["command", "shell"] {
        if job.contains_key(field) {
            return Err(Error::config(
                "the job of a job type has a command of its own: name the script in `build` instead",
            )
            .with_context("field", field));
        }
    }
    let dir = utf8(&script.dir)?;
    let mut words = script.command.iter();
    let first = words.next().map_or("", String::as_str);
    let program = Value::from(format!("{dir}/{first}"));
    let command = std::iter::once(program).chain(words.map(|word| Value::from(word.as_str()))).collect();
    job.insert("command".into(), Value::Array(command));
    let env = job.entry("env").or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(env) = env else {
        return Err(Error::config("`env` of the job is no object: write one, of names and values"));
    };
    for (name, value) in [("JOB_TYPE_DIR", dir), ("JOB_TYPE_REVISION", script.revision.as_str())] {
        if env.insert(name.into(), value.into()).is_some() {
            return Err(Error::config(
                "a variable of the job is set by the launcher of job types: rename it",
            )
            .with_context("name", name));
        }
    }
    Ok(Value::Object(job))
}

/// The job of an `LxcLauncher` (of the crate `capomastro-lxc`) that runs the script: as [`command_job`], and with the
/// branch's files among what it `reads`. The launcher must allow reading below the folder of checkouts.
///
/// # Errors
/// As [`command_job`]; [`InvalidConfig`](capomastro_core::ErrorKind::InvalidConfig) if `reads` is no list.
pub fn lxc_job(job: Map<String, Value>, script: &BuildScript) -> Result<Value> {
    let mut job = command_job(job, script)?;
    let reads = job.as_object_mut().map(|job| job.entry("reads").or_insert_with(|| Value::Array(Vec::new())));
    let Some(Value::Array(reads)) = reads else {
        return Err(Error::config("`reads` of the job is no list: write one, of paths"));
    };
    reads.push(utf8(&script.dir)?.into());
    Ok(job)
}

fn utf8(path: &std::path::Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::config("the folder of checkouts is not UTF-8: put it at such a path"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn script() -> BuildScript {
        BuildScript {
            dir: "/c/tree".into(),
            revision: "abc".parse().unwrap(),
            command: vec!["bin/build".into(), "a b".into()],
        }
    }

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn the_script_becomes_the_command() {
        let job = map(json!({"artifacts": ["x"], "env": {"A": {"secret": "s"}}}));
        let made = command_job(job, &script()).unwrap();
        let env = json!({"A": {"secret": "s"}, "JOB_TYPE_DIR": "/c/tree", "JOB_TYPE_REVISION": "abc"});
        let command = ["/c/tree/bin/build", "a b"];
        assert_eq!(made, json!({"artifacts": ["x"], "env": env, "command": command}));
        let made = lxc_job(map(json!({"reads": ["/x"]})), &script()).unwrap();
        assert_eq!(made["reads"], json!(["/x", "/c/tree"]));
        assert_eq!(lxc_job(Map::new(), &script()).unwrap()["reads"], json!(["/c/tree"]));
    }

    #[test]
    fn what_the_launcher_says_cannot_be_said_by_a_job() {
        for (job, says) in [
            (json!({"command": ["x"]}), "`build` instead"),
            (json!({"shell": true}), "`build` instead"),
            (json!({"env": 1}), "no object"),
            (json!({"env": {"JOB_TYPE_DIR": "x"}}), "rename it"),
        ] {
            let e = command_job(map(job), &script()).unwrap_err();
            assert!(e.to_string().contains(says), "{e}");
        }
        assert!(lxc_job(map(json!({"reads": 1})), &script()).unwrap_err().to_string().contains("no list"));
    }

    #[test]
    fn jobs_that_cannot_work_are_refused() {
        let git = json!({"git": {"url": "/srv/x.git"}});
        for (job, says) in [
            (json!({}), "does not fit"),
            (json!({"job_type": {"cvs": {}}}), "does not fit"),
            (json!({"job_type": git, "comand": 1}), "does not fit"),
            (json!({"job_type": git, "build": []}), "path of a script"),
            (json!({"job_type": git, "build": ["/bin/sh"]}), "path of a script"),
            (json!({"job_type": git, "build": ["../x"]}), "path of a script"),
            (json!({"job_type": git, "job": []}), "does not fit"),
        ] {
            let e = JobTypeJob::parse(&job).unwrap_err();
            assert_eq!(e.kind(), capomastro_core::ErrorKind::InvalidConfig);
            assert!(e.to_string().contains(says), "{job}: {e}");
        }
    }
}
