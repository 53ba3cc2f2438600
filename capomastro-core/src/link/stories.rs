//! The stories about linking, each as short as it can be told.

use super::world::{A, B, P, Q, World, receipt};
use crate::{
    model::{Phase, ProjectOutcome},
    sample::build_id,
};
use std::collections::BTreeMap;

#[test]
fn first_day_of_a_two_dependency_project_is_complete_after_the_second_build() {
    let mut w = World::of(&[(P, &[A, B])]);
    let (a, b) = (w.start(A), w.start(B));
    w.end(A, Phase::Succeeded);
    assert_eq!(w.projects[&P].current, None);
    w.end(B, Phase::Succeeded);
    assert_eq!(w.current(P), BTreeMap::from([(A, a), (B, b)]));
}

#[test]
fn whole_build_half_failed_what_was_good_is_current() {
    let mut w = World::built(&[(P, &[A, B])]);
    let id = w.whole(P, 1, &[A, B], &[]);
    let good = w.start(A);
    w.start(B);
    w.end(A, Phase::Succeeded);
    assert_eq!(w.current(P)[&A], build_id(1), "it waits for the other half");
    w.end(B, Phase::Failed);
    assert_eq!(w.outcome(id), Some(ProjectOutcome::Failed));
    assert_eq!(w.current(P), BTreeMap::from([(A, good), (B, build_id(2))]));
}

#[test]
fn overlapping_whole_and_single_builds_current_never_goes_back() {
    let mut w = World::built(&[(P, &[A, B])]);
    w.whole(P, 1, &[A, B], &[]);
    w.start(A);
    w.end(A, Phase::Succeeded);
    let newer = w.start(A);
    let b = w.start(B);
    w.end(A, Phase::Succeeded);
    assert_eq!(w.current(P)[&A], newer);
    w.end(B, Phase::Succeeded);
    assert_eq!(w.current(P), BTreeMap::from([(A, newer), (B, b)]));
}

#[test]
fn member_leaves_an_open_whole_build_its_last_slot_ends_otherwise_current_follows() {
    let mut w = World::built(&[(P, &[A, B])]);
    let id = w.whole(P, 1, &[A, B], &[]);
    let new = w.start(A);
    w.end(A, Phase::Succeeded);
    w.leave(P, B);
    assert_eq!(w.outcome(id), None);
    w.drop_request(B, receipt(B, 1), "withdrawn");
    assert_eq!(w.outcome(id), Some(ProjectOutcome::Incomplete));
    assert_eq!(w.current(P), BTreeMap::from([(A, new)]));
}

#[test]
fn pin_during_a_build() {
    let mut w = World::built(&[(P, &[A, B])]);
    w.start(A);
    let id = w.open(P)[0];
    w.pin(P, A, Some(build_id(1))).unwrap();
    w.end(A, Phase::Succeeded);
    assert_eq!(w.outcome(id), Some(ProjectOutcome::Succeeded));
    assert_eq!(w.current(P), BTreeMap::from([(A, build_id(1)), (B, build_id(2))]));
}

#[test]
fn join_during_a_build() {
    let mut w = World::built(&[(P, &[A]), (Q, &[B])]);
    let new = w.start(A);
    let id = w.open(P)[0];
    w.join(P, B);
    assert_eq!(w.current(P), BTreeMap::from([(A, build_id(1)), (B, build_id(2))]));
    w.end(A, Phase::Succeeded);
    assert!(!w.records[&id].slots.contains_key(&B), "one slot for each dependency at the moment of request");
    assert_eq!(w.current(P), BTreeMap::from([(A, new), (B, build_id(2))]));
}

#[test]
fn leave_during_a_build() {
    let mut w = World::built(&[(P, &[A, B])]);
    w.start(A);
    let id = w.open(P)[0];
    w.leave(P, A);
    assert_eq!(w.current(P), BTreeMap::from([(B, build_id(2))]));
    w.end(A, Phase::Succeeded);
    assert_eq!(w.outcome(id), Some(ProjectOutcome::Succeeded), "the record ends as it would have");
    assert_eq!(w.current(P), BTreeMap::from([(B, build_id(2))]));
}
