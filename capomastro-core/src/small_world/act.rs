//! What can happen.

use super::{Fate, World};
use crate::{
    launch::Outcome,
    model::{OnHeld, Relation},
    time::later,
};
use std::time::Duration;

/// What a look finds.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    At(&'static str, Option<Relation>),
    Same,
    Nothing,
    NotFound,
    Failed,
}

/// What becomes of a send.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It arrives and is answered.
    Accepted,
    /// It arrives; the answer is lost.
    AnswerLost,
    /// It does not arrive, and nobody can tell.
    SendLost,
    /// It does not leave, and that is known.
    Unsent,
    /// It is refused.
    Refused { permanent: bool },
    /// The process dies before it sends.
    CrashBefore,
    /// The process dies after it has sent.
    CrashAfter,
}

/// How the build system can be asked.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Contact {
    Honest,
    Silent,
    Inconclusive,
}

/// One thing that happens. Dependencies and projects are named by their place.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Look(usize, Sight),
    /// A look begins, and is answered later.
    Begin(usize),
    Answer(usize, Sight),
    Push(usize),
    /// A "build regardless" falls due.
    Due(usize),
    Manual(usize, Option<OnHeld>),
    OwnParameters(usize),
    Pinned(usize, &'static str, Option<OnHeld>),
    /// All of a project, or with a dependency whose pin moves.
    Whole(usize, Option<usize>),
    Drive(usize, Contact, Sent),
    /// The answer to an earlier send comes late.
    Late(usize),
    /// The build system gets on with its build, if it has it.
    Work(usize, Fate),
    /// The build is sent if it need be, ends like this, and that is noticed.
    Finish(usize, Outcome),
    Cancel(usize),
    Break(usize),
    Pause(usize),
    Resume(usize),
    Edit(usize),
    ChangeJob(usize),
    /// People change their minds about what happens while a build runs.
    Policy(usize, OnHeld),
    Delete(usize),
    /// Holds a project at the linked build, or at the oldest good one that is known.
    Pin(usize, usize, bool),
    Unpin(usize, usize),
    Join(usize, usize),
    Leave(usize, usize),
    /// Seconds pass; evaluations that fall due are made.
    Wait(u64),
}

impl World {
    /// Does it and checks the laws; false if it cannot be done now.
    pub(super) fn act(&mut self, act: Act) -> bool {
        let before = self.marks();
        if !self.perform(act) {
            return false;
        }
        self.forget();
        self.check(&before);
        true
    }

    fn perform(&mut self, act: Act) -> bool {
        match act {
            Act::Look(d, sight) => {
                let Some(look) = self.begin_look(d) else { return false };
                self.answer(d, &look, sight)
            }
            Act::Begin(d) => match self.dependencies[d].look {
                Some(_) => false,
                None => {
                    self.dependencies[d].look = self.begin_look(d);
                    self.dependencies[d].look.is_some()
                }
            },
            Act::Answer(d, sight) => match self.dependencies[d].look.take() {
                Some(look) => self.answer(d, &look, sight),
                None => false,
            },
            Act::Push(d) => self.push(d),
            Act::Due(d) => !std::mem::replace(&mut self.dependencies[d].regardless, true),
            Act::Manual(d, on_held) => self.manual(d, false, on_held),
            Act::OwnParameters(d) => self.manual(d, true, None),
            Act::Pinned(d, revision, on_held) => self.pinned(d, revision, on_held),
            Act::Whole(p, moving) => self.whole(p, moving),
            Act::Drive(d, contact, sent) => self.drive(d, contact, sent),
            Act::Late(d) => self.late(d),
            Act::Work(d, fate) => self.work(d, fate),
            Act::Finish(d, outcome) => self.finish_build(d, outcome),
            Act::Cancel(d) => self.cancel(d),
            Act::Break(d) => self.break_lock(d),
            Act::Pause(d) => self.pause(d),
            Act::Resume(d) => self.resume(d),
            Act::Edit(d) => self.edit(d),
            Act::ChangeJob(d) => self.change_job(d),
            Act::Policy(d, on_held) => {
                let policy = &mut self.dependencies[d].policy;
                std::mem::replace(&mut policy.on_held, on_held) != on_held
            }
            Act::Delete(d) => self.delete(d),
            Act::Pin(p, d, oldest) => self.pin(p, d, oldest),
            Act::Unpin(p, d) => self.unpin(p, d),
            Act::Join(p, d) => self.join(p, d),
            Act::Leave(p, d) => self.leave(p, d),
            Act::Wait(seconds) => {
                self.now = later(self.now, Duration::from_secs(seconds));
                self.evaluate_what_is_due();
                true
            }
        }
    }
}
