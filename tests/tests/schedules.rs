//! When sources are looked at, and what happens where they cannot be.

use async_trait::async_trait;
use capomastro_core::{
    ErrorKind, Result,
    budget::Budget,
    events::EventKind,
    launch::Outcome,
    model::{Health, Policy, ProbeKey, ReceiptState, Source, Trigger},
    probe::{Ask, Probed, RevisionProbe},
    schedule::Schedule,
    scheduler::{DependencySpec, TriggerRequest},
    why::WhyNotBuilding,
};
use capomastro_testkit::{ControllableLauncher, ScriptedProbe};
use capomastro_tests::{Stage, each_minute, plain_spec, revision};
use chrono::TimeDelta;
use futures_util::FutureExt;
use std::{sync::Arc, time::Duration};

const HOUR: u64 = 3_600;

fn cron(expression: &str, zone: &str) -> Schedule {
    Schedule::Cron { expression: expression.into(), zone: zone.into() }
}

fn stage() -> Stage {
    Stage::new(ControllableLauncher::auto_succeed())
}

#[tokio::test]
async fn an_interval_is_kept_whatever_else_is_looked_at() {
    let s = stage();
    s.probe.set("lib", "r1");
    s.define("lib", &[], each_minute()).await;
    s.pass(600).await;
    assert!((10..=11).contains(&s.probe.asked("lib")), "{}", s.probe.asked("lib"));
    s.push("lib").await;
    let asked = s.probe.asked("lib");
    s.pass(600).await;
    assert_eq!(s.probe.asked("lib"), asked + 10);
}

#[tokio::test]
async fn what_never_looks_by_itself_looks_when_it_is_told() {
    let s = stage();
    s.probe.set("lib", "r1");
    s.scheduler.apply(&plain_spec("lib", Policy::default().with_look(Schedule::Never))).await.unwrap();
    s.pass(10).await;
    let asked = s.probe.asked("lib");
    s.skip(Duration::from_secs(400 * 24 * HOUR)).await;
    assert_eq!(s.probe.asked("lib"), asked);
    s.probe.set("lib", "r2");
    s.push("lib").await;
    assert_eq!(s.built("lib"), ["r1", "r2"]);
}

#[tokio::test]
async fn a_cron_look_comes_at_its_minute_in_its_zone() {
    let s = stage();
    s.probe.set("lib", "r1");
    // It is noon in UTC and one o'clock in Rome.
    s.scheduler
        .apply(&plain_spec("lib", Policy::default().with_look(cron("30 13 * * *", "Europe/Rome"))))
        .await
        .unwrap();
    s.pass(10).await;
    s.probe.set("lib", "r2");
    s.pass(1_700).await;
    assert_eq!(s.built("lib"), ["r1"]);
    s.pass(100).await;
    assert_eq!(s.built("lib"), ["r1", "r2"]);
}

#[tokio::test]
async fn builds_regardless_come_on_time_and_missed_ones_as_one() {
    let s = stage();
    s.probe.set("lib", "r1");
    let policy = each_minute().with_build_regardless(cron("0 * * * *", "UTC"));
    s.define("lib", &[], policy).await;
    s.pass(10).await;
    assert_eq!(s.built("lib").len(), 1);
    s.pass(HOUR - 20).await;
    assert_eq!(s.built("lib").len(), 1);
    s.pass(30).await;
    assert_eq!(s.built("lib").len(), 2, "at one o'clock though nothing changed");
    assert_eq!(s.builds("lib").await[1].causes[0].trigger, Trigger::Schedule);
    s.skip(Duration::from_secs(5 * HOUR)).await;
    s.pass(60).await;
    assert_eq!(s.built("lib").len(), 3, "five missed ticks are one");
    s.pass(HOUR).await;
    assert_eq!(s.built("lib").len(), 4);
}

