//! Revisions of job types as folders of this machine.

use super::{
    branch::{Export, JobType, Kinds},
    builder::CheckoutsBuilder,
    folder::{About, Folder, Held, Making, too_much},
    measure::{Most, fault, grown, is_inside},
    room::Bounds,
};
use capomastro_core::{
    Error, ErrorKind, Result,
    command::CommandRunner,
    model::{LaunchKey, Revision},
    secret::Secrets,
    time::{Clock, Monotonic, Random},
};
use futures_util::{
    FutureExt as _,
    future::{Either, select},
};
use std::{
    collections::HashMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

/// How often the size of what is being made is looked at.
const WATCH: Duration = Duration::from_millis(500);
/// From how many branches on those that were not looked at for long are forgotten.
const MANY: usize = 1_000;
/// How often a checkout may disappear between being made and being held.
const TRIES: usize = 5;

/// Revisions of job types, each written into a folder once, for all who need it.
///
/// Several processes may share one folder, and several of these may be cloned from one. A revision that was overwritten
/// and is not at its repository any more stays usable as long as its checkout is here.
///
/// A checkout is durable and read-only, and appears whole or not at all: what a process that was killed left half-done is
/// removed later. One that is in use by a look or a build is never removed, and counts nevertheless: where those in use
/// leave no room for a further one, that is [`Unavailable`](ErrorKind::Unavailable) until a build ends.
///
/// The programs of the version control systems write the checkouts, on this machine, so that they are needed here: `git`,
/// Breezy (`brz` and its Python), Mercurial (`hg` and its Python), `svn`. Credentials reach them as they reach the probes of the same kind.
#[derive(Clone, Debug)]
pub struct Checkouts(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) folder: Folder,
    pub(super) kinds: Kinds,
    pub(super) runner: Arc<dyn CommandRunner>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) most: Most,
    pub(super) bounds: Bounds,
    pub(super) lease: Duration,
    pub(super) fresh: Duration,
    pub(super) timeout: Duration,
    pub(super) makers: Semaphore,
    pub(super) looks: Mutex<HashMap<String, Arc<AsyncMutex<Option<Look>>>>>,
    pub(super) making: Mutex<HashMap<String, std::sync::Weak<AsyncMutex<()>>>>,
}

/// A good look at a branch.
#[derive(Clone, Debug)]
pub(super) struct Look {
    begun: Monotonic,
    revision: Revision,
}

/// One revision of a job type in a folder of this machine. It is there at least as long as this value.
#[derive(Clone, Debug)]
pub struct Checkout {
    held: Arc<Held>,
    pub(super) name: String,
    revision: Revision,
}

/// What a sweep came to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// How many checkouts were removed.
    pub removed: usize,
    /// How many are kept.
    pub kept: usize,
    /// How many bytes these have.
    pub bytes: u64,
}

impl Checkout {
    /// The folder with the branch's files; read-only.
    pub fn dir(&self) -> &Path {
        &self.held.tree
    }

    /// The revision of the job type.
    pub const fn revision(&self) -> &Revision {
        &self.revision
    }

    /// The program at this path of the branch.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if there is none, with what to do.
    pub fn script(&self, path: &str) -> Result<PathBuf> {
        let refuse = |problem: &str| {
            Err(Error::config(format!("the job type's script {problem}"))
                .with_context("script", path.escape_debug())
                .with_context("revision", &self.revision))
        };
        if !is_inside(path) {
            return refuse("is not named by a path inside the branch: write one such as bin/probe");
        }
        let script = self.dir().join(path);
        let Ok(real) = script.canonicalize() else {
            return refuse("is not in the branch: add it there, or correct its path");
        };
        let is_ours = self.dir().canonicalize().is_ok_and(|dir| real.starts_with(dir));
        if !is_ours {
            return refuse("is a link that leads out of the branch: put the script itself there");
        }
        match fs::metadata(&real) {
            Ok(about) if !about.is_file() => refuse("is a folder: name the script in it"),
            Ok(about) if about.permissions().mode() & 0o111 == 0 => {
                refuse("may not be run: make it executable in the branch (chmod +x, and commit that)")
            }
            Ok(_) => Ok(script),
            Err(e) => Err(fault(e, &real)),
        }
    }
}

impl Checkouts {
    /// Sets them up in `folder`, an absolute path on a local disk (locks of network file systems do not do what is needed),
    /// which is made at the first use. `runner` runs the programs of the version control systems; it has to run them on
    /// this machine, with this machine's files.
    pub fn builder(folder: impl Into<PathBuf>, runner: Arc<dyn CommandRunner>) -> CheckoutsBuilder {
        CheckoutsBuilder::new(folder.into(), runner)
    }

