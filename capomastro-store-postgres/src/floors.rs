//! From where on claims look for due work.
//!
//! Rows that were claimed leave dead entries behind at the early end of the index. As long as any transaction in the server is
//! older than they are (a backup, a report) nothing may clean them away, and a claim that began at the early end would read all
//! of them again each time. So it begins a little before the first row that the claim before found, and at the early end only
//! now and then.

use capomastro_core::{store::Lane, time::Monotonic};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How much earlier than the first row that was found another one is expected, in µs: a writer takes the time when it has its
/// locks, and then waits for the disk.
const SLACK: i64 = 2_000_000;

/// After how long a claim begins at the early end again. It bounds how late the rows are found that are due before all of that:
/// those of which a claim was undone, and those whose writer took long to commit, as an embedder's transaction may.
const TRUSTED: Duration = Duration::from_secs(30);

/// Where a claim begins in a lane.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Floor {
    /// The earliest due time that is looked at, in µs.
    pub(crate) from: i64,
    /// The time of the store when it was found. It is worth nothing at an earlier time: the clock was set back.
    pub(crate) seen_at: i64,
    trusted_until: Monotonic,
}

impl Floor {
    /// The early end.
    const START: Self = Self { from: i64::MIN, seen_at: i64::MIN, trusted_until: Monotonic(Duration::ZERO) };

    /// What is known after a claim that began at this one, and found its first row due then.
    fn next(self, first: Option<i64>, at: i64, now: Monotonic) -> Self {
        let trusted_until = if self == Self::START { now.plus(TRUSTED) } else { self.trusted_until };
        Self { from: first.unwrap_or(at).min(at).saturating_sub(SLACK), seen_at: at, trusted_until }
    }
}

/// The floors of all lanes, as this process knows them.
#[derive(Debug, Default)]
pub(crate) struct Floors(Mutex<BTreeMap<Lane, Floor>>);

impl Floors {
    /// Where a claim in this lane begins.
    pub(crate) fn of(&self, lane: &Lane, now: Monotonic) -> Floor {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(lane).filter(|floor| now < floor.trusted_until).copied().unwrap_or(Floor::START)
    }

    /// What a claim in this lane found: when the first of its rows had been due, and the time of the store.
    pub(crate) fn learn(&self, lane: &Lane, began: Floor, first: Option<i64>, at: i64, now: Monotonic) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(lane.clone(), began.next(first, at, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    #[test]
    fn a_claim_begins_a_little_before_what_was_found_and_now_and_then_at_the_start() {
        let (floors, lane) = (Floors::default(), Lane::House);
        assert_eq!(floors.of(&lane, at(5)), Floor::START);
        floors.learn(&lane, Floor::START, Some(900 * SECOND), 1_000 * SECOND, at(5));
        let known = floors.of(&lane, at(6));
        assert_eq!((known.from, known.seen_at), (898 * SECOND, 1_000 * SECOND));
        // Nothing was due any more.
        floors.learn(&lane, known, None, 1_010 * SECOND, at(15));
        assert_eq!(floors.of(&lane, at(34)).from, 1_008 * SECOND);
        // What was found from there on says nothing of what is before it.
        assert_eq!(floors.of(&lane, at(35)), Floor::START);
        assert_eq!(floors.of(&Lane::Probe("git".parse().unwrap()), at(6)), Floor::START);
    }

    #[test]
    fn a_row_due_in_the_future_moves_no_floor_past_the_present() {
        let next = Floor::START.next(Some(2_000 * SECOND), 1_000 * SECOND, at(1));
        assert_eq!(next.from, 998 * SECOND);
        assert_eq!(Floor::START.next(Some(i64::MIN + 1), SECOND, at(1)).from, i64::MIN);
    }
}
