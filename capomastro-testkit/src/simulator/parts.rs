//! The launcher and the probe of a history: faithful to their traits, over a world in which calls hang, fail and are late.

use super::{
    plan::REQUEST_TIMEOUT,
    stage::{Stage, number_of_revision, relation, revision},
};
use async_trait::async_trait;
use capomastro_core::{
    Error, ErrorKind, Result,
    launch::{BuildLauncher, Found, Journal, LaunchRequest, Launched, Promise, Refusal, Report},
    model::{ExternalRef, LaunchKey, Observation, ProbeKey, Revision, Source},
    probe::{Ask, Probed, RevisionProbe},
    time::Clock,
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// What becomes of a launch.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Fate {
    Accept,
    /// Taken, and answered after this long.
    Late(Duration),
    /// Sent, arriving after this long, and never answered.
    Silent(Duration),
    /// Never sent, never answered.
    Hangs,
    Refuse {
        permanent: bool,
    },
    LoseAnswer(Duration),
    LoseRequest,
    Fail,
    /// The network delivers it twice.
    Twice,
}

/// The build system as one process sees it.
#[derive(Debug)]
pub(super) struct SimLauncher {
    pub(super) stage: Arc<Stage>,
    pub(super) process: usize,
}

fn unreachable() -> Error {
    Error::new(ErrorKind::Unavailable, "the build system cannot be reached in this part of the history")
}

fn unknown() -> Error {
    Error::new(ErrorKind::OutcomeUnknown, "the answer to the launch is lost in this history")
}

impl SimLauncher {
    fn is_out(&self) -> bool {
        self.stage.now() < self.stage.world().system_out_until
    }

    fn fate(&self) -> Fate {
        let mut world = self.stage.world();
        let rate = if world.healing { 0 } else { world.plan.faults.launch };
        let d = &mut world.dice;
        if !d.chance(rate) {
            return Fate::Accept;
        }
        let fate = match d.below(20) {
            0..=3 => Fate::Late(d.millis(1, 1_500)),
            4..=6 => Fate::Silent(d.millis(0, 900)),
            7 => Fate::Hangs,
            8..=10 => Fate::Refuse { permanent: d.chance(300) },
            11..=14 => Fate::LoseAnswer(d.millis(0, 900)),
            15..=16 => Fate::LoseRequest,
            17..=18 => Fate::Fail,
            _ => Fate::Twice,
        };
        world.counters.faults += 1;
        fate
    }

    /// Whether another request fails or hangs. `Err` at once, or never an answer.
    async fn trouble(&self) -> Result<()> {
        let hangs = {
            let mut world = self.stage.world();
            let rate = if world.healing { 0 } else { world.plan.faults.system };
            if !world.dice.chance(rate) {
                None
            } else {
                world.counters.faults += 1;
                Some(world.dice.chance(300))
            }
        };
        match hangs {
            None if self.is_out() => Err(unreachable()),
            None => Ok(()),
            Some(false) => Err(unreachable()),
            Some(true) => std::future::pending().await,
        }
    }

    fn send(&self, request: &LaunchRequest, takes: Duration, twice: bool) -> ExternalRef {
        let now = self.stage.now();
        let wall = self.stage.clock.now();
        let mut world = self.stage.world();
        world.checker.sending(self.process, request, wall);
        let place = world.send(request.key, &request.revision, now, takes, twice);
        world.trace.number(place as u64);
        let process = self.process;
        world.trace.line(|| {
            format!(
                "process {process} sends build {} of {} at {}",
                request.number, request.dependency, request.revision
            )
        });
        world.builds[place].reference(place, now)
    }
}

#[async_trait]
impl BuildLauncher for SimLauncher {
    fn promise(&self) -> Promise {
        self.stage.world().plan.promise
    }

    fn check_job(&self, _job: &Value) -> Result<()> {
        Ok(())
    }

    async fn launch(&self, request: &LaunchRequest, journal: &dyn Journal) -> Result<Launched> {
        let fate = self.fate();
        if self.is_out() || fate == Fate::Fail {
            return Err(unreachable());
        }
        let keeps = self.stage.world().dice.chance(300);
        if keeps {
            journal.keep(serde_json::json!({ "number": request.number })).await?;
        }
        self.stage.travel(REQUEST_TIMEOUT * 2).await;
        request.send_before.check(&self.stage.clock)?;
        let none = Duration::ZERO;
        match fate {
            Fate::Accept | Fate::Late(_) | Fate::Twice => {
                let external = self.send(request, none, fate == Fate::Twice);
                if let Fate::Late(by) = fate {
                    self.stage.clock.sleep(by).await;
                }
                self.stage.travel(REQUEST_TIMEOUT * 2).await;
                Ok(Launched::Accepted(external))
            }
            Fate::Silent(takes) => {
                self.send(request, takes, false);
                std::future::pending().await
            }
            Fate::LoseAnswer(takes) => {
                self.send(request, takes, false);
                self.stage.travel(REQUEST_TIMEOUT).await;
                Err(unknown())
            }
            Fate::Refuse { permanent } => {
                self.stage.travel(REQUEST_TIMEOUT).await;
                Ok(Launched::Refused(Refusal { reason: "this history says so".into(), permanent }))
            }
            Fate::Hangs => std::future::pending().await,
            Fate::LoseRequest => Err(unknown()),
            Fate::Fail => Err(unreachable()),
        }
    }

