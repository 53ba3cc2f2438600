//! What do the answers of a launcher, or its silence, mean for a build? Pure.

use crate::{
    Error, Result,
    decide::EndOfBuild,
    error::ErrorKind,
    events::EventKind,
    launch::{Ended, Found, Launched, Outcome, Promise, Report, Seen},
    model::{
        Artifact, Build, Note, Phase, Policy, Revision, Stop, StopReason, StoredRefusal, Timeouts, WhenBlind,
        cut,
    },
    schedule::{backoff, look_cadence},
    time::{Timestamp, later, until},
};
use std::time::Duration;

/// The most artifacts that are kept of one build.
pub const MAX_ARTIFACTS: usize = 1_000;
/// The longest message that is kept of a build's end, in bytes.
const MAX_MESSAGE: usize = 4_096;
/// The wait after the first failed contact with a build system.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// A build system that does not answer is asked at least this often.
const MOST_RETRY: Duration = Duration::from_secs(60);

/// How a build ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Its terminal phase.
    pub end: EndOfBuild,
    /// The revision that was really built, if the launcher could tell.
    pub built: Option<Revision>,
    /// What it left behind.
    pub artifacts: Vec<Artifact>,
    /// For people.
    pub message: Option<String>,
    /// Whether the build system may still run it.
    pub may_still_run: bool,
    /// Who broke its lock, and why.
    pub broken: Option<(String, String)>,
}

impl Ending {
    /// An end without output.
    pub const fn of(end: EndOfBuild) -> Self {
        Self { end, built: None, artifacts: Vec::new(), message: None, may_still_run: false, broken: None }
    }

    /// The same end, with a reason for people.
    #[must_use]
    pub fn because(mut self, message: impl Into<String>) -> Self {
        self.message = Some(cut(message.into(), MAX_MESSAGE));
        self
    }
}

/// What whoever has claimed a build does with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing was sent: pass the limits, record `Launching`, send.
    Admit,
    /// Record another send of the same key, then send.
    Send,
    /// Look for it by its key.
    Find,
    /// Look at it.
    Observe,
    /// Nothing yet.
    Wait(Duration),
    /// End it.
    End(Ending),
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing durable: look again.
    Again {
        /// After how long.
        after: Duration,
        /// Lossy bookkeeping.
        note: Note,
    },
    /// Record the build as it stands now, then look again.
    Advance {
        /// The build.
        build: Box<Build>,
        /// After how long.
        after: Duration,
        /// Lossy bookkeeping.
        note: Note,
        /// What happened.
        events: Vec<EventKind>,
    },
    /// Proven absent: send the same key again.
    Send,
    /// End it.
    End(Ending),
}

/// What to do with a build that was just claimed; nothing is known of who drove it before.
pub fn next(build: &Build, promise: Promise, policy: &Policy, now: Timestamp) -> Next {
    match build.phase {
        Phase::Requested if build.stop.is_some() => {
            Next::End(stopped(build).because("stopped before anything was sent"))
        }
        Phase::Requested => Next::Admit,
        Phase::Launching => launching(build, promise, policy, now),
        _ => Next::Observe,
    }
}

fn launching(build: &Build, promise: Promise, policy: &Policy, now: Timestamp) -> Next {
    let Some(launching_at) = build.launching_at else {
        // Every send so far is known not to have happened.
        return if build.stop.is_some() {
            Next::End(stopped(build).because("stopped before anything was sent"))
        } else {
            Next::Send
        };
    };
    let must_know = build.refusal.is_some() || build.stop.is_some();
    match promise {
        Promise::IdempotentByKey if must_know => Next::Find,
        Promise::IdempotentByKey => Next::Send,
        Promise::FindableByKey { settle } => {
            // A clock that was set back must not stretch the wait.
            let wait = until(now, later(launching_at, settle)).min(settle);
            if wait > Duration::ZERO { Next::Wait(wait) } else { Next::Find }
        }
        Promise::Blind => match (policy.when_blind, must_know) {
            (Some(WhenBlind::AtLeastOnce), false) => Next::Send,
            _ => Next::End(
                Ending { may_still_run: true, ..Ending::of(EndOfBuild::of(Phase::Lost)) }
                    .because("the answer to the launch was lost, and the launcher cannot find builds again"),
            ),
        },
    }
}

