//! The store: the state in memory, and a file that is written anew at each change.

use crate::state::State;
use capomastro_core::{
    Error, ErrorKind, Result, async_trait,
    model::{EventSeq, HolderId},
    store::{
        Batch, ClaimAsk, Claimed, Committed, EventFilter, EventPage, Key, MAX_PAGE, Page, PutBack, Query,
        RECORD_FORMAT, Snapshot, StateStore, StoreInfo,
    },
    time::{Clock, Timestamp},
};
use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Keeps everything in one JSON file. For some hundred dependencies: each commit writes the whole file.
#[derive(Debug)]
pub(crate) struct JsonStore {
    file: PathBuf,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Held as long as this store lives, so that no other process writes the file.
    _lock: File,
}

/// What to do about an error of the disk.
fn disk(e: io::Error, file: &Path) -> Error {
    let (kind, text) = match e.kind() {
        io::ErrorKind::StorageFull => (ErrorKind::StorageFull, "no room is left: free some and it goes on"),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            (ErrorKind::ReadOnly, "the store cannot be written: give this user the right to write its folder")
        }
        _ => (ErrorKind::Unavailable, "the store's file cannot be used: see the cause"),
    };
    Error::new(kind, text).with_context("file", file.display()).with_source(e)
}

impl JsonStore {
    /// Opens the store, making it where there is none.
    pub(crate) fn open(file: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Result<Self> {
        let file = file.into();
        let lock = File::create(file.with_extension("lock")).map_err(|e| disk(e, &file))?;
        lock.try_lock().map_err(|e| {
            Error::new(ErrorKind::Unavailable, "another process has the store open: stop that one")
                .with_context("file", file.display())
                .with_source(e)
        })?;
        let state = match std::fs::read(&file) {
            Ok(bytes) => read(&bytes).map_err(|e| e.with_context("file", file.display()))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => State::new(),
            Err(e) => return Err(disk(e, &file)),
        };
        let store = Self { file, clock, state: Mutex::new(state), _lock: lock };
        store.change(|_, _| Ok(()))?;
        Ok(store)
    }

    /// The store's time and the state. Never half changed: a change is made on a copy.
    fn now(&self) -> (Timestamp, MutexGuard<'_, State>) {
        (self.clock.now(), self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a change on a copy, and keeps it once it is on the disk: all of it or nothing. It does not wait in between,
    /// so a future that is dropped cannot leave a part of it.
    fn change<T>(&self, change: impl FnOnce(&mut State, Timestamp) -> Result<T>) -> Result<T> {
        let (now, mut state) = self.now();
        let mut next = state.clone();
        let answer = change(&mut next, now)?;
        let bytes = serde_json::to_vec(&next)
            .map_err(|e| Error::internal("what is to be stored cannot be written as JSON").with_source(e))?;
        let written = self.file.with_extension("new");
        let mut new = File::create(&written).map_err(|e| disk(e, &self.file))?;
        new.write_all(&bytes).and_then(|()| new.sync_all()).map_err(|e| disk(e, &self.file))?;
        std::fs::rename(&written, &self.file).map_err(|e| disk(e, &self.file))?;
        *state = next;
        // The new name itself must be on the disk. Whether it is cannot be told if this fails.
        let folder = self.file.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all()).map_err(|e| {
            Error::new(ErrorKind::OutcomeUnknown, "it is not known whether the change is on the disk")
                .with_source(e)
        })?;
        Ok(answer)
    }
}

fn read(bytes: &[u8]) -> Result<State> {
    let corrupt = |e| Error::new(ErrorKind::Corrupt, "the store is damaged: restore a copy").with_source(e);
    let any: serde_json::Value = serde_json::from_slice(bytes).map_err(corrupt)?;
    if any["format"].as_u64() > Some(RECORD_FORMAT.into()) {
        let text = "the store was written by a newer version: use that one";
        return Err(Error::new(ErrorKind::NewerFormat, text));
    }
    serde_json::from_value(any).map_err(corrupt)
}

fn check_limit(limit: usize) -> Result<()> {
    if (1..=MAX_PAGE).contains(&limit) {
        return Ok(());
    }
    Err(Error::invalid("the limit of a page is out of range: give 1 to 1,000").with_context("limit", limit))
}

#[async_trait]
impl StateStore for JsonStore {
    async fn check(&self) -> Result<StoreInfo> {
        self.change(|_, now| Ok(StoreInfo { now, description: format!("JSON in {}", self.file.display()) }))
    }

    async fn get(&self, keys: &[Key]) -> Result<Snapshot> {
        let (at, state) = self.now();
        Ok(Snapshot { at, records: keys.iter().map(|key| state.get(key)).collect() })
    }

    async fn list(&self, query: &Query, after: Option<&str>, limit: usize) -> Result<Page> {
        check_limit(limit)?;
        let (at, state) = self.now();
        Ok(state.list(at, query, after, limit))
    }

    async fn events(&self, filter: EventFilter, after: EventSeq, limit: usize) -> Result<EventPage> {
        check_limit(limit)?;
        Ok(self.now().1.events(filter, after, limit))
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed> {
        self.change(|state, now| state.commit(now, batch))
    }

    async fn claim_due(&self, ask: &ClaimAsk) -> Result<Claimed> {
        self.change(|state, now| state.due.claim(now, ask))
    }

    async fn put_back(&self, holder: &HolderId, items: &[PutBack]) -> Result<()> {
        self.change(|state, now| {
            state.due.put_back(now, holder, items);
            Ok(())
        })
    }
}
