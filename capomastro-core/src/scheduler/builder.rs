//! Putting a scheduler together.

use super::{Inner, Scheduler, budgets::SharedBudgets, commit::Turns};
use crate::{
    Error, Result,
    budget::Budget,
    launch::{BuildLauncher, BuildOutput, Promise},
    lock::{DependencyLock, StoreLock},
    model::{HolderId, LauncherName, ProbeName},
    probe::RevisionProbe,
    secret::{SecretResolver, Secrets},
    store::{Hints, StateStore},
    time::{Clock, Random, SystemClock, SystemRandom},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::{Notify, Semaphore};

/// What is kept for how long. Sweeping runs once an hour and whenever a dependency has more builds than it may keep.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// How long a finished build and a sealed project build are kept at least while they are within the count; older
    /// ones go.
    pub builds_for: Duration,
    /// How many finished builds of a dependency, and sealed project builds of a project, are kept at the most.
    pub builds: u32,
    /// How long settled receipts are kept.
    pub receipts_for: Duration,
    /// How long events, and so the recorded decisions, are kept.
    pub events_for: Duration,
    /// How many of the newest events are kept however old they are.
    pub events: u64,
    /// How long the ids of commits are kept; longer than any commit is ever repeated.
    pub commit_ids_for: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self {
            builds_for: DAY * 365,
            builds: 200,
            receipts_for: DAY * 30,
            events_for: DAY * 30,
            events: 10_000,
            commit_ids_for: DAY,
        }
    }
}

/// What a scheduler is told once, at its start.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) request_timeout: Duration,
    pub(crate) drive_lease: Duration,
    pub(crate) look_lease: Duration,
    pub(crate) at_once: usize,
    pub(crate) builds_at_once: usize,
    pub(crate) idle: Duration,
    pub(crate) grace: Duration,
    pub(crate) is_lock_elsewhere: bool,
    pub(crate) overall_limit: Option<u32>,
    pub(crate) launcher_limits: BTreeMap<LauncherName, u32>,
    pub(crate) retention: Retention,
}

/// Puts a [`Scheduler`] together. Names that are not names, and values out of range, are reported by
/// [`build`](SchedulerBuilder::build).
#[derive(Debug)]
pub struct SchedulerBuilder {
    store: Arc<dyn StateStore>,
    instance: String,
    probes: BTreeMap<String, Arc<dyn RevisionProbe>>,
    launchers: BTreeMap<String, Arc<dyn BuildLauncher>>,
    outputs: BTreeMap<String, Arc<dyn BuildOutput>>,
    lock: Arc<dyn DependencyLock>,
    secrets: Secrets,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    hints: Option<Arc<dyn Hints>>,
    remote_budget: Budget,
    kind_budgets: BTreeMap<String, Budget>,
    launcher_limits: BTreeMap<String, u32>,
    config: Config,
    twice: Option<String>,
}

impl SchedulerBuilder {
    pub(super) fn new(store: Arc<dyn StateStore>) -> Self {
        Self {
            store,
            instance: "capomastro".into(),
            probes: BTreeMap::new(),
            launchers: BTreeMap::new(),
            outputs: BTreeMap::new(),
            lock: Arc::new(StoreLock),
            secrets: Secrets::none(),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            hints: None,
            remote_budget: Budget::default(),
            kind_budgets: BTreeMap::new(),
            launcher_limits: BTreeMap::new(),
            config: Config {
                request_timeout: Duration::from_secs(5),
                drive_lease: Duration::from_secs(15),
                look_lease: Duration::from_secs(90),
                at_once: 256,
                builds_at_once: 4_096,
                idle: Duration::from_secs(1),
                grace: Duration::from_secs(10),
                is_lock_elsewhere: false,
                overall_limit: None,
                launcher_limits: BTreeMap::new(),
                retention: Retention::default(),
            },
            twice: None,
        }
    }

