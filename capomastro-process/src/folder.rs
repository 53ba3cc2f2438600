//! The folder of one build, and what can be told from it.
//!
//! ```text
//! <root>/root.json             which folder of builds this is
//! <root>/<launch key>/lock     held by whoever may start the build, then by its supervisor until the end
//!                     request.json   what was asked for, without secrets
//!                     workspace/     the build's working directory, unless the job names one
//!                     drop/          CAPOMASTRO_ARTIFACTS
//!                     says/built-revision   CAPOMASTRO_BUILT_REVISION_FILE, if the build writes it
//!                     enclosure*     what it runs inside of, where that is not the machine as it is
//!                     started        that the build has started, and which process it is
//!                     log, log.cut   its output; that not all of it was kept
//!                     cancel         that somebody asked to stop it
//!                     stopping       that it was sent SIGTERM for that
//!                     status.json    how it ended
//!                     result.json    what was gathered afterwards
//!                     artifacts/     copies of what it left behind
//!                     log.pipe, control, stop.pipe   pipes of the supervisor
//! ```

use crate::{fault::on_disk, process::Started};
use capomastro_core::{Error, ErrorKind, Result, model::LaunchKey};
use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock},
    io::Errno,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

/// How a build's main process ended, as its supervisor wrote it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    format: u32,
    /// As a shell tells it: 128 plus the signal where it was ended by one.
    pub(crate) code: i32,
    /// Whether it had been asked to stop.
    pub(crate) stopped: bool,
}

/// Where a build stands, as far as its folder tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// There is no folder, or nobody has started the build and nobody is about to.
    NotStarted,
    /// Somebody is about to start it.
    Starting,
    /// It runs.
    Running,
    /// Its processes run, without a supervisor: how it ends will not be known.
    Orphaned(rustix::process::Pid),
    /// It has ended.
    Ended(Status),
    /// It has ended and its supervisor did not live to say how.
    Died {
        /// Whether that is because the machine was restarted.
        restarted: bool,
    },
}

/// The folder of one build.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    key: LaunchKey,
}

/// The lock of a folder. Released when dropped, unless it was handed on.
#[derive(Debug)]
pub(crate) struct Lock(Option<File>);

impl Lock {
    /// Hands the lock on to a process, as its standard input. It is held until that process, and whoever it hands it on
    /// to, has closed it or died.
    pub(crate) fn hand_on(mut self) -> Stdio {
        self.0.take().map_or_else(Stdio::null, Stdio::from)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Explicitly, and not only by closing: a process that another thread is just starting has a copy until it execs.
        if let Some(file) = &self.0 {
            let _ = flock(file, FlockOperation::Unlock);
        }
    }
}

impl Folder {
    pub(crate) const fn new(path: PathBuf, key: LaunchKey) -> Self {
        Self { path, key }
    }

    pub(crate) const fn key(&self) -> LaunchKey {
        self.key
    }

    pub(crate) const fn path(&self) -> &PathBuf {
        &self.path
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Makes the folder, if need be, and durably so.
    pub(crate) fn make(&self) -> Result<()> {
        let failed = |e| on_disk("make a build's folder", &self.path, e);
        match fs::create_dir(&self.path) {
            Ok(()) => sync_parent(&self.path).map_err(failed),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(failed(e)),
        }
    }

    /// The lock for oneself alone; `None` if somebody has it or the folder is being removed.
    pub(crate) fn lock(&self) -> Result<Option<Lock>> {
        match open_plain(&self.at("lock"), OFlags::RDWR | OFlags::CREATE)? {
            Some(opened) => self.take(opened, FlockOperation::NonBlockingLockExclusive),
            None => Ok(None),
        }
    }

    fn take(&self, opened: File, how: FlockOperation) -> Result<Option<Lock>> {
        let file = self.at("lock");
        let failed = |e| on_disk("lock a build's folder", &file, e);
        match flock(&opened, how) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(e) => return Err(failed(e.into())),
        }
        let lock = Lock(Some(opened));
        // The folder may have been removed, and made anew, between opening and locking.
        let ours = lock.0.as_ref().map(File::metadata).transpose().map_err(failed)?;
        let there = match fs::metadata(&file) {
            Ok(there) => Some(there),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(failed(e)),
        };
        let same = ours.zip(there).is_some_and(|(a, b)| (a.dev(), a.ino()) == (b.dev(), b.ino()));
        Ok(same.then_some(lock))
    }

    /// Where the build stands. Read under a shared lock where the lock is free, so that nobody starts it meanwhile.
    pub(crate) fn standing(&self) -> Result<Standing> {
        let Some(opened) = open_plain(&self.at("lock"), OFlags::RDONLY)? else {
            return Ok(Standing::NotStarted);
        };
        let lock = self.take(opened, FlockOperation::NonBlockingLockShared)?;
        if let Some(status) = self.status()? {
            return Ok(Standing::Ended(status));
        }
        let started = self.started()?;
        let standing = match (&lock, started) {
            (None, None) => Standing::Starting,
            (None, Some(_)) => Standing::Running,
            (Some(_), started) => self.abandoned(started),
        };
        drop(lock);
        Ok(standing)
    }

