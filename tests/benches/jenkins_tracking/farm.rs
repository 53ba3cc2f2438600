//! A double with many jobs, and builds on them.

use capomastro_core::{
    Result, async_trait,
    launch::{BuildLauncher, Journal, LaunchRequest, Launched, SendBefore},
    model::{BuildId, ExternalRef, LaunchKey},
    secret::{FixedSecrets, Secrets},
    time::{Clock, Monotonic, SystemClock},
};
use capomastro_jenkins::{Credentials, JenkinsJob, JenkinsLauncher};
use capomastro_testkit::{
    ManualClock,
    jenkins::{Jenkins, JobSpec, Script},
};
use futures_util::{StreamExt, stream};
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// On how many jobs the builds run.
pub(crate) const JOBS: usize = 20;

/// Keeps nothing.
#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl Journal for Nowhere {
    async fn keep(&self, _: Value) -> Result<()> {
        Ok(())
    }
}

pub(crate) struct Farm {
    clock: ManualClock,
    pub(crate) jenkins: Jenkins,
    pub(crate) launcher: JenkinsLauncher,
    client: reqwest::Client,
}

fn job(n: usize) -> String {
    format!("job-{}", n % JOBS)
}

impl Farm {
    pub(crate) async fn new(executors: usize) -> Self {
        let clock = ManualClock::new();
        let jenkins = Jenkins::builder().clock(Arc::new(clock.clone())).executors(executors + 1);
        let jenkins = jenkins.keep_alive(Duration::from_secs(1_000_000)).start().await.unwrap();
        for n in 0..JOBS {
            let spec = JobSpec::freestyle(job(n)).concurrent(true).runs(Script::held());
            jenkins.define_job(spec.string("CAPOMASTRO_BUILD_ID").string("CAPOMASTRO_REVISION"));
        }
        let secrets = FixedSecrets::default().with("jenkins", Jenkins::TOKEN);
        let launcher = JenkinsLauncher::builder(jenkins.url())
            .credentials(Credentials::token(Jenkins::ADMIN, "jenkins"), Secrets::new(Arc::new(secrets)))
            .clock(Arc::new(clock.clone()))
            // A request for each build, once in its life.
            .save_records(false)
            .build()
            .unwrap();
        Self { clock, jenkins, launcher, client: reqwest::Client::new() }
    }

    pub(crate) fn request(&self, n: usize) -> LaunchRequest {
        let build: BuildId = format!("01900000-0000-7000-8000-{n:012x}").parse().unwrap();
        LaunchRequest::new(
            build,
            LaunchKey::of(build),
            "dependency".parse().unwrap(),
            1,
            "r1".parse().unwrap(),
            1,
            JenkinsJob::new(job(n)).into(),
            Duration::from_secs(60),
            SendBefore(Monotonic(Duration::MAX)),
            Secrets::none(),
        )
    }

    pub(crate) async fn launch(&self, request: &LaunchRequest) -> ExternalRef {
        match self.launcher.launch(request, &Nowhere).await {
            Ok(Launched::Accepted(external)) => external,
            other => panic!("it is accepted: {other:?}"),
        }
    }

    /// So many builds, launched, and running.
    pub(crate) async fn running(&self, count: usize) -> Vec<(LaunchKey, ExternalRef)> {
        let all = stream::iter(0..count).map(|n| async move {
            let request = self.request(n);
            (request.key, self.launch(&request).await)
        });
        let builds = all.buffered(16).collect().await;
        self.clock.advance(Duration::from_secs(60));
        builds
    }

    fn as_admin(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        request.basic_auth(Jenkins::ADMIN, Some(Jenkins::TOKEN)).header("Accept", "application/json")
    }

    /// Queue and builds read once, as they would be by hand.
    pub(crate) async fn bare_look(&self) -> Duration {
        const ITEMS: &str = "queue/api/json?tree=items[id,why,task[url],actions[parameters[name,value]]]";
        const BUILDS: &str = "number,queueId,building,inProgress,result,duration,description,actions[parameters[name,value],causes[*]]";
        let jobs = (0..JOBS)
            .map(|n| format!("job/{}/api/json?tree=nextBuildNumber,allBuilds[{BUILDS}]{{0,1000}}", job(n)));
        let began = SystemClock.monotonic().0;
        for path in std::iter::once(ITEMS.to_owned()).chain(jobs) {
            let get = self.client.get(format!("{}{path}", self.jenkins.url()));
            let answer = self.as_admin(get).send().await.unwrap();
            assert!(answer.status().is_success());
            answer.bytes().await.unwrap();
        }
        SystemClock.monotonic().0 - began
    }

    /// A request for a build, and nothing else.
    pub(crate) async fn bare_post(&self, n: usize) -> Duration {
        let url = format!("{}job/{}/buildWithParameters", self.jenkins.url(), job(n));
        let body = format!("CAPOMASTRO_BUILD_ID=bare-{n}&CAPOMASTRO_REVISION=r1&delay=10sec");
        let post =
            self.client.post(url).header("Content-Type", "application/x-www-form-urlencoded").body(body);
        let began = SystemClock.monotonic().0;
        let answer = self.as_admin(post).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 201);
        SystemClock.monotonic().0 - began
    }
}
