//! Connections to the file: how they are opened, and what keeps one from being opened.

use crate::{
    error::Failure,
    migrate::{look_first, migrate},
};
use capomastro_core::{Error, ErrorKind, Result, Retry};
use rusqlite::{Connection, OpenFlags, config::DbConfig};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Older ones can damage a WAL when two connections write and checkpoint at the wrong moment
/// (<https://sqlite.org/wal.html#walresetbug>).
const OLDEST_SQLITE: i32 = 3_051_003;

/// Statements that each connection keeps prepared: more than there are.
const STATEMENTS: usize = 64;

/// Refuses an SQLite that can damage the file.
pub(crate) fn check_library(version: i32) -> Result<()> {
    if version >= OLDEST_SQLITE {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        "this program was linked with an SQLite before 3.51.3, which can damage the file: build it with rusqlite's feature `bundled`",
    )
    .with_context("sqlite", version))
}

/// The file's absolute path, so that a later change of the working folder does not matter.
pub(crate) fn check_path(path: &Path) -> Result<PathBuf> {
    let refuse = |what: &str| Err(Error::config(what).with_context("path", path.display()));
    if path.as_os_str().is_empty() || path == Path::new(":memory:") {
        return refuse("a store needs a file: give a path, or use InMemoryStore if nothing is to be kept");
    }
    if path.is_dir() {
        return refuse("this is a folder: give the path of a file in it");
    }
    let absolute = std::path::absolute(path).map_err(|e| {
        Error::config("the path cannot be made absolute: give an absolute one")
            .with_context("path", path.display())
            .with_source(e)
    })?;
    if !absolute.parent().is_some_and(Path::is_dir) {
        return refuse(
            "the folder of the file does not exist or cannot be entered: create it, or give another path",
        );
    }
    check_file_system(&absolute)?;
    Ok(absolute)
}

/// SQLite's locks and shared memory do not work across machines.
#[cfg(target_os = "linux")]
fn check_file_system(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    #[allow(clippy::unnecessary_cast, reason = "its type differs between platforms")]
    let magic = rustix::fs::statfs(folder).ok().map(|s| s.f_type as i64);
    match magic.and_then(network_file_system) {
        None => Ok(()),
        Some(name) => Err(Error::config(
            "the file would be on a network file system, where SQLite's locks do not hold: give a path on a local disk, or use a store made for several machines",
        )
        .with_context("path", path.display())
        .with_context("file_system", name)),
    }
}

#[cfg(not(target_os = "linux"))]
fn check_file_system(_: &Path) -> Result<()> {
    Ok(())
}

/// The name of a network file system by its number (statfs(2)).
#[cfg(target_os = "linux")]
const fn network_file_system(magic: i64) -> Option<&'static str> {
    match magic {
        0x6969 => Some("nfs"),
        0x517b => Some("smb"),
        0xff53_4d42 => Some("cifs"),
        0xfe53_4d42 => Some("smb2"),
        0x5346_414f => Some("afs"),
        0x7375_7245 => Some("coda"),
        0x00c3_6400 => Some("ceph"),
        0x0bd0_0bd0 => Some("lustre"),
        _ => None,
    }
}

/// Opens the file for writing, makes it if it is missing, and brings it to this version of the schema.
///
/// # Errors
/// What keeps it from being opened, with what to do about it.
pub(crate) fn open_writer(path: &Path, busy: Duration) -> Result<Connection> {
    let conn = connect(path, busy, OpenFlags::SQLITE_OPEN_CREATE)?;
    prepare(conn, path, |e| explain(e, path))
}

/// The same, for as long as nobody else has the file open; whoever wants to open it later waits in vain. A missing file is
/// made only if `makes` says so.
///
/// # Errors
/// Besides those of [`open_writer`]: [`Unavailable`](ErrorKind::Unavailable) while anybody else has it open.
pub(crate) fn open_alone(path: &Path, busy: Duration, makes: bool) -> Result<Connection> {
    if !makes && !path.is_file() {
        return Err(at(
            Error::config("no file is there: give the path of the store that is to be moved"),
            path,
        ));
    }
    let flags = if makes { OpenFlags::SQLITE_OPEN_CREATE } else { OpenFlags::empty() };
    let conn = connect(path, busy, flags)?;
    // Before the first read, or the log's shared memory would be used, and with it no lock against others
    // (<https://sqlite.org/wal.html#noshm>).
    conn.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(|e| explain(e, path))?;
    prepare(conn, path, |e| {
        match e.is_busy() {
        true => at(
            Error::new(
                ErrorKind::Unavailable,
                "the store is open elsewhere: stop every scheduler and program that uses it, close it, and try again",
            )
            .with_source(e),
            path,
        ),
        false => explain(e, path),
    }
    })
}

fn connect(path: &Path, busy: Duration, more: OpenFlags) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
    let conn = Connection::open_with_flags(path, flags).map_err(|e| explain(e, path))?;
    conn.busy_timeout(busy).map_err(|e| explain(e, path))?;
    Ok(conn)
}

