//! Builds on Jenkins are what a launcher's builds must be.

#![allow(clippy::unwrap_used, reason = "tests")]

use capomastro_core::{
    Result, async_trait,
    launch::{BuildLauncher, Found, Journal, LaunchRequest, Launched, Outcome, Promise, Report},
    model::{ExternalRef, LaunchKey},
    secret::{FixedSecrets, Secrets},
};
use capomastro_jenkins::{Artifacts, Built, Credentials, JenkinsJob, JenkinsLauncher};
use capomastro_testkit::{
    conformance::{
        Time,
        launcher::{End, LauncherHarness, NextAnswer, Told},
    },
    fakes::ManualClock,
    jenkins::{Artifact, Fault, Jenkins, JobSpec, Parameter, Revision, Script},
};
use futures_util::FutureExt as _;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

const JOB: &str = "team/lib föö";
const REMOTE: &str = "https://git.example.org/lib.git";
/// The default of parameters that nobody gives.
const UNSET: &str = "-unset-";
const GIVEN: [&str; 4] = ["FAST", "EMPTY", "TARGET", "P"];

/// A double of a server, on whose clock nothing happens unless a case says so.
struct Server {
    clock: ManualClock,
    jenkins: Jenkins,
    /// What builds leave that are to end so.
    ends: Arc<Mutex<BTreeMap<String, End>>>,
    /// The parameters of all queue items that were ever seen, also of those that were cancelled since.
    items: Mutex<BTreeMap<u64, Vec<(String, String)>>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}

/// A launcher after whose searches so much time passes as it asks for, as a scheduler would wait.
#[derive(Debug)]
struct Patient {
    launcher: JenkinsLauncher,
    clock: ManualClock,
}

#[async_trait]
impl BuildLauncher for Patient {
    fn promise(&self) -> Promise {
        self.launcher.promise()
    }

    fn check_job(&self, job: &Value) -> Result<()> {
        self.launcher.check_job(job)
    }

    async fn launch(&self, request: &LaunchRequest, journal: &dyn Journal) -> Result<Launched> {
        self.launcher.launch(request, journal).await
    }

    async fn find(&self, request: &LaunchRequest) -> Result<Found> {
        let found = self.launcher.find(request).await;
        if let Ok(Found::Inconclusive { look_again }) = found {
            self.clock.advance(look_again);
        }
        found
    }

    async fn observe(&self, builds: &[(LaunchKey, ExternalRef)]) -> Vec<Result<Report>> {
        self.launcher.observe(builds).await
    }

    async fn cancel(&self, key: &LaunchKey, build: &ExternalRef) -> Result<()> {
        self.launcher.cancel(key, build).await
    }
}

fn job() -> JenkinsJob {
    let mut job =
        JenkinsJob::new(JOB).built(Built::Git { remote: Some(REMOTE.into()) }).artifacts(Artifacts::Digest);
    job.dependency_parameter = Some("CAPOMASTRO_DEPENDENCY".into());
    job.number_parameter = Some("CAPOMASTRO_NUMBER".into());
    job.build_key_parameter = Some("CAPOMASTRO_BUILD_KEY".into());
    job
}

fn script(end: Option<&End>) -> Script {
    let mut script = Script::held();
    let Some(end) = end else { return script };
    for (path, bytes) in &end.artifacts {
        script = script.artifact(Artifact::file(path, bytes));
    }
    if let Some(built) = &end.built {
        let (branch, remote) = ("refs/remotes/origin/main".into(), REMOTE.into());
        script = script.revision(Revision { sha1: built.to_string(), branch, remote });
    }
    script
}

impl Server {
    fn start() -> Self {
        let clock = ManualClock::new();
        let server = Jenkins::builder().clock(Arc::new(clock.clone())).executors(1_000).context_path("/ci");
        // A case that lets hours pass means nothing by it.
        let server = server.keep_alive(Duration::from_secs(100_000));
        // A socket is bound at once.
        let jenkins = server.start().now_or_never().unwrap().unwrap();
        let ends: Arc<Mutex<BTreeMap<String, End>>> = Arc::default();
        let known = Arc::clone(&ends);
        jenkins.define_job(JobSpec::folder("team"));
        let mut spec = JobSpec::freestyle(JOB).concurrent(true).runs_with(move |run| {
            script(known.lock().unwrap().get(run.parameter("CAPOMASTRO_BUILD_ID").unwrap()))
        });
        for name in ["BUILD_ID", "REVISION", "DEPENDENCY", "NUMBER", "BUILD_KEY"] {
            spec = spec.string(format!("CAPOMASTRO_{name}"));
        }
        for name in GIVEN {
            spec = spec.parameter(Parameter::string_or(name, UNSET));
        }
        jenkins.define_job(spec);
        Self { clock, jenkins, ends, items: Mutex::default() }
    }

