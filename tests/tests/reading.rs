//! Reading where things stand and why, what happened, and what would happen.

use capomastro_core::{
    ErrorKind, InMemoryStore,
    events::EventKind,
    launch::Outcome,
    model::{OnHeld, Phase, Policy, Quiet, Relation, RetryOn, Veto},
    scheduler::TriggerRequest,
    store::{EventFilter, FIRST_EVENT, Lane, StateStore},
    time::until,
    why::WhyNotBuilding,
};
use capomastro_testkit::{ControllableLauncher, ManualClock, ScriptedProbe, fakes::LaunchAnswer};
use capomastro_tests::{Stage, each_minute, revision, somebody};
use std::{sync::Arc, time::Duration};

async fn defined(policy: Policy) -> Stage {
    let s = Stage::new(ControllableLauncher::accepting());
    s.probe.set("lib", "r1");
    s.define("lib", &["site"], policy).await;
    s
}

async fn built(policy: Policy) -> Stage {
    let s = defined(policy).await;
    s.settle().await;
    s.end("lib", Outcome::Succeeded).await;
    assert_eq!(s.why("lib").await, WhyNotBuilding::UpToDate);
    s
}

#[tokio::test]
async fn a_build_under_way_says_where_it_stands_and_what_it_waits_for() {
    let s = Stage::with(ControllableLauncher::accepting(), |b| b.launcher_limit("fake", 1));
    for name in ["first", "lib"] {
        s.probe.set(name, "r1");
        s.define(name, &[], each_minute()).await;
        s.pass(1).await;
    }
    let WhyNotBuilding::Building { phase: Phase::Requested, waits_for: Some(waits), .. } = s.why("lib").await
    else {
        panic!("{:?}", s.why("lib").await)
    };
    assert!(waits.contains("limit") || waits.contains("fake"), "{waits}");
    s.end("first", Outcome::Succeeded).await;
    s.launcher.last_of("lib").queued_because("no agent is free");
    s.pass(3).await;
    let build = s.running("lib").await;
    let waits_for = Some("no agent is free".to_owned());
    assert_eq!(s.why("lib").await, WhyNotBuilding::Building { build, phase: Phase::Submitted, waits_for });
    s.launcher.last_of("lib").start();
    s.pass(5).await;
    let waits_for = None;
    assert_eq!(s.why("lib").await, WhyNotBuilding::Building { build, phase: Phase::Running, waits_for });
    let status = s.scheduler.status("lib").await.unwrap();
    assert_eq!(status.build.unwrap().id, build);
    assert!(status.build_note.unwrap().running_at.is_some());
}

#[tokio::test]
async fn looking_is_a_reason() {
    let s = defined(each_minute()).await;
    assert_eq!(s.why("lib").await, WhyNotBuilding::NotLookedYet { waits_for: None });
    s.scheduler.trigger("lib", TriggerRequest::push()).await.unwrap();
    assert_eq!(s.why("lib").await, WhyNotBuilding::AwaitsLook { waits_for: None });
    s.probe.fail_next("lib", ErrorKind::Unavailable);
    s.settle().await;
    let WhyNotBuilding::ProbeFailing { failures: 1, message } = s.why("lib").await else {
        panic!("{:?}", s.why("lib").await)
    };
    assert!(!message.is_empty());
    s.probe.gone("lib");
    s.push("lib").await;
    assert_eq!(s.why("lib").await, WhyNotBuilding::SourceMissing);
}

#[tokio::test]
async fn policies_are_reasons() {
    let mut veto = Veto::default();
    veto.rewound = true;
    let s = built(each_minute().with_veto(veto)).await;
    s.probe.set("lib", "r0");
    s.probe.relate("lib", "r1", "r0", Relation::Rewound);
    s.push("lib").await;
    assert_eq!(s.why("lib").await, WhyNotBuilding::Vetoed { revision: revision("r0") });

    let quiet = Quiet { period: Duration::from_secs(100), at_most: Duration::from_secs(1_000) };
    let s = built(each_minute().with_quiet(Some(quiet))).await;
    s.probe.set("lib", "r2");
    s.push("lib").await;
    let status = s.scheduler.status("lib").await.unwrap();
    assert_eq!(status.why, WhyNotBuilding::Quiet { until: status.at + Duration::from_secs(100) });

    let s = defined(each_minute().with_on_held(OnHeld::DiscardSilently)).await;
    s.settle().await;
    s.probe.set("lib", "r2");
    s.push("lib").await;
    s.end("lib", Outcome::Succeeded).await;
    assert_eq!(s.why("lib").await, WhyNotBuilding::NextLook { revision: revision("r2"), waits_for: None });
}

