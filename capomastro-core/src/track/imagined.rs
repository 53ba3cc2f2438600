//! Situations and answers for the tests, and a step in a few words.

use super::{End, Situation, Step};
use crate::{
    Error, ErrorKind, Result,
    events::EventKind,
    launch::{Ended, Found, Launched, Outcome, Promise, Refusal, Report, Seen},
    model::{
        Build, ExternalRef, Note,
        Phase::{self, Requested, Running, Submitted},
        Policy, Stop, StopReason, WhenBlind,
    },
    sample::{self, at},
};
use std::time::Duration;

pub(super) const SETTLE: Promise = Promise::FindableByKey { settle: Duration::from_secs(90) };

/// A situation that owns its parts. Sent at 0, accepted at 10; the deadlines are 1,000 s in the queue, 5,000 s of
/// running, 600 s for a stop, 900 s until lost.
#[derive(Clone, Debug)]
pub(super) struct Owned {
    pub(super) build: Build,
    pub(super) note: Note,
    pub(super) policy: Policy,
    pub(super) promise: Promise,
    pub(super) now: i64,
}

impl Owned {
    pub(super) fn of(phase: Phase) -> Self {
        let mut build = sample::build(1, sample::dependency(1));
        build.phase = phase;
        if phase != Requested {
            build.sends = 1;
            build.launching_at = Some(at(0));
        }
        if matches!(phase, Submitted | Running) {
            build.external = Some(external("q1"));
            build.submitted_at = Some(at(10));
        }
        if phase == Running {
            build.running_at = Some(at(20));
        }
        let mut policy = Policy::default();
        policy.timeouts.queue = Duration::from_secs(1_000);
        policy.timeouts.run = Duration::from_secs(5_000);
        Self { build, note: Note::default(), policy, promise: SETTLE, now: 30 }
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn now(self, now: i64) -> Self {
        self.with(|s| s.now = now)
    }

    pub(super) fn promise(self, promise: Promise) -> Self {
        self.with(|s| s.promise = promise)
    }

    pub(super) fn when_blind(self, when: WhenBlind) -> Self {
        self.promise(Promise::Blind).with(|s| s.policy.when_blind = Some(when))
    }

    pub(super) fn sends(self, sends: u32) -> Self {
        self.with(|s| s.build.sends = sends)
    }

    pub(super) fn stalls(self, stalls: u32) -> Self {
        self.with(|s| s.note.stalls = stalls)
    }

    /// The last send was refused.
    pub(super) fn refused(self) -> Self {
        self.with(|s| s.note.refused = Some(refusal()))
    }

    pub(super) fn stop(self, reason: StopReason, asked: i64) -> Self {
        self.with(|s| s.build.stop = Some(Stop { reason, asked_at: at(asked) }))
    }

    pub(super) fn cancel(self, asked: i64) -> Self {
        self.stop(StopReason::Cancel { by: "ann".into() }, asked)
    }

    /// Not known since then; last asked at `last`.
    pub(super) fn unknown(self, since: i64, last: i64) -> Self {
        self.with(|s| {
            s.note.unknown_since = Some(at(since));
            s.note.last_run = Some(at(last));
        })
    }

    pub(super) fn view(&self) -> Situation<'_> {
        Situation {
            build: &self.build,
            note: &self.note,
            policy: &self.policy,
            promise: self.promise,
            now: at(self.now),
        }
    }

    pub(super) fn resume(&self) -> String {
        words(&self.view().resume())
    }

    pub(super) fn launched(&self, answer: Result<Launched>) -> String {
        words(&self.view().launched(answer))
    }

    pub(super) fn found(&self, answer: Result<Found>) -> String {
        words(&self.view().found(answer))
    }

    pub(super) fn look(&self, answer: Result<Report>) -> Step {
        let asked = self.build.external.clone().unwrap_or_else(|| external("q1"));
        self.view().observed(&asked, answer)
    }

    pub(super) fn observed(&self, answer: Result<Report>) -> String {
        words(&self.look(answer))
    }
}

pub(super) fn external(text: &str) -> ExternalRef {
    ExternalRef(text.into())
}

pub(super) fn refusal() -> Refusal {
    Refusal { reason: "no such job".into(), permanent: true }
}

pub(super) fn error(kind: ErrorKind) -> Error {
    Error::new(kind, "trouble")
}

pub(super) fn accepted() -> Result<Launched> {
    Ok(Launched::Accepted(external("q1")))
}

pub(super) fn refuses() -> Result<Launched> {
    Ok(Launched::Refused(refusal()))
}

pub(super) fn inconclusive(seconds: u64) -> Result<Found> {
    Ok(Found::Inconclusive { look_again: Duration::from_secs(seconds) })
}

pub(super) fn seen(seen: Seen) -> Result<Report> {
    Ok(Report { external: None, seen })
}

pub(super) fn queued() -> Result<Report> {
    seen(Seen::Queued { why: Some("no executor".into()) })
}

pub(super) fn ended(outcome: Outcome) -> Result<Report> {
    seen(Seen::Ended(Ended::new(outcome)))
}

/// A step in a few words.
pub(super) fn words(step: &Step) -> String {
    match step {
        Step::Done => "done".into(),
        Step::Nothing { after, .. } => format!("nothing, {}s", after.as_secs()),
        Step::Advance { build, events, after, .. } => {
            let told: Vec<_> = events.iter().map(|e| told(&e.kind)).collect();
            format!("{}, {}s{}", build.phase, after.as_secs(), told.concat())
        }
        Step::Send { build } => format!("send {}", build.sends),
        Step::Find => "find".into(),
        Step::Observe { ask_stop: false } => "observe".into(),
        Step::Observe { ask_stop: true } => "ask stop, observe".into(),
        Step::End(end) => {
            let told: Vec<_> = end.events.iter().map(|e| told(&e.kind)).collect();
            format!("end {}{}", end.build.phase, told.concat())
        }
    }
}

pub(super) fn told(event: &EventKind) -> String {
    match event {
        EventKind::BuildStopping { reason, .. } => match reason {
            StopReason::Cancel { .. } => ", stopping: cancel".into(),
            StopReason::QueueDeadline => ", stopping: queue".into(),
            StopReason::RunDeadline => ", stopping: run".into(),
        },
        EventKind::MayStillRun { .. } => ", may still run".into(),
        EventKind::RevisionDrift { .. } => ", drift".into(),
        EventKind::BuildEnded { good: true, .. } => ", good".into(),
        EventKind::LockBroken { .. } => ", lock broken".into(),
        _ => String::new(),
    }
}

pub(super) fn end(step: Step) -> End {
    match step {
        Step::End(end) => *end,
        _ => panic!("{step:?}"),
    }
}

pub(super) fn note(step: Step) -> Note {
    match step {
        Step::Nothing { note, .. } | Step::Advance { note, .. } => note,
        _ => panic!("{step:?}"),
    }
}

#[track_caller]
pub(super) fn check<const N: usize>(rows: [(&str, String, &str); N]) {
    for (name, got, want) in rows {
        assert_eq!(got, want, "{name}");
    }
}
