//! How many builds may run at once, over all schedulers.

use capomastro_core::{
    launch::Outcome,
    model::{BuildId, Phase, Policy},
    scheduler::{Cancelled, TriggerRequest},
    store::{Key, LimitScope, LimitState, Record},
    why::WhyNotBuilding,
};
use capomastro_testkit::{ControllableLauncher, fakes::LaunchAnswer};
use capomastro_tests::{Stage, person, spec};
use std::{sync::Arc, time::Duration};

async fn limit(stage: &Stage, scope: LimitScope) -> LimitState {
    let snapshot = stage.store.get(&[Key::Limit(scope.clone())]).await.expect("the store answers");
    match snapshot.records.into_iter().next().flatten().map(|v| v.record) {
        Some(Record::Limit(state)) => state,
        _ => LimitState::new(scope),
    }
}

fn unfinished(stage: &Stage) -> Vec<String> {
    let builds = stage.launcher.builds();
    builds.iter().filter(|b| !b.is_ended()).map(|b| b.request().dependency.to_string()).collect()
}

/// Accepts builds of `names`, finishes the oldest unfinished one every few seconds, and watches how many run at once.
async fn drain(stage: &Stage, others: &[&Stage], names: &[String], most: usize) {
    for round in 0..400 {
        for stage in others {
            stage.settle().await;
        }
        stage.pass(1).await;
        let running = unfinished(stage);
        assert!(running.len() <= most, "{running:?}");
        if round % 3 == 0
            && let Some(build) = stage.launcher.builds().into_iter().find(|b| !b.is_ended())
        {
            build.finish(Outcome::Succeeded);
        }
    }
    for name in names {
        assert_eq!(stage.phases(name).await, [Phase::Succeeded], "{name}");
    }
}

#[tokio::test]
async fn a_limit_over_all_is_kept_by_two_schedulers_together() {
    let stage = Stage::with(ControllableLauncher::accepting(), |b| b.overall_limit(3));
    let other = stage.another(1, |b| b.overall_limit(3));
    let names: Vec<String> = (0..20).map(|n| format!("d{n}")).collect();
    for name in &names {
        stage.probe.set(name, "r1");
        stage.define(name, &[], Policy::default()).await;
    }
    drain(&stage, &[&other], &names, 3).await;
    let state = limit(&stage, LimitScope::Overall).await;
    assert!(state.active.is_empty() && state.waiting.is_empty());
}

#[tokio::test]
async fn a_limit_of_one_launcher_leaves_another_alone() {
    let fast = ControllableLauncher::accepting();
    let stage = Stage::with(ControllableLauncher::accepting(), |b| {
        b.launcher("fast", Arc::new(fast.clone())).launcher_limit("fake", 1)
    });
    for n in 0..3 {
        stage.begin(&format!("slow{n}"), Policy::default()).await;
        stage.probe.set(&format!("fast{n}"), "r1");
        let mut other = spec(&format!("fast{n}"), &[], Policy::default());
        other.launcher = "fast".parse().unwrap();
        stage.apply(&other).await;
    }
    stage.settle().await;
    assert_eq!((stage.launcher.builds().len(), fast.builds().len()), (1, 3));
    let why = stage.status("slow1").await.why;
    let WhyNotBuilding::Building { phase: Phase::Requested, waits_for: Some(waits_for), .. } = why else {
        panic!("{why:?}")
    };
    assert_eq!(waits_for, "the limit of running builds of fake");
}

#[tokio::test]
async fn a_waiting_build_holds_its_lock_and_its_revision() {
    let stage = Stage::with(ControllableLauncher::accepting(), |b| b.overall_limit(1));
    stage.begin("a", Policy::default()).await;
    stage.begin("b", Policy::default()).await;
    stage.probe.set("b", "r2");
    stage.pass(120).await;
    let state = stage.state("b").await;
    assert!(state.held.is_some() && state.in_debt());
    stage.launcher.last_of("a").finish(Outcome::Succeeded);
    stage.pass(15).await;
    assert_eq!(stage.built("b"), ["r1"]);
    stage.launcher.last_of("b").finish(Outcome::Succeeded);
    stage.pass(15).await;
    assert_eq!(stage.built("b"), ["r1", "r2"]);
}

#[tokio::test]
async fn what_a_person_asked_for_goes_first() {
    let stage = Stage::with(ControllableLauncher::accepting(), |b| b.overall_limit(1));
    for name in ["a", "b", "c", "d"] {
        stage.begin(name, Policy::default()).await;
    }
    // c's automatic build is cancelled and asked for by hand: behind b in time, before it in rank.
    stage.scheduler.cancel(stage.last_build("c").await.id, &person()).await.unwrap();
    stage.build_now("c", "r1").await;
    let mut order = Vec::new();
    for _ in 0..4 {
        stage.pass(10).await;
        let running = unfinished(&stage);
        assert_eq!(running.len(), 1);
        order.extend(running.clone());
        stage.launcher.last_of(&running[0]).finish(Outcome::Succeeded);
    }
    assert_eq!(order, ["a", "c", "b", "d"]);
}

