//! Random histories of one dependency. The laws are checked after every step; here is what must come of it in the end.

use super::world::{World, failed, own, secs, seen};
use crate::{
    detect::Answer,
    model::{First, OnHeld, Parameters, Phase, Policy, Quiet, Relation, RetryOn, RetryPolicy, Settled, Veto},
    probe::Probed,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Look(&'static str, Option<Relation>),
    Answer(Probed),
    NotFound,
    Fail,
    BeginLook,
    EndLook(Option<&'static str>),
    Push,
    Schedule,
    Manual { own: bool, on_held: Option<OnHeld> },
    Pinned { revision: &'static str, own: bool, on_held: Option<OnHeld> },
    End(Phase),
    Refused { permanent: bool },
    Break,
    Cancel,
    TimeOut,
    Pause,
    Resume,
    Edit,
    ChangeJob,
    Advance(u64),
    SetBack(u64),
    Elsewhere(bool),
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

fn on_held() -> impl Strategy<Value = OnHeld> {
    prop_oneof![
        Just(OnHeld::DiscardSilently),
        Just(OnHeld::DiscardLoudly),
        Just(OnHeld::Coalesce),
        (1_u32..4).prop_map(|max| OnHeld::Queue { max }),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    let quiet = prop_oneof![
        2 => Just(None),
        1 => Just(Some(Quiet { period: secs(60), at_most: secs(300) })),
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

fn step() -> impl Strategy<Value = Step> {
    let caller = || prop::option::weighted(0.2, on_held());
    let end = prop::sample::select(vec![
        Phase::Succeeded,
        Phase::Succeeded,
        Phase::Failed,
        Phase::Unstable,
        Phase::Lost,
        Phase::TimedOut,
        Phase::Cancelled,
    ]);
    prop_oneof![
        12 => (revision(), relation()).prop_map(|(a, b)| Step::Look(a, b)),
        2 => Just(Step::Answer(Probed::SameAsSeen)),
        1 => Just(Step::Answer(Probed::Nothing)),
        4 => Just(Step::NotFound),
        2 => Just(Step::Fail),
        2 => Just(Step::BeginLook),
        3 => prop::option::weighted(0.7, revision()).prop_map(Step::EndLook),
        2 => Just(Step::Push),
        2 => Just(Step::Schedule),
        4 => (prop::bool::weighted(0.3), caller()).prop_map(|(own, on_held)| Step::Manual { own, on_held }),
        4 => (revision(), prop::bool::weighted(0.3), caller())
            .prop_map(|(revision, own, on_held)| Step::Pinned { revision, own, on_held }),
        10 => end.prop_map(Step::End),
        3 => any::<bool>().prop_map(|permanent| Step::Refused { permanent }),
        1 => Just(Step::Break),
        2 => Just(Step::Cancel),
        1 => Just(Step::TimeOut),
        2 => Just(Step::Pause),
        3 => Just(Step::Resume),
        2 => Just(Step::Edit),
        1 => Just(Step::ChangeJob),
        6 => prop::sample::select(vec![1_u64, 59, 61, 301, 4_000]).prop_map(Step::Advance),
        1 => prop::sample::select(vec![1_u64, 100, 90_000]).prop_map(Step::SetBack),
        3 => prop::bool::weighted(0.3).prop_map(Step::Elsewhere),
    ]
}

fn parameters(has: bool) -> Parameters {
    if has { own("debug") } else { Parameters::new() }
}

/// Plays a history. What cannot be done at its moment is left out.
fn play(policy: Policy, steps: &[Step]) -> World {
    let mut world = World::with(policy);
    let mut begun = None;
    for step in steps {
        let held = world.state.held.is_some();
        let paused = world.state.paused.is_some();
        match step.clone() {
            Step::Look(revision, Some(relation)) => world.look_with_relation(revision, relation),
            Step::Look(revision, None) => world.look(revision),
            Step::Answer(Probed::Nothing) => drop(world.nothing()),
            Step::Answer(_) => drop(world.same_as_seen()),
            Step::NotFound => world.not_found(),
            Step::Fail => world.fail(),
            Step::BeginLook => begun = Some(world.begin_look()),
            Step::EndLook(revision) => {
                if let Some(look) = begun.take() {
                    let answer = revision.map_or_else(failed, |r| seen(r, None));
                    world.answer(&look, &answer);
                }
            }
            Step::Push => drop(world.push()),
            Step::Schedule => drop(world.schedule()),
            Step::Manual { own: true, .. } if !paused => drop(world.with_params("debug")),
            Step::Manual { on_held: Some(on_held), .. } if !paused => drop(world.manual_with(on_held)),
            Step::Manual { .. } if !paused => drop(world.manual()),
            Step::Pinned { revision, own, on_held } => drop(world.pin(revision, parameters(own), on_held)),
            Step::End(phase) if held => world.end(phase),
            Step::Refused { permanent } if held => world.refused(permanent),
            Step::Break if held => world.break_lock(),
            Step::Cancel if held => world.cancel(),
            Step::TimeOut if held => world.time_out(),
            Step::Pause => world.pause(),
            Step::Resume if paused => world.resume(),
            Step::Edit => world.edit_source(),
            Step::ChangeJob => world.change_job(),
            Step::Advance(seconds) => world.advance(seconds),
            Step::SetBack(seconds) => world.set_back(seconds),
            Step::Elsewhere(elsewhere) => world.elsewhere = elsewhere,
            _ => {}
        }
    }
    world
}

/// The source rests at `revision`, nothing is paused, every build ends good: until nothing moves any more.
fn rest(world: &mut World, revision: &str, relation: Relation) {
    world.elsewhere = false;
    if world.state.paused.is_some() {
        world.resume();
    }
    for _ in 0..200 {
        let before = world.state.clone();
        world.advance(7_200);
        world.look_with_relation(revision, relation);
        if world.state.held.is_some() {
            world.end_good();
        }
        let mut same = world.state.clone();
        same.applied_ticket = before.applied_ticket;
        same.last_decision.clone_from(&before.last_decision);
        if same == before && world.evaluate_due.is_none() {
            return;
        }
    }
    panic!("it never comes to rest");
}

fn vetoed(world: &World) -> bool {
    world.state.in_debt() && world.state.vetoed.as_ref() == world.state.observed_revision()
}

fn baselined(world: &World) -> bool {
    matches!(world.state.accounted.as_ref().map(|a| &a.by), Some(Settled::Baseline))
}

/// Whether the last build that settled what is accounted did not end good, and nothing more is owed.
fn failed_for_good(world: &World) -> bool {
    let Some(Settled::Built(build) | Settled::Joined(build)) = world.state.accounted.as_ref().map(|a| &a.by)
    else {
        return false;
    };
    let settled_by = world.builds.iter().find(|b| b.id == *build).expect("its record is kept");
    !settled_by.good && world.state.retry.is_none()
}

fn refused_for_good(world: &World) -> bool {
    world.state.retry.as_ref().is_some_and(|r| r.not_before.is_none())
}

fn nothing_waits(world: &World) {
    let state = &world.state;
    assert_eq!((&state.held, world.waiting(), &state.stored), (&None, Vec::new(), &Vec::new()));
}

proptest! {
    /// A revision that was never seen before is built in the end, whatever came before.
    #[test]
    fn a_new_revision_is_built_in_the_end(policy in policy(), steps in prop::collection::vec(step(), 0..60)) {
        let mut world = play(policy, &steps);
        rest(&mut world, "Z", Relation::Forward { by: None });
        nothing_waits(&world);
        prop_assert_eq!(world.accounted(), Some("Z"));
        let built = world.builds.iter().any(|b| b.good && b.revision.as_str() == "Z");
        prop_assert!(built || baselined(&world));
        prop_assert!(world.linked() == Some("Z") || baselined(&world) || world.state.held_at.is_some());
    }

    /// Whatever the source comes to rest at: it is linked, or there is a reason that one can name.
    #[test]
    fn what_is_not_linked_in_the_end_has_a_reason(
        policy in policy(),
        steps in prop::collection::vec(step(), 0..60),
        revision in revision(),
        rewound in any::<bool>(),
    ) {
        let mut world = play(policy, &steps);
        let relation = if rewound { Relation::Rewound } else { Relation::Forward { by: None } };
        rest(&mut world, revision, relation);
        nothing_waits(&world);
        prop_assert_eq!(world.observed(), Some(revision));
        prop_assert!(!world.state.in_debt() || vetoed(&world));
        let linked = world.linked() == Some(revision);
        let held_at = world.state.held_at.is_some();
        let reasons = [vetoed(&world), baselined(&world), failed_for_good(&world), refused_for_good(&world), held_at];
        prop_assert!(linked || reasons.contains(&true), "{:#?}", world.state);
        prop_assert!(!held_at || world.linked() != world.accounted());
    }

    /// Once it is deleted nothing is built any more; a build under way ends as usual.
    #[test]
    fn nothing_is_built_after_a_deletion(
        policy in policy(),
        before in prop::collection::vec(step(), 0..30),
        after in prop::collection::vec(revision(), 0..5),
    ) {
        let mut world = play(policy, &before);
        let builds = world.builds.len();
        let building = world.building().map(ToOwned::to_owned);
        world.delete();
        for revision in after {
            let look = world.begin_look();
            world.answer(&look, &seen(revision, None));
        }
        if building.is_some() {
            world.end_good();
            prop_assert_eq!(world.linked(), building.as_deref());
        }
        world.advance(7_200);
        prop_assert_eq!((world.builds.len(), world.building()), (builds, None));
    }

    /// Two answers out of order give what the newer one alone gives.
    #[test]
    fn an_older_answer_changes_nothing(
        policy in policy(),
        steps in prop::collection::vec(step(), 0..30),
        revisions in (revision(), revision()),
    ) {
        let mut world = play(policy, &steps);
        let older = world.begin_look();
        let newer = world.begin_look();
        world.answer(&newer, &seen(revisions.1, None));
        let state = world.state.clone();
        world.answer(&older, &seen(revisions.0, None));
        world.answer(&older, &Answer::Probed(Probed::NotFound));
        world.answer(&older, &failed());
        prop_assert_eq!(world.state, state);
    }
}
