//! The decision table, rows 1 to 7, and that the first row that matches is the one that counts.

use super::world::{World, own, rev, secs, seen};
use crate::{
    decide::{Context, LockView, Subject, row},
    detect::Detection,
    events::EventKind,
    model::{
        BuildId, DependencyState, EndReason, First, Health, OnHeld, Parameters, Policy, Quiet, ReceiptState,
        Relation, Veto,
    },
    time::later,
};
use uuid::Uuid;

fn no_rewinds() -> Policy {
    Policy::default().with_veto(Veto { rewound: true, ..Veto::default() })
}

fn quietly() -> Policy {
    Policy::default().with_quiet(Some(Quiet { period: secs(60), at_most: secs(300) }))
}

/// A state in which every row from `from` on matches an unforced look at `B`, with what it needs of a policy and a lock.
struct Rows {
    world: World,
    lock: LockView,
    known: Vec<(crate::model::Revision, BuildId)>,
}

impl Rows {
    /// Rows 3, 4 and 7 to 10 match at once; 5 and 6 exclude those below.
    fn all() -> Self {
        let policy = no_rewinds()
            .with_quiet(Some(Quiet { period: secs(60), at_most: secs(300) }))
            .with_reuse_known(true);
        let mut world = World::at_a(policy);
        world.look_with_relation("B", Relation::Rewound);
        let known = vec![(rev("B"), BuildId::from_uuid(Uuid::from_u128(7)))];
        world.manual_pinned("A");
        let held = world.state.held.as_mut().unwrap();
        held.revision = rev("B");
        world.state.paused = Some(crate::model::Paused {
            by: "a person".parse().unwrap(),
            reason: String::new(),
            at: world.now,
        });
        world.state.not_found = 1;
        Self { world, lock: LockView::AsStored, known }
    }

    fn row(&self) -> &'static str {
        self.row_with(&Parameters::new())
    }

    fn row_with(&self, parameters: &Parameters) -> &'static str {
        let context = Context {
            policy: &self.world.policy,
            now: self.world.now,
            lock: self.lock.clone(),
            known_good: &self.known,
            build: BuildId::from_uuid(Uuid::from_u128(8)),
        };
        let relation = self.world.state.observed.as_ref().map(|o| &o.relation);
        let subject = Subject {
            forced: false,
            revision: &rev("B"),
            pinned: false,
            relation,
            parameters,
            on_held: OnHeld::DiscardLoudly,
            waited: false,
        };
        row(&self.world.state, &context, &subject).name()
    }
}

#[test]
fn the_first_row_that_matches_counts() {
    let mut rows = Rows::all();
    assert_eq!(rows.row(), "SourceMissing");
    rows.world.state.not_found = 0;
    assert_eq!(rows.row(), "Paused");
    rows.world.state.paused = None;
    let accounted = rows.world.state.accounted.take();
    assert_eq!(rows.row(), "Baselined", "a good build of it is known");
    rows.world.state.accounted = accounted;
    let mut there = Rows { world: rows.world.clone(), lock: LockView::AsStored, known: rows.known.clone() };
    there.world.state.accounted.as_mut().unwrap().revision = rev("B");
    assert_eq!(there.row(), "Unchanged");
    assert_eq!(rows.row(), "Vetoed");
    rows.world.policy.veto = Veto::default();
    assert_eq!(rows.row(), "Quiet");
    rows.world.now = later(rows.world.now, secs(60));
    assert_eq!(rows.row(), "AlreadyBuilding");
    rows.world.state.held.as_mut().unwrap().stopping = true;
    assert_eq!(rows.row(), "DiscardedLoudly");
    rows.world.state.held = None;
    rows.lock = LockView::HeldElsewhere { by: "somebody else".into() };
    assert_eq!(rows.row(), "DiscardedLoudly");
    rows.lock = LockView::AsStored;
    assert_eq!(rows.row(), "Reused");
    assert_eq!(rows.row_with(&own("x")), "Build", "what is known was built without own parameters");
    rows.world.policy.reuse_known = false;
    assert_eq!(rows.row(), "Build");
}

