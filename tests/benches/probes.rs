//! How many looks that find nothing go through the whole scheduler in a second, and what of them is written.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

mod loops;

use capomastro_core::{
    InMemoryStore,
    time::{Clock, SystemClock},
};
use capomastro_store_sqlite::SqliteStore;
use capomastro_testkit::ManualClock;
use capomastro_tests::{Counted, crowd_scheduler, figure, look_at_all, register};
use std::{sync::Arc, time::Duration};

/// How many dependencies there are.
const CROWD: usize = 20_000;
/// How many are looked at in one tick.
const AT_ONCE: usize = 1_000;
/// For how long a loop is repeated.
const LONG_ENOUGH: Duration = Duration::from_secs(3);

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let bare = per_second(async || loops::bare_probes(CROWD).await).await;
        let dispatched = over_memory().await;
        figure("dispatch_memory", dispatched.a_second, bare.a_second, "looks/s");
        figure("dispatch_memory_cpu", dispatched.a_cpu_second, bare.a_cpu_second, "looks/s of CPU time");
        let folder = tempfile::tempdir().unwrap();
        let mut by_hand = loops::ByHand::new(&folder.path().join("by-hand.db"), CROWD);
        let by_hand = per_second(async || by_hand.take_and_put_back(AT_ONCE)).await;
        let (dispatched, durable, written) = over_sqlite(&folder.path().join("crowd.db")).await;
        figure("dispatch_sqlite", dispatched.a_second, by_hand.a_second, "looks/s");
        figure("dispatch_sqlite_cpu", dispatched.a_cpu_second, by_hand.a_cpu_second, "looks/s of CPU time");
        // The limit of both is one for each look.
        figure("commits_per_unchanged", durable, 1.0, "durable commits per look");
        figure("transactions_per_unchanged", written, 1.0, "transactions per look");
    });
}

/// How many looks go through.
#[derive(Copy, Clone, Debug)]
struct Rate {
    a_second: f64,
    /// Other programs on the machine hardly change this one.
    a_cpu_second: f64,
}

/// The CPU time of this process, all threads: fields 14 and 15 of its `stat`, in hundredths of a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u32 = fields[11].parse::<u32>().unwrap() + fields[12].parse::<u32>().unwrap();
    f64::from(ticks) / 100.0
}

/// Repeats what does many looks at once.
async fn per_second(mut some: impl AsyncFnMut() -> usize) -> Rate {
    some().await;
    let (began, cpu) = (SystemClock.monotonic().0, cpu_seconds());
    let mut done = 0;
    loop {
        done += some().await;
        let took = SystemClock.monotonic().0 - began;
        if took >= LONG_ENOUGH {
            let done = f64::from(u32::try_from(done).unwrap());
            return Rate {
                a_second: done / took.as_secs_f64(),
                a_cpu_second: done / (cpu_seconds() - cpu).max(0.01),
            };
        }
    }
}

async fn over_memory() -> Rate {
    let clock = ManualClock::new();
    let store = Arc::new(InMemoryStore::new(Arc::new(clock.clone())));
    register(&*store, &clock, CROWD).await;
    let scheduler = crowd_scheduler(store, &clock, AT_ONCE);
    per_second(async || look_at_all(&scheduler, &clock).await).await
}

/// Looks in a second, and for each look the durable commits and the transactions.
async fn over_sqlite(path: &std::path::Path) -> (Rate, f64, f64) {
    let clock = ManualClock::new();
    let store = SqliteStore::builder(path).clock(Arc::new(clock.clone())).open().unwrap();
    let counted = Arc::new(Counted::new(store));
    register(&*counted, &clock, CROWD).await;
    let scheduler = crowd_scheduler(Arc::<Counted>::clone(&counted), &clock, AT_ONCE);
    let mut looks = 0;
    let rate = per_second(async || {
        let some = look_at_all(&scheduler, &clock).await;
        looks += some;
        some
    })
    .await;
    let each =
        |count: usize| f64::from(u32::try_from(count).unwrap()) / f64::from(u32::try_from(looks).unwrap());
    let (durable, lossy) = (counted.durable(), counted.lossy());
    counted.close().await;
    (rate, each(durable), each(durable + lossy))
}
