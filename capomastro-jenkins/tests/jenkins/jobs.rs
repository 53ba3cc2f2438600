//! Jobs that people change while their builds wait and run.

use crate::desk::{Desk, JOB, seconds, spec};
use capomastro_core::launch::{BuildLauncher, Outcome, Seen};
use capomastro_testkit::jenkins::{JobSpec, Parameter, Youth};

#[tokio::test]
async fn a_job_that_is_renamed_is_followed() {
    for when in ["it waits", "it runs"] {
        let desk = Desk::new().await;
        let mut build = desk.launch(desk.request()).await;
        if when == "it runs" {
            desk.clock.advance(seconds(20));
        }
        desk.see(&mut build).await;
        desk.jenkins.move_job(JOB, "team/moved");
        let seen = desk.see(&mut build).await;
        assert!(matches!(seen, Seen::Queued { .. } | Seen::Running), "{when}: {seen:?}");
        desk.clock.advance(seconds(20));
        assert_eq!(desk.see(&mut build).await, Seen::Running, "{when}");
        assert!(desk.jenkins.finish("team/moved", desk.number(&build), "SUCCESS"));
        assert_eq!(desk.ended(&mut build).await.outcome, Outcome::Succeeded, "{when}");
    }
}

#[tokio::test]
async fn a_job_that_is_deleted_takes_its_builds_along() {
    let desk = Desk::new().await;
    let (mut running, mut waiting) = (desk.running().await, desk.launch(desk.request()).await);
    desk.jenkins.delete_job(JOB);
    for build in [&mut running, &mut waiting] {
        assert_eq!(desk.see(build).await, Seen::Unknown);
        desk.is_doubtful(&build.request).await;
        desk.cancel(build).await;
    }
}

#[tokio::test]
async fn a_job_that_is_made_again_has_other_builds_of_the_same_numbers() {
    let desk = Desk::new().await;
    let mut build = desk.running().await;
    desk.jenkins.delete_job(JOB);
    desk.jenkins.define_job(spec(JOB));
    let mut other = desk.running().await;
    assert_eq!(desk.number(&build), desk.number(&other), "numbers begin again");
    assert_eq!(desk.see(&mut build).await, Seen::Unknown);
    desk.cancel(&build).await;
    assert_eq!(desk.see(&mut other).await, Seen::Running);
}

#[tokio::test]
async fn a_job_that_is_disabled_ends_what_waits() {
    let desk = Desk::new().await;
    let mut build = desk.launch(desk.request()).await;
    desk.jenkins.disable(JOB, true);
    let ended = desk.ended(&mut build).await;
    assert_eq!(ended.outcome, Outcome::Cancelled);
}

#[tokio::test]
async fn a_build_that_lost_its_key_is_a_doubt() {
    let desk = Desk::new().await;
    let build = desk.launch(desk.request()).await;
    desk.jenkins.set_parameters(JOB, [Parameter::string("CAPOMASTRO_REVISION")]);
    desk.clock.advance(seconds(20));
    // A scheduler that did not hear of its acceptance would search for it.
    desk.is_doubtful(&build.request).await;
    assert!(desk.jenkins.finish(JOB, 1, "SUCCESS"));
    desk.is_doubtful(&build.request).await;
}

#[tokio::test]
async fn a_build_that_has_just_begun_is_not_taken_for_absent() {
    let desk = Desk::new().await;
    let youth = Youth { no_queue_id: seconds(30), no_parameters: seconds(60), ..Youth::default() };
    desk.jenkins.define_job(spec("young").youth(youth));
    let mut build = desk.launch(desk.request_for(capomastro_jenkins::JenkinsJob::new("young"))).await;
    desk.clock.advance(seconds(17));
    assert_eq!(desk.see(&mut build).await, Seen::Running);
    let found = desk.launcher.find(&build.request).await.unwrap();
    assert!(matches!(found, capomastro_core::launch::Found::Inconclusive { .. }), "{found:?}");
    assert!(desk.found(&build.request).await.is_some(), "once it tells its parameters");
}

#[tokio::test]
async fn an_item_that_never_becomes_a_build_is_given_up() {
    let desk = Desk::new().await;
    let mut build = desk.launch(desk.request()).await;
    desk.jenkins.lose_starts(1);
    desk.clock.advance(seconds(20));
    assert!(matches!(desk.see(&mut build).await, Seen::Queued { .. }), "it may just be starting");
    desk.clock.advance(seconds(31));
    assert_eq!(desk.see(&mut build).await, Seen::Unknown);
}

#[tokio::test]
async fn a_build_that_was_discarded_is_unknown() {
    let desk = Desk::new().await;
    desk.jenkins.define_job(JobSpec::keep_builds(spec("short"), 1));
    let job = || capomastro_jenkins::JenkinsJob::new("short");
    let mut build = desk.launch(desk.request_for(job())).await;
    desk.clock.advance(seconds(20));
    assert_eq!(desk.see(&mut build).await, Seen::Running);
    let next = desk.launch(desk.request_for(job())).await;
    desk.clock.advance(seconds(20));
    assert!(desk.jenkins.finish("short", desk.number(&build), "SUCCESS"));
    assert!(desk.jenkins.finish("short", desk.number(&next), "SUCCESS"));
    desk.clock.advance(seconds(20));
    assert_eq!(desk.see(&mut build).await, Seen::Unknown);
}
