//! What a build does, as a test tells it: how long it runs, how it ends, and what it leaves behind.

use super::artifacts::Artifact;
use std::time::Duration;

/// A build that starts, as a function that decides what it does sees it.
#[derive(Clone, Debug)]
pub struct Run {
    /// Full name of the job.
    pub job: String,
    /// Its number.
    pub number: u32,
    /// The queue item that it was.
    pub queue_id: u64,
    /// Names and values of its parameters, secret ones too.
    pub parameters: Vec<(String, String)>,
}

impl Run {
    /// The value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// What a build does.
#[derive(Clone, Debug)]
pub struct Script {
    /// How long it runs; `None`: until it is told to end.
    pub(super) takes: Option<Duration>,
    pub(super) result: String,
    /// Provisional results, each from this long after the start.
    pub(super) worsens: Vec<(Duration, String)>,
    /// How long the result is set while it counts as building.
    pub(super) result_before_end: Duration,
    /// How long it goes on after it ended, its log still open.
    pub(super) post_production: Duration,
    /// How long a stop takes.
    pub(super) stops_in: Duration,
    /// Pipelines only: the stop that ends it.
    pub(super) yields_to: Stop,
    pub(super) log: Vec<(Duration, Vec<u8>)>,
    pub(super) log_late: Duration,
    pub(super) artifacts: Vec<Artifact>,
    pub(super) revisions: Vec<Revision>,
    pub(super) culprits: Vec<String>,
    pub(super) noise: bool,
    pub(super) two_parameter_actions: bool,
}

/// How a Pipeline is made to stop. Not seen live.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// By `stop`.
    #[default]
    Stop,
    /// Only by `term`, after a `stop`.
    Term,
    /// Only by `kill`, after a `term`.
    Kill,
}

/// What the git plugin says was built. Not seen live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The commit.
    pub sha1: String,
    /// Name of the branch, such as `refs/remotes/origin/main`.
    pub branch: String,
    /// Where it was fetched from.
    pub remote: String,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            takes: Some(Duration::ZERO),
            result: "SUCCESS".to_owned(),
            worsens: Vec::new(),
            result_before_end: Duration::ZERO,
            post_production: Duration::ZERO,
            stops_in: Duration::ZERO,
            yields_to: Stop::Stop,
            log: Vec::new(),
            log_late: Duration::ZERO,
            artifacts: Vec::new(),
            revisions: Vec::new(),
            culprits: Vec::new(),
            noise: false,
            two_parameter_actions: false,
        }
    }
}

impl Script {
    /// Succeeds after `takes`.
    pub fn succeeds_after(takes: Duration) -> Self {
        Self { takes: Some(takes), ..Self::default() }
    }

    /// Ends with `result` after `takes`. Any string will do: plugins invent their own.
    pub fn ends_after(takes: Duration, result: impl Into<String>) -> Self {
        Self { takes: Some(takes), result: result.into(), ..Self::default() }
    }

    /// Runs until the test ends it with `Jenkins::finish`, or somebody stops it.
    pub fn held() -> Self {
        Self { takes: None, ..Self::default() }
    }

    /// Shows `result` from this long after its start, while it still runs.
    #[must_use]
    pub fn worsens(mut self, after: Duration, result: impl Into<String>) -> Self {
        self.worsens.push((after, result.into()));
        self
    }

    /// Shows its result for this long while it still counts as building.
    #[must_use]
    pub fn result_before_end(mut self, by: Duration) -> Self {
        self.result_before_end = by;
        self
    }

    /// Stays in progress for this long after it ended, as freestyle builds do; its log is open until then.
    #[must_use]
    pub fn post_production(mut self, takes: Duration) -> Self {
        self.post_production = takes;
        self
    }

    /// How long a stop takes until the build has ended.
    #[must_use]
    pub fn stops_in(mut self, takes: Duration) -> Self {
        self.stops_in = takes;
        self
    }

    /// What a Pipeline's build needs to end.
    #[must_use]
    pub fn yields_to(mut self, stop: Stop) -> Self {
        self.yields_to = stop;
        self
    }

    /// Writes to its log from its start on. What is written may lack a newline at its end, and hold any bytes.
    #[must_use]
    pub fn log(self, text: impl Into<Vec<u8>>) -> Self {
        self.log_after(Duration::ZERO, text)
    }

    /// Writes to its log this long after its start.
    #[must_use]
    pub fn log_after(mut self, after: Duration, text: impl Into<Vec<u8>>) -> Self {
        self.log.push((after, text.into()));
        self
    }

    /// Its log appears this long after its start.
    #[must_use]
    pub fn log_late(mut self, by: Duration) -> Self {
        self.log_late = by;
        self
    }

    /// Leaves an artifact.
    #[must_use]
    pub fn artifact(mut self, artifact: Artifact) -> Self {
        self.artifacts.push(artifact);
        self
    }

    /// Tells what was checked out, as the git plugin does.
    #[must_use]
    pub fn revision(mut self, revision: Revision) -> Self {
        self.revisions.push(revision);
        self
    }

    /// Names somebody whose changes it holds.
    #[must_use]
    pub fn culprit(mut self, name: impl Into<String>) -> Self {
        self.culprits.push(name.into());
        self
    }

    /// Has actions of a plugin that nobody knows.
    #[must_use]
    pub fn noise(mut self) -> Self {
        self.noise = true;
        self
    }

    /// Shows its parameters in two actions. Not seen live.
    #[must_use]
    pub fn two_parameter_actions(mut self) -> Self {
        self.two_parameter_actions = true;
        self
    }
}
