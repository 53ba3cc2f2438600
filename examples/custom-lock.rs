//! A dependency lock of one's own: who holds what stands in a file, where other programs can hold a dependency too.
//!
//! `cargo run --example custom-lock` lets a nightly job hold a dependency: it is built once the job is done. `cargo test --example custom-lock` shows that it is what a lock must be.

use capomastro_core::{
    Error, ErrorKind, InMemoryStore, Result, Scheduler, async_trait,
    lock::{Acquired, DependencyLock, Lease, LockAsk, lease_lost},
    model::{BuildId, DependencyId},
    scheduler::DependencySpec,
    time::{Clock as _, SystemRandom},
};
use capomastro_testkit::{ControllableLauncher, ManualClock, ScriptedProbe};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

// --- the lock
/// Locks in a folder that everyone who shares them can write. They hold until they are given back.
#[derive(Clone, Debug)]
struct FileLock {
    folder: PathBuf,
}

type Entries = BTreeMap<DependencyId, Entry>;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Entry {
    /// The dependency's name, for people who look into the file.
    name: String,
    owner: Option<BuildId>,
    /// The highest that was given out; never goes back.
    fence: u64,
}

impl Entry {
    fn is(&self, lease: &Lease) -> bool {
        self.owner == Some(lease.owner) && self.fence == lease.fence
    }

    fn grant(&mut self, ask: &LockAsk) -> Lease {
        self.name = ask.name.to_string();
        self.owner = Some(ask.owner);
        self.fence = self.fence.max(ask.highest_fence) + 1;
        self.lease(ask)
    }

    fn lease(&self, ask: &LockAsk) -> Lease {
        let (dependency, owner, fence) = (ask.dependency, ask.owner, self.fence);
        Lease { dependency, owner, fence, expires_in: None, token: None }
    }
}

impl FileLock {
    /// Changes one entry, alone among all processes. What was begun ends even if nobody waits for it any more.
    async fn change<T, F>(&self, dependency: DependencyId, change: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Entry) -> T + Send + 'static,
    {
        let folder = self.folder.clone();
        let changed = tokio::task::spawn_blocking(move || {
            let failed = |e: io::Error| {
                let text = "the folder of locks cannot be used: see that it is there and can be written";
                Error::new(ErrorKind::Unavailable, text)
                    .with_context("folder", folder.display())
                    .with_source(e)
            };
            let guard = File::create(folder.join("guard")).map_err(failed)?;
            guard.lock().map_err(failed)?;
            let mut entries = read(&folder).map_err(failed)?;
            let answer = change(entries.entry(dependency).or_default());
            write(&folder, &entries).map_err(failed)?;
            Ok(answer)
        });
        changed.await.map_err(|e| Error::internal("the file of locks was left alone").with_source(e))?
    }
}

fn read(folder: &Path) -> io::Result<Entries> {
    match std::fs::read(folder.join("locks.json")) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Entries::new()),
        Err(e) => Err(e),
    }
}

/// All of it or nothing, whatever happens meanwhile.
fn write(folder: &Path, entries: &Entries) -> io::Result<()> {
    let draft = folder.join("locks.new");
    std::fs::write(&draft, serde_json::to_vec_pretty(entries)?)?;
    File::open(&draft)?.sync_all()?;
    std::fs::rename(&draft, folder.join("locks.json"))?;
    File::open(folder)?.sync_all()
}

#[async_trait]
impl DependencyLock for FileLock {
    async fn acquire(&self, ask: &LockAsk) -> Result<Acquired> {
        let asked = ask.clone();
        let acquire = move |entry: &mut Entry| match entry.owner {
            // A fence that the store has passed would be refused there, so the lease is granted anew.
            Some(owner) if owner == asked.owner && entry.fence > asked.highest_fence => {
                Acquired::Granted(entry.lease(&asked))
            }
            Some(owner) if owner != asked.owner => Acquired::Held { by: format!("build {owner}") },
            _ => Acquired::Granted(entry.grant(&asked)),
        };
        self.change(ask.dependency, acquire).await
    }

