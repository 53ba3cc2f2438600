//! What somebody who asks for a look or a build gets.

use capomastro_core::{
    ErrorKind, InMemoryStore, Scheduler,
    events::EventKind,
    launch::Outcome,
    model::{
        Coverage, EndReason, First, OnHeld, Phase, Policy, Quiet, Receipt, ReceiptState, Relation, Source,
        Trigger, Veto,
    },
    probe::{Ask, Probed, probe_fn},
    scheduler::{DependencySpec, TriggerRequest},
};
use capomastro_testkit::{ControllableLauncher, ManualClock, fakes::LaunchAnswer};
use capomastro_tests::{Stage, each_minute, revision, somebody};
use serde_json::Value;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// A stage on which r1 of "lib" is being built.
async fn building(policy: Policy) -> Stage {
    let s = Stage::new(ControllableLauncher::accepting());
    s.probe.set("lib", "r1");
    s.define("lib", &[], policy).await;
    s.settle().await;
    assert_eq!(s.built("lib"), ["r1"]);
    s
}

/// A stage on which r1 of "lib" is built, and builds end by hand.
async fn built(policy: Policy) -> Stage {
    let s = building(policy).await;
    s.end("lib", Outcome::Succeeded).await;
    s
}

fn ended(reason: EndReason) -> ReceiptState {
    ReceiptState::Ended { reason }
}

fn assert_settled(receipt: &Receipt, state: &ReceiptState, coverage: Coverage) {
    assert_eq!(receipt.state, *state);
    assert_eq!(receipt.coverage(), coverage);
    assert!(receipt.settled_at.is_some());
}

#[tokio::test]
async fn a_push_builds_what_changed_and_nothing_else() {
    let s = built(each_minute()).await;
    let nothing = s.push("lib").await;
    assert_settled(&s.receipt(nothing).await, &ended(EndReason::Unchanged), Coverage::Is);
    s.probe.set("lib", "r2");
    let pushed = s.push("lib").await;
    let build = s.running("lib").await;
    let receipt = s.receipt(pushed).await;
    assert_settled(&receipt, &ReceiptState::Started { build }, Coverage::WillBe);
    assert_eq!((receipt.trigger, receipt.revision), (Trigger::Push, Some(revision("r2"))));
    assert_eq!(s.built("lib"), ["r1", "r2"]);
}

#[tokio::test]
async fn a_manual_trigger_builds_though_nothing_changed_and_says_for_whom() {
    let s = built(each_minute()).await;
    let asked = s.probe.asked("lib");
    let receipt = s.scheduler.trigger("lib", TriggerRequest::manual().by(somebody())).await.unwrap();
    assert_eq!(s.got(receipt).await, ReceiptState::AwaitsLook);
    assert_eq!(s.receipt(receipt).await.coverage(), Coverage::WillBe);
    s.settle().await;
    assert_eq!(s.probe.asked("lib"), asked + 1, "decided by a look that came after it");
    assert_eq!(s.got(receipt).await, ReceiptState::Started { build: s.running("lib").await });
    assert_eq!(s.built("lib"), ["r1", "r1"]);
    assert_eq!(s.launcher.last_of("lib").request().requesters, [somebody()]);
}

#[tokio::test]
async fn a_named_revision_is_decided_in_the_call_without_a_look() {
    let s = built(each_minute()).await;
    let asked = s.probe.asked("lib");
    let request = TriggerRequest::manual().at(revision("r0")).by(somebody());
    let receipt = s.scheduler.trigger("lib", request).await.unwrap();
    assert_eq!(s.got(receipt).await, ReceiptState::Started { build: s.running("lib").await });
    s.settle().await;
    assert_eq!((s.probe.asked("lib"), s.built("lib").as_slice()), (asked, &["r1".into(), "r0".into()][..]));
}

