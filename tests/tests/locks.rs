//! A lock that is kept elsewhere, and what is done when it is held, lost, unreachable or broken.

use capomastro_core::{
    ErrorKind,
    events::EventKind,
    launch::Outcome,
    model::{OnHeld, Phase, Policy},
    scheduler::TriggerRequest,
    why::WhyNotBuilding,
};
use capomastro_testkit::{ControllableLauncher, ExpiringLock, ManualClock, fakes::LaunchAnswer};
use capomastro_tests::{Stage, person, revision, spec};
use std::{sync::Arc, time::Duration};

const LASTS: u64 = 30;

fn stage(launcher: ControllableLauncher) -> (Stage, ExpiringLock) {
    let clock = ManualClock::new();
    let lock = ExpiringLock::new(Arc::new(clock.clone()), Duration::from_secs(LASTS));
    let shared = lock.clone();
    (Stage::at(clock, launcher, |b| b.lock(Arc::new(shared))), lock)
}

fn is_lost(event: &EventKind) -> bool {
    matches!(event, EventKind::LeaseLost { .. })
}

#[tokio::test]
async fn the_lock_is_held_while_a_build_runs_and_released_after_its_end() {
    let (stage, lock) = stage(ControllableLauncher::accepting());
    stage.begin("a", Policy::default()).await;
    let build = stage.last_build("a").await;
    assert_eq!(lock.holder(build.dependency), Some(build.id));
    stage.pass(20 * LASTS).await;
    assert_eq!(lock.holder(build.dependency), Some(build.id), "it is renewed however long the build takes");
    stage.launcher.last_of("a").finish(Outcome::Succeeded);
    stage.pass(LASTS).await;
    assert_eq!(lock.held(), 0);
    assert_eq!(stage.count_events("a", is_lost).await, 0);
    assert_eq!(stage.phases("a").await, [Phase::Succeeded]);
}

#[tokio::test]
async fn fences_grow_with_those_of_the_lock() {
    let (stage, lock) = stage(ControllableLauncher::auto_succeed());
    stage.begin("a", Policy::default()).await;
    stage.pass(60).await;
    lock.hold_for_stranger(stage.id("a").await, "a stranger");
    lock.lose_all();
    stage.probe.set("a", "r2");
    stage.pass(90).await;
    let fences: Vec<u64> = stage.builds("a").await.iter().map(|b| b.fence).collect();
    assert_eq!(fences, [1, 3]);
    assert_eq!(stage.state("a").await.fence, 3);
}

#[tokio::test]
async fn what_a_stranger_holds_is_asked_for_again_until_it_is_free() {
    let (stage, lock) = stage(ControllableLauncher::auto_succeed());
    stage.define("a", &[], Policy::default()).await;
    let id = stage.id("a").await;
    lock.hold_for_stranger(id, "a stranger");
    stage.probe.set("a", "r1");
    stage.pass(LASTS - 1).await;
    assert!(stage.builds("a").await.is_empty());
    let why = stage.why("a").await;
    let says =
        |text: &Option<String>| text.as_deref().is_some_and(|t| t.ends_with("kept elsewhere: a stranger"));
    assert!(matches!(&why, WhyNotBuilding::NextLook { waits_for, .. } if says(waits_for)), "{why:?}");
    let asked = lock.acquires();
    assert!((1..=8).contains(&asked), "no hot loop: {asked}");
    let decided = stage.count_events("a", |e| matches!(e, EventKind::Decided { .. })).await;
    assert!(decided <= 3, "repeated decisions are counted, not recorded: {decided}");
    stage.pass(20).await;
    assert_eq!(stage.phases("a").await, [Phase::Succeeded]);
    assert_eq!(stage.why("a").await, WhyNotBuilding::UpToDate);
    stage.pass(10).await;
    assert_eq!(lock.held(), 0);
}

