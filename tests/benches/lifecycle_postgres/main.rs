//! How many changes go through the whole scheduler in a second, from the look that sees one to the link, over PostgreSQL
//! that waits for the disk, with one scheduler and with several; what hints cost; and how soon a change that was seen is
//! sent.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

mod by_hand;
#[path = "../lifecycle/instant.rs"]
mod instant;
#[path = "../lifecycle/soon.rs"]
mod soon;

use by_hand::ByHand;
use capomastro_core::{
    Scheduler,
    model::{Policy, Source},
    scheduler::{DependencySpec, Retention, TriggerRequest},
    store::StateStore,
    time::{Clock, SystemClock},
};
use capomastro_store_postgres::PostgresStore;
use capomastro_testkit::ManualClock;
use capomastro_tests::{
    figure,
    postgres::{Cluster, Settings},
};
use instant::{Changing, Instant};
use std::{sync::Arc, time::Duration};

/// How many changes are under way at once, over all schedulers.
const GROUP: usize = 64;
/// The connections that a store makes at the most, unless told otherwise.
const CONNECTIONS: usize = 8;
/// So that next to no look falls into the seconds in which builds are driven.
const LOOK_EVERY: Duration = Duration::from_secs(86_400);
/// For how long a loop is repeated.
const LONG_ENOUGH: Duration = Duration::from_secs(6);
/// How often the two sides take turns, so that other load of the machine falls on both.
const TURNS: u32 = 3;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let settings = Settings::default().durable().max_connections(400).set("shared_buffers", "512MB");
    let Some(cluster) = Cluster::with(settings) else { return };
    runtime.block_on(async {
        for schedulers in [1, 4, 16] {
            lifecycles(&cluster, schedulers).await;
        }
        hints(&cluster).await;
        let store = PostgresStore::builder(cluster.create_database()).open().await.unwrap();
        let ours = soon::launches(Arc::new(store)).await;
        soon::report(&ours, &commits(&cluster).await);
    });
}

async fn lifecycles(cluster: &Cluster, schedulers: usize) {
    let (ours_in, by_hand_in) = (cluster.create_database(), cluster.create_database());
    let each = GROUP / schedulers;
    let mut ours = Vec::new();
    for n in 0..schedulers {
        ours.push(Whole::new(&ours_in, n, each, false).await);
    }
    let mut by_hand = Vec::new();
    // As many connections at work as ours has.
    let workers = schedulers * each.min(CONNECTIONS);
    ByHand::tables(&by_hand_in).await;
    for n in 0..workers {
        by_hand.push(ByHand::new(&by_hand_in, n, GROUP / workers).await);
    }
    let (mut ours_took, mut by_hand_took) = ((0, Duration::ZERO), (0, Duration::ZERO));
    for turn in 0..=TURNS {
        let took = (all(&mut ours).await, all(&mut by_hand).await);
        // The first turn fills caches.
        if turn > 0 {
            add(&mut ours_took, took.0);
            add(&mut by_hand_took, took.1);
        }
    }
    for one in &ours {
        one.check().await;
    }
    figure(&format!("lifecycles_{schedulers}"), rate(ours_took), rate(by_hand_took), "lifecycles/s");
}

/// The same load with hints and without, where each change is triggered by another process.
async fn hints(cluster: &Cluster) {
    let mut sides = Vec::new();
    for hinted in [true, false] {
        let database = cluster.create_database();
        let mut schedulers = Vec::new();
        for n in 0..4 {
            schedulers.push(Whole::new(&database, n, GROUP / 4, hinted).await);
        }
        sides.push((schedulers, (0, Duration::ZERO)));
    }
    for turn in 0..=TURNS {
        for (schedulers, sum) in &mut sides {
            let took = all(schedulers).await;
            if turn > 0 {
                add(sum, took);
            }
        }
    }
    let [with, without] = [rate(sides[0].1), rate(sides[1].1)];
    figure("hints_on_over_off", with, without, "lifecycles/s");
}

/// What does rounds of lifecycles.
trait Rounds: Send + 'static {
    fn round(&mut self) -> impl Future<Output = usize> + Send;
}

