//! The loop that runs a scheduler: it looks, wakes, lets nothing slow hold up the rest, and stops.

use capomastro_core::{
    ErrorKind, InMemoryStore,
    events::EventKind,
    launch::Outcome,
    model::{Phase, Policy},
    scheduler::TriggerRequest,
};
use capomastro_testkit::{
    ControllableLauncher, ManualClock, ScriptedProbe,
    fakes::{FakeBuild, Mode},
};
use capomastro_tests::{Fault, FaultyStore, Stage};
use std::{sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// Runs the scheduler's loop beside `act`, with time that moves to whoever sleeps next.
async fn run_beside(stage: &Stage, act: impl AsyncFnOnce(&Stage, oneshot::Sender<()>)) {
    let (stop, stopped) = oneshot::channel::<()>();
    let scheduler = stage.scheduler.clone();
    let run = tokio::spawn(async move {
        scheduler
            .run(async {
                // A sender that is dropped stops it too.
                drop(stopped.await);
            })
            .await
    });
    act(stage, stop).await;
    for _ in 0..100_000 {
        if run.is_finished() {
            break;
        }
        stage.clock.advance_to_next_sleeper();
        tokio::task::yield_now().await;
    }
    assert!(run.is_finished(), "the loop stops");
    run.await.expect("the loop does not panic").expect("the store answers");
}

/// Lets the loop work, and time go on, until something is true.
async fn run_until(stage: &Stage, mut holds: impl FnMut(&Stage) -> bool) {
    for _ in 0..100_000 {
        if holds(stage) {
            return;
        }
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        stage.clock.advance_to_next_sleeper();
    }
    panic!("it does not come true: {stage:#?}");
}

#[tokio::test]
async fn the_loop_looks_builds_and_stops() {
    let stage = Stage::new(ControllableLauncher::auto_succeed());
    stage.probe.set("a", "r1");
    stage.define("a", &["website"], Policy::default()).await;
    run_beside(&stage, async |stage, stop| {
        run_until(stage, |s| s.launcher.builds().iter().any(FakeBuild::is_ended)).await;
        stage.probe.set("a", "r2");
        run_until(stage, |s| s.launcher.builds().len() == 2 && s.launcher.builds()[1].is_ended()).await;
        stop.send(()).unwrap();
    })
    .await;
    assert_eq!(stage.built("a"), ["r1", "r2"]);
}

/// A loop over a store that does not answer at first.
fn away(checks: usize) -> (Stage, FaultyStore) {
    let clock = ManualClock::new();
    let store = FaultyStore::new(Arc::new(InMemoryStore::new(Arc::new(clock.clone()))));
    store.is_away_for(checks);
    let launcher = ControllableLauncher::auto_succeed();
    let stage = Stage::over(Arc::new(store.clone()), clock, ScriptedProbe::new(), launcher, |b| b);
    (stage, store)
}

#[tokio::test]
async fn the_loop_waits_for_a_store_that_does_not_answer_at_its_start() {
    let (stage, store) = away(3);
    stage.probe.set("a", "r1");
    stage.define("a", &[], Policy::default()).await;
    // The check is answered at last, and then what the loop writes first is not.
    store.next_commits([Fault::Fails(ErrorKind::TimedOut), Fault::Fails(ErrorKind::Unavailable)]);
    run_beside(&stage, async |stage, stop| {
        run_until(stage, |s| s.launcher.builds().iter().any(FakeBuild::is_ended)).await;
        stop.send(()).unwrap();
    })
    .await;
    assert_eq!(stage.built("a"), ["r1"]);
}

#[tokio::test]
async fn the_loop_can_be_stopped_while_it_waits_for_a_store() {
    let (stage, store) = away(usize::MAX);
    run_beside(&stage, async |stage, stop| {
        run_until(stage, |_| store.away() < usize::MAX - 3).await;
        stop.send(()).unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_loop_ends_over_a_store_that_cannot_be_used() {
    let (stage, store) = away(0);
    for kind in [ErrorKind::ReadOnly, ErrorKind::PermissionDenied] {
        store.next_commits([Fault::Fails(kind)]);
        let ended = stage.scheduler.run(std::future::pending()).await.unwrap_err();
        assert_eq!(ended.kind(), kind, "{ended}");
    }
}

#[tokio::test]
async fn a_trigger_in_the_same_process_wakes_the_loop() {
    let stage = Stage::with(ControllableLauncher::auto_succeed(), |b| b.idle(Duration::from_secs(60)));
    stage.probe.set("a", "r1");
    stage.define("a", &[], Policy::default()).await;
    run_beside(&stage, async |stage, stop| {
        run_until(stage, |s| s.launcher.builds().iter().any(FakeBuild::is_ended)).await;
        run_until(stage, |s| s.probe.asked("a") > 1).await;
        let (asked, before) = (stage.probe.asked("a"), stage.clock.monotonic_now());
        stage.scheduler.trigger("a", TriggerRequest::push()).await.unwrap();
        stage.probe.until_asked("a", asked + 1).await;
        assert_eq!(stage.clock.monotonic_now(), before, "no time had to pass for it");
        stop.send(()).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_slow_probe_does_not_hold_up_other_work() {
    let stage = Stage::new(ControllableLauncher::auto_succeed());
    for name in ["slow", "quick"] {
        stage.probe.set(name, "r1");
        stage.define(name, &[], Policy::default()).await;
    }
    stage.probe.hang("slow");
    run_beside(&stage, async |stage, stop| {
        run_until(stage, |s| s.launcher.builds_of("quick").iter().any(|b| b.is_ended())).await;
        assert_eq!(stage.probe.asked("slow"), 1, "it hangs all the while");
        assert!(stage.built("slow").is_empty());
        stage.probe.release("slow");
        run_until(stage, |s| s.launcher.builds_of("slow").iter().any(|b| b.is_ended())).await;
        stop.send(()).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_stop_waits_for_what_was_begun_and_no_longer_than_the_grace() {
    let stage = Stage::new(ControllableLauncher::by_hand());
    stage.probe.set("a", "r1");
    stage.define("a", &[], Policy::default()).await;
    run_beside(&stage, async |stage, stop| {
        let launch = stage.launcher.next_launch().await;
        stop.send(()).unwrap();
        tokio::task::yield_now().await;
        launch.accept();
    })
    .await;
    let build = stage.last_build("a").await;
    assert_eq!(build.phase, Phase::Submitted, "the answer that came within the grace is recorded");

    let stage = Stage::with(ControllableLauncher::accepting(), |b| b.shutdown_grace(Duration::from_secs(3)));
    stage.probe.set("a", "r1");
    stage.define("a", &[], Policy::default()).await;
    stage.launcher.hold_sends(true);
    let before = stage.clock.monotonic_now();
    run_beside(&stage, async |stage, stop| {
        stage.launcher.until_held(1).await;
        stop.send(()).unwrap();
    })
    .await;
    let took = stage.clock.monotonic_now() - before;
    assert!(took <= Duration::from_secs(4), "{took:?}");
    stage.launcher.hold_sends(false);
    stage.launcher.set_mode(Mode::Auto(Outcome::Succeeded));
    stage.pass_until_phase(400, "a", Phase::Succeeded).await;
    assert_eq!(stage.launcher.builds().len(), 1, "what was left unfinished is gone on with");
    assert_eq!(stage.count_events("a", |e| matches!(e, EventKind::BuildStarted { .. })).await, 1);
}

trait Now {
    fn monotonic_now(&self) -> Duration;
}

impl Now for ManualClock {
    fn monotonic_now(&self) -> Duration {
        capomastro_core::time::Clock::monotonic(self).0
    }
}
