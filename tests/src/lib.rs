//! Scenarios across crates, and the stage on which they are played.

mod ask;

pub use ask::{each_minute, shows, somebody, spec};

use capomastro_core::{
    InMemoryStore, Scheduler,
    model::{Policy, Revision},
    scheduler::{DependencySpec, SchedulerBuilder},
    store::StateStore,
};
use capomastro_testkit::{ControllableLauncher, ManualClock, ScriptedProbe, SeededRandom};
use std::{sync::Arc, time::Duration};

/// A scheduler over fakes, and time that passes only when told.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Stands still until told to go on.
    pub clock: ManualClock,
    /// What sources are at.
    pub probe: ScriptedProbe,
    /// What builds do.
    pub launcher: ControllableLauncher,
    /// Where everything is kept.
    pub store: Arc<dyn StateStore>,
    /// What is tried.
    pub scheduler: Scheduler,
}

impl Stage {
    /// A stage over a store in memory.
    pub fn new(launcher: ControllableLauncher) -> Self {
        Self::with(launcher, |b| b)
    }

    /// The same, with further choices for the scheduler.
    pub fn with(
        launcher: ControllableLauncher,
        choose: impl FnOnce(SchedulerBuilder) -> SchedulerBuilder,
    ) -> Self {
        let clock = ManualClock::new();
        let store = Arc::new(InMemoryStore::new(Arc::new(clock.clone())));
        Self::over(store, clock, ScriptedProbe::new(), launcher, choose)
    }

    /// A scheduler over what is there already: a second one, or one after a restart.
    pub fn over(
        store: Arc<dyn StateStore>,
        clock: ManualClock,
        probe: ScriptedProbe,
        launcher: ControllableLauncher,
        choose: impl FnOnce(SchedulerBuilder) -> SchedulerBuilder,
    ) -> Self {
        let launcher = launcher.with_clock(Arc::new(clock.clone()));
        let builder = Scheduler::builder(Arc::clone(&store))
            .clock(Arc::new(clock.clone()))
            .random(Arc::new(SeededRandom::new(7)))
            .probe("scripted", Arc::new(probe.clone()))
            .launcher("fake", Arc::new(launcher.clone()));
        let scheduler = choose(builder).build().expect("the stage's choices are within their ranges");
        Self { clock, probe, launcher, store, scheduler }
    }

    /// A dependency of this name in these projects, looked at every minute.
    pub async fn define(&self, name: &str, projects: &[&str], policy: Policy) {
        let mut spec = DependencySpec::new(name, ScriptedProbe::source(name), "fake")
            .expect("a name")
            .with_policy(policy.with_look_every(Duration::from_secs(60)));
        for project in projects {
            spec = spec.in_project(project).expect("a name");
        }
        self.scheduler.apply(&spec).await.expect("the definition is accepted");
    }

    /// Ticks until nothing is due now.
    pub async fn settle(&self) {
        for _ in 0..1_000 {
            let report = self.scheduler.tick().await.expect("the store answers");
            if report.taken == 0 {
                return;
            }
        }
        panic!("something is due for ever");
    }

    /// Lets this much time pass, a second at a time, doing what is due.
    pub async fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            self.clock.advance(Duration::from_secs(1));
            self.settle().await;
        }
    }

    /// The revisions that were launched for a dependency, in order.
    pub fn built(&self, dependency: &str) -> Vec<String> {
        self.launcher.builds_of(dependency).iter().map(|b| b.request().revision.to_string()).collect()
    }
}

/// A revision.
pub fn revision(text: &str) -> Revision {
    text.parse().expect("a revision")
}
