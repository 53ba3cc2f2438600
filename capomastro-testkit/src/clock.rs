//! A clock that stands still until it is told to go on.

use capomastro_core::{
    async_trait,
    time::{Clock, Monotonic, Timestamp, later},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// A clock that stands still until it is told to go on. A clone is the same clock.
#[derive(Clone, Debug)]
pub struct ManualClock {
    reading: Arc<watch::Sender<Reading>>,
}

#[derive(Copy, Clone, Debug)]
struct Reading {
    wall: Timestamp,
    monotonic: Monotonic,
}

impl ManualClock {
    /// A clock whose wall time is `wall` now, and whose monotonic time is zero.
    pub fn new(wall: Timestamp) -> Self {
        let reading = Reading { wall, monotonic: Monotonic(Duration::ZERO) };
        Self { reading: Arc::new(watch::Sender::new(reading)) }
    }

    /// Lets this much time pass, on both clocks.
    pub fn advance(&self, by: Duration) {
        self.reading.send_modify(|reading| {
            reading.wall = later(reading.wall, by);
            reading.monotonic = reading.monotonic.plus(by);
        });
    }

    /// Sets the wall clock, forward or back, as an administrator would; no monotonic time passes.
    pub fn set_wall(&self, wall: Timestamp) {
        self.reading.send_modify(|reading| reading.wall = wall);
    }
}

/// At noon, UTC, on the first day of 2026.
impl Default for ManualClock {
    fn default() -> Self {
        Self::new(Timestamp::from_timestamp_micros(1_767_268_800_000_000).expect("within the range of time"))
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.reading.borrow().wall
    }

    fn monotonic(&self) -> Monotonic {
        self.reading.borrow().monotonic
    }

    async fn sleep(&self, duration: Duration) {
        let deadline = self.monotonic().plus(duration);
        self.reading
            .subscribe()
            .wait_for(|reading| reading.monotonic >= deadline)
            .await
            .expect("the sender lives as long as this clock");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn sleepers_wake_when_their_time_has_passed_and_not_before() {
        let clock = ManualClock::default();
        let mut sleep = clock.sleep(Duration::from_secs(5));
        assert!((&mut sleep).now_or_never().is_none());
        clock.advance(Duration::from_secs(4));
        assert!((&mut sleep).now_or_never().is_none());
        clock.clone().advance(Duration::from_secs(1));
        assert!((&mut sleep).now_or_never().is_some());
    }

    #[test]
    fn a_wall_clock_that_is_set_wakes_nobody() {
        let clock = ManualClock::default();
        assert_eq!(clock.now().to_rfc3339(), "2026-01-01T12:00:00+00:00");
        let mut sleep = clock.sleep(Duration::from_secs(5));
        clock.set_wall(later(clock.now(), Duration::from_secs(3_600)));
        assert!((&mut sleep).now_or_never().is_none());
        assert_eq!(clock.monotonic(), Monotonic(Duration::ZERO));
    }
}
