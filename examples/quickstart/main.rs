//! The first look at Capomastro: a real git repository, three dependencies in two projects, real local builds.
//!
//! `cargo run --example quickstart` makes a repository with three branches, builds each once, commits to one of them, and
//! shows that exactly this one is built again while both projects stay complete. It ends by itself.
//! `cargo run --example quickstart -- FOLDER` keeps everything in a folder of yours, to be looked at afterwards; run it
//! again on the same folder, and only the new commit is built.

mod repository;
mod show;

use capomastro_core::{
    Error, ErrorKind, Result, Scheduler,
    events::EventKind,
    model::Policy,
    scheduler::{DependencySpec, TriggerRequest},
    store::{EventFilter, FIRST_EVENT},
    time::{Clock, SystemClock},
};
use capomastro_probes::git::{GitProbe, GitSource};
use capomastro_process::{CommandJob, CommandLauncher, ProcessRunner};
use capomastro_store_sqlite::SqliteStore;
use repository::Repository;
use show::Narrator;
use std::{path::Path, sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// The dependencies, each a branch of the repository, and the projects that have them.
const DEPENDENCIES: [(&str, &[&str]); 3] =
    [("libsum", &["website", "tools"]), ("frontend", &["website"]), ("cli", &["tools"])];

#[tokio::main]
async fn main() -> Result<()> {
    let temporary = tempfile::tempdir().map_err(Error::transient)?;
    let named = std::env::args().nth(1);
    let folder = named.as_ref().map_or_else(|| temporary.path().to_owned(), Into::into);
    println!("Everything is kept in {}.", folder.display());
    if named.is_none() {
        println!("It is removed at the end; to keep it: cargo run --example quickstart -- FOLDER");
    }
    println!("\nTwo projects share a dependency: website has libsum and frontend, tools has libsum and cli.");
    println!("Each dependency is a branch of one git repository, looked at every second.\n");
    let repository = Repository::open(&folder.join("repository"))?;
    for (branch, _) in DEPENDENCIES {
        repository.ensure_branch(branch)?;
    }

    // A store, a probe, a launcher: the three parts of every Capomastro.
    let store = Arc::new(SqliteStore::builder(folder.join("capomastro.sqlite3")).open()?);
    let probe = GitProbe::builder().runner(Arc::new(ProcessRunner::new())).build();
    let launcher = CommandLauncher::builder(folder.join("builds")).build()?;
    let scheduler = Scheduler::builder(Arc::clone(&store))
        .probe("git", Arc::new(probe))
        .launcher("local", Arc::new(launcher.clone()))
        .output("local", Arc::new(launcher))
        .build()?;
    let already = scheduler.events(EventFilter::All, FIRST_EVENT, 1_000).await?.upto;

    for (name, projects) in DEPENDENCIES {
        scheduler.apply(&dependency(name, projects, repository.path())?).await?;
    }

    let (stop, stopped) = oneshot::channel::<()>();
    let running = scheduler.clone();
    let run = tokio::spawn(async move { running.run(async { drop(stopped.await) }).await });
    let mut narrator = Narrator::new(&scheduler, already).await?;

    println!("--- What is there is built once.\n");
    narrator.until(|s| s.iter().all(|d| d.is_settled)).await?;
    narrator.projects().await?;
    println!(
        "\nEach build makes a project build of every project that has the dependency, named by day and number. In it a"
    );
    println!(
        "fresh slot is what was just built; a carried one is the newest good build of a dependency that did not change."
    );

    println!("\n--- Somebody commits to libsum, and nothing else.\n");
    let revision = repository.commit("libsum")?;
    println!("    git: branch libsum is at {} now", &revision[..12]);
    // The next look would see it within a second; a push notification makes it see it now.
    scheduler.trigger("libsum", TriggerRequest::push()).await?;
    narrator
        .until(|s| s.iter().any(|d| d.name == "libsum" && d.linked.as_deref() == Some(&revision)))
        .await?;
    narrator.projects().await?;

    let artifact = show::artifact(&scheduler, "libsum").await?;
    println!("\nThe new artifact of libsum says: {}", artifact.trim());
    println!("Why is frontend not building? {:?}.", scheduler.why_not_building("frontend").await?);

    let built: Vec<&str> = narrator.started_since_commit().collect();
    if built != ["libsum"] {
        return Err(Error::new(
            ErrorKind::Internal,
            format!("exactly libsum should have been built: {built:?}"),
        ));
    }
    println!("Built after the commit: {}. Nothing else.", built.join(", "));
    drop(stop);
    run.await.map_err(|e| Error::internal("the scheduler's task ended early").with_source(e))??;
    store.close().await;
    Ok(())
}

/// A dependency whose build reads one file of its branch at the pinned revision.
fn dependency(name: &str, projects: &[&str], repository: &Path) -> Result<DependencySpec> {
    let job = CommandJob::script(
        r#"set -eu
           text=$(git --git-dir="$REPOSITORY" show "$CAPOMASTRO_REVISION:version.txt")
           echo "building $CAPOMASTRO_DEPENDENCY: $text"
           echo "$CAPOMASTRO_DEPENDENCY $text" > "$CAPOMASTRO_ARTIFACTS/$CAPOMASTRO_DEPENDENCY.txt""#,
    )
    .env("REPOSITORY", repository.join(".git").display().to_string());
    let source = GitSource::new(repository.display().to_string()).branch(name).source("git")?;
    let mut spec = DependencySpec::new(name, source, "local")?
        .with_policy(Policy::default().with_look_every(Duration::from_secs(1)))
        .with_job(job);
    for project in projects {
        spec = spec.in_project(project)?;
    }
    Ok(spec)
}

/// A moment, between two questions to the store.
pub(crate) async fn moment() {
    SystemClock.sleep(Duration::from_millis(20)).await;
}

/// An event in one line, where it is worth one.
pub(crate) fn line(kind: &EventKind) -> Option<String> {
    Some(match kind {
        EventKind::Observed { revision, .. } => format!("sees {}", &revision.as_str()[..12]),
        EventKind::Decided { decision, .. } => format!("is decided on: {decision}"),
        EventKind::BuildSubmitted { .. } => "is building".into(),
        EventKind::BuildEnded { phase, .. } => format!("has {phase}"),
        EventKind::Linked { .. } => "now stands with this build in its projects".into(),
        EventKind::HealthChanged { health, .. } => format!("is {health}"),
        _ => return None,
    })
}
