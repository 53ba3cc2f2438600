//! Two schedulers over one file.

use crate::{
    process::Process,
    world::{World, eventually, lives},
};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[tokio::test]
async fn two_schedulers_share_the_work_and_one_goes_on_when_the_other_is_killed() {
    let world = World::new(&NAMES).await;
    let (left, right) = (Process::start(&world, "left"), Process::start(&world, "right"));
    let both = async || ["left", "right"].iter().all(|n| world.signed(n, "launched", None));
    world.until_settled("the first builds").await;
    let mut round = 0_usize;
    eventually("work of both", async || {
        if both().await {
            return true;
        }
        let name = NAMES[round % NAMES.len()];
        round += 1;
        world.commit(name);
        world.push(name).await;
        world.until_settled("a build by either").await;
        false
    })
    .await;
    world.check().await;

    world.hold();
    let before = world.starts().len();
    for name in NAMES {
        world.commit(name);
    }
    eventually("a build of each", async || world.starts().len() == before + NAMES.len()).await;
    left.kill();
    for start in &world.starts()[before..] {
        assert!(lives(start.pid), "{start:?} ended with a scheduler");
    }
    for name in NAMES {
        world.commit(name);
    }
    world.let_go();
    world.until_settled("what the killed one left, and more").await;
    assert!(world.starts().len() >= before + 2 * NAMES.len());
    right.stop().await;
    world.check().await;
    world.close().await;
}
