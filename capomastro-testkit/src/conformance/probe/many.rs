//! Several asks in one call, and several calls at once.

use super::{
    Happens, ProbeHarness,
    desk::{Desk, ask, ask_after},
};
use capomastro_core::{
    model::{ProbeKey, Revision, Source},
    probe::{Ask, Probed},
};
use futures_util::future::join_all;
use std::collections::BTreeMap;

impl Desk<'_> {
    /// Sources that may be asked about in one call, and what each is at.
    async fn group(&self) -> Vec<(Source, Revision)> {
        let source = self.harness.source().await;
        let mut sources = vec![source.clone()];
        for _ in 0..2 {
            sources.extend(self.harness.beside(&source).await);
        }
        sources.push(source);
        let mut group = Vec::new();
        for source in sources {
            let revision = self.observed(&source).await.revision;
            group.push((source, revision));
        }
        group
    }
}

pub(super) async fn answers_are_one_per_ask_and_in_order(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let group = desk.group().await;
    for turned in 0..group.len() {
        let mut group = group.clone();
        group.rotate_left(turned);
        let asks: Vec<Ask> = group.iter().map(|(source, _)| ask(source)).collect();
        let answers = desk.probe.probe(&asks).await;
        assert_eq!(answers.len(), asks.len(), "one answer for each ask");
        for ((ask, answer), (_, revision)) in asks.iter().zip(answers).zip(&group) {
            assert_eq!(Desk::revision(ask, answer), *revision, "answers come in the order of the asks");
        }
    }
}

/// They are asked in one call wherever they came from, so a key must tell apart what one run cannot answer.
pub(super) async fn what_has_one_key_is_answered_together(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let mut by_key = BTreeMap::<ProbeKey, Vec<(Source, Revision)>>::new();
    for _ in 0..3 {
        let source = harness.source().await;
        let revision = desk.observed(&source).await.revision;
        let key = desk.probe.key(&source).expect("a good source has a key");
        by_key.entry(key).or_default().push((source, revision));
    }
    for group in by_key.values() {
        let asks: Vec<Ask> = group.iter().map(|(source, _)| ask(source)).collect();
        let answers = desk.probe.probe(&asks).await;
        assert_eq!(answers.len(), asks.len(), "one answer for each ask");
        for ((ask, answer), (_, revision)) in asks.iter().zip(answers).zip(group) {
            assert_eq!(Desk::revision(ask, answer), *revision, "as if it were looked at alone");
        }
    }
}

pub(super) async fn no_asks_no_answers(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    assert!(desk.probe.probe(&[]).await.is_empty(), "there is nothing to answer");
}

pub(super) async fn one_that_is_missing_spoils_no_other(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let source = harness.source().await;
    let missing = match harness.beside(&source).await {
        Some(missing) => missing,
        // It is alone in its call then, and another call has to be as good as before.
        None => harness.source().await,
    };
    let revision = desk.observed(&source).await.revision;
    let has_vanished = harness.cause(&missing, Happens::Vanish).await;
    let is_together = desk.probe.key(&source).ok() == desk.probe.key(&missing).ok();
    if has_vanished && is_together {
        let asks = [ask(&missing), ask(&source), ask(&missing), ask(&source)];
        let answers = desk.probe.probe(&asks).await;
        assert_eq!(answers.len(), asks.len(), "one answer for each ask");
        for (n, (ask, answer)) in asks.iter().zip(answers).enumerate() {
            if n % 2 == 0 {
                assert!(matches!(answer, Ok(Probed::NotFound)), "it is not there, but: {answer:?}");
            } else {
                assert_eq!(Desk::revision(ask, answer), revision, "it is there beside one that is not");
            }
        }
    } else {
        drop(desk.look(ask(&missing)).await);
        assert_eq!(desk.observed(&source).await.revision, revision, "whatever became of another");
    }
}

pub(super) async fn asks_of_one_source_may_know_different_things(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let source = harness.source().await;
    let old = desk.observed(&source).await;
    desk.cause(&source, Happens::Change).await;
    let new = desk.observed(&source).await;
    let kinds = [ask(&source), ask_after(&source, &new), ask_after(&source, &old)];
    for turned in 0..kinds.len() {
        let mut asks = kinds.clone();
        asks.rotate_left(turned);
        let answers = desk.probe.probe(&asks).await;
        assert_eq!(answers.len(), asks.len(), "one answer for each ask");
        for (ask, answer) in asks.iter().zip(answers) {
            let (seen, said) = (ask.seen.clone(), format!("{answer:?}"));
            assert_eq!(Desk::revision(ask, answer), new.revision, "to one who saw {seen:?}: {said}");
        }
    }
}

pub(super) async fn looks_at_once_do_not_disturb_each_other(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let group = desk.group().await;
    let other = harness.source().await;
    let revision = desk.observed(&other).await.revision;
    let asks: Vec<Ask> = group.iter().map(|(source, _)| ask(source)).collect();
    let (asked_alone, opened) = (vec![ask(&other)], harness.open());
    let looks = (0..6).map(|n| {
        let probe = if n % 2 == 0 { &desk.probe } else { &opened };
        probe.probe(if n % 3 == 0 { &asked_alone } else { &asks })
    });
    for (n, answers) in join_all(looks).await.into_iter().enumerate() {
        let expected: Vec<&Revision> =
            if n % 3 == 0 { vec![&revision] } else { group.iter().map(|(_, r)| r).collect() };
        assert_eq!(answers.len(), expected.len(), "one answer for each ask");
        for (answer, expected) in answers.into_iter().zip(expected) {
            assert_eq!(Desk::revision(&asks[0], answer), *expected, "as if it were looked at alone");
        }
    }
}
