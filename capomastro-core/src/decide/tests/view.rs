//! What one can see of a dependency and of the last operation.

use super::world::World;
use crate::{
    events::EventKind,
    model::{Build, EndReason, ReceiptId, ReceiptState, Request, Revision},
    time::until,
};

impl World {
    /// The revisions of all builds, in the order of their starts.
    pub(super) fn started(&self) -> Vec<&str> {
        self.builds.iter().map(|b| b.revision.as_str()).collect()
    }

    /// The revision of the build under way.
    pub(super) fn building(&self) -> Option<&str> {
        self.state.held.as_ref().map(|h| h.revision.as_str())
    }

    /// What stands for the dependency.
    pub(super) fn linked(&self) -> Option<&str> {
        self.state.linked.as_ref().map(|l| l.revision.as_str())
    }

    /// What is accounted for.
    pub(super) fn accounted(&self) -> Option<&str> {
        self.state.accounted_revision().map(Revision::as_str)
    }

    /// What was last observed.
    pub(super) fn observed(&self) -> Option<&str> {
        self.state.observed_revision().map(Revision::as_str)
    }

    /// What waits, in order: `B` for a change that was seen, `!` for whatever is there, `!B` for a revision that somebody
    /// asked for.
    pub(super) fn waiting(&self) -> Vec<String> {
        let show = |r: &Request| {
            let forced = if r.forced { "!" } else { "" };
            format!("{forced}{}", r.revision.as_ref().map_or("", Revision::as_str))
        };
        self.state.waiting.iter().map(show).collect()
    }

    /// The names of what the last operation decided.
    pub(super) fn decisions(&self) -> Vec<&'static str> {
        self.decided.iter().map(|d| d.decision.name()).collect()
    }

    /// What the last operation decided, if it was one thing that was recorded.
    pub(super) fn recorded(&self) -> Option<&'static str> {
        match &self.decided[..] {
            [one] if !one.counted => Some(one.decision.name()),
            _ => None,
        }
    }

    /// Where a trigger stands.
    pub(super) fn receipt(&self, id: ReceiptId) -> &ReceiptState {
        &self.receipts[&id]
    }

    /// Why a trigger ended without a build.
    pub(super) fn reason(&self, id: ReceiptId) -> Option<&EndReason> {
        match self.receipt(id) {
            ReceiptState::Ended { reason } => Some(reason),
            _ => None,
        }
    }

    /// The last build.
    pub(super) fn last(&self) -> &Build {
        self.builds.last().expect("something was built")
    }

    /// How many loud events there were in the last operation.
    pub(super) fn loud(&self) -> usize {
        let loud = |e: &&EventKind| matches!(e, EventKind::Vetoed { .. } | EventKind::Discarded { .. });
        self.events.iter().filter(loud).count()
    }

    /// In how many seconds a look is due that a decision asked for.
    pub(super) fn look_in(&self) -> Option<u64> {
        self.look_due.map(|at| until(self.now, at).as_secs())
    }
}
