//! Which checkouts have to go. Rules only.

use capomastro_core::time::Timestamp;
use std::time::Duration;

/// How much may be kept.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// How many checkouts.
    pub(super) count: usize,
    /// How many bytes, all together.
    pub(super) bytes: u64,
    /// How long one that nobody uses.
    pub(super) unused: Duration,
}

/// A checkout that nobody uses now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Idle<T> {
    pub(super) what: T,
    pub(super) bytes: u64,
    pub(super) last_used: Timestamp,
}

/// What goes, and whether there is room then for one more of `coming` bytes (if one is coming).
///
/// `held` is how many are in use, and how many bytes they have: they stay.
pub(super) fn surplus<T>(
    mut idle: Vec<Idle<T>>,
    held: (usize, u64),
    coming: Option<u64>,
    bounds: Bounds,
    now: Timestamp,
) -> (Vec<T>, bool) {
    let oldest = before(now, bounds.unused);
    idle.sort_by_key(|i| i.last_used);
    let mut count = held.0 + idle.len() + usize::from(coming.is_some());
    let mut bytes = held.1 + idle.iter().map(|i| i.bytes).sum::<u64>() + coming.unwrap_or_default();
    let mut gone = Vec::new();
    for Idle { what, bytes: own, last_used } in idle {
        let is_over = count > bounds.count || bytes > bounds.bytes;
        if is_over || oldest.is_some_and(|oldest| last_used < oldest) {
            count -= 1;
            bytes -= own;
            gone.push(what);
        }
    }
    (gone, count <= bounds.count && bytes <= bounds.bytes)
}

/// That long before `now`; none if that is before all time.
pub(super) fn before(now: Timestamp, by: Duration) -> Option<Timestamp> {
    now.checked_sub_signed(chrono::TimeDelta::from_std(by).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { count: 3, bytes: 100, unused: Duration::from_secs(1_000) };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(seconds, 0).unwrap()
    }

    fn idle(all: &[(&'static str, u64, i64)]) -> Vec<Idle<&'static str>> {
        all.iter().map(|&(what, bytes, used)| Idle { what, bytes, last_used: at(used) }).collect()
    }

    #[test]
    fn the_least_recently_used_go_until_there_is_room() {
        let now = at(10_000);
        // (idle, held, coming, what goes, whether there is room)
        let cases = [
            (idle(&[]), (0, 0), None, vec![], true),
            (idle(&[("a", 40, 9_990), ("b", 40, 9_980)]), (0, 0), Some(20), vec![], true),
            (idle(&[("a", 40, 9_990), ("b", 40, 9_980)]), (0, 0), Some(21), vec!["b"], true),
            (idle(&[("a", 1, 9_990), ("b", 1, 9_980), ("c", 1, 9_970)]), (0, 0), Some(1), vec!["c"], true),
            (idle(&[("a", 1, 9_990), ("b", 1, 9_980), ("c", 1, 9_970)]), (0, 0), None, vec![], true),
            (idle(&[("a", 1, 9_990), ("b", 1, 9_980)]), (2, 50), Some(1), vec!["b", "a"], true),
            (idle(&[("a", 1, 9_990)]), (3, 50), Some(1), vec!["a"], false),
            (idle(&[("a", 1, 9_990)]), (1, 90), Some(11), vec!["a"], false),
            (idle(&[]), (0, 0), Some(101), vec![], false),
            (idle(&[]), (0, 0), Some(100), vec![], true),
            // Nobody has used it for long.
            (idle(&[("a", 1, 8_999), ("b", 1, 9_000)]), (0, 0), None, vec!["a"], true),
            // A clock that was set back.
            (idle(&[("a", 1, 20_000)]), (0, 0), None, vec![], true),
        ];
        for (idle, held, coming, gone, has_room) in cases {
            let said = format!("{idle:?} {held:?} {coming:?}");
            assert_eq!(surplus(idle, held, coming, BOUNDS, now), (gone, has_room), "{said}");
        }
        let for_ever = Bounds { unused: Duration::MAX, ..BOUNDS };
        assert_eq!(surplus(idle(&[("a", 1, 0)]), (0, 0), None, for_ever, now), (vec![], true));
    }
}
