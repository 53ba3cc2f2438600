//! What following builds on Jenkins costs: requests, bytes and time of one look at all builds that run on one server, whatever
//! their number; and how long a launch takes.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

mod farm;

use capomastro_core::{
    launch::{BuildLauncher, Seen},
    time::{Clock, SystemClock},
};
use capomastro_tests::figure;
use farm::{Farm, JOBS};
use std::time::Duration;

/// How many builds run at once.
const BUILDS: [(usize, &str); 3] = [(10, "10"), (1_000, "1k"), (10_000, "10k")];
/// How many looks a median is of.
const LOOKS: usize = 5;
/// How many launches are timed.
const LAUNCHES: usize = 300;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    for (count, name) in BUILDS {
        cycle(count, name).await;
    }
    launches().await;
}

/// One look at all of them.
async fn cycle(count: usize, name: &str) {
    let farm = Farm::new(count).await;
    let mut builds = farm.running(count).await;
    // The first one learns the numbers; what follows is what comes again and again.
    for _ in 0..2 {
        let reports = farm.launcher.observe(&builds).await;
        for (build, report) in builds.iter_mut().zip(reports) {
            let report = report.unwrap();
            assert_eq!(report.seen, Seen::Running);
            build.1 = report.external.unwrap_or(build.1.clone());
        }
    }
    farm.jenkins.forget_traffic();
    let mut took = Vec::new();
    for _ in 0..LOOKS {
        let began = SystemClock.monotonic().0;
        let reports = farm.launcher.observe(&builds).await;
        took.push(SystemClock.monotonic().0 - began);
        assert!(reports.iter().all(|r| r.as_ref().unwrap().seen == Seen::Running));
    }
    let traffic = farm.jenkins.traffic();
    let each = |all: u64| precise(all) / precise(LOOKS as u64);
    // The queue and each job's builds by a client that does nothing with the answers, one after the other.
    farm.jenkins.forget_traffic();
    let bare = farm.bare_look().await;
    let bare_bytes = farm.jenkins.traffic().bytes_sent;
    // At the least one for the queue, and one for each job that has builds.
    let least = 1 + JOBS.min(count);
    figure(&format!("requests_per_cycle_{name}"), each(traffic.requests), precise(least as u64), "requests");
    figure(&format!("bytes_per_cycle_{name}"), each(traffic.bytes_sent), precise(bare_bytes), "bytes");
    let ours = middle(&mut took, 50);
    figure(&format!("cycle_{name}"), ours.as_secs_f64() * 1e3, bare.as_secs_f64() * 1e3, "ms");
}

/// A launch beside a bare POST of a form, one at a time.
async fn launches() {
    let farm = Farm::new(2 * LAUNCHES).await;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for n in 0..LAUNCHES {
        let request = farm.request(n);
        let began = SystemClock.monotonic().0;
        farm.launch(&request).await;
        ours.push(SystemClock.monotonic().0 - began);
        bare.push(farm.bare_post(n).await);
    }
    for percent in [50, 99] {
        let (ours, bare) = (middle(&mut ours, percent), middle(&mut bare, percent));
        figure(
            &format!("launch_latency_p{percent}"),
            ours.as_secs_f64() * 1e3,
            bare.as_secs_f64() * 1e3,
            "ms",
        );
    }
}

fn middle(took: &mut [Duration], percent: usize) -> Duration {
    took.sort_unstable();
    took[(took.len() * percent).div_ceil(100) - 1]
}

fn precise(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}
