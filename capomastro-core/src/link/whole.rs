//! One test for each clause about building a whole project or a part of it.

use super::{
    Asked, WholeRequest,
    world::{A, B, C, P, Q, World, carried, fresh, missing, pinned, receipt},
};
use crate::{
    ErrorKind,
    events::EventKind,
    model::{MissingReason, Phase, ProjectOutcome, SlotKind},
    sample::build_id,
};
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn a_whole_build_is_one_project_build_with_a_slot_for_each_member() {
    let mut w = World::built(&[(P, &[A, B, C])]);
    w.pin(P, C, Some(build_id(3))).unwrap();
    let id = w.whole(P, 1, &[A], &[]);
    let record = &w.records[&id];
    assert_eq!(*w.slot(id, A), SlotKind::Awaiting { receipt: receipt(A, 1) });
    assert_eq!((w.slot(id, B), w.slot(id, C)), (&carried(build_id(2)), &pinned(build_id(3))));
    assert_eq!(record.build_key.as_ref().unwrap().as_str(), "key");
    assert_eq!(record.requester.as_ref().unwrap().as_str(), "ann");
    assert_eq!(record.bound_at_request, BTreeMap::from([(B, build_id(2)), (C, build_id(3))]));
}

#[test]
fn the_start_of_an_awaited_request_makes_it_fresh_and_no_second_project_build() {
    let mut w = World::built(&[(P, &[A, B]), (Q, &[A])]);
    let id = w.whole(P, 1, &[A], &[]);
    let new = w.start(A);
    assert_eq!(*w.slot(id, A), fresh(new));
    assert_eq!(w.open(P), [id], "no second one here");
    assert_eq!(w.open(Q).len(), 1, "but one in the other project");
    assert_eq!(w.builds[&new].project_builds[0], (P, id));
}

#[test]
fn one_start_serves_several_whole_builds() {
    let mut w = World::built(&[(P, &[A, B])]);
    let (one, two) = (w.whole(P, 1, &[A], &[]), w.whole(P, 2, &[A], &[]));
    let new = w.start(A);
    assert_eq!((w.slot(one, A), w.slot(two, A)), (&fresh(new), &fresh(new)));
    w.end(A, Phase::Succeeded);
    assert_eq!(w.projects[&P].current.as_ref().unwrap().id, two);
}

#[test]
fn an_awaited_request_of_a_pinned_member_starts_fresh_too() {
    let mut w = World::built(&[(P, &[A, B])]);
    w.pin(P, A, Some(build_id(1))).unwrap();
    let id = w.whole(P, 1, &[A], &[]);
    let new = w.start(A);
    assert_eq!(*w.slot(id, A), fresh(new));
    w.end(A, Phase::Succeeded);
    assert_eq!(w.projects[&P].members[&A].pin, Some(build_id(1)), "pins are left alone unless named");
    assert_eq!(w.current(P)[&A], build_id(1));
}

#[test]
fn an_awaited_request_that_joins_is_fresh() {
    let mut w = World::built(&[(P, &[A, B])]);
    let running = w.start(A);
    let id = w.whole(P, 1, &[A], &[]);
    w.join_running(A);
    assert_eq!(*w.slot(id, A), fresh(running));
    assert!(w.builds[&running].project_builds.contains(&(P, id)));
    w.end(A, Phase::Succeeded);
    assert_eq!(w.outcome(id), Some(ProjectOutcome::Succeeded));
}

