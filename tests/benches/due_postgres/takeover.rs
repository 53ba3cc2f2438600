//! How long the work of a scheduler that was killed in the middle of it waits for another one, with the usual leases.
//!
//! Each victim is a process that takes one piece of work and hangs in it; then a survivor begins, which knows the same part
//! only; then the victim is killed, sooner or later within its lease.

use capomastro_core::{
    Result, Scheduler, async_trait,
    launch::{BuildLauncher, Ended, Found, Journal, LaunchRequest, Launched, Outcome, Promise, Report, Seen},
    model::{ExternalRef, LaunchKey, Policy, ProbeKey, Source},
    probe::{Ask, Probed, RevisionProbe},
    scheduler::DependencySpec,
    store::StateStore,
    time::{Clock, Random, SystemClock, SystemRandom},
};
use capomastro_store_postgres::PostgresStore;
use capomastro_tests::{figure, postgres::Cluster};
use serde_json::Value;
use std::{
    env,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

/// How many schedulers are killed while they ask a build system.
const BUILDS: usize = 40;
/// How many are killed while they look at a source.
const LOOKS: usize = 10;
/// The usual leases.
const DRIVE_LEASE: Duration = Duration::from_secs(15);
const LOOK_LEASE: Duration = Duration::from_secs(90);
/// Within which time after it has taken the work a victim is killed: before it gives up waiting and gives the work back.
const WITHIN: Duration = Duration::from_secs(4);
const VICTIM: &str = "CAPOMASTRO_BENCH_VICTIM";
const READY: &str = "hangs";

/// What somebody is in the middle of.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Work {
    Build,
    Look,
}

/// A probe and a launcher, of which the one or the other may hang; both say when they were asked.
#[derive(Debug)]
struct Parts {
    hangs_in: Option<Work>,
    asked: mpsc::UnboundedSender<Work>,
}