    /// Where a build without a status stands whose lock we have.
    pub(crate) fn abandoned(&self, started: Option<Started>) -> Standing {
        match started {
            None => Standing::NotStarted,
            Some(started) => match started.living_group(self.key) {
                Some(group) => Standing::Orphaned(group),
                None => Standing::Died { restarted: started.is_of_an_earlier_boot() },
            },
        }
    }

    pub(crate) fn started(&self) -> Result<Option<Started>> {
        let file = self.at("started");
        match read_bounded(&file, 64 * 1024)? {
            None => Ok(None),
            Some(bytes) => String::from_utf8(bytes)
                .ok()
                .as_deref()
                .and_then(Started::parse)
                .map(Some)
                .ok_or_else(|| damaged(&file)),
        }
    }

    pub(crate) fn status(&self) -> Result<Option<Status>> {
        let status = self.read_json::<Status>("status.json")?;
        match status {
            Some(status) if status.format > 1 => Err(Error::new(
                ErrorKind::NewerFormat,
                "a build's status was written by a newer version: upgrade this program",
            )
            .with_context("path", self.path.display())),
            status => Ok(status),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.at(name).exists()
    }

    pub(crate) fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let file = self.at(name);
        match read_bounded(&file, 16 * 1024 * 1024)? {
            None => Ok(None),
            Some(bytes) => {
                serde_json::from_slice(&bytes).map(Some).map_err(|e| damaged(&file).with_source(e))
            }
        }
    }

    pub(crate) fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let bytes = serde_json::to_vec(value)
            .map_err(|e| Error::internal("a build's record cannot be written as JSON").with_source(e))?;
        write_durably(&self.at(name), &bytes)
    }

    /// Makes an empty file that says something by being there. Several may at once.
    pub(crate) fn mark(&self, name: &str) -> Result<()> {
        open_plain(&self.at(name), OFlags::WRONLY | OFlags::CREATE).map(drop)
    }

    /// Empties the folder of what an attempt left that never started. Only with the lock.
    pub(crate) fn clear(&self) -> Result<()> {
        let failed = |e| on_disk("empty a build's folder", &self.path, e);
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name() != "lock" {
                remove(&entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Removes the folder. Only with the lock.
    pub(crate) fn remove(&self) -> Result<()> {
        let failed = |e| on_disk("remove a build's folder", &self.path, e);
        let gone = self.path.with_file_name(format!(".gone-{}", self.key));
        remove(&gone).map_err(failed)?;
        // In one step out of sight: nobody may find half a build.
        fs::rename(&self.path, &gone).map_err(failed)?;
        remove(&gone).map_err(failed)
    }
}

/// Removes a file or a whole folder; that it is not there is fine.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(m) if m.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Writes a file so that it has, at any time and after any crash, either no content, the old, or the new one. One writer
/// at a time.
pub(crate) fn write_durably(file: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |e| on_disk("write a build's record", file, e);
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".draft");
    let draft = file.with_file_name(name);
    let written = File::create(&draft)
        .and_then(|mut f| f.write_all(bytes).and_then(|()| f.sync_all()))
        .and_then(|()| fs::rename(&draft, file))
        .and_then(|()| sync_parent(file));
    written.map_err(failed)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// A plain file of a build's folder; `None` if there is none. Follows no symbolic link and waits for no pipe: builds can
/// write here.
pub(crate) fn open_plain(file: &Path, how: OFlags) -> Result<Option<File>> {
    let failed = |e| on_disk("open a file of a build's folder", file, e);
    let flags = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = match rustix::fs::open(file, flags, Mode::from_raw_mode(0o666)) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP | Errno::NXIO | Errno::ISDIR) => return Err(damaged(file)),
        Err(e) => return Err(failed(e.into())),
    };
    if !opened.metadata().map_err(failed)?.is_file() {
        return Err(damaged(file));
    }
    Ok(Some(opened))
}

/// A file of at most `max` bytes; `None` if there is none.
pub(crate) fn read_bounded(file: &Path, max: u64) -> Result<Option<Vec<u8>>> {
    let Some(opened) = open_plain(file, OFlags::RDONLY)? else { return Ok(None) };
    let mut bytes = Vec::new();
    let read = opened.take(max + 1).read_to_end(&mut bytes);
    read.map_err(|e| on_disk("read a build's record", file, e))?;
    if bytes.len() as u64 > max { Err(damaged(file)) } else { Ok(Some(bytes)) }
}

fn damaged(file: &Path) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "a record in a build's folder is damaged: see who writes there; remove the folder to give the build up",
    )
    .with_context("path", file.display())
}