#[tokio::test]
async fn a_build_regardless_of_a_source_that_is_gone_or_fails_waits_without_haste() {
    for gone in [true, false] {
        let s = stage();
        s.probe.set("lib", "r1");
        let policy = each_minute().with_build_regardless(Schedule::Every(Duration::from_secs(300)));
        s.define("lib", &[], policy).await;
        s.pass(10).await;
        match gone {
            true => s.probe.gone("lib"),
            false => s.probe.fail("lib", ErrorKind::Unavailable),
        }
        let asked = s.probe.asked("lib");
        s.pass(1_200).await;
        assert!(s.probe.asked("lib") - asked <= 30, "gone {gone}: {} looks", s.probe.asked("lib") - asked);
        assert_eq!(s.built("lib").len(), 1);
        s.probe.heal("lib");
        s.probe.set("lib", "r1");
        s.pass(HOUR).await;
        assert!(s.built("lib").len() >= 2, "gone {gone}: it goes on afterwards");
    }
}

#[tokio::test]
async fn a_build_regardless_obeys_a_pause_and_a_running_build() {
    let s = Stage::new(ControllableLauncher::accepting());
    s.probe.set("lib", "r1");
    let policy = each_minute().with_build_regardless(Schedule::Every(Duration::from_secs(120)));
    s.define("lib", &[], policy).await;
    s.pass(500).await;
    assert_eq!(s.built("lib").len(), 1, "joined to what runs");
    s.scheduler.pause("lib", &capomastro_tests::somebody(), "").await.unwrap();
    s.end("lib", Outcome::Succeeded).await;
    s.pass(500).await;
    assert_eq!(s.built("lib").len(), 1);
    s.scheduler.resume("lib").await.unwrap();
    s.pass(130).await;
    assert_eq!(s.built("lib").len(), 2);
}

#[tokio::test]
async fn switching_builds_regardless_off_stops_them() {
    let s = stage();
    s.probe.set("lib", "r1");
    let policy = each_minute().with_build_regardless(Schedule::Every(Duration::from_secs(120)));
    s.define("lib", &[], policy).await;
    s.pass(200).await;
    s.define("lib", &[], each_minute()).await;
    let built = s.built("lib").len();
    s.pass(600).await;
    assert_eq!(s.built("lib").len(), built);
}

#[tokio::test]
async fn failures_back_off_and_success_goes_back_to_the_interval() {
    let s = stage();
    s.probe.set("lib", "r1");
    s.define("lib", &[], each_minute()).await;
    s.pass(10).await;
    s.probe.fail("lib", ErrorKind::Unavailable);
    let asked = s.probe.asked("lib");
    s.pass(HOUR).await;
    let looks = s.probe.asked("lib") - asked;
    assert!((5..=8).contains(&looks), "{looks}");
    assert!(
        matches!(s.why("lib").await, WhyNotBuilding::ProbeFailing { failures, .. } if failures as usize == looks)
    );
    s.pass(10 * HOUR).await;
    assert!(s.probe.asked("lib") - asked - looks >= 9, "an hour is the longest");
    s.probe.set("lib", "r2");
    s.probe.heal("lib");
    s.pass(HOUR).await;
    assert_eq!(s.built("lib"), ["r1", "r2"], "nothing that happened meanwhile is lost");
    let asked = s.probe.asked("lib");
    s.pass(600).await;
    assert_eq!(s.probe.asked("lib") - asked, 10);
    let health: Vec<_> = s
        .happened()
        .await
        .into_iter()
        .filter_map(|k| match k {
            EventKind::HealthChanged { health, .. } => Some(health),
            _ => None,
        })
        .collect();
    assert_eq!(health, ["failing", "healthy"], "told once each");
}

#[tokio::test]
async fn a_failed_look_changes_nothing_that_was_seen() {
    let s = stage();
    s.probe.set("lib", "r1");
    s.define("lib", &["site"], each_minute()).await;
    s.pass(30).await;
    let before = s.state("lib").await;
    let current = s.current("site").await;
    for kind in
        [ErrorKind::Unavailable, ErrorKind::PermissionDenied, ErrorKind::TimedOut, ErrorKind::Internal]
    {
        s.probe.fail("lib", kind);
        s.push("lib").await;
        let after = s.state("lib").await;
        assert_eq!(
            (&after.observed, &after.accounted, &after.linked),
            (&before.observed, &before.accounted, &before.linked)
        );
        assert_eq!(s.current("site").await, current);
    }
}

