//! Launchers, probes and locks that are wrong.

use crate::{Bug, Part};
use async_trait::async_trait;
use capomastro_core::{
    Error, ErrorKind, Result,
    launch::{
        BuildLauncher, Ended, Found, Journal, LaunchRequest, Launched, Outcome, Promise, Refusal, Report,
        Seen, SendBefore,
    },
    lock::{Acquired, DependencyLock, Lease, LockAsk},
    model::{ExternalRef, LaunchKey, ProbeKey, Source},
    probe::{Ask, Probed, RevisionProbe},
    time::Monotonic,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Launch {
    SendsBeforeItKeeps,
    SendsTooLate,
    SendsTwice,
    DrawsItsOwnKey,
    BuildsSomethingElse,
    CallsStartedRefused,
    CallsSentUnsent,
    ForgetsWhatItFinds,
    TakesSilenceForAbsence,
    TakesSilenceForLoss,
    EndsEarly,
    EndsOtherwise,
    MixesUpAnswers,
    NeverStops,
}

#[derive(Debug)]
struct Launches {
    inner: Arc<dyn BuildLauncher>,
    wrong: Launch,
}

/// Keeps nothing, and says that it did.
#[derive(Debug)]
struct Forgetful;

#[async_trait]
impl Journal for Forgetful {
    async fn keep(&self, _memo: Value) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl BuildLauncher for Launches {
    fn promise(&self) -> Promise {
        self.inner.promise()
    }

    fn check_job(&self, job: &Value) -> Result<()> {
        self.inner.check_job(job)
    }

    async fn launch(&self, request: &LaunchRequest, journal: &dyn Journal) -> Result<Launched> {
        let mut request = request.clone();
        match self.wrong {
            Launch::SendsBeforeItKeeps => {
                let launched = self.inner.launch(&request, &Forgetful).await?;
                journal.keep(Value::Null).await?;
                return Ok(launched);
            }
            Launch::SendsTooLate => request.send_before = SendBefore(Monotonic(Duration::MAX)),
            Launch::SendsTwice => {
                self.inner.launch(&request, journal).await?;
            }
            Launch::DrawsItsOwnKey => {
                request.key =
                    LaunchKey::from_uuid(uuid::Uuid::from_u128(request.key.as_uuid().as_u128() ^ 1));
            }
            Launch::BuildsSomethingElse => {
                request.revision = "newest".parse().expect("a revision");
            }
            Launch::CallsStartedRefused => {
                self.inner.launch(&request, journal).await?;
                return Ok(Launched::Refused(Refusal { reason: "full".into(), permanent: false }));
            }
            Launch::CallsSentUnsent => {
                return self.inner.launch(&request, journal).await.map_err(|e| match e.kind() {
                    ErrorKind::OutcomeUnknown => Error::new(ErrorKind::Unavailable, "cannot be reached"),
                    _ => e,
                });
            }
            _ => {}
        }
        self.inner.launch(&request, journal).await
    }

    async fn find(&self, request: &LaunchRequest) -> Result<Found> {
        match (self.wrong, self.inner.find(request).await) {
            (Launch::ForgetsWhatItFinds, Ok(Found::Build(_))) | (Launch::TakesSilenceForAbsence, Err(_)) => {
                Ok(Found::Absent)
            }
            (_, answer) => answer,
        }
    }

    async fn observe(&self, builds: &[(LaunchKey, ExternalRef)]) -> Vec<Result<Report>> {
        let mut answers = self.inner.observe(builds).await;
        if self.wrong == Launch::MixesUpAnswers {
            answers.reverse();
        }
        for answer in &mut answers {
            match (self.wrong, &mut *answer) {
                (Launch::TakesSilenceForLoss, Err(_)) => {
                    *answer = Ok(Report { external: None, seen: Seen::Unknown });
                }
                (Launch::EndsEarly, Ok(report)) if report.seen == Seen::Running => {
                    report.seen = Seen::Ended(Ended::new(Outcome::Succeeded));
                }
                (Launch::EndsOtherwise, Ok(Report { seen: Seen::Ended(ended), .. })) => {
                    ended.outcome = match ended.outcome {
                        Outcome::Succeeded => Outcome::Failed,
                        _ => Outcome::Succeeded,
                    };
                }
                _ => {}
            }
        }
        answers
    }

    async fn cancel(&self, key: &LaunchKey, build: &ExternalRef) -> Result<()> {
        if self.wrong == Launch::NeverStops {
            return Ok(());
        }
        self.inner.cancel(key, build).await
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Look {
    MixesUpAnswers,
    AnswersFromMemory,
    TakesSilenceForAbsence,
    SaysNothingChanged,
    AnswersAllAlike,
    TakesAllForOneRemote,
}

#[derive(Debug)]
struct Looks {
    inner: Arc<dyn RevisionProbe>,
    wrong: Look,
    seen: Mutex<BTreeMap<String, Probed>>,
}

#[async_trait]
impl RevisionProbe for Looks {
    fn key(&self, source: &Source) -> Result<ProbeKey> {
        match self.wrong {
            Look::TakesAllForOneRemote => {
                self.inner.key(source)?;
                self.inner.key(&Source::new("scripted", serde_json::json!({ "name": "one" }))?)
            }
            _ => self.inner.key(source),
        }
    }

    async fn probe(&self, asks: &[Ask]) -> Vec<Result<Probed>> {
        let mut answers = self.inner.probe(asks).await;
        if self.wrong == Look::MixesUpAnswers {
            answers.reverse();
        }
        let first = answers.first().and_then(|answer| answer.as_ref().ok().cloned());
        for (ask, answer) in asks.iter().zip(&mut answers) {
            let is_silent = answer.as_ref().is_err_and(|e| e.kind() == ErrorKind::Unavailable);
            match (self.wrong, answer.is_err()) {
                (Look::AnswersFromMemory, false) => {
                    let mut seen = self.seen.lock().unwrap();
                    let known = seen.entry(ask.dependency.to_string());
                    *answer = Ok(known.or_insert(answer.as_ref().expect("an answer").clone()).clone());
                }
                (Look::TakesSilenceForAbsence, true) if is_silent => *answer = Ok(Probed::NotFound),
                (Look::SaysNothingChanged, false) if ask.seen.is_some() => *answer = Ok(Probed::SameAsSeen),
                (Look::AnswersAllAlike, false) => *answer = Ok(first.clone().unwrap_or(Probed::NotFound)),
                _ => {}
            }
        }
        answers
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Locks {
    GivesItTwice,
    FencesStandStill,
    FencesBelowTheStore,
    NeverLapses,
    RenewsWhatIsLost,
    NeverReleases,
    ReleasesWhatIsAnothers,
    TakesNothingOver,
}

#[derive(Debug)]
struct Locking {
    inner: Arc<dyn DependencyLock>,
    wrong: Locks,
}

#[async_trait]
impl DependencyLock for Locking {
    async fn acquire(&self, ask: &LockAsk) -> Result<Acquired> {
        let mut ask = ask.clone();
        if self.wrong == Locks::FencesBelowTheStore {
            ask.highest_fence = 0;
        }
        match (self.wrong, self.inner.acquire(&ask).await?) {
            (Locks::GivesItTwice, Acquired::Held { .. }) => {
                let lease = self.inner.take_over(&ask, "given twice").await?;
                Ok(Acquired::Granted(lease))
            }
            (Locks::FencesStandStill, Acquired::Granted(lease)) => {
                Ok(Acquired::Granted(Lease { fence: ask.highest_fence + 1, ..lease }))
            }
            (Locks::NeverLapses, Acquired::Granted(lease)) => {
                Ok(Acquired::Granted(Lease { expires_in: None, ..lease }))
            }
            (_, answer) => Ok(answer),
        }
    }

    async fn renew(&self, leases: &[Lease]) -> Vec<Result<Lease>> {
        let answers = self.inner.renew(leases).await;
        let good = |(lease, answer): (&Lease, Result<Lease>)| match self.wrong {
            Locks::RenewsWhatIsLost => Ok(lease.clone()),
            _ => answer,
        };
        leases.iter().zip(answers).map(good).collect()
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        match self.wrong {
            Locks::NeverReleases => Ok(()),
            Locks::ReleasesWhatIsAnothers => {
                let name = "any".parse().expect("a name");
                let ask = LockAsk::new(lease.dependency, name, lease.owner, None, lease.fence);
                let taken = self.inner.take_over(&ask, "to release it").await?;
                self.inner.release(&taken).await
            }
            _ => self.inner.release(lease).await,
        }
    }

    async fn take_over(&self, ask: &LockAsk, reason: &str) -> Result<Lease> {
        match self.wrong {
            Locks::TakesNothingOver => Ok(Lease {
                dependency: ask.dependency,
                owner: ask.owner,
                fence: ask.highest_fence + 1,
                expires_in: None,
                token: None,
            }),
            _ => self.inner.take_over(ask, reason).await,
        }
    }
}

macro_rules! parts {
    ($part:ident, $wrap:expr; $($name:literal, $what:literal: $wrong:expr;)+) => {
        &[$(Bug { name: $name, what: $what, part: Part::$part(|inner| Arc::new($wrap(inner, $wrong))) },)+]
    };
}

pub(crate) const LAUNCHERS: &[Bug] = parts! {
    Launcher, |inner, wrong| Launches { inner, wrong };
    "send before the journal", "a request is sent before its memo is kept": Launch::SendsBeforeItKeeps;
    "send after `send_before`", "a request is sent however late it is": Launch::SendsTooLate;
    "sent twice", "each launch starts two builds": Launch::SendsTwice;
    "key lost", "a build does not carry the key of its launch": Launch::DrawsItsOwnKey;
    "revision not pinned", "whatever is newest is built": Launch::BuildsSomethingElse;
    "started but refused", "a build that started is called refused": Launch::CallsStartedRefused;
    "sent but unsent", "a lost answer is told as if nothing had been sent": Launch::CallsSentUnsent;
    "not found again", "a build that is there is not found": Launch::ForgetsWhatItFinds;
    "silence as absence", "a build system that cannot be asked has no build": Launch::TakesSilenceForAbsence;
    "silence as loss", "a build system that cannot be asked knows no build": Launch::TakesSilenceForLoss;
    "end before the end", "a build that runs has succeeded": Launch::EndsEarly;
    "other outcomes", "good is reported as bad and bad as good": Launch::EndsOtherwise;
    "reports swapped", "reports come in another order": Launch::MixesUpAnswers;
    "cancel ignored", "a build system is never asked to stop": Launch::NeverStops;
};

pub(crate) const PROBES: &[Bug] = parts! {
    Probe, |inner, wrong| Looks { inner, wrong, seen: Mutex::default() };
    "answers swapped", "answers come in another order": Look::MixesUpAnswers;
    "answer from memory", "a source is looked at only once": Look::AnswersFromMemory;
    "silence as not found", "a source that cannot be reached is not there": Look::TakesSilenceForAbsence;
    "always the same", "a source that was seen never moves": Look::SaysNothingChanged;
    "one answer for all", "the first answer is everybody's": Look::AnswersAllAlike;
    "one key for all", "all sources are asked together": Look::TakesAllForOneRemote;
};

pub(crate) const LOCKS: &[Bug] = parts! {
    Lock, |inner, wrong| Locking { inner, wrong };
    "lock given twice", "who asks is given the lock": Locks::GivesItTwice;
    "fences stand still", "each lease has the same fence": Locks::FencesStandStill;
    "fences below the store's", "a fence is not above those that the store has seen": Locks::FencesBelowTheStore;
    "lease without end", "a lease does not say when it ends": Locks::NeverLapses;
    "lost leases renewed", "what is lost is renewed": Locks::RenewsWhatIsLost;
    "never released", "what is given back stays held": Locks::NeverReleases;
    "another's lease released", "whoever gives back releases whoever holds": Locks::ReleasesWhatIsAnothers;
    "nothing taken over", "who takes the lock over does not have it": Locks::TakesNothingOver;
};
