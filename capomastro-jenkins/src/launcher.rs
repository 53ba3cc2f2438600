//! Builds on a Jenkins server.

use crate::{
    builder::JenkinsLauncherBuilder, http::Client, job::JenkinsJob, jobs::Jobs, memory::Memory,
    probe::JenkinsProbe,
};
use async_trait::async_trait;
use capomastro_core::{
    Result,
    launch::{BuildLauncher, Found, Journal, LaunchRequest, Launched, Promise, Report},
    model::{ExternalRef, LaunchKey},
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// Builds on one Jenkins server, each launched once and followed to its end.
///
/// The job is a [`JenkinsJob`]. Nothing is kept beside what the scheduler keeps, so that any number of schedulers may have
/// a launcher for the same server, and any of them may go on with a build that another has launched.
///
/// # Why one key starts one build
///
/// Jenkins has no idempotency key, but it merges a request with a queue item whose parameters are all the same. The launch
/// key travels as a parameter, so no other request is merged with ours, and ours, sent again while its item waits, is.
///
/// - Before a build is asked for, the number of the job's next build and the server's session are kept as the launch's
///   memo. No build of ours has a lower number.
/// - An answer that does not tell whether the build was taken (a broken connection, a proxy's error, a page to log in) is
///   followed by a look at queue and builds. If they do not show it, the outcome is unknown, and the scheduler searches when
///   [`Promise::FindableByKey`]'s time is over. (Who prefers a quick start can have it
///   [sent once more](JenkinsLauncherBuilder::resend) at once.)
/// - A search reads the queue, the job's builds down to the number in the memo, and the queue again. That there is nothing
///   is proven by two such sweeps of one session, some time apart, that have seen each number. A number without a record
///   (what a crash leaves of a running build), a build that does not tell its parameters yet, one that never will, or items
///   that the user may not see, are doubts: [`Found::Inconclusive`].
///
/// What cannot be had from any client: Jenkins may run a queued item twice after its own crash, even at the same time. The
/// launcher then follows the build that goes on. Make scripts tolerate a second run.
///
/// # What a build's end means
///
/// | Jenkins says | the outcome |
/// |---|---|
/// | `SUCCESS`, `UNSTABLE`, `FAILURE` | succeeded, unstable, failed |
/// | `ABORTED` | cancelled; lost, if Jenkins was stopped while it ran |
/// | `NOT_BUILT` | cancelled if something newer came before it, else failed |
/// | anything else | failed, with what it says |
/// | a queue item that was cancelled | cancelled |
/// | nothing about it any more | unknown: lost after the policy's time |
///
/// # Cost
///
/// A look at any number of builds reads the queue once and each job's builds once, in pieces of at most 1,000; an end is
/// read once more for what it left. The first look at a running build sets its description to the launch key, or sends back
/// what stands there, which makes Jenkins write the record to its disk: what it has not written, a crash loses. It can be
/// [switched off](JenkinsLauncherBuilder::save_records).
#[derive(Clone, Debug)]
pub struct JenkinsLauncher(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) client: Client,
    pub(crate) options: Options,
    pub(crate) memory: Memory,
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// How long after a request its effect may still come.
    pub(crate) settle: Duration,
    /// How far apart the two sweeps must be that prove an absence.
    pub(crate) sweep_gap: Duration,
    /// Whether a request whose connection broke is sent once more within the quiet period.
    pub(crate) resend: bool,
    pub(crate) save_records: bool,
    pub(crate) stop_extras: bool,
    pub(crate) max_artifact_bytes: u64,
    pub(crate) digest_timeout: Duration,
}

impl JenkinsLauncher {
    /// Sets a launcher up for the server with this URL: its root, as this machine reaches it. What the server itself takes
    /// for its URL does not matter.
    pub fn builder(url: impl Into<String>) -> JenkinsLauncherBuilder {
        JenkinsLauncherBuilder::new(url.into())
    }

    /// The jobs of the server, over the launcher's connections and within its limits.
    pub fn jobs(&self) -> Jobs {
        Jobs::over(self.0.client.clone())
    }

    /// A probe that runs jobs on the server, over the launcher's connections and within its limits.
    pub fn probe(&self) -> JenkinsProbe {
        JenkinsProbe::over(self.0.client.clone())
    }
}

#[async_trait]
impl BuildLauncher for JenkinsLauncher {
    fn promise(&self) -> Promise {
        Promise::FindableByKey { settle: self.0.options.settle }
    }

    fn check_job(&self, job: &Value) -> Result<()> {
        JenkinsJob::parse(job).map(drop)
    }

    /// A job that is not there, is disabled, or does not declare all parameters is refused until somebody changes it. While
    /// the server is about to be shut down, or is being started, nothing is sent.
    async fn launch(&self, request: &LaunchRequest, journal: &dyn Journal) -> Result<Launched> {
        self.0.launch(request, journal).await.map_err(|e| e.with_operation("launch build"))
    }

    async fn find(&self, request: &LaunchRequest) -> Result<Found> {
        self.0.find(request).await.map_err(|e| e.with_operation("find build"))
    }

    /// Beside reading, saves the records of running builds, once each; see [`JenkinsLauncher`].
    async fn observe(&self, builds: &[(LaunchKey, ExternalRef)]) -> Vec<Result<Report>> {
        let reports = self.0.observe(builds).await;
        reports.into_iter().map(|r| r.map_err(|e| e.with_operation("observe build"))).collect()
    }

    /// Takes the build out of the queue, or stops it, wherever it stands, and its twins that nobody copied. A pipeline that
    /// does not stop is ended harder when this is asked for again 30 s after the first time, and hardest after 90 s.
    async fn cancel(&self, key: &LaunchKey, build: &ExternalRef) -> Result<()> {
        self.0.cancel(*key, build).await.map_err(|e| e.with_operation("cancel build"))
    }
}
