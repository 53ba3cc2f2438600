//! Messages over real HTTP, and what comes of them.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used, reason = "tests")]

use capomastro_core::{
    ErrorKind, InMemoryStore, Scheduler,
    launch::Outcome,
    model::{LaunchKey, Phase},
    scheduler::{DependencySpec, TriggerRequest},
    secret::Secret,
    time::{Clock, SystemClock, SystemRandom},
};
use capomastro_jenkins::notify::{MAX_BODY, Notifications, Received, draw_segment};
use capomastro_testkit::{ControllableLauncher, ManualClock, ScriptedProbe};
use serde_json::{Value, json};
use std::{future::pending, sync::Arc, time::Duration};

const SEGMENT: &str = "0123456789abcdefABCDEF-_";

/// What is tried; what comes, in order, and what becomes of each; which builds are looked at.
type Case = (&'static str, Vec<(Value, Received)>, Vec<u128>);

fn receiver() -> Notifications {
    Notifications::new(Secret::new(SEGMENT)).unwrap()
}

fn key(n: u128) -> LaunchKey {
    LaunchKey::from_uuid(uuid::Uuid::from_u128(n))
}

fn message(url: &str, number: u64, phase: &str, key: Option<LaunchKey>) -> Value {
    let mut message = json!({"name": "lib", "url": url, "build": {"number": number, "phase": phase}});
    if let Some(key) = key {
        message["build"]["parameters"] = json!({"CAPOMASTRO_BUILD_ID": key.to_string()});
    }
    message
}

/// An axum server with the receiver below `/hooks`; ends with the runtime.
async fn serve(receiver: &Notifications) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}/hooks", listener.local_addr().unwrap());
    let app = axum::Router::new().nest("/hooks", receiver.routes());
    tokio::spawn(async move { axum::serve(listener, app).await });
    at
}

async fn post(at: &str, segment: &str, body: impl Into<reqwest::Body>) -> u16 {
    reqwest::Client::new().post(format!("{at}/{segment}")).body(body).send().await.unwrap().status().as_u16()
}

/// The keys that wait, without waiting for more.
async fn waiting(receiver: &Notifications) -> Vec<LaunchKey> {
    let next = std::pin::pin!(receiver.next());
    match futures_util::future::select(next, std::future::ready(())).await {
        futures_util::future::Either::Left((keys, _)) => keys,
        futures_util::future::Either::Right(_) => Vec::new(),
    }
}

#[tokio::test]
async fn each_kind_of_message_is_taken_for_what_it_is_worth() {
    let ours = |phase: &str| message("job/lib/", 1, phase, Some(key(1)));
    let cases: Vec<Case> = vec![
        (
            "queued and started together are one look",
            vec![(ours("QUEUED"), Received::Noted), (ours("STARTED"), Received::Noted)],
            vec![1],
        ),
        (
            "retries of the plugin",
            vec![
                (ours("COMPLETED"), Received::Noted),
                (ours("COMPLETED"), Received::Repeated),
                (ours("COMPLETED"), Received::Repeated),
            ],
            vec![1],
        ),
        ("the end is lost", vec![(ours("STARTED"), Received::Noted)], vec![1]),
        (
            "out of order",
            vec![(ours("FINALIZED"), Received::Noted), (ours("STARTED"), Received::Noted)],
            vec![1],
        ),
        (
            "finished is finalized",
            vec![(ours("FINISHED"), Received::Noted), (ours("FINALIZED"), Received::Repeated)],
            vec![1],
        ),
        (
            "an unknown job and an unknown phase are no worse than any other",
            vec![
                (message("job/who/", 9, "STARTED", Some(key(9))), Received::Noted),
                (ours("PONDERING"), Received::Noted),
            ],
            vec![1, 9],
        ),
        (
            "a build of somebody else",
            vec![(message("job/lib/", 1, "STARTED", None), Received::NotOurs)],
            vec![],
        ),
        (
            "jobs of one short name in two folders",
            vec![
                (message("job/a/job/lib/", 1, "STARTED", Some(key(1))), Received::Noted),
                (message("job/b/job/lib/", 1, "STARTED", Some(key(2))), Received::Noted),
            ],
            vec![1, 2],
        ),
        (
            "a job that was deleted and made again counts from one again",
            vec![
                (ours("STARTED"), Received::Noted),
                (message("job/lib/", 1, "STARTED", Some(key(2))), Received::Noted),
            ],
            vec![1, 2],
        ),
        ("no message at all", vec![(json!("hello"), Received::Unreadable)], vec![]),
    ];
    for (case, messages, looked_at) in cases {
        let receiver = receiver();
        for (message, expected) in messages {
            assert_eq!(receiver.receive(message.to_string().as_bytes()), expected, "{case}");
        }
        assert_eq!(waiting(&receiver).await, looked_at.into_iter().map(key).collect::<Vec<_>>(), "{case}");
        assert!(waiting(&receiver).await.is_empty(), "{case}: each is looked at once");
    }
}