#[tokio::test]
async fn a_pause_is_a_reason() {
    let s = built(each_minute()).await;
    s.scheduler.pause("lib", &somebody(), "holidays").await.unwrap();
    let WhyNotBuilding::Paused(paused) = s.why("lib").await else { panic!() };
    assert_eq!((paused.by, paused.reason.as_str()), (somebody(), "holidays"));
}

#[tokio::test]
async fn failures_are_reasons_until_something_good_stands() {
    let mut policy = each_minute();
    (policy.retry.max, policy.retry.on) = (1, RetryOn::Any);
    let s = defined(policy).await;
    s.launcher.answer_next(LaunchAnswer::Refuse { permanent: false });
    s.settle().await;
    assert!(matches!(s.why("lib").await, WhyNotBuilding::LaunchRefused { retry_at: Some(_) }));
    s.pass(70).await;
    s.end("lib", Outcome::Failed).await;
    assert!(matches!(s.why("lib").await, WhyNotBuilding::RetryOwed { at: Some(_) }));
    s.pass(70).await;
    let failed = s.end("lib", Outcome::Failed).await.id;
    assert_eq!(s.why("lib").await, WhyNotBuilding::LastBuildFailed { build: failed, phase: Phase::Failed });
    s.manual("lib").await;
    s.end("lib", Outcome::Succeeded).await;
    assert_eq!(s.why("lib").await, WhyNotBuilding::UpToDate);
    s.manual_at("lib", "r0").await;
    s.end("lib", Outcome::Failed).await;
    assert_eq!(
        s.why("lib").await,
        WhyNotBuilding::UpToDate,
        "another revision's failure is none of this one's"
    );
    s.manual_at("lib", "r0").await;
    let by = s.end("lib", Outcome::Succeeded).await.id;
    assert_eq!(s.why("lib").await, WhyNotBuilding::HeldAt { revision: revision("r0"), by });
}

#[tokio::test]
async fn a_build_that_was_linked_again_is_up_to_date() {
    let s = built(each_minute().with_reuse_known(true)).await;
    for (at, outcome) in [("r2", Outcome::Succeeded), ("r3", Outcome::Failed)] {
        s.probe.set("lib", at);
        s.push("lib").await;
        s.end("lib", outcome).await;
        s.probe.set("lib", "r1");
        s.push("lib").await;
        assert_eq!(s.why("lib").await, WhyNotBuilding::UpToDate, "after {at}");
    }
    assert_eq!(s.built("lib"), ["r1", "r2", "r3"]);
}

