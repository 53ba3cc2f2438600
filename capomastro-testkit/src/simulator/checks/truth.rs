//! What is recorded is what the build system and the probes said, who were asked by nobody but the simulator itself.

use super::{Checker, Seen};
use crate::simulator::stage::{External, number_of};
use capomastro_core::{
    events::EventKind,
    launch::{Ended, Outcome},
    model::{
        Build, BuildId, DependencyId, DependencyState, ExternalRef, Health, Phase, ProjectBuild, Revision,
        StopReason,
    },
    scheduler::Cancelled,
    store::{Record, Task},
    time::Monotonic,
};
use std::collections::{BTreeMap, BTreeSet};

/// The build system as it is at this moment.
pub(in crate::simulator) struct System<'a> {
    pub(in crate::simulator) builds: &'a [External],
    pub(in crate::simulator) now: Monotonic,
}

impl System<'_> {
    fn build(&self, name: &ExternalRef) -> Option<&External> {
        self.builds.get(number_of(name)?)
    }
}

/// What a probe really said in a look.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    /// Nothing yet, or an error.
    Nothing,
    NotFound,
    At(Revision),
}

/// A look: at what, and the ticket of its claim.
pub(in crate::simulator) type Look = (DependencyId, u64);

/// What was asked of the parts, and what they answered.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// The external builds that a launcher was asked to stop, by their places.
    stops: BTreeSet<usize>,
    /// What the probe of a look said, by the ticket of the look.
    looks: BTreeMap<Look, Said>,
}

impl Checker {
    /// A launcher is asked to stop this external build; whether that gets through is another question.
    pub(in crate::simulator) fn stop_sent(&mut self, external: &ExternalRef) {
        self.answers.stops.extend(number_of(external));
    }

    /// The look at this dependency under which this process probes now.
    fn look_of(&self, process: usize, dependency: &str) -> Option<Look> {
        let id =
            self.living().find(|id| self.dependency(*id).is_some_and(|d| d.name.as_str() == dependency))?;
        let holder = self.holders.get(process)?.as_ref()?;
        Some((id, self.rows.ticket(Task::Look(id), holder)?))
    }

    /// A probe is asked about a dependency; the look by which it is, if this process has one.
    pub(in crate::simulator) fn probe_started(&mut self, process: usize, dependency: &str) -> Option<Look> {
        self.step += 1;
        self.probed.insert(dependency.to_owned(), self.step);
        let look = self.look_of(process, dependency)?;
        self.answers.looks.insert(look, Said::Nothing);
        Some(look)
    }

    /// It answers, and the scheduler has the answer. `None` is not found.
    pub(in crate::simulator) fn probe_answered(&mut self, look: Look, at: Option<Revision>) {
        self.answers.looks.insert(look, at.map_or(Said::NotFound, Said::At));
    }

    /// What a look writes is what its probe said.
    pub(super) fn look_is_true(&mut self, old: &DependencyState, new: &DependencyState) {
        let id = new.id;
        let Some(said) = self.answers.looks.remove(&(id, new.applied_ticket)) else {
            return self
                .fail("I4", || format!("a look at {id} is written, and no probe ran under its claim"));
        };
        match said {
            Said::Nothing => {
                let mut known = new.clone();
                known.health.clone_from(&old.health);
                known.applied_ticket = old.applied_ticket;
                let fails = matches!(new.health, Health::Failing { failures, .. } if failures > 0);
                self.check(fails && known == *old, "I4", || {
                    format!(
                        "a look at {id} failed, and is written as {}, or changed what is known",
                        new.health.as_str()
                    )
                });
            }
            Said::NotFound => {
                let times = old.not_found.saturating_add(1).min(2);
                let fits = new.not_found == times
                    && new.observed_revision() == old.observed_revision()
                    && matches!(new.health, Health::Missing { .. }) == (times == 2)
                    && !matches!(new.health, Health::Failing { .. });
                self.check(fits, "I4", || {
                    format!(
                        "{id} was not found the {times}. time running, and is written as {:?}",
                        new.health
                    )
                });
            }
            Said::At(at) => {
                let fits = new.observed_revision() == Some(&at)
                    && new.not_found == 0
                    && new.health == Health::Healthy;
                self.check(fits, "I4", || {
                    format!(
                        "{id} was seen at {at}, and is written at {:?}, {:?}",
                        new.observed_revision(),
                        new.health
                    )
                });
            }
        }
    }

    /// What is recorded of a build is what the build system has of it.
    pub(super) fn check_truth(&mut self, seen: &Seen<'_>, system: &System<'_>) {
        for change in seen.changes() {
            let Record::Build(new) = change.after else { continue };
            if let Some(external) = &new.external {
                let is_its = system.build(external).is_some_and(|e| e.key == new.key);
                self.check(is_its, "truth", || {
                    format!("build {} is called {external}, which is another's", new.id)
                });
            }
            match change.before {
                Some(Record::Build(old)) if !old.phase.is_terminal() => {
                    self.stop_stays(seen, old, new);
                    if new.phase.is_terminal() {
                        self.end_is_true(seen, new, system);
                    } else {
                        self.nothing_is_built(new);
                    }
                }
                None => self.nothing_is_built(new),
                _ => {}
            }
        }
    }

    fn nothing_is_built(&mut self, build: &Build) {
        let none =
            build.built.is_none() && build.artifacts.is_empty() && !build.good && build.ended_at.is_none();
        self.check(none, "truth", || format!("build {} has a result and has not ended", build.id));
    }

