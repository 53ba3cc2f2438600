//! Short scenes, and what is true at their end if every part does what it must.

use crate::play::{LASTS, Play};
use capomastro_core::{
    events::EventKind,
    launch::Outcome,
    model::{Phase, Policy, ReceiptState, RetryOn, RetryPolicy},
    scheduler::TriggerRequest,
};
use capomastro_testkit::{ControllableLauncher, fakes::LaunchAnswer};
use capomastro_tests::{Stage, each_minute, person, polled, shows};
use std::time::Duration;

/// A dependency of a project, built at `r1`.
async fn built(play: Play, names: &[&str]) -> Stage {
    let stage = play.stage(ControllableLauncher::accepting());
    for name in names {
        stage.probe.set(name, "r1");
        stage.define(name, &["website"], each_minute()).await;
    }
    stage.settle().await;
    for name in names {
        stage.end(name, Outcome::Succeeded).await;
    }
    stage
}

/// Lets a source move, and waits until it is launched.
async fn moves(stage: &Stage, name: &str, revision: &str) {
    stage.probe.set(name, revision);
    stage.pass_until(120, async |stage| stage.built(name).last().is_some_and(|last| last == revision)).await;
}

/// What must always hold: one external build for each launch, of the revision that was decided, and a record for it.
async fn accounts(stage: &Stage, name: &str, revisions: &[&str]) {
    assert_eq!(stage.built(name), revisions, "each revision is launched once");
    assert_eq!(stage.launcher.duplicates(), vec![], "no key is launched twice");
    let builds = stage.builds(name).await;
    let recorded: Vec<String> = builds.iter().map(|build| build.revision.to_string()).collect();
    assert_eq!(recorded, revisions, "each launch is recorded");
    for (build, external) in builds.iter().zip(stage.launcher.builds_of(name)) {
        assert_eq!(build.key, external.key(), "the key travels with the build");
        assert_eq!(stage.orphans(build).await, vec![], "nothing turns up late");
    }
    assert!(builds.windows(2).all(|pair| pair[0].fence < pair[1].fence), "fences grow");
    let started = stage.count_events(name, |e| matches!(e, EventKind::BuildStarted { .. })).await;
    let ended = stage.count_events(name, |e| matches!(e, EventKind::BuildEnded { .. })).await;
    let over = builds.iter().filter(|build| build.phase.is_terminal()).count();
    assert_eq!((started, ended), (builds.len(), over), "each step is told once");
}

pub(crate) async fn a_change_is_built_once_and_shown(play: Play) {
    let stage = built(play, &["a", "b"]).await;
    assert_eq!(stage.current("website").await, shows([("a", "r1"), ("b", "r1")]));
    moves(&stage, "a", "r2").await;
    assert!(stage.state("a").await.held.is_some(), "what is built is held");
    stage.end("a", Outcome::Succeeded).await;
    stage.pass(180).await;
    assert_eq!(stage.current("website").await, shows([("a", "r2"), ("b", "r1")]));
    assert!(stage.state("a").await.held.is_none());
    accounts(&stage, "a", &["r1", "r2"]).await;
    accounts(&stage, "b", &["r1"]).await;
    let project = stage.scheduler.project_status("website").await.unwrap();
    assert!(project.open.is_empty(), "what is complete is closed");
    let records = stage.project_builds("website").await;
    assert!(records.iter().all(|record| record.seal.is_some()), "and sealed: {records:#?}");
}

pub(crate) async fn a_push_is_answered(play: Play) {
    let stage = built(play, &["a"]).await;
    stage.probe.set("a", "r2");
    let receipt = stage.push("a").await;
    assert_eq!(stage.built("a"), ["r1", "r2"], "at once, not at the next look");
    let build = stage.running("a").await;
    assert_eq!(stage.got(receipt).await, ReceiptState::Started { build });
}

pub(crate) async fn what_moves_during_a_build_is_built_after_it(play: Play) {
    let stage = built(play, &["a"]).await;
    moves(&stage, "a", "r2").await;
    stage.probe.set("a", "r3");
    stage.pass(130).await;
    assert_eq!(stage.built("a"), ["r1", "r2"], "one at a time");
    stage.end("a", Outcome::Succeeded).await;
    stage.pass(70).await;
    stage.end("a", Outcome::Succeeded).await;
    accounts(&stage, "a", &["r1", "r2", "r3"]).await;
}

pub(crate) async fn a_request_waits_for_its_turn(play: Play) {
    let stage = built(play, &["a"]).await;
    moves(&stage, "a", "r2").await;
    let request = TriggerRequest::manual().by(person()).at("r0".parse().unwrap());
    let receipt = stage.ask("a", request).await;
    assert!(matches!(stage.got(receipt).await, ReceiptState::Waiting { .. }));
    stage.end("a", Outcome::Succeeded).await;
    stage.pass(5).await;
    assert_eq!(stage.built("a"), ["r1", "r2", "r0"]);
}

pub(crate) async fn a_failure_is_not_shown_and_is_tried_again(play: Play) {
    let stage = built(play, &["a"]).await;
    let retries =
        RetryPolicy::default().with_max(1).with_on(RetryOn::Any).with_backoff(Duration::from_secs(60));
    stage.define("a", &["website"], Policy::default().with_retry(retries)).await;
    moves(&stage, "a", "r2").await;
    assert_eq!(stage.end("a", Outcome::Failed).await.phase, Phase::Failed);
    assert_eq!(stage.current("website").await, shows([("a", "r1")]));
    assert_eq!(stage.state("a").await.linked.unwrap().revision.to_string(), "r1");
    stage.pass_until(200, async |stage| stage.built("a").len() == 3).await;
    stage.end("a", Outcome::Succeeded).await;
    assert_eq!(stage.built("a"), ["r1", "r2", "r2"]);
    assert_eq!(stage.current("website").await, shows([("a", "r2")]));
}

