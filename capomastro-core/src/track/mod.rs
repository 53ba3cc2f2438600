//! What does a launcher's answer, or its silence, mean for a build?
//!
//! A driver that has claimed a build makes a [`Situation`] of it, asks [`Situation::resume`] what to do, does that, and
//! gives the answer to [`Situation::launched`], [`Situation::found`] or [`Situation::observed`], each of which returns the
//! next [`Step`]. All are pure: what is to be kept stands in the step.
//!
//! The phases only move on, the first terminal one stays, and only evidence from the build system moves them: an error
//! says nothing about a build.

mod artifacts;
mod look;
mod orphan;
mod send;

#[cfg(test)]
mod imagined;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod records;
#[cfg(test)]
mod tests;

pub use artifacts::{MAX_ARTIFACTS, safe_artifacts};
pub use orphan::{Judgement, judge};

use crate::{
    Error, ErrorKind, Retry,
    events::{Event, EventKind},
    launch::{Promise, Refusal},
    model::{Build, ExternalRef, Note, Phase, Policy, Stop, StopReason, cut},
    schedule::{MAX_BACKOFF, backoff},
    time::{Timestamp, later, until},
};
use std::time::Duration;

/// The longest reference of an external build, in bytes.
pub const MAX_EXTERNAL_BYTES: usize = 4_096;
/// How long after a send a search is believed where the launcher's promise names no time: for cancelling a launch of a
/// launcher that is idempotent by key, and for a refusal of its later send.
pub const SETTLE_WHERE_NONE_IS_PROMISED: Duration = Duration::from_secs(120);
/// At most this much of the time between two answers counts as contact: a scheduler that slept proves nothing.
const MAX_CONTACT_GAP: Duration = Duration::from_secs(120);
/// The first wait after an error.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// The longest wait after errors while a build is out there.
const MAX_ERROR_WAIT: Duration = Duration::from_secs(60);
/// The longest message of a build's end, in bytes.
const MAX_MESSAGE: usize = 2_000;

/// All that a step depends on.
#[derive(Copy, Clone, Debug)]
pub struct Situation<'a> {
    /// The build as it is recorded.
    pub build: &'a Build,
    /// The lossy facts of its due row.
    pub note: &'a Note,
    /// The dependency's choices now.
    pub policy: &'a Policy,
    /// What its launcher promises.
    pub promise: Promise,
    /// The store's time.
    pub now: Timestamp,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The build has ended: its due row can go.
    Done,
    /// Nothing durable changes: put the claim back with this note, due again after this long.
    Nothing {
        /// After how long to go on.
        after: Duration,
        /// New bookkeeping.
        note: Note,
    },
    /// Commit this record and these events; go on after this long.
    Advance {
        /// The record.
        build: Box<Build>,
        /// What happened.
        events: Vec<Event>,
        /// After how long to go on.
        after: Duration,
        /// New bookkeeping.
        note: Note,
    },
    /// Commit this record, which is in [`Phase::Launching`], and only then launch; the answer goes to
    /// [`Situation::launched`]. Where a limit is full, wait instead and ask again.
    Send {
        /// The record.
        build: Box<Build>,
    },
    /// Search for the build by its key; the answer goes to [`Situation::found`].
    Find,
    /// Look at the build; the answer goes to [`Situation::observed`].
    Observe {
        /// Whether to ask the build system to stop it first. An error of that changes nothing: it is asked again at each
        /// look.
        ask_stop: bool,
    },
    /// The build ends: commit this with all that hangs on an end.
    End(Box<End>),
}

/// The end of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct End {
    /// The record, in a terminal phase and otherwise complete; `good` is by the policy now.
    pub build: Build,
    /// What happened; the last one is [`EventKind::BuildEnded`].
    pub events: Vec<Event>,
    /// With [`Phase::Refused`]: why.
    pub refusal: Option<Refusal>,
}