#[tokio::test]
async fn parameters_and_build_key_travel_with_the_build() {
    let s = built(each_minute()).await;
    let mut request = TriggerRequest::manual()
        .with_parameter("DEBUG", "1")
        .with_parameter("empty", "")
        .with_build_key("key 🔑".parse().unwrap());
    s.ask("lib", request.clone()).await;
    let sent = s.launcher.last_of("lib").request();
    assert_eq!(sent.parameters.get("DEBUG").map(String::as_str), Some("1"));
    assert_eq!(sent.build_key, request.build_key);
    let same = s.ask("lib", request.clone()).await;
    assert_eq!(s.got(same).await, ReceiptState::Joined { build: s.running("lib").await });
    request = request.with_parameter("DEBUG", "2");
    let other = s.ask("lib", request).await;
    assert!(matches!(s.got(other).await, ReceiptState::Waiting { .. }), "other parameters are another build");
    let plain = s.manual("lib").await;
    assert!(matches!(s.got(plain).await, ReceiptState::Waiting { .. }), "and so are none");
    s.end("lib", Outcome::Succeeded).await;
    assert_eq!(s.launcher.last_of("lib").request().parameters["DEBUG"], "2");
    s.end("lib", Outcome::Succeeded).await;
    assert!(s.launcher.last_of("lib").request().parameters.is_empty());
    s.end("lib", Outcome::Succeeded).await;
    s.pass(100).await;
    assert_eq!(s.built("lib").len(), 4);
}

#[tokio::test]
async fn a_push_during_a_look_is_answered_by_a_second_one() {
    let s = built(each_minute()).await;
    s.probe.hang("lib");
    let first = s.scheduler.trigger("lib", TriggerRequest::push()).await.unwrap();
    let asked = s.probe.asked("lib");
    let ticking = tokio::spawn({
        let scheduler = s.scheduler.clone();
        async move { scheduler.tick().await.unwrap() }
    });
    s.probe.until_asked("lib", asked + 1).await;
    let second = s.scheduler.trigger("lib", TriggerRequest::push()).await.unwrap();
    let third = s.scheduler.trigger("lib", TriggerRequest::push()).await.unwrap();
    s.probe.release("lib");
    ticking.await.unwrap();
    assert_eq!(s.got(first).await, ended(EndReason::Unchanged));
    assert_eq!(s.got(second).await, ReceiptState::AwaitsLook, "the look had begun before it");
    s.probe.set("lib", "r2");
    s.settle().await;
    assert_eq!(s.probe.asked("lib"), asked + 2, "one more look answers all that came meanwhile");
    let started = ReceiptState::Started { build: s.running("lib").await };
    assert_eq!((s.got(second).await, s.got(third).await), (started.clone(), started));
    assert_eq!(s.probe.most_at_once(), 1);
}

#[tokio::test]
async fn two_triggers_for_one_look_are_one_build() {
    let s = built(each_minute()).await;
    let mut receipts = Vec::new();
    for who in ["ann", "bob"] {
        let request = TriggerRequest::manual().by(who.parse().unwrap());
        receipts.push(s.scheduler.trigger("lib", request).await.unwrap());
    }
    s.settle().await;
    let build = s.running("lib").await;
    assert_eq!(s.got(receipts[0]).await, ReceiptState::Started { build });
    assert_eq!(s.got(receipts[1]).await, ReceiptState::Joined { build });
    assert_eq!(s.built("lib").len(), 2);
}

#[tokio::test]
async fn what_waits_unpinned_waits_as_one_and_builds_what_is_there_then() {
    let s = building(each_minute()).await;
    s.probe.set("lib", "r2");
    let ann = s.manual("lib").await;
    let bob = s.manual("lib").await;
    let behind = Some(s.running("lib").await);
    for receipt in [ann, bob] {
        assert_eq!(s.got(receipt).await, ReceiptState::Waiting { behind });
        assert_eq!(s.receipt(receipt).await.coverage(), Coverage::WillBe);
    }
    assert_eq!(s.state("lib").await.waiting.len(), 1);
    s.probe.set("lib", "r3");
    s.push("lib").await;
    s.end("lib", Outcome::Succeeded).await;
    let build = s.running("lib").await;
    for receipt in [ann, bob] {
        assert_eq!(s.got(receipt).await, ReceiptState::Started { build });
    }
    assert_eq!(s.built("lib"), ["r1", "r3"]);
    s.end("lib", Outcome::Succeeded).await;
    s.pass(100).await;
    assert_eq!(s.built("lib"), ["r1", "r3"]);
}

