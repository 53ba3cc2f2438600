//! The runner's folder on this machine, and what is left in it by runners that died.
//!
//! ```text
//! <state>/owners/<id>      locked as long as the runner of that id lives
//!         runs/<name>/     one container: its configuration, its root, what it wrote
//!         roots/<id>-<n>/  a root that containers of the runner of that id share
//!         addresses/<ip>   locked as long as a container has that address
//!         lxc/             what LXC keeps; empty
//! ```

use crate::{cgroups, skeleton::Skeletons};
use capomastro_core::{Error, ErrorKind, Result, time::Random};
use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// What the names of our containers start with.
const PREFIX: &str = "capo-";

/// A runner, as its folder knows it.
#[derive(Debug)]
pub(crate) struct Owner {
    state: PathBuf,
    id: String,
    count: AtomicU64,
    pub(crate) skeletons: Skeletons,
    _held: File,
}

/// One container's folder.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
}

impl Owner {
    /// Makes the folder if need be, and an id that no living runner has.
    pub(crate) fn open(state: &Path, random: &dyn Random) -> Result<Self> {
        let failed = |e: io::Error| on_disk(state, e);
        for folder in ["", "owners", "runs", "roots", "lxc", "addresses"] {
            // A container whose root is nobody here must get through to its root.
            fs::DirBuilder::new().recursive(true).mode(0o711).create(state.join(folder)).map_err(failed)?;
        }
        loop {
            let id = format!("{:012x}", random.bits() & 0xffff_ffff_ffff);
            let path = state.join("owners").join(&id);
            let file = match open_new(&path) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(failed(e)),
            };
            // Somebody who tidies up may have been faster than the lock.
            let is_ours = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
                && fs::metadata(&path).is_ok_and(|there| {
                    file.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (there.dev(), there.ino()))
                });
            if is_ours {
                let skeletons = Skeletons::new(state.join("roots"), format!("{id}-"));
                let count = AtomicU64::new(0);
                return Ok(Self { state: state.to_owned(), id, count, skeletons, _held: file });
            }
        }
    }

    /// A folder for one more container.
    pub(crate) fn run(&self) -> Result<Run> {
        let name = format!("{PREFIX}{}-{}", self.id, self.count.fetch_add(1, Ordering::Relaxed));
        let folder = self.state.join("runs").join(&name);
        fs::DirBuilder::new().mode(0o711).create(&folder).map_err(|e| on_disk(&folder, e))?;
        Ok(Run { name, folder })
    }

    /// Where LXC is told to keep things.
    pub(crate) fn lxc(&self) -> PathBuf {
        self.state.join("lxc")
    }

    /// Tidies up behind runners that have died: kills their containers, removes their folders and control groups. How
    /// many containers are gone, and how many are not yet.
    pub(crate) fn sweep(&self) -> Result<(usize, usize)> {
        let (mut gone, mut left) = (0, 0);
        let owners = fs::read_dir(self.state.join("owners")).map_err(|e| on_disk(&self.state, e))?;
        for owner in owners.flatten() {
            let Some(id) = owner.file_name().to_str().filter(|id| *id != self.id).map(str::to_owned) else {
                continue;
            };
            let Ok(file) = File::open(owner.path()) else { continue };
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            let mut all = true;
            for run in self.runs_of(&id)? {
                if run.clear() {
                    gone += 1;
                } else {
                    all = false;
                    left += 1;
                }
            }
            if all {
                for root in self.named("roots", &format!("{id}-"))? {
                    all &= root.remove();
                }
            }
            if all && let Err(error) = fs::remove_file(owner.path()) {
                tracing::debug!(%error, "a dead runner's file is gone already");
            }
        }
        Ok((gone, left))
    }

    fn runs_of(&self, id: &str) -> Result<Vec<Run>> {
        self.named("runs", &format!("{PREFIX}{id}-"))
    }

    /// The folders in one of ours whose names begin so.
    fn named(&self, place: &str, prefix: &str) -> Result<Vec<Run>> {
        let place = self.state.join(place);
        let found = fs::read_dir(&place).map_err(|e| on_disk(&place, e))?;
        Ok(found
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().to_str()?.to_owned();
                name.starts_with(prefix).then(|| Run { name, folder: entry.path() })
            })
            .collect())
    }
}

/// An owner that goes leaves nothing behind; its containers have ended by then, or are tidied up by the next one.
impl Drop for Owner {
    fn drop(&mut self) {
        if self.runs_of(&self.id).is_ok_and(|runs| runs.is_empty())
            && let Err(error) = fs::remove_file(self.state.join("owners").join(&self.id))
        {
            tracing::debug!(%error, "a runner's file is gone already");
        }
    }
}

impl Run {
    /// Ends what still runs of the container and removes its folder; whether all is gone.
    pub(crate) fn clear(&self) -> bool {
        if !cgroups::clear(&self.name) {
            return false;
        }
        self.remove()
    }

    /// Removes the folder of a container that has ended.
    pub(crate) fn remove(&self) -> bool {
        // What is shown in a container must never be taken for its folder's own.
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        if self.folder.to_str().is_none_or(|folder| mounts.contains(&format!(" {folder}"))) {
            tracing::warn!(container = %self.name, "a container's folder has mounts and is not removed");
            return false;
        }
        match fs::remove_dir_all(&self.folder) {
            Ok(()) => true,
            Err(e) if e.kind() == io::ErrorKind::NotFound => true,
            Err(error) => {
                tracing::warn!(%error, container = %self.name, "a container's folder cannot be removed");
                false
            }
        }
    }
}

fn open_new(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

pub(crate) fn on_disk(path: &Path, e: io::Error) -> Error {
    let kind = match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::StorageFull,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, "the state folder of containers cannot be used: see that it is writable and not full")
        .with_context("path", path.display())
        .with_source(e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use capomastro_core::time::SystemRandom;

    #[test]
    fn what_a_dead_runner_left_is_removed_and_nothing_else() {
        let state = tempfile::TempDir::new().unwrap();
        let dead = Owner::open(state.path(), &SystemRandom).unwrap();
        let left = dead.run().unwrap();
        fs::write(left.folder.join("config"), "x").unwrap();
        let living = Owner::open(state.path(), &SystemRandom).unwrap();
        let kept = living.run().unwrap();
        let tidy = Owner::open(state.path(), &SystemRandom).unwrap();
        assert_eq!(tidy.sweep().unwrap(), (0, 0));
        drop(dead);
        assert_eq!(tidy.sweep().unwrap(), (1, 0));
        assert!(!left.folder.exists());
        assert!(kept.folder.exists());
        assert_eq!(fs::read_dir(state.path().join("owners")).unwrap().count(), 2);
        assert!(kept.remove());
        drop(living);
        assert_eq!(fs::read_dir(state.path().join("owners")).unwrap().count(), 1);
    }
}
