//! A service that embeds the scheduler: SQLite, git, local builds, graceful shutdown.
//!
//! `cargo run --example embed` runs until Ctrl-C; `cargo run --example embed -- 2` stops by itself after two seconds.

use capomastro_core::{Error, Result, Scheduler, model::Policy, scheduler::DependencySpec};
use capomastro_probes::git::{GitProbe, GitSource};
use capomastro_process::{CommandJob, CommandLauncher, ProcessRunner};
use capomastro_store_sqlite::SqliteStore;
use std::{sync::Arc, time::Duration};

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir().map_err(Error::transient)?; // a service names a folder of its own
    let store = Arc::new(SqliteStore::builder(folder.path().join("capomastro.sqlite3")).open()?);
    let launcher = CommandLauncher::builder(folder.path().join("builds")).build()?;
    let git = GitProbe::builder().runner(Arc::new(ProcessRunner::new())).build();
    let scheduler = Scheduler::builder(Arc::clone(&store))
        .probe("git", Arc::new(git))
        .launcher("local", Arc::new(launcher.clone()))
        .output("local", Arc::new(launcher))
        .build()?;
    let source = GitSource::new(concat!("file://", env!("CARGO_MANIFEST_DIR"), "/..")).source("git")?;
    let spec = DependencySpec::new("capomastro", source, "local")?
        .with_policy(Policy::default().with_look_every(Duration::from_secs(60)))
        .with_job(CommandJob::new(["true"]))
        .in_project("tools")?;
    scheduler.apply(&spec).await?;
    scheduler.run(asked_to_stop()).await?;
    println!("{:?}", scheduler.why_not_building("capomastro").await?);
    store.close().await;
    Ok(())
}

/// Ctrl-C, or the number of seconds given on the command line.
async fn asked_to_stop() {
    let seconds = std::env::args().nth(1).and_then(|s| s.parse().ok()).map(Duration::from_secs);
    let timer = async {
        match seconds {
            Some(wait) => {
                capomastro_core::time::Clock::sleep(&capomastro_core::time::SystemClock, wait).await
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = timer => {}
    }
}