#[tokio::test]
async fn a_trigger_of_what_is_being_built_joins() {
    let s = building(each_minute()).await;
    let build = s.running("lib").await;
    let joined = s.manual_at("lib", "r1").await;
    assert_settled(&s.receipt(joined).await, &ReceiptState::Joined { build }, Coverage::WillBe);
    let pushed = s.push("lib").await;
    assert_settled(&s.receipt(pushed).await, &ended(EndReason::Unchanged), Coverage::Is);
}

#[tokio::test]
async fn a_coalesced_push_is_covered_by_what_follows() {
    let s = building(each_minute()).await;
    s.probe.set("lib", "r2");
    let pushed = s.push("lib").await;
    assert_settled(&s.receipt(pushed).await, &ended(EndReason::Coalesced), Coverage::WillBe);
    s.end("lib", Outcome::Succeeded).await;
    assert_eq!(s.built("lib"), ["r1", "r2"]);
}

#[tokio::test]
async fn a_loud_discard_is_an_error_and_loses_no_change() {
    let s = building(each_minute().with_on_held(OnHeld::DiscardLoudly)).await;
    let build = Some(s.running("lib").await);
    for _ in 0..2 {
        let refused = s.scheduler.trigger("lib", TriggerRequest::manual().at(revision("r0"))).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Held);
        let receipt = refused.context().find(|(k, _)| *k == "receipt").unwrap().1.parse().unwrap();
        assert_settled(&s.receipt(receipt).await, &ReceiptState::LostTo { build }, Coverage::WillNotBe);
    }
    let told = |k: &EventKind| matches!(k, EventKind::Discarded { .. });
    assert_eq!(s.times(told).await, 1, "once for each holder and revision");
    s.probe.set("lib", "r2");
    let pushed = s.push("lib").await;
    assert_eq!(s.got(pushed).await, ReceiptState::LostTo { build });
    s.pass(130).await;
    assert_eq!(s.times(told).await, 2);
    s.end("lib", Outcome::Succeeded).await;
    s.pass(70).await;
    assert_eq!(s.built("lib"), ["r1", "r2"], "the next look finds the debt");
}

#[tokio::test]
async fn a_silent_discard_is_only_in_the_receipt() {
    let s = building(each_minute().with_on_held(OnHeld::DiscardSilently)).await;
    let build = Some(s.running("lib").await);
    let lost = s.manual_at("lib", "r0").await;
    assert_settled(&s.receipt(lost).await, &ReceiptState::LostTo { build }, Coverage::WillNotBe);
    assert_eq!(s.times(|k| matches!(k, EventKind::Discarded { .. })).await, 0);
    let waits = s.ask("lib", TriggerRequest::manual().at(revision("r0")).on_held(OnHeld::Coalesce)).await;
    assert_eq!(s.got(waits).await, ReceiptState::Waiting { behind: build }, "the caller's choice goes first");
    s.end("lib", Outcome::Succeeded).await;
    assert_eq!(s.built("lib"), ["r1", "r0"]);
}

#[tokio::test]
async fn a_paused_dependency_refuses_builds_and_answers_pushes() {
    let s = built(each_minute()).await;
    s.scheduler.pause("lib", &somebody(), "broken").await.unwrap();
    for request in [TriggerRequest::manual(), TriggerRequest::manual().at(revision("r0"))] {
        let refused = s.scheduler.trigger("lib", request).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Paused);
    }
    s.probe.set("lib", "r2");
    let pushed = s.push("lib").await;
    assert_settled(&s.receipt(pushed).await, &ended(EndReason::Paused), Coverage::WillNotBe);
    assert_eq!(s.built("lib"), ["r1"]);
}