    async fn find(&self, request: &LaunchRequest) -> Result<Found> {
        self.trouble().await?;
        let found = match self.promise() {
            Promise::Blind => Found::Inconclusive { look_again: Duration::from_secs(3) },
            _ => {
                let found = self.stage.world().find(request.key, self.stage.now());
                found.map_or(Found::Absent, Found::Build)
            }
        };
        self.stage.travel(REQUEST_TIMEOUT).await;
        Ok(found)
    }

    async fn observe(&self, builds: &[(LaunchKey, ExternalRef)]) -> Vec<Result<Report>> {
        if self.trouble().await.is_err() {
            return builds.iter().map(|_| Err(unreachable())).collect();
        }
        let reports = {
            let (now, mut world) = (self.stage.now(), self.stage.world());
            for (key, external) in builds {
                let known =
                    super::stage::number_of(external).and_then(|n| world.builds.get(n)).map(|b| b.key);
                if known.is_some_and(|k| k != *key) {
                    world
                        .checker
                        .fail("I2", || format!("{external} was looked at under another build's key"));
                }
            }
            builds.iter().map(|(_, external)| Ok(world.report(external, now))).collect()
        };
        // What is told may be old when it arrives.
        self.stage.travel(REQUEST_TIMEOUT).await;
        reports
    }

    async fn cancel(&self, _key: &LaunchKey, build: &ExternalRef) -> Result<()> {
        self.stage.world().checker.stop_sent(build);
        self.trouble().await?;
        self.stage.world().cancel(build, self.stage.now());
        self.stage.travel(REQUEST_TIMEOUT).await;
        Ok(())
    }
}

/// The sources as one process sees them.
#[derive(Debug)]
pub(super) struct SimProbe {
    pub(super) stage: Arc<Stage>,
    pub(super) process: usize,
}

fn field<'a>(source: &'a Source, name: &str) -> &'a str {
    source.config.get(name).and_then(Value::as_str).unwrap_or_default()
}

impl SimProbe {
    /// At what the source is, and how that is told.
    fn answer(&self, ask: &Ask) -> (Option<Revision>, Result<Probed>) {
        let world = self.stage.world();
        let Some(Some(at)) = world.sources.get(field(&ask.source, "name")).copied() else {
            return (None, Ok(Probed::NotFound));
        };
        let seen = revision(at);
        if world.plan.says_same && ask.seen.as_ref() == Some(&seen) {
            return (Some(seen), Ok(Probed::SameAsSeen));
        }
        let mut observation = Observation::of(seen.clone());
        observation.relation = ask.accounted.as_ref().and_then(number_of_revision).map(|a| relation(a, at));
        (Some(seen), Ok(Probed::Observed(observation)))
    }
}

#[async_trait]
impl RevisionProbe for SimProbe {
    fn key(&self, source: &Source) -> Result<ProbeKey> {
        let edit = source.config.get("edit").and_then(Value::as_u64).unwrap_or_default().to_string();
        Ok(match field(source, "repository") {
            "" => ProbeKey::of(&[field(source, "name"), &edit]),
            repository => ProbeKey::of(&[repository]),
        })
    }

    async fn probe(&self, asks: &[Ask]) -> Vec<Result<Probed>> {
        let (looks, trouble) = {
            let mut world = self.stage.world();
            world.counters.probes += 1;
            let looks: Vec<_> = asks
                .iter()
                .map(|ask| world.checker.probe_started(self.process, ask.dependency.as_str()))
                .collect();
            let rate = if world.healing { 0 } else { world.plan.faults.probe };
            let trouble = world.dice.chance(rate).then(|| world.dice.below(10));
            world.counters.faults += u64::from(trouble.is_some());
            (looks, trouble)
        };
        // The travel there and the travel back: the source may move in between.
        self.stage.travel(Duration::from_secs(2)).await;
        let failed = |kind| asks.iter().map(|_| Err(Error::new(kind, "this history says so"))).collect();
        match trouble {
            // To the checker a probe that does not answer has failed, too.
            Some(0..=2) => return std::future::pending().await,
            Some(3) => return failed(ErrorKind::PermissionDenied),
            Some(_) => return failed(ErrorKind::Unavailable),
            None => {}
        }
        let (seen, answers): (Vec<_>, Vec<_>) = asks.iter().map(|ask| self.answer(ask)).unzip();
        self.stage.travel(Duration::from_secs(3)).await;
        // Nothing can come between this and the scheduler's having it.
        let mut world = self.stage.world();
        for (look, at) in looks.into_iter().zip(seen) {
            if let Some(look) = look {
                world.checker.probe_answered(look, at);
            }
        }
        drop(world);
        answers
    }
}