impl Parts {
    async fn ask(&self, work: Work) {
        // Whoever measures may have gone.
        self.asked.send(work).ok();
        if self.hangs_in == Some(work) {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl RevisionProbe for Parts {
    fn key(&self, source: &Source) -> Result<ProbeKey> {
        Ok(ProbeKey::of(&[source.probe.as_str()]))
    }

    async fn probe(&self, asks: &[Ask]) -> Vec<Result<Probed>> {
        self.ask(Work::Look).await;
        asks.iter().map(|_| Probed::revision("r1")).collect()
    }
}

#[async_trait]
impl BuildLauncher for Parts {
    fn promise(&self) -> Promise {
        Promise::IdempotentByKey
    }

    fn check_job(&self, _: &Value) -> Result<()> {
        Ok(())
    }

    async fn launch(&self, request: &LaunchRequest, _: &dyn Journal) -> Result<Launched> {
        Ok(Launched::Accepted(ExternalRef(request.key.to_string())))
    }

    async fn find(&self, request: &LaunchRequest) -> Result<Found> {
        Ok(Found::Build(ExternalRef(request.key.to_string())))
    }

    async fn observe(&self, builds: &[(LaunchKey, ExternalRef)]) -> Vec<Result<Report>> {
        self.ask(Work::Build).await;
        let end = || Report { external: None, seen: Seen::Ended(Ended::new(Outcome::Succeeded)) };
        builds.iter().map(|_| Ok(end())).collect()
    }

    async fn cancel(&self, _: &LaunchKey, _: &ExternalRef) -> Result<()> {
        Ok(())
    }
}

/// A scheduler with one probe and one launcher, both of this name.
async fn scheduler(url: &str, name: &str, parts: Parts) -> Scheduler {
    let store = Arc::new(PostgresStore::builder(url).connections(2).open().await.unwrap());
    let parts = Arc::new(parts);
    Scheduler::builder(Arc::clone(&store) as Arc<dyn StateStore>)
        .hints(store)
        .probe(name, Arc::clone(&parts) as Arc<dyn RevisionProbe>)
        .launcher(name, parts)
        .build()
        .unwrap()
}

/// A process that was started to be killed.
pub(crate) struct Victim {
    url: String,
    name: String,
    hangs_in: Work,
}

/// Whether this process is one.
pub(crate) fn victim() -> Option<Victim> {
    let told = env::var(VICTIM).ok()?;
    let mut words = told.split(' ').map(str::to_owned);
    let (work, name, url) = (words.next()?, words.next()?, words.next()?);
    let hangs_in = if work == "build" { Work::Build } else { Work::Look };
    Some(Victim { url, name, hangs_in })
}

impl Victim {
    /// Works until it is killed.
    pub(crate) async fn run(self) {
        let (asked, mut heard) = mpsc::unbounded_channel();
        let parts = Parts { hangs_in: Some(self.hangs_in), asked };
        let scheduler = scheduler(&self.url, &self.name, parts).await;
        let work = tokio::spawn(async move { scheduler.run(std::future::pending()).await });
        while heard.recv().await != Some(self.hangs_in) {}
        println!("{READY}");
        std::io::stdout().flush().unwrap();
        work.await.unwrap().unwrap();
    }
}

/// Kills them all, each while it works, and reports how long each piece of work waited.
pub(crate) async fn measure(cluster: &Cluster) {
    let url = cluster.create_database();
    // One after another, so that they do not compete while they start.
    let mut waits = Vec::new();
    for n in 0..BUILDS + LOOKS {
        let work = if n < LOOKS { Work::Look } else { Work::Build };
        waits.push((work, kill_one(&url, n, work).await));
    }
    let (mut builds, mut looks) = (Vec::new(), Vec::new());
    for (work, wait) in waits {
        let waited = wait.await.unwrap();
        match work {
            Work::Build => builds.push(waited),
            Work::Look => looks.push(waited),
        }
    }
    builds.sort_unstable();
    looks.sort_unstable();
    let p99 = builds[(builds.len() * 99).div_ceil(100) - 1];
    figure("takeover_p99_s", p99.as_secs_f64(), DRIVE_LEASE.as_secs_f64(), "s");
    figure("takeover_of_looks_max_s", looks[LOOKS - 1].as_secs_f64(), LOOK_LEASE.as_secs_f64(), "s");
}

/// Brings one victim into the middle of its work. How long the work waits after the kill comes later.
async fn kill_one(url: &str, n: usize, work: Work) -> oneshot::Receiver<Duration> {
    let name = format!("part-{n}");
    let (asked, mut heard) = mpsc::unbounded_channel();
    let survivor = scheduler(url, &name, Parts { hangs_in: None, asked }).await;
    let source = Source::new(&name, "somewhere").unwrap();
    let spec = DependencySpec::new(&name, source, &name).unwrap();
    survivor.apply(&spec.with_policy(Policy::default())).await.unwrap();

    let mut victim = Command::new(env::current_exe().unwrap())
        .env(VICTIM, format!("{} {name} {url}", if work == Work::Build { "build" } else { "look" }))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(victim.stdout.take().unwrap());
    let line = tokio::task::spawn_blocking(move || out.lines().next()).await.unwrap();
    assert_eq!(line.unwrap().unwrap(), READY);

    let (tell, waited) = oneshot::channel();
    tokio::spawn(async move {
        let later = WITHIN.mul_f64((SystemRandom.bits() % 1_000) as f64 / 1_000.0);
        let (stop, stopped) = oneshot::channel::<()>();
        let runs = tokio::spawn(async move {
            let shutdown = async { drop(stopped.await) };
            survivor.run(shutdown).await
        });
        SystemClock.sleep(later).await;
        while let Ok(asked) = heard.try_recv() {
            assert_ne!(asked, work, "nobody has taken it over before");
        }
        victim.kill().unwrap();
        let killed = SystemClock.monotonic().0;
        victim.wait().unwrap();
        while heard.recv().await != Some(work) {}
        tell.send(SystemClock.monotonic().0 - killed).unwrap();
        drop(stop);
        runs.await.unwrap().unwrap();
    });
    waited
}
