//! Time that moves when a test says so.

use async_trait::async_trait;
use capomastro_core::time::{Clock, Monotonic, Timestamp};
use chrono::{DateTime, SubsecRound, TimeDelta};
use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::world::World;

/// A clock that stands still until a test moves it. Clones share one time.
///
/// [`advance`](Self::advance) moves both of its clocks and wakes, in the order of their deadlines, everyone whose sleep
/// is over. Tasks that are woken run after `advance` has returned, so they all see the time to which it moved; a test in
/// which each has to see its own moment goes from one to the next with
/// [`advance_to_next_sleeper`](Self::advance_to_next_sleeper).
///
/// ```
/// use capomastro_core::time::Clock;
/// use capomastro_testkit::fakes::ManualClock;
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let (wall, monotonic) = (clock.now(), clock.monotonic());
/// clock.advance(Duration::from_secs(60));
/// clock.skew(chrono::TimeDelta::hours(-1)); // somebody sets the machine's clock back
/// assert_eq!(clock.now() - wall, chrono::TimeDelta::minutes(-59));
/// assert_eq!(clock.monotonic(), monotonic.plus(Duration::from_secs(60)));
/// ```
#[derive(Clone)]
pub struct ManualClock(Arc<World<Times>>);

struct Times {
    /// What the wall clock shows when `monotonic` is zero.
    wall_at_origin: Timestamp,
    monotonic: Duration,
    next_sleeper: u64,
    sleepers: BTreeMap<SleeperId, Waker>,
}

/// Orders sleepers by deadline, then by who came first.
type SleeperId = (Duration, u64);

/// Where monotonic time begins, so that a test can look back from it.
const ORIGIN: Duration = Duration::from_secs(1_000_000);

impl ManualClock {
    /// A clock at noon of 1 March 2026, UTC.
    pub fn new() -> Self {
        Self::starting_at(DateTime::from_timestamp(1_772_366_400, 0).expect("a time that chrono can express"))
    }

    /// A clock whose wall clock shows `wall`.
    pub fn starting_at(wall: Timestamp) -> Self {
        Self(Arc::new(World::new(Times {
            wall_at_origin: wall - ORIGIN,
            monotonic: ORIGIN,
            next_sleeper: 0,
            sleepers: BTreeMap::new(),
        })))
    }

    /// Moves both clocks forward and wakes whoever has slept long enough.
    pub fn advance(&self, by: Duration) {
        let woken: Vec<Waker> = self.0.change(|times| {
            times.monotonic = times.monotonic.saturating_add(by);
            let later = times.sleepers.split_off(&(times.monotonic, u64::MAX));
            std::mem::replace(&mut times.sleepers, later).into_values().collect()
        });
        for waker in woken {
            waker.wake();
        }
    }

    /// Moves both clocks to the nearest deadline of a sleeper, wakes it, and returns by how much they moved. `None`, and
    /// nothing moves, where nobody sleeps.
    pub fn advance_to_next_sleeper(&self) -> Option<Duration> {
        let by = self.next_sleeper()?;
        self.advance(by);
        Some(by)
    }

    /// How long the nearest sleeper has to sleep yet; `None` where nobody sleeps.
    pub fn next_sleeper(&self) -> Option<Duration> {
        self.0.look(|times| {
            times.sleepers.keys().next().map(|(until, _)| until.saturating_sub(times.monotonic))
        })
    }

    /// How many sleep. A sleep begins when its future is polled for the first time.
    pub fn sleepers(&self) -> usize {
        self.0.look(|times| times.sleepers.len())
    }

    /// Waits until at least `count` sleep, so that a test of concurrent tasks knows that time may move on.
    pub async fn until_sleeping(&self, count: usize) {
        self.0.until(|times| (times.sleepers.len() >= count).then_some(())).await;
    }

    /// Sets the wall clock, to a later or an earlier time. Monotonic time and sleepers do not notice.
    pub fn set(&self, wall: Timestamp) {
        self.0.change(|times| times.wall_at_origin = wall - times.monotonic);
    }

    /// Moves the wall clock alone, both ways. Monotonic time and sleepers do not notice.
    pub fn skew(&self, by: TimeDelta) {
        self.0.change(|times| times.wall_at_origin += by);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualClock").field("now", &self.now()).field("sleepers", &self.sleepers()).finish()
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.0.look(|times| (times.wall_at_origin + times.monotonic).trunc_subsecs(6))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(self.0.look(|times| times.monotonic))
    }