    /// The revision that the branch of a job type is at.
    ///
    /// A good answer serves others who ask for the same within the time that [`CheckoutsBuilder::fresh`] says, but nobody
    /// who asks because of something that happened after that look began: `not_before` is how long ago that was.
    ///
    /// Cancellation: leaves nothing behind.
    ///
    /// # Errors
    /// As the probe of the branch's kind; [`InvalidConfig`](ErrorKind::InvalidConfig) if there is no such branch.
    pub async fn latest(
        &self,
        job_type: &JobType,
        not_before: Option<Duration>,
        secrets: &Secrets,
        deadline: Duration,
    ) -> Result<Revision> {
        let latest = self.look(job_type, not_before, secrets, deadline).boxed();
        self.within(deadline, latest, "look at the branch of the job type")
            .await
            .map_err(|e| e.with_operation("look at a job type"))
    }

    async fn look(
        &self,
        job_type: &JobType,
        not_before: Option<Duration>,
        secrets: &Secrets,
        deadline: Duration,
    ) -> Result<Revision> {
        let this = &self.0;
        let key = job_type.source()?.config.to_string();
        let asked = this.clock.monotonic();
        let slot = {
            let mut looks = this.looks.lock().unwrap_or_else(PoisonError::into_inner);
            if looks.len() >= MANY {
                let is_fresh =
                    |look: &Option<Look>| look.as_ref().is_some_and(|l| asked.since(l.begun) <= this.fresh);
                looks.retain(|_, slot| slot.try_lock().map_or(true, |look| is_fresh(&look)));
            }
            Arc::clone(looks.entry(format!("{}{key}", kind(job_type))).or_default())
        };
        let mut slot = slot.lock().await;
        let oldest = asked.minus(not_before.map_or(this.fresh, |age| age.min(this.fresh)));
        if let Some(look) = slot.as_ref().filter(|look| look.begun >= oldest) {
            return Ok(look.revision.clone());
        }
        *slot = None;
        let begun = this.clock.monotonic();
        let seen = this.kinds.look(job_type, secrets, deadline).await?;
        *slot = Some(Look { begun, revision: seen.revision.clone() });
        Ok(seen.revision)
    }

    /// The files of a revision of a job type; written now where they are not here yet.
    ///
    /// Cancellation: what was being written is removed at the next opportunity. `deadline` is for this caller; writing
    /// itself is bounded by [`CheckoutsBuilder::timeout`] too.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if the repository has the revision no more,
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is too large, [`Unavailable`](ErrorKind::Unavailable) if
    /// the repository cannot be reached or those in use leave no room, [`TimedOut`](ErrorKind::TimedOut),
    /// [`StorageFull`](ErrorKind::StorageFull), [`Unsupported`](ErrorKind::Unsupported) without the program.
    pub async fn get(
        &self,
        job_type: &JobType,
        revision: &Revision,
        secrets: &Secrets,
        deadline: Duration,
    ) -> Result<Checkout> {
        let got = self.get_or_make(job_type, revision, secrets).boxed();
        self.within(deadline, got, "check the job type out")
            .await
            .map_err(|e| e.with_operation("check a job type out").with_context("revision", revision))
    }

