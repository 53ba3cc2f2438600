//! What may be sent, and when.

use super::{
    LauncherHarness, NextAnswer,
    desk::{Desk, Memos},
};
use crate::conformance::Time;
use capomastro_core::{
    Error, ErrorKind, Result, async_trait,
    launch::{Journal, Launched, SendBefore},
    time::Monotonic,
};
use futures_util::{FutureExt, poll};
use serde_json::Value;
use std::{
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::sync::Notify;

pub(super) async fn a_launch_starts_a_build(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let build = desk.launch(desk.request()).await;
    desk.until_started(build.key()).await;
    assert_eq!(desk.builds(build.key()).await.len(), 1, "one launch, one build");
    desk.goes_on(&build, "it was just launched").await;
}

pub(super) async fn nothing_is_sent_too_late(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let mut request = desk.request();
    for before in [Monotonic(Duration::ZERO), harness.time().clock().monotonic()] {
        request.send_before = SendBefore(before);
        match desk.launcher.launch(&request, &Memos::default()).await {
            Err(e) => assert_eq!(e.kind(), ErrorKind::ClaimLost, "{e:?}"),
            Ok(answer) => panic!("it is too late to send anything, but: {answer:?}"),
        }
        desk.nothing_started(request.key, "it was too late").await;
    }
    assert_eq!(desk.found_if_it_can(&request).await, None, "nothing was sent");
}

impl Desk<'_> {
    async fn found_if_it_can(
        &self,
        request: &capomastro_core::launch::LaunchRequest,
    ) -> Option<capomastro_core::model::ExternalRef> {
        if self.is_blind() { None } else { self.found(request).await }
    }
}

/// Keeps memos so slowly that the time for sending is over.
#[derive(Debug)]
struct Slow {
    time: Time,
    takes: Duration,
    asked: AtomicBool,
}

#[async_trait]
impl Journal for Slow {
    async fn keep(&self, _: Value) -> Result<()> {
        self.asked.store(true, Ordering::SeqCst);
        self.time.pass(self.takes).await;
        Ok(())
    }
}

pub(super) async fn nothing_is_sent_too_late_after_the_memo(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let (time, left) = (harness.time(), Duration::from_secs(1));
    let journal = Slow { time: time.clone(), takes: left * 2, asked: AtomicBool::new(false) };
    let mut request = desk.request();
    request.send_before = SendBefore(time.clock().monotonic().plus(left));
    let answer = desk.launcher.launch(&request, &journal).await;
    if journal.asked.load(Ordering::SeqCst) {
        match answer {
            Err(e) => assert_eq!(e.kind(), ErrorKind::ClaimLost, "{e:?}"),
            Ok(answer) => panic!("the time to send was over when the memo was kept, but: {answer:?}"),
        }
        desk.nothing_started(request.key, "it was too late").await;
    } else {
        // It keeps nothing, so nothing took long.
        assert!(matches!(answer, Ok(Launched::Accepted(_))), "it was in time: {answer:?}");
    }
}

/// Keeps nothing.
#[derive(Debug, Default)]
struct Broken(AtomicBool);

#[async_trait]
impl Journal for Broken {
    async fn keep(&self, _: Value) -> Result<()> {
        self.0.store(true, Ordering::SeqCst);
        Err(Error::new(ErrorKind::Unavailable, "the test says that the memo cannot be kept"))
    }
}

pub(super) async fn nothing_is_sent_that_is_not_kept(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let (request, journal) = (desk.request(), Broken::default());
    let answer = desk.launcher.launch(&request, &journal).await;
    if !journal.0.load(Ordering::SeqCst) {
        assert!(matches!(answer, Ok(Launched::Accepted(_))), "it has nothing to keep: {answer:?}");
        return;
    }
    match answer {
        Err(e) => assert_ne!(e.kind(), ErrorKind::OutcomeUnknown, "nothing was sent: {e:?}"),
        Ok(answer) => panic!("the memo was not kept, but: {answer:?}"),
    }
    desk.nothing_started(request.key, "its memo was not kept").await;
    // And the same key still works.
    let build = desk.launch(request).await;
    desk.until_started(build.key()).await;
    assert_eq!(desk.builds(build.key()).await.len(), 1, "the second attempt is the first that sends");
}

