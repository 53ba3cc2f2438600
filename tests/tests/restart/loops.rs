//! Schedulers that are killed at random moments, many times.

use crate::{
    chance::{Chance, option, something_new},
    process::Process,
    walked::LEASES,
    world::{Kind, World},
};
use capomastro_core::time::{Clock as _, SystemClock};
use futures_util::future::join_all;
use std::time::Duration;

/// Worlds at the same time.
const LANES: u32 = 4;

/// The longest life of a scheduler, in ms.
const LONGEST_LIFE: u64 = 500;

/// How often schedulers are killed at random; a quarter of it where there are two at a time.
fn kills() -> u32 {
    option("CAPOMASTRO_TEST_KILLS", 160)
}

fn moment(chance: &Chance) -> Duration {
    Duration::from_millis(chance.below(LONGEST_LIFE))
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
            SystemClock.sleep(moment(&chance) / 2).await;
            something_new(&world, &chance).await;
            SystemClock.sleep(moment(&chance) / 2).await;
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
            SystemClock.sleep(moment(&chance)).await;
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
