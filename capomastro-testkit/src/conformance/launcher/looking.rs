//! Where builds stand.

use super::{End, LauncherHarness, desk::Desk};
use capomastro_core::{
    launch::{Outcome, Seen},
    model::ExternalRef,
};

pub(super) async fn a_build_is_seen_until_it_ends(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let mut build = desk.build().await;
    let first = build.external.clone();
    for _ in 0..5 {
        let report = desk.look(&build).await.expect("the build system can be asked");
        assert!(
            matches!(report.seen, Seen::Queued { .. } | Seen::Running),
            "a build goes on until it ends, but: {report:?}"
        );
        if let Some(renamed) = report.external {
            build.external = renamed;
        }
    }
    desk.end(&build, Outcome::Succeeded).await;
    // Who kept the first name, and slept since, knows the build by it.
    build.external = first;
    assert_eq!(desk.ended(&build).await.outcome, Outcome::Succeeded, "by its first name too");
}

pub(super) async fn another_process_sees_it_too(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let (one, other) = (desk.build().await, desk.build().await);
    desk.end(&one, Outcome::Failed).await;
    let desk = desk.restarted().await;
    assert_eq!(desk.ended(&one).await.outcome, Outcome::Failed, "what has ended has ended");
    desk.goes_on(&other, "another process looks").await;
    desk.end(&other, Outcome::Succeeded).await;
}

pub(super) async fn reports_are_one_per_build_and_in_order(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let mut builds = Vec::new();
    for _ in 0..4 {
        builds.push(desk.build().await);
    }
    desk.end(&builds[0], Outcome::Succeeded).await;
    desk.end(&builds[2], Outcome::Failed).await;
    for turned in 0..builds.len() {
        let mut order: Vec<usize> = (0..builds.len()).chain([0]).collect();
        order.rotate_left(turned);
        let asks: Vec<_> = order.iter().map(|n| builds[*n].named()).collect();
        let reports = desk.launcher.observe(&asks).await;
        assert_eq!(reports.len(), asks.len(), "one report for each build");
        for (n, report) in order.into_iter().zip(reports) {
            let seen = report.expect("the build system can be asked").seen;
            let right = match &seen {
                Seen::Ended(ended) => {
                    ended.outcome
                        == [Outcome::Succeeded, Outcome::Cancelled, Outcome::Failed, Outcome::Cancelled][n]
                }
                Seen::Queued { .. } | Seen::Running => n % 2 == 1,
                Seen::Unknown => false,
            };
            assert!(right, "reports come in the order of the builds; the one of build {n} is {seen:?}");
        }
    }
}

pub(super) async fn no_builds_no_reports(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    desk.build().await;
    assert!(desk.launcher.observe(&[]).await.is_empty(), "there is nothing to report");
}

/// It may have been stored by another version, or for another build system.
pub(super) async fn one_strange_reference_spoils_no_other(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let (one, other) = (desk.build().await, desk.build().await);
    desk.end(&other, Outcome::Succeeded).await;
    let mut asks = vec![one.named()];
    let strange = ["", "nonsense", "../../etc/passwd", "a\0b\n", "🦀", "http://[::1]:99999/x"];
    asks.extend(strange.map(|name| (desk.request().key, ExternalRef(name.into()))));
    asks.push(other.named());
    let reports = desk.launcher.observe(&asks).await;
    assert_eq!(reports.len(), asks.len(), "one report for each build");
    let last = asks.len() - 1;
    for (n, report) in reports.into_iter().enumerate() {
        let right = match (&report, n) {
            (Ok(report), 0) => matches!(report.seen, Seen::Queued { .. } | Seen::Running),
            (Ok(report), n) if n == last => matches!(report.seen, Seen::Ended(_)),
            (Ok(report), _) => report.seen == Seen::Unknown,
            (Err(_), n) => n != 0 && n != last,
        };
        assert!(right, "{:?} is reported as {report:?}", asks[n].1);
    }
}

pub(super) async fn what_was_forgotten_is_unknown(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let (one, other) = (desk.build().await, desk.build().await);
    let ended = desk.end(&one, Outcome::Succeeded).await;
    if harness.forget(one.key()).await {
        assert_eq!(desk.seen(&one).await, Seen::Unknown, "the build system works and does not know it");
    } else {
        assert_eq!(desk.ended(&one).await, ended, "what is never forgotten stays as it ended");
    }
    desk.goes_on(&other, "another build was forgotten").await;
}

pub(super) async fn a_look_out_of_reach_is_an_error(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let (one, other) = (desk.build().await, desk.build().await);
    desk.end(&other, Outcome::Succeeded).await;
    if !harness.cut(true).await {
        // Then no look ever fails.
        desk.goes_on(&one, "nothing can be out of reach").await;
        return;
    }
    let reports = desk.launcher.observe(&[one.named(), other.named()]).await;
    assert_eq!(reports.len(), 2, "one report for each build");
    for report in reports {
        assert!(report.is_err(), "nobody can tell where a build stands, but: {report:?}");
    }
}

pub(super) async fn what_happened_meanwhile_is_seen_afterwards(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let (one, other) = (desk.build().await, desk.build().await);
    let is_cut = harness.cut(true).await;
    assert!(harness.end(one.key(), &End::of(Outcome::Failed)).await, "builds can fail");
    if is_cut {
        drop(desk.look(&one).await);
        assert!(harness.cut(false).await, "what was out of reach is in reach again");
    }
    assert_eq!(desk.ended(&one).await.outcome, Outcome::Failed, "it ended while nobody looked");
    desk.goes_on(&other, "the build system was out of reach").await;
}