// --- row 1 -----------------------------------------------------------------------------------------------------------

#[test]
fn row_1_an_answer_that_is_older_than_the_last_applied_is_dropped() {
    let mut world = World::new();
    let older = world.begin_look();
    world.look("B");
    let state = world.state.clone();
    assert_eq!(world.answer(&older, &seen("A", None)), Detection::Stale);
    assert_eq!((world.state, world.decided), (state, vec![]));
}

#[test]
fn row_1_an_answer_about_an_edited_source_is_dropped() {
    let mut world = World::new();
    let older = world.begin_look();
    world.edit_source();
    assert_eq!(world.answer(&older, &seen("A", None)), Detection::Stale);
    assert_eq!((world.observed(), world.builds.len()), (None, 0));
}

#[test]
fn row_1_the_triggers_of_a_stale_answer_stay_due() {
    let mut world = World::new();
    let manual = world.manual();
    let older = world.begin_look();
    world.edit_source();
    world.answer(&older, &seen("A", None));
    assert_eq!(world.receipt(manual), &ReceiptState::AwaitsLook);
    world.look("A");
    assert!(matches!(world.receipt(manual), ReceiptState::Started { .. }));
}

// --- row 2 -----------------------------------------------------------------------------------------------------------

#[test]
fn row_2_a_failed_look_steps_the_health_and_tells_a_change_of_it_once() {
    let mut world = World::at_a(Policy::default());
    world.fail();
    let told = |w: &World| w.events.iter().filter(|e| matches!(e, EventKind::HealthChanged { .. })).count();
    assert_eq!((told(&world), world.state.health.failures()), (1, 1));
    world.fail();
    assert_eq!((told(&world), world.state.health.failures()), (0, 2));
    world.look("A");
    assert_eq!((told(&world), &world.state.health), (1, &Health::Healthy));
}

#[test]
fn row_2_a_failed_look_leaves_observed_accounted_and_links() {
    let mut world = World::at_a(quietly());
    world.look("B");
    let before = world.state.clone();
    world.fail();
    assert_eq!((world.observed(), world.accounted(), world.linked()), (Some("B"), Some("A"), Some("A")));
    assert_eq!(world.state.observed, before.observed);
    assert_eq!(world.decided, vec![], "nothing is decided by a failure");
}

#[test]
fn row_2_a_failed_look_neither_counts_nor_resets_row_3() {
    let mut world = World::at_a(Policy::default());
    world.not_found();
    world.fail();
    world.fail();
    assert_eq!(world.state.not_found, 1, "neither counted nor reset");
    world.not_found();
    assert!(matches!(world.state.health, Health::Missing { .. }), "twice running, all the same");
    world.fail();
    assert_eq!(world.state.not_found, 2);
}

#[test]
fn row_2_the_triggers_of_a_failed_look_stay_due() {
    let mut world = World::new();
    let manual = world.manual();
    world.fail();
    assert_eq!(world.receipt(manual), &ReceiptState::AwaitsLook);
}

// --- row 3 -----------------------------------------------------------------------------------------------------------

#[test]
fn row_3_once_looks_again_soon_and_twice_running_is_missing() {
    let mut world = World::at_a(Policy::default());
    world.not_found();
    assert_eq!((world.recorded(), world.look_in()), (Some("SourceMissing"), Some(0)));
    assert_eq!(world.state.health, Health::Healthy);
    world.not_found();
    assert_eq!(world.state.health, Health::Missing { since: world.now });
    let since = world.now;
    world.advance(60);
    world.not_found();
    assert_eq!(world.state.health, Health::Missing { since }, "since when it first was");
    assert_eq!((world.observed(), world.linked()), (Some("A"), Some("A")));
}

#[test]
fn row_3_two_that_are_not_running_are_not_twice() {
    let mut world = World::at_a(Policy::default());
    world.not_found();
    world.look("A");
    world.not_found();
    assert_eq!((world.state.not_found, &world.state.health), (1, &Health::Healthy));
}