    async fn sleep(&self, duration: Duration) {
        let until = self.0.look(|times| times.monotonic.saturating_add(duration));
        Sleep { clock: self, until, id: None }.await;
    }
}

struct Sleep<'a> {
    clock: &'a ManualClock,
    until: Duration,
    id: Option<SleeperId>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let (until, id) = (self.until, self.id);
        let slept = self.clock.0.change(|times| {
            if times.monotonic >= until {
                return None;
            }
            let id = id.unwrap_or((until, times.next_sleeper));
            times.next_sleeper += u64::from(!times.sleepers.contains_key(&id));
            times.sleepers.insert(id, context.waker().clone());
            Some(id)
        });
        if let Some(id) = slept {
            self.id = Some(id);
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.clock.0.change(|times| times.sleepers.remove(&id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, future::join_all, poll};
    use std::sync::Mutex;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_sleeper_wakes_at_its_time_and_not_before() {
        let clock = ManualClock::new();
        let mut sleep = clock.sleep(5 * SECOND);
        assert!(poll!(&mut sleep).is_pending());
        clock.advance(5 * SECOND - Duration::from_nanos(1));
        assert!(poll!(&mut sleep).is_pending());
        clock.advance(Duration::from_nanos(1));
        assert!(poll!(&mut sleep).is_ready());
        assert_eq!(clock.sleepers(), 0);
        assert!(clock.sleep(Duration::ZERO).now_or_never().is_some());
    }

    #[tokio::test]
    async fn sleepers_wake_in_the_order_of_their_deadlines() {
        let (clock, order) = (ManualClock::new(), Mutex::new(Vec::new()));
        let mut all = join_all([3, 1, 2, 1].map(|seconds| {
            let (clock, order) = (clock.clone(), &order);
            async move {
                clock.sleep(seconds * SECOND).await;
                order.lock().unwrap().push((seconds, clock.monotonic()));
            }
        }));
        let start = clock.monotonic();
        assert!(poll!(&mut all).is_pending());
        for _ in 1..=3 {
            assert_eq!(clock.advance_to_next_sleeper(), Some(SECOND));
            drop(poll!(&mut all));
        }
        assert_eq!(clock.advance_to_next_sleeper(), None);
        let woken = order.lock().unwrap().clone();
        let expected = [1, 1, 2, 3].map(|s| (s, start.plus(s * SECOND)));
        assert_eq!(woken, expected);
    }

    #[tokio::test]
    async fn a_dropped_sleep_is_no_sleeper() {
        let clock = ManualClock::new();
        let mut sleep = clock.sleep(SECOND);
        assert!(poll!(&mut sleep).is_pending());
        assert_eq!((clock.sleepers(), clock.next_sleeper()), (1, Some(SECOND)));
        drop(sleep);
        assert_eq!((clock.sleepers(), clock.advance_to_next_sleeper()), (0, None));
    }

    #[tokio::test]
    async fn the_wall_clock_jumps_both_ways_and_nobody_sleeps_longer_or_shorter() {
        let clock = ManualClock::new();
        let (wall, monotonic) = (clock.now(), clock.monotonic());
        let mut sleep = clock.sleep(SECOND);
        assert!(poll!(&mut sleep).is_pending());
        clock.skew(TimeDelta::days(365));
        assert_eq!(clock.now() - wall, TimeDelta::days(365));
        clock.set(wall - TimeDelta::days(1));
        assert_eq!(clock.now(), wall - TimeDelta::days(1));
        assert_eq!(clock.monotonic(), monotonic);
        assert!(poll!(&mut sleep).is_pending());
        clock.advance(SECOND);
        assert!(poll!(&mut sleep).is_ready());
        assert_eq!(clock.now(), wall - TimeDelta::days(1) + SECOND);
    }

    #[tokio::test]
    async fn a_test_can_wait_for_sleepers() {
        let clock = ManualClock::new();
        let mut waiting = Box::pin(clock.until_sleeping(2));
        let (mut a, mut b) = (clock.sleep(SECOND), clock.sleep(SECOND));
        assert!(poll!(&mut a).is_pending());
        assert!(poll!(&mut waiting).is_pending());
        assert!(poll!(&mut b).is_pending());
        assert!(poll!(&mut waiting).is_ready());
    }

    #[test]
    fn time_is_at_microsecond_precision_and_does_not_lose_what_is_below() {
        let clock = ManualClock::new();
        let wall = clock.now();
        for _ in 0..4 {
            clock.advance(Duration::from_nanos(250));
        }
        assert_eq!(clock.now() - wall, TimeDelta::microseconds(1));
    }
}
