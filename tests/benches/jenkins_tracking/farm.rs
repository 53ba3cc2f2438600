//! A server with jobs whose builds all run, and a launcher that has launched them.

use capomastro_core::{
    Result, async_trait,
    launch::{BuildLauncher, Journal, LaunchRequest, Launched, Seen, SendBefore},
    model::{BuildId, ExternalRef, LaunchKey},
    secret::{FixedSecrets, Secrets},
    time::Monotonic,
};
use capomastro_jenkins::{Credentials, JenkinsJob, JenkinsLauncher};
use capomastro_testkit::{
    ManualClock,
    jenkins::{Jenkins, JobSpec, Script},
};
use futures_util::{StreamExt, stream};
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// How many jobs the server has.
pub(crate) const JOBS: usize = 20;
/// How many launches are under way at once.
const TOGETHER: usize = 6;
/// After so many launches time goes on, and what waits starts.
const WAVE: usize = 500;

/// What one cycle was seen to take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) requests: u64,
    /// Sent by the server, heads included.
    pub(crate) bytes: u64,
    /// Requests that change something.
    pub(crate) posts: usize,
}

/// A server whose builds all run until they are ended.
#[derive(Debug)]
pub(crate) struct Farm {
    pub(crate) jenkins: Jenkins,
    launcher: JenkinsLauncher,
    /// What the scheduler knows of the builds, in the order of their launch.
    pub(crate) asks: Vec<(LaunchKey, ExternalRef)>,
}

/// Keeps nothing: nobody searches for these builds.
#[derive(Debug)]
struct Forgetful;

#[async_trait]
impl Journal for Forgetful {
    async fn keep(&self, _: Value) -> Result<()> {
        Ok(())
    }
}

impl Farm {
    /// With so many builds, launched one by one, none of which was looked at yet.
    pub(crate) async fn of(builds: usize) -> Self {
        let (clock, jenkins) = server(builds).await;
        let launcher = launcher(&jenkins);
        let mut asks = Vec::with_capacity(builds);
        for wave in (0..builds).collect::<Vec<_>>().chunks(WAVE) {
            let launches = wave.iter().map(|n| launch(&launcher, *n));
            asks.extend(stream::iter(launches).buffered(TOGETHER).collect::<Vec<_>>().await);
            clock.advance(Duration::from_secs(30));
        }
        assert!(jenkins.queue().is_empty(), "all of them have started");
        Self { jenkins, launcher, asks }
    }

    /// How many jobs have builds.
    pub(crate) fn jobs(&self) -> usize {
        self.asks.len().min(JOBS)
    }

    pub(crate) fn per_job(&self) -> usize {
        self.asks.len() / self.jobs()
    }

    /// How many builds the launcher has described, by which their records are saved.
    pub(crate) fn saved(&self) -> usize {
        let builds = (0..self.jobs()).flat_map(|job| self.jenkins.builds(&job_name(job)));
        builds.filter(|build| build.description.is_some()).count()
    }

    /// One look at each build, in calls of at most so many.
    pub(crate) async fn cycle(&mut self, at_once: usize) -> Cost {
        self.jenkins.forget_traffic();
        for asks in self.asks.chunks_mut(at_once) {
            let reports = self.launcher.observe(asks).await;
            for (ask, report) in asks.iter_mut().zip(reports) {
                let report = report.unwrap();
                assert_eq!(report.seen, Seen::Running);
                // As the scheduler does, which asks by the newer reference from then on.
                ask.1 = report.external.unwrap_or_else(|| ask.1.clone());
            }
        }
        let traffic = self.jenkins.traffic();
        let posts = self.jenkins.served().iter().filter(|served| served.method == "POST").count();
        Cost { requests: traffic.requests, bytes: traffic.bytes_sent, posts }
    }
}

/// A server on a clock that stands still, which runs so many builds at once.
pub(crate) async fn server(builds: usize) -> (ManualClock, Jenkins) {
    let clock = ManualClock::new();
    let jenkins = Jenkins::builder().clock(Arc::new(clock.clone())).executors(builds);
    // Moving the clock is to close no connection.
    let jenkins = jenkins.keep_alive(Duration::from_secs(1_000_000)).start().await.unwrap();
    for job in 0..JOBS {
        let spec = JobSpec::freestyle(job_name(job)).string("CAPOMASTRO_BUILD_ID");
        jenkins.define_job(spec.string("CAPOMASTRO_REVISION").concurrent(true).runs(Script::held()));
    }
    (clock, jenkins)
}

pub(crate) fn launcher(jenkins: &Jenkins) -> JenkinsLauncher {
    let secrets = FixedSecrets::default().with("token", Jenkins::TOKEN);
    JenkinsLauncher::builder(jenkins.url())
        .credentials(Credentials::token(Jenkins::ADMIN, "token"), Secrets::new(Arc::new(secrets)))
        .build()
        .unwrap()
}

/// Launches the build of this number on the job whose turn it is.
pub(crate) async fn launch(launcher: &JenkinsLauncher, n: usize) -> (LaunchKey, ExternalRef) {
    let request = request(n);
    match launcher.launch(&request, &Forgetful).await.unwrap() {
        Launched::Accepted(external) => (request.key, external),
        other => panic!("a good request is accepted: {other:?}"),
    }
}

fn request(n: usize) -> LaunchRequest {
    let (build, number) = (build_id(n), u64::try_from(n).unwrap() + 1);
    LaunchRequest::new(
        build,
        LaunchKey::of(build),
        "lib".parse().unwrap(),
        number,
        "r1".parse().unwrap(),
        number,
        JenkinsJob::new(job_name(n % JOBS)).into(),
        Duration::from_secs(30),
        SendBefore(Monotonic(Duration::MAX)),
        Secrets::none(),
    )
}

pub(crate) fn build_id(n: usize) -> BuildId {
    format!("01900000-0000-7000-8000-{n:012x}").parse().unwrap()
}

pub(crate) fn job_name(job: usize) -> String {
    format!("job-{:02}", job % JOBS)
}
