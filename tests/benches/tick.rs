//! What an empty tick costs with many dependencies registered, over what it costs with a thousand.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

use capomastro_core::time::{Clock, SystemClock};
use capomastro_store_sqlite::SqliteStore;
use capomastro_testkit::ManualClock;
use capomastro_tests::{crowd_scheduler, figure, register};
use std::sync::Arc;

/// Ticks that are timed, each alone.
const TICKS: usize = 4_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let few = runtime.block_on(empty_tick(1_000));
    for (name, count) in [("tick_100k_over_1k", 100_000), ("tick_1m_over_1k", 1_000_000)] {
        let many = runtime.block_on(empty_tick(count));
        figure(name, many, few, "µs per empty tick");
    }
}

/// The median, in microseconds.
async fn empty_tick(registered: usize) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let store = SqliteStore::builder(folder.path().join("crowd.db")).clock(Arc::new(clock.clone()));
    let store = Arc::new(store.open().unwrap());
    register(&*store, &clock, registered).await;
    let scheduler = crowd_scheduler(Arc::<SqliteStore>::clone(&store), &clock, 256);
    let mut took = Vec::with_capacity(TICKS);
    for tick in 0..TICKS + TICKS / 10 {
        let before = SystemClock.monotonic();
        let report = scheduler.tick().await.unwrap();
        let after = SystemClock.monotonic();
        assert_eq!(report.taken, 0, "nothing is due");
        // The first ones open files and fill caches.
        if tick >= TICKS / 10 {
            took.push((after.0 - before.0).as_secs_f64() * 1e6);
        }
    }
    store.close().await;
    took.sort_by(f64::total_cmp);
    took[TICKS / 2]
}
