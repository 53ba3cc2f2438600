//! Cancelling, withdrawing, retrying, pausing, resuming, breaking locks.

use capomastro_core::{
    ErrorKind,
    events::EventKind,
    launch::Outcome,
    model::{EndReason, First, OnHeld, Phase, Policy, ReceiptId, ReceiptState},
    scheduler::{Cancelled, TriggerRequest, WholeBuildRequest, Withdrawn},
    time::Clock as _,
    why::WhyNotBuilding,
};
use capomastro_testkit::{
    ControllableLauncher, ExpiringLock, ScriptedProbe, SeededRandom, fakes::LaunchAnswer,
};
use capomastro_tests::{Stage, each_minute, plain_spec, revision, somebody};
use std::sync::Arc;

/// A stage on which r1 of "lib" is being built.
async fn building(policy: Policy) -> Stage {
    let s = Stage::new(ControllableLauncher::accepting());
    s.probe.set("lib", "r1");
    s.define("lib", &[], policy).await;
    s.settle().await;
    assert_eq!(s.built("lib"), ["r1"]);
    s
}

#[tokio::test]
async fn what_is_not_sent_is_cancelled_at_once() {
    let s = Stage::with(ControllableLauncher::accepting(), |b| b.overall_limit(1));
    for name in ["a", "b"] {
        s.probe.set(name, "r1");
        s.define(name, &[], each_minute()).await;
        s.settle().await;
    }
    let waits = s.running("b").await;
    assert!(s.built("b").is_empty());
    assert_eq!(s.scheduler.cancel(waits, &somebody()).await.unwrap(), Cancelled::AtOnce);
    assert_eq!(s.scheduler.cancel(waits, &somebody()).await.unwrap(), Cancelled::TooLate(Phase::Cancelled));
    assert_eq!(s.state("b").await.held, None);
    s.end("a", Outcome::Succeeded).await;
    s.pass(200).await;
    assert!(s.built("b").is_empty(), "a cancelled build is not made again by itself");
    assert!(matches!(s.why("b").await, WhyNotBuilding::LastBuildFailed { phase: Phase::Cancelled, .. }));
}

#[tokio::test]
async fn what_runs_is_asked_to_stop_and_what_it_reports_counts() {
    let s = building(each_minute()).await;
    let build = s.running("lib").await;
    s.launcher.ignore_cancels(true);
    assert_eq!(s.scheduler.cancel(build, &somebody()).await.unwrap(), Cancelled::Asked);
    assert_eq!(s.scheduler.cancel(build, &somebody()).await.unwrap(), Cancelled::Asked);
    assert_eq!(s.times(|k| matches!(k, EventKind::BuildStopping { .. })).await, 1);
    s.settle().await;
    let ended = s.end("lib", Outcome::Succeeded).await;
    assert_eq!(ended.phase, Phase::Succeeded, "success stands");
    assert_eq!(s.state("lib").await.linked.unwrap().build, build);
}

#[tokio::test]
async fn after_a_cancel_the_same_revision_is_a_new_build() {
    let s = building(each_minute()).await;
    let first = s.running("lib").await;
    s.launcher.ignore_cancels(true);
    s.scheduler.cancel(first, &somebody()).await.unwrap();
    let asked = s.manual_at("lib", "r1").await;
    assert_eq!(
        s.got(asked).await,
        ReceiptState::Waiting { behind: Some(first) },
        "nothing joins it any more"
    );
    s.end("lib", Outcome::Cancelled).await;
    let second = s.running("lib").await;
    assert_ne!(first, second);
    assert_eq!(s.got(asked).await, ReceiptState::Started { build: second });
    assert_eq!(s.built("lib"), ["r1", "r1"]);
}

