//! A world made of dice, in which schedulers are attacked while everything they write is checked.
//!
//! One seed is one history: some schedulers over one store, sources that move and are rewound, people who change their
//! minds, a build system that answers late, twice or never, a network that loses requests and answers, crashes at any
//! await, freezes that outlast a claim. Then everything heals, and all that was begun must end. The same seed gives the
//! same history on every machine, thread and store, told by [`Verdict::digest`].
//!
//! ```
//! use capomastro_testkit::simulator::Simulation;
//!
//! let verdict = Simulation::new(7).run();
//! assert_eq!(verdict.violations, []);
//! assert_eq!(verdict.digest, Simulation::new(7).run().digest);
//! ```

mod checks;
mod dice;
mod executor;
mod history;
mod parts;
mod people;
mod plan;
mod shrink;
mod stage;
mod stores;
mod story;
mod trace;

use crate::fakes::ManualClock;
use capomastro_core::{
    InMemoryStore, launch::BuildLauncher, lock::DependencyLock, probe::RevisionProbe, store::StateStore,
};
use plan::Plan;
use serde::Serialize;
use std::{fmt, sync::Arc};

/// Something that was true and must never be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// What was violated: `I1` to `I12`, `due`, `guard`, `claim`, `commit id`, `retry`, `stop`, `truth` (what is recorded is
    /// not what the build system said), `store`, `answer` or `livelock`.
    pub invariant: &'static str,
    /// How.
    pub what: String,
}

/// What happened in histories. Counts only grow, and add up.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counters {
    /// Schedulers that were dropped at some await.
    pub crashes: u64,
    /// Schedulers that stood still while time went on.
    pub freezes: u64,
    /// Calls that failed, were lost, or were never answered.
    pub faults: u64,
    /// Things that people asked.
    pub asks: u64,
    /// Runs of a probe.
    pub probes: u64,
    /// Commits that were tried.
    pub commits: u64,
    /// Builds that were recorded.
    pub builds: u64,
    /// Builds that ended.
    pub ended: u64,
    /// Requests that reached the build system.
    pub sends: u64,
    /// Second external builds of one launch key: only where nothing better is promised.
    pub allowed_twice: u64,
    /// Awaits at which a task went on.
    pub polls: u64,
    /// Seconds of the histories' own time.
    pub virtual_seconds: u64,
}

impl Counters {
    /// Adds what happened in another history.
    pub const fn add(&mut self, other: &Self) {
        self.crashes += other.crashes;
        self.freezes += other.freezes;
        self.faults += other.faults;
        self.asks += other.asks;
        self.probes += other.probes;
        self.commits += other.commits;
        self.builds += other.builds;
        self.ended += other.ended;
        self.sends += other.sends;
        self.allowed_twice += other.allowed_twice;
        self.polls += other.polls;
        self.virtual_seconds += other.virtual_seconds;
    }
}

/// How a history went.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// What was violated, in the order in which it was seen; the history stops at the first.
    pub violations: Vec<Violation>,
    /// Everything that was done and answered, in order, as one number.
    pub digest: u64,
    /// What happened.
    pub counters: Counters,
    /// The history step by step, where [`Simulation::telling`] was asked for.
    pub story: Vec<String>,
}

/// The shortest history that was found to violate something.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shortest {
    /// What is done to the world, a line each.
    pub plan: Vec<String>,
    /// How it went.
    pub verdict: Verdict,
}

/// Makes the store of a history, empty, on the history's clock.
pub type StoreFactory = Arc<dyn Fn(ManualClock) -> Arc<dyn StateStore> + Send + Sync>;
/// Puts something between every scheduler and one of its parts; called once for each start of a scheduler.
pub type Wrap<T> = Arc<dyn Fn(Arc<T>) -> Arc<T> + Send + Sync>;

/// One history, to be run.
#[derive(Clone)]
#[must_use = "nothing happens before `run`"]
pub struct Simulation {
    seed: u64,
    store: StoreFactory,
    store_wrap: Option<Wrap<dyn StateStore>>,
    launcher_wrap: Option<Wrap<dyn BuildLauncher>>,
    probe_wrap: Option<Wrap<dyn RevisionProbe>>,
    lock_wrap: Option<Wrap<dyn DependencyLock>>,
    tells: bool,
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation")
            .field("seed", &self.seed)
            .field("tells", &self.tells)
            .finish_non_exhaustive()
    }
}

impl Simulation {
    /// The history of a seed, over a store in memory.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            store: Arc::new(|clock| Arc::new(InMemoryStore::new(Arc::new(clock)))),
            store_wrap: None,
            launcher_wrap: None,
            probe_wrap: None,
            lock_wrap: None,
            tells: false,
        }
    }

    /// The same history over another store, which must take its time from the clock that it is given. It may have threads
    /// of its own: each call is awaited before anything else of the history goes on.
    pub fn over(self, store: impl Fn(ManualClock) -> Arc<dyn StateStore> + Send + Sync + 'static) -> Self {
        Self { store: Arc::new(store), ..self }
    }

    /// Puts something between each scheduler and the network that leads to the store: a defect, say, to be found.
    pub fn wrap_store(
        self,
        wrap: impl Fn(Arc<dyn StateStore>) -> Arc<dyn StateStore> + Send + Sync + 'static,
    ) -> Self {
        Self { store_wrap: Some(Arc::new(wrap)), ..self }
    }

    /// Puts something between each scheduler and its launcher.
    pub fn wrap_launcher(
        self,
        wrap: impl Fn(Arc<dyn BuildLauncher>) -> Arc<dyn BuildLauncher> + Send + Sync + 'static,
    ) -> Self {
        Self { launcher_wrap: Some(Arc::new(wrap)), ..self }
    }

    /// Puts something between each scheduler and its probe.
    pub fn wrap_probe(
        self,
        wrap: impl Fn(Arc<dyn RevisionProbe>) -> Arc<dyn RevisionProbe> + Send + Sync + 'static,
    ) -> Self {
        Self { probe_wrap: Some(Arc::new(wrap)), ..self }
    }

    /// Puts something between each scheduler and its lock, in histories whose lock is kept elsewhere.
    pub fn wrap_lock(
        self,
        wrap: impl Fn(Arc<dyn DependencyLock>) -> Arc<dyn DependencyLock> + Send + Sync + 'static,
    ) -> Self {
        Self { lock_wrap: Some(Arc::new(wrap)), ..self }
    }

    /// The same history, with its story.
    pub fn telling(self) -> Self {
        Self { tells: true, ..self }
    }

    /// What the seed says of the world and of what is done to it, a line each.
    pub fn plan(&self) -> Vec<String> {
        Plan::draw(self.seed).lines()
    }

    /// Runs the history to its end, or to the first violation.
    pub fn run(&self) -> Verdict {
        history::run(self, Plan::draw(self.seed))
    }

    /// The shortest history that can be found by leaving things out of this one, if this one violates something.
    pub fn shrink(&self) -> Option<Shortest> {
        shrink::shrink(self)
    }
}
