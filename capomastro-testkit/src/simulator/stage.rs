//! What all parts of a history share: time, sources, the build system, who watches.

use super::{Counters, checks::Checker, dice::Dice, executor::yield_once, plan::Plan, trace::Trace};
use crate::fakes::ManualClock;
use capomastro_core::{
    launch::{Ended, Outcome, Promise, Report, Seen},
    model::{Artifact, ExternalRef, LaunchKey, Relation, Revision},
    time::{Clock, Monotonic},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The world of one history.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) clock: ManualClock,
    world: Mutex<World>,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) plan: Arc<Plan>,
    pub(super) dice: Dice,
    pub(super) trace: Trace,
    pub(super) counters: Counters,
    pub(super) checker: Checker,
    pub(super) healing: bool,
    /// At which revision each source is; `None` is gone.
    pub(super) sources: BTreeMap<String, Option<u64>>,
    pub(super) builds: Vec<External>,
    /// How often a source was edited.
    pub(super) edits: u64,
    pub(super) store_out_until: Monotonic,
    pub(super) system_out_until: Monotonic,
}

/// A build at the build system. Where it stands follows from the time.
#[derive(Debug)]
pub(super) struct External {
    pub(super) key: LaunchKey,
    pub(super) arrives: Monotonic,
    pub(super) starts: Monotonic,
    pub(super) ends: Option<Monotonic>,
    pub(super) outcome: Outcome,
    pub(super) tells: Option<Revision>,
    pub(super) artifacts: Vec<Artifact>,
    pub(super) heeds_cancel: bool,
    pub(super) forgotten: bool,
}

impl External {
    pub(super) fn is_known(&self, now: Monotonic) -> bool {
        !self.forgotten && self.arrives <= now
    }

    pub(super) fn reference(&self, number: usize, now: Monotonic) -> ExternalRef {
        ExternalRef(format!("{}/{number}", if self.starts <= now { "build" } else { "queue" }))
    }

    /// How it has ended, if it has.
    pub(super) fn ended(&self, now: Monotonic) -> Option<Ended> {
        self.ends.filter(|end| *end <= now)?;
        let mut ended = Ended::new(self.outcome);
        ended.built.clone_from(&self.tells);
        ended.artifacts.clone_from(&self.artifacts);
        Some(ended)
    }

    fn seen(&self, now: Monotonic) -> Seen {
        match self.ended(now) {
            Some(ended) => Seen::Ended(ended),
            None if self.starts <= now => Seen::Running,
            None => Seen::Queued { why: None },
        }
    }
}

/// What a build leaves behind: it follows from its place, and no two leave the same.
fn artifacts_of(place: usize) -> Vec<Artifact> {
    let artifact = |n: usize| Artifact {
        name: format!("out/{place}-{n}.bin"),
        digest: (n == 0).then(|| format!("sha256:{place:064x}")),
        size: Some(place as u64 * 10 + n as u64),
        location: (n == 1).then(|| format!("store/{place}/{n}")),
    };
    (0..place % 3).map(artifact).collect()
}

/// The place of a build by what it is called.
pub(super) fn number_of(external: &ExternalRef) -> Option<usize> {
    external.0.split_once('/')?.1.parse().ok()
}

