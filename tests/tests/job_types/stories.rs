//! Schedulers with dependencies that share a job type.

use crate::repository::{Branch, folder};
use capomastro_core::{
    InMemoryStore, Scheduler, async_trait,
    launch::{
        BuildLauncher as _, BuildOutput as _, Found, Journal, LaunchRequest, Launched, Outcome, Seen,
        SendBefore,
    },
    model::{BuildId, ExternalRef, LaunchKey, Phase, Policy},
    scheduler::{DependencySpec, TriggerRequest},
    secret::Secrets,
    time::{Clock as _, Monotonic, SystemClock, SystemRandom},
};
use capomastro_probes::job_type::{
    Checkouts, JobTypeJob, JobTypeLauncher, JobTypeOutput, JobTypeProbe, JobTypeSource, command_job,
};
use capomastro_process::{CommandLauncher, ProcessRunner};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

const PROBE: &str = "#!/bin/sh\ncat \"$CAPOMASTRO_SOURCE\"\n";
const CHANGED: &str = "#!/bin/sh\n[ ! -e \"$MARK\" ] || [ \"$CAPOMASTRO_SOURCE\" -nt \"$MARK\" ]\n";
const BUILD: &str = "#!/bin/sh\n[ -z \"$MARK\" ] || : >\"$MARK\"\necho \"$1 $CAPOMASTRO_DEPENDENCY $CAPOMASTRO_REVISION\"\ncat \"$JOB_TYPE_DIR/probe\" >/dev/null && echo scripts\n";

/// A branch, folders, and what is made of them.
struct World {
    branch: Branch,
    root: TempDir,
}

impl World {
    fn new(scripts: &[(&str, &str)]) -> Self {
        let world = Self { branch: Branch::new(), root: folder() };
        world.branch.commit(scripts);
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn checkouts(&self) -> Checkouts {
        let runner = Arc::new(ProcessRunner::new());
        Checkouts::builder(self.at("job-types"), runner).fresh(Duration::ZERO).build().unwrap()
    }

    fn processes(&self) -> CommandLauncher {
        CommandLauncher::builder(self.at("builds")).build().unwrap()
    }

    fn launcher(&self) -> JobTypeLauncher {
        JobTypeLauncher::new(self.checkouts(), Arc::new(self.processes()), command_job)
    }

    fn scheduler(&self) -> Scheduler {
        let runner = Arc::new(ProcessRunner::new());
        Scheduler::builder(Arc::new(InMemoryStore::new(Arc::new(SystemClock))))
            .probe("job-type", Arc::new(JobTypeProbe::new(self.checkouts(), runner)))
            .launcher("job-type", Arc::new(self.launcher()))
            .output("job-type", Arc::new(JobTypeOutput::new(Arc::new(self.processes()))))
            .build()
            .unwrap()
    }

    async fn log(&self, external: &ExternalRef) -> String {
        let output = JobTypeOutput::new(Arc::new(self.processes()));
        String::from_utf8(output.log(external, 0, 10_000).await.unwrap().bytes).unwrap()
    }

    fn leases(&self) -> usize {
        fs::read_dir(self.at("job-types/leases")).unwrap().count()
    }
}

/// A scheduler that runs, and what it has built.
struct Running {
    scheduler: Scheduler,
    stop: Option<oneshot::Sender<()>>,
    run: JoinHandle<capomastro_core::Result<()>>,
}

impl Running {
    fn of(world: &World) -> Self {
        let scheduler = world.scheduler();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = scheduler.clone();
        let run = tokio::spawn(async move { running.run(async { drop(stopped.await) }).await });
        Self { scheduler, stop: Some(stop), run }
    }

    async fn define(&self, name: &str, source: JobTypeSource, job: JobTypeJob) {
        let policy = Policy::default().with_look_every(Duration::from_secs(3_600));
        let source = source.into_source("job-type").unwrap();
        let spec = DependencySpec::new(name, source, "job-type").unwrap().with_policy(policy).with_job(job);
        self.scheduler.apply(&spec).await.unwrap();
    }

    /// Looks now, and waits for what comes of it; the revisions and logs of all builds, the newest first.
    async fn look(&self, name: &str) -> Vec<(String, String)> {
        let receipt = self.scheduler.trigger(name, TriggerRequest::push()).await.unwrap();
        let settled = self.scheduler.settled(receipt);
        let patience = SystemClock.sleep(Duration::from_secs(20));
        tokio::select! {
            settled = settled => drop(settled.unwrap()),
            () = patience => panic!("{:#?}", self.scheduler.status(name).await.unwrap()),
        }
        loop {
            let (builds, _) = self.scheduler.history(name, None, 100).await.unwrap();
            if builds.iter().all(|b| b.phase.is_terminal()) {
                let mut told = Vec::new();
                for build in builds {
                    assert_eq!(build.phase, Phase::Succeeded, "{build:#?}");
                    let log = self.scheduler.log(build.id, 0, 10_000).await.unwrap().bytes;
                    told.push((build.revision.to_string(), String::from_utf8(log).unwrap()));
                }
                return told;
            }
            SystemClock.sleep(Duration::from_millis(10)).await;
        }
    }