#[tokio::test]
async fn a_pause_between_trigger_and_look_ends_the_trigger() {
    let s = built(each_minute()).await;
    let receipt = s.scheduler.trigger("lib", TriggerRequest::manual()).await.unwrap();
    s.scheduler.pause("lib", &somebody(), "now").await.unwrap();
    s.settle().await;
    assert_eq!(s.got(receipt).await, ended(EndReason::Paused));
}

#[tokio::test]
async fn a_queue_builds_each_in_order_and_refuses_what_is_too_much() {
    let s = building(each_minute().with_on_held(OnHeld::Queue { max: 2 })).await;
    let mut receipts = Vec::new();
    for at in ["r2", "r3", "r4"] {
        s.probe.set("lib", at);
        receipts.push(s.push("lib").await);
    }
    let behind = Some(s.running("lib").await);
    assert_eq!(s.got(receipts[0]).await, ReceiptState::Waiting { behind });
    assert_eq!(s.got(receipts[1]).await, ReceiptState::Waiting { behind });
    assert_eq!(s.got(receipts[2]).await, ReceiptState::LostTo { build: behind });
    let full = s.scheduler.trigger("lib", TriggerRequest::manual().at(revision("r0"))).await;
    assert_eq!(full.unwrap_err().kind(), ErrorKind::Held);
    for _ in 0..3 {
        s.end("lib", Outcome::Succeeded).await;
    }
    s.pass(70).await;
    assert_eq!(s.built("lib"), ["r1", "r2", "r3", "r4"], "the discarded change is found again");
}

#[tokio::test]
async fn what_was_queued_and_taken_back_is_reverted() {
    let s = building(each_minute().with_on_held(OnHeld::Queue { max: 5 })).await;
    s.probe.set("lib", "r2");
    let there = s.push("lib").await;
    s.probe.set("lib", "r1");
    let back = s.push("lib").await;
    s.end("lib", Outcome::Succeeded).await;
    s.end("lib", Outcome::Succeeded).await;
    assert!(matches!(s.got(there).await, ReceiptState::Started { .. }));
    assert!(matches!(s.got(back).await, ReceiptState::Started { .. }));
    s.probe.set("lib", "r3");
    s.push("lib").await;
    s.end("lib", Outcome::Succeeded).await;
    assert_eq!(s.built("lib"), ["r1", "r2", "r1", "r3"]);
}

#[tokio::test]
async fn a_source_that_is_gone_ends_what_awaits_it_at_the_second_look() {
    let s = built(each_minute()).await;
    s.probe.gone("lib");
    let manual = s.manual("lib").await;
    let pushed = s.push("lib").await;
    for receipt in [manual, pushed] {
        assert_settled(&s.receipt(receipt).await, &ended(EndReason::SourceMissing), Coverage::WillNotBe);
    }
    let named = s.manual_at("lib", "r1").await;
    assert!(matches!(s.got(named).await, ReceiptState::Started { .. }), "a named revision passes");
}

#[tokio::test]
async fn one_look_that_finds_nothing_ends_no_trigger() {
    let s = built(each_minute()).await;
    s.probe.gone("lib");
    let manual = s.manual("lib").await;
    assert_eq!(s.got(manual).await, ReceiptState::AwaitsLook);
    s.probe.set("lib", "r2");
    s.pass(15).await;
    assert!(matches!(s.got(manual).await, ReceiptState::Started { .. }));
}

#[tokio::test]
async fn failed_looks_leave_triggers_due() {
    let s = built(each_minute()).await;
    s.probe.fail("lib", ErrorKind::Unavailable);
    s.probe.set("lib", "r2");
    let (manual, pushed) = (s.manual("lib").await, s.push("lib").await);
    s.pass(100).await;
    for receipt in [manual, pushed] {
        assert_eq!(s.got(receipt).await, ReceiptState::AwaitsLook);
    }
    s.probe.heal("lib");
    s.pass(200).await;
    assert!(matches!(s.got(manual).await, ReceiptState::Started { .. }));
    assert!(s.receipt(pushed).await.is_settled());
    assert_eq!(s.built("lib"), ["r1", "r2"]);
}

