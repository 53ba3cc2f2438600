//! How one commit relates to another, by looking at as little history as possible. No I/O of its own.

use capomastro_core::model::Relation;
use std::{
    collections::{BinaryHeap, HashMap, hash_map::Entry},
    hash::Hash,
};

/// A commit as far as the question needs it.
#[derive(Clone, Debug)]
pub(super) struct Commit<I> {
    /// Commit time, in seconds.
    pub(super) time: i64,
    pub(super) parents: Vec<I>,
}

/// Reached from the new commit.
const NEW: u8 = 1;
/// Reached from the old commit.
const OLD: u8 = 2;
/// Reached through a commit that both reach.
const SHARED: u8 = 4;

struct Seen<I> {
    commit: Commit<I>,
    paint: u8,
    queued: bool,
}

/// How `new` relates to `old`, as git finds merge bases: both histories are painted, newest commits first, until only
/// shared ones are left. `None` if they are the same, if `limit` commits did not suffice, or if one cannot be read.
///
/// Clocks that went wrong cannot make the answer wrong, only the count unknown: a commit between the two is never
/// shared, so the way from one to the other is always walked to its end.
pub(super) fn relation<I: Copy + Ord + Hash>(
    new: I,
    old: I,
    limit: usize,
    mut read: impl FnMut(I) -> Option<Commit<I>>,
) -> Option<Relation> {
    if new == old {
        return None;
    }
    let mut seen: HashMap<I, Seen<I>> = HashMap::new();
    let mut queue: BinaryHeap<(i64, I)> = BinaryHeap::new();
    // How many in the queue are not known to be shared.
    let mut open = 0_usize;
    // The oldest commit that only the new one reaches: shared ones that are older cannot change the count.
    let mut oldest_new = i64::MAX;
    let mut clocks_agree = true;

    for (id, paint) in [(new, NEW), (old, OLD)] {
        let commit = read(id)?;
        queue.push((commit.time, id));
        seen.insert(id, Seen { commit, paint, queued: true });
        open += 1;
    }
    let mut steps = 0_usize;
    while let Some((time, id)) = queue.pop() {
        let this = seen.get_mut(&id)?;
        this.queued = false;
        if this.paint & SHARED == 0 {
            open -= 1;
        } else if open == 0 && time < oldest_new {
            break;
        }
        steps += 1;
        if steps > limit {
            return None;
        }
        let handed_on = match this.paint & (NEW | OLD) {
            NEW => {
                oldest_new = oldest_new.min(time);
                NEW
            }
            OLD => OLD,
            _ => NEW | OLD | SHARED,
        };
        for parent in this.commit.parents.clone() {
            let parent_seen = match seen.entry(parent) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => place.insert(Seen { commit: read(parent)?, paint: 0, queued: false }),
            };
            clocks_agree &= parent_seen.commit.time <= time;
            let paint = parent_seen.paint | handed_on;
            if paint == parent_seen.paint {
                continue;
            }
            if parent_seen.queued && parent_seen.paint & SHARED == 0 {
                open -= 1;
            }
            parent_seen.paint = paint;
            if paint & SHARED == 0 {
                open += 1;
            }
            if !parent_seen.queued {
                parent_seen.queued = true;
                queue.push((parent_seen.commit.time, parent));
            }
        }
    }
    let reached = |id: &I, by: u8| seen.get(id).is_some_and(|s| s.paint & by != 0);
    Some(if reached(&old, NEW) {
        let between = seen.values().filter(|s| s.paint & (NEW | OLD) == NEW).count();
        Relation::Forward { by: u64::try_from(between).ok().filter(|_| clocks_agree) }
    } else if reached(&new, OLD) {
        Relation::Rewound
    } else {
        Relation::Diverged
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type History = Vec<Commit<usize>>;

    fn ancestors(history: &History, of: usize) -> Vec<usize> {
        let mut all = vec![of];
        let mut next = 0;
        while let Some(id) = all.get(next).copied() {
            next += 1;
            for p in &history[id].parents {
                if !all.contains(p) {
                    all.push(*p);
                }
            }
        }
        all
    }

    fn plainly(history: &History, new: usize, old: usize) -> Relation {
        let (of_new, of_old) = (ancestors(history, new), ancestors(history, old));
        if of_new.contains(&old) {
            let by = of_new.iter().filter(|id| !of_old.contains(id)).count();
            Relation::Forward { by: Some(by.try_into().unwrap()) }
        } else if of_old.contains(&new) {
            Relation::Rewound
        } else {
            Relation::Diverged
        }
    }

    /// Every history of five commits, with clocks that agree, that are too coarse, that run backwards, and that jump.
    #[test]
    fn every_small_history_is_understood() {
        let clocks: [[i64; 5]; 4] = [[1, 2, 3, 4, 5], [7, 7, 7, 7, 7], [5, 4, 3, 2, 1], [3, 9, 1, 9, 2]];
        for shape in 0..1_u32 << 10 {
            for clock in clocks {
                let mut bits = shape;
                let history: History = (0..5_usize)
                    .map(|id| {
                        let parents = (0..id).filter(|_| {
                            let has = bits & 1 == 1;
                            bits >>= 1;
                            has
                        });
                        Commit { time: clock[id], parents: parents.collect() }
                    })
                    .collect();
                for (new, old) in (0..5).flat_map(|n| (0..5).map(move |o| (n, o))).filter(|(n, o)| n != o) {
                    let got = relation(new, old, 1_000, |id| history.get(id).cloned()).unwrap();
                    let want = plainly(&history, new, old);
                    let case = format!("{history:?} {new} {old}");
                    match (got, want) {
                        (Relation::Forward { by: None }, Relation::Forward { .. }) => {
                            assert!(clock[0] > clock[4] || clock[1] > clock[2], "{case}");
                        }
                        _ => assert_eq!(got, want, "{case}"),
                    }
                }
            }
        }
    }

    #[test]
    fn little_is_read_where_little_lies_between() {
        let chain = |id: usize| {
            Some(Commit {
                time: i64::try_from(id).unwrap(),
                parents: id.checked_sub(1).into_iter().collect(),
            })
        };
        let mut reads = 0;
        let got = relation(1_000_000, 999_997, 100, |id| {
            reads += 1;
            chain(id)
        });
        assert_eq!(got, Some(Relation::Forward { by: Some(3) }));
        assert!(reads < 10, "{reads}");
        assert_eq!(relation(999_997, 1_000_000, 100, chain), Some(Relation::Rewound));
    }

    #[test]
    fn what_would_cost_too_much_or_cannot_be_read_is_not_known() {
        let chain = |id: usize| Some(Commit { time: 0, parents: vec![id + 1] });
        assert_eq!(relation(0, usize::MAX / 2, 100, chain), None);
        assert_eq!(relation(0, 1, 100, |_: usize| None), None);
        assert_eq!(relation(1, 1, 100, |_: usize| None), None);
    }
}
