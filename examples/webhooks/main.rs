//! A push that is told at once: a real git repository, a signed hook, a build seconds before anybody would have looked.
//!
//! `cargo run --example webhooks` serves webhooks on this machine, commits to a repository that is looked at once a day,
//! sends what a forge would send after a push, and shows that the commit is built. A hook that is not signed, and one of
//! another branch, build nothing. It ends by itself.

mod forge;

use axum::Router;
use capomastro_core::{
    Error, InMemoryStore, Result, Scheduler,
    model::{Phase, Policy},
    scheduler::DependencySpec,
    secret::Secret,
    time::{Clock, SystemClock},
};
use capomastro_probes::{
    git::{GitProbe, GitSource},
    webhook::{Forge, Webhooks},
};
use capomastro_process::{CommandJob, CommandLauncher};
use std::{sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::oneshot};

/// In real life it comes from where secrets are kept, and the forge has the same.
const SECRET: &str = "a long and random secret";
const DAY: Duration = Duration::from_secs(86_400);

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir().map_err(Error::transient)?;
    let repository = forge::Repository::new(&folder.path().join("repository"))?;
    let first = repository.commit()?;

    let launcher = CommandLauncher::builder(folder.path().join("builds")).build()?;
    let scheduler = Scheduler::builder(InMemoryStore::new(Arc::new(SystemClock)))
        .probe("git", Arc::new(GitProbe::new()))
        .launcher("local", Arc::new(launcher))
        .build()?;
    let source = GitSource::new(repository.url()).branch("main").source("git")?;
    let spec = DependencySpec::new("lib", source, "local")?
        .with_policy(Policy::default().with_look_every(DAY))
        .with_job(CommandJob::script("echo \"building $CAPOMASTRO_REVISION\""));
    scheduler.apply(&spec).await?;

    // The hooks: a server of one's own, into which the handler is mounted, and what hands them on.
    let hooks = Webhooks::builder().endpoint(Forge::Generic, [Secret::new(SECRET)]).build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Error::transient)?;
    let address = listener.local_addr().map_err(Error::transient)?;
    let app = Router::new().nest("/hooks", hooks.routes());
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let (stop, stopped) = oneshot::channel::<()>();
    let running = scheduler.clone();
    let run = tokio::spawn(async move {
        let forwarding = running.clone();
        let (end, ended) = oneshot::channel::<()>();
        let forward =
            tokio::spawn(async move { hooks.forward(&forwarding, async { drop(ended.await) }).await });
        let result = running.run(async { drop(stopped.await) }).await;
        drop(end);
        drop(forward.await);
        result
    });

    built(&scheduler, &first).await?;
    println!("{} is built. The next look of its own accord is tomorrow.", &first[..12]);

    let second = repository.commit()?;
    let forge = forge::Sender::new(address, repository.url());
    expect(forge.push("refs/heads/main", "a secret that is not ours").await?, 401)?;
    println!("A push of {} is told with a wrong signature: refused.", &second[..12]);
    expect(forge.push("refs/heads/other", SECRET).await?, 202)?;
    println!("A push to another branch is told: nobody follows it.");
    expect(forge.push("refs/heads/main", SECRET).await?, 202)?;
    println!("The push is told and signed.");
    built(&scheduler, &second).await?;
    println!("{} is built.", &second[..12]);

    drop(stop);
    run.await.map_err(|e| Error::internal("the scheduler's task ended early").with_source(e))??;
    server.abort();
    Ok(())
}

fn expect(status: u16, expected: u16) -> Result<()> {
    if status == expected {
        return Ok(());
    }
    Err(Error::internal(format!("the answer should be {expected}, and is {status}")))
}

/// Waits, for a minute at the most, until the newest build is a good one of this revision.
async fn built(scheduler: &Scheduler, revision: &str) -> Result<()> {
    for _ in 0..600 {
        let (builds, _) = scheduler.history("lib", None, 1).await?;
        if builds.iter().any(|b| b.revision.as_str() == revision && b.phase == Phase::Succeeded) {
            return Ok(());
        }
        SystemClock.sleep(Duration::from_millis(100)).await;
    }
    Err(Error::internal("the revision was not built within a minute").with_context("revision", revision))
}
