//! Scenarios across crates, and the stage on which they are played.

mod ask;
mod awaits;
mod counted;
mod crowd;
mod faults;
mod figure;
mod patience;
pub mod postgres;
pub mod samples;

pub use ask::{each_minute, plain_spec, shows, somebody};
pub use awaits::{Awaits, polled};
pub use counted::Counted;
pub use crowd::{LOOK_EVERY, Standing, crowd_scheduler, look_at_all, register};
pub use faults::{Fault, FaultyStore};
pub use figure::{figure, figure_for};
pub use patience::{eventually, timed, within};

use capomastro_core::{
    InMemoryStore, Scheduler,
    events::EventKind,
    model::{Build, DependencyId, DependencyState, Orphan, Phase, Policy, Requester, Revision, Timeouts},
    scheduler::{DependencySpec, DependencyStatus, SchedulerBuilder, TriggerRequest},
    store::{EventFilter, ListKey, Query, Record, StateStore},
};
use capomastro_testkit::{ControllableLauncher, ManualClock, ScriptedProbe, SeededRandom};
use std::{sync::Arc, time::Duration};

/// What the README shows is compiled, and run where it can be.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[derive(Debug)]
pub struct Readme;

/// What the page on Jenkins shows is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../docs/jenkins.md")]
#[derive(Debug)]
pub struct JenkinsPage;

/// What the page on job types shows is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../docs/job-types.md")]
#[derive(Debug)]
pub struct JobTypesPage;

