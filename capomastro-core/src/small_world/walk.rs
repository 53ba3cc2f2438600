//! Small worlds, walked through everything that can happen in them up to a depth: each state is gone on from once.

use super::{Act, Contact, Fate, Sent, Sight, World};
use crate::{
    launch::Outcome,
    model::{OnHeld, Policy, Relation, RetryOn, RetryPolicy, Veto},
};
use std::collections::BTreeSet;

/// Tells how it came to a state in which a law was broken.
struct Story<'a>(&'a [Act], &'a [u8], Act);

impl Drop for Story<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let acts: Vec<_> = self.1.iter().map(|n| self.0[usize::from(*n)]).collect();
            eprintln!("after {acts:?} and then {:?}", self.2);
        }
    }
}

/// Every world that can be reached from `first` by at most `depth` of these acts, of which there must be at least
/// `states`. One in forty is healed.
#[track_caller]
fn walk(first: &World, menu: &[Act], depth: usize, states: usize) {
    let mut known = BTreeSet::from([first.essence()]);
    let mut edge = vec![(first.clone(), Vec::new())];
    let mut happened = vec![0_usize; menu.len()];
    for _ in 0..depth {
        let mut next = Vec::new();
        for (world, path) in &edge {
            for (n, act) in menu.iter().enumerate() {
                let story = Story(menu, path, *act);
                let mut world = world.clone();
                if !world.act(*act) {
                    continue;
                }
                happened[n] += 1;
                if known.insert(world.essence()) {
                    if known.len() % 40 == 0 {
                        world.clone().heal();
                    }
                    let mut path = path.clone();
                    path.push(u8::try_from(n).unwrap());
                    next.push((world, path));
                }
                drop(story);
            }
        }
        edge = next;
    }
    println!("{} states by {} steps", known.len(), happened.iter().sum::<usize>());
    assert!(!happened.contains(&0), "some of it never happens: {happened:?}");
    assert!(
        known.len() >= states,
        "only {} states: a walk that misses most of the world proves nothing",
        known.len()
    );
}

const fn at(revision: &'static str) -> Sight {
    Sight::At(revision, None)
}

/// Both dependencies were seen at `A` and built well.
fn built(policy: &Policy) -> World {
    let mut world = World::new(policy);
    for d in 0..2 {
        assert!(world.act(Act::Look(d, at("A"))));
        assert!(world.act(Act::Finish(d, Outcome::Succeeded)));
    }
    assert!(world.projects.iter().all(|p| p.current.is_some()));
    world
}

const GOOD: Outcome = Outcome::Succeeded;
const BAD: Outcome = Outcome::Failed;

#[test]
fn what_stands_for_projects() {
    let menu = [
        Act::Look(0, at("B")),
        Act::Look(0, at("C")),
        Act::Look(1, at("B")),
        Act::Finish(0, GOOD),
        Act::Finish(0, BAD),
        Act::Finish(1, GOOD),
        Act::Finish(1, BAD),
        Act::Whole(0, None),
        Act::Whole(0, Some(0)),
        Act::Pin(0, 0, false),
        Act::Unpin(0, 0),
        Act::Leave(0, 1),
        Act::Join(0, 1),
        Act::Join(1, 1),
        Act::Delete(1),
    ];
    walk(&built(&Policy::default()), &menu, 5, 8_000);
}

/// All that is decided about one dependency, beside another one and its projects that rest.
#[track_caller]
fn decided(policy: &Policy, states: usize) {
    let menu = [
        Act::Look(0, at("A")),
        Act::Look(0, Sight::At("B", Some(Relation::Forward { by: None }))),
        Act::Look(0, Sight::At("C", Some(Relation::Rewound))),
        Act::Look(0, Sight::Same),
        Act::Look(0, Sight::NotFound),
        Act::Look(0, Sight::Failed),
        Act::Begin(0),
        Act::Answer(0, at("A")),
        Act::Push(0),
        Act::Due(0),
        Act::Manual(0, None),
        Act::OwnParameters(0),
        Act::Pinned(0, "A", None),
        Act::Pinned(0, "B", Some(OnHeld::Coalesce)),
        Act::Whole(0, None),
        Act::Finish(0, GOOD),
        Act::Finish(0, BAD),
        Act::Cancel(0),
        Act::Break(0),
        Act::Pause(0),
        Act::Resume(0),
        Act::Edit(0),
        Act::Wait(100),
    ];
    walk(&built(policy), &menu, 4, states);
}

#[test]
fn what_is_decided_with_retries() {
    let retry = RetryPolicy { max: 1, on: RetryOn::Any, ..RetryPolicy::default() };
    decided(&Policy::default().with_on_held(OnHeld::Coalesce).with_retry(retry), 15_000);
}

#[test]
fn what_is_decided_in_a_queue_that_reuses() {
    decided(&Policy::default().with_on_held(OnHeld::Queue { max: 2 }).with_reuse_known(true), 15_000);
}

#[test]
fn what_is_decided_in_a_queue_with_a_veto() {
    let veto = Veto { rewound: true, ..Veto::default() };
    decided(&Policy::default().with_on_held(OnHeld::Queue { max: 2 }).with_veto(veto), 14_000);
}

#[test]
fn what_is_decided_where_triggers_are_discarded() {
    decided(&Policy::default().with_on_held(OnHeld::DiscardLoudly), 15_000);
}

#[test]
fn what_happens_on_the_first_days() {
    let menu = [
        Act::Look(0, at("A")),
        Act::Look(0, at("B")),
        Act::Look(1, at("C")),
        Act::Look(0, Sight::Nothing),
        Act::Look(1, Sight::NotFound),
        Act::Manual(0, None),
        Act::Whole(0, None),
        Act::Finish(0, GOOD),
        Act::Finish(1, GOOD),
        Act::Finish(1, BAD),
        Act::Drive(0, Contact::Honest, Sent::Refused { permanent: true }),
        Act::ChangeJob(0),
        Act::Wait(100),
    ];
    walk(&World::new(&Policy::default()), &menu, 5, 3_000);
}

#[test]
fn what_becomes_of_builds() {
    let menu = [
        Act::Look(0, at("B")),
        Act::Drive(0, Contact::Honest, Sent::Accepted),
        Act::Drive(0, Contact::Honest, Sent::AnswerLost),
        Act::Drive(0, Contact::Honest, Sent::SendLost),
        Act::Drive(0, Contact::Honest, Sent::Unsent),
        Act::Drive(0, Contact::Honest, Sent::Refused { permanent: false }),
        Act::Drive(0, Contact::Honest, Sent::CrashAfter),
        Act::Drive(0, Contact::Silent, Sent::CrashBefore),
        Act::Drive(0, Contact::Inconclusive, Sent::CrashBefore),
        Act::Late(0),
        Act::Work(0, Fate::Running),
        Act::Work(0, Fate::Ended(GOOD)),
        Act::Work(0, Fate::Ended(Outcome::Cancelled)),
        Act::Work(0, Fate::Forgotten),
        Act::Cancel(0),
        Act::Break(0),
        Act::Wait(100),
    ];
    walk(&built(&Policy::default()), &menu, 7, 7_000);
}
