//! What due work costs over PostgreSQL: taking some of it, of few rows and of a million; finding none; taking it while
//! somebody else's old snapshot keeps dead rows alive; and how long the work of a killed scheduler waits for another.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

mod crowd;
mod takeover;

use capomastro_core::{
    Scheduler,
    store::StateStore,
    time::{Clock, SystemClock},
};
use capomastro_tests::{
    Standing, figure,
    postgres::{Cluster, Settings},
};
use crowd::{Crowd, median};
use std::{sync::Arc, time::Duration};

/// How many calls a median is of.
const CALLS: usize = 1_000;
/// How often the sides take turns, so that other load of the machine falls on all.
const TURNS: usize = 5;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Some(victim) = takeover::victim() {
        return runtime.block_on(victim.run());
    }
    let settings = Settings::default().durable().max_connections(400).set("shared_buffers", "512MB");
    let Some(cluster) = Cluster::with(settings) else { return };
    runtime.block_on(async {
        takeover::measure(&cluster).await;
        let small = Crowd::of(&cluster, 10_000).await;
        let large = Crowd::of(&cluster, 1_000_000).await;
        empty_tick(&cluster, &large).await;
        claims(&small, &large).await;
        old_snapshot(&cluster, &large).await;
    });
}

/// A tick that finds nothing due for its probe, which has a hundred thousand rows of a million, beside a statement that does nothing.
async fn empty_tick(cluster: &Cluster, large: &Crowd) {
    let store = Arc::<capomastro_store_postgres::PostgresStore>::clone(&large.store) as Arc<dyn StateStore>;
    let scheduler = Scheduler::builder(store).probe("standing", Arc::new(Standing)).build().unwrap();
    let client = cluster.connect(&large.database).await;
    let nothing = client.prepare("SELECT 1").await.unwrap();
    let (mut ticks, mut bare) = (Vec::new(), Vec::new());
    for n in 0..2 * CALLS {
        let began = SystemClock.monotonic().0;
        scheduler.tick().await.unwrap();
        let ticked = SystemClock.monotonic().0;
        client.query_one(&nothing, &[]).await.unwrap();
        let ended = SystemClock.monotonic().0;
        // The first ones plan, and do what the house has to do.
        if n >= CALLS {
            ticks.push(ticked - began);
            bare.push(ended - ticked);
        }
    }
    figure("empty_tick", micros(median(&mut ticks)), micros(median(&mut bare)), "µs");
}

/// A claim of a hundred rows, where all are due.
async fn claims(small: &Crowd, large: &Crowd) {
    let (mut of_small, mut of_large) = (Vec::new(), Vec::new());
    for turn in 0..=TURNS {
        let took = (small.claims(CALLS / TURNS).await, large.claims(CALLS / TURNS).await);
        // The first turn fills caches.
        if turn > 0 {
            of_small.extend(took.0);
            of_large.extend(took.1);
        }
    }
    figure("claim_1m_over_10k", micros(median(&mut of_large)), micros(median(&mut of_small)), "µs");
}

/// Claims while a transaction that began before all of them is still open: of what they leave behind nothing can be cleaned.
async fn old_snapshot(cluster: &Cluster, large: &Crowd) {
    cluster.sql(&large.database, "VACUUM");
    let mut before = large.claims(CALLS).await;
    let reader = cluster.connect(&large.database).await;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class";
    reader.batch_execute(begin).await.unwrap();
    let mut took = Vec::new();
    for _ in 0..TURNS {
        took.push(large.claims(CALLS).await);
    }
    reader.batch_execute("COMMIT").await.unwrap();
    let (limit, mut after) = (micros(median(&mut before)), took.pop().unwrap());
    // After as many claims as a busy installation makes in minutes.
    figure("claim_old_snapshot", micros(median(&mut after)), limit, "µs");
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
