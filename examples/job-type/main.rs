//! Two dependencies share a job type: a branch of git that holds the scripts which look and build.
//!
//! `cargo run --example job-type` makes the branch, a file and a folder. One dependency is looked at by a script that prints
//! a revision, the other by one that says true or false; each is built by the script that both share, when its own source
//! has changed. Then the build script is changed in the branch: nothing is built because of that, and the next build runs
//! the new one. It ends by itself.

mod branch;

use branch::Branch;
use capomastro_core::{
    Error, ErrorKind, InMemoryStore, Result, Scheduler,
    model::Policy,
    scheduler::{DependencySpec, TriggerRequest},
    time::{Clock, SystemClock},
};
use capomastro_probes::job_type::{
    Checkouts, JobTypeJob, JobTypeLauncher, JobTypeOutput, JobTypeProbe, JobTypeSource, command_job,
};
use capomastro_process::{CommandLauncher, ProcessRunner};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// Tells what the file is at.
const PROBE: &str = "#!/bin/sh\nset -e\nsha256sum <\"$CAPOMASTRO_SOURCE\" | cut -c1-12\n";

/// True if something in the folder is newer than the last build.
const CHANGED: &str = r#"#!/bin/sh
[ -z "$CAPOMASTRO_LAST_BUILD" ] && exit 0
find "$CAPOMASTRO_SOURCE" -newermt "$CAPOMASTRO_LAST_BUILD" | grep -q .
"#;

/// Builds either.
const BUILD: &str = "#!/bin/sh\necho \"building $CAPOMASTRO_DEPENDENCY at $CAPOMASTRO_REVISION from $1\"\n";
const NEW_BUILD: &str = "#!/bin/sh\necho \"the new script builds $CAPOMASTRO_DEPENDENCY\"\n";

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir().map_err(Error::transient)?; // a service names a folder of its own
    let (file, directory) = (folder.path().join("catalogue.txt"), folder.path().join("pictures"));
    std::fs::create_dir(&directory).map_err(Error::transient)?;
    write(&file, "apples\n")?;
    let branch = Branch::make(&folder.path().join("job-types"))?;
    branch.commit(&[("probe", PROBE), ("changed", CHANGED), ("build", BUILD)])?;

    // --- checkouts of the branch, a probe that runs its probe script, and a launcher that runs its build script
    let runner = Arc::new(ProcessRunner::new());
    let checkouts =
        Checkouts::builder(folder.path().join("checkouts"), Arc::<ProcessRunner>::clone(&runner)).build()?;
    let processes = Arc::new(CommandLauncher::builder(folder.path().join("builds")).build()?);
    let output = JobTypeOutput::new(Arc::<CommandLauncher>::clone(&processes));
    let scheduler = Scheduler::builder(InMemoryStore::new(Arc::new(SystemClock)))
        .probe("job-type", Arc::new(JobTypeProbe::new(checkouts.clone(), runner)))
        .launcher("job-type", Arc::new(JobTypeLauncher::new(checkouts, processes, command_job)))
        .output("job-type", Arc::new(output))
        .build()?;

    // --- what two dependencies say of it
    let catalogue = JobTypeSource::token(branch.job_type());
    let pictures = JobTypeSource::changed(branch.job_type()).probe(["changed"]);
    for (name, source, at) in [("catalogue", catalogue, &file), ("pictures", pictures, &directory)] {
        let at = at.display().to_string();
        let job = JobTypeJob::new(branch.job_type()).build(["build", &at]);
        let spec = DependencySpec::new(name, source.source(at).into_source("job-type")?, "job-type")?;
        let policy = Policy::default().with_look_every(Duration::from_secs(60));
        scheduler.apply(&spec.with_policy(policy).with_job(job)).await?;
    }
    // --- end

    let (stop, stopped) = oneshot::channel::<()>();
    let running = scheduler.clone();
    let run = tokio::spawn(async move { running.run(async { drop(stopped.await) }).await });

    println!("--- Both are built once.");
    look(&scheduler, "catalogue", 1).await?;
    look(&scheduler, "pictures", 1).await?;
    println!("--- The catalogue changes.");
    write(&file, "apples and pears\n")?;
    look(&scheduler, "catalogue", 2).await?;
    look(&scheduler, "pictures", 1).await?;
    println!("--- A picture comes.");
    write(&directory.join("pear.svg"), "<svg/>")?;
    look(&scheduler, "catalogue", 2).await?;
    look(&scheduler, "pictures", 2).await?;
    println!("--- The build script changes, which builds nothing.");
    branch.commit(&[("build", NEW_BUILD)])?;
    look(&scheduler, "catalogue", 2).await?;
    look(&scheduler, "pictures", 2).await?;
    println!("--- The catalogue changes again.");
    write(&file, "pears\n")?;
    let said = look(&scheduler, "catalogue", 3).await?;
    drop(stop);
    run.await.map_err(|e| Error::internal("the scheduler's task ended early").with_source(e))??;
    if said.starts_with("the new script") {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Internal, format!("the new script should have built it, not: {said}")))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(Error::transient)
}

/// Looks at a dependency now, and waits until so many builds of it have ended; what the newest one said.
async fn look(scheduler: &Scheduler, name: &str, builds: usize) -> Result<String> {
    let receipt = scheduler.trigger(name, TriggerRequest::push()).await?;
    scheduler.settled(receipt).await?;
    let until = SystemClock.monotonic().plus(Duration::from_secs(60));
    loop {
        let (history, _) = scheduler.history(name, None, 10).await?;
        if history.len() > builds {
            return Err(Error::new(ErrorKind::Internal, format!("{name} was built too often")));
        }
        if history.len() == builds && history.iter().all(|build| build.phase.is_terminal()) {
            let newest = history.first().ok_or_else(|| Error::internal("no build"))?;
            let log = scheduler.log(newest.id, 0, 4_096).await?;
            let said = String::from_utf8_lossy(&log.bytes).trim().to_owned();
            println!("    {name}, build {}: {said}", newest.number);
            return Ok(said);
        }
        if SystemClock.monotonic() >= until {
            let why = scheduler.why_not_building(name).await?;
            return Err(Error::new(ErrorKind::TimedOut, format!("{name} is not built: {why:?}")));
        }
        SystemClock.sleep(Duration::from_millis(20)).await;
    }
}