/// What the page on webhooks shows is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../docs/webhooks.md")]
#[derive(Debug)]
pub struct WebhooksPage;

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
        Self::at(ManualClock::new(), launcher, choose)
    }

    /// The same, by a clock that something else follows too.
    pub fn at(
        clock: ManualClock,
        launcher: ControllableLauncher,
        choose: impl FnOnce(SchedulerBuilder) -> SchedulerBuilder,
    ) -> Self {
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
        Self::seeded(7, store, clock, probe, launcher, choose)
    }

    fn seeded(
        seed: u64,
        store: Arc<dyn StateStore>,
        clock: ManualClock,
        probe: ScriptedProbe,
        launcher: ControllableLauncher,
        choose: impl FnOnce(SchedulerBuilder) -> SchedulerBuilder,
    ) -> Self {
        let builder = Scheduler::builder(Arc::clone(&store))
            .clock(Arc::new(clock.clone()))
            .random(Arc::new(SeededRandom::new(seed)))
            .probe("scripted", Arc::new(probe.clone()))
            .launcher("fake", Arc::new(launcher.clone()));
        let scheduler = choose(builder).build().expect("the stage's choices are within their ranges");
        Self { clock, probe, launcher, store, scheduler }
    }

    /// Another process over the same world: the next one after a crash, or one more beside this. Its randomness is its own.
    pub fn another(&self, seed: u64, choose: impl FnOnce(SchedulerBuilder) -> SchedulerBuilder) -> Self {
        Self::seeded(
            seed,
            Arc::clone(&self.store),
            self.clock.clone(),
            self.probe.clone(),
            self.launcher.clone(),
            choose,
        )
    }

    /// A dependency of this name in these projects, looked at every minute.
    pub async fn define(&self, name: &str, projects: &[&str], policy: Policy) {
        self.apply(&spec(name, projects, policy)).await;
    }

    /// Defines or changes a dependency.
    pub async fn apply(&self, spec: &DependencySpec) {
        self.scheduler.apply(spec).await.expect("the definition is accepted");
    }

    /// A dependency whose source is at `r1`, looked at and launched once.
    pub async fn begin(&self, name: &str, policy: Policy) {
        self.probe.set(name, "r1");
        self.define(name, &[], policy).await;
        self.settle().await;
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

    /// Lets time pass in steps of this length.
    pub async fn pass_by(&self, step: Duration, steps: usize) {
        for _ in 0..steps {
            self.clock.advance(step);
            self.settle().await;
        }
    }

    /// Lets time pass until something is true, and fails if it is not within this many seconds.
    pub async fn pass_until(&self, seconds: u64, mut holds: impl AsyncFnMut(&Self) -> bool) {
        for _ in 0..seconds {
            if holds(self).await {
                return;
            }
            self.pass(1).await;
        }
        assert!(holds(self).await, "not within {seconds} s: {self:#?}");
    }

    /// Lets time pass until the newest build of a dependency stands in this phase.
    pub async fn pass_until_phase(&self, seconds: u64, dependency: &str, phase: Phase) {
        for _ in 0..seconds {
            if self.last_build(dependency).await.phase == phase {
                return;
            }
            self.pass(1).await;
        }
        assert_eq!(self.last_build(dependency).await.phase, phase, "after {seconds} s");
    }

    /// The revisions that were launched for a dependency, in order.
    pub fn built(&self, dependency: &str) -> Vec<String> {
        self.launcher.builds_of(dependency).iter().map(|b| b.request().revision.to_string()).collect()
    }

    /// Where a dependency stands.
    pub async fn status(&self, dependency: &str) -> DependencyStatus {
        self.scheduler.status(dependency).await.expect("the dependency is there")
    }

    /// What the machine knows of a dependency.
    pub async fn state(&self, dependency: &str) -> DependencyState {
        self.status(dependency).await.state
    }

    /// The identity of a dependency.
    pub async fn id(&self, dependency: &str) -> DependencyId {
        self.state(dependency).await.id
    }

    /// The recorded builds of a dependency, oldest first.
    pub async fn builds(&self, dependency: &str) -> Vec<Build> {
        let (mut builds, _) = self.scheduler.history(dependency, None, 1_000).await.expect("a history");
        builds.reverse();
        builds
    }

    /// The phases of the recorded builds of a dependency, oldest first.
    pub async fn phases(&self, dependency: &str) -> Vec<Phase> {
        self.builds(dependency).await.iter().map(|b| b.phase).collect()
    }

    /// The newest recorded build of a dependency.
    pub async fn last_build(&self, dependency: &str) -> Build {
        self.builds(dependency).await.pop().expect("there is a build")
    }

    /// All that happened to a dependency, in order.
    pub async fn events(&self, dependency: &str) -> Vec<EventKind> {
        let filter = EventFilter::Dependency(self.id(dependency).await);
        let page = self.scheduler.events(filter, 0, 1_000).await.expect("the store answers");
        page.items.into_iter().map(|e| e.event.kind).collect()
    }

    /// How many things of a kind happened to a dependency.
    pub async fn count_events(&self, dependency: &str, is: impl Fn(&EventKind) -> bool) -> usize {
        self.events(dependency).await.iter().filter(|e| is(e)).count()
    }

    /// The external builds that turned up late for a build.
    pub async fn orphans(&self, build: &Build) -> Vec<Orphan> {
        let query = Query::List { list: ListKey::orphans_of(build.id), backwards: false };
        let page = self.store.list(&query, None, 1_000).await.expect("the store answers");
        page.items
            .into_iter()
            .filter_map(|v| match v.record {
                Record::Orphan(orphan) => Some(orphan),
                _ => None,
            })
            .collect()
    }

    /// Asks for a build of a revision by hand.
    pub async fn build_now(&self, dependency: &str, of: &str) {
        let request = TriggerRequest::manual().by(person()).at(revision(of));
        self.scheduler.trigger(dependency, request).await.expect("the trigger is accepted");
    }
}

/// The definition of a dependency, looked at every minute.
pub fn spec(name: &str, projects: &[&str], policy: Policy) -> DependencySpec {
    let mut spec = DependencySpec::new(name, ScriptedProbe::source(name), "fake")
        .expect("a name")
        .with_policy(policy.with_look_every(Duration::from_secs(60)));
    for project in projects {
        spec = spec.in_project(project).expect("a name");
    }
    spec
}

/// A policy with other time-outs.
pub fn timeouts(change: impl FnOnce(&mut Timeouts)) -> Policy {
    let mut timeouts = Timeouts::default();
    change(&mut timeouts);
    Policy::default().with_timeouts(timeouts)
}

/// A revision.
pub fn revision(text: &str) -> Revision {
    text.parse().expect("a revision")
}

/// Somebody.
pub fn person() -> Requester {
    "ada".parse().expect("a name")
}
