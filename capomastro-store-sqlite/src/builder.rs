//! How a store is opened.

use crate::{
    SqliteStore, SqliteTransfer,
    connect::{Identity, check_library, check_path, open_alone, open_reader, open_writer},
    moves::{check_usable, check_whole},
    read::Readers,
    writer::{Settings, Writer},
};
use capomastro_core::{
    Error, ErrorKind, Result,
    time::{Clock, SystemClock},
};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::mpsc;

/// Opens a [`SqliteStore`]; made by [`SqliteStore::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing is opened before `open`"]
pub struct SqliteStoreBuilder {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    readers: usize,
    busy_timeout: Duration,
    idle_after: Duration,
}

impl SqliteStoreBuilder {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            clock: Arc::new(SystemClock),
            readers: 3,
            busy_timeout: Duration::from_secs(5),
            idle_after: Duration::from_secs(2),
        }
    }

    /// The store's time; the machine's clock unless given. All processes on one file must agree on the time.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// How many threads read, each with a connection: 1 to 16, else the nearest; 3 unless given.
    pub fn readers(mut self, readers: usize) -> Self {
        self.readers = readers.clamp(1, 16);
        self
    }

    /// How long to wait for another process that writes: at most a minute; 5 seconds unless given. A call that has waited
    /// in vain fails with [`Unavailable`](ErrorKind::Unavailable), and nothing was written.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout.min(Duration::from_secs(60));
        self
    }

    /// After how long without a write the log is written back and emptied: at least a millisecond; 2 seconds unless given.
    pub fn idle_after(mut self, idle: Duration) -> Self {
        self.idle_after = idle.max(Duration::from_millis(1));
        self
    }

    /// Opens the file, making it if it is missing, and brings it to this version of the schema.
    ///
    /// Blocks for some milliseconds, longer while another process writes, or after a crash. Its folder must exist; SQLite
    /// keeps a `-wal` and a `-shm` file beside it, which belong to it.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) for a path that cannot be a store: a folder, a network file system,
    /// another program's database. [`NewerFormat`](ErrorKind::NewerFormat), [`Corrupt`](ErrorKind::Corrupt),
    /// [`ReadOnly`](ErrorKind::ReadOnly), also for a store that was moved away or is half filled,
    /// [`StorageFull`](ErrorKind::StorageFull), or [`Unavailable`](ErrorKind::Unavailable) while another process keeps it
    /// locked. Each says what to do.
    pub fn open(self) -> Result<SqliteStore> {
        self.open_file().map_err(|e| e.with_operation("open the SQLite store"))
    }

    /// Opens the file to move everything out of it with [`transfer`](capomastro_core::store::transfer::transfer). It must
    /// exist; nobody else may have it open, in this process or another one, until the handle is closed.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), but a store that was moved away can be opened, to repeat the move or to
    /// [`reinstate`](capomastro_core::store::transfer::TransferSource::reinstate) it.
    /// [`Unavailable`](ErrorKind::Unavailable) while anybody else has it open.
    pub fn open_source(self) -> Result<SqliteTransfer> {
        self.open_transfer(false).map_err(|e| e.with_operation("open the SQLite store to be moved from"))
    }

    /// Opens the file to move everything into it with [`transfer`](capomastro_core::store::transfer::transfer), making it if
    /// it is missing; nobody else may have it open, in this process or another one, until the handle is closed.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), but a half filled store can be opened, to repeat the move.
    /// [`Unavailable`](ErrorKind::Unavailable) while anybody else has it open.
    pub fn open_target(self) -> Result<SqliteTransfer> {
        self.open_transfer(true).map_err(|e| e.with_operation("open the SQLite store to be moved into"))
    }

    fn open_transfer(self, makes: bool) -> Result<SqliteTransfer> {
        check_library(rusqlite::version_number())?;
        let path = check_path(&self.path)?;
        let conn = open_alone(&path, self.busy_timeout, makes)?;
        if !makes {
            check_whole(&conn)
                .map_err(|f| f.error(&path))?
                .map_err(|e| e.with_context("file", path.display()))?;
        }
        SqliteTransfer::start(path, conn).map_err(no_thread)
    }

    fn open_file(self) -> Result<SqliteStore> {
        check_library(rusqlite::version_number())?;
        let path = check_path(&self.path)?;
        let writer = open_writer(&path, self.busy_timeout)?;
        check_usable(&writer)
            .map_err(|f| f.error(&path))?
            .map_err(|e| e.with_context("file", path.display()))?;
        let identity = Identity::of(&path);
        let readers =
            (0..self.readers).map(|_| open_reader(&path, self.busy_timeout)).collect::<Result<Vec<_>>>()?;
        let (alive, ended) = mpsc::channel(1);
        let settings = Settings {
            path: path.clone(),
            clock: Arc::clone(&self.clock),
            busy: self.busy_timeout,
            idle: self.idle_after,
        };
        let readers = Readers::start(&path, readers, &alive).map_err(no_thread)?;
        let writer = Writer::start(writer, settings, alive).map_err(no_thread)?;
        Ok(SqliteStore {
            path,
            identity,
            clock: self.clock,
            busy_timeout: self.busy_timeout,
            writer,
            readers,
            ended: Mutex::new(ended),
        })
    }
}

fn no_thread(e: std::io::Error) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "a thread of the store cannot be started: raise the limit on threads (ulimit -u)",
    )
    .with_source(e)
}
