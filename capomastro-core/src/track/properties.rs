//! Generated answers in any order, with a clock that jumps.

use super::{
    Step,
    imagined::{Owned, SETTLE, accepted, ended, error, external, inconclusive, queued, refuses, seen},
};
use crate::{
    ErrorKind,
    launch::{Found, Outcome, Promise, Seen},
    model::Phase::{Requested, Submitted},
    sample::at,
};
use chrono::TimeDelta;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Event {
    Resume,
    Launched(u8),
    Found(u8),
    Seen(u8),
    Cancel,
}

/// Applies what a driver would.
fn apply(s: &mut Owned, event: &Event) -> Step {
    let view = s.view();
    let step = match event {
        Event::Resume => view.resume(),
        Event::Launched(0) => view.launched(accepted()),
        Event::Launched(1) => view.launched(refuses()),
        Event::Launched(2) => view.launched(Err(error(ErrorKind::OutcomeUnknown))),
        Event::Launched(_) => view.launched(Err(error(ErrorKind::Unavailable))),
        Event::Found(0) => view.found(Ok(Found::Build(external("q1")))),
        Event::Found(1) => view.found(Ok(Found::Absent)),
        Event::Found(2) => view.found(inconclusive(5)),
        Event::Found(_) => view.found(Err(error(ErrorKind::Unavailable))),
        Event::Seen(n) => view.observed(
            &external("q1"),
            match n {
                0 => queued(),
                1 => seen(Seen::Running),
                2 => seen(Seen::Unknown),
                3 => ended(Outcome::Succeeded),
                4 => ended(Outcome::Cancelled),
                5 => ended(Outcome::Lost),
                _ => Err(error(ErrorKind::Unavailable)),
            },
        ),
        Event::Cancel => view.cancel("ann"),
    };
    match step.clone() {
        Step::Nothing { note, .. } => s.note = note,
        Step::Advance { build, note, .. } => {
            s.build = *build;
            s.note = note;
        }
        Step::Send { build } => s.build = *build,
        Step::End(end) => s.build = end.build,
        Step::Done | Step::Find | Step::Observe { .. } => {}
    }
    step
}

fn events() -> impl Strategy<Value = Vec<(Event, i64)>> {
    let event = prop_oneof![
        2 => Just(Event::Resume),
        2 => (0_u8..4).prop_map(Event::Launched),
        2 => (0_u8..4).prop_map(Event::Found),
        4 => (0_u8..7).prop_map(Event::Seen),
        1 => Just(Event::Cancel),
    ];
    prop::collection::vec((event, -100_i64..400), 0..60)
}

fn promises() -> impl Strategy<Value = Promise> {
    prop_oneof![Just(SETTLE), Just(Promise::IdempotentByKey), Just(Promise::Blind)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn phases_only_move_on_and_the_first_terminal_one_stays(events in events(), promise in promises()) {
        let mut s = Owned::of(Requested).promise(promise);
        for (event, step) in &events {
            s.now += step;
            let before = s.build.clone();
            apply(&mut s, event);
            prop_assert!(s.build.phase.rank() >= before.phase.rank(), "{before:?} {event:?}");
            if before.phase.is_terminal() {
                prop_assert_eq!(&s.build, &before);
            }
        }
    }

    #[test]
    fn a_report_applied_twice_gives_the_same_record(events in events(), promise in promises(), n in 0_u8..5) {
        let mut s = Owned::of(Submitted).promise(promise);
        for (event, step) in &events {
            s.now += step;
            apply(&mut s, event);
        }
        apply(&mut s, &Event::Seen(n));
        let once = s.build.clone();
        apply(&mut s, &Event::Seen(n));
        prop_assert_eq!(s.build, once);
    }

    #[test]
    fn errors_alone_end_nothing_before_a_stop_or_a_deadline(steps in prop::collection::vec(0_i64..500, 0..50)) {
        let mut s = Owned::of(Submitted);
        for step in steps {
            s.now += step;
            apply(&mut s, &Event::Seen(9));
            prop_assert_eq!(s.build.phase, Submitted);
        }
    }

    #[test]
    fn only_a_proven_absence_permits_another_send(events in events()) {
        let mut s = Owned::of(Requested);
        for (event, step) in &events {
            s.now += step;
            let before = s.build.clone();
            if let Step::Send { .. } = apply(&mut s, event)
                && before.sends > 0
            {
                prop_assert!(matches!(event, Event::Found(1)), "{event:?} {before:?}");
                prop_assert!(at(s.now) - before.launching_at.unwrap() >= TimeDelta::seconds(90));
                prop_assert_eq!(before.stop, None);
            }
        }
    }

    #[test]
    fn a_blind_launcher_is_asked_at_most_once_unless_the_policy_says_otherwise(events in events()) {
        let mut s = Owned::of(Requested).promise(Promise::Blind);
        for (event, step) in &events {
            s.now += step;
            apply(&mut s, event);
            prop_assert!(s.build.sends <= 1);
        }
    }
}
