//! A probe of one's own: the revision of a folder is the name of its newest entry.
//!
//! `cargo run --example custom-probe` puts files into a folder and shows what is seen.

use capomastro_core::{
    Error, InMemoryStore, Result, Scheduler,
    model::{Policy, Source},
    probe::{Ask, Probed, RevisionProbe, probe_fn},
    scheduler::DependencySpec,
    time::SystemClock,
};
use capomastro_testkit::ControllableLauncher;
use std::{path::PathBuf, sync::Arc};

// --- the probe: its configuration and what it does
#[derive(serde::Serialize, serde::Deserialize)]
struct Newest {
    folder: PathBuf,
}

fn newest_file() -> Arc<dyn RevisionProbe> {
    probe_fn(|source: Newest, _ask: Ask| async move {
        let entries = std::fs::read_dir(&source.folder).map_err(Error::transient)?;
        let newest = entries.flatten().map(|e| e.file_name()).max();
        newest.map_or(Ok(Probed::NotFound), |n| Probed::revision(n.to_string_lossy()))
    })
}
// --- end

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir().map_err(Error::transient)?;
    let scheduler = Scheduler::builder(InMemoryStore::new(Arc::new(SystemClock)))
        .probe("newest", newest_file())
        .launcher("fake", Arc::new(ControllableLauncher::auto_succeed()))
        .build()?;
    let source = Source::new("newest", Newest { folder: folder.path().into() })?;
    let spec = DependencySpec::new("drops", source, "fake")?.with_policy(Policy::default());
    std::fs::write(folder.path().join("release-1"), "").map_err(Error::transient)?;
    scheduler.ensure(&spec).await?;
    scheduler.tick().await?;
    println!("{:?}", scheduler.status("drops").await?.why);

    std::fs::write(folder.path().join("release-2"), "").map_err(Error::transient)?;
    let preview = scheduler.preview("drops").await?;
    println!("now at {:?}; a look would decide {:?}", preview.observed, preview.decisions);
    Ok(())
}