    async fn get_or_make(
        &self,
        job_type: &JobType,
        revision: &Revision,
        secrets: &Secrets,
    ) -> Result<Checkout> {
        let name = job_type.digest(revision)?;
        for _ in 0..TRIES {
            if let Some(held) = self.hold(&name).await? {
                return Ok(Checkout { held: Arc::new(held), name, revision: revision.clone() });
            }
            let turn = {
                let mut making = self.0.making.lock().unwrap_or_else(PoisonError::into_inner);
                making.retain(|_, turn| turn.strong_count() > 0);
                match making.get(&name).and_then(std::sync::Weak::upgrade) {
                    Some(turn) => turn,
                    None => {
                        let turn = Arc::new(AsyncMutex::new(()));
                        making.insert(name.clone(), Arc::downgrade(&turn));
                        turn
                    }
                }
            };
            let _turn = turn.lock().await;
            // Whoever had the turn before may have made it.
            if self.hold(&name).await?.is_none() {
                self.make(job_type, revision, &name, secrets).await?;
            }
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            "a checkout is removed again as soon as it is made: allow checkouts of job types more room",
        ))
    }

    async fn hold(&self, name: &str) -> Result<Option<Held>> {
        let (folder, name, now) = (self.0.folder.clone(), name.to_owned(), self.0.clock.now());
        blocking(move || folder.hold(&name, now)).await
    }

    async fn make(
        &self,
        job_type: &JobType,
        revision: &Revision,
        name: &str,
        secrets: &Secrets,
    ) -> Result<()> {
        let this = &self.0;
        let _permit = this.makers.acquire().await.map_err(|_| Error::internal("checkouts are closed"))?;
        let making = {
            let (folder, random) = (this.folder.clone(), Arc::clone(&this.random));
            blocking(move || folder.make(|| random.bits())).await?
        };
        let (tree, scratch) = (making.tree(), making.scratch());
        let export =
            Export { runner: &*this.runner, tree: &tree, scratch: &scratch, secrets, deadline: this.timeout };
        let writing = this.kinds.export(job_type, revision, &export).boxed();
        let watched = self.watched(&making, writing).boxed();
        let written = self.within(this.timeout, watched, "write the job type's files").await;
        let (folder, most, keeping) = (this.folder.clone(), this.most, (this.bounds, this.lease));
        let (name, now) = (name.to_owned(), this.clock.now());
        let about = About {
            job_type: job_type.source()?.config.to_string(),
            revision: revision.to_string(),
            bytes: 0,
        };
        blocking(move || {
            let made = written.and_then(|()| folder.finish(&making, &name, about, most, keeping, now));
            if made.is_err() {
                // The error is what counts; what cannot be removed now is removed later.
                drop(Folder::give_up(&making));
            }
            made
        })
        .await
    }

    /// `writing`, which is given up when it has written too much.
    async fn watched(
        &self,
        making: &Making,
        mut writing: futures_util::future::BoxFuture<'_, Result<()>>,
    ) -> Result<()> {
        let most = self.0.most;
        loop {
            match select(writing, self.0.clock.sleep(WATCH)).await {
                Either::Left((written, _)) => return written,
                Either::Right(((), unfinished)) => writing = unfinished,
            }
            let path = making.path.clone();
            // History and what is being unpacked take room beside the files themselves.
            let most_meanwhile =
                Most { bytes: most.bytes.saturating_mul(4), entries: most.entries.saturating_mul(4) };
            if blocking(move || grown(&path, most_meanwhile).map_err(|e| fault(e, &path))).await? {
                return Err(too_much(most));
            }
        }
    }

    /// Where the files of this revision are, whether they are there or not.
    pub(super) fn place(&self, job_type: &JobType, revision: &Revision) -> Result<PathBuf> {
        Ok(self.0.folder.tree(&job_type.digest(revision)?))
    }

    /// Keeps the checkout for the build of this key, until [`release`](Self::release).
    pub(super) async fn lease(&self, key: LaunchKey, checkout: &Checkout) -> Result<()> {
        let (folder, name, now) = (self.0.folder.clone(), checkout.name.clone(), self.0.clock.now());
        blocking(move || folder.lease(key, &name, now)).await
    }

    /// The build of this key has ended.
    pub(super) async fn release(&self, key: LaunchKey) -> Result<()> {
        let folder = self.0.folder.clone();
        blocking(move || folder.release(key)).await
    }

    /// Removes what is beyond the bounds, and what was left half-done. Done by itself whenever a checkout is made.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub async fn sweep(&self) -> Result<Swept> {
        let (folder, keeping, now) =
            (self.0.folder.clone(), (self.0.bounds, self.0.lease), self.0.clock.now());
        let took = blocking(move || folder.sweep(None, keeping, now))
            .await
            .map_err(|e| e.with_operation("sweep checkouts"))?;
        Ok(Swept { removed: took.removed, kept: took.kept, bytes: took.bytes })
    }

    async fn within<T>(
        &self,
        deadline: Duration,
        work: futures_util::future::BoxFuture<'_, Result<T>>,
        what: &str,
    ) -> Result<T> {
        match select(work, self.0.clock.sleep(deadline)).await {
            Either::Left((done, _)) => done,
            Either::Right(_) => Err(Error::new(
                ErrorKind::TimedOut,
                format!("there was not enough time to {what}: see why its server is slow, or allow more"),
            )),
        }
    }
}

/// Kinds whose configurations look the same are different branches.
const fn kind(job_type: &JobType) -> &'static str {
    match job_type {
        JobType::Git(_) => "git",
        JobType::Bzr(_) => "bzr",
        JobType::Hg(_) => "hg",
        JobType::Svn(_) => "svn",
    }
}

/// Does what blocks where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(Error::internal("work on checkouts broke").with_source(e)),
    }
}
