//! Repositories on this machine: where they are, and whether anything was committed since the last look. In process.

use capomastro_core::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};
use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::Semaphore;

/// More than this is in none of the files that are read.
const MAX_FILE: u64 = 4096;

/// A repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Its directory.
    pub(super) root: PathBuf,
    /// What was given below it: a path in the repository, without a slash at start and end.
    pub(super) inner: String,
    /// Changes with every commit; `None` where that cannot be told.
    pub(super) state: Option<String>,
}

/// Looks at the directories of `path` on a thread of its own.
///
/// At most as many threads as `room` has permits look at a time, so that a file server that hangs cannot eat up the
/// runtime's threads: a permit comes back when its thread does.
pub(super) async fn find(room: &Arc<Semaphore>, path: PathBuf) -> Result<Place> {
    let closed = |_| Error::internal("the svn probe's room for readers is closed");
    let permit = Arc::clone(room).acquire_owned().await.map_err(closed)?;
    let looking = tokio::task::spawn_blocking(move || {
        let found = find_now(&path);
        drop(permit);
        found
    });
    looking.await.map_err(|e| Error::internal("looking for a Subversion repository failed").with_source(e))?
}

/// The repository in which `path` lies: the one at the first of its parents, or itself, that is one.
fn find_now(path: &Path) -> Result<Place> {
    for root in path.ancestors() {
        if !exists(&root.join("format"))? || !exists(&root.join("db"))? {
            continue;
        }
        let inner = path.strip_prefix(root).unwrap_or(Path::new("")).to_string_lossy().into_owned();
        return Ok(Place { state: state(root)?, root: root.to_owned(), inner });
    }
    Err(Error::config(if exists(&path.join(".svn"))? {
        "the directory is a working copy: give the path or the URL of its repository, which svn info tells"
    } else if exists(path)? {
        "the directory is no Subversion repository: give the path of one, or of a folder in it"
    } else {
        "there is no such repository: check the path, and that what it lies on is mounted"
    }))
}

fn exists(path: &Path) -> Result<bool> {
    match fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(e) => Err(unreadable(e)),
    }
}

/// FSFS keeps the newest revision and the UUID in small files that it replaces. What else could change them (a restored
/// backup, `svnadmin setuuid`) makes new files too.
fn state(root: &Path) -> Result<Option<String>> {
    let database = root.join("db");
    let mut digest = Sha256::new();
    for name in ["fs-type", "format", "uuid", "current"] {
        let path = database.join(name);
        let (facts, text) = match (fs::metadata(&path), fs::read(&path)) {
            (Ok(facts), Ok(text)) if facts.is_file() && facts.len() < MAX_FILE => (facts, text),
            // Another kind of repository, or one that is being replaced right now: the svn program will tell.
            (Ok(_), Ok(_)) => return Ok(None),
            (Err(e), _) | (_, Err(e)) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            (Err(e), _) | (_, Err(e)) => return Err(unreadable(e)),
        };
        if name == "fs-type" && text.trim_ascii() != b"fsfs" {
            return Ok(None);
        }
        let numbers = [facts.dev(), facts.ino(), facts.len(), text.len() as u64];
        let times = [facts.mtime(), facts.mtime_nsec(), facts.ctime(), facts.ctime_nsec()];
        digest.update(numbers.map(u64::to_le_bytes).concat());
        digest.update(times.map(i64::to_le_bytes).concat());
        digest.update(&text);
    }
    Ok(Some(digest.finalize().iter().map(|b| format!("{b:02x}")).collect()))
}

fn unreadable(e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::PermissionDenied => {
            Error::new(ErrorKind::PermissionDenied, "the repository cannot be read: let this user read it")
                .with_source(e)
        }
        _ => Error::new(ErrorKind::Unavailable, "the repository cannot be read now").with_source(e),
    }
}
