//! From the record of a build to the build system's yes, no, or silence.

use capomastro_core::{
    ErrorKind,
    events::EventKind,
    launch::{Outcome, Promise},
    model::{OnHeld, Phase, Policy, RetryReason, WhenBlind},
    why::WhyNotBuilding,
};
use capomastro_testkit::{
    ControllableLauncher,
    fakes::{LaunchAnswer, Mode},
};
use capomastro_tests::{Stage, spec, timeouts};
use serde_json::json;
use std::time::Duration;

const SETTLE: u64 = 120;

fn refuse(permanent: bool) -> LaunchAnswer {
    LaunchAnswer::Refuse { permanent }
}

#[tokio::test]
async fn what_is_refused_stays_owed_and_is_tried_again_later_each_time_outside_the_retry_policy() {
    let stage = Stage::new(ControllableLauncher::auto_succeed());
    for _ in 0..3 {
        stage.launcher.answer_next(refuse(false));
    }
    stage.begin("a", Policy::default()).await;
    assert_eq!(stage.phases("a").await, [Phase::Refused]);
    let state = stage.state("a").await;
    let retry = state.retry.clone().expect("A is still owed, though no retries are allowed");
    assert_eq!((retry.reason, retry.refusals, retry.attempt), (RetryReason::LaunchRefused, 1, 0));
    assert_eq!(state.accounted_revision().map(ToString::to_string).as_deref(), Some("r1"));
    assert!(state.held.is_none() && state.last_start.is_none());
    assert!(matches!(stage.status("a").await.why, WhyNotBuilding::LaunchRefused { retry_at: Some(_) }));
    // 60 s, then 120 s, then 240 s.
    for (wait, calls) in [(59, 1), (1, 2), (119, 2), (1, 3), (239, 3), (1, 4)] {
        stage.pass(wait).await;
        assert_eq!(stage.launcher.launch_calls(), calls);
    }
    stage.pass(30).await;
    assert_eq!(stage.phases("a").await.last(), Some(&Phase::Succeeded));
    let keys: std::collections::BTreeSet<_> = stage.builds("a").await.iter().map(|b| b.key).collect();
    assert_eq!(keys.len(), 4, "each is a new build with a key of its own");
    assert_eq!(stage.built("a"), ["r1"]);
    assert_eq!(stage.state("a").await.retry, None);
}

#[tokio::test]
async fn a_permanent_refusal_waits_until_the_job_is_changed() {
    let stage = Stage::new(ControllableLauncher::auto_succeed());
    stage.launcher.answer_next(refuse(true));
    stage.begin("a", Policy::default()).await;
    stage.pass(2 * 3_600).await;
    assert_eq!(stage.launcher.launch_calls(), 1, "no hot loop");
    assert!(matches!(stage.status("a").await.why, WhyNotBuilding::LaunchRefused { retry_at: None }));
    let job = json!({"target": "all"});
    stage.apply(&spec("a", &[], Policy::default()).with_job(job.clone())).await;
    stage.pass(30).await;
    assert_eq!(stage.phases("a").await, [Phase::Refused, Phase::Succeeded]);
    assert_eq!(stage.launcher.launched()[0].job, job);
    stage.apply(&spec("a", &[], Policy::default()).with_job(json!({"target": "docs"}))).await;
    stage.pass(300).await;
    assert_eq!(stage.launcher.launch_calls(), 2, "changing the job alone rebuilds nothing");
}

#[tokio::test]
async fn a_permanent_refusal_waits_until_a_person_asks() {
    let stage = Stage::new(ControllableLauncher::auto_succeed());
    stage.launcher.answer_next(refuse(true));
    stage.begin("a", Policy::default()).await;
    stage.pass(600).await;
    stage.build_now("a", "r1").await;
    stage.pass(30).await;
    assert_eq!(stage.phases("a").await, [Phase::Refused, Phase::Succeeded]);
}

#[tokio::test]
async fn a_refused_build_that_somebody_pinned_to_another_revision_ends_and_is_not_owed() {
    let stage = Stage::new(ControllableLauncher::auto_succeed());
    stage.begin("a", Policy::default()).await;
    stage.pass(30).await;
    stage.launcher.answer_next(refuse(false));
    stage.build_now("a", "r0").await;
    stage.pass(4_000).await;
    assert_eq!(stage.phases("a").await, [Phase::Succeeded, Phase::Refused]);
    assert_eq!(stage.state("a").await.retry, None);
}

