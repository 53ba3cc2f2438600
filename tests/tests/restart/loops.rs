//! Schedulers that are killed at random moments, many times.

use crate::{
    process::Process,
    walked::LEASES,
    world::{Kind, World},
};
use capomastro_core::time::{Clock as _, Random as _, SystemClock};
use capomastro_testkit::SeededRandom;
use futures_util::future::join_all;
use std::{fmt::Display, str::FromStr, time::Duration};

/// Worlds at the same time.
const LANES: u32 = 4;

/// The longest life of a scheduler, in ms.
const LONGEST_LIFE: u64 = 500;

fn option<T: FromStr + Display>(name: &str, otherwise: T) -> T {
    let value = std::env::var(name)
        .map_or(otherwise, |s| s.parse().unwrap_or_else(|_| panic!("{name}={s} is not a number")));
    println!("{name}={value}");
    value
}

/// How often schedulers are killed at random; a quarter of it where there are two at a time.
fn kills() -> u32 {
    option("CAPOMASTRO_TEST_KILLS", 160)
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

    fn below_len(&self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).unwrap()
    }

    pub(crate) fn moment(&self) -> Duration {
        Duration::from_millis(self.below(LONGEST_LIFE))
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

/// What is left is ended by a scheduler that is not killed.
async fn end_well(world: World) {
    world.advance(LEASES);
    let last = Process::start(&world, "last");
    world.until_settled("what the killed ones left").await;
    last.stop().await;
    world.check().await;
    world.close().await;
}

#[tokio::test]
async fn one_scheduler_after_the_other_is_killed_many_times_at_random() {
    let each = kills().div_ceil(LANES);
    let lane = async |lane: u32| {
        let chance = Chance::of(lane);
        let world = World::of(Kind { is_hurried: true, ..Kind::default() }, &["a", "b", "c"]).await;
        for _ in 0..each {
            let scheduler = Process::start(&world, "killed");
            SystemClock.sleep(chance.moment() / 2).await;
            something_new(&world, &chance).await;
            SystemClock.sleep(chance.moment() / 2).await;
            scheduler.kill();
            world.advance(LEASES);
        }
        let builds = world.starts().len();
        end_well(world).await;
        builds
    };
    let builds: usize = join_all((0..LANES).map(lane)).await.iter().sum();
    println!("{} schedulers killed, {builds} builds under fire", each * LANES);
    assert!(builds > usize::try_from(each).unwrap(), "{builds} builds under fire");
}

#[tokio::test]
async fn two_schedulers_on_one_file_while_either_is_killed_at_random() {
    let each = (kills() / 4).div_ceil(2);
    let lane = async |lane: u32| {
        let chance = Chance::of(100 + lane);
        let world = World::of(Kind { is_hurried: true, ..Kind::default() }, &["a", "b", "c", "d"]).await;
        let mut both = [Process::start(&world, "left"), Process::start(&world, "right")];
        for _ in 0..each {
            something_new(&world, &chance).await;
            SystemClock.sleep(chance.moment()).await;
            let either = chance.below_len(2);
            let next = Process::start(&world, ["left", "right"][either]);
            std::mem::replace(&mut both[either], next).kill();
            // Where it is set beyond all leases, the living one loses what it holds, as one that was frozen.
            world.advance(if chance.below(2) == 0 { LEASES } else { 2 });
        }
        let builds = world.starts().len();
        for scheduler in both {
            scheduler.kill();
        }
        end_well(world).await;
        builds
    };
    let builds: usize = join_all((0..2).map(lane)).await.iter().sum();
    println!("{} schedulers killed beside another, {builds} builds under fire", each * 2);
    assert!(builds > usize::try_from(each).unwrap(), "{builds} builds under fire");
}
