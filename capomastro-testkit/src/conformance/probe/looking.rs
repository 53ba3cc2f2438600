//! What is seen of sources that are there.

use super::{
    Happens, ProbeHarness,
    desk::{Desk, ask, ask_after},
};
use capomastro_core::probe::Probed;
use std::collections::BTreeSet;

pub(super) async fn a_source_is_observed(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let source = harness.source().await;
    let seen = desk.observed(&source).await;
    assert_eq!(seen.clone().bounded(), seen, "what is told besides is within the bounds that are kept");
}

pub(super) async fn an_unchanged_source_has_the_same_revision(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let source = harness.source().await;
    let seen = desk.observed(&source).await;
    for _ in 0..3 {
        assert_eq!(desk.observed(&source).await.revision, seen.revision, "nothing has changed");
        let again = ask_after(&source, &seen);
        let answer = desk.look(again.clone()).await;
        assert_eq!(Desk::revision(&again, answer), seen.revision, "nothing has changed");
    }
}

pub(super) async fn a_changed_source_has_another_revision(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let source = harness.source().await;
    let mut revisions = BTreeSet::from([String::from(desk.observed(&source).await.revision)]);
    for _ in 0..4 {
        desk.cause(&source, Happens::Change).await;
        let now = desk.observed(&source).await.revision;
        assert!(revisions.insert(now.clone().into()), "{now} was seen before, and the source has changed");
    }
}

pub(super) async fn a_rewound_source_has_its_old_revision(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let source = harness.source().await;
    let old = desk.observed(&source).await;
    desk.cause(&source, Happens::Change).await;
    let new = desk.observed(&source).await;
    let expected = if harness.cause(&source, Happens::Rewind).await { &old } else { &new };
    // Also for one who saw the new one last.
    let again = ask_after(&source, &new);
    for ask in [ask(&source), again] {
        let answer = desk.look(ask.clone()).await;
        assert_eq!(Desk::revision(&ask, answer), expected.revision, "the same state, the same revision");
    }
}

pub(super) async fn each_source_has_a_state_of_its_own(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let (one, other) = (harness.source().await, harness.source().await);
    let mut sources = vec![other];
    sources.extend(harness.beside(&one).await);
    let mut before = Vec::new();
    for source in &sources {
        before.push(desk.observed(source).await.revision);
    }
    let old = desk.observed(&one).await.revision;
    desk.cause(&one, Happens::Change).await;
    assert_ne!(desk.observed(&one).await.revision, old, "the one has changed");
    for (source, before) in sources.iter().zip(before) {
        assert_eq!(desk.observed(source).await.revision, before, "the other has not");
    }
}

/// What was seen is told in the ask, by whoever kept it.
pub(super) async fn a_probe_remembers_nothing(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let source = harness.source().await;
    let old = desk.observed(&source).await;
    desk.cause(&source, Happens::Change).await;
    let new = desk.observed(&source).await;
    let restarted = Desk::new(harness);
    assert_eq!(restarted.observed(&source).await.revision, new.revision, "another process sees the same");
    for seen in [&new, &old, &new] {
        let ask = ask_after(&source, seen);
        let answer = restarted.look(ask.clone()).await;
        assert_eq!(Desk::revision(&ask, answer), new.revision, "and goes on where another one stopped");
    }
}

pub(super) async fn nothing_is_the_same_where_nothing_was_seen(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let source = harness.source().await;
    let seen = desk.observed(&source).await;
    let mut afresh = ask(&source);
    afresh.accounted = Some(seen.revision.clone());
    afresh.cursor.clone_from(&seen.cursor);
    for _ in 0..2 {
        let answer = desk.look(afresh.clone()).await;
        assert!(matches!(answer, Ok(Probed::Observed(_))), "nothing was seen, but: {answer:?}");
    }
}

pub(super) async fn what_has_changed_is_not_the_same_as_seen(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let source = harness.source().await;
    let old = desk.observed(&source).await;
    desk.cause(&source, Happens::Change).await;
    for _ in 0..2 {
        match desk.look(ask_after(&source, &old)).await {
            Ok(Probed::Observed(new)) => assert_ne!(new.revision, old.revision, "the source has changed"),
            other => panic!("what has changed is observed, but: {other:?}"),
        }
    }
}

pub(super) async fn looking_changes_nothing(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let source = harness.source().await;
    let seen = desk.observed(&source).await;
    for n in 0..8 {
        let mut ask = ask_after(&source, &seen);
        (ask.building, ask.wanted) = (n & 1 > 0, n & 2 > 0);
        ask.last_start = (n & 4 > 0).then(|| harness.time().clock().now());
        let answer = desk.look(ask.clone()).await;
        assert_eq!(Desk::revision(&ask, answer), seen.revision, "whatever is asked");
    }
    assert_eq!(desk.observed(&source).await.revision, seen.revision, "looks are read-only");
}