#[tokio::test]
async fn a_manual_trigger_waits_for_a_stranger_or_is_told() {
    let (stage, lock) = stage(ControllableLauncher::auto_succeed());
    stage.begin("a", Policy::default()).await;
    stage.pass(60).await;
    lock.hold_for_stranger(stage.id("a").await, "a stranger");
    let loud = TriggerRequest::manual().by(person()).at(revision("r1")).on_held(OnHeld::DiscardLoudly);
    assert_eq!(stage.scheduler.trigger("a", loud).await.unwrap_err().kind(), ErrorKind::Held);
    stage.build_now("a", "r1").await;
    stage.pass(10).await;
    assert_eq!(stage.built("a"), ["r1"]);
    stage.pass(LASTS + 20).await;
    assert_eq!(stage.built("a"), ["r1", "r1"]);
}

#[tokio::test]
async fn a_lost_lease_is_told_once_and_the_build_goes_on() {
    let (stage, lock) = stage(ControllableLauncher::accepting());
    stage.begin("a", Policy::default()).await;
    lock.lose(stage.id("a").await);
    stage.pass(120).await;
    assert_eq!(stage.count_events("a", is_lost).await, 1);
    assert_eq!(stage.phases("a").await, [Phase::Submitted]);
    stage.launcher.last_of("a").finish(Outcome::Succeeded);
    stage.pass(40).await;
    assert_eq!(stage.phases("a").await, [Phase::Succeeded]);
}

#[tokio::test]
async fn a_lost_lease_that_a_stranger_has_now_is_not_taken_from_him_at_the_end() {
    let (stage, lock) = stage(ControllableLauncher::accepting());
    stage.begin("a", Policy::default()).await;
    lock.hold_for_stranger(stage.id("a").await, "a stranger");
    stage.pass(10).await;
    stage.launcher.last_of("a").finish(Outcome::Succeeded);
    stage.pass(10).await;
    assert_eq!((lock.held(), lock.take_overs().len()), (1, 0));
}

#[tokio::test]
async fn a_lease_is_renewed_during_the_settle_time_too() {
    let (stage, lock) = stage(ControllableLauncher::auto_succeed());
    stage.launcher.answer_next(LaunchAnswer::LoseRequest);
    stage.begin("a", Policy::default()).await;
    let build = stage.last_build("a").await;
    stage.pass(119).await;
    assert_eq!(lock.holder(build.dependency), Some(build.id));
    stage.pass(60).await;
    assert_eq!(stage.phases("a").await, [Phase::Succeeded]);
    assert_eq!(stage.count_events("a", is_lost).await, 0);
}

#[tokio::test]
async fn a_lease_is_renewed_while_the_build_waits_for_a_limit() {
    let clock = ManualClock::new();
    let lock = ExpiringLock::new(Arc::new(clock.clone()), Duration::from_secs(LASTS));
    let shared = lock.clone();
    let stage =
        Stage::at(clock, ControllableLauncher::accepting(), |b| b.lock(Arc::new(shared)).overall_limit(1));
    stage.begin("a", Policy::default()).await;
    stage.begin("b", Policy::default()).await;
    stage.pass(300).await;
    assert_eq!(stage.phases("b").await, [Phase::Requested]);
    assert_eq!(lock.held(), 2);
    assert_eq!(stage.count_events("b", is_lost).await, 0);
}

#[tokio::test]
async fn an_unreachable_lock_starts_nothing_and_ends_what_has_ended() {
    let (stage, lock) = stage(ControllableLauncher::accepting());
    stage.begin("a", Policy::default()).await;
    stage.probe.set("a", "r2");
    stage.pass(60).await;
    lock.unreachable(true);
    stage.launcher.last_of("a").finish(Outcome::Succeeded);
    stage.pass(60).await;
    assert_eq!(stage.phases("a").await, [Phase::Succeeded], "the end does not wait for the lock's server");
    stage.pass(120).await;
    assert_eq!(stage.builds("a").await.len(), 1);
    lock.unreachable(false);
    stage.pass(90).await;
    assert_eq!(stage.built("a"), ["r1", "r2"]);
}

#[tokio::test]
async fn an_acquisition_whose_answer_is_lost_expires_and_then_the_change_is_built() {
    let (stage, lock) = stage(ControllableLauncher::auto_succeed());
    lock.lose_next_answer();
    stage.begin("a", Policy::default()).await;
    assert_eq!(lock.held(), 1, "by a build that nobody knows");
    stage.pass(LASTS + 30).await;
    assert_eq!(stage.phases("a").await, [Phase::Succeeded]);
    stage.pass(10).await;
    assert_eq!(lock.held(), 0);
}

