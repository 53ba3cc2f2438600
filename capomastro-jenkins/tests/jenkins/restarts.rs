//! Servers that are restarted, killed and reloaded while builds wait and run.

use crate::desk::{Desk, JOB, seconds, spec};
use capomastro_core::launch::{BuildLauncher, Outcome, Seen};
use capomastro_jenkins::JenkinsJob;

#[tokio::test]
async fn what_waits_outlives_a_restart() {
    let desk = Desk::new().await;
    let mut build = desk.launch(desk.request()).await;
    assert!(matches!(desk.see(&mut build).await, Seen::Queued { .. }));
    let before = build.external.clone();
    desk.jenkins.restart();
    assert!(matches!(desk.see(&mut build).await, Seen::Queued { .. }));
    assert_ne!(build.external, before, "its item is known in the new session");
    desk.clock.advance(seconds(20));
    assert_eq!(desk.see(&mut build).await, Seen::Running);
    assert!(desk.jenkins.finish(JOB, desk.number(&build), "SUCCESS"));
    assert_eq!(desk.ended(&mut build).await.outcome, Outcome::Succeeded);
    // By its first name too.
    build.external = before;
    assert_eq!(desk.ended(&mut build).await.outcome, Outcome::Succeeded);
}

#[tokio::test]
async fn a_build_whose_record_was_saved_is_lost_and_not_cancelled() {
    for crash in [false, true] {
        let desk = Desk::new().await;
        let mut build = desk.running().await;
        desk.jenkins.save_queue();
        match crash {
            true => desk.jenkins.crash(),
            false => desk.jenkins.restart(),
        }
        let ended = desk.ended(&mut build).await;
        assert_eq!(ended.outcome, Outcome::Lost, "crash: {crash}: {ended:?}");
        assert_eq!(desk.started(&build).len(), 1);
    }
}

#[tokio::test]
async fn a_build_whose_record_was_not_saved_is_unknown_and_in_doubt() {
    let desk = Desk::with(|s| s, |l| l.save_records(false)).await;
    let mut build = desk.running().await;
    desk.jenkins.restart();
    assert_eq!(desk.see(&mut build).await, Seen::Unknown);
    // There is a number without a record: it may have been ours, so it is not launched again.
    desk.is_doubtful(&build.request).await;
}

#[tokio::test]
async fn what_a_crash_runs_again_is_followed() {
    for save_records in [true, false] {
        let desk = Desk::with(|s| s, |l| l.save_records(save_records)).await;
        let mut build = desk.launch(desk.request()).await;
        // Long enough ago that the queue was saved with it.
        desk.jenkins.save_queue();
        desk.clock.advance(seconds(20));
        assert_eq!(desk.see(&mut build).await, Seen::Running);
        desk.jenkins.crash();
        let seen = desk.see(&mut build).await;
        assert!(!matches!(seen, Seen::Ended(_)), "it waits again, or runs again: {seen:?}");
        desk.clock.advance(seconds(20));
        assert_eq!(desk.see(&mut build).await, Seen::Running);
        let numbers: Vec<u32> = desk.started(&build).iter().map(|s| s.number).collect();
        assert_eq!(numbers.len(), 2, "Jenkins ran it twice");
        assert!(desk.jenkins.finish(JOB, numbers[1], "UNSTABLE"));
        assert_eq!(desk.ended(&mut build).await.outcome, Outcome::Unstable, "of the one that went on");
    }
}

#[tokio::test]
async fn what_a_crash_is_about_to_run_again_is_queued_and_not_lost() {
    let desk = Desk::new().await;
    let mut build = desk.launch(desk.request()).await;
    desk.jenkins.save_queue();
    desk.clock.advance(seconds(20));
    assert_eq!(desk.see(&mut build).await, Seen::Running);
    // The agent has not come back yet: what is queued again waits.
    desk.jenkins.hold_queue(true);
    desk.jenkins.crash();
    for _ in 0..3 {
        assert!(
            matches!(desk.see(&mut build).await, Seen::Queued { .. }),
            "its record says ABORTED, its item waits"
        );
        desk.clock.advance(seconds(100));
    }
    desk.jenkins.hold_queue(false);
    desk.clock.advance(seconds(20));
    assert_eq!(desk.see(&mut build).await, Seen::Running);
    assert_eq!(desk.started(&build).len(), 2);
}

#[tokio::test]
async fn a_build_that_started_long_ago_among_many_others_is_found() {
    let desk = Desk::with(|s| s.executors(1_000), |l| l).await;
    let mut build = desk.launch(desk.request()).await;
    desk.clock.advance(seconds(20));
    for n in 0..300 {
        desk.jenkins.trigger(JOB, &[(crate::desk::ID, &format!("other {n}"))], "somebody");
    }
    desk.clock.advance(seconds(60));
    let others = desk.jenkins.builds(JOB).len();
    assert!(others > 250, "{others}");
    // Nobody has looked meanwhile, and its item is forgotten.
    desk.clock.advance(seconds(1_000));
    assert_eq!(desk.see(&mut build).await, Seen::Running);
}

#[tokio::test]
async fn what_a_crash_forgot_is_launched_once_more() {
    let desk = Desk::new().await;
    let mut build = desk.launch(desk.request()).await;
    desk.jenkins.crash();
    assert_eq!(desk.see(&mut build).await, Seen::Unknown);
    assert_eq!(desk.found(&build.request).await, None, "each number was seen, twice");
    let build = desk.settled(build.request).await;
    desk.clock.advance(seconds(20));
    assert_eq!(desk.started(&build).len(), 1);
}

#[tokio::test]
async fn an_id_that_is_used_again_is_not_ours() {
    let desk = Desk::new().await;
    desk.jenkins.define_job(spec("other"));
    let mut build = desk.launch(desk.request()).await;
    desk.jenkins.crash();
    let mut other = desk.launch(desk.request_for(JenkinsJob::new("other"))).await;
    let accepted = desk.jenkins.accepted();
    assert_eq!(accepted[0], accepted[1], "the id was given out twice");
    assert_eq!(desk.see(&mut build).await, Seen::Unknown);
    desk.cancel(&build).await;
    desk.clock.advance(seconds(20));
    assert_eq!(desk.see(&mut build).await, Seen::Unknown);
    assert_eq!(desk.see(&mut other).await, Seen::Running, "it was not stopped in place of ours");
}

#[tokio::test]
async fn a_reload_changes_nothing() {
    let desk = Desk::new().await;
    let (mut running, mut waiting) = (desk.running().await, desk.launch(desk.request()).await);
    desk.jenkins.reload();
    assert_eq!(desk.see(&mut running).await, Seen::Running);
    assert!(matches!(desk.see(&mut waiting).await, Seen::Queued { .. }));
}

#[tokio::test]
async fn an_item_that_is_forgotten_is_found_by_its_key() {
    let desk = Desk::new().await;
    let mut build = desk.launch(desk.request()).await;
    // Its item left the queue long ago.
    desk.clock.advance(seconds(1_000));
    let other = desk.another();
    let seen = other.observe(&[(build.request.key, build.external.clone())]).await.remove(0).unwrap().seen;
    assert_eq!(seen, Seen::Running);
    assert!(desk.jenkins.finish(JOB, desk.number(&build), "FAILURE"));
    assert_eq!(desk.ended(&mut build).await.outcome, Outcome::Failed);
}