#[tokio::test]
async fn a_retry_builds_the_same_again() {
    let s = building(each_minute()).await;
    s.end("lib", Outcome::Failed).await;
    let request = TriggerRequest::manual().at(revision("r0")).with_parameter("p", "1");
    s.ask("lib", request).await;
    let odd = s.end("lib", Outcome::Failed).await;
    let receipt = s.scheduler.retry(odd.id, &somebody()).await.unwrap();
    s.settle().await;
    assert_eq!(s.got(receipt).await, ReceiptState::Started { build: s.running("lib").await });
    let again = s.end("lib", Outcome::Succeeded).await;
    assert_eq!((&again.revision, &again.parameters), (&odd.revision, &odd.parameters));
    assert_ne!(again.key, odd.key, "a new build has a new key");
    assert_eq!(again.causes[0].requester, Some(somebody()));
    let running = s.scheduler.retry(odd.id, &somebody()).await.unwrap();
    assert!(matches!(s.got(running).await, ReceiptState::Started { .. }));
    let joined = s.scheduler.retry(odd.id, &somebody()).await.unwrap();
    assert!(matches!(s.got(joined).await, ReceiptState::Joined { .. }));
    s.scheduler.pause("lib", &somebody(), "").await.unwrap();
    assert_eq!(s.scheduler.retry(odd.id, &somebody()).await.unwrap_err().kind(), ErrorKind::Paused);
    let none = receipt.to_string().parse().unwrap();
    assert_eq!(s.scheduler.retry(none, &somebody()).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(s.scheduler.cancel(none, &somebody()).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_build_of_another_source_is_not_repeated() {
    let s = building(each_minute()).await;
    let old = s.end("lib", Outcome::Failed).await;
    s.probe.set("fork", "x1");
    let mut fork = plain_spec("lib", each_minute());
    fork.source = ScriptedProbe::source("fork");
    s.scheduler.apply(&fork).await.unwrap();
    s.settle().await;
    s.end("lib", Outcome::Succeeded).await;
    let refused = s.scheduler.retry(old.id, &somebody()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.message().contains("trigger the dependency"), "{refused}");
    s.settle().await;
    assert_eq!(s.built("lib"), ["r1", "x1"]);
}

#[tokio::test]
async fn a_permanent_refusal_waits_for_a_person() {
    let s = Stage::new(ControllableLauncher::accepting());
    s.probe.set("lib", "r1");
    s.launcher.answer_next(LaunchAnswer::Refuse { permanent: true });
    s.define("lib", &[], each_minute()).await;
    s.pass(500).await;
    assert!(s.built("lib").is_empty());
    assert_eq!(s.launcher.launch_calls(), 1, "no hot loop");
    assert_eq!(s.why("lib").await, WhyNotBuilding::LaunchRefused { retry_at: None });
    let refused = s.builds("lib").await[0].id;
    let receipt = s.scheduler.retry(refused, &somebody()).await.unwrap();
    s.settle().await;
    assert!(matches!(s.got(receipt).await, ReceiptState::Started { .. }));
    assert_eq!(s.built("lib"), ["r1"]);
    assert!(s.state("lib").await.retry.is_none());
}

#[tokio::test]
async fn a_permanent_refusal_waits_for_another_job() {
    let s = Stage::new(ControllableLauncher::accepting());
    s.probe.set("lib", "r1");
    s.launcher.answer_next(LaunchAnswer::Refuse { permanent: true });
    s.define("lib", &[], each_minute()).await;
    s.pass(100).await;
    let mended = plain_spec("lib", each_minute()).with_job("mended");
    s.scheduler.apply(&mended).await.unwrap();
    s.settle().await;
    assert_eq!(s.built("lib"), ["r1"]);
    assert_eq!(s.launcher.last_of("lib").request().job, "mended");
}

#[tokio::test]
async fn nothing_starts_while_paused_and_all_starts_in_order_after() {
    let s = building(each_minute()).await;
    let waits = [s.manual_at("lib", "p1").await, s.manual_at("lib", "p2").await];
    s.scheduler.pause("lib", &somebody(), "broken").await.unwrap();
    s.probe.set("lib", "r2");
    s.end("lib", Outcome::Succeeded).await;
    s.pass(200).await;
    assert_eq!(s.built("lib"), ["r1"]);
    for receipt in waits {
        assert!(matches!(s.got(receipt).await, ReceiptState::Waiting { .. }), "it stays, visibly");
    }
    assert!(matches!(s.why("lib").await, WhyNotBuilding::Paused(p) if p.reason == "broken"));
    s.scheduler.resume("lib").await.unwrap();
    s.settle().await;
    assert_eq!(s.built("lib"), ["r1", "p1"], "decided in the call");
    s.end("lib", Outcome::Succeeded).await;
    s.end("lib", Outcome::Succeeded).await;
    s.end("lib", Outcome::Succeeded).await;
    assert_eq!(s.built("lib"), ["r1", "p1", "p2", "r2"], "then the debt");
    s.pass(100).await;
    assert_eq!(s.built("lib").len(), 4);
}

#[tokio::test]
async fn only_the_newest_of_what_came_while_paused_is_built() {
    let s = building(each_minute()).await;
    s.end("lib", Outcome::Succeeded).await;
    s.scheduler.pause("lib", &somebody(), "").await.unwrap();
    for at in ["r2", "r3", "r1", "r4"] {
        s.probe.set("lib", at);
        s.pass(70).await;
    }
    s.scheduler.resume("lib").await.unwrap();
    s.settle().await;
    assert_eq!(s.built("lib"), ["r1", "r4"]);
}

#[tokio::test]
async fn pausing_looking_and_resuming_is_still_first_under_baseline() {
    let s = Stage::new(ControllableLauncher::accepting());
    s.probe.set("lib", "r1");
    s.define("lib", &[], each_minute().with_first(First::Baseline)).await;
    s.scheduler.pause("lib", &somebody(), "").await.unwrap();
    s.pass(130).await;
    assert!(s.state("lib").await.observed.is_some());
    s.scheduler.resume("lib").await.unwrap();
    s.pass(130).await;
    assert!(s.built("lib").is_empty());
    assert_eq!(s.why("lib").await, WhyNotBuilding::UpToDate);
    s.probe.set("lib", "r2");
    s.pass(70).await;
    assert_eq!(s.built("lib"), ["r2"]);
}

#[tokio::test]
async fn pausing_and_resuming_may_be_repeated() {
    let s = building(each_minute()).await;
    for reason in ["one", "two"] {
        s.scheduler.pause("lib", &somebody(), reason).await.unwrap();
    }
    assert_eq!(s.state("lib").await.paused.unwrap().reason, "two");
    s.scheduler.resume("lib").await.unwrap();
    let before = s.happened().await.len();
    s.scheduler.resume("lib").await.unwrap();
    assert_eq!(s.happened().await.len(), before);
    for refused in ["a\nb", &"x".repeat(1_001)] {
        let refused = s.scheduler.pause("lib", &somebody(), refused).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(s.scheduler.resume("none").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(s.scheduler.pause("none", &somebody(), "").await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_retry_owed_waits_out_a_pause() {
    let mut policy = each_minute();
    policy.retry.max = 1;
    policy.retry.on = capomastro_core::model::RetryOn::Any;
    let s = building(policy).await;
    s.end("lib", Outcome::Failed).await;
    assert!(matches!(s.why("lib").await, WhyNotBuilding::RetryOwed { at: Some(_) }));
    s.scheduler.pause("lib", &somebody(), "").await.unwrap();
    s.pass(300).await;
    assert_eq!(s.built("lib"), ["r1"]);
    s.scheduler.resume("lib").await.unwrap();
    s.settle().await;
    assert_eq!(s.built("lib"), ["r1", "r1"]);
    s.end("lib", Outcome::Failed).await;
    s.pass(300).await;
    assert_eq!(s.built("lib"), ["r1", "r1"], "one retry is one retry");
}

#[tokio::test]
async fn breaking_a_lock_is_loud_frees_and_goes_on() {
    let mut policy = each_minute();
    policy.retry.max = 5;
    let s = building(policy).await;
    s.probe.set("lib", "r2");
    s.push("lib").await;
    let waits = s.manual_at("lib", "p1").await;
    let stuck = s.running("lib").await;
    assert_eq!(s.scheduler.break_lock("lib", &somebody(), "stuck").await.unwrap(), stuck);
    let broken = s.scheduler.build(stuck).await.unwrap();
    assert_eq!((broken.phase, broken.good), (Phase::Lost, false));
    assert!(broken.message.unwrap().contains("stuck"));
    let happened = s.happened().await;
    assert!(happened.iter().any(
        |k| matches!(k, EventKind::LockBroken { build, by, reason } if (*build, by.as_str(), reason.as_str()) == (stuck, "somebody", "stuck"))
    ));
    assert!(happened.contains(&EventKind::MayStillRun { build: stuck }));
    s.settle().await;
    assert!(matches!(s.got(waits).await, ReceiptState::Started { .. }), "the release is evaluated");
    s.launcher.builds_of("lib")[0].finish(Outcome::Succeeded);
    s.pass(30).await;
    assert_eq!(s.scheduler.build(stuck).await.unwrap().phase, Phase::Lost, "the first end stays");
    s.end("lib", Outcome::Succeeded).await;
    s.end("lib", Outcome::Succeeded).await;
    s.pass(1_000).await;
    assert_eq!(s.built("lib"), ["r1", "p1", "r2"], "what was broken is not retried");
}

#[tokio::test]
async fn only_what_is_held_can_be_broken() {
    let s = building(each_minute()).await;
    s.end("lib", Outcome::Succeeded).await;
    for name in ["lib", "none"] {
        let refused = s.scheduler.break_lock(name, &somebody(), "why not").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotFound, "{name}");
    }
    let refused = s.scheduler.break_lock("lib", &somebody(), "a\nb").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_lock_that_is_kept_elsewhere_is_broken_when_it_answers() {
    let clock = capomastro_testkit::ManualClock::new();
    let lock = ExpiringLock::new(Arc::new(clock.clone()), std::time::Duration::from_secs(30));
    let store = Arc::new(capomastro_core::InMemoryStore::new(Arc::new(clock.clone())));
    let launcher = ControllableLauncher::accepting();
    let probe = ScriptedProbe::new();
    let s = Stage::over(store, clock, probe, launcher, |b| b.lock(Arc::new(lock.clone())));
    s.probe.set("lib", "r1");
    s.define("lib", &[], each_minute()).await;
    s.settle().await;
    s.end("lib", Outcome::Succeeded).await;
    s.pass(10).await;
    assert_eq!(
        s.scheduler.break_lock("lib", &somebody(), "x").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    s.manual("lib").await;
    let stuck = s.running("lib").await;
    lock.unreachable(true);
    assert_eq!(s.scheduler.break_lock("lib", &somebody(), "stuck").await.unwrap(), stuck);
    assert_eq!(s.state("lib").await.held, None);
    lock.unreachable(false);
    s.pass_until(60, async |_| lock.held() == 0).await;
    s.manual("lib").await;
    s.pass(20).await;
    assert_ne!(
        s.running("lib").await,
        stuck,
        "the lock that is kept elsewhere was taken over and given back"
    );
}

#[tokio::test]
async fn cancelling_what_others_wait_behind_lets_them_go() {
    let s = building(each_minute().with_on_held(OnHeld::Queue { max: 3 })).await;
    s.probe.set("lib", "r2");
    s.push("lib").await;
    let build = s.running("lib").await;
    s.scheduler.cancel(build, &somebody()).await.unwrap();
    assert_eq!(s.ended(build).await.phase, Phase::Cancelled);
    assert_eq!(s.built("lib"), ["r1", "r2"]);
}

#[tokio::test]
async fn a_cancelled_build_is_accounted_for_and_a_trigger_builds_it() {
    let s = building(each_minute()).await;
    let build = s.running("lib").await;
    s.scheduler.cancel(build, &somebody()).await.unwrap();
    s.ended(build).await;
    s.pass(200).await;
    let pushed = s.push("lib").await;
    assert_eq!(s.got(pushed).await, ReceiptState::Ended { reason: EndReason::Unchanged });
    s.manual("lib").await;
    assert_eq!(s.built("lib"), ["r1", "r1"]);
}

#[tokio::test]
async fn a_build_of_an_old_revision_stands_until_the_source_moves() {
    let s = building(each_minute()).await;
    s.end("lib", Outcome::Succeeded).await;
    s.manual_at("lib", "r0").await;
    let old = s.end("lib", Outcome::Succeeded).await;
    s.pass(300).await;
    assert_eq!(s.built("lib"), ["r1", "r0"]);
    assert_eq!(s.state("lib").await.linked.unwrap().build, old.id);
    assert_eq!(s.why("lib").await, WhyNotBuilding::HeldAt { revision: revision("r0"), by: old.id });
    s.probe.set("lib", "r2");
    s.pass(70).await;
    assert_eq!(s.built("lib"), ["r1", "r0", "r2"]);
}

#[tokio::test]
async fn a_trigger_that_waits_its_turn_can_be_withdrawn() {
    let s = building(each_minute().with_on_held(OnHeld::Queue { max: 16 })).await;
    let first = s.manual_at("lib", "r7").await;
    let second = s.manual_at("lib", "r8").await;
    let withdrawn = EndReason::Withdrawn { by: somebody() };
    assert_eq!(s.scheduler.withdraw(first, &somebody()).await.unwrap(), Withdrawn::Done);
    assert_eq!(s.got(first).await, ReceiptState::Ended { reason: withdrawn.clone() });
    let told = |k: &EventKind| matches!(k, EventKind::RequestEnded { receipts, reason } if *receipts == [first] && *reason == withdrawn);
    assert_eq!(s.count_events("lib", told).await, 1);
    let again = s.scheduler.withdraw(first, &somebody()).await.unwrap();
    assert_eq!(again, Withdrawn::TooLate(ReceiptState::Ended { reason: withdrawn }));
    s.end("lib", Outcome::Succeeded).await;
    assert_eq!(s.built("lib"), ["r1", "r8"]);
    let started = s.scheduler.withdraw(second, &somebody()).await.unwrap();
    assert_eq!(started, Withdrawn::TooLate(ReceiptState::Started { build: s.running("lib").await }));
    let unknown = ReceiptId::draw(s.clock.now(), &SeededRandom::new(1));
    let refused = s.scheduler.withdraw(unknown, &somebody()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn what_others_asked_for_in_the_same_request_stays() {
    let s = building(each_minute().with_on_held(OnHeld::Coalesce)).await;
    s.probe.set("lib", "r2");
    let (mine, theirs) = (s.manual("lib").await, s.manual("lib").await);
    assert_eq!(s.state("lib").await.waiting.len(), 1);
    assert_eq!(s.scheduler.withdraw(mine, &somebody()).await.unwrap(), Withdrawn::Done);
    s.end("lib", Outcome::Succeeded).await;
    assert_eq!(s.built("lib"), ["r1", "r2"]);
    assert_eq!(s.got(theirs).await, ReceiptState::Started { build: s.running("lib").await });
    assert!(matches!(s.got(mine).await, ReceiptState::Ended { .. }));
}

#[tokio::test]
async fn a_trigger_that_awaits_a_look_can_be_withdrawn_even_during_it() {
    let s = building(each_minute()).await;
    s.end("lib", Outcome::Succeeded).await;
    let request = || TriggerRequest::manual().by(somebody());
    let before = s.scheduler.trigger("lib", request()).await.unwrap();
    assert_eq!(s.scheduler.withdraw(before, &somebody()).await.unwrap(), Withdrawn::Done);
    s.settle().await;
    assert_eq!(s.built("lib"), ["r1"]);

    s.probe.hang("lib");
    let asked = s.probe.asked("lib");
    let during = s.scheduler.trigger("lib", request()).await.unwrap();
    let looking = s.clone();
    let ticking = tokio::spawn(async move { looking.settle().await });
    s.probe.until_asked("lib", asked + 1).await;
    assert_eq!(s.scheduler.withdraw(during, &somebody()).await.unwrap(), Withdrawn::Done);
    s.probe.release("lib");
    ticking.await.unwrap();
    assert_eq!(s.built("lib"), ["r1"]);
    assert!(matches!(s.got(during).await, ReceiptState::Ended { reason: EndReason::Withdrawn { .. } }));
}

#[tokio::test]
async fn a_slot_that_awaits_a_withdrawn_trigger_says_so() {
    let s = Stage::new(ControllableLauncher::accepting());
    for name in ["a", "b"] {
        s.probe.set(name, "r1");
        s.define(name, &["site"], each_minute().with_on_held(OnHeld::Queue { max: 16 })).await;
    }
    s.settle().await;
    s.probe.set("a", "r2");
    s.probe.set("b", "r2");
    let whole = s.scheduler.build_project("site", &WholeBuildRequest::all().by(somebody())).await.unwrap();
    s.settle().await;
    let of_a = s.state("a").await.waiting[0].causes[0].receipt.unwrap();
    assert_eq!(s.scheduler.withdraw(of_a, &somebody()).await.unwrap(), Withdrawn::Done);
    for name in ["a", "b", "b"] {
        s.end(name, Outcome::Succeeded).await;
    }
    let (builds, _) = s.scheduler.project_history("site", None, 10).await.unwrap();
    let sealed = builds.iter().find(|b| b.id == whole.project_build).unwrap();
    assert!(sealed.seal.is_some(), "{sealed:#?}");
    assert!(format!("{sealed:?}").contains("withdrawn"), "{sealed:#?}");
    assert_eq!(s.built("b"), ["r1", "r2"]);
    s.pass(60).await;
    assert_eq!(s.built("a"), ["r1", "r2"], "the change is built all the same");
}
