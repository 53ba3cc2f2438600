//! What an empty tick costs with many dependencies registered, over what it costs with a thousand.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

use capomastro_core::{
    Scheduler,
    time::{Clock, SystemClock},
};
use capomastro_store_sqlite::SqliteStore;
use capomastro_testkit::ManualClock;
use capomastro_tests::{crowd_scheduler, figure, register};
use std::sync::Arc;

/// How many are registered: the limit first, then what is compared with it.
const REGISTERED: [usize; 3] = [1_000, 100_000, 1_000_000];
/// How often the three take turns, so that other load of the machine falls on all.
const TURNS: usize = 100;
/// Ticks of one turn that are timed, each alone.
const TICKS: usize = 50;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut crowds = Vec::new();
        for count in REGISTERED {
            crowds.push(Crowd::register(count).await);
        }
        for _ in 0..TURNS {
            for crowd in &mut crowds {
                crowd.tick().await;
            }
        }
        let mut medians = Vec::new();
        for crowd in crowds {
            medians.push(crowd.median().await);
        }
        figure("tick_100k_over_1k", medians[1], medians[0], "µs per empty tick");
        figure("tick_1m_over_1k", medians[2], medians[0], "µs per empty tick");
    });
}

/// A file with dependencies of which none is due, and a scheduler over it.
struct Crowd {
    store: Arc<SqliteStore>,
    scheduler: Scheduler,
    took: Vec<f64>,
    _folder: tempfile::TempDir,
}

impl Crowd {
    async fn register(count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::new();
        let store = SqliteStore::builder(folder.path().join("crowd.db")).clock(Arc::new(clock.clone()));
        let store = Arc::new(store.open().unwrap());
        register(&*store, &clock, count).await;
        let scheduler = crowd_scheduler(Arc::<SqliteStore>::clone(&store), &clock, 256);
        Self { store, scheduler, took: Vec::new(), _folder: folder }
    }

    async fn tick(&mut self) {
        // The first ones of a turn fill caches.
        for tick in 0..TICKS + TICKS / 5 {
            let before = SystemClock.monotonic();
            let report = self.scheduler.tick().await.unwrap();
            let after = SystemClock.monotonic();
            assert_eq!(report.taken, 0, "nothing is due");
            if tick >= TICKS / 5 {
                self.took.push((after.0 - before.0).as_secs_f64() * 1e6);
            }
        }
    }

    /// In microseconds.
    async fn median(mut self) -> f64 {
        self.store.close().await;
        self.took.sort_by(f64::total_cmp);
        self.took[self.took.len() / 2]
    }
}
