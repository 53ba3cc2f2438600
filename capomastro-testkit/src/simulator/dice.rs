//! Chance from a seed, the same on every machine.

use capomastro_core::time::Random;
use std::time::Duration;

use crate::fakes::SeededRandom;

/// A sequence of throws.
#[derive(Debug)]
pub(super) struct Dice {
    bits: SeededRandom,
    half: Option<u64>,
}

impl Dice {
    /// The sequence of a seed for one purpose, so that what is drawn for one does not move what is drawn for another.
    pub(super) fn new(seed: u64, purpose: u64) -> Self {
        let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ purpose.wrapping_mul(0xd6e8_feb8_6659_fd93);
        Self { bits: SeededRandom::new(mixed), half: None }
    }

    pub(super) fn next(&mut self) -> u64 {
        if let Some(half) = self.half.take() {
            return half;
        }
        let bits = self.bits.bits();
        self.half = u64::try_from(bits & u128::from(u64::MAX)).ok();
        u64::try_from(bits >> 64).unwrap_or_default()
    }

    /// A number below `n`, which is above zero.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// A number from `from` to `to`, both included.
    pub(super) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from) + 1)
    }

    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or_default()
    }

    /// True this often of a thousand times.
    pub(super) fn chance(&mut self, of_thousand: u64) -> bool {
        self.below(1_000) < of_thousand
    }

    pub(super) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.between(from, to))
    }

    pub(super) fn seconds(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_secs(self.between(from, to))
    }
}
