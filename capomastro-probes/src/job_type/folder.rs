//! The folder of checkouts, which several processes share. Blocks.
//!
//! ```text
//! checkouts/<digest>/about.json   which branch and revision, how many bytes
//! checkouts/<digest>/tree/        the files
//! making/<random>/                one that is being made, or removed
//! leases/<launch key>             the digest of the checkout that a build works with
//! ```
//!
//! Whoever uses a checkout holds a shared lock (`flock`) on its folder, whoever makes one an exclusive one on the folder that
//! it becomes, and only what can be locked exclusively is removed. The kernel frees the lock of a process that is killed.
//! A checkout appears whole, by a rename, and disappears by one. Builds outlive processes, so that they are written down,
//! as leases; a lease is made while the checkout is held.

use super::{
    measure::{Most, fault, remove, settle},
    room::{Bounds, Idle, before, surplus},
};
use capomastro_core::{Error, ErrorKind, Result, model::LaunchKey, time::Timestamp};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// More than any of the small files has.
const MAX_FILE: u64 = 8_192;
/// How often somebody else may be in the way before that is a fault.
const TRIES: usize = 20;

/// The folder.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    root: PathBuf,
}

/// What is known of a checkout.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct About {
    /// For people: the branch.
    pub(super) job_type: String,
    /// For people: its revision.
    pub(super) revision: String,
    pub(super) bytes: u64,
}

/// A checkout that is not removed as long as this lives.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) tree: PathBuf,
    _lock: File,
}

/// A checkout that is being made. Whoever drops it leaves it to be removed.
#[derive(Debug)]
pub(super) struct Making {
    pub(super) path: PathBuf,
    lock: File,
}

impl Making {
    /// Where the files go.
    pub(super) fn tree(&self) -> PathBuf {
        self.path.join("tree")
    }

    /// A folder for what is needed meanwhile.
    pub(super) fn scratch(&self) -> PathBuf {
        self.path.join("scratch")
    }
}

/// What a sweep left and took.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Took {
    pub(super) removed: usize,
    pub(super) kept: usize,
    pub(super) bytes: u64,
    pub(super) has_room: bool,
}

impl Folder {
    pub(super) const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn checkouts(&self) -> PathBuf {
        self.root.join("checkouts")
    }

    fn making(&self) -> PathBuf {
        self.root.join("making")
    }

    fn leases(&self) -> PathBuf {
        self.root.join("leases")
    }

    /// Where the files of a checkout are, whether they are there or not.
    pub(super) fn tree(&self, name: &str) -> PathBuf {
        self.checkouts().join(name).join("tree")
    }

