//! The loops. Each counts what it does; a longer run multiplies all counts.

use crate::{chance::option, fire::Fire};

/// How often everything happens, as a multiple of what is usual.
fn times(usual: u32) -> u32 {
    usual * option::<u32>("CAPOMASTRO_TEST_TIMES", 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedulers_are_killed_at_random() {
    let Some(mut fire) = Fire::start(1_000).await else { return };
    let most = times(300);
    while fire.done.kills < most {
        fire.pass(50, 300).await;
        fire.kill();
    }
    fire.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_goes_as_by_a_power_cut() {
    let Some(mut fire) = Fire::start(2_000).await else { return };
    let most = times(20);
    while fire.done.crashes < most {
        fire.pass(200, 1_500).await;
        fire.crash_server().await;
    }
    fire.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_is_cut_refuses_and_is_silent() {
    let Some(mut fire) = Fire::start(3_000).await else { return };
    let most = times(60);
    while fire.done.cuts < most {
        fire.pass(200, 1_000).await;
        fire.spoil();
    }
    let done = fire.end().await;
    assert!(done.lost_answers >= 3, "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedulers_are_frozen_for_longer_than_their_claims() {
    let Some(mut fire) = Fire::start(4_000).await else { return };
    let most = times(30);
    while fire.done.freezes < most {
        fire.pass(200, 600).await;
        fire.freeze();
    }
    let done = fire.end().await;
    assert!(done.frozen_between >= 8, "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_fails_at_once() {
    let Some(mut fire) = Fire::start(5_000).await else { return };
    for _ in 0..times(150) {
        fire.pass(100, 600).await;
        match fire.chance.below(20) {
            0..9 => fire.kill(),
            9..14 => fire.spoil(),
            14..18 => fire.freeze(),
            _ => fire.crash_server().await,
        }
    }
    fire.end().await;
}
