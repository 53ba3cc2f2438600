//! Once faults stop, people are quiet and deadlines pass, everything comes to an end.

use super::{Act, Contact, Fate, Sent, Sight, World};
use crate::{launch::Outcome, model::Relation};

impl World {
    /// The sources rest at a revision that was never seen, nothing is paused, every build ends good.
    pub(super) fn heal(&mut self) {
        for d in 0..self.dependencies.len() {
            self.act(Act::Resume(d));
            self.act(Act::ChangeJob(d));
        }
        for _ in 0..60 {
            let before = self.essence();
            for d in 0..self.dependencies.len() {
                self.act(Act::Look(d, Sight::At("Z", Some(Relation::Forward { by: None }))));
                self.act(Act::Work(d, Fate::Ended(Outcome::Succeeded)));
                self.act(Act::Drive(d, Contact::Honest, Sent::Accepted));
            }
            self.act(Act::Wait(1_000));
            let is_idle = self.dependencies.iter().all(|d| d.state.held.is_none() && d.evaluate_at.is_none());
            if is_idle && self.essence() == before {
                return self.rests();
            }
        }
        panic!("it never comes to rest: {:#?}", self.dependencies);
    }

    fn rests(&self) {
        assert!(self.receipts.is_empty(), "somebody waits for ever: {:?}", self.receipts);
        assert!(self.open.is_empty(), "a project build is open for ever: {:?}", self.open);
        for d in self.dependencies.iter().filter(|d| !d.state.deleted) {
            let state = &d.state;
            assert_eq!(state.accounted_revision().map(|r| r.as_str()), Some("Z"), "{state:#?}");
            let linked = state.linked.as_ref().map(|l| l.revision.as_str());
            let baseline = matches!(&state.accounted, Some(a) if a.by == crate::model::Settled::Baseline);
            assert!(linked == Some("Z") || baseline || state.held_at.is_some(), "{state:#?}");
        }
    }
}
