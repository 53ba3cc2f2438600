//! Sending, and finding out what became of a send.

use super::{
    Afterwards, FIRST_WAIT, MAX_ERROR_WAIT, SETTLE_WHERE_NONE_IS_PROMISED, Situation, Step, error_wait,
    is_too_long, printable,
};
use crate::{
    Error, ErrorKind, Result, Retry,
    events::EventKind,
    launch::{Found, Launched, Promise},
    model::{ExternalRef, Note, Phase, WhenBlind},
    schedule::{backoff, look_cadence},
    time::{later, until},
};
use std::time::Duration;

impl Situation<'_> {
    /// The answer to a launch.
    ///
    /// | answer | then |
    /// |---|---|
    /// | accepted | submitted |
    /// | refused on the first send of the key | `Refused`; stopped, if a stop was asked |
    /// | refused on a later one | as unknown; `Refused` once it is proven absent |
    /// | unknown, idempotent by key | send again, at once the first time |
    /// | unknown, findable by key | wait the settle time, then find |
    /// | unknown, blind | `Lost`, or send again, as the policy says |
    /// | any other error | nothing was sent: send again after a back-off |
    pub fn launched(&self, answer: Result<Launched>) -> Step {
        if self.build.phase != Phase::Launching {
            return self.resume();
        }
        match answer {
            Ok(Launched::Accepted(external)) => self.adopted(external),
            // A stop wins over a refusal, which would be tried again.
            Ok(Launched::Refused(refusal)) if self.build.sends <= 1 => match &self.build.stop {
                Some(stop) => self.stopped(stop, Afterwards::Nothing),
                None => self.refused(refusal, Afterwards::Nothing),
            },
            Ok(Launched::Refused(refusal)) if self.promise == Promise::Blind => {
                self.refused(refusal, Afterwards::MayStillRun)
            }
            Ok(Launched::Refused(refusal)) => {
                let mut note = self.contact(true);
                note.waits_for = Some("a search for an earlier send, since this one was refused".into());
                note.refused = Some(refusal);
                Step::Nothing { after: self.settle(), note }
            }
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => self.launch_unknown(&error),
            Err(error) => self.not_sent(&error),
        }
    }

    /// The answer to a search by key.
    ///
    /// | answer | then |
    /// |---|---|
    /// | a build | submitted |
    /// | absent, before the settle time is over | not believed: search again |
    /// | absent, a stop asked | `Cancelled`: proven that nothing runs |
    /// | absent, the last send refused | `Refused` |
    /// | absent otherwise | send again with the same key |
    /// | inconclusive | search again; beyond `lost_after` of contact `Lost` |
    /// | an error | search again; says nothing |
    pub fn found(&self, answer: Result<Found>) -> Step {
        if self.build.phase != Phase::Launching {
            return self.resume();
        }
        match answer {
            Ok(Found::Build(external)) => self.adopted(external),
            Ok(Found::Absent) => self.absent(),
            Ok(Found::Inconclusive { look_again }) => {
                let mut note = self.contact(true);
                note.unknown_since.get_or_insert(self.now);
                note.waits_for =
                    Some("the build system, which cannot tell yet whether it has the build".into());
                if self.is_lost(&note) {
                    return self.lost(
                        self.build.clone(),
                        "the build system could not tell whether it has the build",
                    );
                }
                let after = look_again.clamp(Duration::from_secs(1), MAX_ERROR_WAIT);
                self.given_up().unwrap_or(Step::Nothing { after, note })
            }
            Err(error) => {
                let mut note = self.contact(false);
                note.waits_for = Some(printable(&error.report(), 500));
                let after = error_wait(&error, self.note.stalls).min(MAX_ERROR_WAIT);
                self.given_up().unwrap_or(Step::Nothing { after, note })
            }
        }
    }

    /// The record with a send begun.
    pub(super) fn send(&self) -> Step {
        let mut build = self.build.clone();
        build.phase = Phase::Launching;
        build.sends = build.sends.saturating_add(1);
        build.launching_at = Some(self.now);
        Step::Send { build: Box::new(build) }
    }

    /// What to do with a build of which it is not known whether it was sent.
    pub(super) fn recover(&self) -> Step {
        if self.is_unsent() {
            return match &self.build.stop {
                Some(stop) => self.stopped(stop, Afterwards::Nothing),
                None => self.send(),
            };
        }
        match self.promise {
            Promise::Blind => self.blind(),
            Promise::IdempotentByKey if self.build.stop.is_none() && self.note.refused.is_none() => {
                self.send()
            }
            Promise::IdempotentByKey | Promise::FindableByKey { .. } => match self.unsettled() {
                Duration::ZERO => Step::Find,
                after => {
                    let waits_for = Some("the time after which a search for the build is believed".into());
                    Step::Nothing { after, note: Note { waits_for, ..self.note.clone() } }
                }
            },
        }
    }

    fn blind(&self) -> Step {
        match (&self.build.stop, &self.note.refused, self.policy.when_blind) {
            (Some(stop), _, _) => self.stopped(stop, Afterwards::MayStillRun),
            (None, Some(refusal), _) => self.refused(refusal.clone(), Afterwards::MayStillRun),
            (None, None, Some(WhenBlind::AtLeastOnce)) => self.send(),
            // Without a choice, the one that builds nothing twice.
            (None, None, Some(WhenBlind::AtMostOnce) | None) => self.lost(
                self.build.clone(),
                "the answer to the launch was lost and the launcher cannot find builds; policy: at most once",
            ),
        }
    }

    fn launch_unknown(&self, error: &Error) -> Step {
        let mut note = self.contact(false);
        note.refused = None;
        let report = printable(&error.report(), 500);
        note.waits_for = Some(format!("the build system to say whether it has the build ({report})"));
        let is_resent = match self.promise {
            Promise::FindableByKey { .. } => false,
            Promise::IdempotentByKey => self.build.stop.is_none(),
            Promise::Blind if self.policy.when_blind == Some(WhenBlind::AtLeastOnce) => {
                self.build.stop.is_none()
            }
            Promise::Blind => return self.blind(),
        };
        let after = match is_resent {
            true => backoff(self.note.stalls, FIRST_WAIT, false),
            false => self.settle(),
        };
        Step::Nothing { after, note }
    }

    /// Proven that this send did not leave; it does not count.
    fn not_sent(&self, error: &Error) -> Step {
        let mut build = self.build.clone();
        build.sends = build.sends.saturating_sub(1);
        if build.sends == 0
            && let Some(stop) = &build.stop
        {
            return self.stopped(stop, Afterwards::Nothing);
        }
        let mut note = self.contact(false);
        note.waits_for = Some(printable(&error.report(), 500));
        let wait = error_wait(error, self.note.stalls);
        // What nobody need mend is tried often enough to go on soon after an outage.
        let after = match error.retry() {
            Retry::Never | Retry::After(_) => wait,
            _ => wait.min(MAX_ERROR_WAIT),
        };
        Step::Advance { build: Box::new(build), events: Vec::new(), after, note }
    }

    fn absent(&self) -> Step {
        if self.promise == Promise::Blind {
            // Who cannot find builds proves nothing by finding none.
            return self.blind();
        }
        let unsettled = self.unsettled();
        if unsettled > Duration::ZERO {
            return Step::Nothing { after: unsettled, note: self.contact(true) };
        }
        match (&self.build.stop, &self.note.refused) {
            (Some(stop), _) => self.stopped(stop, Afterwards::Nothing),
            (None, Some(refusal)) => self.refused(refusal.clone(), Afterwards::Nothing),
            (None, None) => self.send(),
        }
    }

    /// The build system has it under this name.
    fn adopted(&self, external: ExternalRef) -> Step {
        if is_too_long(&external) {
            return self.lost(
                self.build.clone(),
                "the launcher's name for the build is longer than 4,096 bytes and cannot be kept: shorten it there",
            );
        }
        let mut build = self.build.clone();
        build.phase = Phase::Submitted;
        build.external = Some(external);
        build.submitted_at = Some(self.now);
        let after = if build.stop.is_some() { Duration::ZERO } else { look_cadence(Duration::ZERO) };
        let events = vec![self.event(EventKind::BuildSubmitted { build: build.id })];
        let note = Note { unknown_since: None, refused: None, ..self.contact(true) };
        Step::Advance { build: Box::new(build), events, after, note }
    }

    fn settle(&self) -> Duration {
        match self.promise {
            Promise::FindableByKey { settle } => settle,
            Promise::IdempotentByKey | Promise::Blind => SETTLE_WHERE_NONE_IS_PROMISED,
        }
    }

    /// How long a search is not believed yet.
    fn unsettled(&self) -> Duration {
        let since = self.build.launching_at.unwrap_or(self.build.requested_at);
        // No longer than once the settle time from now, so that a clock that was set back is looked at again.
        until(self.now, later(since, self.settle())).min(self.settle())
    }
}