    async fn renew(&self, leases: &[Lease]) -> Vec<Result<Lease>> {
        let mut renewed = Vec::new();
        for lease in leases {
            let same = lease.clone();
            let is_held = self.change(lease.dependency, move |entry| entry.is(&same)).await;
            renewed
                .push(is_held.and_then(|held| if held { Ok(lease.clone()) } else { Err(lease_lost(lease)) }));
        }
        renewed
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        let given = lease.clone();
        let release = move |entry: &mut Entry| {
            if entry.is(&given) {
                entry.owner = None;
            }
        };
        self.change(lease.dependency, release).await
    }

    async fn take_over(&self, ask: &LockAsk, _reason: &str) -> Result<Lease> {
        let asked = ask.clone();
        self.change(ask.dependency, move |entry| entry.grant(&asked)).await
    }
}
// --- end

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir().map_err(Error::transient)?;
    let (lock, clock) = (FileLock { folder: folder.path().into() }, ManualClock::new());
    let (probe, launcher) = (ScriptedProbe::new(), ControllableLauncher::auto_succeed());
    probe.set("libfoo", "r1");
    let scheduler = Scheduler::builder(InMemoryStore::new(Arc::new(clock.clone())))
        .clock(Arc::new(clock.clone()))
        .probe("scripted", Arc::new(probe))
        .launcher("fake", Arc::new(launcher.clone()))
        .lock(Arc::new(lock.clone()))
        .build()?;
    let spec = DependencySpec::new("libfoo", ScriptedProbe::source("libfoo"), "fake")?;
    let dependency = scheduler.ensure(&spec).await?;
    let pass = async |seconds: u32| -> Result<()> {
        for _ in 0..seconds {
            clock.advance(Duration::from_secs(1));
            while scheduler.tick().await?.taken > 0 {}
        }
        Ok(())
    };

    let night = BuildId::draw(clock.now(), &SystemRandom);
    let ask = LockAsk::new(dependency, "libfoo".parse()?, night, None, 0);
    let Acquired::Granted(lease) = lock.acquire(&ask).await? else { unreachable!("nobody else is here yet") };
    println!(
        "the nightly job has the lock: {}",
        std::fs::read_to_string(folder.path().join("locks.json")).map_err(Error::transient)?
    );
    pass(60).await?;
    assert_eq!(launcher.launched().len(), 0, "nothing is built meanwhile");
    println!("why libfoo is not built: {:?}", scheduler.why_not_building("libfoo").await?);

    lock.release(&lease).await?;
    pass(600).await?;
    assert_eq!(launcher.launched().len(), 1, "and once it is free, it is");
    println!("the nightly job is done; built: {:?}", launcher.launched()[0].revision);
    Ok(())
}

// --- the suite: a harness that makes locks, and one line
#[cfg(test)]
mod tests {
    use super::FileLock;
    use capomastro_core::{async_trait, lock::DependencyLock};
    use capomastro_testkit::conformance::{
        Time,
        lock::{Leases, LockHarness},
    };
    use std::sync::Arc;

    #[derive(Debug)]
    struct Folder(tempfile::TempDir);

    #[async_trait]
    impl LockHarness for Folder {
        fn time(&self) -> Time {
            Time::Machine
        }

        fn leases(&self) -> Leases {
            Leases::UntilReleased
        }

        async fn open(&self) -> Arc<dyn DependencyLock> {
            Arc::new(FileLock { folder: self.0.path().join("locks") })
        }

        async fn cut(&self, cut: bool) -> bool {
            let (there, away) = (self.0.path().join("locks"), self.0.path().join("away"));
            let (from, to) = if cut { (there, away) } else { (away, there) };
            std::fs::rename(from, to).expect("the folder of locks is moved");
            true
        }
    }

    fn folder() -> Folder {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("locks")).expect("a folder of locks");
        Folder(folder)
    }

    capomastro_testkit::dependency_lock_conformance!(folder());
}
// --- end
