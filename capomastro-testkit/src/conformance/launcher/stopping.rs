//! Asking builds to stop. What is reported afterwards is what counts.

use super::{LauncherHarness, desk::Desk};
use capomastro_core::launch::Outcome;

pub(super) async fn a_build_that_is_stopped_ends(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let build = desk.build().await;
    desk.goes_on(&build, "it was just launched").await;
    desk.cancel(&build).await;
    assert_eq!(desk.ended(&build).await.outcome, Outcome::Cancelled, "it was stopped");
}

pub(super) async fn a_stop_may_be_asked_for_again(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let build = desk.build().await;
    for _ in 0..3 {
        desk.cancel(&build).await;
    }
    let ended = desk.ended(&build).await;
    desk.cancel(&build).await;
    assert_eq!(desk.ended(&build).await, ended, "asking again changes nothing");
    assert_eq!(desk.builds(build.key()).await.len(), 1, "asking again starts nothing");
}

pub(super) async fn a_stop_by_another_process_counts(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let build = desk.build().await;
    let other = Desk::new(harness).await;
    other.cancel(&build).await;
    assert_eq!(desk.ended(&build).await.outcome, Outcome::Cancelled, "whoever asked");
}

pub(super) async fn a_stop_of_what_has_ended_changes_nothing(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    for outcome in [Outcome::Succeeded, Outcome::Failed] {
        let build = desk.build().await;
        let ended = desk.end(&build, outcome).await;
        for _ in 0..2 {
            desk.cancel(&build).await;
            assert_eq!(desk.ended(&build).await, ended, "it had ended before it was to stop");
        }
    }
}

pub(super) async fn a_stop_of_what_was_forgotten_is_harmless(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let (one, other) = (desk.build().await, desk.build().await);
    desk.end(&one, Outcome::Succeeded).await;
    harness.forget(one.key()).await;
    for _ in 0..2 {
        let asked = desk.launcher.cancel(&one.key(), &one.external).await;
        asked.expect("nothing has to be stopped");
    }
    desk.goes_on(&other, "one that was forgotten was to stop").await;
}

pub(super) async fn a_stop_touches_no_other_build(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let (before, build, after) = (desk.build().await, desk.build().await, desk.build().await);
    desk.cancel(&build).await;
    desk.ended(&build).await;
    for other in [&before, &after] {
        desk.goes_on(other, "another build was stopped").await;
        desk.end(other, Outcome::Succeeded).await;
    }
}

pub(super) async fn a_stop_that_cannot_be_asked_for_is_an_error(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let build = desk.build().await;
    if harness.cut(true).await {
        let asked = desk.launcher.cancel(&build.key(), &build.external).await;
        assert!(asked.is_err(), "nobody was asked to stop it, and nobody was told");
        assert!(harness.cut(false).await, "what was out of reach is in reach again");
        desk.goes_on(&build, "it was not asked to stop").await;
    }
    desk.cancel(&build).await;
    assert_eq!(desk.ended(&build).await.outcome, Outcome::Cancelled, "it is asked again");
}
