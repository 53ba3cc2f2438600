//! A server on a clock that stands still, a launcher, and short ways to say what happens.

use capomastro_core::{
    Result, async_trait,
    launch::{
        BuildLauncher, Ended, Found, Journal, LaunchRequest, Launched, Promise, Report, Seen, SendBefore,
    },
    model::{BuildId, ExternalRef, LaunchKey},
    secret::{FixedSecrets, Secrets},
    time::Monotonic,
};
use capomastro_jenkins::{Credentials, JenkinsJob, JenkinsLauncher, JenkinsLauncherBuilder};
use capomastro_testkit::{
    fakes::ManualClock,
    jenkins::{Jenkins, JenkinsBuilder, JobSpec, Script, Started},
};
use serde_json::Value;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub(crate) const JOB: &str = "team/lib";
pub(crate) const ID: &str = "CAPOMASTRO_BUILD_ID";

pub(crate) struct Desk {
    pub(crate) clock: ManualClock,
    pub(crate) jenkins: Jenkins,
    pub(crate) launcher: JenkinsLauncher,
    ids: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct Memos(Mutex<Option<Value>>);

#[async_trait]
impl Journal for Memos {
    async fn keep(&self, memo: Value) -> Result<()> {
        *self.0.lock().unwrap() = Some(memo);
        Ok(())
    }
}

/// A build as a scheduler knows it.
#[derive(Clone, Debug)]
pub(crate) struct Build {
    pub(crate) request: LaunchRequest,
    pub(crate) external: ExternalRef,
}

/// A job that takes what is sent, whose builds go on until they are ended.
pub(crate) fn spec(name: &str) -> JobSpec {
    JobSpec::freestyle(name).string(ID).string("CAPOMASTRO_REVISION").concurrent(true).runs(Script::held())
}

pub(crate) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

impl Desk {
    pub(crate) async fn new() -> Self {
        Self::with(|server| server, |launcher| launcher).await
    }

    pub(crate) async fn with(
        server: impl FnOnce(JenkinsBuilder) -> JenkinsBuilder,
        launcher: impl FnOnce(JenkinsLauncherBuilder) -> JenkinsLauncherBuilder,
    ) -> Self {
        let clock = ManualClock::new();
        let builder = Jenkins::builder().clock(Arc::new(clock.clone())).executors(100);
        let jenkins = server(builder).start().await.unwrap();
        jenkins.define_job(JobSpec::folder("team"));
        jenkins.define_job(spec(JOB));
        let launcher = launcher(builder_for(&jenkins, &clock)).build().unwrap();
        Self { clock, jenkins, launcher, ids: AtomicU64::new(0) }
    }

    /// The launcher of another process, which remembers nothing.
    pub(crate) fn another(&self) -> JenkinsLauncher {
        builder_for(&self.jenkins, &self.clock).build().unwrap()
    }

    pub(crate) fn request_for(&self, job: JenkinsJob) -> LaunchRequest {
        let number = self.ids.fetch_add(1, Ordering::Relaxed) + 1;
        let build: BuildId = format!("01900000-0000-7000-8000-{number:012x}").parse().unwrap();
        LaunchRequest::new(
            build,
            LaunchKey::of(build),
            "lib".parse().unwrap(),
            number,
            "r1".parse().unwrap(),
            number,
            job.into(),
            seconds(30),
            SendBefore(Monotonic(Duration::MAX)),
            Secrets::none(),
        )
    }

    pub(crate) fn request(&self) -> LaunchRequest {
        self.request_for(JenkinsJob::new(JOB))
    }

    /// One launch, whose memo is kept with the request.
    pub(crate) async fn try_launch(&self, request: &mut LaunchRequest) -> Result<Launched> {
        let memos = Memos::default();
        let launched = self.launcher.launch(request, &memos).await;
        let kept = memos.0.lock().unwrap().take();
        request.memo = kept.or(request.memo.take());
        launched
    }

