//! Two projects that share a dependency, built on Jenkins.
//!
//! `cargo run --example jenkins` runs it against the double of a Jenkins server that tests use: no Jenkins is needed.
//!
//! `CAPOMASTRO_JENKINS_TOKEN=… cargo run --example jenkins -- URL USER` runs it on a real server **on this machine** (its
//! builds read the example's repository), with an API token of a user who may create, configure, build, cancel and delete
//! jobs. It makes three jobs named `capomastro-example-…` and deletes them at the end.
//!
//! A build waits in Jenkins' queue for 10 s, in which asking for it twice is harmless, so this takes about half a minute.

#[path = "../quickstart/repository.rs"]
#[allow(dead_code, reason = "the quickstart uses all of it")]
mod repository;
mod server;

use capomastro_core::{
    Error, ErrorKind, Result, Scheduler,
    model::{Policy, SlotKind},
    scheduler::{DependencySpec, TriggerRequest},
    time::{Clock, SystemClock},
};
use capomastro_jenkins::JenkinsJob;
use capomastro_probes::git::{GitProbe, GitSource};
use capomastro_process::ProcessRunner;
use capomastro_store_sqlite::SqliteStore;
use repository::Repository;
use server::Server;
use std::{sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// The dependencies, each a branch of the repository with a job of its own, and the projects that have them.
const DEPENDENCIES: [(&str, &[&str]); 3] =
    [("libsum", &["website", "tools"]), ("frontend", &["website"]), ("cli", &["tools"])];

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir().map_err(Error::transient)?;
    let repository = Repository::open(&folder.path().join("repository"))?;
    for (branch, _) in DEPENDENCIES {
        repository.ensure_branch(branch)?;
    }
    let server = Server::of_arguments().await?;
    println!("Jenkins is {}.\n", server.description);
    for (name, _) in DEPENDENCIES {
        server.make_job(name, &repository).await?;
    }
    let shown = show(&folder, &repository, &server).await;
    for (name, _) in DEPENDENCIES {
        server.delete_job(name).await?;
    }
    shown
}

async fn show(folder: &tempfile::TempDir, repository: &Repository, server: &Server) -> Result<()> {
    let store = Arc::new(SqliteStore::builder(folder.path().join("capomastro.sqlite3")).open()?);
    let scheduler = Scheduler::builder(Arc::clone(&store))
        .probe("git", Arc::new(GitProbe::builder().runner(Arc::new(ProcessRunner::new())).build()))
        .launcher("jenkins", Arc::new(server.launcher.clone()))
        .output("jenkins", Arc::new(server.launcher.clone()))
        // A launch takes three requests, and a server may be slow.
        .request_timeout(Duration::from_secs(20))
        .drive_lease(Duration::from_secs(60))
        .build()?;
    for (name, projects) in DEPENDENCIES {
        let source = GitSource::new(repository.path().display().to_string()).branch(name).source("git")?;
        let mut spec = DependencySpec::new(name, source, "jenkins")?
            .with_policy(Policy::default().with_look_every(Duration::from_secs(1)))
            .with_job(JenkinsJob::new(server::job(name)));
        for project in projects {
            spec = spec.in_project(project)?;
        }
        scheduler.apply(&spec).await?;
    }
    let (stop, stopped) = oneshot::channel::<()>();
    let running = scheduler.clone();
    let run = tokio::spawn(async move { running.run(async { drop(stopped.await) }).await });

    println!("--- What is there is built once.\n");
    for (name, _) in DEPENDENCIES {
        until_built(&scheduler, name, 1).await?;
    }
    show_projects(&scheduler).await?;

    println!("\n--- Somebody commits to libsum, and nothing else.\n");
    let revision = repository.commit("libsum")?;
    scheduler.trigger("libsum", TriggerRequest::push()).await?;
    until_built(&scheduler, "libsum", 2).await?;
    show_projects(&scheduler).await?;

    let (builds, _) = scheduler.history("libsum", None, 10).await?;
    let log = scheduler.log(builds[0].id, 0, 10_000).await?;
    println!("\nThe log of the last build of libsum:\n{}", String::from_utf8_lossy(&log.bytes).trim_end());
    for (name, count) in [("libsum", 2), ("frontend", 1), ("cli", 1)] {
        let (builds, _) = scheduler.history(name, None, 10).await?;
        if builds.len() != count {
            return Err(Error::internal("another number of builds than there should be")
                .with_context("dependency", name)
                .with_context("builds", builds.len()));
        }
    }
    if builds[0].revision.as_str() != revision {
        return Err(Error::internal("another revision was built").with_context("built", &builds[0].revision));
    }
    println!("\nBuilt after the commit: libsum at {}. Nothing else.", &revision[..12]);
    drop(stop);
    run.await.map_err(|e| Error::internal("the scheduler's task ended early").with_source(e))??;
    store.close().await;
    Ok(())
}

/// Waits until so many builds of a dependency have ended well, for at most two minutes.
async fn until_built(scheduler: &Scheduler, name: &str, count: usize) -> Result<()> {
    let began = SystemClock.monotonic();
    loop {
        let (builds, _) = scheduler.history(name, None, 10).await?;
        if let Some(build) = builds.iter().find(|b| b.phase.is_terminal() && !b.good) {
            let message = build.message.clone().unwrap_or_default();
            return Err(Error::internal("a build did not end well").with_context("says", message));
        }
        let is_linked = scheduler.status(name).await?.state.linked.is_some_and(|l| l.build == builds[0].id);
        if builds.len() == count && is_linked {
            println!("    {name}: built at {}", &builds[0].revision.as_str()[..12]);
            return Ok(());
        }
        if SystemClock.monotonic() > began.plus(Duration::from_secs(120)) {
            let why = scheduler.why_not_building(name).await?;
            return Err(Error::new(
                ErrorKind::TimedOut,
                "a build takes longer than two minutes: look into Jenkins",
            )
            .with_context("why", format_args!("{why:?}")));
        }
        SystemClock.sleep(Duration::from_millis(200)).await;
    }
}

async fn show_projects(scheduler: &Scheduler) -> Result<()> {
    for name in ["website", "tools"] {
        let Some(current) = scheduler.project_status(name).await?.current else { continue };
        println!("\nProject {name}: current project build {}", current.name);
        for slot in current.slots.values() {
            let kind = if matches!(slot.kind, SlotKind::Fresh { .. }) { "fresh  " } else { "carried" };
            let revision = slot.revision.as_ref().map_or("", |r| &r.as_str()[..12]);
            let artifacts: Vec<&str> = slot.artifacts.iter().map(|a| a.name.as_str()).collect();
            println!("    {kind}  {revision}  {}", artifacts.join(" "));
        }
    }
    Ok(())
}
