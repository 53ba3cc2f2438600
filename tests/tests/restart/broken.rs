//! The whole chain over a disk that fails under the scheduler's SQLite.

use crate::{
    chance::{Chance, something_new},
    kept::database,
    process::Process,
    shim::{Action, DATABASE, EIO, ENOSPC, Fault, SYNC, Shim, TRUNCATE, WAL, WRITE, When},
    walked::LEASES,
    world::{Kind, World},
};
use capomastro_core::time::{Clock as _, SystemClock};
use std::time::Duration;

const STORE: u64 = DATABASE + WAL;

/// What the disk does.
const TROUBLES: [(u64, Action, u64); 6] = [
    (WRITE, Action::Fail, EIO),
    (WRITE, Action::Half, ENOSPC),
    (SYNC, Action::Fail, EIO),
    (SYNC, Action::DoAndFail, EIO),
    (WRITE + SYNC + TRUNCATE, Action::Fail, EIO),
    (WRITE, Action::DoAndFail, EIO),
];

async fn world(names: &[&str]) -> World {
    World::of(Kind { is_hurried: true, ..Kind::default() }, names).await
}

async fn start(world: &World, shim: &Shim) -> Process {
    shim.heal();
    let runs = world.lines("runs").len();
    let scheduler = Process::start_with(world, "over-a-bad-disk", |command| shim.preload(command));
    crate::world::eventually("a scheduler", async || world.lines("runs").len() > runs).await;
    scheduler
}

/// The fault comes at each call of a lifecycle, one after the other, for this scheduler alone; it goes on by itself.
async fn walk(ops: u64, action: Action, errno: u64) -> u64 {
    let world = world(&["a"]).await;
    let Some(shim) = Shim::compile(world.root(), &database(world.root())) else { return u64::MAX };
    let mut scheduler = start(&world, &shim).await;
    world.until_settled("the first build").await;
    let mut first = 1;
    loop {
        let when = When::At { first, times: 1 };
        shim.fault(&Fault { ops, files: STORE, action, errno, when });
        world.commit("a");
        world.push("a").await;
        world.until_settled("a lifecycle with a failure").await;
        assert!(!scheduler.has_died());
        if shim.fired() == 0 {
            break;
        }
        first += 1;
    }
    shim.heal();
    scheduler.stop().await;
    world.check().await;
    world.close().await;
    first - 1
}

#[tokio::test]
async fn a_lifecycle_goes_on_whichever_sync_fails() {
    for action in [Action::Fail, Action::DoAndFail] {
        let failures = walk(SYNC, action, EIO).await;
        println!("{failures} lifecycles, in each of which a sync failed ({action:?})");
        assert!(failures >= 4, "{failures}");
    }
}

#[tokio::test]
async fn a_disk_that_fails_at_random_under_schedulers_that_are_killed_too() {
    let world = world(&["a", "b", "c"]).await;
    let Some(shim) = Shim::compile(world.root(), &database(world.root())) else { return };
    let chance = Chance::of(200);
    let (mut failures, mut kills) = (0, 0);
    let mut scheduler = start(&world, &shim).await;
    for round in 0..24 {
        let (ops, action, errno) = TROUBLES[round % TROUBLES.len()];
        let when = When::Chance { chance: 65_536 / 8, seed: chance.below(1 << 40) };
        shim.fault(&Fault { ops, files: STORE, action, errno, when });
        for _ in 0..3 {
            something_new(&world, &chance).await;
            world.advance(4);
            SystemClock.sleep(Duration::from_millis(chance.below(125))).await;
        }
        assert!(!scheduler.has_died(), "a scheduler over a bad disk goes on trying");
        failures += shim.fired();
        if chance.below(2) == 0 {
            scheduler.kill();
            kills += 1;
            world.advance(LEASES);
            scheduler = start(&world, &shim).await;
        }
    }
    shim.heal();
    world.until_settled("what the bad disk left").await;
    scheduler.stop().await;
    world.check().await;
    world.close().await;
    println!("{failures} failures of the disk, {kills} kills");
    assert!(failures > 50 && kills > 4, "{failures} failures, {kills} kills");
}
