//! What a scheduler makes of what the probe sees.

use super::{repo::Repo, runner::Remembering};
use capomastro_core::{InMemoryStore, Scheduler, model::Policy, scheduler::DependencySpec};
use capomastro_probes::svn::{SvnProbe, SvnSource};
use capomastro_testkit::{ControllableLauncher, ManualClock};
use std::{sync::Arc, time::Duration};

const EVERY: Duration = Duration::from_secs(60);

struct World {
    repo: Repo,
    scheduler: Scheduler,
    clock: ManualClock,
    launcher: ControllableLauncher,
    runner: Arc<Remembering>,
}

impl World {
    async fn new(always_program: bool) -> Option<Self> {
        let repo = Repo::new()?;
        let (clock, launcher) = (ManualClock::new(), ControllableLauncher::auto_succeed());
        let runner = Remembering::new();
        let probe =
            SvnProbe::builder().runner(Arc::<Remembering>::clone(&runner)).always_program(always_program);
        let scheduler = Scheduler::builder(Arc::new(InMemoryStore::new(Arc::new(clock.clone()))))
            .clock(Arc::new(clock.clone()))
            .probe("svn", Arc::new(probe.build()))
            .launcher("fake", Arc::new(launcher.clone()))
            .build()
            .unwrap();
        let source = SvnSource::new(repo.url()).path("trunk").source("svn").unwrap();
        let spec = DependencySpec::new("lib", source, "fake").unwrap();
        scheduler.apply(&spec.with_policy(Policy::default().with_look_every(EVERY))).await.unwrap();
        Some(Self { repo, scheduler, clock, launcher, runner })
    }

    /// The revisions that were built so far, after some rounds of looking.
    async fn built(&self) -> Vec<String> {
        for _ in 0..4 {
            self.clock.advance(EVERY);
            while self.scheduler.tick().await.unwrap().taken > 0 {}
        }
        self.launcher.launched().iter().map(|request| request.revision.to_string()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_is_built_once() {
    for always_program in [false, true] {
        let Some(world) = World::new(always_program).await else { return };
        let repo = &world.repo;
        let mut want = vec![repo.at(1, None).to_string()];
        assert_eq!(world.built().await, want);
        let looks = world.runner.commands().len();
        assert_eq!(world.built().await, want);
        let looks = world.runner.commands().len() - looks;
        assert_eq!(looks, if always_program { 4 } else { 0 });

        // Elsewhere, then here.
        repo.commit(&["mkdir", "other"]);
        assert_eq!(world.built().await, want);
        repo.put("trunk/f", "two");
        want.push(repo.at(3, None).to_string());
        assert_eq!(world.built().await, want);

        // Work was lost and done again, before anybody looked.
        let dump = repo.dump(2);
        repo.restore(&dump);
        repo.put("trunk/f", "three");
        want.push(repo.at(3, None).to_string());
        assert_eq!(world.built().await, want);
        assert_ne!(want[1], want[2]);

        // Gone is no reason to build; made anew is one.
        repo.commit(&["rm", "trunk"]);
        assert_eq!(world.built().await, want);
        repo.commit(&["mkdir", "trunk"]);
        want.push(repo.at(5, None).to_string());
        assert_eq!(world.built().await, want);
    }
}