#[tokio::test]
async fn a_slot_is_free_after_every_end() {
    let lost = capomastro_tests::timeouts(|t| t.lost_after = Duration::from_secs(60));
    let stage =
        Stage::with(ControllableLauncher::accepting(), |b| b.overall_limit(1).launcher_limit("fake", 1));
    stage.launcher.answer_next(LaunchAnswer::Refuse { permanent: true });
    stage.begin("refused", lost.clone()).await;
    stage.begin("lost", lost.clone()).await;
    stage.launcher.last_of("lost").vanish();
    stage.pass(120).await;
    stage.begin("broken", lost.clone()).await;
    stage.scheduler.break_lock("broken", &person(), "it hangs").await.unwrap();
    stage.begin("cancelled", lost.clone()).await;
    stage.scheduler.cancel(stage.last_build("cancelled").await.id, &person()).await.unwrap();
    stage.pass(20).await;
    stage.begin("failed", lost).await;
    stage.launcher.last_of("failed").finish(Outcome::Failed);
    stage.pass(20).await;
    for (name, phase) in [
        ("refused", Phase::Refused),
        ("lost", Phase::Lost),
        ("broken", Phase::Lost),
        ("cancelled", Phase::Cancelled),
        ("failed", Phase::Failed),
    ] {
        assert_eq!(stage.phases(name).await, [phase], "{name}");
    }
    for scope in [LimitScope::Overall, LimitScope::Launcher("fake".parse().unwrap())] {
        let state = limit(&stage, scope).await;
        assert_eq!((state.active, state.waiting.len()), (Vec::<BuildId>::new(), 0));
    }
}

#[tokio::test]
async fn a_cancelled_waiter_leaves_the_line() {
    let stage = Stage::with(ControllableLauncher::accepting(), |b| b.overall_limit(1));
    for name in ["a", "b", "c"] {
        stage.begin(name, Policy::default()).await;
    }
    let waiting = stage.last_build("b").await;
    assert_eq!(stage.scheduler.cancel(waiting.id, &person()).await.unwrap(), Cancelled::AtOnce);
    assert_eq!(limit(&stage, LimitScope::Overall).await.waiting.len(), 1);
    stage.launcher.last_of("a").finish(Outcome::Succeeded);
    stage.pass(5).await;
    assert_eq!(unfinished(&stage), ["c"]);
}

#[tokio::test]
async fn a_build_that_waits_for_its_launcher_does_not_hold_up_others_in_the_line_of_all() {
    let fast = ControllableLauncher::accepting();
    let stage = Stage::with(ControllableLauncher::accepting(), |b| {
        b.launcher("fast", Arc::new(fast.clone())).launcher_limit("fake", 1).overall_limit(2)
    });
    let begin_fast = async |name: &str| {
        stage.probe.set(name, "r1");
        let mut other = spec(name, &[], Policy::default());
        other.launcher = "fast".parse().unwrap();
        stage.apply(&other).await;
        stage.settle().await;
    };
    // Both places are taken by fast ones, so that slow ones wait for the limit over all.
    begin_fast("fast0").await;
    begin_fast("fast1").await;
    stage.begin("slow0", Policy::default()).await;
    stage.probe.set("slow1", "r1");
    stage.define("slow1", &[], Policy::default()).await;
    stage.scheduler.trigger("slow1", TriggerRequest::manual().by(person())).await.unwrap();
    stage.settle().await;
    begin_fast("fast2").await;
    assert_eq!(limit(&stage, LimitScope::Overall).await.waiting.len(), 3);
    // The manual slow one takes the only slow place; the other slow one waits for it, and fast2 need not.
    fast.builds()[0].finish(Outcome::Succeeded);
    stage.pass(40).await;
    assert_eq!(stage.built("slow1").len(), 1);
    fast.builds()[1].finish(Outcome::Succeeded);
    stage.pass(70).await;
    assert_eq!(fast.builds().len(), 3);
    assert!(stage.built("slow0").is_empty());
    stage.launcher.last_of("slow1").finish(Outcome::Succeeded);
    stage.pass(40).await;
    assert_eq!(stage.built("slow0").len(), 1);
}

#[tokio::test]
async fn a_launch_that_is_sent_again_keeps_its_slot() {
    let stage = Stage::with(ControllableLauncher::accepting(), |b| b.overall_limit(1));
    stage.launcher.answer_next(LaunchAnswer::LoseRequest);
    stage.begin("a", Policy::default()).await;
    stage.begin("b", Policy::default()).await;
    stage.pass(200).await;
    assert_eq!(unfinished(&stage), ["a"]);
    assert_eq!(limit(&stage, LimitScope::Overall).await.active.len(), 1);
}

#[tokio::test]
async fn a_build_that_nobody_drives_holds_up_nobody_and_says_so() {
    let stage = Stage::with(ControllableLauncher::accepting(), |b| {
        b.launcher("gone", Arc::new(ControllableLauncher::accepting())).overall_limit(1)
    });
    stage.begin("a", Policy::default()).await;
    stage.probe.set("b", "r1");
    let mut b = spec("b", &[], Policy::default());
    b.launcher = "gone".parse().unwrap();
    stage.apply(&b).await;
    stage.settle().await;
    stage.begin("c", Policy::default()).await;
    // From now on runs only one that does not know the launcher of the first in line.
    let other = stage.another(1, |b| b.overall_limit(1));
    other.pass(30).await;
    other.launcher.last_of("a").finish(Outcome::Succeeded);
    other.pass(60).await;
    assert!(other.launcher.builds_of("c").is_empty(), "the first in line may still come");
    other.pass(180).await;
    other.launcher.last_of("c").finish(Outcome::Succeeded);
    other.pass_until_phase(30, "c", Phase::Succeeded).await;
    let why = other.status("b").await.why;
    let WhyNotBuilding::Building { phase: Phase::Requested, waits_for: Some(waits_for), .. } = why else {
        panic!("{why:?}")
    };
    assert!(waits_for.contains("launcher gone"), "{waits_for}");
    // It is driven again: it keeps its place.
    stage.pass(60).await;
    assert_eq!(stage.last_build("b").await.phase, Phase::Submitted);
}
