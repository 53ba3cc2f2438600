//! Several schedulers share the work over one PostgreSQL database; one is killed in the middle of it, and nothing is lost.
//!
//! `cargo run --example several-schedulers` starts a private server of the PostgreSQL that is installed, three schedulers as
//! processes of their own, and ends by itself. `cargo run --example several-schedulers -- postgres://user@host/database`
//! uses a server of yours, with a new schema in it.

mod scheduler;

use capomastro_core::{
    Error, ErrorKind, Result, Scheduler,
    model::{Policy, Source},
    scheduler::{DependencySpec, TriggerRequest},
    time::{Clock, Random, SystemClock, SystemRandom},
};
use capomastro_process::CommandJob;
use capomastro_tests::postgres::Cluster;
use scheduler::{Branch, Place};
use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

const DEPENDENCIES: [&str; 9] =
    ["libsum", "libmax", "libsort", "parser", "lexer", "frontend", "backend", "cli", "docs"];

/// How long it may all take at the most.
const PATIENCE: Duration = Duration::from_secs(100);

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((name, place)) = Place::from_arguments(&arguments) {
        return scheduler::run(&name, &place).await;
    }
    let folder = tempfile::tempdir().map_err(Error::transient)?;
    // A private server, where no other one is named; it ends with this value.
    let private = if arguments.is_empty() { Cluster::start() } else { None };
    let Some(url) = arguments.into_iter().next().or_else(|| private.as_ref().map(Cluster::create_database))
    else {
        println!("Give the URL of a PostgreSQL database, or install PostgreSQL.");
        return Ok(());
    };
    let schema = format!("example_{:08x}", SystemRandom.bits() >> 96);
    let place = Place { url, schema, folder: folder.path().to_owned() };

    println!("Nine dependencies in one project; three schedulers over one database.\n");
    let handle = scheduler::build("visitor", &place).await?;
    for name in DEPENDENCIES {
        write(&place.branch(name), "r1")?;
        handle.apply(&dependency(name, &place)?).await?;
    }
    let mut processes = Vec::new();
    for name in ["one", "two", "three"] {
        processes.push(Process::start(name, &place)?);
    }
    until_all_stand_at(&handle, "r1").await?;
    println!("\nAll are built. Now every source changes, and the changes are pushed.\n");

    for name in DEPENDENCIES {
        write(&place.branch(name), "r2")?;
        // Stored by this process; a hint over the database wakes one of the others at once.
        handle.trigger(name, TriggerRequest::push()).await?;
    }
    until(async || Ok(built(&place).iter().any(|line| line.ends_with("r2")))).await?;
    let killed = processes.remove(1);
    println!("  {} is killed while builds run", killed.name);
    killed.kill();
    until_all_stand_at(&handle, "r2").await?;

    let project = handle.project_status("everything").await?;
    let current = project.current.ok_or_else(|| Error::internal("a complete project has a current build"))?;
    println!("\nThe project stands complete as {}, and this was built, each change once:", current.name);
    let mut lines = built(&place);
    lines.sort_unstable();
    for line in &lines {
        println!("  {line}");
    }
    let expected = DEPENDENCIES.len() * 2;
    lines.dedup();
    if lines.len() != expected || built(&place).len() != expected {
        return Err(Error::new(ErrorKind::Internal, "each change should have been built once"));
    }
    processes.into_iter().try_for_each(Process::stop)
}

/// A dependency whose source is a file, and whose build copies it.
fn dependency(name: &str, place: &Place) -> Result<DependencySpec> {
    let source = Source::new("branch", Branch { file: place.branch(name) })?;
    let job = CommandJob::script(
        r#"set -eu
           echo "$CAPOMASTRO_DEPENDENCY $CAPOMASTRO_REVISION" >> "$BUILT"
           sleep 1
           echo "$CAPOMASTRO_REVISION" > "$CAPOMASTRO_ARTIFACTS/version.txt""#,
    )
    .env("BUILT", place.built().display().to_string());
    DependencySpec::new(name, source, "local")?
        .with_policy(Policy::default().with_look_every(Duration::from_secs(3_600)))
        .with_job(job)
        .in_project("everything")
}

fn write(file: &Path, revision: &str) -> Result<()> {
    std::fs::write(file, revision).map_err(Error::transient)
}

/// What the builds wrote down, a line each.
fn built(place: &Place) -> Vec<String> {
    std::fs::read_to_string(place.built()).unwrap_or_default().lines().map(ToOwned::to_owned).collect()
}

async fn until_all_stand_at(handle: &Scheduler, revision: &str) -> Result<()> {
    until(async || {
        for name in DEPENDENCIES {
            let linked = handle.status(name).await?.state.linked;
            if linked.is_none_or(|linked| linked.revision.as_str() != revision) {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await
}

async fn until(mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let began = SystemClock.monotonic();
    while !holds().await? {
        if SystemClock.monotonic().since(began) > PATIENCE {
            return Err(Error::new(
                ErrorKind::TimedOut,
                "this takes too long: look at what the schedulers said",
            ));
        }
        SystemClock.sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// A scheduler in a process of its own.
struct Process {
    name: &'static str,
    child: Child,
}

impl Process {
    fn start(name: &'static str, place: &Place) -> Result<Self> {
        let this = std::env::current_exe().map_err(Error::transient)?;
        let child = Command::new(this)
            .args(place.arguments(name))
            // It runs until this end of the pipe is closed.
            .stdin(Stdio::piped())
            .spawn()
            .map_err(Error::transient)?;
        Ok(Self { name, child })
    }

    /// Ends it as a power cut would.
    fn kill(mut self) {
        self.child.kill().and_then(|()| self.child.wait()).map(drop).unwrap_or_default();
    }

    /// Lets it finish what it has begun.
    fn stop(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait().map_err(Error::transient)?;
        println!("{} stops: {status}", self.name);
        if status.success() {
            Ok(())
        } else {
            Err(Error::internal(format!("{} failed: {status}", self.name)))
        }
    }
}
