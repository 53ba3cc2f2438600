//! Builds whose records are huge, because of what somebody gave them.

use crate::desk::{Desk, JOB};
use capomastro_core::{
    ErrorKind,
    launch::{BuildLauncher as _, Found, Seen},
};
use capomastro_testkit::jenkins::Fault;

/// Somebody's build with a parameter of so many bytes.
fn stranger(desk: &Desk, bytes: usize) {
    desk.jenkins.trigger(JOB, &[("CAPOMASTRO_REVISION", &"x".repeat(bytes))], "somebody");
    desk.jenkins.next_event();
}

#[tokio::test]
async fn large_records_are_read_a_few_at_a_time() {
    let desk = Desk::with(|s| s.executors(100), |l| l.max_answer_bytes(64 * 1024)).await;
    let mut builds = Vec::new();
    for _ in 0..6 {
        builds.push(desk.running().await);
        stranger(&desk, 20_000);
        stranger(&desk, 20_000);
    }
    let asks: Vec<_> = builds.iter().map(|b| (b.request.key, b.external.clone())).collect();
    for report in desk.another().observe(&asks).await {
        assert_eq!(report.unwrap().seen, Seen::Running);
    }
    for build in &builds {
        assert!(matches!(desk.another().find(&build.request).await.unwrap(), Found::Build(_)));
    }
}

#[tokio::test]
async fn one_that_nobody_can_read_spoils_no_other_and_proves_nothing() {
    let desk = Desk::with(|s| s.executors(100), |l| l.max_answer_bytes(64 * 1024)).await;
    let older = desk.running().await;
    let mut never = desk.request();
    desk.jenkins.fault(Fault::proxy(502).on("POST", "").times(1));
    assert_eq!(desk.try_launch(&mut never).await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    stranger(&desk, 100_000);
    let newer = desk.running().await;
    let asks: Vec<_> = [&older, &newer].map(|b| (b.request.key, b.external.clone())).into();
    for report in desk.another().observe(&asks).await {
        assert_eq!(report.unwrap().seen, Seen::Running);
    }
    for build in [&older, &newer] {
        assert!(matches!(desk.another().find(&build.request).await.unwrap(), Found::Build(_)));
    }
    // What cannot be read might be the one.
    desk.is_doubtful(&never).await;
}