#[test]
fn row_3_is_a_state_that_releases_see() {
    let mut world = World::new();
    world.look("A");
    world.look("B");
    world.not_found();
    world.end_good();
    assert_eq!((world.recorded(), world.building()), (Some("SourceMissing"), None));
    assert!(world.state.in_debt(), "the debt stays visible");
}

#[test]
fn row_3_a_waiting_change_that_comes_to_the_table_ends_and_its_debt_stays() {
    let mut world = World::on_held(OnHeld::Queue { max: 5 });
    world.look("A");
    let push = world.push();
    world.look("B");
    assert_eq!(world.waiting(), ["B"]);
    world.not_found();
    assert_eq!(world.waiting(), ["B"], "it ends when it comes to the table");
    world.end_good();
    assert_eq!((world.waiting().len(), world.building()), (0, None));
    assert_eq!(world.reason(push), Some(&EndReason::SourceMissing));
    assert!(world.state.in_debt());
}

#[test]
fn row_3_a_forced_request_pinned_to_a_revision_passes_and_no_other_does() {
    let mut world = World::at_a(Policy::default());
    world.not_found();
    world.manual_pinned("A");
    assert_eq!(world.started(), ["A", "A"]);
    world.end_good();
    world.not_found();
    world.manual_pinned("A");
    assert_eq!(world.started().len(), 3);
    world.end_good();
    let manual = world.manual();
    world.not_found();
    assert_eq!((world.started().len(), world.reason(manual)), (3, Some(&EndReason::SourceMissing)));
}

#[test]
fn row_3_on_return_it_is_compared_as_usual() {
    let mut world = World::at_a(Policy::default());
    world.not_found();
    world.not_found();
    world.look("A");
    assert_eq!((world.decisions(), world.builds.len()), (vec!["Unchanged"], 1));
    world.not_found();
    world.not_found();
    world.look("B");
    assert_eq!(world.building(), Some("B"));
}

// --- row 4 -----------------------------------------------------------------------------------------------------------

#[test]
fn row_4_a_pause_leaves_the_debt_and_all_requests_visible() {
    let mut world = World::on_held(OnHeld::Queue { max: 5 });
    world.look("A");
    world.look("B");
    world.manual_pinned("C");
    world.pause();
    world.end_good();
    assert_eq!((world.recorded(), world.building()), (Some("Paused"), None));
    world.look("D");
    assert_eq!((world.decisions(), world.waiting()), (vec!["Paused"], vec!["B".to_owned(), "!C".to_owned()]));
    assert_eq!((world.accounted(), world.observed()), (Some("A"), Some("D")));
}

#[test]
fn row_4_holds_for_forced_triggers_too() {
    let mut world = World::at_a(Policy::default());
    let waiting = world.manual();
    world.pause();
    let pinned = world.manual_pinned("A");
    assert_eq!(world.reason(pinned), Some(&EndReason::Paused));
    world.look("A");
    assert_eq!(world.reason(waiting), Some(&EndReason::Paused));
    assert_eq!(world.builds.len(), 1);
}

// --- row 5 -----------------------------------------------------------------------------------------------------------

#[test]
fn row_5_what_the_first_observation_means() {
    for (first, known, decision) in [
        (First::Auto, false, "Build"),
        (First::Auto, true, "Baselined"),
        (First::Build, false, "Build"),
        (First::Build, true, "Build"),
        (First::Baseline, false, "Baselined"),
        (First::Baseline, true, "Baselined"),
    ] {
        let mut world = World::with(Policy::default().with_first(first));
        if known {
            world.manual_pinned("A");
            world.end_good();
        }
        world.look("A");
        assert_eq!(world.recorded(), Some(decision), "{first:?}, a good build of it is known: {known}");
        assert_eq!(world.accounted(), Some("A"));
    }
}

