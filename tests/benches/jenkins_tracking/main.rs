//! What following builds on Jenkins costs: requests and bytes of a look at all builds that run, the time it takes, and how
//! long a launch takes. The server is the double, over loopback, in this process: times are of both sides.
//!
//! A cycle is one look at each build, in calls of as many builds as the scheduler hands over at once: 4,096 unless set
//! otherwise, in the order in which they were launched, which is round the jobs. `_in_256` is the same in calls of 256, as
//! with `builds_at_once(256)`.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

mod bare;
mod farm;
mod latency;

use bare::Bare;
use capomastro_core::time::{Clock, SystemClock};
use capomastro_tests::figure;
use farm::Farm;
use std::time::Duration;

/// How many builds the scheduler hands over in one call unless set otherwise.
const AT_ONCE: usize = 4_096;
/// A small call.
const FEW: usize = 256;
/// How many cycles a median is of.
const CYCLES: usize = 7;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        for (builds, name) in [(10, "10"), (1_000, "1k"), (10_000, "10k")] {
            let mut farm = Farm::of(builds).await;
            first_look(&mut farm, name).await;
            cycles(&mut farm, AT_ONCE, name).await;
            if builds > FEW {
                cycles(&mut farm, FEW, &format!("{name}_in_256")).await;
            }
        }
        latency::measure().await;
    });
}

/// The first cycle, in which each build's record is to be saved once, and the numbers of builds become known. The limit is one
/// request for the queue, one for each job, and one for each record.
async fn first_look(farm: &mut Farm, name: &str) {
    let began = SystemClock.monotonic().0;
    let seen = farm.cycle(AT_ONCE).await;
    let took = SystemClock.monotonic().0 - began;
    let records = farm.asks.len();
    figure(
        &format!("first_look_requests_{name}"),
        wide(seen.requests),
        count(1 + farm.jobs() + records),
        "requests",
    );
    // What a second cycle makes up for counts too.
    farm.cycle(AT_ONCE).await;
    figure(&format!("records_saved_{name}"), count(farm.saved()), count(records), "records");
    let bare = Bare::new(&farm.jenkins);
    let began = SystemClock.monotonic().0;
    bare.look(farm.jobs(), farm.per_job()).await;
    // Which saves what was left out, in the same words.
    bare.save(&farm.asks).await;
    let limit = SystemClock.monotonic().0 - began;
    figure(&format!("first_look_ms_{name}"), millis(took), millis(limit), "ms");
}

/// Cycles in which nothing happens. The limit is one request for the queue and one for each job: nothing less tells of
/// builds that waited and of those that run, without reading all jobs of the server. Bytes and time are those of the same
/// questions, asked by a plain client that reads nothing of the answers.
async fn cycles(farm: &mut Farm, at_once: usize, name: &str) {
    let bare = Bare::new(&farm.jenkins);
    let (mut ours, mut limits) = (Vec::new(), Vec::new());
    let mut last = None;
    // The first round opens connections.
    for round in 0..=CYCLES {
        let began = SystemClock.monotonic().0;
        let seen = farm.cycle(at_once).await;
        let looked = SystemClock.monotonic().0;
        farm.jenkins.forget_traffic();
        bare.look(farm.jobs(), farm.per_job()).await;
        let ended = SystemClock.monotonic().0;
        if round > 0 {
            ours.push(looked - began);
            limits.push(ended - looked);
        }
        last = Some((seen, farm.jenkins.traffic()));
    }
    let (seen, of_bare) = last.unwrap();
    assert_eq!(seen.posts, 0, "a steady cycle changes nothing");
    figure(&format!("requests_per_cycle_{name}"), wide(seen.requests), count(1 + farm.jobs()), "requests");
    figure(&format!("bytes_per_cycle_{name}"), wide(seen.bytes), wide(of_bare.bytes_sent), "bytes");
    figure(&format!("cycle_ms_{name}"), millis(middle(&mut ours)), millis(middle(&mut limits)), "ms");
}

/// The one in the middle.
fn middle(took: &mut [Duration]) -> Duration {
    percentile(took, 50)
}

/// So many of a hundred are no longer than this.
fn percentile(took: &mut [Duration], of_hundred: usize) -> Duration {
    took.sort_unstable();
    took[(took.len() * of_hundred / 100).min(took.len() - 1)]
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn wide(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

fn count(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}
