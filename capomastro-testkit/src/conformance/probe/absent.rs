//! "Not there" and "cannot be reached" are different answers.

use super::{
    Happens, ProbeHarness,
    desk::{Desk, ask, ask_after},
};
use capomastro_core::probe::Probed;

pub(super) async fn what_is_not_there_is_not_found(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let source = harness.source().await;
    let seen = desk.observed(&source).await;
    if harness.cause(&source, Happens::Vanish).await {
        for ask in [ask(&source), ask_after(&source, &seen)] {
            let answer = desk.look(ask).await;
            assert!(matches!(answer, Ok(Probed::NotFound)), "it is not there, but: {answer:?}");
        }
    } else {
        // Such a source is always there, so nothing may say that it is not.
        let answer = desk.look(ask_after(&source, &seen)).await;
        assert!(matches!(answer, Ok(Probed::Observed(_) | Probed::SameAsSeen)), "it is there: {answer:?}");
    }
}

pub(super) async fn what_is_back_is_found(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let source = harness.source().await;
    let seen = desk.observed(&source).await;
    if harness.cause(&source, Happens::Vanish).await {
        drop(desk.look(ask_after(&source, &seen)).await);
        desk.cause(&source, Happens::Mend).await;
    }
    // What was seen is forgotten where a source was missing for long, and is not where it was missing for one look.
    for ask in [ask(&source), ask_after(&source, &seen)] {
        let answer = desk.look(ask.clone()).await;
        assert_eq!(Desk::revision(&ask, answer), seen.revision, "it is as it was");
    }
}

pub(super) async fn what_cannot_be_reached_is_an_error(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let source = harness.source().await;
    let seen = desk.observed(&source).await;
    desk.cause(&source, Happens::Cut).await;
    for ask in [ask(&source), ask_after(&source, &seen)] {
        match desk.look(ask).await {
            Err(e) => assert!(e.report().len() > 15, "the message says what is wrong: {e:?}"),
            Ok(answer) => panic!("nothing can be said of what is out of reach, but: {answer:?}"),
        }
    }
}

pub(super) async fn a_fault_passes(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let source = harness.source().await;
    let seen = desk.observed(&source).await;
    desk.cause(&source, Happens::Cut).await;
    drop(desk.look(ask(&source)).await);
    desk.cause(&source, Happens::Mend).await;
    assert_eq!(desk.observed(&source).await.revision, seen.revision, "it is as it was");
    desk.cause(&source, Happens::Change).await;
    assert_ne!(desk.observed(&source).await.revision, seen.revision, "and moves on");
}
