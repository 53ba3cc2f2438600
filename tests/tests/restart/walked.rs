//! Schedulers that are killed at each point of a lifecycle, one point after the other.

use crate::{
    deadly::{POINTS, Place},
    process::Process,
    world::{Kind, World, eventually},
};
use futures_util::future::join_all;
use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

/// More than any claim lasts, in seconds.
pub(crate) const LEASES: u64 = 100;

/// Worlds that walk at the same time.
const LANES: usize = 4;

/// What happens while the scheduler that will die works.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Story {
    /// A new commit is found, by itself or after a push.
    Commit,
    /// During the build there is a newer commit.
    Busy,
    /// The first build fails and is tried again.
    Stumble,
}

/// The lifecycle of a new commit, under a scheduler that dies at this place, and then under one that does not. Returns
/// whether the first one came to that place.
async fn lifecycle(world: &World, story: Story, last: &Place) -> bool {
    let name = &world.names()[0];
    world.advance(LEASES);
    let before = world.starts().len();
    world.commit(name);
    if last.time.is_multiple_of(2) {
        world.push(name).await;
    }
    if story == Story::Busy {
        world.hold();
    }
    let mut deadly = Process::start_deadly(world, "deadly", last);
    if story == Story::Busy {
        eventually("a build", async || deadly.has_died() || world.starts().len() > before).await;
        world.commit(name);
        world.push(name).await;
        world.let_go();
    }
    let died = !world.until_settled_or("a lifecycle", || deadly.has_died()).await;
    if died {
        world.advance(LEASES);
        let next = Process::start(world, "next");
        world.until_settled(&format!("what was killed at {last:?}")).await;
        next.kill();
    } else {
        // It may come to its place just now.
        drop(deadly);
    }
    world.check().await;
    died
}

/// Walks through the times that a lifecycle comes to each point, until one does not come there again. Returns how many
/// schedulers were killed.
async fn walk(story: Story) -> u64 {
    let (points, died) = (Mutex::new(POINTS.iter()), AtomicU64::new(0));
    let lane = async || {
        let kind = Kind { is_hurried: true, stumbles: story == Story::Stumble, is_seen_running: true };
        let world = World::of(kind, &["a"]).await;
        loop {
            let Some(point) = points.lock().unwrap().next() else { break };
            let mut last = Place { point: (*point).to_owned(), time: 1, freezes: false };
            while lifecycle(&world, story, &last).await {
                died.fetch_add(1, Ordering::SeqCst);
                last.time += 1;
            }
            assert!(last.time > 1, "{story:?} never comes to: {point}");
        }
        world.close().await;
    };
    join_all((0..LANES).map(|_| lane())).await;
    let died = died.into_inner();
    println!("{story:?}: {died} kills, one at each point");
    died
}

#[tokio::test]
async fn a_commit_is_built_and_linked_wherever_a_scheduler_is_killed() {
    assert!(walk(Story::Commit).await >= 20);
}

#[tokio::test]
async fn a_commit_during_a_build_is_built_next_wherever_a_scheduler_is_killed() {
    assert!(walk(Story::Busy).await >= 35);
}

#[tokio::test]
async fn a_build_that_failed_is_tried_again_once_wherever_a_scheduler_is_killed() {
    assert!(walk(Story::Stumble).await >= 35);
}
