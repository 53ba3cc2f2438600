//! The build system behind the fake launcher: what there is and how it answers. No waiting here.

use capomastro_core::{
    Error, ErrorKind, Result,
    launch::{Ended, Found, LaunchRequest, Launched, Outcome, Promise, Refusal, Report, Seen},
    model::{Artifact, ExternalRef, LaunchKey},
    time::Monotonic,
};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// Who decides what becomes of a launch.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nobody has to: every launch is accepted, runs when it is first looked at, and has ended so at the second look.
    Auto(Outcome),
    /// Every launch is accepted and then waits until the test starts and finishes it.
    Accept,
    /// Every launch waits, unanswered, until the test takes it with
    /// [`next_launch`](super::ControllableLauncher::next_launch).
    ByHand,
}

/// What a build system does with one launch.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum LaunchAnswer {
    /// It takes it.
    Accept,
    /// It says no: [`Launched::Refused`], and nothing starts.
    Refuse {
        /// Whether trying again is useless until a person changes something.
        permanent: bool,
    },
    /// It takes it, and the answer is lost: [`ErrorKind::OutcomeUnknown`].
    LoseAnswer,
    /// It never hears of it, and nobody can tell: [`ErrorKind::OutcomeUnknown`].
    LoseRequest,
    /// The answer is lost, and it takes it only when this much time of the launcher's clock has passed, as when a
    /// request lies in a proxy: [`ErrorKind::OutcomeUnknown`]. Without a clock it is as `LoseAnswer`.
    Delay(Duration),
    /// The request cannot even be sent: an error of this kind, and nothing starts.
    Fail(ErrorKind),
}

#[derive(Debug)]
pub(super) struct System {
    pub(super) mode: Mode,
    pub(super) promise: Promise,
    pub(super) outage: bool,
    pub(super) holding: bool,
    pub(super) held: usize,
    pub(super) ignores_cancel: bool,
    pub(super) inconclusive: Option<Duration>,
    pub(super) leaves: BTreeMap<String, Vec<u8>>,
    /// Answers that were decided beforehand.
    pub(super) scripted: VecDeque<LaunchAnswer>,
    /// Requests that were sent and wait for the test, with their tickets.
    pub(super) pending: VecDeque<(u64, LaunchRequest)>,
    /// Answers to tickets, until the launch that waits for them takes them.
    pub(super) answers: BTreeMap<u64, Result<Launched>>,
    pub(super) next_ticket: u64,
    pub(super) calls: usize,
    pub(super) finds: usize,
    pub(super) looks: usize,
    pub(super) builds: Vec<External>,
    pub(super) cancels: Vec<(LaunchKey, ExternalRef)>,
}

/// One build at the build system.
#[derive(Debug)]
pub(super) struct External {
    pub(super) number: usize,
    pub(super) request: LaunchRequest,
    pub(super) state: State,
    pub(super) started: bool,
    pub(super) why_queued: Option<String>,
    pub(super) auto: Option<Outcome>,
    pub(super) vanished: bool,
    pub(super) appears_at: Option<Monotonic>,
    pub(super) cancels: usize,
    pub(super) artifacts: BTreeMap<String, Vec<u8>>,
    pub(super) log: Vec<u8>,
}

#[derive(Debug)]
pub(super) enum State {
    Queued,
    Running,
    Ended(Ended),
}

/// What a send leads to.
pub(super) enum Sent {
    Answered(Result<Launched>),
    Waits { ticket: u64 },
}

pub(super) fn unreachable() -> Error {
    Error::new(ErrorKind::Unavailable, "the test says that the build system cannot be reached")
}

fn outcome_unknown() -> Error {
    Error::new(ErrorKind::OutcomeUnknown, "the test says that the answer to the launch is lost")
}

impl System {
    pub(super) const fn new(mode: Mode) -> Self {
        Self {
            mode,
            promise: Promise::FindableByKey { settle: Duration::from_secs(120) },
            outage: false,
            holding: false,
            held: 0,
            ignores_cancel: false,
            inconclusive: None,
            leaves: BTreeMap::new(),
            scripted: VecDeque::new(),
            pending: VecDeque::new(),
            answers: BTreeMap::new(),
            next_ticket: 0,
            calls: 0,
            finds: 0,
            looks: 0,
            builds: Vec::new(),
            cancels: Vec::new(),
        }
    }