#[tokio::test]
async fn what_a_policy_says_stands_in_the_receipt() {
    let s = Stage::new(ControllableLauncher::auto_succeed());
    s.probe.set("base", "r1");
    s.define("base", &[], each_minute().with_first(First::Baseline)).await;
    let pushed = s.push("base").await;
    assert_settled(&s.receipt(pushed).await, &ended(EndReason::Baselined), Coverage::Is);
    assert!(s.built("base").is_empty());

    let mut veto = Veto::default();
    veto.rewound = true;
    s.probe.set("veto", "r2");
    s.probe.relate("veto", "r2", "r1", Relation::Rewound);
    s.define("veto", &[], each_minute().with_veto(veto)).await;
    s.pass(30).await;
    s.probe.set("veto", "r1");
    let pushed = s.push("veto").await;
    assert_settled(&s.receipt(pushed).await, &ended(EndReason::Vetoed), Coverage::WillNotBe);
    s.pass(200).await;
    assert_eq!(s.built("veto"), ["r2"], "vetoed once, vetoed at every look");
    assert_eq!(s.times(|k| matches!(k, EventKind::Vetoed { .. })).await, 1);

    let quiet = Quiet { period: Duration::from_secs(100), at_most: Duration::from_secs(1_000) };
    s.probe.set("quiet", "r1");
    s.define("quiet", &[], each_minute().with_quiet(Some(quiet))).await;
    s.pass(30).await;
    s.probe.set("quiet", "r2");
    let pushed = s.push("quiet").await;
    assert!(matches!(s.got(pushed).await, ReceiptState::Ended { reason: EndReason::Quiet { .. } }));
    assert_eq!(s.receipt(pushed).await.coverage(), Coverage::WillBe);
    s.pass(99).await;
    assert_eq!(s.built("quiet"), ["r1"]);
    s.pass(2).await;
    assert_eq!(s.built("quiet"), ["r1", "r2"], "a look is due when it has been quiet");
}

#[tokio::test]
async fn a_known_revision_is_linked_again_instead_of_built() {
    let s = built(each_minute().with_reuse_known(true)).await;
    let first = s.builds("lib").await[0].id;
    s.probe.set("lib", "r2");
    s.push("lib").await;
    s.end("lib", Outcome::Succeeded).await;
    s.probe.set("lib", "r1");
    let pushed = s.push("lib").await;
    assert_settled(&s.receipt(pushed).await, &ReceiptState::Reused { build: first }, Coverage::Is);
    assert_eq!(s.state("lib").await.linked.unwrap().build, first);
    assert_eq!(s.built("lib"), ["r1", "r2"]);
}

#[tokio::test]
async fn a_refused_build_of_a_named_revision_ends_its_trigger() {
    let s = built(each_minute()).await;
    s.launcher.answer_next(LaunchAnswer::Refuse { permanent: false });
    let receipt = s.manual_at("lib", "r0").await;
    s.pass(5).await;
    assert_settled(&s.receipt(receipt).await, &ended(EndReason::Refused), Coverage::WillNotBe);
    assert_eq!(s.builds("lib").await.last().unwrap().phase, Phase::Refused);
    s.pass(300).await;
    assert_eq!(s.built("lib"), ["r1"]);
}