/// What the answer to a send means. `build` is as it was recorded for this send.
pub fn launched(
    build: &Build,
    answer: &Result<Launched>,
    promise: Promise,
    policy: &Policy,
    note: &Note,
    now: Timestamp,
) -> Step {
    if build.external.is_some() {
        // It was found while this send was under way: what is known to be there counts.
        return Step::Again { after: Duration::ZERO, note: note.clone() };
    }
    match answer {
        Ok(Launched::Accepted(external)) => submitted(build, external, note, now),
        Ok(Launched::Refused(refusal)) if build.sends <= 1 => {
            Step::End(absent(build, Some((&refusal.reason, refusal.permanent))))
        }
        Ok(Launched::Refused(refusal)) => {
            let mut build = build.clone();
            build.refusal = Some(StoredRefusal {
                reason: cut(refusal.reason.clone(), MAX_MESSAGE),
                permanent: refusal.permanent,
            });
            wait_and_find(build, promise, policy, note, now)
        }
        Err(error) if error.kind() == ErrorKind::OutcomeUnknown => {
            wait_and_find(build.clone(), promise, policy, note, now)
        }
        Err(error) => unsent(build, error, note),
    }
}

/// The send is known not to have happened: the next one follows, later each time.
fn unsent(build: &Build, error: &Error, note: &Note) -> Step {
    let mut build = build.clone();
    build.sends = build.sends.saturating_sub(1);
    if build.sends == 0 {
        build.launching_at = None;
    }
    let stalls = note.stalls.saturating_add(1);
    let after = match error.kind() {
        ErrorKind::ClaimLost => Duration::ZERO,
        _ => backoff(stalls, FIRST_RETRY, false).min(MOST_RETRY),
    };
    let note = Note { stalls, waits_for: Some(error.report()), ..note.clone() };
    Step::Advance { build: Box::new(build), after, note, events: Vec::new() }
}

fn wait_and_find(build: Build, promise: Promise, policy: &Policy, note: &Note, now: Timestamp) -> Step {
    let note =
        Note { waits_for: Some("the build system to say whether it has the build".into()), ..note.clone() };
    match launching(&build, promise, policy, now) {
        Next::End(ending) => Step::End(ending),
        Next::Wait(after) => Step::Advance { build: Box::new(build), after, note, events: Vec::new() },
        _ => {
            let stalls = note.stalls.saturating_add(1);
            let after = backoff(stalls, FIRST_RETRY, false).min(MOST_RETRY);
            Step::Advance { build: Box::new(build), after, note: Note { stalls, ..note }, events: Vec::new() }
        }
    }
}

fn submitted(build: &Build, external: &crate::model::ExternalRef, note: &Note, now: Timestamp) -> Step {
    let mut build = build.clone();
    build.phase = Phase::Submitted;
    build.external = Some(external.clone());
    build.submitted_at = Some(now);
    build.refusal = None;
    let events = vec![EventKind::BuildSubmitted { build: build.id }];
    let note = Note { unknown_since: None, ..contact(note, now) };
    Step::Advance { after: look_cadence(Duration::ZERO), build: Box::new(build), note, events }
}

/// What the answer to a search by key means.
pub fn found(build: &Build, answer: &Result<Found>, policy: &Policy, note: &Note, now: Timestamp) -> Step {
    match answer {
        Ok(Found::Build(external)) => submitted(build, external, note, now),
        Ok(Found::Absent) if build.refusal.is_none() && build.stop.is_none() => Step::Send,
        Ok(Found::Absent) => {
            Step::End(absent(build, build.refusal.as_ref().map(|r| (&r.reason, r.permanent))))
        }
        Ok(Found::Inconclusive { look_again }) => {
            if let Some(ending) = given_up(build, &policy.timeouts, now) {
                return Step::End(ending);
            }
            let since = unknown_since(note, now);
            if until(since, now) > policy.timeouts.lost_after {
                let ending = Ending { may_still_run: true, ..Ending::of(EndOfBuild::of(Phase::Lost)) };
                return Step::End(ending.because("the build system cannot tell whether it has the build"));
            }
            let waits_for = Some("the build system to say whether it has the build".into());
            let note = Note { unknown_since: Some(since), ..contact(note, now) };
            Step::Again {
                after: (*look_again).clamp(Duration::from_millis(100), MOST_RETRY),
                note: Note { waits_for, ..note },
            }
        }
        Err(error) => match given_up(build, &policy.timeouts, now) {
            Some(ending) => Step::End(ending),
            None => unreachable_again(error, note),
        },
    }
}