    /// The name of this instance, for people; a random id is added to it. Default `capomastro`.
    #[must_use]
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.instance = name.into();
        self
    }

    /// A probe, under the name by which sources ask for it.
    #[must_use]
    pub fn probe(mut self, name: impl Into<String>, probe: Arc<dyn RevisionProbe>) -> Self {
        let name = name.into();
        if self.probes.insert(name.clone(), probe).is_some() {
            self.twice.get_or_insert(format!("probe {name}"));
        }
        self
    }

    /// A launcher, under the name by which dependencies ask for it.
    #[must_use]
    pub fn launcher(mut self, name: impl Into<String>, launcher: Arc<dyn BuildLauncher>) -> Self {
        let name = name.into();
        if self.launchers.insert(name.clone(), launcher).is_some() {
            self.twice.get_or_insert(format!("launcher {name}"));
        }
        self
    }

    /// Where the logs and artifacts of a launcher's builds can be read, under the launcher's name.
    #[must_use]
    pub fn output(mut self, launcher: impl Into<String>, output: Arc<dyn BuildOutput>) -> Self {
        let name = launcher.into();
        if self.outputs.insert(name.clone(), output).is_some() {
            self.twice.get_or_insert(format!("output of {name}"));
        }
        self
    }

    /// A lock that is kept elsewhere. Default: [`StoreLock`].
    #[must_use]
    pub fn lock(mut self, lock: Arc<dyn DependencyLock>) -> Self {
        self.lock = lock;
        self.config.is_lock_elsewhere = true;
        self
    }

    /// Where the values of secrets come from. Default: nowhere.
    #[must_use]
    pub fn secrets(mut self, resolver: Arc<dyn SecretResolver>) -> Self {
        self.secrets = Secrets::new(resolver);
        self
    }

    /// Where hints come from that due work may have come from elsewhere, say from another process over the same store.
    /// Default: nowhere; the store is looked at each [`idle`](Self::idle).
    #[must_use]
    pub fn hints(mut self, hints: Arc<dyn Hints>) -> Self {
        self.hints = Some(hints);
        self
    }

    /// Where time comes from. Default: the machine's clocks.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where randomness comes from. Default: the operating system.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// How often, and how many at once, one remote host is looked at.
    #[must_use]
    pub fn remote_budget(mut self, budget: Budget) -> Self {
        self.remote_budget = budget;
        self
    }

    /// How often, and how many at once, one probe looks. Default: no limit.
    #[must_use]
    pub fn probe_budget(mut self, probe: impl Into<String>, budget: Budget) -> Self {
        self.kind_budgets.insert(probe.into(), budget);
        self
    }

    /// How many builds may run at once, over all launchers and all schedulers of the store, 1 to 100,000. Every scheduler
    /// of a store should be told the same.
    #[must_use]
    pub const fn overall_limit(mut self, builds: u32) -> Self {
        self.config.overall_limit = Some(builds);
        self
    }

    /// How many builds of one launcher may run at once, over all schedulers of the store, 1 to 100,000.
    #[must_use]
    pub fn launcher_limit(mut self, launcher: impl Into<String>, builds: u32) -> Self {
        self.launcher_limits.insert(launcher.into(), builds);
        self
    }

    /// How long one request to a build system may take, 100 ms to 60 s; at most half of the drive lease. Default 5 s.
    #[must_use]
    pub const fn request_timeout(mut self, timeout: Duration) -> Self {
        self.config.request_timeout = timeout;
        self
    }

    /// For how long a scheduler holds a build that it drives, 1 s to 10 min; what a crashed one held is taken over when it
    /// ends. Default 15 s.
    #[must_use]
    pub const fn drive_lease(mut self, lease: Duration) -> Self {
        self.config.drive_lease = lease;
        self
    }

    /// For how long a scheduler holds a look, 12 s to 10 min; what a crashed one held is taken over when it ends. Default
    /// 90 s. A look whose deadline ([`Timeouts::probe`](crate::model::Timeouts::probe)) leaves less than 10 s of it is held
    /// longer, at the price of one more write.
    #[must_use]
    pub const fn look_lease(mut self, lease: Duration) -> Self {
        self.config.look_lease = lease;
        self
    }

    /// How many looks of one probe, and how many launches of one launcher, are worked on at once, 1 to 10,000.
    /// Default 256.
    #[must_use]
    pub const fn at_once(mut self, tasks: usize) -> Self {
        self.config.at_once = tasks;
        self
    }

    /// How many builds of one launcher are taken at once, 1 to 100,000: those that run are looked at in one call, so that it
    /// costs a build system little more than a look at one of them, and those to be launched are, as many at a time as
    /// [`at_once`](Self::at_once) says. Default 4,096.
    #[must_use]
    pub const fn builds_at_once(mut self, builds: usize) -> Self {
        self.config.builds_at_once = builds;
        self
    }

    /// How long [`Scheduler::run`] waits at the most before it asks the store for due work again. Default 1 s.
    #[must_use]
    pub const fn idle(mut self, wait: Duration) -> Self {
        self.config.idle = wait;
        self
    }

    /// How long [`Scheduler::run`] goes on with what it has begun after it was asked to stop. Default 10 s.
    #[must_use]
    pub const fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.config.grace = grace;
        self
    }

    /// What is kept for how long.
    #[must_use]
    pub const fn retention(mut self, retention: Retention) -> Self {
        self.config.retention = retention;
        self
    }

    /// The scheduler. No I/O.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) or [`InvalidInput`](crate::ErrorKind::InvalidInput), saying
    /// which value is not acceptable and what to give instead.
    pub fn build(self) -> Result<Scheduler> {
        let Self { store, instance, lock, secrets, clock, random, hints, mut config, .. } = self;
        if let Some(what) = self.twice {
            return Err(Error::config("the same name was registered twice: give each a name of its own")
                .with_context("name", what));
        }
        let range = |what: &str, value: Duration, least: Duration, most: Duration| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(Error::config(format!("{what} is out of range: give {least:?} to {most:?}"))
                .with_context("value", format!("{value:?}")))
        };
        let second = Duration::from_secs(1);
        range("request_timeout", config.request_timeout, second / 10, second * 60)?;
        range("drive_lease", config.drive_lease, second, second * 600)?;
        range("look_lease", config.look_lease, second * 12, second * 600)?;
        range("idle", config.idle, second / 1_000, second * 60)?;
        if config.retention.builds == 0 {
            return Err(Error::config("retention.builds is out of range: keep at least 1"));
        }
        range("retention.commit_ids_for", config.retention.commit_ids_for, second * 3_600, Duration::MAX)?;
        if config.request_timeout * 2 > config.drive_lease {
            // What is left of the lease is all the time that a commit has before its send comes too late.
            return Err(Error::config(
                "request_timeout is too long: give at most half of drive_lease, or a longer drive_lease",
            ));
        }
        if !(1..=10_000).contains(&config.at_once) {
            return Err(Error::config("at_once is out of range: give 1 to 10,000"));
        }
        if !(1..=100_000).contains(&config.builds_at_once) {
            return Err(Error::config("builds_at_once is out of range: give 1 to 100,000"));
        }
        let limits = self.launcher_limits.values().chain(config.overall_limit.iter());
        if limits.into_iter().any(|l| !(1..=100_000).contains(l)) {
            return Err(Error::config("a limit of running builds is out of range: give 1 to 100,000"));
        }
        let probes = named(self.probes)?;
        let launchers: BTreeMap<LauncherName, Arc<dyn BuildLauncher>> = named(self.launchers)?;
        let outputs = named(self.outputs)?;
        config.launcher_limits = named(self.launcher_limits)?;
        for name in config.launcher_limits.keys().chain(outputs.keys()) {
            if !launchers.contains_key(name) {
                return Err(Error::config(
                    "a limit or output is given for a launcher that is not registered",
                )
                .with_context("launcher", name));
            }
        }
        let unsafe_until = config.drive_lease + config.request_timeout;
        for (name, launcher) in &launchers {
            if let Promise::FindableByKey { settle } = launcher.promise()
                && settle <= unsafe_until
            {
                return Err(Error::config(format!(
                    "the launcher's settle time must be longer than drive_lease + request_timeout ({unsafe_until:?})"
                ))
                .with_context("launcher", name));
            }
        }
        for budget in self.kind_budgets.values().chain([&self.remote_budget]) {
            budget.validate()?;
        }
        let kind_budgets: BTreeMap<ProbeName, Budget> = named(self.kind_budgets)?;
        let holder: HolderId = format!("{instance}/{:032x}", random.bits()).parse()?;
        let sending = launchers.keys().map(|name| (name.clone(), Semaphore::new(config.at_once))).collect();
        Ok(Scheduler {
            inner: Arc::new(Inner {
                store,
                probes,
                launchers,
                outputs,
                sending: Arc::new(sending),
                lock,
                secrets,
                clock,
                random,
                holder,
                turns: Turns::default(),
                budgets: Arc::new(SharedBudgets::new(self.remote_budget, kind_budgets)),
                config,
                wake: Notify::new(),
                hints,
                returns: std::sync::Mutex::default(),
                swept: std::sync::Mutex::default(),
                housed: std::sync::atomic::AtomicBool::new(false),
                shown: std::sync::Mutex::default(),
            }),
        })
    }
}

fn named<N: for<'s> TryFrom<&'s str, Error = Error> + Ord, T>(
    map: BTreeMap<String, T>,
) -> Result<BTreeMap<N, T>> {
    map.into_iter().map(|(name, value)| Ok((N::try_from(name.as_str())?, value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, InMemoryStore};

    #[test]
    fn a_send_has_half_of_the_lease_before_it_comes_too_late() {
        let with = |lease: u64| {
            let store = InMemoryStore::new(Arc::new(SystemClock));
            let (timeout, lease) = (Duration::from_secs(5), Duration::from_secs(lease));
            Scheduler::builder(store).request_timeout(timeout).drive_lease(lease).build()
        };
        assert_eq!(with(9).unwrap_err().kind(), ErrorKind::InvalidConfig);
        with(10).unwrap();
    }
}