#[tokio::test]
async fn many_waiting_builds_that_are_all_refused_end_one_after_the_other() {
    let stage = Stage::new(ControllableLauncher::accepting());
    stage.begin("a", Policy::default().with_on_held(OnHeld::Queue { max: 1_000 })).await;
    for n in 0..400 {
        stage.build_now("a", &format!("old{n}")).await;
        stage.launcher.answer_next(refuse(true));
    }
    stage.launcher.builds()[0].finish(Outcome::Succeeded);
    stage.pass(30).await;
    let state = stage.state("a").await;
    assert_eq!((state.waiting.len(), state.held), (0, None));
    let refused = stage.phases("a").await.iter().filter(|p| **p == Phase::Refused).count();
    assert!(refused >= 199, "{refused} of those that retention keeps");
}

#[tokio::test]
async fn a_lost_answer_is_settled_searched_for_and_adopted() {
    let stage = Stage::new(ControllableLauncher::accepting());
    stage.launcher.answer_next(LaunchAnswer::LoseAnswer);
    stage.begin("a", Policy::default()).await;
    stage.pass(SETTLE - 1).await;
    assert_eq!((stage.launcher.finds(), stage.launcher.launch_calls()), (0, 1), "not before the settle time");
    assert_eq!(stage.phases("a").await, [Phase::Launching]);
    let WhyNotBuilding::Building { waits_for: Some(waits_for), .. } = stage.status("a").await.why else {
        panic!("it is building")
    };
    assert!(waits_for.contains("whether it has the build"), "{waits_for}");
    stage.pass(2).await;
    assert_eq!(stage.phases("a").await, [Phase::Submitted]);
    stage.launcher.last_of("a").finish(Outcome::Succeeded);
    stage.pass(10).await;
    assert_eq!(stage.phases("a").await, [Phase::Succeeded]);
    assert_eq!(stage.launcher.launch_calls(), 1);
}

#[tokio::test]
async fn a_lost_request_is_sent_again_with_the_same_key_once_absence_is_proven() {
    let stage = Stage::new(ControllableLauncher::auto_succeed());
    stage.launcher.answer_next(LaunchAnswer::LoseRequest);
    stage.launcher.answer_next(LaunchAnswer::LoseRequest);
    stage.begin("a", Policy::default()).await;
    stage.pass_until_phase(3 * SETTLE, "a", Phase::Succeeded).await;
    assert_eq!((stage.launcher.launch_calls(), stage.launcher.finds()), (3, 2));
    let builds = stage.builds("a").await;
    assert_eq!(builds.len(), 1);
    assert_eq!(stage.launcher.external_builds(builds[0].key), 1);
}

#[tokio::test]
async fn a_request_that_arrives_late_but_within_the_settle_time_is_found() {
    let stage = Stage::new(ControllableLauncher::auto_succeed());
    stage.launcher.answer_next(LaunchAnswer::Delay(Duration::from_secs(SETTLE - 10)));
    stage.begin("a", Policy::default()).await;
    stage.pass_until_phase(2 * SETTLE, "a", Phase::Succeeded).await;
    assert_eq!((stage.launcher.launch_calls(), stage.launcher.builds().len()), (1, 1));
}

#[tokio::test]
async fn a_launch_that_does_not_answer_in_time_may_have_been_sent() {
    let stage = Stage::new(ControllableLauncher::by_hand());
    stage.probe.set("a", "r1");
    stage.define("a", &[], Policy::default()).await;
    let slow = stage.scheduler.clone();
    let tick = tokio::spawn(async move { slow.tick().await });
    let launch = stage.launcher.next_launch().await;
    stage.clock.until_sleeping(1).await;
    stage.clock.advance(Duration::from_secs(5));
    tick.await.unwrap().unwrap();
    let build = launch.accept();
    assert_eq!(stage.phases("a").await, [Phase::Launching]);
    build.finish(Outcome::Succeeded);
    stage.pass_until_phase(2 * SETTLE, "a", Phase::Succeeded).await;
    assert_eq!(stage.launcher.builds().len(), 1);
}

#[tokio::test]
async fn refused_at_a_later_send_and_then_absent_is_refused() {
    let stage = Stage::new(ControllableLauncher::auto_succeed());
    stage.launcher.answer_next(LaunchAnswer::LoseRequest);
    stage.launcher.answer_next(refuse(true));
    stage.begin("a", Policy::default()).await;
    stage.pass(SETTLE + 2).await;
    assert_eq!(
        stage.phases("a").await,
        [Phase::Launching],
        "the first send may have been taken all the same"
    );
    stage.pass(SETTLE + 2).await;
    assert_eq!(stage.phases("a").await, [Phase::Refused]);
    assert_eq!((stage.launcher.launch_calls(), stage.launcher.finds()), (2, 2));
}