#[tokio::test]
async fn a_release_that_fails_is_repeated() {
    let (stage, lock) = stage(ControllableLauncher::accepting());
    stage.begin("a", Policy::default()).await;
    stage.launcher.last_of("a").finish(Outcome::Succeeded);
    // The renewal and the release that follow are lost.
    lock.lose_next_answer();
    lock.unreachable(true);
    stage.pass(5).await;
    assert_eq!((stage.phases("a").await, lock.held()), (vec![Phase::Succeeded], 1));
    lock.unreachable(false);
    stage.pass(20).await;
    assert_eq!(lock.held(), 0);
}

#[tokio::test]
async fn the_next_build_starts_soon_after_the_end_of_the_last() {
    let (stage, _lock) = stage(ControllableLauncher::accepting());
    stage.begin("a", Policy::default()).await;
    stage.probe.set("a", "r2");
    stage.pass(60).await;
    stage.launcher.last_of("a").finish(Outcome::Succeeded);
    stage.pass(30).await;
    assert_eq!(stage.built("a"), ["r1", "r2"]);
    assert_eq!(stage.count_events("a", is_lost).await, 0);
}

#[tokio::test]
async fn a_broken_lock_ends_the_build_loudly_and_what_waits_is_built() {
    let (with_lock, lock) = stage(ControllableLauncher::accepting());
    for stage in [Stage::new(ControllableLauncher::accepting()), with_lock] {
        stage.begin("a", Policy::default()).await;
        stage.launcher.last_of("a").start();
        stage.pass(10).await;
        stage.probe.set("a", "r2");
        stage.pass(60).await;
        let broken = stage.scheduler.break_lock("a", &person(), "it hangs").await.unwrap();
        let build = stage.scheduler.build(broken).await.unwrap();
        assert_eq!(build.phase, Phase::Lost);
        stage.pass(20).await;
        assert_eq!(stage.built("a"), ["r1", "r2"], "the release is evaluated");
        assert_eq!(stage.phases("a").await, [Phase::Lost, Phase::Submitted]);
        let loud =
            EventKind::LockBroken { build: broken, by: person().to_string(), reason: "it hangs".into() };
        assert_eq!(stage.count_events("a", |e| *e == loud).await, 1);
        assert_eq!(stage.count_events("a", |e| *e == EventKind::MayStillRun { build: broken }).await, 1);
        // What it reports later changes nothing, and the new build keeps the dependency.
        stage.launcher.builds()[0].finish(Outcome::Succeeded);
        stage.pass(120).await;
        assert_eq!(stage.phases("a").await, [Phase::Lost, Phase::Submitted]);
        assert_eq!(stage.count_events("a", is_lost).await, 0);
    }
    assert_eq!(lock.take_overs().len(), 1);
    assert_eq!(lock.held(), 1);
}

#[tokio::test]
async fn a_broken_build_is_not_retried() {
    let mut retry = capomastro_core::model::RetryPolicy::default();
    retry.max = 3;
    let stage = Stage::new(ControllableLauncher::accepting());
    stage.begin("a", Policy::default().with_retry(retry)).await;
    stage.scheduler.break_lock("a", &person(), "it hangs").await.unwrap();
    stage.pass(7_200).await;
    assert_eq!(stage.phases("a").await, [Phase::Lost]);
    assert_eq!(
        stage.scheduler.break_lock("a", &person(), "again").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[tokio::test]
async fn a_deleted_dependency_whose_build_ends_frees_its_lock() {
    let (stage, lock) = stage(ControllableLauncher::accepting());
    stage.begin("a", Policy::default()).await;
    let build = stage.last_build("a").await.id;
    stage.scheduler.delete("a").await.unwrap();
    stage.launcher.last_of("a").finish(Outcome::Succeeded);
    stage.pass(30).await;
    assert_eq!(stage.scheduler.build(build).await.unwrap().phase, Phase::Succeeded);
    assert_eq!(lock.held(), 0);
    stage.apply(&spec("a", &[], Policy::default())).await;
    stage.pass(30).await;
    assert_eq!(lock.held(), 1, "a new one of the same name is another dependency");
}