#[tokio::test]
async fn unknown_names_are_not_found() {
    let s = built(each_minute()).await;
    s.scheduler.delete("lib").await.unwrap();
    for name in ["lib", "none"] {
        assert_eq!(s.scheduler.status(name).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(s.scheduler.history(name, None, 1).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(s.scheduler.decisions(name, 0, 1).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(s.scheduler.preview(name).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(s.scheduler.project_status(name).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(s.scheduler.project_history(name, None, 1).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn a_preview_says_what_would_happen_and_writes_nothing() {
    let clock = ManualClock::new();
    let store = Arc::new(InMemoryStore::new(Arc::new(clock.clone())));
    let s = Stage::over(
        Arc::clone(&store) as Arc<dyn StateStore>,
        clock,
        ScriptedProbe::new(),
        ControllableLauncher::accepting(),
        |b| b,
    );
    s.probe.set("lib", "r1");
    s.define("lib", &["site"], each_minute()).await;
    let dump = || format!("{:?}", store.dump());
    let preview = async |expected: Option<&str>, decision: &str| {
        let before = dump();
        let p = s.scheduler.preview("lib").await.unwrap();
        assert_eq!(dump(), before, "{decision}: nothing is written");
        assert_eq!(p.would_build, expected.map(revision), "{decision}");
        let names: Vec<_> = p.decisions.iter().map(|(d, _)| d.name()).collect();
        assert_eq!(names.concat(), decision);
        p
    };
    preview(Some("r1"), "Build").await;
    assert_eq!(s.launcher.launch_calls(), 0);
    s.settle().await;
    preview(None, "Unchanged").await;
    s.probe.set("lib", "r2");
    let seen = preview(None, "Coalesced").await;
    assert_eq!(seen.observed, Some(revision("r2")));
    s.end("lib", Outcome::Succeeded).await;
    preview(Some("r2"), "Build").await;
    s.scheduler.trigger("lib", TriggerRequest::manual()).await.unwrap();
    preview(Some("r2"), "BuildUnchanged").await;
    s.scheduler.pause("lib", &somebody(), "").await.unwrap();
    preview(None, "PausedPaused").await;
    s.probe.fail("lib", ErrorKind::Unavailable);
    assert!(preview(None, "").await.failure.is_some());
    s.probe.heal("lib");
    s.probe.gone("lib");
    preview(None, "SourceMissing").await;
    s.scheduler.resume("lib").await.unwrap();
    s.probe.set("lib", "r3");
    let asked = s.probe.asked("lib");
    s.settle().await;
    assert!(s.probe.asked("lib") > asked, "a preview does not count as a look");
}

#[tokio::test]
async fn history_comes_newest_first_in_parts() {
    let s = built(each_minute()).await;
    for n in 2..=5 {
        s.probe.set("lib", &format!("r{n}"));
        s.push("lib").await;
        s.end("lib", Outcome::Succeeded).await;
    }
    let (mut seen, mut after) = (Vec::new(), None::<String>);
    loop {
        let (part, next) = s.scheduler.history("lib", after.as_deref(), 2).await.unwrap();
        seen.extend(part.into_iter().map(|b| (b.number, b.revision.to_string())));
        match next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let expected: Vec<_> = (1..=5).rev().map(|n| (n, format!("r{n}"))).collect();
    assert_eq!(seen, expected);
    let (projects, next) = s.scheduler.project_history("site", None, 3).await.unwrap();
    assert_eq!(
        projects.iter().map(|b| b.name.as_str()).collect::<Vec<_>>(),
        ["20260301.5", "20260301.4", "20260301.3"]
    );
    let (rest, _) = s.scheduler.project_history("site", next.as_deref(), 3).await.unwrap();
    assert_eq!(rest.len(), 2);
}

#[tokio::test]
async fn each_decision_is_recorded_once_and_its_repetition_counted() {
    let mut veto = Veto::default();
    veto.rewound = true;
    let s = built(each_minute().with_veto(veto)).await;
    s.pass(300).await;
    s.probe.set("lib", "r0");
    s.probe.relate("lib", "r1", "r0", Relation::Rewound);
    s.pass(300).await;
    s.scheduler.pause("lib", &somebody(), "").await.unwrap();
    s.pass(300).await;
    assert_eq!(s.decisions("lib").await, ["Build", "Vetoed", "Paused"]);
    let counts = s.scheduler.status("lib").await.unwrap().look_note.unwrap().counts;
    assert_eq!((counts["Unchanged"], counts["Vetoed"], counts["Paused"]), (5, 4, 4));
    s.scheduler.resume("lib").await.unwrap();
    s.push("lib").await;
    s.manual_at("lib", "r1").await;
    s.end("lib", Outcome::Succeeded).await;
    let decisions = s.decisions("lib").await;
    assert_eq!(decisions[3..], ["Vetoed", "Build", "Vetoed"], "what is decided at a release is recorded");
}

#[tokio::test]
async fn a_decision_tells_its_revision_and_its_build() {
    let s = defined(each_minute()).await;
    s.settle().await;
    let build = s.running("lib").await;
    let page = s.scheduler.decisions("lib", FIRST_EVENT, 100).await.unwrap();
    let decided = page.items.into_iter().find_map(|e| match e.event.kind {
        EventKind::Decided { decision, revision, build, .. } => Some((decision, revision, build)),
        _ => None,
    });
    assert_eq!(decided, Some(("Build".into(), Some(revision("r1")), Some(build))));
}

#[tokio::test]
async fn events_are_followed_without_a_gap_over_restarts() {
    let s = defined(each_minute()).await;
    let mut position = FIRST_EVENT;
    let mut followed = Vec::new();
    for n in 2..=6 {
        s.settle().await;
        s.end("lib", Outcome::Succeeded).await;
        s.probe.set("lib", &format!("r{n}"));
        s.push("lib").await;
        // Another process each time, that reads a few and goes.
        let mut stream = s.again().scheduler.follow(EventFilter::All, position);
        for _ in 0..4 {
            followed.push(stream.next().await.unwrap());
        }
        position = stream.position();
    }
    let all = s.scheduler.events(EventFilter::All, FIRST_EVENT, 1_000).await.unwrap().items;
    assert!(all.len() > followed.len());
    assert_eq!(followed, all[..followed.len()]);
    assert!(all.windows(2).all(|w| w[0].seq < w[1].seq));
}

#[tokio::test]
async fn whoever_follows_waits_for_what_comes() {
    let s = built(each_minute()).await;
    let id = s.state("lib").await.id;
    let end = s.scheduler.events(EventFilter::All, FIRST_EVENT, 1_000).await.unwrap().upto;
    let following = tokio::spawn({
        let scheduler = s.scheduler.clone();
        async move { scheduler.follow(EventFilter::Dependency(id), end).next().await.unwrap() }
    });
    s.clock.until_sleeping(1).await;
    s.scheduler.ensure_project("other").await.unwrap();
    s.scheduler.pause("lib", &somebody(), "").await.unwrap();
    s.clock.advance(Duration::from_secs(2));
    let event = following.await.unwrap();
    assert!(matches!(event.event.kind, EventKind::Paused { .. }), "{event:?}");
}

#[tokio::test]
async fn logs_and_artifacts_are_read_where_they_are_registered() {
    let launcher = ControllableLauncher::accepting();
    let with = Stage::with(launcher.clone(), |b| b.output("fake", Arc::new(launcher)));
    let without = with.again();
    with.probe.set("lib", "r1");
    with.define("lib", &[], each_minute()).await;
    with.settle().await;
    let external = with.launcher.last_of("lib");
    external.start();
    external.log("one\ntwo\n");
    external.artifact("out/a", b"abc".to_vec());
    let build = with.end("lib", Outcome::Succeeded).await.id;
    let log = with.scheduler.log(build, 4, 100).await.unwrap();
    assert_eq!((log.bytes.as_slice(), log.is_last), (&b"two\n"[..], true));
    assert_eq!(with.scheduler.artifact(build, "out/a", 1, 1).await.unwrap().bytes, b"b");
    for name in ["out/b", "../etc", ""] {
        assert_eq!(with.scheduler.artifact(build, name, 0, 1).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(without.scheduler.log(build, 0, 1).await.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_status_says_when_the_next_look_is() {
    let s = built(each_minute()).await;
    let status = s.scheduler.status("lib").await.unwrap();
    let next = status.next_look.unwrap();
    assert!(next > status.at && next <= status.at + Duration::from_secs(60));
}

#[tokio::test]
async fn a_look_that_no_scheduler_takes_is_a_reason() {
    let s = built(Policy::default()).await;
    let status = s.status("lib").await;
    let since = status.next_look.expect("a schedule");
    s.clock.advance(until(status.at, since) + Duration::from_secs(119));
    assert_eq!(s.why("lib").await, WhyNotBuilding::UpToDate);
    s.clock.advance(Duration::from_secs(2));
    let lane = Lane::Probe("scripted".parse().unwrap());
    assert_eq!(s.why("lib").await, WhyNotBuilding::Unserved { lane, since });
    s.settle().await;
    assert_eq!(s.why("lib").await, WhyNotBuilding::UpToDate);
}