#[tokio::test]
async fn refused_at_a_later_send_and_then_found_is_adopted() {
    let stage = Stage::new(ControllableLauncher::auto_succeed());
    // The first request lies in a proxy for longer than the settle time, and the second is refused.
    stage.launcher.answer_next(LaunchAnswer::Delay(Duration::from_secs(SETTLE + 60)));
    stage.launcher.answer_next(refuse(false));
    stage.begin("a", Policy::default()).await;
    stage.pass_until_phase(3 * SETTLE, "a", Phase::Succeeded).await;
    assert_eq!(stage.phases("a").await, [Phase::Succeeded]);
    assert_eq!(stage.launcher.builds().len(), 1);
}

#[tokio::test]
async fn a_launcher_that_is_idempotent_by_key_is_simply_asked_again() {
    let launcher = ControllableLauncher::auto_succeed().with_promise(Promise::IdempotentByKey);
    let stage = Stage::new(launcher);
    stage.launcher.answer_next(LaunchAnswer::LoseAnswer);
    stage.begin("a", Policy::default()).await;
    stage.pass(20).await;
    assert_eq!(stage.phases("a").await, [Phase::Succeeded], "without a settle time");
    assert_eq!((stage.launcher.finds(), stage.launcher.builds().len()), (0, 1));
    // Refused at the later send: only a search tells.
    stage.launcher.answer_next(LaunchAnswer::LoseRequest);
    stage.launcher.answer_next(refuse(true));
    stage.probe.set("a", "r2");
    stage.pass(240).await;
    assert_eq!(stage.phases("a").await, [Phase::Succeeded, Phase::Refused]);
    assert_eq!(stage.launcher.finds(), 1);
}

#[tokio::test]
async fn a_blind_launcher_loses_a_build_or_builds_it_twice_as_the_policy_says() {
    let blind = || ControllableLauncher::auto_succeed().with_promise(Promise::Blind);
    let stage = Stage::new(blind());
    stage.launcher.answer_next(LaunchAnswer::LoseAnswer);
    stage.begin("a", Policy::default().with_when_blind(Some(WhenBlind::AtMostOnce))).await;
    stage.pass(600).await;
    assert_eq!(stage.phases("a").await, [Phase::Lost]);
    assert_eq!(stage.launcher.launch_calls(), 1);
    assert_eq!(stage.count_events("a", |e| matches!(e, EventKind::MayStillRun { .. })).await, 1);

    let stage = Stage::new(blind());
    stage.launcher.answer_next(LaunchAnswer::LoseAnswer);
    stage.begin("a", Policy::default().with_when_blind(Some(WhenBlind::AtLeastOnce))).await;
    stage.pass(30).await;
    assert_eq!(stage.phases("a").await, [Phase::Succeeded]);
    assert_eq!(stage.launcher.duplicates().len(), 1, "that is the price");
}

#[tokio::test]
async fn a_blind_launcher_needs_a_choice() {
    let stage = Stage::new(ControllableLauncher::auto_succeed().with_promise(Promise::Blind));
    let refused = stage.scheduler.apply(&spec("a", &[], Policy::default())).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidConfig);
}

#[tokio::test]
async fn a_send_that_is_known_not_to_have_happened_is_repeated_and_counts_as_none() {
    let stage = Stage::new(ControllableLauncher::auto_succeed());
    stage.launcher.answer_next(LaunchAnswer::Fail(ErrorKind::Unavailable));
    stage.launcher.answer_next(LaunchAnswer::Fail(ErrorKind::Unavailable));
    stage.launcher.answer_next(refuse(true));
    stage.begin("a", Policy::default()).await;
    let build = stage.last_build("a").await;
    assert_eq!((build.phase, build.sends), (Phase::Launching, 0));
    stage.pass(10).await;
    assert_eq!(
        stage.phases("a").await,
        [Phase::Refused],
        "the third send is the first that may have arrived"
    );
    assert_eq!(stage.launcher.finds(), 0);
}

#[tokio::test]
async fn a_long_outage_holds_a_launch_up_without_a_hot_loop_and_ends_nothing() {
    let stage = Stage::new(ControllableLauncher::auto_succeed());
    stage.launcher.outage(true);
    stage.begin("a", Policy::default()).await;
    stage.pass(3_600).await;
    assert_eq!(stage.phases("a").await, [Phase::Launching]);
    let calls = stage.launcher.launch_calls();
    assert!((60..75).contains(&calls), "{calls} in an hour");
    stage.launcher.outage(false);
    stage.pass(90).await;
    assert_eq!(stage.phases("a").await, [Phase::Succeeded]);
}