#[test]
fn row_5_only_a_good_build_of_this_very_revision_in_this_epoch_without_own_parameters_counts() {
    let build = |f: &dyn Fn(&mut World)| {
        let mut world = World::new();
        f(&mut world);
        world.look("A");
        world.recorded()
    };
    assert_eq!(
        build(&|w| {
            w.manual_pinned("A");
            w.end_failed();
        }),
        Some("Build"),
        "not good"
    );
    assert_eq!(
        build(&|w| {
            w.manual_pinned("B");
            w.end_good();
        }),
        Some("Build"),
        "another"
    );
    assert_eq!(
        build(&|w| {
            w.pin("A", own("x"), None);
            w.end_good();
        }),
        Some("Build"),
        "own parameters"
    );
    assert_eq!(
        build(&|w| {
            w.manual_pinned("A");
            w.end_good();
            w.edit_source();
        }),
        Some("Build"),
        "another epoch"
    );
}

#[test]
fn row_5_is_about_the_first_only() {
    let mut world = World::with(Policy::default().with_first(First::Baseline));
    world.look("A");
    world.look("B");
    assert_eq!((world.recorded(), world.started()), (Some("Build"), vec!["B"]));
}

// --- row 6 -----------------------------------------------------------------------------------------------------------

#[test]
fn row_6_the_accounted_revision_is_unchanged() {
    let mut world = World::at_a(Policy::default());
    let before = world.state.clone();
    world.look("A");
    assert_eq!(world.decisions(), ["Unchanged"]);
    assert!(world.decided[0].counted);
    let ticket = world.state.applied_ticket;
    assert_eq!(world.state, DependencyState { applied_ticket: ticket, ..before }, "nothing to write");
}

#[test]
fn row_6_the_target_is_the_last_waiting_change_else_accounted() {
    let mut world = World::on_held(OnHeld::Queue { max: 5 });
    world.look("A");
    world.look("B");
    world.look("B");
    assert_eq!((world.decisions(), world.waiting()), (vec!["Unchanged"], vec!["B".to_owned()]));
    world.look("A");
    assert_eq!(world.waiting(), ["B", "A"], "back to what is accounted, and still to be built after B");
}

#[test]
fn row_6_forced_requests_are_no_target() {
    let mut world = World::on_held(OnHeld::Queue { max: 5 });
    world.look("A");
    world.look("B");
    world.manual_pinned("C");
    world.look("B");
    assert_eq!(world.decisions(), ["Unchanged"]);
    world.look("C");
    assert_eq!(world.waiting(), ["B", "!C", "C"]);
}

// --- row 7 -----------------------------------------------------------------------------------------------------------

#[test]
fn row_7_what_the_policy_vetoes() {
    let all = Veto { rewound: true, diverged: true, recreated: true, unknown: true };
    let only = |f: &dyn Fn(&mut Veto)| {
        let mut veto = Veto::default();
        f(&mut veto);
        veto
    };
    let forward = Some(Relation::Forward { by: Some(3) });
    let rewound = Some(Relation::Rewound);
    for (veto, relation, decision) in [
        (Veto::default(), rewound, "Build"),
        (Veto::default(), None, "Build"),
        (all.clone(), forward, "Build"),
        (all.clone(), rewound, "Vetoed"),
        (all.clone(), Some(Relation::Diverged), "Vetoed"),
        (all.clone(), Some(Relation::Recreated), "Vetoed"),
        (all, None, "Vetoed"),
        (only(&|v| v.rewound = true), None, "Build"),
        (only(&|v| v.rewound = true), Some(Relation::Diverged), "Build"),
        (only(&|v| v.diverged = true), rewound, "Build"),
        (only(&|v| v.recreated = true), Some(Relation::Recreated), "Vetoed"),
        (only(&|v| v.unknown = true), rewound, "Build"),
    ] {
        let mut world = World::at_a(Policy::default().with_veto(veto.clone()));
        let look = world.begin_look();
        world.answer(&look, &seen("B", relation));
        assert_eq!(world.recorded(), Some(decision), "{veto:?} of {relation:?}");
        let accounted = if decision == "Vetoed" { "A" } else { "B" };
        assert_eq!(world.accounted(), Some(accounted));
    }
}

