//! One key, one build, as far as a launcher promises it.

use super::{
    LauncherHarness,
    desk::{Build, Desk, Memos},
};
use capomastro_core::launch::{Found, Launched, Outcome, Promise};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Barrier, task::JoinSet};

const RACERS: usize = 8;

impl Desk<'_> {
    /// The answer to a launch of this key was lost: goes on as a scheduler would with this launcher.
    async fn launched_again_as_promised(&self, first: &Build) {
        let request = &first.request;
        match self.launcher.promise() {
            Promise::IdempotentByKey => {
                for memo in [request.memo.clone(), None] {
                    let mut request = request.clone();
                    request.memo = memo;
                    let again = self.launch(request).await;
                    let seen = self.look(&again).await.expect("what was adopted can be looked at");
                    let first = self.look(first).await.expect("and by its first name too");
                    assert_eq!(
                        std::mem::discriminant(&seen.seen),
                        std::mem::discriminant(&first.seen),
                        "it is the same build"
                    );
                }
            }
            Promise::FindableByKey { .. } => {
                let found = self.found(request).await;
                assert!(found.is_some(), "what was launched is found, so it is not launched again");
            }
            Promise::Blind => {
                let found = self.launcher.find(request).await.expect("the build system can be asked");
                assert_ne!(found, Found::Absent, "a launcher that cannot tell says so");
            }
        }
        assert_eq!(self.builds(request.key).await.len(), 1, "one key, one build");
    }
}

pub(super) async fn a_key_that_is_launched_again_starts_as_promised(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let build = desk.build().await;
    desk.launched_again_as_promised(&build).await;
}

pub(super) async fn a_key_that_is_launched_by_another_process_starts_as_promised(
    harness: &dyn LauncherHarness,
) {
    let desk = Desk::new(harness).await;
    let build = desk.build().await;
    desk.restarted().await.launched_again_as_promised(&build).await;
}

pub(super) async fn a_key_that_has_ended_is_not_started_again(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let build = desk.build().await;
    desk.end(&build, Outcome::Succeeded).await;
    desk.launched_again_as_promised(&build).await;
}

pub(super) async fn racing_launches_of_one_key_start_as_promised(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let request = desk.request();
    let start = Arc::new(Barrier::new(RACERS));
    let mut racers = JoinSet::new();
    for _ in 0..RACERS {
        let (launcher, request, start) = (harness.open().await, request.clone(), Arc::clone(&start));
        racers.spawn(async move {
            start.wait().await;
            launcher.launch(&request, &Memos::default()).await
        });
    }
    let mut accepted = 0;
    for answer in racers.join_all().await {
        match answer {
            Ok(Launched::Accepted(_)) => accepted += 1,
            Ok(Launched::Refused(refusal)) => panic!("a good request is not refused: {refusal:?}"),
            Err(_) => {}
        }
    }
    assert!(accepted > 0, "one of them is accepted");
    desk.until_started(request.key).await;
    let started = desk.builds(request.key).await.len();
    if desk.launcher.promise() == Promise::IdempotentByKey {
        assert_eq!(started, 1, "whoever launches, one key has one build");
    } else {
        assert!(started <= RACERS, "no launch starts more than one build, and {started} did of {RACERS}");
    }
}

pub(super) async fn each_key_has_a_build_of_its_own(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let (one, other) = (desk.build().await, desk.build().await);
    assert_ne!(one.external, other.external, "two builds are called by two names");
    for build in [&one, &other] {
        assert_eq!(desk.builds(build.key()).await.len(), 1, "one key, one build");
    }
    desk.end(&one, Outcome::Failed).await;
    desk.goes_on(&other, "another build has ended").await;
    desk.end(&other, Outcome::Succeeded).await;
    assert_eq!(desk.ended(&one).await.outcome, Outcome::Failed, "each ends by itself");
}

pub(super) async fn a_promise_is_kept_for_life(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let promise = desk.launcher.promise();
    if let Promise::FindableByKey { settle } = promise {
        assert!(settle > Duration::ZERO, "a build cannot be believed absent while its request is under way");
    }
    let build = desk.build().await;
    desk.end(&build, Outcome::Succeeded).await;
    assert_eq!(desk.launcher.promise(), promise, "a promise is constant");
    let other = desk.restarted().await;
    assert_eq!(other.launcher.promise(), promise, "in every process");
}