/// The end of a build of which it is proven that the build system never had it. A stop wins over a refusal, which would
/// be tried again.
fn absent(build: &Build, refusal: Option<(&String, bool)>) -> Ending {
    match refusal {
        Some((reason, permanent)) if build.stop.is_none() => {
            Ending::of(EndOfBuild { permanent, ..EndOfBuild::of(Phase::Refused) }).because(reason.clone())
        }
        _ => stopped(build).because("stopped; the build system never had it"),
    }
}

/// The bookkeeping after the build system has answered.
fn contact(note: &Note, now: Timestamp) -> Note {
    Note { stalls: 0, waits_for: None, last_run: Some(now), ..note.clone() }
}

/// Since when the build system does not know the build. Time without contact is no evidence and does not count, and a
/// clock that was set back starts the count anew rather than stretch it.
fn unknown_since(note: &Note, now: Timestamp) -> Timestamp {
    let Some(since) = note.unknown_since.filter(|s| *s <= now) else { return now };
    let gap = note.last_run.map_or(Duration::ZERO, |last| until(last, now));
    let counts = if note.stalls > 0 { Duration::ZERO } else { gap.min(MOST_RETRY) };
    later(since, gap.saturating_sub(counts)).min(now)
}

/// A build system that cannot be asked is never evidence.
fn unreachable_again(error: &Error, note: &Note) -> Step {
    let stalls = note.stalls.saturating_add(1);
    let note = Note { stalls, waits_for: Some(error.report()), ..note.clone() };
    Step::Again { after: backoff(stalls, FIRST_RETRY, false).min(MOST_RETRY), note }
}

/// What a look at a submitted build means. Whatever is reported of the end wins over a stop that was asked for.
pub fn reported(
    build: &Build,
    answer: &Result<Report>,
    policy: &Policy,
    note: &Note,
    now: Timestamp,
) -> Step {
    if build.phase.is_terminal() {
        return Step::Again { after: Duration::ZERO, note: note.clone() };
    }
    let report = match answer {
        Ok(report) => report,
        Err(error) => {
            return match overdue(build, &policy.timeouts, note, false, now) {
                Some(Overdue::GiveUp(ending)) => Step::End(ending),
                Some(Overdue::Stop(reason)) => stop(build.clone(), reason, note.clone(), now),
                None => unreachable_again(error, note),
            };
        }
    };
    let mut next = build.clone();
    let since = unknown_since(note, now);
    let mut note = contact(note, now);
    let mut durable = false;
    if let Some(external) = report.external.as_ref().filter(|e| Some(*e) != build.external.as_ref()) {
        next.external = Some(external.clone());
        durable = true;
    }
    match &report.seen {
        Seen::Ended(ended) => return Step::End(ending(build, ended)),
        Seen::Unknown => {
            note.unknown_since = Some(since);
            note.waits_for = Some("the build system to know the build again".into());
            if until(since, now) > policy.timeouts.lost_after {
                let ending = if build.stop.is_some() {
                    stopped(build)
                } else {
                    Ending { may_still_run: true, ..Ending::of(EndOfBuild::of(Phase::Lost)) }
                };
                return Step::End(ending.because("the build system does not know the build any more"));
            }
        }
        Seen::Queued { why } => {
            note.unknown_since = None;
            note.waits_for.clone_from(why);
        }
        Seen::Running => {
            note.unknown_since = None;
            let since = *note.running_at.get_or_insert(now);
            if durable || build.phase == Phase::Running {
                next.running_at.get_or_insert(since);
                next.phase = Phase::Running;
            }
        }
    }
    let queued = matches!(report.seen, Seen::Queued { .. });
    match overdue(&next, &policy.timeouts, &note, queued, now) {
        Some(Overdue::GiveUp(ending)) => return Step::End(ending),
        Some(Overdue::Stop(reason)) => return stop(next, reason, note, now),
        None => {}
    }
    let age = until(build.submitted_at.unwrap_or(now), now);
    let after = if build.stop.is_some() { look_cadence(Duration::ZERO) } else { look_cadence(age) };
    if durable {
        Step::Advance { build: Box::new(next), after, note, events: Vec::new() }
    } else {
        Step::Again { after, note }
    }
}

