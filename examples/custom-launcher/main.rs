//! A build launcher of one's own: builds are ordered as files in a folder, and workers carry them out.
//!
//! `cargo run --example custom-launcher` orders a build and plays the worker. `cargo test --example custom-launcher` shows
//! that it is what a launcher must be: [`tests`] is all that an author writes for it.

mod slip;
mod spool;

use capomastro_core::{
    Error, InMemoryStore, Result, Scheduler, launch::Outcome, model::Artifact, scheduler::DependencySpec,
};
use capomastro_testkit::{ManualClock, ScriptedProbe};
use serde_json::json;
use slip::{SlipEnd, SlipResult};
use spool::Spool;
use std::{sync::Arc, time::Duration};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir().map_err(Error::transient)?;
    let (clock, probe) = (ManualClock::new(), ScriptedProbe::new());
    let spool = Spool::new(folder.path(), Arc::new(clock.clone()));
    probe.set("libfoo", "r1");
    let scheduler = Scheduler::builder(InMemoryStore::new(Arc::new(clock.clone())))
        .clock(Arc::new(clock.clone()))
        .probe("scripted", Arc::new(probe))
        .launcher("spool", Arc::new(spool.clone()))
        .build()?;
    let spec = DependencySpec::new("libfoo", ScriptedProbe::source("libfoo"), "spool")?
        .with_job(json!({"recipe": "make-all"}));
    scheduler.ensure(&spec).await?;

    let mut done = Vec::new();
    for _ in 0..120 {
        clock.advance(Duration::from_secs(1));
        while scheduler.tick().await?.taken > 0 {}
        done.extend(work(&spool)?);
    }
    let status = scheduler.status("libfoo").await?;
    println!("the worker did {done:?}; libfoo: {:?}", status.why);
    assert_eq!(done, ["libfoo 1 at r1: good"], "ordered once, and done");
    Ok(())
}

/// A worker's round: takes what is ordered and carries it out, or drops what is to stop.
fn work(spool: &Spool) -> Result<Vec<String>> {
    let mut done = Vec::new();
    for (key, slip) in spool.open_orders()? {
        spool.take(key)?;
        let (dependency, number, revision) = (slip.dependency, slip.number, slip.revision);
        let (result, artifacts, word) = if spool.is_stopped(key) {
            (SlipResult::Stopped, Vec::new(), "stopped")
        } else {
            let name = format!("{dependency}-{number}.tar");
            (
                SlipResult::from(Outcome::Succeeded),
                vec![Artifact { name, digest: None, size: None, location: None }],
                "good",
            )
        };
        done.push(format!("{dependency} {number} at {revision}: {word}"));
        spool.finish(key, &SlipEnd { result, built: Some(revision), artifacts })?;
    }
    Ok(done)
}

// --- the suite: a harness that makes launchers and plays the build system, and one line
#[cfg(test)]
mod tests {
    use super::{
        slip::{SlipEnd, SlipResult},
        spool::Spool,
    };
    use capomastro_core::{
        async_trait,
        launch::BuildLauncher,
        model::{Artifact, LaunchKey},
        time::{Clock as _, SystemClock},
    };
    use capomastro_testkit::conformance::{
        Time,
        launcher::{End, LauncherHarness, NextAnswer, Told},
    };
    use serde_json::{Value, json};
    use std::{path::PathBuf, sync::Arc, time::Duration};

    #[derive(Debug)]
    struct Workshop(tempfile::TempDir);

    impl Workshop {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder");
            std::fs::create_dir(folder.path().join("spool")).expect("a spool");
            Self(folder)
        }

        /// As launchers reach it.
        fn spool(&self) -> Spool {
            Spool::new(self.0.path().join("spool"), Arc::new(SystemClock))
        }

        /// Where it really is: launchers may be cut off.
        fn folder(&self) -> PathBuf {
            let away = self.0.path().join("away");
            if away.exists() { away } else { self.0.path().join("spool") }
        }

        fn inside(&self) -> Spool {
            Spool::new(self.folder(), Arc::new(SystemClock))
        }
    }

    #[async_trait]
    impl LauncherHarness for Workshop {
        fn time(&self) -> Time {
            Time::Machine
        }

        /// With a worker that takes everything and drops what is to stop; how the rest ends is said by the case.
        async fn open(&self) -> Arc<dyn BuildLauncher> {
            let worker = self.spool();
            tokio::spawn(async move {
                loop {
                    for (key, slip) in worker.open_orders().unwrap_or_default() {
                        let taken = worker.take(key);
                        if taken.is_ok() && worker.is_stopped(key) {
                            let end = SlipEnd {
                                result: SlipResult::Stopped,
                                built: Some(slip.revision),
                                artifacts: Vec::new(),
                            };
                            // Out of reach for the moment: in the next round.
                            drop(worker.finish(key, &end));
                        }
                    }
                    SystemClock.sleep(Duration::from_millis(5)).await;
                }
            });
            Arc::new(self.spool())
        }

        fn job(&self) -> Value {
            json!({"recipe": "make-all"})
        }

        fn bad_jobs(&self) -> Vec<Value> {
            vec![
                json!(null),
                json!({}),
                json!({"recipe": ""}),
                json!({"recipe": "../x"}),
                json!({"recipe": "a", "x": 1}),
            ]
        }

        fn refused_job(&self) -> Option<Value> {
            None
        }

        async fn builds(&self, key: LaunchKey) -> Vec<Told> {
            let Some(slip) = self.inside().order(key).expect("a spool") else {
                return Vec::new();
            };
            let mut told = Told::revision(slip.revision);
            told.dependency = Some(slip.dependency);
            told.number = Some(slip.number);
            told.parameters = Some(slip.parameters);
            told.build_key = Some(slip.build_key);
            vec![told]
        }

        async fn end(&self, key: LaunchKey, end: &End) -> bool {
            let artifact = |(name, bytes): (&String, &Vec<u8>)| Artifact {
                name: name.clone(),
                digest: None,
                size: Some(bytes.len() as u64),
                location: None,
            };
            let artifacts = end.artifacts.iter().map(artifact).collect();
            let end = SlipEnd { result: end.outcome.into(), built: end.built.clone(), artifacts };
            self.inside().finish(key, &end).expect("a spool");
            true
        }

        async fn forget(&self, key: LaunchKey) -> bool {
            for what in ["order", "taken", "stop", "end"] {
                drop(std::fs::remove_file(self.folder().join(format!("{key}.{what}"))));
            }
            true
        }

        async fn cut(&self, cut: bool) -> bool {
            let (there, away) = (self.0.path().join("spool"), self.0.path().join("away"));
            let (from, to) = if cut { (there, away) } else { (away, there) };
            std::fs::rename(from, to).expect("the spool is moved");
            true
        }

        /// Where there is a network between, the harness would cut it here, after the request went out.
        async fn lose_answer(&self) -> NextAnswer {
            NextAnswer::CannotBeLost {
                because: "an order is a file that the launcher itself makes, without anybody between; a disk that loses \
                          what it was told to keep cannot be made here",
            }
        }
    }

    capomastro_testkit::build_launcher_conformance!(Workshop::new());
}
// --- end