#[tokio::test]
async fn a_permanent_failure_is_looked_at_each_hour() {
    let s = stage();
    s.probe.fail("lib", ErrorKind::PermissionDenied);
    s.define("lib", &[], each_minute()).await;
    s.pass(2 * HOUR + 60).await;
    assert_eq!(s.probe.asked("lib"), 3);
    s.probe.heal("lib");
    s.probe.set("lib", "r1");
    s.push("lib").await;
    assert_eq!(s.built("lib"), ["r1"], "a push looks at once");
}

#[tokio::test]
async fn a_trigger_starts_the_back_off_anew() {
    let s = stage();
    s.probe.set("lib", "r1");
    s.define("lib", &[], each_minute()).await;
    s.pass(10).await;
    s.probe.fail("lib", ErrorKind::Unavailable);
    s.pass(3 * HOUR).await;
    s.push("lib").await;
    let asked = s.probe.asked("lib");
    s.pass(70).await;
    assert_eq!(s.probe.asked("lib"), asked + 1);
    s.pass(130).await;
    assert_eq!(s.probe.asked("lib"), asked + 2);
}

#[tokio::test]
async fn a_source_is_missing_when_it_was_not_found_twice() {
    let s = stage();
    s.probe.set("lib", "r1");
    s.define("lib", &[], each_minute()).await;
    s.pass(10).await;
    let is_missing =
        |k: &EventKind| matches!(k, EventKind::HealthChanged { health, .. } if health == "missing");
    s.probe.gone("lib");
    s.push("lib").await;
    assert_eq!(s.state("lib").await.health, Health::Healthy);
    assert_eq!(s.why("lib").await, WhyNotBuilding::SourceMissing);
    s.probe.set("lib", "r1");
    s.pass(15).await;
    assert_eq!((s.times(is_missing).await, s.why("lib").await), (0, WhyNotBuilding::UpToDate), "it blinked");
    s.probe.gone("lib");
    s.push("lib").await;
    s.pass(15).await;
    assert!(matches!(s.state("lib").await.health, Health::Missing { .. }), "looked at again soon");
    s.pass(600).await;
    assert_eq!(s.times(is_missing).await, 1);
    s.probe.set("lib", "r1");
    s.pass(70).await;
    assert_eq!(s.built("lib"), ["r1"], "back as it was");
    assert_eq!(s.state("lib").await.health, Health::Healthy);
    s.probe.gone("lib");
    s.pass(200).await;
    s.probe.set("lib", "r2");
    s.pass(70).await;
    assert_eq!(s.built("lib"), ["r1", "r2"], "back and changed");
}

#[tokio::test]
async fn gone_while_it_builds_starts_nothing_at_the_end() {
    let s = Stage::new(ControllableLauncher::accepting());
    s.probe.set("lib", "r1");
    s.define("lib", &[], each_minute()).await;
    s.settle().await;
    s.probe.set("lib", "r2");
    s.push("lib").await;
    s.probe.gone("lib");
    s.push("lib").await;
    s.end("lib", Outcome::Succeeded).await;
    s.pass(200).await;
    assert_eq!(s.built("lib"), ["r1"]);
    s.probe.set("lib", "r2");
    s.pass(70).await;
    assert_eq!(s.built("lib"), ["r1", "r2"], "the debt is still there");
}

