//! The typed parse of a source, and what answers together.

use super::{
    Happens, ProbeHarness,
    desk::{Desk, ask},
};
use capomastro_core::{ErrorKind, probe::Probed};

pub(super) async fn a_source_has_one_key(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let source = harness.source().await;
    let key = desk.probe.key(&source).expect("a good source has a key");
    assert_eq!(desk.probe.key(&source).expect("a good source has a key"), key, "at any time");
    desk.observed(&source).await;
    desk.cause(&source, Happens::Change).await;
    assert_eq!(desk.probe.key(&source).expect("a good source has a key"), key, "whatever the source is at");
    assert_eq!(harness.open().key(&source).expect("a good source has a key"), key, "in any process");
}

pub(super) async fn a_key_is_short(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    for source in [harness.source().await, harness.source().await] {
        let key = desk.probe.key(&source).expect("a good source has a key");
        assert!((1..=2_000).contains(&key.as_str().len()), "a key has 1 to 2,000 bytes: {key:?}");
    }
}

/// A dependency can be defined while its source is out of reach.
pub(super) async fn a_key_needs_no_look(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let source = harness.source().await;
    let key = desk.probe.key(&source).expect("a good source has a key");
    desk.cause(&source, Happens::Cut).await;
    let cut = desk.probe.key(&source);
    assert_eq!(cut.expect("a good source has a key, even where it is out of reach"), key);
}

pub(super) async fn what_answers_together_has_one_key(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let source = harness.source().await;
    let key = desk.probe.key(&source).expect("a good source has a key");
    match harness.beside(&source).await {
        Some(beside) => assert_eq!(desk.probe.key(&beside).expect("a good source has a key"), key),
        None => {
            let other = harness.source().await;
            let other = desk.probe.key(&other).expect("a good source has a key");
            assert_ne!(other, key, "sources that are never answered together have keys of their own");
        }
    }
}

pub(super) async fn what_cannot_be_looked_at_is_refused(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let sources = harness.refused();
    assert!(!sources.is_empty(), "the harness names a source that cannot be looked at");
    for source in sources {
        let e = desk.probe.key(&source).expect_err("a source that cannot be looked at is refused");
        assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{e:?}");
        assert!(e.report().len() > 15, "the message says what to do: {e:?}");
    }
}

/// It may have been stored by a version that took it.
pub(super) async fn a_bad_source_is_an_error_at_a_look_too(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    for source in harness.refused() {
        let answer = desk.look(ask(&source)).await;
        assert!(answer.is_err(), "nothing can be said of a bad source, but: {answer:?}");
    }
    let answer = desk.look(ask(&harness.source().await)).await;
    assert!(matches!(answer, Ok(Probed::Observed(_))), "and no other source suffers: {answer:?}");
}