    pub(crate) async fn launch(&self, mut request: LaunchRequest) -> Build {
        match self.try_launch(&mut request).await {
            Ok(Launched::Accepted(external)) => Build { request, external },
            other => panic!("a good request is accepted: {other:?}"),
        }
    }

    /// A build that runs and was seen to.
    pub(crate) async fn running(&self) -> Build {
        let mut build = self.launch(self.request()).await;
        self.clock.advance(seconds(20));
        assert_eq!(self.see(&mut build).await, Seen::Running);
        build
    }

    /// Goes on as a scheduler does after an answer that told nothing: what is absent is launched again.
    pub(crate) async fn settled(&self, mut request: LaunchRequest) -> Build {
        for _ in 0..20 {
            match self.try_launch(&mut request).await {
                Ok(Launched::Accepted(external)) => return Build { request, external },
                Err(e) if e.kind() == capomastro_core::ErrorKind::OutcomeUnknown => {}
                other => panic!("neither accepted nor unknown: {other:?}"),
            }
            let Promise::FindableByKey { settle } = self.launcher.promise() else { unreachable!() };
            self.clock.advance(settle);
            if let Some(external) = self.found(&request).await {
                return Build { request, external };
            }
        }
        panic!("it was launched again and again");
    }

    /// Searches until it can be told.
    pub(crate) async fn found(&self, request: &LaunchRequest) -> Option<ExternalRef> {
        for _ in 0..20 {
            match self.find(request).await {
                Found::Build(external) => return Some(external),
                Found::Absent => return None,
                Found::Inconclusive { look_again } => self.clock.advance(look_again),
            }
        }
        panic!("it cannot be told: {request:?}");
    }

    pub(crate) async fn find(&self, request: &LaunchRequest) -> Found {
        self.launcher.find(request).await.unwrap()
    }

    /// A search that cannot tell, however often.
    pub(crate) async fn is_doubtful(&self, request: &LaunchRequest) {
        for _ in 0..5 {
            match self.find(request).await {
                Found::Inconclusive { look_again } => self.clock.advance(look_again),
                other => panic!("it cannot be told, but: {other:?}"),
            }
        }
    }

    pub(crate) async fn look(&self, build: &mut Build) -> Result<Seen> {
        let mut reports = self.launcher.observe(&[(build.request.key, build.external.clone())]).await;
        let Report { external, seen } = reports.remove(0)?;
        build.external = external.unwrap_or_else(|| build.external.clone());
        Ok(seen)
    }

    pub(crate) async fn see(&self, build: &mut Build) -> Seen {
        self.look(build).await.unwrap()
    }

    pub(crate) async fn ended(&self, build: &mut Build) -> Ended {
        match self.see(build).await {
            Seen::Ended(ended) => ended,
            other => panic!("it has ended: {other:?}"),
        }
    }

    pub(crate) async fn cancel(&self, build: &Build) {
        self.launcher.cancel(&build.request.key, &build.external).await.unwrap();
    }

    pub(crate) fn started(&self, build: &Build) -> Vec<Started> {
        self.jenkins.started_with(ID, &build.request.key.to_string())
    }

    /// The number of a build that was started once.
    pub(crate) fn number(&self, build: &Build) -> u32 {
        let started = self.started(build);
        assert_eq!(started.len(), 1, "one launch, one build");
        started[0].number
    }
}

pub(crate) fn builder_for(jenkins: &Jenkins, clock: &ManualClock) -> JenkinsLauncherBuilder {
    let secrets = FixedSecrets::default()
        .with("token", Jenkins::TOKEN)
        .with("password", Jenkins::PASSWORD)
        .with("wrong", "hunter2");
    JenkinsLauncher::builder(jenkins.url())
        .credentials(Credentials::token(Jenkins::ADMIN, "token"), Secrets::new(Arc::new(secrets)))
        .clock(Arc::new(clock.clone()))
}