#[tokio::test]
async fn what_cannot_be_told_is_lost_after_a_while_of_contact() {
    let stage = Stage::new(ControllableLauncher::auto_succeed());
    stage.launcher.answer_next(LaunchAnswer::LoseRequest);
    stage.launcher.inconclusive(Some(Duration::from_secs(20)));
    stage.begin("a", timeouts(|t| t.lost_after = Duration::from_secs(300))).await;
    stage.pass(SETTLE + 290).await;
    assert_eq!(stage.phases("a").await, [Phase::Launching]);
    stage.pass(40).await;
    assert_eq!(stage.phases("a").await, [Phase::Lost]);
    assert_eq!(stage.launcher.launch_calls(), 1, "no other send without a proof");
    assert_eq!(stage.count_events("a", |e| matches!(e, EventKind::MayStillRun { .. })).await, 1);
}

#[tokio::test]
async fn an_outage_while_searching_is_no_evidence() {
    let stage = Stage::new(ControllableLauncher::accepting());
    stage.launcher.answer_next(LaunchAnswer::LoseAnswer);
    stage.launcher.inconclusive(Some(Duration::from_secs(20)));
    stage.begin("a", timeouts(|t| t.lost_after = Duration::from_secs(300))).await;
    stage.pass(SETTLE + 60).await;
    stage.launcher.outage(true);
    stage.pass(3_600).await;
    stage.launcher.outage(false);
    stage.pass(100).await;
    assert_eq!(stage.phases("a").await, [Phase::Launching]);
    stage.launcher.inconclusive(None);
    stage.pass(60).await;
    assert_eq!(stage.phases("a").await, [Phase::Submitted]);
}

#[tokio::test]
async fn a_cancel_before_anything_was_sent_ends_at_once() {
    let stage = Stage::with(ControllableLauncher::accepting(), |b| b.overall_limit(1));
    stage.begin("a", Policy::default()).await;
    stage.begin("b", Policy::default()).await;
    let waiting = stage.last_build("b").await;
    assert_eq!(waiting.phase, Phase::Requested);
    let by = capomastro_tests::person();
    let answer = stage.scheduler.cancel(waiting.id, &by).await.unwrap();
    assert_eq!(answer, capomastro_core::scheduler::Cancelled::AtOnce);
    stage.pass(600).await;
    assert_eq!(stage.phases("b").await, [Phase::Cancelled], "it is not retried");
    assert!(stage.built("b").is_empty());
}

#[tokio::test]
async fn a_cancel_of_a_launch_of_unknown_outcome_ends_it_whatever_is_found() {
    for (answer, found) in [(LaunchAnswer::LoseAnswer, true), (LaunchAnswer::LoseRequest, false)] {
        let stage = Stage::new(ControllableLauncher::accepting());
        stage.launcher.answer_next(answer);
        stage.begin("a", Policy::default()).await;
        stage.scheduler.cancel(stage.last_build("a").await.id, &capomastro_tests::person()).await.unwrap();
        stage.pass(2 * SETTLE).await;
        assert_eq!(stage.phases("a").await, [Phase::Cancelled]);
        assert_eq!(stage.launcher.launch_calls(), 1, "nothing is sent after a cancel");
        assert_eq!(stage.launcher.cancels().len(), usize::from(found));
        assert!(stage.launcher.builds().iter().all(capomastro_testkit::fakes::FakeBuild::is_ended));
    }
}

#[tokio::test]
async fn a_cancel_during_the_send_wins_over_a_refusal() {
    let stage = Stage::new(ControllableLauncher::by_hand());
    stage.probe.set("a", "r1");
    stage.define("a", &[], Policy::default()).await;
    let driver = stage.scheduler.clone();
    let tick = tokio::spawn(async move { driver.tick().await });
    let launch = stage.launcher.next_launch().await;
    stage.scheduler.cancel(stage.last_build("a").await.id, &capomastro_tests::person()).await.unwrap();
    launch.refuse(false);
    tick.await.unwrap().unwrap();
    stage.launcher.set_mode(Mode::Accept);
    stage.pass(600).await;
    assert_eq!(stage.phases("a").await, [Phase::Cancelled], "and is not tried again");
    assert!(stage.launcher.builds().is_empty());
}

#[tokio::test]
async fn a_cancelled_launch_in_an_endless_outage_is_given_up_after_the_grace() {
    let stage = Stage::new(ControllableLauncher::accepting());
    stage.launcher.answer_next(LaunchAnswer::LoseAnswer);
    stage.begin("a", timeouts(|t| t.stop = Duration::from_secs(300))).await;
    stage.scheduler.cancel(stage.last_build("a").await.id, &capomastro_tests::person()).await.unwrap();
    stage.launcher.outage(true);
    stage.pass(290).await;
    assert_eq!(stage.phases("a").await, [Phase::Launching]);
    stage.pass(80).await;
    assert_eq!(stage.phases("a").await, [Phase::Cancelled]);
    assert_eq!(stage.count_events("a", |e| matches!(e, EventKind::MayStillRun { .. })).await, 1);
}