/// Keeps a memo only when it is let, and then each further one, as a launcher that hands on to another may have.
#[derive(Debug, Default)]
struct Gate {
    asked: Notify,
    open: Notify,
}

#[async_trait]
impl Journal for Gate {
    async fn keep(&self, _: Value) -> Result<()> {
        self.asked.notify_one();
        self.open.notified().await;
        self.open.notify_one();
        Ok(())
    }
}

pub(super) async fn nothing_is_sent_before_it_is_kept(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let (request, gate) = (desk.request(), Gate::default());
    let mut launch = pin!(desk.launcher.launch(&request, &gate).fuse());
    let mut asked = pin!(gate.asked.notified().fuse());
    futures_util::select! {
        answer = launch => {
            // It keeps nothing: there is nothing to wait for.
            assert!(matches!(answer, Ok(Launched::Accepted(_))), "a good request is accepted: {answer:?}");
            return;
        }
        () = asked => {}
    }
    for _ in 0..5 {
        assert!(poll!(&mut launch).is_pending(), "a launch waits until its memo is kept");
        desk.nothing_started(request.key, "its memo is not kept yet").await;
    }
    gate.open.notify_one();
    let answer = launch.await;
    assert!(matches!(answer, Ok(Launched::Accepted(_))), "and goes on then: {answer:?}");
    desk.until_started(request.key).await;
}

pub(super) async fn a_refusal_starts_nothing(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let mut request = desk.request();
    let Some(job) = harness.refused_job() else {
        // What is never refused is accepted.
        desk.launch(request).await;
        return;
    };
    request.job = job;
    match desk.launcher.launch(&request, &Memos::default()).await {
        Ok(Launched::Refused(refusal)) => {
            assert!(!refusal.reason.trim().is_empty(), "people are told why: {refusal:?}");
        }
        other => panic!("a job that cannot be built is refused, but: {other:?}"),
    }
    desk.nothing_started(request.key, "it was refused").await;
    assert_eq!(desk.found_if_it_can(&request).await, None, "it was refused");
}

pub(super) async fn what_cannot_be_sent_is_an_error(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let request = desk.request();
    if harness.cut(true).await {
        match desk.launcher.launch(&request, &Memos::default()).await {
            Err(e) if e.kind() == ErrorKind::OutcomeUnknown => {}
            Err(_) => desk.nothing_started(request.key, "an error says that nothing was sent").await,
            Ok(answer) => panic!("the build system cannot be reached, but: {answer:?}"),
        }
        assert!(harness.cut(false).await, "what was out of reach is in reach again");
        desk.nothing_started(request.key, "the build system was out of reach").await;
    }
    let build = desk.launch(request).await;
    desk.until_started(build.key()).await;
    assert_eq!(desk.builds(build.key()).await.len(), 1, "the same key is launched afterwards");
}

/// After any other error a scheduler would launch again.
pub(super) async fn what_may_have_been_sent_is_not_called_unsent(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let request = desk.request();
    let is_lost = match harness.lose_answer().await {
        NextAnswer::IsLost => true,
        NextAnswer::CannotBeLost { because } => {
            assert!(!because.trim().is_empty(), "who cannot lose an answer says why");
            false
        }
    };
    match desk.launcher.launch(&request, &Memos::default()).await {
        // It found out by itself.
        Ok(Launched::Accepted(_)) => {}
        Err(e) if is_lost => {
            assert_eq!(e.kind(), ErrorKind::OutcomeUnknown, "its build may have started: {e:?}");
        }
        answer => panic!("its build has started, but: {answer:?}"),
    }
    desk.until_started(request.key).await;
    assert_eq!(desk.builds(request.key).await.len(), 1, "one launch, one build");
}