    fn set_up(&self) -> Result<()> {
        // What is in a branch is nobody else's to read; who wants it otherwise makes the folder before.
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700).create(&self.root).map_err(|e| fault(e, &self.root))?;
        for folder in [self.checkouts(), self.making(), self.leases()] {
            DirBuilder::new().recursive(true).mode(0o755).create(&folder).map_err(|e| fault(e, &folder))?;
        }
        Ok(())
    }

    /// The checkout of this name, if it is there.
    pub(super) fn hold(&self, name: &str, now: Timestamp) -> Result<Option<Held>> {
        let path = self.checkouts().join(name);
        for _ in 0..TRIES {
            let lock = match File::open(&path) {
                Ok(lock) => lock,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(fault(e, &path)),
            };
            // Held exclusively only for as long as a rename takes.
            lock.lock_shared().map_err(|e| fault(e, &path))?;
            if is_at(&lock, &path)? {
                // Only who owns it can say when it was used; for the others it ages.
                drop(lock.set_modified(SystemTime::from(now)));
                return Ok(Some(Held { tree: path.join("tree"), _lock: lock }));
            }
        }
        Err(busy(&path))
    }

    /// A place to make a checkout in.
    pub(super) fn make(&self, mut random: impl FnMut() -> u128) -> Result<Making> {
        self.set_up()?;
        for _ in 0..TRIES {
            let path = self.making().join(format!("{:032x}", random()));
            match DirBuilder::new().mode(0o755).create(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(fault(e, &path)),
            }
            // Somebody who cleans up may have been faster.
            let lock = match File::open(&path) {
                Ok(lock) => lock,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(fault(e, &path)),
            };
            if lock.try_lock().is_err() || !is_at(&lock, &path)? {
                continue;
            }
            let making = Making { path, lock };
            for (folder, mode) in [(making.tree(), 0o755), (making.scratch(), 0o700)] {
                DirBuilder::new().mode(mode).create(&folder).map_err(|e| fault(e, &folder))?;
            }
            return Ok(making);
        }
        Err(busy(&self.making()))
    }

    /// What was made becomes the checkout of this name; if there is one by now, that one stays.
    ///
    /// Errors: [`Unavailable`](ErrorKind::Unavailable) if those in use leave no room for it.
    pub(super) fn finish(
        &self,
        making: &Making,
        name: &str,
        mut about: About,
        most: Most,
        keeping: (Bounds, Duration),
        now: Timestamp,
    ) -> Result<()> {
        let Making { path, lock } = making;
        remove(&making.scratch()).map_err(|e| fault(e, path))?;
        if super::measure::grown(&making.tree(), most).map_err(|e| fault(e, path))? {
            return Err(too_much(most));
        }
        about.bytes = settle(&making.tree())?;
        let file = path.join("about.json");
        let text = serde_json::to_vec(&about).map_err(|e| Error::internal("no JSON").with_source(e))?;
        fs::write(&file, text)
            .and_then(|()| File::open(&file)?.sync_all())
            .and_then(|()| lock.sync_all())
            .map_err(|e| fault(e, &file))?;
        let took = self.sweep(Some(about.bytes), keeping, now)?;
        if !took.has_room {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "checkouts of job types that are in use leave no room for another one: wait for builds to end, or allow more",
            )
            .with_context("in_use", took.kept));
        }
        let place = self.checkouts().join(name);
        match fs::rename(path, &place) {
            Ok(()) => {}
            // Somebody has made the same one meanwhile.
            Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                return remove(path).map_err(|e| fault(e, path));
            }
            Err(e) => return Err(fault(e, &place)),
        }
        let all = self.checkouts();
        File::open(&all).and_then(|folder| folder.sync_all()).map_err(|e| fault(e, &all))
    }

    /// Gives up what was being made.
    pub(super) fn give_up(making: &Making) -> Result<()> {
        remove(&making.path).map_err(|e| fault(e, &making.path))
    }

    /// Writes down that the build of this key works with the checkout, which the caller holds.
    pub(super) fn lease(&self, key: LaunchKey, name: &str, now: Timestamp) -> Result<()> {
        let path = self.leases().join(key.to_string());
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(name.as_bytes())?;
            file.set_modified(now.into())?;
            file.sync_all()?;
            File::open(self.leases())?.sync_all()
        };
        write().map_err(|e| fault(e, &path))
    }

    /// The build of this key works with its checkout no more.
    pub(super) fn release(&self, key: LaunchKey) -> Result<()> {
        let path = self.leases().join(key.to_string());
        match fs::remove_file(&path) {
            Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound) => Err(fault(e, &path)),
            _ => Ok(()),
        }
    }

    /// Removes what nobody is making any more, leases that are too old, and checkouts beyond the bounds.
    pub(super) fn sweep(
        &self,
        coming: Option<u64>,
        (bounds, lease): (Bounds, Duration),
        now: Timestamp,
    ) -> Result<Took> {
        let mut took = Took::default();
        for (path, lock) in self.locked(&self.making())? {
            remove(&path).map_err(|e| fault(e, &path))?;
            drop(lock);
        }
        let all = names(&self.checkouts())?.len();
        let locked = self.locked(&self.checkouts())?;
        // Read when the locks are ours: who holds none by then makes no lease.
        let leased = self.leased(lease, now)?;
        let mut idle = Vec::new();
        let mut held = 0;
        for (path, lock) in locked {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let about = read(&path.join("about.json")).and_then(|t| serde_json::from_slice::<About>(&t).ok());
            let last_used = lock.metadata().and_then(|m| m.modified()).map_err(|e| fault(e, &path))?;
            match about {
                _ if leased.contains(&name) => held += 1,
                Some(about) => {
                    idle.push(Idle { what: (path, lock), bytes: about.bytes, last_used: last_used.into() });
                }
                // Nobody made it whole.
                None => self.take_away(&path, lock, &mut took)?,
            }
        }
        let in_use = all.saturating_sub(idle.len() + took.removed);
        let held_bytes = self.bytes_besides(&idle)?;
        let kept_bytes: u64 = idle.iter().map(|i| i.bytes).sum::<u64>() + held_bytes;
        let sizes: Vec<(PathBuf, u64)> = idle.iter().map(|i| (i.what.0.clone(), i.bytes)).collect();
        let (gone, has_room) = surplus(idle, (in_use, held_bytes), coming, bounds, now);
        took.bytes = kept_bytes;
        for (path, lock) in gone {
            took.bytes -= sizes.iter().find(|(p, _)| *p == path).map_or(0, |(_, bytes)| *bytes);
            self.take_away(&path, lock, &mut took)?;
        }
        tracing::debug!(held, removed = took.removed, "swept the checkouts of job types");
        took.kept = all.saturating_sub(took.removed);
        took.has_room = has_room;
        Ok(took)
    }

    /// How many bytes the checkouts have that are not among these.
    fn bytes_besides(&self, idle: &[Idle<(PathBuf, File)>]) -> Result<u64> {
        let idle: HashSet<&Path> = idle.iter().map(|i| i.what.0.as_path()).collect();
        let mut bytes = 0_u64;
        for path in names(&self.checkouts())? {
            if idle.contains(path.as_path()) {
                continue;
            }
            let about = read(&path.join("about.json")).and_then(|t| serde_json::from_slice::<About>(&t).ok());
            bytes = bytes.saturating_add(about.map_or(0, |a| a.bytes));
        }
        Ok(bytes)
    }

    fn take_away(&self, path: &Path, lock: File, took: &mut Took) -> Result<()> {
        let name = path.file_name().unwrap_or_default();
        // Under a name that nobody opens; the lock goes along until it is empty.
        let mut away = self.making().join(name).into_os_string();
        away.push(format!(".{}", lock.metadata().map_err(|e| fault(e, path))?.ino()));
        let away = PathBuf::from(away);
        fs::rename(path, &away).map_err(|e| fault(e, path))?;
        took.removed += 1;
        remove(&away).map_err(|e| fault(e, &away))?;
        drop(lock);
        Ok(())
    }

    /// The folders in `folder` that nobody holds, locked.
    fn locked(&self, folder: &Path) -> Result<Vec<(PathBuf, File)>> {
        let mut locked = Vec::new();
        for path in names(folder)? {
            let Ok(lock) = File::open(&path) else { continue };
            match lock.try_lock() {
                Ok(()) if is_at(&lock, &path)? => locked.push((path, lock)),
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(e)) => return Err(fault(e, &path)),
            }
        }
        Ok(locked)
    }

    /// The names of checkouts that builds work with. Leases of this age are no more.
    fn leased(&self, lease: Duration, now: Timestamp) -> Result<HashSet<String>> {
        let mut leased = HashSet::new();
        for path in names(&self.leases())? {
            let Ok(about) = fs::metadata(&path) else { continue };
            let made: Timestamp = about.modified().map_err(|e| fault(e, &path))?.into();
            if before(now, lease).is_some_and(|oldest| made < oldest) {
                drop(fs::remove_file(&path));
            } else if let Some(name) = read(&path) {
                leased.insert(String::from_utf8_lossy(&name).into_owned());
            }
        }
        Ok(leased)
    }
}

/// Whether the open folder is the one at the path.
fn is_at(open: &File, path: &Path) -> Result<bool> {
    let own = open.metadata().map_err(|e| fault(e, path))?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((own.dev(), own.ino()) == (there.dev(), there.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(fault(e, path)),
    }
}

/// What is in a folder, which need not be there.
fn names(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(fault(e, folder)),
    };
    entries.map(|entry| entry.map(|e| e.path()).map_err(|e| fault(e, folder))).collect()
}

/// A small file, if it is there and small.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_FILE + 1).read_to_end(&mut bytes).ok()?;
    Some(bytes).filter(|b| b.len() as u64 <= MAX_FILE)
}

pub(super) fn too_much(most: Most) -> Error {
    Error::config("the branch of the job type is too large: keep only scripts in it, or allow checkouts more")
        .with_context("max_bytes", most.bytes)
        .with_context("max_files", most.entries)
}

fn busy(path: &Path) -> Error {
    Error::new(ErrorKind::Unavailable, "others keep changing the folder of checkouts: try again")
        .with_context("path", path.display())
}
