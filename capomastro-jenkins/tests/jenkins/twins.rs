//! One key with several builds.

use crate::desk::{Desk, JOB, seconds};
use capomastro_core::launch::{Outcome, Seen};

#[tokio::test]
async fn what_people_copied_is_not_ours() {
    let desk = Desk::new().await;
    let mut build = desk.running().await;
    let first = desk.started(&build)[0].number;
    desk.jenkins.rebuild(JOB, first, "somebody").unwrap();
    desk.clock.advance(seconds(20));
    let copy = desk.started(&build)[1].number;
    assert!(desk.jenkins.finish(JOB, copy, "FAILURE"));
    assert_eq!(desk.see(&mut build).await, Seen::Running, "the copy has failed, ours runs");
    assert!(desk.jenkins.finish(JOB, first, "SUCCESS"));
    assert_eq!(desk.ended(&mut build).await.outcome, Outcome::Succeeded);
    let found = desk.found(&build.request).await.unwrap();
    build.external = found;
    assert_eq!(desk.ended(&mut build).await.outcome, Outcome::Succeeded, "a search finds the first");
}

#[tokio::test]
async fn stopping_ours_leaves_a_copy_alone() {
    let desk = Desk::new().await;
    let mut build = desk.running().await;
    let first = desk.started(&build)[0].number;
    desk.jenkins.rebuild(JOB, first, "somebody").unwrap();
    desk.clock.advance(seconds(20));
    let copy = desk.started(&build)[1].number;
    desk.cancel(&build).await;
    assert_eq!(desk.ended(&mut build).await.outcome, Outcome::Cancelled);
    let copy = desk.jenkins.builds(JOB).into_iter().find(|b| b.number == copy).unwrap();
    assert!(copy.building, "somebody else wants it");
}

#[tokio::test]
async fn a_key_that_a_person_typed_is_the_later_one() {
    let desk = Desk::new().await;
    let mut build = desk.running().await;
    let key = build.request.key.to_string();
    desk.jenkins.trigger(JOB, &[(crate::desk::ID, &key)], "somebody").unwrap();
    desk.clock.advance(seconds(20));
    let numbers: Vec<u32> = desk.started(&build).iter().map(|s| s.number).collect();
    assert!(desk.jenkins.finish(JOB, numbers[1], "FAILURE"));
    assert_eq!(desk.see(&mut build).await, Seen::Running);
    assert!(desk.jenkins.finish(JOB, numbers[0], "SUCCESS"));
    assert_eq!(desk.ended(&mut build).await.outcome, Outcome::Succeeded);
}

/// What came late after all runs beside the first: it is stopped, and ours goes on.
#[tokio::test]
async fn a_second_build_of_one_launch_is_stopped() {
    let desk = Desk::new().await;
    let mut build = desk.running().await;
    let key = build.request.key.to_string();
    desk.jenkins
        .trigger(JOB, &[(crate::desk::ID, &key)], capomastro_testkit::jenkins::Jenkins::ADMIN)
        .unwrap();
    desk.clock.advance(seconds(20));
    assert_eq!(desk.started(&build).len(), 2);
    assert_eq!(desk.see(&mut build).await, Seen::Running);
    desk.clock.advance(seconds(5));
    let numbers: Vec<u32> = desk.started(&build).iter().map(|s| s.number).collect();
    let of = |n: u32| desk.jenkins.builds(JOB).into_iter().find(|b| b.number == n).unwrap();
    assert!(of(numbers[0]).building, "the first goes on");
    assert!(!of(numbers[1]).building, "the second does not");
    assert!(desk.jenkins.finish(JOB, numbers[0], "SUCCESS"));
    assert_eq!(desk.ended(&mut build).await.outcome, Outcome::Succeeded);
    // A launcher that may not leaves it alone.
    let desk = Desk::with(|s| s, |l| l.stop_extras(false)).await;
    let mut build = desk.running().await;
    let key = build.request.key.to_string();
    desk.jenkins
        .trigger(JOB, &[(crate::desk::ID, &key)], capomastro_testkit::jenkins::Jenkins::ADMIN)
        .unwrap();
    desk.clock.advance(seconds(20));
    assert_eq!(desk.see(&mut build).await, Seen::Running);
    assert!(desk.jenkins.builds(JOB).iter().filter(|b| b.building).count() == 2);
}
