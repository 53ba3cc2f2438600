//! A scheduler, a Jenkins double, and time that passes only when told, or when somebody waits for nothing else.

use capomastro_core::{
    InMemoryStore, Scheduler,
    model::{Build, Policy},
    scheduler::DependencySpec,
    secret::{FixedSecrets, Secrets},
    store::StateStore,
    time::{Clock as _, SystemClock},
};
use capomastro_jenkins::{Built, Credentials, JenkinsJob, JenkinsLauncher};
use capomastro_store_postgres::PostgresStore;
use capomastro_store_sqlite::SqliteStore;
use capomastro_testkit::{
    ManualClock, ScriptedProbe, SeededRandom,
    jenkins::{Artifact, Jenkins, JobSpec, Revision, Run, Script},
};
use capomastro_tests::postgres::shared;
use futures_util::future::{Either, select};
use std::{path::Path, pin::pin, sync::Arc, time::Duration};

pub(crate) const ID: &str = "CAPOMASTRO_BUILD_ID";

/// What a build takes.
const TAKES: Duration = Duration::from_secs(20);

pub(crate) fn second() -> Duration {
    Duration::from_secs(1)
}

/// What a build does: it takes a while, leaves a file with the revision in it, and says what it has built.
fn script(run: &Run) -> Script {
    let revision = run.parameter("CAPOMASTRO_REVISION").unwrap();
    let (branch, remote) = ("refs/remotes/origin/main".into(), "https://git.example.org/it.git".into());
    Script::succeeds_after(TAKES)
        .log(format!("building {revision}\n"))
        .artifact(Artifact::file("out/it.txt", revision))
        .revision(Revision { sha1: revision.to_owned(), branch, remote })
}

/// A revision as git has them.
pub(crate) fn revision(number: u64) -> String {
    format!("{number:040x}")
}

pub(crate) struct Farm {
    pub(crate) clock: ManualClock,
    pub(crate) jenkins: Jenkins,
    pub(crate) probe: ScriptedProbe,
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) launcher: JenkinsLauncher,
    pub(crate) scheduler: Scheduler,
}

/// Where everything is kept.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Kept {
    Memory,
    File,
    Database,
}

impl Kept {
    /// A store of this kind; nothing where its server is missing.
    async fn open(self, clock: &ManualClock, folder: &Path) -> Option<Arc<dyn StateStore>> {
        let clock = Arc::new(clock.clone());
        Some(match self {
            Self::Memory => Arc::new(InMemoryStore::new(clock)),
            Self::File => {
                Arc::new(SqliteStore::builder(folder.join("state.db")).clock(clock).open().unwrap())
            }
            Self::Database => {
                let url = shared()?.create_database();
                Arc::new(PostgresStore::builder(url).clock(clock).hints(false).open().await.unwrap())
            }
        })
    }
}

pub(crate) fn launcher(clock: &ManualClock, jenkins: &Jenkins, seed: u64) -> JenkinsLauncher {
    let secrets = FixedSecrets::default().with("jenkins", Jenkins::TOKEN);
    JenkinsLauncher::builder(jenkins.url())
        .credentials(Credentials::token(Jenkins::ADMIN, "jenkins"), Secrets::new(Arc::new(secrets)))
        .clock(Arc::new(clock.clone()))
        .random(Arc::new(SeededRandom::new(seed)))
        .build()
        .unwrap()
}

impl Farm {
    /// A farm over a store of this kind, in this folder.
    pub(crate) async fn new(kept: Kept, folder: &Path) -> Option<Self> {
        let clock = ManualClock::new();
        let jenkins = Jenkins::builder()
            .clock(Arc::new(clock.clone()))
            .executors(4)
            .context_path("/ci")
            .keep_alive(Duration::from_secs(100_000))
            .start()
            .await
            .unwrap();
        jenkins.define_job(JobSpec::folder("farm"));
        let store = kept.open(&clock, folder).await?;
        let (probe, launcher) = (ScriptedProbe::new(), launcher(&clock, &jenkins, 7));
        let scheduler = Self::scheduler(&clock, &store, &probe, &launcher, 7);
        Some(Self { clock, jenkins, probe, store, launcher, scheduler })
    }

    fn scheduler(
        clock: &ManualClock,
        store: &Arc<dyn StateStore>,
        probe: &ScriptedProbe,
        launcher: &JenkinsLauncher,
        seed: u64,
    ) -> Scheduler {
        Scheduler::builder(Arc::clone(store))
            .clock(Arc::new(clock.clone()))
            .random(Arc::new(SeededRandom::new(seed)))
            .probe("scripted", Arc::new(probe.clone()))
            .launcher("jenkins", Arc::new(launcher.clone()))
            .build()
            .unwrap()
    }

    /// The scheduler's process ends, and another one begins.
    pub(crate) fn begin_again(&mut self, seed: u64) {
        self.launcher = launcher(&self.clock, &self.jenkins, seed);
        self.scheduler = Self::scheduler(&self.clock, &self.store, &self.probe, &self.launcher, seed);
    }

    /// A dependency with a job of its own, in these projects, whose source is at revision 1.
    pub(crate) async fn define(&self, name: &str, projects: &[&str], policy: Policy) {
        let job = format!("farm/{name} ö");
        let parameters = JobSpec::freestyle(&job).string(ID).string("CAPOMASTRO_REVISION");
        self.jenkins.define_job(parameters.runs_with(script));
        self.probe.set(name, &revision(1));
        let job = JenkinsJob::new(&job).built(Built::Git { remote: None });
        let mut spec = DependencySpec::new(name, ScriptedProbe::source(name), "jenkins")
            .unwrap()
            .with_job(job)
            .with_policy(policy.with_look_every(Duration::from_secs(60)));
        for project in projects {
            spec = spec.in_project(project).unwrap();
        }
        self.scheduler.apply(&spec).await.unwrap();
    }

    /// All that is due now. Time passes while something waits for an answer that does not come.
    pub(crate) async fn settle(&self) {
        for _ in 0..1_000 {
            let mut tick = pin!(self.scheduler.tick());
            let report = loop {
                match select(tick.as_mut(), SystemClock.sleep(Duration::from_millis(200))).await {
                    Either::Left((report, _)) => break report.unwrap(),
                    Either::Right(_) => self.clock.advance(second()),
                }
            };
            if report.taken == 0 {
                return;
            }
        }
        panic!("something is due for ever");
    }

    pub(crate) async fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            self.clock.advance(second());
            self.settle().await;
        }
    }

    /// Lets time pass until something is true, within this many seconds.
    pub(crate) async fn pass_until(&self, seconds: u64, mut holds: impl AsyncFnMut(&Self) -> bool) {
        for _ in 0..seconds {
            if holds(self).await {
                return;
            }
            self.pass(1).await;
        }
        assert!(holds(self).await, "not within {seconds} s");
    }

    /// The builds of a dependency, oldest first.
    pub(crate) async fn builds(&self, dependency: &str) -> Vec<Build> {
        let (mut builds, _) = self.scheduler.history(dependency, None, 1_000).await.unwrap();
        builds.reverse();
        builds
    }

    pub(crate) async fn is_linked(&self, dependency: &str, number: u64) -> bool {
        let linked = self.scheduler.status(dependency).await.unwrap().state.linked;
        linked.is_some_and(|linked| linked.revision.as_str() == revision(number))
    }

    /// How often builds with the key of this build have started on the server.
    pub(crate) fn started(&self, build: &Build) -> usize {
        self.jenkins.started_with(ID, &build.key.to_string()).len()
    }
}
