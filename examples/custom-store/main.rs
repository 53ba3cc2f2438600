//! A state store of one's own: everything in one JSON file.
//!
//! `cargo run --example custom-store` builds something with it, and goes on with the same file as another process would.
//! `cargo test --example custom-store` shows that it is what a state store must be: [`tests`] is all that an author writes
//! for it.

mod due;
mod file;
mod state;

use capomastro_core::{Error, Result, Scheduler, model::Policy, scheduler::DependencySpec};
use capomastro_testkit::{ControllableLauncher, ManualClock, ScriptedProbe};
use file::JsonStore;
use std::{path::Path, sync::Arc, time::Duration};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir().map_err(Error::transient)?;
    let file = folder.path().join("capomastro.json");
    let (clock, probe) = (ManualClock::new(), ScriptedProbe::new());
    let launcher = ControllableLauncher::auto_succeed();

    probe.set("libfoo", "r1");
    minutes(&file, &clock, &probe, &launcher, 3).await?;
    // Another process: what is in the file is all that it knows, and nothing is built twice.
    minutes(&file, &clock, &probe, &launcher, 3).await?;
    probe.set("libfoo", "r2");
    minutes(&file, &clock, &probe, &launcher, 3).await?;

    let built: Vec<String> = launcher.launched().iter().map(|build| build.revision.to_string()).collect();
    assert_eq!(built, ["r1", "r2"], "each revision is built once");
    println!(
        "built {built:?}; {} bytes of JSON say so",
        std::fs::read(&file).map_err(Error::transient)?.len()
    );
    Ok(())
}

/// A process that opens the store, works for some minutes and ends.
async fn minutes(
    file: &Path,
    clock: &ManualClock,
    probe: &ScriptedProbe,
    launcher: &ControllableLauncher,
    minutes: u32,
) -> Result<()> {
    let scheduler = Scheduler::builder(JsonStore::open(file, Arc::new(clock.clone()))?)
        .clock(Arc::new(clock.clone()))
        .probe("scripted", Arc::new(probe.clone()))
        .launcher("fake", Arc::new(launcher.clone()))
        .build()?;
    let policy = Policy::default().with_look_every(Duration::from_secs(60));
    let spec = DependencySpec::new("libfoo", ScriptedProbe::source("libfoo"), "fake")?.with_policy(policy);
    scheduler.ensure(&spec).await?;
    for _ in 0..minutes * 60 {
        clock.advance(Duration::from_secs(1));
        while scheduler.tick().await?.taken > 0 {}
    }
    Ok(())
}

// --- the suite: a harness that makes stores, and one line
#[cfg(test)]
mod tests {
    use super::JsonStore;
    use capomastro_core::{async_trait, store::StateStore};
    use capomastro_testkit::{conformance::state_store::StoreHarness, fakes::ManualClock};
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    #[derive(Debug)]
    struct Files {
        clock: ManualClock,
        folder: tempfile::TempDir,
        stores: AtomicU32,
    }

    impl Files {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder");
            Self { clock: ManualClock::new(), folder, stores: AtomicU32::new(0) }
        }
    }

    #[async_trait]
    impl StoreHarness for Files {
        fn clock(&self) -> ManualClock {
            self.clock.clone()
        }

        async fn fresh(&self) -> Arc<dyn StateStore> {
            let number = self.stores.fetch_add(1, Ordering::Relaxed);
            let file = self.folder.path().join(format!("{number}.json"));
            Arc::new(JsonStore::open(file, Arc::new(self.clock())).expect("a new store"))
        }

        async fn reopen(&self, store: Arc<dyn StateStore>) -> Arc<dyn StateStore> {
            let said = store.check().await.expect("a store that works").description;
            drop(store);
            let file = said.strip_prefix("JSON in ").expect("the file's name");
            Arc::new(JsonStore::open(file, Arc::new(self.clock())).expect("the same store"))
        }
    }

    capomastro_testkit::state_store_conformance!(Files::new());
}
// --- end
