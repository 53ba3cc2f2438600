//! Histories drawn at random. The laws are checked after every step; in the end everything must come to rest.

use super::{Act, Contact, Fate, Sent, Sight, World};
use crate::{
    launch::{Outcome, Promise},
    model::{First, OnHeld, Policy, Quiet, Relation, RetryOn, RetryPolicy, Veto},
};
use proptest::{prelude::*, test_runner::TestRunner};
use std::{cell::Cell, time::Duration};

fn dependency() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(0_usize), 1 => Just(1)]
}

fn revision() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["A", "B", "C"])
}

fn relation() -> impl Strategy<Value = Option<Relation>> {
    prop::sample::select(vec![
        None,
        Some(Relation::Forward { by: Some(1) }),
        Some(Relation::Rewound),
        Some(Relation::Diverged),
    ])
}

fn sight() -> impl Strategy<Value = Sight> {
    prop_oneof![
        8 => (revision(), relation()).prop_map(|(a, b)| Sight::At(a, b)),
        1 => Just(Sight::Same),
        1 => Just(Sight::Nothing),
        2 => Just(Sight::NotFound),
        1 => Just(Sight::Failed),
    ]
}

fn on_held() -> impl Strategy<Value = OnHeld> {
    prop_oneof![
        Just(OnHeld::DiscardSilently),
        Just(OnHeld::DiscardLoudly),
        Just(OnHeld::Coalesce),
        (1_u32..4).prop_map(|max| OnHeld::Queue { max }),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    prop_oneof![
        6 => Just(Sent::Accepted),
        1 => Just(Sent::AnswerLost),
        1 => Just(Sent::SendLost),
        1 => Just(Sent::Unsent),
        1 => any::<bool>().prop_map(|permanent| Sent::Refused { permanent }),
        1 => Just(Sent::CrashBefore),
        1 => Just(Sent::CrashAfter),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::Succeeded),
        2 => Just(Outcome::Failed),
        1 => Just(Outcome::Unstable),
        1 => Just(Outcome::Cancelled),
        1 => Just(Outcome::Lost),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let d = dependency;
    let p = || 0_usize..2;
    let caller = || prop::option::weighted(0.2, on_held());
    let contact =
        prop_oneof![6 => Just(Contact::Honest), 1 => Just(Contact::Silent), 1 => Just(Contact::Inconclusive)];
    let fate = prop_oneof![
        2 => Just(Fate::Running),
        4 => outcome().prop_map(Fate::Ended),
        1 => Just(Fate::Forgotten),
    ];
    let asking = prop_oneof![
        12 => (d(), sight()).prop_map(|(d, s)| Act::Look(d, s)),
        2 => d().prop_map(Act::Begin),
        3 => (d(), sight()).prop_map(|(d, s)| Act::Answer(d, s)),
        2 => d().prop_map(Act::Push),
        1 => d().prop_map(Act::Due),
        3 => (d(), caller()).prop_map(|(d, h)| Act::Manual(d, h)),
        1 => d().prop_map(Act::OwnParameters),
        3 => (d(), revision(), caller()).prop_map(|(d, r, h)| Act::Pinned(d, r, h)),
        3 => (p(), prop::option::weighted(0.3, d())).prop_map(|(p, d)| Act::Whole(p, d)),
    ];
    let building = prop_oneof![
        8 => (d(), contact, sent()).prop_map(|(d, c, s)| Act::Drive(d, c, s)),
        1 => d().prop_map(Act::Late),
        5 => (d(), fate).prop_map(|(d, f)| Act::Work(d, f)),
        6 => (d(), outcome()).prop_map(|(d, o)| Act::Finish(d, o)),
        2 => d().prop_map(Act::Cancel),
        1 => d().prop_map(Act::Break),
    ];
    let steering = prop_oneof![
        2 => d().prop_map(Act::Pause),
        3 => d().prop_map(Act::Resume),
        2 => d().prop_map(Act::Edit),
        1 => d().prop_map(Act::ChangeJob),
        1 => (d(), on_held()).prop_map(|(d, h)| Act::Policy(d, h)),
        3 => (p(), d(), any::<bool>()).prop_map(|(p, d, o)| Act::Pin(p, d, o)),
        2 => (p(), d()).prop_map(|(p, d)| Act::Unpin(p, d)),
        2 => (p(), d()).prop_map(|(p, d)| Act::Join(p, d)),
        1 => (p(), d()).prop_map(|(p, d)| Act::Leave(p, d)),
        5 => prop::sample::select(vec![1_u64, 59, 61, 100, 301, 4_000]).prop_map(Act::Wait),
    ];
    prop_oneof![4 => asking, 4 => building, 2 => steering]
}

fn policy() -> impl Strategy<Value = Policy> {
    let quiet = prop_oneof![
        2 => Just(None),
        1 => Just(Some(Quiet { period: Duration::from_secs(60), at_most: Duration::from_secs(300) })),
    ];
    let retry = (0_u32..3, any::<bool>()).prop_map(|(max, any)| {
        let on = if any { RetryOn::Any } else { RetryOn::Infrastructure };
        RetryPolicy { max, on, ..RetryPolicy::default() }
    });
    let veto = prop_oneof![
        2 => Just(Veto::default()),
        1 => Just(Veto { rewound: true, ..Veto::default() }),
        1 => Just(Veto { diverged: true, unknown: true, ..Veto::default() }),
    ];
    let first = prop::sample::select(vec![First::Auto, First::Build, First::Baseline]);
    (on_held(), first, any::<bool>(), quiet, retry, veto, any::<bool>()).prop_map(
        |(on_held, first, reuse, quiet, retry, veto, unstable)| {
            Policy::default()
                .with_on_held(on_held)
                .with_first(first)
                .with_reuse_known(reuse)
                .with_quiet(quiet)
                .with_retry(retry)
                .with_veto(veto)
                .with_unstable_is_good(unstable)
        },
    )
}

/// Whatever happened: when the sources rest, what they are at is built and linked, and nobody waits for anything.
#[test]
fn whatever_happens_it_comes_to_rest() {
    let (promise, acts) = (prop::bool::weighted(0.2), prop::collection::vec(act(), 0..80));
    let history = (policy(), promise, acts, prop::bool::weighted(0.1));
    let (tried, done) = (Cell::new(0_usize), Cell::new(0_usize));
    let mut runner =
        TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() });
    let ran = runner.run(&history, |(policy, idempotent, acts, deleted)| {
        let mut world = World::new(&policy);
        if idempotent {
            world.promise = Promise::IdempotentByKey;
        }
        for act in &acts {
            done.set(done.get() + usize::from(world.act(*act)));
        }
        tried.set(tried.get() + acts.len());
        if deleted {
            world.act(Act::Delete(1));
        }
        world.heal();
        Ok(())
    });
    ran.unwrap();
    assert!(done.get() * 3 > tried.get(), "mostly nothing happens: {} of {}", done.get(), tried.get());
    println!("{} of {} things happened", done.get(), tried.get());
}
