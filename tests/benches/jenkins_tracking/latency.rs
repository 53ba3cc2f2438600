//! How long a launch takes, beside a bare POST that asks for the same: a launch looks at server and job first, and makes
//! three requests.

use crate::{bare::Bare, farm, millis, percentile};
use capomastro_core::time::{Clock, SystemClock};
use capomastro_tests::figure;
use std::time::Duration;

/// How many launches the percentiles are of.
const LAUNCHES: usize = 2_000;
/// After so many of either kind time goes on, so that the queue stays short.
const WAVE: usize = 50;

pub(crate) async fn measure() {
    let (clock, jenkins) = farm::server(3 * LAUNCHES).await;
    let (launcher, bare) = (farm::launcher(&jenkins), Bare::new(&jenkins));
    let (mut ours, mut limits) = (Vec::new(), Vec::new());
    for n in 0..LAUNCHES + WAVE {
        let began = SystemClock.monotonic().0;
        farm::launch(&launcher, 2 * n).await;
        let launched = SystemClock.monotonic().0;
        bare.launch(2 * n + 1).await;
        let ended = SystemClock.monotonic().0;
        // The first ones open connections.
        if n >= WAVE {
            ours.push(launched - began);
            limits.push(ended - launched);
        }
        if n % WAVE == 0 {
            clock.advance(Duration::from_secs(30));
        }
    }
    for (name, of_hundred) in [("launch_latency_p50", 50), ("launch_latency_p99", 99)] {
        figure(
            name,
            millis(percentile(&mut ours, of_hundred)),
            millis(percentile(&mut limits, of_hundred)),
            "ms",
        );
    }
}