fn prepare(mut conn: Connection, path: &Path, explain: impl Fn(Failure) -> Error) -> Result<Connection> {
    // Read first: nothing of a file that is not ours may be changed, not even its journal mode.
    let _found = look_first(&conn).map_err(&explain)?.map_err(|e| at(e, path))?;
    if conn.is_readonly("main").map_err(|e| explain(e.into()))? {
        return Err(read_only(path));
    }
    to_wal(&conn).map_err(&explain)?.map_err(|e| at(e, path))?;
    settle(&conn).map_err(&explain)?;
    migrate(&mut conn).map_err(&explain)?.map_err(|e| at(e, path))?;
    Ok(conn)
}

/// Opens the file for reading, beside a writer that was opened before.
pub(crate) fn open_reader(path: &Path, busy: Duration) -> Result<Connection> {
    let conn = connect(path, busy, OpenFlags::empty())?;
    settle(&conn).map_err(|e| explain(e, path))?;
    conn.pragma_update(None, "query_only", true).map_err(|e| explain(e, path))?;
    Ok(conn)
}

/// Switches to a write-ahead log. SQLite does not wait for other connections here, so a write lock is waited for in
/// between.
fn to_wal(conn: &Connection) -> Result<Result<()>, Failure> {
    const TRIES: u32 = 20;
    let mut tries = 0;
    loop {
        tries += 1;
        let mode: Result<String, Failure> =
            conn.query_row("PRAGMA journal_mode = WAL", [], |r| r.get(0)).map_err(Failure::from);
        match mode {
            Ok(mode) if mode.eq_ignore_ascii_case("wal") => return Ok(Ok(())),
            Ok(mode) => {
                return Ok(Err(Error::config(
                    "the file system cannot keep SQLite's write-ahead log: give a path on a local disk",
                )
                .with_context("journal_mode", mode)));
            }
            Err(e) if e.is_busy() && tries < TRIES => conn.execute_batch("BEGIN IMMEDIATE; COMMIT")?,
            Err(e) => return Err(e),
        }
    }
}

/// What holds for every connection.
fn settle(conn: &Connection) -> Result<(), Failure> {
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    // The plan of a statement is its own, and not made anew for other values: each has an index to go by.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    for (name, value) in [
        // A commit that was answered survives a power cut.
        ("synchronous", "FULL"),
        ("foreign_keys", "ON"),
        ("trusted_schema", "OFF"),
        ("cell_size_check", "ON"),
        ("mmap_size", "0"),
        ("temp_store", "MEMORY"),
        // In KiB.
        ("cache_size", "-16384"),
        // In pages: about 16 MB of log before a commit also writes back.
        ("wal_autocheckpoint", "4000"),
        // What is left of the log after it was written back.
        ("journal_size_limit", "67108864"),
    ] {
        conn.pragma_update(None, name, value)?;
    }
    Ok(())
}

/// An error of opening, with what can be told from the file itself.
fn explain(e: impl Into<Failure>, path: &Path) -> Error {
    let failure: Failure = e.into();
    if failure.is_cannot_open() && cannot_write(path) {
        return read_only(path).with_source(failure);
    }
    failure.error(path)
}

fn at(e: Error, path: &Path) -> Error {
    e.with_context("file", path.display())
}

fn read_only(path: &Path) -> Error {
    Error::new(
        ErrorKind::ReadOnly,
        "the store cannot be written: give this process write permission for the file and for its folder, where SQLite keeps two more files, and check that the file system is not mounted read-only",
    )
    .with_context("file", path.display())
}

/// Whether the file or its folder cannot be written by this process.
fn cannot_write(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use rustix::fs::{Access, access};
        let folder = path.parent().unwrap_or(path);
        access(folder, Access::WRITE_OK).is_err()
            || (path.exists() && access(path, Access::WRITE_OK).is_err())
    }
    #[cfg(not(unix))]
    {
        std::fs::metadata(path).is_ok_and(|m| m.permissions().readonly())
    }
}

/// Which file it is, to notice that another one was put in its place.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity(u64, u64);

impl Identity {
    /// The file that is at this path now; `None` where that cannot be told.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            std::fs::metadata(path).ok().map(|m| Self(m.dev(), m.ino()))
        }
        #[cfg(not(unix))]
        {
            let _ = path;
            None
        }
    }

    /// Refuses to go on with a file that is not at its path any more: what is written to it would be lost.
    pub(crate) fn check(before: Option<Self>, path: &Path) -> Result<()> {
        if before.is_none() || before == Self::of(path) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            "the store's file was moved, deleted or replaced while it was open, and what is written now would be lost: put it back, or restart with the new one",
        )
        .with_retry(Retry::Never)
        .with_context("file", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sqlite_that_can_damage_the_file_is_refused() {
        for (version, good) in [(3_040_001, false), (3_051_002, false), (3_051_003, true), (3_054_001, true)]
        {
            assert_eq!(check_library(version).is_ok(), good, "{version}");
        }
        check_library(rusqlite::version_number()).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn network_file_systems_are_known_by_number() {
        assert_eq!(network_file_system(0x6969), Some("nfs"));
        assert_eq!(network_file_system(0xff53_4d42), Some("cifs"));
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630] {
            assert_eq!(network_file_system(local), None, "{local:x}");
        }
    }

    #[test]
    fn paths_that_are_no_files_are_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        for path in [Path::new(""), Path::new(":memory:"), dir.path(), &dir.path().join("no/such.db")] {
            let e = check_path(path).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{path:?}");
            assert!(e.message().contains("give") || e.message().contains("create"), "{e}");
        }
    }
}
