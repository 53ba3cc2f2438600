//! What was said before, within bounds of number and time.

use capomastro_core::time::Monotonic;
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// The digests of the last messages.
#[derive(Debug)]
pub(super) struct Seen {
    most: usize,
    keep: Duration,
    at: BTreeMap<[u8; 32], Monotonic>,
    order: VecDeque<[u8; 32]>,
}

impl Seen {
    pub(super) const fn new(most: usize, keep: Duration) -> Self {
        Self { most, keep, at: BTreeMap::new(), order: VecDeque::new() }
    }

    /// Whether the message is known.
    pub(super) fn has(&self, digest: &[u8; 32], now: Monotonic) -> bool {
        self.at.get(digest).is_some_and(|at| now < at.plus(self.keep))
    }

    /// Remembers a message, and forgets the oldest ones where there are too many.
    pub(super) fn remember(&mut self, digest: [u8; 32], now: Monotonic) {
        if self.at.insert(digest, now).is_none() {
            self.order.push_back(digest);
        }
        while self.order.len() > self.most {
            if let Some(oldest) = self.order.pop_front() {
                self.at.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_and_so_are_all_after_a_while() {
        let at = |secs| Monotonic(Duration::from_secs(secs));
        let mut seen = Seen::new(3, Duration::from_secs(60));
        for n in 1..=5 {
            seen.remember([n; 32], at(u64::from(n)));
            seen.remember([n; 32], at(u64::from(n)));
        }
        let known: Vec<u8> = (1..=5).filter(|n| seen.has(&[*n; 32], at(6))).collect();
        assert_eq!(known, [3, 4, 5]);
        assert_eq!((seen.at.len(), seen.order.len()), (3, 3));
        assert!(!seen.has(&[3; 32], at(63)));
        assert!(seen.has(&[4; 32], at(63)));
    }
}