#[tokio::test]
async fn only_the_secret_address_is_heard_and_every_message_is_answered_alike() {
    let receiver = receiver();
    let at = serve(&receiver).await;
    let good = message("job/lib/", 1, "STARTED", Some(key(1))).to_string();
    for wrong in ["", "x", &SEGMENT[1..], &format!("{SEGMENT}x"), &SEGMENT.to_lowercase(), "a/b"] {
        assert_eq!(post(&at, wrong, good.clone()).await, 404, "{wrong}");
    }
    assert!(waiting(&receiver).await.is_empty());
    for (body, status) in [
        (good.clone(), 204),
        (good, 204),
        ("<html>".into(), 204),
        (String::new(), 204),
        (message("job/lib/", 1, "STARTED", None).to_string(), 204),
        (" ".repeat(MAX_BODY), 204),
        (" ".repeat(MAX_BODY + 1), 413),
    ] {
        assert_eq!(post(&at, SEGMENT, body).await, status);
    }
    let got = reqwest::get(format!("{at}/{SEGMENT}")).await.unwrap();
    assert_eq!(got.status(), 405);
    assert_eq!(waiting(&receiver).await, [key(1)]);
}

#[test]
fn an_address_that_can_be_guessed_is_refused() {
    for bad in
        ["", "short", "012345678901234567890", "has/a/slash/0123456789abcdef", "ümlaut-0123456789abcdef01"]
    {
        let error = Notifications::new(Secret::new(bad)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(bad.is_empty() || !error.report().contains(bad), "{error:?}");
    }
    let drawn = draw_segment(&SystemRandom);
    let receiver = Notifications::new(drawn.clone()).unwrap();
    assert!(receiver.is_segment(drawn.expose()));
    assert!(!format!("{receiver:?}").contains(drawn.expose()));
    assert_ne!(drawn.expose(), draw_segment(&SystemRandom).expose());
}

#[test]
fn what_waits_is_bounded() {
    let receiver = receiver();
    for n in 1..=10_000 {
        let message = message("job/lib/", 1, "STARTED", Some(key(n)));
        assert_eq!(receiver.receive(message.to_string().as_bytes()), Received::Noted);
    }
    let one_more = message("job/lib/", 1, "STARTED", Some(key(10_001))).to_string();
    assert_eq!(receiver.receive(one_more.as_bytes()), Received::Full);
    let known = message("job/lib/", 1, "COMPLETED", Some(key(1))).to_string();
    assert_eq!(receiver.receive(known.as_bytes()), Received::Noted, "about one that waits already");
}

/// From the message to the end of the build. Time stands still, so that nothing is looked at of its own accord.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_makes_the_scheduler_look() {
    let launcher = ControllableLauncher::accepting();
    let clock = ManualClock::new();
    let scheduler = Scheduler::builder(InMemoryStore::new(Arc::new(clock.clone())))
        .clock(Arc::new(clock.clone()))
        .probe("scripted", Arc::new(ScriptedProbe::new()))
        .launcher("fake", Arc::new(launcher.clone()))
        .build()
        .unwrap();
    let source = ScriptedProbe::source("lib");
    scheduler.ensure(&DependencySpec::new("lib", source, "fake").unwrap()).await.unwrap();
    let receiver = receiver();
    let at = serve(&receiver).await;
    let (running, handing_on) = (scheduler.clone(), scheduler.clone());
    let forwarder = receiver.clone();
    tokio::spawn(async move { running.run(pending()).await });
    tokio::spawn(async move { forwarder.forward(&handing_on, pending()).await });
    let at_revision = TriggerRequest::manual().at("r1".parse().unwrap());
    scheduler.trigger("lib", at_revision).await.unwrap();
    let build = until(async || launcher.builds().into_iter().next()).await;
    let id = build.request().build;
    until(async || (scheduler.build(id).await.unwrap().phase == Phase::Submitted).then_some(())).await;
    build.finish(Outcome::Succeeded);
    let told = message("job/lib/", 1, "FINALIZED", Some(build.key())).to_string();
    assert_eq!(post(&at, SEGMENT, told).await, 204);
    until(async || (scheduler.build(id).await.unwrap().phase == Phase::Succeeded).then_some(())).await;
}

async fn until<T>(mut there: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..2_000 {
        if let Some(it) = there().await {
            return it;
        }
        SystemClock.sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not happen within 20 s");
}