    async fn stop(mut self) {
        drop(self.stop.take());
        self.run.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dependencies_that_share_a_branch_are_built_when_their_own_source_changes() {
    let world = World::new(&[("probe", PROBE), ("changed", CHANGED), ("build", BUILD)]);
    let (version, file, mark) = (world.at("version"), world.at("file"), world.at("mark"));
    fs::write(&version, "v1").unwrap();
    fs::write(&file, "").unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let running = Running::of(&world);
    let job_type = || world.branch.job_type();
    let job = |word: &str| JobTypeJob::new(job_type()).build(["build", word]);
    running.define("token", JobTypeSource::token(job_type()).source(text(&version)), job("one")).await;
    let changed = JobTypeSource::changed(job_type()).probe(["changed"]).source(text(&file));
    running
        .define(
            "changed",
            changed.env("MARK", text(&mark)),
            job("two").with("env", serde_json::json!({"MARK": text(&mark)})),
        )
        .await;

    let both = async || (running.look("token").await, running.look("changed").await);
    let (token, changed) = both().await;
    assert_eq!(token, [("v1".into(), "one token v1\nscripts\n".to_owned())]);
    assert_eq!(changed, [("1".into(), "two changed 1\nscripts\n".to_owned())]);
    let (token, changed) = both().await;
    assert_eq!((token.len(), changed.len()), (1, 1), "nothing changed");

    fs::write(&version, "v2").unwrap();
    let (token, changed) = both().await;
    assert_eq!(token[0], ("v2".into(), "one token v2\nscripts\n".to_owned()));
    assert_eq!((token.len(), changed.len()), (2, 1), "only one of them changed");

    // A change of the scripts is none of the dependencies; the next build runs the new ones.
    world.branch.commit(&[("build", "#!/bin/sh\necho new\n")]);
    let (token, changed) = both().await;
    assert_eq!((token.len(), changed.len()), (2, 1), "the scripts changed");
    fs::write(&version, "v3").unwrap();
    let (token, _) = both().await;
    assert_eq!(token[0], ("v3".into(), "new\n".to_owned()));
    assert_eq!(world.leases(), 0, "all builds have ended");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_branch_counts_its_change_builds_with_the_scripts_that_were_seen() {
    let world = World::new(&[("probe", PROBE), ("build", BUILD)]);
    let version = world.at("version");
    fs::write(&version, "v1").unwrap();
    let running = Running::of(&world);
    let job_type = || world.branch.job_type();
    let source = JobTypeSource::token(job_type()).source(version.to_str().unwrap());
    let job = JobTypeJob::new(job_type()).build(["build", "x"]);
    running.define("lib", source.rebuild_on_type_change(true), job).await;
    assert_eq!(running.look("lib").await.len(), 1);
    assert_eq!(running.look("lib").await.len(), 1);
    let at = world.branch.commit(&[(
        "build",
        "#!/bin/sh\necho \"new $CAPOMASTRO_REVISION\"\necho v1 >\"$CAPOMASTRO_BUILT_REVISION_FILE\"\n",
    )]);
    let builds = running.look("lib").await;
    assert_eq!(builds[0], (format!("job-type:{at}:v1"), "new v1\n".to_owned()));
    assert_eq!(builds.len(), 2);
    assert_eq!(running.look("lib").await.len(), 2);
    // What was really built is told in the same words, so that it fits what was asked for.
    let (history, _) = running.scheduler.history("lib", None, 1).await.unwrap();
    assert_eq!(history[0].built, Some(history[0].revision.clone()));
    fs::write(&version, "v2").unwrap();
    assert_eq!(running.look("lib").await[0].0, format!("job-type:{at}:v2"));
    running.stop().await;
}

/// What a launch kept.
#[derive(Debug, Default)]
struct Memos {
    kept: Mutex<Vec<Value>>,
    /// Whether keeping succeeds, and the launch goes on.
    dies: bool,
}

#[async_trait]
impl Journal for Memos {
    async fn keep(&self, memo: Value) -> capomastro_core::Result<()> {
        self.kept.lock().unwrap().push(memo);
        if self.dies { std::future::pending().await } else { Ok(()) }
    }
}

fn request(job: &JobTypeJob, revision: &str) -> LaunchRequest {
    let build = BuildId::draw(SystemClock.now(), &SystemRandom);
    LaunchRequest::new(
        build,
        LaunchKey::of(build),
        "lib".parse().unwrap(),
        1,
        revision.parse().unwrap(),
        1,
        job.clone().into(),
        Duration::from_secs(60),
        SendBefore(Monotonic(Duration::MAX)),
        Secrets::none(),
    )
}

async fn accepted(launcher: &JobTypeLauncher, request: &LaunchRequest) -> ExternalRef {
    match launcher.launch(request, &Memos::default()).await.unwrap() {
        Launched::Accepted(external) => external,
        Launched::Refused(why) => panic!("refused: {}", why.reason),
    }
}

async fn end(launcher: &JobTypeLauncher, request: &LaunchRequest, external: &ExternalRef) -> Outcome {
    for _ in 0..3_000 {
        let report = launcher.observe(&[(request.key, external.clone())]).await.remove(0).unwrap();
        if let Seen::Ended(ended) = report.seen {
            return ended.outcome;
        }
        SystemClock.sleep(Duration::from_millis(10)).await;
    }
    panic!("the build does not end")
}

#[tokio::test]
async fn a_launch_that_crashed_runs_the_scripts_that_it_kept() {
    let world = World::new(&[("build", "#!/bin/sh\necho \"old $JOB_TYPE_REVISION\"\n")]);
    let (launcher, job) = (world.launcher(), JobTypeJob::new(world.branch.job_type()));
    let mut request = request(&job, "r1");
    let memos = Memos { dies: true, ..Memos::default() };
    let crash = SystemClock.sleep(Duration::from_millis(1));
    let launching = async {
        loop {
            if !memos.kept.lock().unwrap().is_empty() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    // The process dies when the revision is kept, and before anything else.
    tokio::select! {
        launched = launcher.launch(&request, &memos) => panic!("{launched:?}"),
        () = launching => crash.await,
    }
    request.memo = memos.kept.lock().unwrap().pop();
    assert_eq!(launcher.find(&request).await.unwrap(), Found::Absent);
    world.branch.commit(&[("build", "#!/bin/sh\necho new\n")]);
    let external = accepted(&world.launcher(), &request).await;
    assert_eq!(end(&launcher, &request, &external).await, Outcome::Succeeded);
    assert!(world.log(&external).await.starts_with("old "), "{}", world.log(&external).await);
    assert_eq!(world.leases(), 0);
}

#[tokio::test]
async fn a_build_that_is_there_is_found_without_its_scripts() {
    let world = World::new(&[(
        "build",
        "#!/bin/sh\nuntil [ -e \"$GO\" ] || [ ! -d \"${GO%/*}\" ]; do sleep 0.02; done\n",
    )]);
    let go = world.at("go");
    let env = serde_json::json!({"GO": go.to_str().unwrap()});
    let job = JobTypeJob::new(world.branch.job_type()).with("env", env);
    let mut request = request(&job, "r1");
    let launcher = world.launcher();
    let memos = Memos::default();
    let Launched::Accepted(external) = launcher.launch(&request, &memos).await.unwrap() else { panic!() };
    request.memo = memos.kept.lock().unwrap().pop();

    // Nobody takes the scripts away from a build that runs, whoever forgot about it.
    assert_eq!(world.leases(), 1);
    let runner = Arc::new(ProcessRunner::new());
    let other =
        Checkouts::builder(world.at("job-types"), runner).keep_unused(Duration::ZERO).build().unwrap();
    assert_eq!(other.sweep().await.unwrap().removed, 0);

    // Branch and checkouts are gone by force.
    fs::remove_dir_all(world.branch.path()).unwrap();
    fs::remove_dir_all(world.at("job-types")).unwrap();
    assert_eq!(launcher.find(&request).await.unwrap(), Found::Build(external.clone()));
    assert_eq!(accepted(&launcher, &request).await, external);
    fs::write(&go, "").unwrap();
    assert_eq!(end(&launcher, &request, &external).await, Outcome::Succeeded);
}

#[tokio::test]
async fn what_a_job_type_lacks_refuses_the_launch() {
    let world = World::new(&[("build", BUILD)]);
    let launcher = world.launcher();
    let refusal = async |job: &JobTypeJob, revision: &str| match launcher
        .launch(&request(job, revision), &Memos::default())
        .await
        .unwrap()
    {
        Launched::Refused(refusal) => refusal,
        Launched::Accepted(_) => panic!("accepted"),
    };
    let there = || JobTypeJob::new(world.branch.job_type());
    let missing = refusal(&there().build(["nowhere"]), "r1").await;
    assert!(missing.permanent && missing.reason.contains("not in the branch"), "{missing:?}");
    let gone = refusal(&there(), &format!("job-type:{}:r1", "0".repeat(40))).await;
    assert!(!gone.permanent && gone.reason.contains("no more"), "{gone:?}");
    let git = capomastro_probes::git::GitSource::new(world.branch.path().to_str().unwrap()).branch("other");
    let none = refusal(&JobTypeJob::new(capomastro_probes::job_type::JobType::Git(git)), "r1").await;
    assert!(none.permanent && none.reason.contains("not there"), "{none:?}");
    // What the launcher that builds refuses is let go of.
    let refused = refusal(&there().with("dir", "/no/such/folder"), "r1").await;
    assert!(refused.permanent, "{refused:?}");
    assert_eq!(world.leases(), 0);
}
