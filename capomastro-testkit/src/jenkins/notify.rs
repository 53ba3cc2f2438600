//! Messages of the Notification plugin. Not seen live.

use super::{job::JobId, state::State};
use serde_json::Value;

/// Where messages about a job's builds go.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// An address that begins with `http://`.
    pub(super) url: String,
    /// The plugin's older name of the last phase.
    pub(super) finished: bool,
}

impl Endpoint {
    /// Messages of all phases.
    pub fn all(url: impl Into<String>) -> Self {
        Self { url: url.into(), finished: false }
    }

    /// As plugins up to 1.5 did, which said FINISHED for FINALIZED.
    #[must_use]
    pub fn old_plugin(mut self) -> Self {
        self.finished = true;
        self
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its path is what keeps strangers out.
        f.debug_struct("Endpoint").finish_non_exhaustive()
    }
}

/// A message that is to be sent.
#[derive(Clone, PartialEq)]
pub struct Message {
    pub(super) url: String,
    /// Full name of the job.
    pub job: String,
    /// Number of the build.
    pub number: u32,
    /// QUEUED, STARTED, COMPLETED or FINALIZED.
    pub phase: String,
    /// What is sent.
    pub body: Value,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("job", &self.job)
            .field("number", &self.number)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl State {
    pub(super) fn notify_start(&mut self, _id: JobId, _number: u32) {}
    pub(super) fn notify_end(&mut self, _id: JobId, _number: u32) {}
}
