//! Randomness that can be replayed.

use capomastro_core::time::Random;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Randomness from a seed: the same seed gives the same bits in the same order, on every machine and in every version.
///
/// Clones share the sequence. The generator is `SplitMix64` (<https://prng.di.unimi.it/splitmix64.c>): good enough for
/// ids in tests, and no secret.
///
/// ```
/// use capomastro_core::time::Random;
/// use capomastro_testkit::fakes::SeededRandom;
///
/// let (a, b) = (SeededRandom::new(7), SeededRandom::new(7));
/// assert_eq!(a.bits(), b.bits());
/// assert_ne!(a.bits(), SeededRandom::new(8).bits());
/// ```
#[derive(Clone, Debug)]
pub struct SeededRandom {
    state: Arc<AtomicU64>,
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl SeededRandom {
    /// The sequence of this seed, from its beginning.
    pub fn new(seed: u64) -> Self {
        Self { state: Arc::new(AtomicU64::new(seed)) }
    }
}

impl Default for SeededRandom {
    /// The sequence of seed 0.
    fn default() -> Self {
        Self::new(0)
    }
}

impl Random for SeededRandom {
    fn bits(&self) -> u128 {
        let before = self.state.fetch_add(STEP.wrapping_mul(2), Ordering::Relaxed);
        let high = mix(before.wrapping_add(STEP));
        let low = mix(before.wrapping_add(STEP.wrapping_mul(2)));
        u128::from(high) << 64 | u128::from(low)
    }
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_that_of_the_reference_program() {
        // The first four outputs of splitmix64.c for the seed 1234567.
        let random = SeededRandom::new(1_234_567);
        let first = u128::from(6_457_827_717_110_365_317_u64) << 64 | 3_203_168_211_198_807_973;
        let second = u128::from(9_817_491_932_198_370_423_u64) << 64 | 4_593_380_528_125_082_431;
        assert_eq!([random.bits(), random.bits()], [first, second]);
    }

    #[test]
    fn clones_share_the_sequence() {
        let (whole, a) = (SeededRandom::new(1), SeededRandom::new(1));
        let b = a.clone();
        assert_eq!([whole.bits(), whole.bits()], [a.bits(), b.bits()]);
    }
}
