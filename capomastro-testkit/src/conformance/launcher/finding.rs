//! Searches by key.

use super::{LauncherHarness, desk::Desk};
use capomastro_core::launch::{Found, Outcome};

pub(super) async fn what_was_not_launched_is_not_found(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let request = desk.request();
    if desk.is_blind() {
        let found = desk.launcher.find(&request).await.expect("the build system can be asked");
        assert!(
            matches!(found, Found::Inconclusive { .. }),
            "a blind launcher proves nothing, but: {found:?}"
        );
        return;
    }
    assert_eq!(desk.found(&request).await, None, "nothing was ever launched");
}

pub(super) async fn what_was_launched_is_found(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let mut build = desk.build().await;
    if desk.is_blind() {
        let found = desk.launcher.find(&build.request).await.expect("the build system can be asked");
        assert_ne!(found, Found::Absent, "it is there");
        return;
    }
    build.external = desk.found(&build.request).await.expect("what was launched is found");
    desk.goes_on(&build, "it was found").await;
    // Without a memo too: the process that would have kept it may have been killed before it did.
    build.request.memo = None;
    build.external = desk.found(&build.request).await.expect("what was launched is found");
    desk.end(&build, Outcome::Succeeded).await;
}

/// Who was away for long must not take it for absent and launch it again.
pub(super) async fn what_has_ended_is_found(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let mut build = desk.build().await;
    let ended = desk.end(&build, Outcome::Failed).await;
    let desk = desk.restarted().await;
    if desk.is_blind() {
        let found = desk.launcher.find(&build.request).await.expect("the build system can be asked");
        assert_ne!(found, Found::Absent, "it was there");
        return;
    }
    build.external = desk.found(&build.request).await.expect("what has ended is found");
    assert_eq!(desk.ended(&build).await, ended, "as it ended");
}

pub(super) async fn a_search_finds_no_other_build(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let (one, other) = (desk.build().await, desk.request());
    if desk.is_blind() {
        let found = desk.launcher.find(&other).await.expect("the build system can be asked");
        assert_ne!(found, Found::Build(one.external), "it is another key's");
        return;
    }
    assert_eq!(desk.found(&other).await, None, "another build of the same dependency is there");
    assert!(desk.found(&one.request).await.is_some(), "which is found by its own key");
}

pub(super) async fn a_search_starts_nothing(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let (build, request) = (desk.build().await, desk.request());
    desk.settle().await;
    for _ in 0..3 {
        for request in [&build.request, &request] {
            desk.launcher.find(request).await.expect("the build system can be asked");
        }
    }
    assert_eq!(desk.builds(build.key()).await.len(), 1, "a search is read-only");
    desk.nothing_started(request.key, "it was only searched for").await;
}

pub(super) async fn a_search_out_of_reach_is_an_error(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let build = desk.build().await;
    desk.settle().await;
    if harness.cut(true).await {
        let found = desk.launcher.find(&build.request).await;
        assert!(found.is_err(), "nobody can tell whether it is there, but: {found:?}");
        assert!(harness.cut(false).await, "what was out of reach is in reach again");
    }
    let found = desk.launcher.find(&build.request).await;
    assert!(matches!(found, Ok(Found::Build(_) | Found::Inconclusive { .. })), "it is there: {found:?}");
}
