//! A script looks at a source from inside an LXC container, and what it finds drives a build in a container of its own.
//!
//! `cargo run --example lxc-probe` makes a folder of releases. Each look runs a script in a fresh container that sees this
//! machine's programs and that folder, read-only, and nothing else: no network, no other file, no environment. A new
//! release is built, once, in another container. It ends by itself. Needs root and LXC (Debian: `lxc`); elsewhere it says
//! what is missing.

use capomastro_core::{
    Error, ErrorKind, InMemoryStore, Result, Scheduler,
    model::Policy,
    scheduler::DependencySpec,
    time::{Clock, SystemClock},
};
use capomastro_lxc::{Limits, LxcJob, LxcLauncher, LxcRunner, Root};
use capomastro_probes::script::{ScriptProbe, ScriptSource};
use capomastro_process::CommandJob;
use std::{path::Path, sync::Arc, time::Duration};

/// Tells the newest release. Runs inside.
const LOOK: &str = "cd /srv/releases && ls -t | head -n 1";

/// Builds it. Runs inside, too.
const BUILD: &str = r#"set -eu
echo "building $CAPOMASTRO_REVISION; here are: $(ls /srv), interfaces: $(ls /sys/class/net)"
tr a-z A-Z <"/srv/releases/$CAPOMASTRO_REVISION" >"$CAPOMASTRO_ARTIFACTS/notes.txt""#;

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir().map_err(Error::transient)?; // a service names a folder of its own
    let releases = folder.path().join("releases");
    std::fs::create_dir(&releases).map_err(Error::transient)?;

    // --- what containers are like, for looks and for builds
    let lxc = LxcRunner::builder(folder.path().join("lxc"), Root::Host)
        .limits(Limits::default().memory(Some(256 << 20)).processes(64))
        .show(&releases, "/srv/releases")
        .build()?;
    let health = lxc.health().await?;
    if !health.is_well() {
        println!("Containers cannot be run here.\n{health}");
        return if std::env::var_os("CI").is_some() {
            Err(Error::new(ErrorKind::Unsupported, "CI must have LXC that works"))
        } else {
            Ok(())
        };
    }
    let launcher = LxcLauncher::builder(folder.path().join("builds"), &lxc).build()?;
    // --- the scheduler, as ever
    let scheduler = Scheduler::builder(InMemoryStore::new(Arc::new(SystemClock)))
        .probe("inside", Arc::new(ScriptProbe::new(Arc::new(lxc))))
        .launcher("lxc", Arc::new(launcher.clone()))
        .output("lxc", Arc::new(launcher))
        .build()?;
    let source = ScriptSource::token(["/bin/sh", "-c", LOOK]).into_source("inside")?;
    let job = LxcJob::new(CommandJob::script(BUILD)).memory(128 << 20);
    let spec = DependencySpec::new("notes", source, "lxc")?
        .with_policy(Policy::default().with_look_every(Duration::from_secs(1)))
        .with_job(job);
    // --- end

    release(&releases, "v1", "first release\n")?;
    scheduler.apply(&spec).await?;
    until_built(&scheduler, "v1").await?;
    release(&releases, "v2", "second release\n")?;
    until_built(&scheduler, "v2").await?;
    println!("Why is it not building now? {:?}.", scheduler.why_not_building("notes").await?);
    Ok(())
}

fn release(releases: &Path, name: &str, notes: &str) -> Result<()> {
    println!("--- {name} is released.");
    std::fs::write(releases.join(name), notes).map_err(Error::transient)
}

/// Lets the scheduler work until this revision is built, for at most a minute; shows what the build said and left.
async fn until_built(scheduler: &Scheduler, revision: &str) -> Result<()> {
    let until = SystemClock.monotonic().plus(Duration::from_secs(60));
    let linked = loop {
        scheduler.tick().await?;
        let status = scheduler.status("notes").await?;
        if let Some(linked) = status.state.linked.filter(|l| l.revision.as_str() == revision) {
            break linked;
        }
        if SystemClock.monotonic() >= until {
            let why = format!("{revision} is not built after a minute: {:?}", status.why);
            return Err(Error::new(ErrorKind::TimedOut, why));
        }
        SystemClock.sleep(Duration::from_millis(50)).await;
    };
    let log = scheduler.log(linked.build, 0, 4_096).await?;
    let notes = scheduler.artifact(linked.build, "notes.txt", 0, 4_096).await?;
    print!("{}", String::from_utf8_lossy(&log.bytes));
    println!("notes.txt: {}", String::from_utf8_lossy(&notes.bytes).trim());
    Ok(())
}
