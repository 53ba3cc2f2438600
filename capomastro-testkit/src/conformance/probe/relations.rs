//! A probe need not know how revisions relate; what it claims must be right.

use super::{
    Happens, ProbeHarness,
    desk::{Desk, ask, ask_after},
};
use capomastro_core::{
    model::Relation,
    probe::{Ask, Probed},
};

pub(super) async fn a_step_forward_is_no_rewind(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let source = harness.source().await;
    let old = desk.observed(&source).await;
    for _ in 0..2 {
        desk.cause(&source, Happens::Change).await;
        let relation = desk.relation_to(&source, &old).await;
        assert!(
            matches!(relation, None | Some(Relation::Forward { .. })),
            "the source has moved on, which is no {relation:?}"
        );
    }
}

pub(super) async fn a_rewind_is_no_step_forward(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let source = harness.source().await;
    let old = desk.observed(&source).await;
    desk.cause(&source, Happens::Change).await;
    let new = desk.observed(&source).await;
    if harness.cause(&source, Happens::Rewind).await {
        let relation = desk.relation_to(&source, &new).await;
        assert!(
            matches!(relation, None | Some(Relation::Rewound | Relation::Recreated)),
            "the source went back, which is no {relation:?}"
        );
    } else {
        // It only ever moves on.
        let relation = desk.relation_to(&source, &old).await;
        assert!(matches!(relation, None | Some(Relation::Forward { .. })), "it moved on: {relation:?}");
    }
}

pub(super) async fn a_divergence_is_neither(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let source = harness.source().await;
    desk.cause(&source, Happens::Change).await;
    let old = desk.observed(&source).await;
    if harness.cause(&source, Happens::Diverge).await {
        let relation = desk.relation_to(&source, &old).await;
        assert!(
            matches!(relation, None | Some(Relation::Diverged | Relation::Recreated)),
            "neither descends from the other, which is no {relation:?}"
        );
    } else {
        desk.cause(&source, Happens::Change).await;
        let relation = desk.relation_to(&source, &old).await;
        assert!(
            matches!(relation, None | Some(Relation::Forward { .. })),
            "such sources cannot diverge, and {relation:?} was told"
        );
    }
}

pub(super) async fn there_is_no_relation_to_nothing(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let source = harness.source().await;
    let seen = desk.observed(&source).await;
    assert_eq!(seen.relation, None, "nothing was accounted for");
    desk.cause(&source, Happens::Change).await;
    let mut unaccounted = ask_after(&source, &seen);
    unaccounted.accounted = None;
    match desk.look(unaccounted).await {
        Ok(Probed::Observed(new)) => assert_eq!(new.relation, None, "nothing was accounted for"),
        other => panic!("what has changed is observed, but: {other:?}"),
    }
}

pub(super) async fn each_is_told_its_own_relation(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let source = harness.source().await;
    let old = desk.observed(&source).await;
    desk.cause(&source, Happens::Change).await;
    let new = desk.observed(&source).await;
    let mut unaccounted = ask(&source);
    unaccounted.seen = Some(old.revision.clone());
    let kinds: [Ask; 3] = [ask_after(&source, &old), unaccounted, ask_after(&source, &new)];
    for turned in 0..kinds.len() {
        let mut asks = kinds.clone();
        asks.rotate_left(turned);
        let answers = desk.probe.probe(&asks).await;
        for (ask, answer) in asks.iter().zip(answers) {
            let Ok(Probed::Observed(seen)) = answer else { continue };
            let right = match (&ask.accounted, seen.relation) {
                (_, None) => true,
                (None, Some(_)) => false,
                (Some(accounted), Some(Relation::Forward { by })) => {
                    *accounted == old.revision || by == Some(0)
                }
                (Some(_), Some(_)) => false,
            };
            assert!(right, "{:?} is no relation to {:?}", seen.relation, ask.accounted);
        }
    }
}
