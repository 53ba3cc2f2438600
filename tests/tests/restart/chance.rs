//! Chances from a seed.

use crate::world::World;
use capomastro_core::time::Random as _;
use capomastro_testkit::SeededRandom;
use std::{fmt::Display, str::FromStr};

/// A number from the environment.
pub(crate) fn option<T: FromStr + Display>(name: &str, otherwise: T) -> T {
    let value = std::env::var(name)
        .map_or(otherwise, |s| s.parse().unwrap_or_else(|_| panic!("{name}={s} is not a number")));
    println!("{name}={value}");
    value
}

/// Chances from a seed.
pub(crate) struct Chance(SeededRandom);

impl Chance {
    pub(crate) fn of(lane: u32) -> Self {
        Self(SeededRandom::new(option("CAPOMASTRO_TEST_SEED", 20_260_101) + u64::from(lane)))
    }

    pub(crate) fn below(&self, n: u64) -> u64 {
        u64::try_from(self.0.bits() % u128::from(n)).unwrap()
    }

    pub(crate) fn below_len(&self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).unwrap()
    }
}

/// Something new in one of the repositories, sometimes with a push.
pub(crate) async fn something_new(world: &World, chance: &Chance) {
    let name = &world.names()[chance.below_len(world.names().len())];
    world.commit(name);
    if chance.below(2) == 0 {
        world.push(name).await;
    }
}