impl Stage {
    pub(super) fn new(plan: Arc<Plan>, seed: u64, trace: Trace) -> Self {
        let sources = plan.dependencies.iter().map(|d| (d.name.clone(), Some(1))).collect();
        let clock = ManualClock::new();
        let world = World {
            checker: Checker::new(&plan),
            plan,
            dice: Dice::new(seed, 2),
            trace,
            counters: Counters::default(),
            healing: false,
            sources,
            builds: Vec::new(),
            edits: 0,
            store_out_until: Monotonic::default(),
            system_out_until: Monotonic::default(),
        };
        Self { clock, world: Mutex::new(world) }
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Monotonic {
        self.clock.monotonic()
    }

    /// Waits as a call over a network does: an instant mostly, sometimes longer.
    pub(super) async fn travel(&self, at_most: Duration) {
        let wait = {
            let mut world = self.world();
            let slow = world.plan.faults.slow;
            let most = u64::try_from(at_most.as_millis()).unwrap_or(1_000);
            (!world.healing && world.dice.chance(slow)).then(|| world.dice.millis(1, most))
        };
        match wait {
            Some(wait) => self.clock.sleep(wait).await,
            None => yield_once().await,
        }
    }
}

/// How two revisions of a source relate: they are numbers that only grow forward, and 4 is on a line of its own.
pub(super) fn relation(accounted: u64, seen: u64) -> Relation {
    match (accounted, seen) {
        (4, n) | (n, 4) if n != 4 => Relation::Diverged,
        (a, b) if a > b => Relation::Rewound,
        (a, b) => Relation::Forward { by: Some(b - a) },
    }
}

pub(super) fn revision(n: u64) -> Revision {
    format!("r{n}").parse().expect("a revision")
}

pub(super) fn number_of_revision(revision: &Revision) -> Option<u64> {
    revision.as_str().strip_prefix('r')?.parse().ok()
}

impl World {
    /// A request to start a build is on its way; nothing takes it back.
    pub(super) fn send(
        &mut self,
        key: LaunchKey,
        of: &Revision,
        now: Monotonic,
        takes: Duration,
        twice: bool,
    ) -> usize {
        self.counters.sends += 1;
        let known = self.builds.iter().position(|b| b.key == key);
        let is_idempotent = self.plan.promise == Promise::IdempotentByKey;
        if let Some(place) = known.filter(|_| is_idempotent) {
            return place;
        }
        if known.is_some() {
            self.counters.allowed_twice += 1;
        }
        self.checker.started(key, known.is_some());
        let times = if twice && !is_idempotent { 2 } else { 1 };
        if times == 2 {
            self.checker.excuse(key);
        }
        for _ in 0..times {
            let external = self.external(key, of, now, takes);
            self.builds.push(external);
        }
        self.builds.len() - times
    }

    fn external(&mut self, key: LaunchKey, of: &Revision, now: Monotonic, takes: Duration) -> External {
        let calm = self.healing;
        let bad = if calm { 0 } else { self.plan.faults.bad_builds };
        let d = &mut self.dice;
        let arrives = now.plus(takes);
        let starts = arrives.plus(d.millis(0, if calm { 200 } else { 4_000 }));
        let outcome = match d.below(10) {
            _ if !d.chance(bad) => Outcome::Succeeded,
            0..=5 => Outcome::Failed,
            6..=7 => Outcome::Unstable,
            8 => Outcome::Lost,
            _ => Outcome::Cancelled,
        };
        let never = d.chance(bad / 8);
        let ends = (!never).then(|| starts.plus(d.millis(100, if calm { 2_000 } else { 15_000 })));
        let tells = match d.below(20) {
            0 if !calm => Some(revision(d.between(1, 4))),
            0..=12 => Some(of.clone()),
            _ => None,
        };
        let heeds_cancel = !d.chance(150);
        let artifacts = artifacts_of(self.builds.len());
        External { key, arrives, starts, ends, outcome, tells, artifacts, heeds_cancel, forgotten: false }
    }

    pub(super) fn find(&self, key: LaunchKey, now: Monotonic) -> Option<ExternalRef> {
        let place = self.builds.iter().position(|b| b.key == key && b.is_known(now))?;
        Some(self.builds[place].reference(place, now))
    }

    pub(super) fn report(&self, external: &ExternalRef, now: Monotonic) -> Report {
        match number_of(external).and_then(|n| Some((n, self.builds.get(n)?))) {
            Some((n, build)) if build.is_known(now) => {
                let name = build.reference(n, now);
                Report { external: (name != *external).then_some(name), seen: build.seen(now) }
            }
            _ => Report { external: None, seen: Seen::Unknown },
        }
    }

    pub(super) fn cancel(&mut self, external: &ExternalRef, now: Monotonic) {
        let Some(build) = number_of(external).and_then(|n| self.builds.get_mut(n)) else { return };
        if build.heeds_cancel && build.ends.is_none_or(|end| end > now) {
            build.ends = Some(now);
            build.outcome = Outcome::Cancelled;
        }
    }
}
