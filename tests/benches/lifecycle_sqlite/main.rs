//! How many changes go through the whole scheduler in a second, from the look that sees one to the link, over SQLite that
//! waits for the disk; and how soon a change that was seen is sent.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

mod by_hand;
#[path = "../lifecycle/instant.rs"]
mod instant;
#[path = "../lifecycle/soon.rs"]
mod soon;

use by_hand::ByHand;
use capomastro_core::{
    Scheduler,
    model::Policy,
    scheduler::{DependencySpec, Retention},
    store::StateStore,
    time::{Clock, SystemClock},
};
use capomastro_store_sqlite::{SqliteStore, rusqlite::Connection};
use capomastro_testkit::ManualClock;
use capomastro_tests::{Counted, figure};
use instant::{Changing, Instant, source};
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// How many changes are seen in one look, and so share transactions.
const GROUP: usize = 64;
/// So that next to no look falls into the seconds in which builds are driven.
const LOOK_EVERY: Duration = Duration::from_secs(86_400);
/// For how long a loop is repeated.
const LONG_ENOUGH: Duration = Duration::from_secs(5);
/// How often the two sides take turns, so that other load of the machine falls on both.
const TURNS: u32 = 3;

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let folder =
        tempfile::tempdir_in(std::env::var_os("CAPOMASTRO_BENCH_DIR").unwrap_or_else(|| ".".into())).unwrap();
    runtime.block_on(async {
        for (name, group) in [("lifecycles", GROUP), ("lifecycles_alone", 1)] {
            let mut ours = Whole::new(&folder.path().join(format!("{name}.db")), group).await;
            let mut by_hand = ByHand::new(&folder.path().join(format!("{name}-by-hand.db")), group);
            let (mut ours_took, mut by_hand_took) = ((0, Duration::ZERO), (0, Duration::ZERO));
            ours.round().await;
            by_hand.round();
            for _ in 0..TURNS {
                let (before, rounds) = (ours.transactions(), ours.rounds);
                add(&mut ours_took, repeat(async || ours.round().await).await);
                by_hand.share(ours.transactions() - before, ours.rounds - rounds);
                add(&mut by_hand_took, repeat(async || by_hand.round()).await);
            }
            ours.check().await;
            figure(name, rate(ours_took), rate(by_hand_took), "lifecycles/s");
        }
        let store = SqliteStore::builder(folder.path().join("soon.db")).open().unwrap();
        soon::report(&soon::launches(Arc::new(store)).await, &commits(&folder.path().join("bare.db")));
    });
}

fn add(sum: &mut (usize, Duration), more: (usize, Duration)) {
    sum.0 += more.0;
    sum.1 += more.1;
}

fn rate((done, took): (usize, Duration)) -> f64 {
    f64::from(u32::try_from(done).unwrap()) / took.as_secs_f64()
}

/// Repeats what does some lifecycles at once; how many, and how long it took.
async fn repeat(mut some: impl AsyncFnMut() -> usize) -> (usize, Duration) {
    let began = SystemClock.monotonic().0;
    let mut done = 0;
    loop {
        done += some().await;
        let took = SystemClock.monotonic().0 - began;
        if took >= LONG_ENOUGH / TURNS {
            return (done, took);
        }
    }
}

/// Nothing is trimmed, as the loop by hand trims nothing.
fn keeps_all() -> Retention {
    let mut retention = Retention::default();
    retention.builds = u32::MAX;
    retention
}

/// The whole scheduler.
struct Whole {
    clock: ManualClock,
    probe: Arc<Changing>,
    launcher: Instant,
    store: Arc<Counted>,
    path: PathBuf,
    scheduler: Scheduler,
    group: usize,
    rounds: usize,
}

impl Whole {
    async fn new(path: &Path, group: usize) -> Self {
        let clock = ManualClock::new();
        let store = SqliteStore::builder(path).clock(Arc::new(clock.clone())).open().unwrap();
        let (probe, launcher) = (Arc::new(Changing::default()), Instant::new());
        let store = Arc::new(Counted::new(store));
        let scheduler = Scheduler::builder(Arc::<Counted>::clone(&store) as Arc<dyn StateStore>)
            .clock(Arc::new(clock.clone()))
            .probe("changing", Arc::<Changing>::clone(&probe))
            .launcher("instant", Arc::new(launcher.clone()))
            .retention(keeps_all())
            .build()
            .unwrap();
        let policy = Policy::default().with_look_every(LOOK_EVERY);
        for n in 0..group {
            let name = format!("dependency-{n}");
            let spec = DependencySpec::new(&name, source(&name), "instant").unwrap();
            scheduler.apply(&spec.with_policy(policy.clone())).await.unwrap();
        }
        Self { clock, probe, launcher, store, path: path.to_owned(), scheduler, group, rounds: 0 }
    }

    /// How many durable transactions were made, at least: all of them by the counter that SQLite keeps in the header of its
    /// shared memory, less one for each time that claims were taken or given back.
    fn transactions(&self) -> usize {
        let mut file = self.path.clone().into_os_string();
        file.push("-shm");
        let mut header = [0; 12];
        File::open(file).unwrap().read_exact(&mut header).unwrap();
        let all = u32::from_ne_bytes(header[8..].try_into().unwrap());
        usize::try_from(all).unwrap() - self.store.lossy()
    }

    /// One lifecycle of each dependency.
    async fn round(&mut self) -> usize {
        self.rounds += 1;
        self.probe.change();
        self.clock.advance(LOOK_EVERY);
        while self.launcher.ended() < self.rounds * self.group {
            self.scheduler.tick().await.unwrap();
            self.clock.advance(Duration::from_secs(5));
        }
        self.group
    }

    /// What was counted is recorded.
    async fn check(&self) {
        let (living, _) = self.scheduler.dependencies(None, 1_000).await.unwrap();
        assert_eq!(living.len(), self.group);
        for dependency in living {
            let state = self.scheduler.status(dependency.name.as_str()).await.unwrap().state;
            assert_eq!(usize::try_from(state.builds).unwrap(), self.rounds, "{}", dependency.name);
            assert_eq!(state.linked.unwrap().revision, state.observed.unwrap().revision);
        }
    }
}

/// A durable commit of one row, again and again.
fn commits(path: &Path) -> Vec<Duration> {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE bare (id INTEGER PRIMARY KEY, data TEXT)",
    )
    .unwrap();
    let mut insert = conn.prepare("INSERT INTO bare (data) VALUES (?1)").unwrap();
    let data = "x".repeat(1_000);
    let one = || {
        let began = SystemClock.monotonic().0;
        insert.execute([&data]).unwrap();
        SystemClock.monotonic().0 - began
    };
    std::iter::repeat_with(one).take(soon::CHANGES).collect()
}
