//! One scheduler after the other, killed.

use crate::{
    process::Process,
    world::{World, eventually, lives},
};
use capomastro_core::{
    events::EventKind,
    store::{EventFilter, FIRST_EVENT},
    time::{Clock as _, Random as _, SystemClock},
};
use capomastro_testkit::SeededRandom;
use std::time::Duration;

#[tokio::test]
async fn a_build_outlives_its_scheduler_and_the_next_one_adopts_it() {
    let world = World::new(&["a", "b"]).await;
    world.hold();
    let first = Process::start(&world, "first");
    // Recorded as accepted: a kill before that is for the other test.
    let recorded = async || world.builds().await.iter().filter(|b| b.external.is_some()).count() == 2;
    eventually("both builds", async || recorded().await && world.starts().len() == 2).await;
    first.kill();
    let starts = world.starts();
    let second = Process::start(&world, "second");
    for start in &starts {
        eventually("the next scheduler", async || world.signed("second", "observed", Some(&start.key))).await;
        assert!(lives(start.pid), "{start:?} ended with its scheduler");
    }
    world.let_go();
    world.until_settled("the adopted builds").await;
    second.stop().await;

    world.check().await;
    assert_eq!(world.starts().len(), 2);
    let events = world.scheduler.events(EventFilter::All, FIRST_EVENT, 1_000).await.unwrap();
    for build in world.builds().await {
        let of_build =
            |k: &EventKind| matches!(k, EventKind::BuildStarted { build: b, .. } if *b == build.id);
        assert_eq!(events.items.iter().filter(|e| of_build(&e.event.kind)).count(), 1, "{build:#?}");
        assert_eq!(build.sends, 1, "{build:#?}");
    }
    world.close().await;
}

/// Kills over one run; more than the requirement of 25.
const KILLS: u32 = 30;
/// The longest life of a scheduler in ms. Long enough to take over what the one before held.
const LONGEST_LIFE: u128 = 1_200;

#[tokio::test]
async fn wherever_schedulers_are_killed_the_newest_commits_are_linked_and_nothing_is_built_twice() {
    let names = ["a", "b", "c"];
    let world = World::new(&names).await;
    let seed = std::env::var("CAPOMASTRO_TEST_SEED").map_or(20_260_101, |s| s.parse().unwrap());
    println!("CAPOMASTRO_TEST_SEED={seed}");
    let random = SeededRandom::new(seed);
    let below = |n: u128| random.bits() % n;
    for kill in 0..KILLS {
        let scheduler = Process::start(&world, &format!("killed-{kill}"));
        let name = names[usize::try_from(below(3)).unwrap()];
        let life = Duration::from_millis(u64::try_from(below(LONGEST_LIFE)).unwrap());
        let early = life.mul_f64(f64::from(u32::try_from(below(100)).unwrap()) / 100.0);
        SystemClock.sleep(early).await;
        world.commit(name);
        if below(2) == 0 {
            world.push(name).await;
        }
        SystemClock.sleep(life.saturating_sub(early)).await;
        scheduler.kill();
    }
    let (runs, under_fire) = (world.lines("runs").len(), world.starts().len());
    let last = Process::start(&world, "last");
    world.until_settled("what the killed ones left").await;
    last.stop().await;
    world.check().await;
    println!(
        "{runs} of {KILLS} schedulers came to run; {under_fire} of {} builds under fire",
        world.starts().len()
    );
    assert!(runs > 25 && under_fire > 3, "{runs} runs, {under_fire} builds under fire");
    world.close().await;
}
