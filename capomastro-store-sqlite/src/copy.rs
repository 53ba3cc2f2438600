//! A copy of the file while it is in use.

use crate::{connect::open_reader, error::Failure};
use capomastro_core::{Error, ErrorKind, Result};
use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
};
use std::{
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

/// Copies the store at `from` into a new file at `to`. Written beside it first, so that no half copy is ever there.
pub(crate) fn copy(from: &Path, to: &Path, busy: Duration) -> Result<()> {
    if to.symlink_metadata().is_ok() {
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            "something is at the path of the copy: give another path, or remove it first",
        )
        .with_context("path", to.display()));
    }
    let partial = with_suffix(to, ".partial");
    remove(&partial);
    let done = copy_pages(from, &partial, busy).and_then(|()| put_in_place(&partial, to));
    if done.is_err() {
        remove(&partial);
    }
    done
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Removes a file and what SQLite keeps beside it, as far as they are there.
fn remove(path: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        std::fs::remove_file(with_suffix(path, suffix)).ok();
    }
}

fn copy_pages(from: &Path, to: &Path, busy: Duration) -> Result<()> {
    let source = open_reader(from, busy)?;
    let say = |e: rusqlite::Error| Failure::from(e).error(to);
    let mut target = Connection::open(to).map_err(say)?;
    target.busy_timeout(busy).map_err(say)?;
    let backup = Backup::new(&source, &mut target).map_err(say)?;
    // In one step, inside one read transaction: in several, each write in between would start it anew.
    match backup.step(-1).map_err(say)? {
        StepResult::Done => {}
        _ => {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "the store is locked by another process: try the copy again",
            )
            .with_context("file", from.display()));
        }
    }
    drop(backup);
    target.close().map_err(|(_, e)| say(e))
}

fn put_in_place(partial: &Path, to: &Path) -> Result<()> {
    let say = |e: std::io::Error| {
        Error::new(
            ErrorKind::Unavailable,
            "the copy cannot be put in its place: check that its folder can be written and has room",
        )
        .with_context("path", to.display())
        .with_source(e)
    };
    File::open(partial).and_then(|f| f.sync_all()).map_err(say)?;
    std::fs::rename(partial, to).map_err(say)?;
    if let Some(folder) = to.parent().filter(|p| !p.as_os_str().is_empty()) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(say)?;
    }
    Ok(())
}