/// All of them at once, each again and again; how many lifecycles, and how long it took.
async fn all<R: Rounds>(those: &mut Vec<R>) -> (usize, Duration) {
    let began = SystemClock.monotonic().0;
    let tasks: Vec<_> = those
        .drain(..)
        .map(|mut one| {
            tokio::spawn(async move {
                let mut done = 0;
                while SystemClock.monotonic().0 - began < LONG_ENOUGH / TURNS {
                    done += one.round().await;
                }
                (one, done)
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        let (one, count) = task.await.unwrap();
        those.push(one);
        done += count;
    }
    (done, SystemClock.monotonic().0 - began)
}

fn add(sum: &mut (usize, Duration), more: (usize, Duration)) {
    sum.0 += more.0;
    sum.1 += more.1;
}

fn rate((done, took): (usize, Duration)) -> f64 {
    f64::from(u32::try_from(done).unwrap()) / took.as_secs_f64()
}

/// A whole scheduler with dependencies of its own, one of several over a database.
struct Whole {
    number: usize,
    clock: ManualClock,
    probe: Arc<Changing>,
    launcher: Instant,
    scheduler: Scheduler,
    /// Somebody else over the same database, who triggers.
    visitor: Option<Scheduler>,
    group: usize,
    rounds: usize,
}

impl Whole {
    async fn new(database: &str, number: usize, group: usize, hinted: bool) -> Self {
        let clock = ManualClock::new();
        let open = || PostgresStore::builder(database).clock(Arc::new(clock.clone())).hints(hinted).open();
        let store = Arc::new(open().await.unwrap());
        let (probe, launcher) = (Arc::new(Changing::default()), Instant::new());
        let (changing, instant) = (format!("changing-{number}"), format!("instant-{number}"));
        let mut retention = Retention::default();
        // Nothing is trimmed, as the loop by hand trims nothing.
        retention.builds = u32::MAX;
        let scheduler = Scheduler::builder(Arc::clone(&store) as Arc<dyn StateStore>)
            .clock(Arc::new(clock.clone()))
            .hints(store)
            .probe(&changing, Arc::<Changing>::clone(&probe))
            .launcher(&instant, Arc::new(launcher.clone()))
            .retention(retention)
            .build()
            .unwrap();
        let policy = Policy::default().with_look_every(LOOK_EVERY);
        for n in 0..group {
            let name = format!("dependency-{number}-{n}");
            let source = Source::new(&changing, &name).unwrap();
            let spec = DependencySpec::new(&name, source, &instant).unwrap();
            scheduler.apply(&spec.with_policy(policy.clone())).await.unwrap();
        }
        let visitor = hinted.then(|| scheduler.clone());
        Self { number, clock, probe, launcher, scheduler, visitor, group, rounds: 0 }
    }

    /// What was counted is recorded.
    async fn check(&self) {
        for n in 0..self.group {
            let name = format!("dependency-{}-{n}", self.number);
            let state = self.scheduler.status(&name).await.unwrap().state;
            assert_eq!(usize::try_from(state.builds).unwrap(), self.rounds, "{name}");
            assert_eq!(state.linked.unwrap().revision, state.observed.unwrap().revision);
        }
    }
}

impl Rounds for Whole {
    /// One lifecycle of each dependency.
    async fn round(&mut self) -> usize {
        self.rounds += 1;
        self.probe.change();
        self.clock.advance(LOOK_EVERY);
        if let Some(visitor) = &self.visitor {
            // A push stored by hand is what makes a hint.
            visitor.trigger(&format!("dependency-{}-0", self.number), TriggerRequest::push()).await.unwrap();
        }
        while self.launcher.ended() < self.rounds * self.group {
            self.scheduler.tick().await.unwrap();
            self.clock.advance(Duration::from_secs(5));
        }
        self.group
    }
}

/// A durable commit of one row, again and again.
async fn commits(cluster: &Cluster) -> Vec<Duration> {
    let client = cluster.connect("postgres").await;
    client.batch_execute("CREATE TABLE bare (id bigserial PRIMARY KEY, data text)").await.unwrap();
    let insert = client.prepare("INSERT INTO bare (data) VALUES ($1)").await.unwrap();
    let data = "x".repeat(1_000);
    let mut took = Vec::new();
    for _ in 0..soon::CHANGES {
        let began = SystemClock.monotonic().0;
        client.execute(&insert, &[&data]).await.unwrap();
        took.push(SystemClock.monotonic().0 - began);
    }
    took
}
