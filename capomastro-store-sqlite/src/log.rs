//! The write-ahead log after the disk has failed to sync it.

use crate::error::Failure;
use rusqlite::Connection;
use std::{
    ffi::OsString,
    fs::File,
    io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

/// How much is written at once.
const PART: usize = 64 << 10;

/// Writes the whole log once more, as it is, and syncs it.
///
/// After a sync that failed, the system may have forgotten what it could not write, and the next sync succeeds without it.
/// What was not yet synced then, such as claims, would be a hole in the log, and a power cut would take back all that was
/// committed behind it. A write lock is held meanwhile, so that nobody adds to the log or starts it anew.
///
/// # Errors
/// The log is as much in doubt as before.
pub(crate) fn write_again(conn: &Connection, path: &Path) -> Result<(), Failure> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let done = copy_onto_itself(&log_of(path)).map_err(|e| Failure::of_file(&e));
    conn.execute_batch("ROLLBACK")?;
    done
}

fn log_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push("-wal");
    name.into()
}

fn copy_onto_itself(path: &Path) -> std::io::Result<()> {
    let mut file = match File::options().read(true).write(true).open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let mut part = vec![0; PART];
    let mut at = 0;
    loop {
        file.seek(SeekFrom::Start(at))?;
        let len = file.read(&mut part)?;
        if len == 0 {
            return file.sync_all();
        }
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&part[..len])?;
        at += len as u64;
    }
}