    /// A stop that was asked for is kept until the end, and is told.
    fn stop_stays(&mut self, seen: &Seen<'_>, old: &Build, new: &Build) {
        let id = new.id;
        let told = seen.batch.events.iter().find_map(|e| match &e.kind {
            EventKind::BuildStopping { build, reason } if *build == id => Some(reason),
            _ => None,
        });
        match (&old.stop, &new.stop, told) {
            (Some(old), new, _) => self.check(new.as_ref() == Some(old), "stop", || {
                format!("that build {id} is to stop is forgotten")
            }),
            (None, new, Some(reason)) => {
                self.check(new.as_ref().map(|s| &s.reason) == Some(reason), "stop", || {
                    format!("that build {id} is to stop is told and not kept")
                })
            }
            (None, Some(_), None) => self
                .check(new.phase.is_terminal(), "stop", || format!("that build {id} is to stop is not told")),
            (None, None, None) => {}
        }
    }

    fn end_is_true(&mut self, seen: &Seen<'_>, new: &Build, system: &System<'_>) {
        let id = new.id;
        let tells = |wanted: fn(&EventKind) -> Option<BuildId>| {
            seen.batch.events.iter().any(|e| wanted(&e.kind) == Some(id))
        };
        let is_given_up = tells(|e| match e {
            EventKind::MayStillRun { build } => Some(*build),
            _ => None,
        });
        let is_broken = tells(|e| match e {
            EventKind::LockBroken { build, .. } => Some(*build),
            _ => None,
        });
        let external = new.external.as_ref().and_then(|name| system.build(name));
        let ended = external.and_then(|e| e.ended(system.now));
        let is_lost_there = ended.as_ref().is_some_and(|e| e.outcome == Outcome::Lost);
        let is_forgotten = external.is_some_and(|e| e.forgotten);
        let is_reported = match new.phase {
            Phase::Succeeded | Phase::Unstable | Phase::Failed => true,
            Phase::Cancelled | Phase::TimedOut => external.is_some() && !is_given_up,
            // One that is forgotten may have been seen before, or not.
            Phase::Lost => is_lost_there && !is_broken && !(is_forgotten && new.artifacts.is_empty()),
            _ => false,
        };
        let told = ended.filter(|_| is_reported);
        let deadline = new.stop.as_ref().is_some_and(|s| !matches!(s.reason, StopReason::Cancel { .. }));
        let fits = match &told {
            Some(Ended { outcome, built, artifacts, .. }) => {
                let phase = match outcome {
                    Outcome::Succeeded => Phase::Succeeded,
                    Outcome::Unstable => Phase::Unstable,
                    Outcome::Failed => Phase::Failed,
                    Outcome::Lost if new.stop.is_none() => Phase::Lost,
                    Outcome::Cancelled | Outcome::Lost if deadline => Phase::TimedOut,
                    Outcome::Cancelled | Outcome::Lost => Phase::Cancelled,
                };
                phase == new.phase && *built == new.built && *artifacts == new.artifacts
            }
            None => !is_reported && new.built.is_none() && new.artifacts.is_empty(),
        };
        self.check(fits, "truth", || {
            format!(
                "build {id} is recorded as {}, built {:?}, {} artifacts, and the build system says {told:?}",
                new.phase,
                new.built,
                new.artifacts.len()
            )
        });
        if let Some(dependency) = seen.dependency_before(new.dependency) {
            let good = new.phase == Phase::Succeeded
                || (new.phase == Phase::Unstable && dependency.policy.unstable_is_good);
            self.check(new.good == good, "truth", || {
                format!("build {id} is {} and good: {}", new.phase, new.good)
            });
        }
        self.check(new.phase != Phase::TimedOut || deadline, "stop", || {
            format!("build {id} is timed out and no deadline is named")
        });
        if new.phase == Phase::Lost && external.is_some() && !is_broken {
            self.check(is_forgotten || is_lost_there, "truth", || {
                format!("build {id} is lost, and the build system knows it")
            });
        }
        // Who gave up waiting for a stop has asked for it.
        let place = new.external.as_ref().and_then(number_of);
        if let (true, true, Some(place)) = (is_given_up && !is_broken, new.stop.is_some(), place) {
            self.check(self.answers.stops.contains(&place), "stop", || {
                format!("build {id} was to stop, and the build system was never asked to stop it")
            });
        }
    }

    /// What a person is told about a cancel is so.
    pub(in crate::simulator) fn cancelled(&mut self, id: BuildId, answer: &Cancelled) {
        let build = self.build(id);
        let ended = build.is_none_or(|b| b.phase.is_terminal());
        let is_so = match answer {
            Cancelled::AtOnce => ended,
            Cancelled::Asked => ended || build.is_some_and(|b| b.stop.is_some()),
            Cancelled::TooLate(phase) => build.is_none_or(|b| b.phase == *phase),
        };
        self.check(is_so, "stop", || format!("the cancel of build {id} is answered with {answer:?}"));
    }

    /// A resolved slot holds what its build left, and no other does.
    pub(super) fn check_slots(&mut self, project_build: &ProjectBuild) {
        for (dependency, slot) in &project_build.slots {
            let build = slot.build().and_then(|id| self.build(id)).filter(|b| b.phase.is_terminal());
            let (revision, artifacts) = match build {
                Some(b) => (Some(b.built.as_ref().unwrap_or(&b.revision)), b.artifacts.as_slice()),
                None => (None, [].as_slice()),
            };
            let fits = slot.revision.as_ref() == revision
                && slot.artifacts == artifacts
                && build.is_none_or(|b| b.dependency == *dependency);
            self.check(fits, "truth", || {
                format!("project build {} holds of {dependency} other than was built", project_build.name)
            });
        }
    }
}