pub(crate) async fn a_pin_holds(play: Play) {
    let stage = built(play, &["a"]).await;
    let first = stage.last_build("a").await.id;
    stage.scheduler.pin("website", "a", first).await.unwrap();
    moves(&stage, "a", "r2").await;
    stage.end("a", Outcome::Succeeded).await;
    assert_eq!(stage.current("website").await, shows([("a", "r1")]));
}

pub(crate) async fn a_cancelled_build_is_stopped(play: Play) {
    let stage = built(play, &["a"]).await;
    moves(&stage, "a", "r2").await;
    let build = stage.running("a").await;
    stage.launcher.last_of("a").start();
    stage.pass(10).await;
    stage.scheduler.cancel(build, &person()).await.unwrap();
    stage.pass_until_phase(60, "a", Phase::Cancelled).await;
    assert_eq!(stage.launcher.cancels().len(), 1, "the build system is asked to stop it");
}

pub(crate) async fn silence_says_nothing(play: Play) {
    let stage = built(play, &["a"]).await;
    stage.launcher.answer_next(LaunchAnswer::LoseAnswer);
    moves(&stage, "a", "r2").await;
    stage.launcher.outage(true);
    stage.probe.fail("a", capomastro_core::ErrorKind::Unavailable);
    stage.pass(600).await;
    stage.launcher.outage(false);
    stage.pass(600).await;
    stage.launcher.last_of("a").start();
    stage.pass(60).await;
    assert_eq!(stage.last_build("a").await.phase, Phase::Running);
    stage.launcher.outage(true);
    stage.pass(600).await;
    assert_eq!(stage.last_build("a").await.phase, Phase::Running, "an error is no evidence");
    stage.launcher.outage(false);
    stage.probe.heal("a");
    stage.pass(300).await;
    assert_eq!(stage.end("a", Outcome::Succeeded).await.phase, Phase::Succeeded);
    stage.pass(60).await;
    accounts(&stage, "a", &["r1", "r2"]).await;
}

/// Each of many awaits is the last of a process once.
pub(crate) async fn a_crash_at_any_await_loses_nothing(play: Play) {
    for answer in [LaunchAnswer::Accept, LaunchAnswer::LoseAnswer] {
        for polls in 0.. {
            let stage = play.stage(ControllableLauncher::auto_succeed());
            stage.launcher.answer_next(answer);
            stage.probe.set("a", "r1");
            stage.define("a", &["website"], each_minute()).await;
            let scheduler = play.another(&stage, 100);
            let mut left = polls;
            for _ in 0..8 {
                let (rest, report) = polled(left, scheduler.tick());
                left = rest;
                if report.is_none() {
                    break;
                }
                stage.clock.advance(Duration::from_secs(1));
            }
            drop(scheduler);
            let ended = async |stage: &Stage| {
                stage.builds("a").await.iter().any(|build| build.phase == Phase::Succeeded)
            };
            stage.pass_until(900, ended).await;
            stage.pass(60).await;
            accounts(&stage, "a", &["r1"]).await;
            assert_eq!(stage.current("website").await, shows([("a", "r1")]), "dropped at poll {polls}");
            if left > 0 {
                break;
            }
        }
    }
}

pub(crate) async fn two_schedulers_share_the_work(play: Play) {
    let stage = play.stage(ControllableLauncher::auto_succeed());
    let names: Vec<String> = (0..6).map(|n| format!("d{n}")).collect();
    for name in &names {
        stage.probe.set(name, "r1");
        stage.define(name, &["website"], each_minute()).await;
    }
    let (one, two) = (play.another(&stage, 1), play.another(&stage, 2));
    for _ in 0..60 {
        let (first, second) = futures_util::join!(one.tick(), two.tick());
        first.unwrap();
        second.unwrap();
        stage.clock.advance(Duration::from_secs(1));
    }
    for name in &names {
        assert_eq!(stage.phases(name).await, [Phase::Succeeded]);
        accounts(&stage, name, &["r1"]).await;
    }
    assert_eq!(stage.current("website").await.len(), names.len());
}

pub(crate) async fn a_lock_elsewhere_is_respected(play: Play) {
    let (stage, lock) = play.locked_stage(ControllableLauncher::accepting());
    stage.begin("a", Policy::default()).await;
    let build = stage.last_build("a").await;
    stage.pass(20 * LASTS).await;
    assert_eq!(lock.holder(build.dependency), Some(build.id), "it is renewed");
    stage.end("a", Outcome::Succeeded).await;
    stage.pass(LASTS).await;
    assert_eq!(lock.held(), 0, "it is given back");
    lock.hold_for_stranger(build.dependency, "a stranger");
    stage.probe.set("a", "r2");
    stage.pass(LASTS - 1).await;
    assert_eq!(stage.built("a"), ["r1"], "what a stranger holds is left alone");
    stage.pass(90).await;
    assert_eq!(stage.built("a"), ["r1", "r2"]);
    let lost = stage.count_events("a", |e| matches!(e, EventKind::LeaseLost { .. })).await;
    assert_eq!(lost, 0);
    lock.lose_all();
    stage.pass(2 * LASTS).await;
    let lost = stage.count_events("a", |e| matches!(e, EventKind::LeaseLost { .. })).await;
    assert_eq!(lost, 1, "a lost lease is told");
}