#[tokio::test]
async fn a_receipt_can_be_awaited() {
    let s = built(each_minute()).await;
    s.probe.fail("lib", ErrorKind::Unavailable);
    let receipt = s.scheduler.trigger("lib", TriggerRequest::manual()).await.unwrap();
    let waiting = tokio::spawn({
        let scheduler = s.scheduler.clone();
        async move { scheduler.settled(receipt).await.unwrap() }
    });
    s.clock.until_sleeping(1).await;
    s.pass(5).await;
    assert!(!waiting.is_finished());
    s.probe.heal("lib");
    s.pass(120).await;
    s.clock.advance(Duration::from_secs(5));
    let settled = waiting.await.unwrap();
    assert!(matches!(settled.state, ReceiptState::Started { .. }));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let s = built(each_minute()).await;
    let mut schedule = TriggerRequest::manual();
    schedule.trigger = Trigger::Schedule;
    for (name, request, kind) in [
        ("none", TriggerRequest::push(), ErrorKind::NotFound),
        ("lib", schedule, ErrorKind::InvalidInput),
        ("lib", TriggerRequest::push().at(revision("r1")), ErrorKind::InvalidInput),
        ("lib", TriggerRequest::push().with_parameter("a", "b"), ErrorKind::InvalidInput),
        ("lib", TriggerRequest::push().on_held(OnHeld::Coalesce), ErrorKind::InvalidInput),
        ("lib", TriggerRequest::manual().with_parameter("", "b"), ErrorKind::InvalidInput),
        ("lib", TriggerRequest::manual().with_parameter("a\nb", "b"), ErrorKind::InvalidInput),
        ("lib", TriggerRequest::manual().with_parameter("a", "\0"), ErrorKind::InvalidInput),
        ("lib", TriggerRequest::manual().with_parameter("a", "x".repeat(4_097)), ErrorKind::InvalidInput),
        ("lib", TriggerRequest::manual().on_held(OnHeld::Queue { max: 0 }), ErrorKind::InvalidInput),
    ] {
        let refused = s.scheduler.trigger(name, request.clone()).await;
        assert_eq!(refused.map_err(|e| e.kind()), Err(kind), "{request:?}");
    }
    let build = s.builds("lib").await[0].id;
    let none = build.to_string().parse().unwrap();
    assert_eq!(s.scheduler.receipt(none).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn too_many_triggers_are_refused_and_none_is_lost() {
    let s = built(each_minute()).await;
    s.probe.fail("lib", ErrorKind::Unavailable);
    let mut receipts = Vec::new();
    loop {
        match s.scheduler.trigger("lib", TriggerRequest::push()).await {
            Ok(receipt) => receipts.push(receipt),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::RateLimited);
                break;
            }
        }
    }
    assert_eq!(receipts.len(), 1_000);
    s.probe.heal("lib");
    s.settle().await;
    for receipt in receipts {
        assert!(s.receipt(receipt).await.is_settled());
    }
}

#[tokio::test]
async fn a_look_knows_how_old_the_newest_trigger_is_that_it_answers() {
    let ages = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&ages);
    let probe = probe_fn(move |_: Value, ask: Ask| {
        told.lock().unwrap().push(ask.trigger_age);
        async { Probed::revision("r1") }
    });
    let clock = ManualClock::new();
    let scheduler = Scheduler::builder(InMemoryStore::new(Arc::new(clock.clone())))
        .clock(Arc::new(clock.clone()))
        .probe("telling", probe)
        .launcher("fake", Arc::new(ControllableLauncher::auto_succeed()))
        .build()
        .unwrap();
    let source = Source::new("telling", serde_json::json!({})).unwrap();
    scheduler.ensure(&DependencySpec::new("a", source, "fake").unwrap()).await.unwrap();
    scheduler.tick().await.unwrap();
    scheduler.trigger("a", TriggerRequest::manual()).await.unwrap();
    clock.advance(Duration::from_secs(5));
    scheduler.trigger("a", TriggerRequest::push()).await.unwrap();
    clock.advance(Duration::from_secs(2));
    scheduler.tick().await.unwrap();
    clock.advance(Duration::from_secs(3_600));
    scheduler.tick().await.unwrap();
    let ages = ages.lock().unwrap().clone();
    assert_eq!(ages, [None, Some(Duration::from_secs(2)), None]);
}