#[test]
fn an_awaited_request_that_ends_otherwise_leaves_what_stands_with_the_reason() {
    type Case = (&'static str, fn(&mut World), SlotKind);
    let cases: [Case; 3] = [
        ("carried", |_| (), carried(build_id(1))),
        ("pinned", |w| w.pin(P, A, Some(build_id(1))).unwrap(), pinned(build_id(1))),
        ("left", |w| assert!(w.leave(P, A)), missing(MissingReason::Left)),
    ];
    for (name, prepare, slot) in cases {
        let mut w = World::built(&[(P, &[A, B])]);
        let id = w.whole(P, 1, &[A], &[]);
        prepare(&mut w);
        w.drop_request(A, receipt(A, 1), "the dependency is paused");
        assert_eq!(*w.slot(id, A), slot, "{name}");
        assert_eq!(w.records[&id].slots[&A].note.as_deref(), Some("the dependency is paused"), "{name}");
        assert!(w.outcome(id).is_some(), "{name}: sealed, since nothing awaits");
    }
    let mut never = World::of(&[(P, &[A])]);
    let id = never.whole(P, 1, &[A], &[]);
    never.drop_request(A, receipt(A, 1), "gone");
    assert_eq!(*never.slot(id, A), missing(MissingReason::NeverBuilt));
    assert_eq!(never.outcome(id), Some(ProjectOutcome::Incomplete));
}

#[test]
fn a_chosen_member_that_could_not_be_asked_is_resolved_at_once() {
    let mut w = World::built(&[(P, &[A])]);
    let request = WholeRequest {
        chosen: BTreeMap::from([(A, Asked::Not("paused".into()))]),
        move_pins: BTreeSet::new(),
        build_key: None,
        requester: None,
    };
    let (id, _) = w.change(P, |v, d| v.request_whole(request, d));
    let id = id.unwrap();
    assert_eq!(*w.slot(id, A), carried(build_id(1)));
    assert_eq!(w.records[&id].slots[&A].note.as_deref(), Some("paused"));
    assert_eq!(w.outcome(id), Some(ProjectOutcome::Succeeded));
}

#[test]
fn a_whole_build_that_makes_no_sense_is_refused() {
    let request = |chosen: &[_], named: &[_]| WholeRequest {
        chosen: chosen.iter().map(|d| (*d, Asked::Receipt(receipt(*d, 1)))).collect(),
        move_pins: named.iter().copied().collect(),
        build_key: None,
        requester: None,
    };
    for (name, chosen, named) in [
        ("nothing chosen", &[][..], &[][..]),
        ("not a member", &[C][..], &[][..]),
        ("pin not chosen", &[A][..], &[B][..]),
    ] {
        let mut w = World::built(&[(P, &[A, B])]);
        let (answer, change) = w.change(P, |v, d| v.request_whole(request(chosen, named), d));
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
        assert_eq!(change.project_builds, [], "{name}");
    }
}

#[test]
fn naming_a_pin_moves_it_to_the_fresh_build_when_that_ends_good() {
    for (phase, moves) in [(Phase::Succeeded, true), (Phase::Failed, false)] {
        let mut w = World::built(&[(P, &[A, B])]);
        w.pin(P, A, Some(build_id(1))).unwrap();
        let id = w.whole(P, 1, &[A], &[A]);
        let new = w.start(A);
        let change = w.end(A, phase).remove(&P).unwrap();
        assert_eq!(w.projects[&P].members[&A].pin, Some(if moves { new } else { build_id(1) }), "{phase}");
        let told = EventKind::Pinned { dependency: A, build: Some(new) };
        assert_eq!(change.events.iter().any(|e| e.kind == told), moves, "{phase}");
        assert_eq!(w.projects[&P].current.as_ref().unwrap().id == id, moves, "{phase}");
    }
}

#[test]
fn a_pin_set_by_hand_later_withdraws_what_was_named() {
    let mut w = World::built(&[(P, &[A, B])]);
    w.pin(P, A, Some(build_id(1))).unwrap();
    w.whole(P, 1, &[A], &[A]);
    w.start(A);
    w.pin(P, A, Some(build_id(1))).unwrap();
    w.end(A, Phase::Succeeded);
    assert_eq!(w.projects[&P].members[&A].pin, Some(build_id(1)));
}

#[test]
fn naming_a_member_that_is_not_pinned_pins_nothing() {
    let mut w = World::built(&[(P, &[A, B])]);
    w.whole(P, 1, &[A], &[A]);
    w.start(A);
    w.end(A, Phase::Succeeded);
    assert_eq!(w.projects[&P].members[&A].pin, None);
}