#[test]
fn row_7_is_loud_once_per_revision() {
    let mut world = World::at_a(no_rewinds());
    world.look_with_relation("0", Relation::Rewound);
    assert_eq!((world.loud(), world.recorded()), (1, Some("Vetoed")));
    world.look_with_relation("0", Relation::Rewound);
    assert_eq!((world.loud(), world.decisions()), (0, vec!["Vetoed"]));
    world.look("A");
    world.look_with_relation("0", Relation::Rewound);
    assert_eq!(world.loud(), 0, "nothing was settled between");
    world.look_with_relation("00", Relation::Rewound);
    assert_eq!(world.loud(), 1, "another revision");
    world.look_with_relation("B", Relation::Forward { by: None });
    world.end_good();
    world.look_with_relation("00", Relation::Rewound);
    assert_eq!(world.loud(), 1, "another move to it");
}

#[test]
fn row_7_is_loud_for_a_change_that_waited_too() {
    let mut world = World::with(no_rewinds().with_on_held(OnHeld::Queue { max: 5 }));
    world.policy.veto = Veto::default();
    world.look("A");
    world.look_with_relation("0", Relation::Rewound);
    world.policy = no_rewinds().with_on_held(OnHeld::Queue { max: 5 });
    world.end_good();
    assert_eq!((world.decisions(), world.loud()), (vec!["Vetoed", "Vetoed"], 1));
    assert!(world.state.in_debt() && world.building().is_none());
}

#[test]
fn row_7_is_loud_for_a_change_that_waited_and_is_not_the_newest() {
    let mut world = World::on_held(OnHeld::Queue { max: 5 });
    world.look("A");
    world.look_with_relation("0", Relation::Rewound);
    world.look_with_relation("B", Relation::Forward { by: Some(1) });
    world.policy.veto = Veto { rewound: true, ..Veto::default() };
    world.end_good();
    assert_eq!((world.decisions(), world.loud()), (vec!["Vetoed", "Build"], 1));
    assert_eq!(world.building(), Some("B"));
}

#[test]
fn row_7_needs_a_relation_to_what_is_accounted_now() {
    let mut world = World::at_a(no_rewinds());
    let look = world.begin_look();
    world.manual();
    world.look("B");
    let mut late = world.begin_look();
    late.accounted = look.accounted;
    world.end_good();
    world.answer(&late, &seen("C", Some(Relation::Forward { by: None })));
    assert_eq!(
        (world.recorded(), world.look_in()),
        (Some("RelationStale"), Some(0)),
        "a look instead of a build"
    );
    world.look_with_relation("C", Relation::Forward { by: None });
    assert_eq!(world.building(), Some("C"));
}

#[test]
fn row_7_is_not_asked_of_what_is_accounted_itself() {
    let mut world = World::with(no_rewinds().with_on_held(OnHeld::Queue { max: 5 }));
    world.look("A");
    world.with_params("x");
    world.look("A");
    world.look_with_relation("B", Relation::Forward { by: None });
    world.pause();
    world.look_with_relation("C", Relation::Forward { by: None });
    world.end_good();
    world.resume();
    assert_eq!(
        (world.building(), world.accounted()),
        (Some("C"), Some("C")),
        "the manual one, at what is seen"
    );
    // B waits, so that C is no news to the table alone; what was said of C refers to A.
    world.same_as_seen();
    assert_eq!(
        (world.recorded(), world.look_in()),
        (Some("Queued"), None),
        "no look at once, again and again"
    );
    world.same_as_seen();
    assert_eq!(world.look_in(), None);
}

#[test]
fn row_7_is_not_asked_of_a_first_observation() {
    let veto = Veto { unknown: true, ..Veto::default() };
    let mut world = World::with(Policy::default().with_veto(veto));
    world.look("A");
    assert_eq!(world.recorded(), Some("Build"));
}
