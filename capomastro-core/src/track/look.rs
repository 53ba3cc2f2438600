//! Looking at a build that the build system has.

use super::{
    Afterwards, MAX_ERROR_WAIT, Situation, Step, error_wait, is_too_long, printable, safe_artifacts,
    stopped_phase,
};
use crate::{
    Result,
    launch::{Ended, Outcome, Report, Seen},
    model::{Build, ExternalRef, Note, Phase, StopReason},
    schedule::look_cadence,
    time::{Timestamp, later, until},
};
use std::time::Duration;

/// The least wait before the next look, so that a deadline that has just passed makes no hot loop.
const LEAST_WAIT: Duration = Duration::from_secs(1);

impl Situation<'_> {
    /// The answer to a look at the build under the name `asked`.
    ///
    /// | answer | then |
    /// |---|---|
    /// | it ended | it ends so, even if a stop was asked; `Cancelled` after a deadline's stop is `TimedOut`, `Lost` after a stop is what the stop would have made of it |
    /// | it waits | noted; beyond the queue deadline a stop is asked |
    /// | it runs | noted, once; beyond the run deadline a stop is asked |
    /// | it waits, but was seen running | an older report: changes nothing |
    /// | unknown | beyond `lost_after` of contact `Lost` |
    /// | about another name than the present one | an older report: changes nothing |
    /// | an error | says nothing; looked at again later |
    ///
    /// A build to be stopped that has not ended after the grace ([`Timeouts::stop`](crate::model::Timeouts::stop)) is given
    /// up, whatever was answered, and may still run.
    pub fn observed(&self, asked: &ExternalRef, answer: Result<Report>) -> Step {
        if !matches!(self.build.phase, Phase::Submitted | Phase::Running) {
            return self.resume();
        }
        if self.build.external.as_ref() != Some(asked) {
            return Step::Nothing { after: Duration::ZERO, note: self.note.clone() };
        }
        let report = match answer {
            Ok(report) => report,
            Err(error) => {
                let mut note = self.contact(false);
                note.waits_for = Some(printable(&error.report(), 500));
                let wait = error_wait(&error, self.note.stalls).min(MAX_ERROR_WAIT);
                return self.go_on(self.build.clone(), note, wait, false);
            }
        };
        let mut note = self.contact(true);
        let mut build = self.build.clone();
        if let Some(external) = report.external.filter(|e| !is_too_long(e)) {
            build.external = Some(external);
        }
        let mut is_queued = false;
        match report.seen {
            Seen::Ended(ended) => return self.ended(build, ended),
            Seen::Unknown => {
                note.unknown_since.get_or_insert(self.now);
                note.waits_for = Some("the build system, which does not know the build".into());
                if self.is_lost(&note) {
                    return self.lost(self.build.clone(), "the build system does not know it any more");
                }
            }
            Seen::Queued { why } => {
                note.unknown_since = None;
                is_queued = self.running_at(&note).is_none();
                note.waits_for = why.filter(|_| is_queued).map(|w| printable(&w, 500));
            }
            Seen::Running => {
                note.unknown_since = None;
                note.running_at = self.running_at(&note).or(Some(self.now));
            }
        }
        // A stop, like a submission, is followed closely at first.
        let since =
            build.stop.as_ref().map(|s| s.asked_at).or(build.submitted_at).unwrap_or(build.requested_at);
        let wait = look_cadence(until(since, self.now));
        self.go_on(build, note, wait, is_queued)
    }

    /// A build that has not ended: is it time to stop it or to give it up, and is there something to keep?
    fn go_on(&self, mut build: Build, note: Note, wait: Duration, is_queued: bool) -> Step {
        if let Some(end) = self.given_up() {
            return end;
        }
        let deadline = self.deadline(&note, is_queued);
        let is_new = build != *self.build;
        let is_over = deadline.as_ref().is_some_and(|(at, _)| self.now >= *at);
        if is_new || is_over {
            // What is written anyway takes along what only the note knows.
            build.running_at = self.running_at(&note);
            if build.running_at.is_some() {
                build.phase = Phase::Running;
            }
        }
        let after = deadline.as_ref().map_or(wait, |(at, _)| wait.min(until(self.now, *at).max(LEAST_WAIT)));
        match deadline {
            Some((_, Some(reason))) if is_over => self.stopping(build, reason, note),
            _ if is_new => Step::Advance { build: Box::new(build), events: Vec::new(), after, note },
            _ => Step::Nothing { after, note },
        }
    }

    /// The next time at which something happens by itself, and the reason to stop then; without one it is the end of the
    /// grace. The queue deadline counts only for a build that was just seen waiting: one that nobody could ask about may run.
    fn deadline(&self, note: &Note, is_queued: bool) -> Option<(Timestamp, Option<StopReason>)> {
        let timeouts = &self.policy.timeouts;
        if let Some(stop) = &self.build.stop {
            return Some((later(stop.asked_at, timeouts.stop), None));
        }
        if let Some(running_at) = self.running_at(note) {
            return Some((later(running_at, timeouts.run), Some(StopReason::RunDeadline)));
        }
        let since = self.build.submitted_at.unwrap_or(self.build.requested_at);
        is_queued.then(|| (later(since, timeouts.queue), Some(StopReason::QueueDeadline)))
    }

    /// The end as the build system tells it.
    fn ended(&self, mut build: Build, ended: Ended) -> Step {
        let stop = build.stop.as_ref().map(|s| &s.reason);
        let phase = match (ended.outcome, stop) {
            (Outcome::Succeeded, _) => Phase::Succeeded,
            (Outcome::Unstable, _) => Phase::Unstable,
            (Outcome::Failed, _) => Phase::Failed,
            (Outcome::Cancelled | Outcome::Lost, Some(reason)) => stopped_phase(reason),
            (Outcome::Cancelled, None) => Phase::Cancelled,
            (Outcome::Lost, None) => Phase::Lost,
        };
        let why = match (phase, stop) {
            (Phase::Cancelled | Phase::TimedOut, Some(reason)) => Some(self.words(reason)),
            _ => None,
        };
        let (artifacts, dropped) = safe_artifacts(ended.artifacts);
        build.artifacts = artifacts;
        build.built = ended.built;
        let dropped = (dropped > 0).then(|| {
            format!(
                "{dropped} artifacts were not kept: at most 1,000 are, with plain relative names, each once"
            )
        });
        // The notes of ours come first, so that a long message cannot push them out.
        let parts: Vec<String> = [why, dropped, ended.message].into_iter().flatten().collect();
        let message = (!parts.is_empty()).then(|| parts.join("; "));
        self.end(build, phase, message, Afterwards::Nothing, None)
    }
}
