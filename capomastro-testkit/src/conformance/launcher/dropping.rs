//! Callers that lose interest.

use super::{
    LauncherHarness,
    desk::{Build, Desk, Memos},
};
use crate::conformance::abandon::abandoned;
use capomastro_core::launch::{Found, Outcome, Promise};

/// It may have started the build; what a scheduler does next must not start another one.
pub(super) async fn a_dropped_launch_starts_as_promised(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    for polls in 0..12 {
        let mut request = desk.request();
        let memos = Memos::default();
        drop(abandoned(desk.launcher.launch(&request, &memos), polls).await);
        request.memo = memos.last();
        let build = match desk.launcher.promise() {
            Promise::IdempotentByKey => Some(desk.launch(request.clone()).await),
            Promise::FindableByKey { .. } => match desk.found(&request).await {
                Some(external) => Some(Build { request: request.clone(), external }),
                None => {
                    desk.nothing_started(request.key, "its absence was proven").await;
                    None
                }
            },
            Promise::Blind => {
                let found = desk.launcher.find(&request).await.expect("the build system can be asked");
                assert_ne!(found, Found::Absent, "a launcher that cannot tell says so");
                None
            }
        };
        if let Some(build) = build {
            desk.until_started(build.key()).await;
            desk.end(&build, Outcome::Succeeded).await;
        }
        let builds = desk.builds(request.key).await;
        assert!(builds.len() <= 1, "dropped after {polls} polls: one key, one build, and not {builds:?}");
    }
}

pub(super) async fn dropped_looks_and_searches_leave_nothing(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let (one, other) = (desk.build().await, desk.build().await);
    let ended = desk.end(&other, Outcome::Succeeded).await;
    let absent = desk.request();
    let asks = [one.named(), other.named()];
    for polls in 0..6 {
        drop(abandoned(desk.launcher.observe(&asks), polls).await);
        drop(abandoned(desk.launcher.find(&one.request), polls).await);
        drop(abandoned(desk.launcher.find(&absent), polls).await);
    }
    desk.goes_on(&one, "looks were dropped").await;
    assert_eq!(desk.ended(&other).await, ended, "what has ended has ended");
    assert_eq!(desk.builds(one.key()).await.len(), 1, "looks are read-only");
    desk.nothing_started(absent.key, "it was only searched for").await;
}

pub(super) async fn a_dropped_stop_can_be_repeated(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    for polls in 0..6 {
        let build = desk.build().await;
        drop(abandoned(desk.launcher.cancel(&build.key(), &build.external), polls).await);
        desk.cancel(&build).await;
        assert_eq!(desk.ended(&build).await.outcome, Outcome::Cancelled, "it was stopped");
    }
}