/// Starts a tick that hangs in a probe, lets this much time pass, and says whether it came to its end.
async fn tick_for(s: &Stage, seconds: u64) -> bool {
    let ticking = tokio::spawn({
        let scheduler = s.scheduler.clone();
        async move { scheduler.tick().await.expect("the store answers") }
    });
    s.clock.until_sleeping(1).await;
    for _ in 0..seconds {
        s.clock.advance(Duration::from_secs(1));
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    let ended = ticking.is_finished();
    ticking.abort();
    ended
}

#[tokio::test]
async fn a_probe_that_hangs_is_timed_out_at_its_deadline() {
    for deadline in [5, 60, 600] {
        let mut policy = each_minute();
        policy.timeouts.probe = Duration::from_secs(deadline);
        let s = stage();
        s.probe.hang("lib");
        s.define("lib", &[], policy).await;
        assert!(tick_for(&s, deadline).await, "{deadline}");
        assert!(matches!(&s.state("lib").await.health, Health::Failing { kind, .. } if kind == "timed_out"));
        s.probe.release("lib");
        s.probe.set("lib", "r1");
        s.pass(2 * deadline + 70).await;
        assert_eq!(s.built("lib"), ["r1"]);
    }
}

#[tokio::test]
async fn a_probe_that_is_slow_within_its_deadline_is_waited_for_and_not_started_twice() {
    let mut policy = each_minute();
    policy.timeouts.probe = Duration::from_secs(600);
    let s = stage();
    s.probe.set("lib", "r1");
    s.probe.hang("lib");
    s.define("lib", &[], policy).await;
    let ticking = tokio::spawn({
        let scheduler = s.scheduler.clone();
        async move { scheduler.tick().await.unwrap() }
    });
    s.clock.until_sleeping(1).await;
    let other = s.again();
    for _ in 0..590 {
        s.clock.advance(Duration::from_secs(1));
        let tick = other.scheduler.tick().now_or_never();
        tick.expect("the other has nothing to look at").unwrap();
    }
    assert!(!ticking.is_finished());
    assert_eq!(s.probe.asked("lib"), 1, "its claim is held for as long as it may take");
    s.probe.release("lib");
    ticking.await.unwrap();
    assert_eq!(s.built("lib"), ["r1"]);
}

#[tokio::test]
async fn a_crash_in_a_look_is_looked_at_again() {
    let s = stage();
    s.probe.set("lib", "r1");
    s.probe.hang("lib");
    s.define("lib", &[], each_minute()).await;
    let receipt = s.scheduler.trigger("lib", TriggerRequest::push()).await.unwrap();
    assert!(!tick_for(&s, 10).await, "dropped in the middle");
    s.probe.release("lib");
    let other = s.again();
    other.pass(120).await;
    assert_eq!(s.built("lib"), ["r1"]);
    assert!(matches!(s.got(receipt).await, ReceiptState::Started { .. }));
}

/// Answers with so many answers whatever it is asked.
#[derive(Debug)]
struct Miscounting(usize);

#[async_trait]
impl RevisionProbe for Miscounting {
    fn key(&self, _: &Source) -> Result<ProbeKey> {
        Ok(ProbeKey::of(&["one"]))
    }

    async fn probe(&self, _: &[Ask]) -> Vec<Result<Probed>> {
        (0..self.0).map(|_| Probed::revision("r1")).collect()
    }
}

#[tokio::test]
async fn a_probe_that_miscounts_is_believed_nothing() {
    for answers in [0, 1, 3] {
        let s = Stage::with(ControllableLauncher::auto_succeed(), |b| {
            b.probe("odd", Arc::new(Miscounting(answers)))
        });
        for name in ["a", "b"] {
            let spec = DependencySpec::new(name, Source::new("odd", ()).unwrap(), "fake").unwrap();
            s.scheduler.apply(&spec).await.unwrap();
        }
        s.settle().await;
        for name in ["a", "b"] {
            assert!(s.built(name).is_empty(), "{answers}");
            assert!(matches!(s.state(name).await.health, Health::Failing { .. }), "{answers}");
        }
        let preview = s.scheduler.preview("a").await.unwrap();
        assert_eq!(preview.failure.is_some(), answers != 1, "{answers}");
    }
}

#[tokio::test]
async fn sources_with_one_key_are_one_run() {
    let s = stage();
    for name in ["a", "b", "c"] {
        s.probe.set(name, "r1");
        let source = ScriptedProbe::source_at("host", name);
        let spec = DependencySpec::new(name, source, "fake").unwrap().with_policy(each_minute());
        s.scheduler.apply(&spec).await.unwrap();
    }
    s.settle().await;
    assert_eq!(s.probe.calls().len(), 1);
    assert_eq!(s.probe.calls()[0].len(), 3);
    s.pass(30).await;
    assert_eq!(s.built("c"), ["r1"]);
}

#[tokio::test]
async fn an_ask_tells_the_probe_what_was_seen_and_what_stands() {
    let s = stage();
    s.probe.set("lib", "r1");
    s.define("lib", &[], each_minute()).await;
    s.pass(10).await;
    s.push("lib").await;
    let ask = s.probe.calls().pop().unwrap().pop().unwrap();
    assert_eq!((ask.seen, ask.accounted), (Some(revision("r1")), Some(revision("r1"))));
    assert!(ask.last_start.is_some());
    assert!(!ask.building);
}

#[tokio::test]
async fn answers_that_nothing_changed_still_pay_a_debt() {
    let s = Stage::new(ControllableLauncher::accepting());
    s.probe.set("lib", "r1");
    s.probe.same_as_seen("lib", true);
    s.define("lib", &[], each_minute().with_on_held(capomastro_core::model::OnHeld::DiscardSilently)).await;
    s.settle().await;
    s.probe.set("lib", "r2");
    s.push("lib").await;
    s.end("lib", Outcome::Succeeded).await;
    s.pass(70).await;
    assert_eq!(s.built("lib"), ["r1", "r2"]);
}

#[tokio::test]
async fn a_budget_is_a_reason_that_one_can_see() {
    let budget = Budget::new(0.1, 1, 1).unwrap();
    let s = Stage::with(ControllableLauncher::auto_succeed(), |b| b.probe_budget("scripted", budget));
    for name in ["a", "b", "c"] {
        s.probe.set(name, "r1");
        s.define(name, &[], each_minute()).await;
    }
    s.settle().await;
    let mut waiting = 0;
    for name in ["a", "b", "c"] {
        if let WhyNotBuilding::NotLookedYet { waits_for } = s.why(name).await {
            assert!(waits_for.unwrap().contains("scripted"));
            waiting += 1;
        }
    }
    assert_eq!(waiting, 2);
    s.pass(30).await;
    for name in ["a", "b", "c"] {
        assert_eq!(s.built(name), ["r1"], "{name}");
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_or_forward_stops_and_loses_nothing() {
    for days in [-400, -30, -1, 1, 30, 400] {
        let s = stage();
        s.probe.set("lib", "r1");
        let policy = each_minute().with_build_regardless(Schedule::Every(Duration::from_secs(2 * HOUR)));
        s.define("lib", &["site"], policy).await;
        s.pass(200).await;
        let built = s.built("lib").len();
        s.clock.skew(TimeDelta::days(days));
        s.probe.set("lib", "r2");
        s.pass(300).await;
        assert_eq!(s.built("lib").last().unwrap(), "r2", "{days} days: seen within the interval");
        assert!(s.built("lib").len() <= built + 2, "{days} days: missed ticks collapse");
        assert_eq!(s.current("site").await["lib"], "r2", "{days} days");
        s.pass(3 * HOUR).await;
        assert!(s.built("lib").len() >= built + 2, "{days} days: builds regardless go on");
        assert!(s.launcher.duplicates().is_empty());
    }
}

#[tokio::test]
async fn a_clock_that_is_set_during_a_build_stops_nothing() {
    for days in [-30, 30] {
        let s = Stage::new(ControllableLauncher::accepting());
        s.probe.set("lib", "r1");
        s.define("lib", &["site"], each_minute()).await;
        s.settle().await;
        s.launcher.last_of("lib").start();
        s.pass(5).await;
        s.clock.skew(TimeDelta::days(days));
        s.probe.set("lib", "r2");
        s.pass(100).await;
        if days > 0 {
            // It ran too long by the clock; that is what the clock says.
            continue;
        }
        s.end("lib", Outcome::Succeeded).await;
        s.pass(100).await;
        assert_eq!(s.built("lib"), ["r1", "r2"], "{days}");
    }
}

/// Looks at a source from 30 s to 15 min apart.
fn adaptive() -> Policy {
    Policy::default().with_look_adaptive(Duration::from_secs(30), Duration::from_secs(900))
}

#[tokio::test]
async fn a_source_that_sleeps_is_looked_at_seldom_and_one_that_moves_often() {
    let s = stage();
    for name in ["sleepy", "busy"] {
        s.probe.set(name, "r0");
        s.scheduler.apply(&plain_spec(name, adaptive())).await.unwrap();
    }
    s.settle().await;
    // Three days, in which one moves every ten minutes.
    for n in 1..=432 {
        s.probe.set("busy", &format!("r{n}"));
        s.pass_by(Duration::from_secs(10), 60).await;
    }
    let (sleepy, busy) = (s.probe.asked("sleepy"), s.probe.asked("busy"));
    // Every 15 min would be 288 looks, every 30 s 8,640.
    assert!((280..=400).contains(&sleepy), "{sleepy}");
    assert!((4_000..=8_640).contains(&busy), "{busy}");
    assert_eq!(s.built("busy").len(), 433, "each change is seen");
}

#[tokio::test]
async fn a_change_is_seen_within_the_promise_whenever_it_comes() {
    let s = stage();
    s.probe.set("lib", "r0");
    s.scheduler.apply(&plain_spec("lib", adaptive())).await.unwrap();
    s.settle().await;
    for n in 1..=20 {
        // Still for a day, and then at any moment between two looks.
        s.pass_by(Duration::from_secs(60), 1_440).await;
        s.pass_by(Duration::from_secs(47), n).await;
        s.probe.set("lib", &format!("r{n}"));
        let before = s.built("lib").len();
        s.pass_by(Duration::from_secs(10), 91).await;
        assert_eq!(s.built("lib").len(), before + 1, "change {n} within 910 s");
    }
}

#[tokio::test]
async fn an_adaptive_interval_is_explained_and_outlives_a_restart() {
    let s = stage();
    s.probe.set("lib", "r0");
    s.scheduler.apply(&plain_spec("lib", adaptive())).await.unwrap();
    s.pass(10).await;
    let said = |why: WhyNotBuilding| match why {
        WhyNotBuilding::Still { interval, next_look, .. } => (interval, next_look.unwrap()),
        other => panic!("{other:?}"),
    };
    let (interval, next_look) = said(s.why("lib").await);
    assert_eq!(interval, Duration::from_secs(30));
    let now = s.status("lib").await.at;
    assert!(next_look > now && next_look <= now + interval);
    s.pass_by(Duration::from_secs(30), 2_880).await;
    let (interval, _) = said(s.why("lib").await);
    assert!((810..=900).contains(&interval.as_secs()), "{interval:?}");

    // Another process knows what the first has learnt.
    let other = s.another(1, |b| b);
    let asked = s.probe.asked("lib");
    for _ in 0..360 {
        other.clock.advance(Duration::from_secs(10));
        other.settle().await;
    }
    assert!((4..=5).contains(&(s.probe.asked("lib") - asked)), "an hour at 13.5 to 15 min");
    // Somebody who knows better is heard at once, and what moved is looked at often again.
    s.probe.set("lib", "r1");
    other.scheduler.trigger("lib", TriggerRequest::push()).await.unwrap();
    other.settle().await;
    assert_eq!(s.built("lib").len(), 2);
    let asked = s.probe.asked("lib");
    for _ in 0..30 {
        other.clock.advance(Duration::from_secs(10));
        other.settle().await;
    }
    assert!(s.probe.asked("lib") - asked >= 9, "{}", s.probe.asked("lib") - asked);
}

/// The promise holds as far as the other side lets it.
#[tokio::test]
async fn a_server_that_wants_to_be_left_alone_is() {
    let s = stage();
    s.probe.set("lib", "r0");
    s.scheduler.apply(&plain_spec("lib", adaptive())).await.unwrap();
    s.pass(10).await;
    s.probe.leave_alone("lib", Duration::from_secs(2_000));
    s.pass(60).await;
    let asked = s.probe.asked("lib");
    s.pass_by(Duration::from_secs(10), 190).await;
    assert_eq!(s.probe.asked("lib"), asked, "it asked for 2,000 s");
    s.probe.heal("lib");
    s.probe.set("lib", "r1");
    s.pass_by(Duration::from_secs(10), 20).await;
    assert_eq!(s.built("lib").len(), 2);
}

#[tokio::test]
async fn builds_regardless_are_not_adaptive() {
    let s = stage();
    let policy = adaptive().with_build_regardless(adaptive().look);
    let e = s.scheduler.apply(&plain_spec("lib", policy)).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidConfig);
    assert!(e.report().contains("build_regardless"), "{}", e.report());
}
