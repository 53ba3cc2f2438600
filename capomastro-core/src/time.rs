//! Time and randomness, injected everywhere.

use async_trait::async_trait;
use chrono::{DateTime, SubsecRound, Utc};
use std::{fmt::Debug, time::Duration};
use uuid::Uuid;

/// A point in time, UTC, kept at microsecond precision so that every store returns what it was given.
pub type Timestamp = DateTime<Utc>;

/// A point on a local clock that only runs forward: time since an arbitrary origin of that clock.
///
/// Comparable only with other readings of the same [`Clock`].
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic(pub Duration);

impl Monotonic {
    /// This point moved forward by `by`.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }

    /// How long after `earlier` this point is; zero if it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// This point moved back by `by`, not before the origin.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by))
    }
}

/// Where time comes from.
#[async_trait]
pub trait Clock: Debug + Send + Sync + 'static {
    /// The wall clock, at microsecond precision. May jump both ways.
    fn now(&self) -> Timestamp;
    /// A clock that never goes back and, where the platform can tell, goes on while the machine is suspended.
    fn monotonic(&self) -> Monotonic;
    /// Waits for `duration` of this clock's time. Cancel-safe.
    async fn sleep(&self, duration: Duration);
}

/// The machine's own clocks.
#[derive(Copy, Clone, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> Timestamp {
        Utc::now().trunc_subsecs(6)
    }

    /// `CLOCK_BOOTTIME` on Linux, where `std::time::Instant` stands still during suspend
    /// (<https://man7.org/linux/man-pages/man2/clock_gettime.2.html>).
    fn monotonic(&self) -> Monotonic {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let id = rustix::time::ClockId::Boottime;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let id = rustix::time::ClockId::Monotonic;
        let t = rustix::time::clock_gettime(id);
        Monotonic(Duration::new(
            u64::try_from(t.tv_sec).unwrap_or_default(),
            u32::try_from(t.tv_nsec).unwrap_or_default(),
        ))
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that waits")]
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Where randomness comes from.
pub trait Random: Debug + Send + Sync + 'static {
    /// 128 fresh random bits.
    fn bits(&self) -> u128;
}

/// The operating system's randomness.
#[derive(Copy, Clone, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    #[expect(clippy::disallowed_methods, reason = "the one place that draws randomness")]
    fn bits(&self) -> u128 {
        // Two v4 ids, so that the fixed version bits of one are covered by the other.
        Uuid::new_v4().as_u128() ^ Uuid::new_v4().as_u128().rotate_left(64)
    }
}

/// A version 7 UUID (time-ordered, RFC 9562) from an injected time and injected randomness.
pub(crate) fn uuid_v7(at: Timestamp, random: &dyn Random) -> Uuid {
    let bits = random.bits().to_be_bytes();
    let mut tail = [0_u8; 10];
    tail.copy_from_slice(&bits[..10]);
    let millis = u64::try_from(at.timestamp_millis()).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()
}

/// `at` moved forward by `by`; the latest possible time where that overflows.
pub fn later(at: Timestamp, by: Duration) -> Timestamp {
    chrono::TimeDelta::from_std(by)
        .ok()
        .and_then(|d| at.checked_add_signed(d))
        .unwrap_or(Timestamp::MAX_UTC)
        .trunc_subsecs(6)
}

/// How long from `from` until `to`; zero when `to` is not later.
pub fn until(from: Timestamp, to: Timestamp) -> Duration {
    to.signed_duration_since(from).to_std().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_is_at_microsecond_precision_and_never_goes_back() {
        let clock = SystemClock;
        assert_eq!(clock.now().timestamp_subsec_nanos() % 1_000, 0);
        let (a, b) = (clock.monotonic(), clock.monotonic());
        assert!(b >= a);
    }

    #[test]
    fn arithmetic_saturates() {
        let now = SystemClock.now();
        assert_eq!(until(now, later(now, Duration::from_secs(5))), Duration::from_secs(5));
        assert_eq!(until(later(now, Duration::from_secs(5)), now), Duration::ZERO);
        assert!(later(now, Duration::MAX) > now);
    }

    #[test]
    fn ids_are_ordered_by_time() {
        let now = SystemClock.now();
        let a = uuid_v7(now, &SystemRandom);
        let b = uuid_v7(later(now, Duration::from_secs(1)), &SystemRandom);
        assert!(a < b);
        assert_eq!(a.get_version_num(), 7);
    }
}
