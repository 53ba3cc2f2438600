//! What a case works with: a probe, sources, and short ways to look.

use super::{Happens, ProbeHarness};
use capomastro_core::{
    Result,
    model::{Observation, Relation, Revision, Source},
    probe::{Ask, Probed, RevisionProbe},
    secret::Secrets,
};
use std::{sync::Arc, time::Duration};

pub(super) struct Desk<'a> {
    pub(super) harness: &'a dyn ProbeHarness,
    pub(super) probe: Arc<dyn RevisionProbe>,
}

/// A first question about a source.
pub(super) fn ask(source: &Source) -> Ask {
    let name = "lib foo".parse().expect("a name");
    Ask::new(name, source.clone(), Duration::from_secs(60), Secrets::none())
}

/// The question after this was seen, and accounted for.
pub(super) fn ask_after(source: &Source, seen: &Observation) -> Ask {
    let mut ask = ask(source);
    ask.seen = Some(seen.revision.clone());
    ask.cursor.clone_from(&seen.cursor);
    ask.accounted = Some(seen.revision.clone());
    ask
}

impl<'a> Desk<'a> {
    pub(super) fn new(harness: &'a dyn ProbeHarness) -> Self {
        Self { harness, probe: harness.open() }
    }

    /// One question, one answer.
    pub(super) async fn look(&self, ask: Ask) -> Result<Probed> {
        let mut answers = self.probe.probe(&[ask]).await;
        assert_eq!(answers.len(), 1, "one answer for each ask");
        answers.remove(0)
    }

    /// What a first look at a source sees, which is there.
    pub(super) async fn observed(&self, source: &Source) -> Observation {
        match self.look(ask(source)).await {
            Ok(Probed::Observed(observation)) => observation,
            other => panic!("a source that is there is observed, but: {other:?}"),
        }
    }

    /// The revision that an answer stands for.
    pub(super) fn revision(ask: &Ask, answer: Result<Probed>) -> Revision {
        match answer {
            Ok(Probed::Observed(observation)) => observation.revision,
            Ok(Probed::SameAsSeen) => ask.seen.clone().expect("nothing is the same where nothing was seen"),
            other => panic!("a source that is there is observed, but: {other:?}"),
        }
    }

    /// What becomes of every source.
    pub(super) async fn cause(&self, source: &Source, what: Happens) {
        assert!(self.harness.cause(source, what).await, "{what:?} can happen to every source");
    }

    /// The relation that is told of what is there now to this accounted revision.
    pub(super) async fn relation_to(&self, source: &Source, accounted: &Observation) -> Option<Relation> {
        match self.look(ask_after(source, accounted)).await {
            Ok(Probed::Observed(observation)) => {
                assert_ne!(observation.revision, accounted.revision, "the source has another state");
                observation.relation
            }
            other => panic!("what has changed is observed, but: {other:?}"),
        }
    }
}