    /// The number of the build of this key, once it runs.
    fn started(&self, key: LaunchKey) -> Option<u32> {
        let all = self.jenkins.started_with("CAPOMASTRO_BUILD_ID", &key.to_string());
        all.first().map(|started| started.number)
    }
}

fn told(parameters: &[(String, String)]) -> Told {
    let of = |name: &str| {
        let name = format!("CAPOMASTRO_{name}");
        parameters.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone()).unwrap()
    };
    let mut told = Told::revision(of("REVISION").parse().unwrap());
    told.dependency = Some(of("DEPENDENCY").parse().unwrap());
    told.number = Some(of("NUMBER").parse().unwrap());
    told.build_key = Some(Some(of("BUILD_KEY")).filter(|k| !k.is_empty()).map(|k| k.parse().unwrap()));
    let given = parameters.iter().filter(|(name, value)| GIVEN.contains(&name.as_str()) && value != UNSET);
    told.parameters = Some(given.cloned().collect());
    told
}

#[async_trait]
impl LauncherHarness for Server {
    fn time(&self) -> Time {
        Time::Manual(self.clock.clone())
    }

    async fn open(&self) -> Arc<dyn BuildLauncher> {
        let secrets = FixedSecrets::default().with("jenkins", Jenkins::TOKEN);
        let launcher = JenkinsLauncher::builder(self.jenkins.url())
            .credentials(Credentials::token(Jenkins::ADMIN, "jenkins"), Secrets::new(Arc::new(secrets)))
            .clock(Arc::new(self.clock.clone()));
        Arc::new(Patient { launcher: launcher.build().unwrap(), clock: self.clock.clone() })
    }

    fn job(&self) -> Value {
        job().into()
    }

    fn bad_jobs(&self) -> Vec<Value> {
        vec![json!({}), json!({"job": ""}), json!({"job": "a", "jbo": 1}), json!(null)]
    }

    fn refused_job(&self) -> Option<Value> {
        Some(JenkinsJob::new("team/no such job").into())
    }

    async fn builds(&self, key: LaunchKey) -> Vec<Told> {
        let has_key = |parameters: &[(String, String)]| {
            parameters.iter().any(|(n, v)| n == "CAPOMASTRO_BUILD_ID" && *v == key.to_string())
        };
        let mut items = self.items.lock().unwrap();
        items.extend(self.jenkins.queue().into_iter().map(|item| (item.id, item.parameters)));
        let started = self.jenkins.started();
        // An item is a build that waits, or the build that it became.
        items.retain(|id, _| started.iter().all(|s| s.queue_id != *id));
        let started = started.into_iter().map(|started| started.parameters);
        items.values().cloned().chain(started).filter(|p| has_key(p)).map(|p| told(&p)).collect()
    }

    async fn end(&self, key: LaunchKey, end: &End) -> bool {
        let is_plain = end.artifacts.is_empty() && end.built.is_none();
        if self.started(key).is_some() && !is_plain {
            return false;
        }
        self.ends.lock().unwrap().insert(key.to_string(), end.clone());
        if self.started(key).is_none() {
            self.clock.advance(Duration::from_secs(20));
        }
        let result = match end.outcome {
            Outcome::Succeeded => "SUCCESS",
            Outcome::Unstable => "UNSTABLE",
            Outcome::Failed | Outcome::Cancelled | Outcome::Lost => "FAILURE",
        };
        assert!(self.jenkins.finish(JOB, self.started(key).unwrap(), result), "it ran");
        true
    }

    async fn forget(&self, key: LaunchKey) -> bool {
        self.jenkins.lose_record(JOB, self.started(key).unwrap());
        true
    }

    async fn cut(&self, cut: bool) -> bool {
        match cut {
            true => self.jenkins.fault(Fault::reset().always()),
            false => self.jenkins.heal(),
        }
        true
    }

    async fn lose_answer(&self) -> NextAnswer {
        self.jenkins.fault(Fault::reset().after_effect().on("POST", "buildWithParameters"));
        NextAnswer::IsLost
    }
}

capomastro_testkit::build_launcher_conformance!(jenkins, Server::start());
