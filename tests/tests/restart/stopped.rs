//! Schedulers that are asked to stop.

use crate::{
    process::Process,
    world::{World, eventually, lives},
};
use capomastro_core::model::Phase;

#[tokio::test]
async fn a_scheduler_that_is_asked_to_stop_leaves_nothing_unrecorded() {
    let names = ["a", "b"];
    let world = World::new(&names).await;
    world.hold();
    let first = Process::start(&world, "first");
    eventually("both builds", async || world.starts().len() == 2).await;
    first.stop().await;
    // Whatever has started is recorded as started, with what is needed to find it again.
    for build in world.builds().await {
        assert!(matches!(build.phase, Phase::Submitted | Phase::Running), "{build:#?}");
        assert!(build.external.is_some(), "{build:#?}");
    }
    for start in world.starts() {
        assert!(lives(start.pid), "{start:?} ended with its scheduler");
    }
    world.let_go();
    // What nobody sees end is recorded by the next.
    for name in names {
        world.commit(name);
    }
    for round in 0..6 {
        let next = Process::start(&world, &format!("next-{round}"));
        let runs = world.lines("runs").len();
        world.commit(names[round % names.len()]);
        eventually("its run", async || world.lines("runs").len() > runs || round % 2 == 0).await;
        next.stop().await;
        for build in world.builds().await {
            assert!(build.phase.is_terminal() || build.external.is_some(), "{build:#?}");
        }
    }
    let last = Process::start(&world, "last");
    world.until_settled("what the others left").await;
    last.stop().await;
    world.check().await;
    world.close().await;
}