    /// A request arrives.
    pub(super) fn send(&mut self, request: &LaunchRequest, now: Option<Monotonic>) -> Sent {
        if self.outage {
            return Sent::Answered(Err(unreachable()));
        }
        if let Some(answer) = self.scripted.pop_front() {
            return Sent::Answered(self.answer(request, answer, now).0);
        }
        if self.mode != Mode::ByHand {
            return Sent::Answered(self.answer(request, LaunchAnswer::Accept, now).0);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.pending.push_back((ticket, request.clone()));
        Sent::Waits { ticket }
    }

    /// Does with a request what `answer` says; gives the reply and the place of the build, if there is one.
    pub(super) fn answer(
        &mut self,
        request: &LaunchRequest,
        answer: LaunchAnswer,
        now: Option<Monotonic>,
    ) -> (Result<Launched>, Option<usize>) {
        match answer {
            LaunchAnswer::Accept => {
                let place = self.start_build(request, None);
                (Ok(Launched::Accepted(self.builds[place].reference())), Some(place))
            }
            LaunchAnswer::Refuse { permanent } => {
                let reason = "the test says that the build system refuses".into();
                (Ok(Launched::Refused(Refusal { reason, permanent })), None)
            }
            LaunchAnswer::LoseAnswer => (Err(outcome_unknown()), Some(self.start_build(request, None))),
            LaunchAnswer::Delay(by) => {
                let place = self.start_build(request, now.map(|now| now.plus(by)));
                (Err(outcome_unknown()), Some(place))
            }
            LaunchAnswer::LoseRequest => (Err(outcome_unknown()), None),
            LaunchAnswer::Fail(kind) => {
                (Err(Error::new(kind, "the test says that the launch cannot be sent")), None)
            }
        }
    }

    fn start_build(&mut self, request: &LaunchRequest, appears_at: Option<Monotonic>) -> usize {
        if self.promise == Promise::IdempotentByKey
            && let Some(place) = self.builds.iter().position(|b| b.request.key == request.key)
        {
            return place;
        }
        self.builds.push(External {
            number: self.builds.len() + 1,
            request: request.clone(),
            state: State::Queued,
            started: false,
            why_queued: None,
            auto: match self.mode {
                Mode::Auto(outcome) => Some(outcome),
                Mode::Accept | Mode::ByHand => None,
            },
            vanished: false,
            appears_at,
            cancels: 0,
            artifacts: self.leaves.clone(),
            log: Vec::new(),
        });
        self.builds.len() - 1
    }

    pub(super) fn find(&mut self, key: LaunchKey, now: Option<Monotonic>) -> Result<Found> {
        self.finds += 1;
        if self.outage {
            return Err(unreachable());
        }
        if let Some(look_again) = self.inconclusive {
            return Ok(Found::Inconclusive { look_again });
        }
        if self.promise == Promise::Blind {
            // It cannot search by key, so it can prove nothing.
            return Ok(Found::Inconclusive { look_again: Duration::from_secs(60) });
        }
        let found = self.builds.iter().find(|b| b.request.key == key && b.is_visible(now));
        Ok(found.map_or(Found::Absent, |b| Found::Build(b.reference())))
    }

    pub(super) fn observe(
        &mut self,
        key: LaunchKey,
        external: &ExternalRef,
        now: Option<Monotonic>,
    ) -> Result<Report> {
        self.looks += 1;
        if self.outage {
            return Err(unreachable());
        }
        let Some(build) = self.builds.iter_mut().find(|b| b.is_called(external) && b.is_visible(now)) else {
            return Ok(Report { external: None, seen: Seen::Unknown });
        };
        if build.request.key != key {
            return Err(Error::internal("a build was looked at under another one's launch key")
                .with_context("build", external));
        }
        build.go_on();
        let name = build.reference();
        Ok(Report { external: (name != *external).then_some(name), seen: build.seen() })
    }

    pub(super) fn cancel(
        &mut self,
        key: LaunchKey,
        external: &ExternalRef,
        now: Option<Monotonic>,
    ) -> Result<()> {
        if self.outage {
            return Err(unreachable());
        }
        self.cancels.push((key, external.clone()));
        let ignores = self.ignores_cancel;
        if let Some(build) = self.builds.iter_mut().find(|b| b.is_called(external) && b.is_visible(now)) {
            build.cancels += 1;
            if !ignores {
                build.finish(Ended::new(Outcome::Cancelled));
            }
        }
        Ok(())
    }

    pub(super) fn named(&self, external: &ExternalRef, now: Option<Monotonic>) -> Result<&External> {
        if self.outage {
            return Err(unreachable());
        }
        self.builds.iter().find(|b| b.is_called(external) && b.is_visible(now)).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "the build system does not know this build")
                .with_context("build", external)
        })
    }
}

impl External {
    /// A queue item until it starts, a build from then on; the queue item's name is understood for ever.
    pub(super) fn reference(&self) -> ExternalRef {
        ExternalRef(format!("{}/{}", if self.started { "build" } else { "queue" }, self.number))
    }

    fn is_called(&self, external: &ExternalRef) -> bool {
        let number = external.0.strip_prefix("queue/").or_else(|| external.0.strip_prefix("build/"));
        number.is_some_and(|n| n == self.number.to_string())
    }

    fn is_visible(&self, now: Option<Monotonic>) -> bool {
        let arrived = match (self.appears_at, now) {
            (Some(at), Some(now)) => at <= now,
            _ => true,
        };
        arrived && !self.vanished
    }

    pub(super) const fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }

    pub(super) fn start(&mut self) {
        if !self.is_ended() {
            self.started = true;
            self.state = State::Running;
        }
    }

    /// The first end stays. A build that is stopped in the queue never becomes a build.
    pub(super) fn finish(&mut self, mut ended: Ended) {
        if self.is_ended() {
            return;
        }
        if ended.outcome != Outcome::Cancelled {
            self.start();
        }
        for (name, bytes) in &self.artifacts {
            if !ended.artifacts.iter().any(|a| a.name == *name) {
                ended.artifacts.push(artifact(name, bytes));
            }
        }
        self.state = State::Ended(ended);
    }

    fn go_on(&mut self) {
        let Some(outcome) = self.auto else { return };
        match self.state {
            State::Queued => self.start(),
            State::Running => {
                let built = Some(self.request.revision.clone());
                let mut ended = Ended::new(outcome);
                ended.built = built;
                self.finish(ended);
            }
            State::Ended(_) => {}
        }
    }

    fn seen(&self) -> Seen {
        match &self.state {
            State::Queued => Seen::Queued { why: self.why_queued.clone() },
            State::Running => Seen::Running,
            State::Ended(ended) => Seen::Ended(ended.clone()),
        }
    }
}

fn artifact(name: &str, bytes: &[u8]) -> Artifact {
    let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Artifact {
        name: name.into(),
        digest: Some(format!("sha256:{digest}")),
        size: u64::try_from(bytes.len()).ok(),
        location: None,
    }
}