/// Whether the build system may go on with a build that has ended for us.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Afterwards {
    Nothing,
    MayStillRun,
}

impl Situation<'_> {
    /// What a driver does that has just claimed the build: after a start, a crash or a wait, it does not matter which.
    pub fn resume(&self) -> Step {
        match self.build.phase {
            Phase::Requested => match &self.build.stop {
                Some(stop) => self.stopped(stop, Afterwards::Nothing),
                None => self.send(),
            },
            Phase::Launching => self.recover(),
            Phase::Submitted | Phase::Running => Step::Observe { ask_stop: self.build.stop.is_some() },
            _ => Step::Done,
        }
    }

    /// Somebody asks to cancel the build: at once while nothing can have been sent, or else by asking the build system to
    /// stop it, whose report is then what counts. The first reason to stop stays. The caller holds no claim: for an
    /// [`Advance`](Step::Advance) it commits record and events and nudges the due row.
    pub fn cancel(&self, by: &str) -> Step {
        let stop = Stop { reason: StopReason::Cancel { by: by.to_owned() }, asked_at: self.now };
        match self.build.phase {
            phase if phase.is_terminal() => Step::Done,
            _ if self.is_unsent() => self.stopped(&stop, Afterwards::Nothing),
            _ if self.build.stop.is_some() => {
                Step::Nothing { after: Duration::ZERO, note: self.note.clone() }
            }
            _ => self.stopping(self.build.clone(), stop.reason, self.note.clone()),
        }
    }

    /// A person breaks the lock of the build: it ends as lost, whatever the build system does.
    pub fn broken(&self, by: &str, reason: &str) -> Step {
        if self.build.phase.is_terminal() {
            return Step::Done;
        }
        let broken =
            EventKind::LockBroken { build: self.build.id, by: by.to_owned(), reason: reason.to_owned() };
        let after = if self.is_unsent() { Afterwards::Nothing } else { Afterwards::MayStillRun };
        let message = format!("the lock was broken by {by}: {reason}");
        let mut step = self.end(self.build.clone(), Phase::Lost, Some(message), after, None);
        if let Step::End(end) = &mut step {
            end.events.insert(0, Event::of_dependency(self.build.dependency, broken));
        }
        step
    }

    /// Whether it is certain that nothing was sent.
    fn is_unsent(&self) -> bool {
        match self.build.phase {
            Phase::Requested => true,
            Phase::Launching => self.build.sends == 0,
            _ => false,
        }
    }

    /// When the build was first seen running.
    fn running_at(&self, note: &Note) -> Option<Timestamp> {
        self.build.running_at.or(note.running_at)
    }

    /// The note with this answer counted: only the time between two answers is contact, and not all of it if it is long.
    fn contact(&self, answered: bool) -> Note {
        let mut note = self.note.clone();
        let gap = note.last_run.map_or(Duration::ZERO, |last| until(last, self.now));
        let uncounted = if answered && note.stalls == 0 { gap.saturating_sub(MAX_CONTACT_GAP) } else { gap };
        note.unknown_since = note.unknown_since.map(|since| later(since, uncounted).min(self.now));
        note.last_run = Some(self.now);
        note.stalls = if answered { 0 } else { note.stalls.saturating_add(1) };
        note.waits_for = None;
        note
    }

    /// Whether the build system has not known the build for too long.
    fn is_lost(&self, note: &Note) -> bool {
        note.unknown_since.is_some_and(|since| until(since, self.now) > self.policy.timeouts.lost_after)
    }

    /// The end, once the build system has been given its time to stop.
    fn given_up(&self) -> Option<Step> {
        let stop = self.build.stop.as_ref()?;
        (self.now >= later(stop.asked_at, self.policy.timeouts.stop))
            .then(|| self.stopped(stop, Afterwards::MayStillRun))
    }

    /// The end of a build that was stopped for this reason.
    fn stopped(&self, stop: &Stop, after: Afterwards) -> Step {
        let mut build = self.build.clone();
        build.stop.get_or_insert_with(|| stop.clone());
        self.end(build, stopped_phase(&stop.reason), Some(self.words(&stop.reason)), after, None)
    }

    fn words(&self, reason: &StopReason) -> String {
        let shown = |d| humantime_serde::re::humantime::format_duration(d);
        match reason {
            StopReason::Cancel { by } => format!("cancelled by {by}"),
            StopReason::QueueDeadline => {
                format!("it waited at the build system for more than {}", shown(self.policy.timeouts.queue))
            }
            StopReason::RunDeadline => format!("it ran for more than {}", shown(self.policy.timeouts.run)),
        }
    }

    /// The record with a stop asked for.
    fn stopping(&self, mut build: Build, reason: StopReason, note: Note) -> Step {
        build.stop = Some(Stop { reason: reason.clone(), asked_at: self.now });
        let events = vec![self.event(EventKind::BuildStopping { build: build.id, reason })];
        Step::Advance { build: Box::new(build), events, after: Duration::ZERO, note }
    }

    fn refused(&self, refusal: Refusal, after: Afterwards) -> Step {
        let message = format!("the build system refused it: {}", refusal.reason);
        self.end(self.build.clone(), Phase::Refused, Some(message), after, Some(refusal))
    }

    fn lost(&self, build: Build, why: &str) -> Step {
        self.end(build, Phase::Lost, Some(why.to_owned()), Afterwards::MayStillRun, None)
    }

    /// `build` with its end, and the events of that.
    fn end(
        &self,
        mut build: Build,
        phase: Phase,
        message: Option<String>,
        after: Afterwards,
        refusal: Option<Refusal>,
    ) -> Step {
        build.phase = phase;
        build.running_at = self.running_at(self.note);
        build.ended_at = Some(self.now);
        build.message = message.map(|m| printable(&m, MAX_MESSAGE));
        build.good = phase == Phase::Succeeded || (phase == Phase::Unstable && self.policy.unstable_is_good);
        let mut events = Vec::new();
        if let Some(built) = build.built.clone().filter(|built| *built != build.revision) {
            let pinned = build.revision.clone();
            events.push(self.event(EventKind::RevisionDrift { build: build.id, pinned, built }));
        }
        if after == Afterwards::MayStillRun {
            events.push(self.event(EventKind::MayStillRun { build: build.id }));
        }
        events.push(self.event(EventKind::BuildEnded { build: build.id, phase, good: build.good }));
        Step::End(Box::new(End { build, events, refusal }))
    }

    const fn event(&self, kind: EventKind) -> Event {
        Event::of_dependency(self.build.dependency, kind)
    }
}

/// How a build ends that was stopped for this reason.
const fn stopped_phase(reason: &StopReason) -> Phase {
    match reason {
        StopReason::Cancel { .. } => Phase::Cancelled,
        StopReason::QueueDeadline | StopReason::RunDeadline => Phase::TimedOut,
    }
}

/// How long to wait after an error that came after `before` others.
fn error_wait(error: &Error, before: u32) -> Duration {
    match error.retry() {
        // Somebody else has the build now; nothing is wrong with the build system.
        _ if error.kind() == ErrorKind::ClaimLost => Duration::ZERO,
        Retry::After(wait) => wait.clamp(Duration::from_secs(1), MAX_BACKOFF),
        advice => backoff(before.saturating_add(1), FIRST_WAIT, advice == Retry::Never),
    }
}

fn is_too_long(external: &ExternalRef) -> bool {
    external.0.len() > MAX_EXTERNAL_BYTES
}

/// `text` for people: bounded, without control characters other than line breaks and tabs.
pub(crate) fn printable(text: &str, max: usize) -> String {
    let clean = text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c });
    // A bounded part first, so that a flood is not copied.
    cut(clean.take(max).collect(), max)
}
