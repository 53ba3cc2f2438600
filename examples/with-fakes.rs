//! How an embedder tests: the whole scheduler over fakes, in time that passes only when told.
//!
//! `cargo run --example with-fakes` runs it; in a project it would be a test.

use capomastro_core::{InMemoryStore, Result, Scheduler, model::Policy, scheduler::DependencySpec};
use capomastro_testkit::{ControllableLauncher, ManualClock, ScriptedProbe};
use std::{sync::Arc, time::Duration};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let clock = ManualClock::new();
    let (probe, launcher) = (ScriptedProbe::new(), ControllableLauncher::auto_succeed());
    let scheduler = Scheduler::builder(InMemoryStore::new(Arc::new(clock.clone())))
        .clock(Arc::new(clock.clone()))
        .probe("scripted", Arc::new(probe.clone()))
        .launcher("fake", Arc::new(launcher.clone()))
        .build()?;
    for name in ["libfoo", "app"] {
        probe.set(name, "r1");
        let spec = DependencySpec::new(name, ScriptedProbe::source(name), "fake")?
            .with_policy(Policy::default().with_look_every(Duration::from_secs(60)))
            .in_project("website")?;
        scheduler.ensure(&spec).await?;
    }
    pass(&scheduler, &clock, Duration::from_secs(120)).await?;
    assert_eq!(launcher.launched().len(), 2, "each is built once");

    probe.set("libfoo", "r2");
    pass(&scheduler, &clock, Duration::from_secs(120)).await?;
    let built: Vec<String> =
        launcher.launched().iter().map(|l| format!("{} {}", l.dependency, l.revision)).collect();
    assert_eq!(built[2..], ["libfoo r2"], "only what changed is built again");
    let current = scheduler.project_status("website").await?.current.expect("the project is complete");
    println!("built {built:?}; project build {} has {} slots", current.name, current.slots.len());
    Ok(())
}

/// Lets time pass, doing what is due each second.
async fn pass(scheduler: &Scheduler, clock: &ManualClock, duration: Duration) -> Result<()> {
    for _ in 0..duration.as_secs() {
        clock.advance(Duration::from_secs(1));
        while scheduler.tick().await?.taken > 0 {}
    }
    Ok(())
}