enum Overdue {
    Stop(StopReason),
    GiveUp(Ending),
}

/// The end of a build that was to be stopped, if the build system has not confirmed it within the grace.
fn given_up(build: &Build, timeouts: &Timeouts, now: Timestamp) -> Option<Ending> {
    let stop = build.stop.as_ref()?;
    (until(stop.asked_at, now) > timeouts.stop).then(|| {
        let ending = Ending { may_still_run: true, ..stopped(build) };
        ending.because("the build system did not confirm the stop")
    })
}

/// Whether a deadline has passed: first the build system is asked to stop, and after a grace the build is given up.
/// `queued` is whether the build system has just said that the build waits.
fn overdue(build: &Build, timeouts: &Timeouts, note: &Note, queued: bool, now: Timestamp) -> Option<Overdue> {
    if build.stop.is_some() {
        return given_up(build, timeouts, now).map(Overdue::GiveUp);
    }
    if let Some(running) = build.running_at.or(note.running_at) {
        return (until(running, now) > timeouts.run).then_some(Overdue::Stop(StopReason::RunDeadline));
    }
    // Out of contact it may run by now: only when both deadlines together have passed, one of them surely has.
    let limit = if queued { timeouts.queue } else { timeouts.queue.saturating_add(timeouts.run) };
    let waited = until(build.submitted_at.unwrap_or(now), now);
    (waited > limit).then_some(Overdue::Stop(StopReason::QueueDeadline))
}

fn stop(mut build: Build, reason: StopReason, note: Note, now: Timestamp) -> Step {
    let events = vec![EventKind::BuildStopping { build: build.id, reason: reason.clone() }];
    build.stop = Some(Stop { reason, asked_at: now });
    Step::Advance { build: Box::new(build), after: Duration::ZERO, note, events }
}

/// The end of a build that was to be stopped.
fn stopped(build: &Build) -> Ending {
    let phase = match build.stop.as_ref().map(|s| &s.reason) {
        Some(StopReason::QueueDeadline | StopReason::RunDeadline) => Phase::TimedOut,
        _ => Phase::Cancelled,
    };
    Ending::of(EndOfBuild::of(phase))
}

fn ending(build: &Build, ended: &Ended) -> Ending {
    let mut ending = match ended.outcome {
        Outcome::Succeeded => Ending::of(EndOfBuild::of(Phase::Succeeded)),
        Outcome::Unstable => Ending::of(EndOfBuild::of(Phase::Unstable)),
        Outcome::Failed => Ending::of(EndOfBuild::of(Phase::Failed)),
        Outcome::Cancelled => stopped(build),
    };
    let (artifacts, dropped) = acceptable(&ended.artifacts);
    ending.artifacts = artifacts;
    ending.built.clone_from(&ended.built);
    let remark = (dropped > 0)
        .then(|| format!("{dropped} artifacts were not kept: too many, or names that lead outside"));
    let parts: Vec<String> = ended.message.iter().cloned().chain(remark).collect();
    if !parts.is_empty() {
        ending = ending.because(parts.join("; "));
    }
    ending
}

/// The artifacts that are kept: at most [`MAX_ARTIFACTS`], each with a relative path of at most 1,024 bytes that stays
/// inside, and how many are not.
fn acceptable(artifacts: &[Artifact]) -> (Vec<Artifact>, usize) {
    let kept: Vec<Artifact> = artifacts
        .iter()
        .filter(|a| stays_inside(&a.name))
        .filter(|a| a.digest.as_ref().is_none_or(|d| d.len() <= 256))
        .filter(|a| a.location.as_ref().is_none_or(|l| l.len() <= 4_096))
        .take(MAX_ARTIFACTS)
        .cloned()
        .collect();
    let dropped = artifacts.len() - kept.len();
    (kept, dropped)
}

fn stays_inside(name: &str) -> bool {
    (1..=1_024).contains(&name.len())
        && !name.chars().any(|c| c.is_control() || c == '\\')
        && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

#[cfg(test)]
mod tests;
