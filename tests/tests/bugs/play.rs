//! A world of which one part may be wrong.

use crate::{Part, patience::Patient};
use capomastro_core::{
    InMemoryStore, Scheduler, launch::BuildLauncher, lock::DependencyLock, probe::RevisionProbe,
    store::StateStore,
};
use capomastro_testkit::{ControllableLauncher, ExpiringLock, ManualClock, ScriptedProbe, SeededRandom};
use capomastro_tests::{Awaits, Stage};
use std::{sync::Arc, time::Duration};

/// What is wrong, if anything is.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Play(pub(crate) Option<Part>);

/// How long a lease of the lock lasts, in seconds.
pub(crate) const LASTS: u64 = 30;

impl Play {
    pub(crate) fn store(self, sound: Arc<dyn StateStore>) -> Arc<dyn StateStore> {
        match self.0 {
            Some(Part::Store(wrong) | Part::Rule(wrong)) => wrong(Patient::over(sound)),
            _ => Patient::over(sound),
        }
    }

    pub(crate) fn launcher(self, sound: Arc<dyn BuildLauncher>) -> Arc<dyn BuildLauncher> {
        match self.0 {
            Some(Part::Launcher(wrong)) => wrong(sound),
            _ => sound,
        }
    }

    pub(crate) fn probe(self, sound: Arc<dyn RevisionProbe>) -> Arc<dyn RevisionProbe> {
        match self.0 {
            Some(Part::Probe(wrong)) => wrong(sound),
            _ => sound,
        }
    }

    pub(crate) fn lock(self, sound: Arc<dyn DependencyLock>) -> Arc<dyn DependencyLock> {
        match self.0 {
            Some(Part::Lock(wrong)) => wrong(sound),
            _ => sound,
        }
    }

    /// A stage on which that part is wrong, with the store's own lock.
    pub(crate) fn stage(self, launcher: ControllableLauncher) -> Stage {
        self.on(ManualClock::new(), launcher, None)
    }

    /// The same, with a lock that is kept elsewhere.
    pub(crate) fn locked_stage(self, launcher: ControllableLauncher) -> (Stage, ExpiringLock) {
        let clock = ManualClock::new();
        let lock = ExpiringLock::new(Arc::new(clock.clone()), Duration::from_secs(LASTS));
        (self.on(clock, launcher, Some(&lock)), lock)
    }

    fn on(self, clock: ManualClock, launcher: ControllableLauncher, lock: Option<&ExpiringLock>) -> Stage {
        let launcher = launcher.with_clock(Arc::new(clock.clone()));
        let probe = ScriptedProbe::new();
        let store = self.store(Arc::new(InMemoryStore::new(Arc::new(clock.clone()))));
        let mut builder = Scheduler::builder(Arc::clone(&store))
            .clock(Arc::new(clock.clone()))
            .random(Arc::new(SeededRandom::new(7)))
            .probe("scripted", self.probe(Arc::new(probe.clone())))
            .launcher("fake", self.launcher(Arc::new(launcher.clone())));
        if let Some(lock) = lock {
            builder = builder.lock(self.lock(Arc::new(lock.clone())));
        }
        let scheduler = builder.build().expect("the choices are within their ranges");
        Stage { clock, probe, launcher, store, scheduler }
    }

    /// One more scheduler over the same world, each part of which waits at each await.
    pub(crate) fn another(self, stage: &Stage, seed: u64) -> Scheduler {
        Scheduler::builder(Awaits(Arc::clone(&stage.store)))
            .clock(Arc::new(stage.clock.clone()))
            .random(Arc::new(SeededRandom::new(seed)))
            .probe("scripted", Arc::new(Awaits(Shared(self.probe(Arc::new(stage.probe.clone()))))))
            .launcher("fake", Arc::new(Awaits(Shared(self.launcher(Arc::new(stage.launcher.clone()))))))
            .build()
            .expect("the choices are within their ranges")
    }
}

/// A part that is shared, as a part.
#[derive(Clone, Debug)]
struct Shared<T: ?Sized>(Arc<T>);

mod shared {
    use super::Shared;
    use async_trait::async_trait;
    use capomastro_core::{
        Result,
        launch::{BuildLauncher, Found, Journal, LaunchRequest, Launched, Promise, Report},
        model::{ExternalRef, LaunchKey, ProbeKey, Source},
        probe::{Ask, Probed, RevisionProbe},
    };
    use serde_json::Value;

    #[async_trait]
    impl BuildLauncher for Shared<dyn BuildLauncher> {
        fn promise(&self) -> Promise {
            self.0.promise()
        }
        fn check_job(&self, job: &Value) -> Result<()> {
            self.0.check_job(job)
        }
        async fn launch(&self, request: &LaunchRequest, journal: &dyn Journal) -> Result<Launched> {
            self.0.launch(request, journal).await
        }
        async fn find(&self, request: &LaunchRequest) -> Result<Found> {
            self.0.find(request).await
        }
        async fn observe(&self, builds: &[(LaunchKey, ExternalRef)]) -> Vec<Result<Report>> {
            self.0.observe(builds).await
        }
        async fn cancel(&self, key: &LaunchKey, build: &ExternalRef) -> Result<()> {
            self.0.cancel(key, build).await
        }
    }

    #[async_trait]
    impl RevisionProbe for Shared<dyn RevisionProbe> {
        fn key(&self, source: &Source) -> Result<ProbeKey> {
            self.0.key(source)
        }
        async fn probe(&self, asks: &[Ask]) -> Vec<Result<Probed>> {
            self.0.probe(asks).await
        }
    }
}
