//! The store: seven methods of the trait, and what only this store can do.

use crate::{
    SqliteStoreBuilder,
    apply::{self, Session, Stop},
    connect::Identity,
    copy,
    error::Failure,
    migrate::{Found, SCHEMA, look},
    read::{self, Readers},
    writer::{Answer, Work, Writer},
};
use async_trait::async_trait;
use capomastro_core::{
    Error, Result,
    model::{EventSeq, HolderId},
    store::{
        Batch, ClaimAsk, Claimed, Committed, EventFilter, EventPage, Key, Page, PutBack, Query, Snapshot,
        StateStore, StoreInfo,
        refusals::{check_lanes, check_limit},
        rows::{encode, encode_put_backs},
    },
    time::Clock,
};
use rusqlite::Transaction;
use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

/// A state store on one SQLite file. Its threads end when it is dropped.
pub struct SqliteStore {
    pub(crate) path: PathBuf,
    pub(crate) identity: Option<Identity>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) busy_timeout: Duration,
    pub(crate) writer: Writer,
    pub(crate) readers: Readers,
    /// Ends when all threads have ended.
    pub(crate) ended: Mutex<mpsc::Receiver<Infallible>>,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Starts to open the store in the file at `path`, which is made if it is missing.
    pub fn builder(path: impl Into<PathBuf>) -> SqliteStoreBuilder {
        SqliteStoreBuilder::new(path.into())
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Does what was handed in, writes the log back and closes the file. Later calls fail with
    /// [`Unavailable`](capomastro_core::ErrorKind::Unavailable). Dropping the store does the same without waiting.
    ///
    /// *Cancellation*: a dropped future closes all the same.
    pub async fn close(&self) {
        self.readers.close();
        self.writer.close();
        std::future::poll_fn(|cx| {
            self.ended.lock().unwrap_or_else(PoisonError::into_inner).poll_recv(cx).map(|_| ())
        })
        .await;
    }

    /// Writes a batch in the caller's own transaction on the same file: it is stored if and when that commits, together
    /// with whatever else the transaction writes. Preconditions, answers and errors are those of
    /// [`StateStore::commit`]; on an error the transaction is as it was before and can go on.
    ///
    /// The caller opens the connection, after this store, with this crate's [`rusqlite`](crate::rusqlite), leaves
    /// `synchronous` at `FULL`, sets a busy timeout, and starts with `BEGIN IMMEDIATE`: no other writer gets in between, and
    /// this store's own calls wait until the transaction has ended, so keep it short. Blocks; do not call it where that
    /// hurts. If the caller's COMMIT fails with an I/O error, it is not known whether it was written: repeat it with the same
    /// batch.
    ///
    /// # Errors
    /// Besides those of `commit`: [`InvalidInput`](capomastro_core::ErrorKind::InvalidInput) for a transaction on another file or a
    /// connection that does not wait for the disk.
    pub fn commit_in(&self, tx: &Transaction<'_>, batch: &Batch) -> Result<Committed> {
        self.commit_within(tx, batch).map_err(|e| e.with_operation("commit in a transaction"))
    }

    fn commit_within(&self, tx: &Transaction<'_>, batch: &Batch) -> Result<Committed> {
        let say = |e: rusqlite::Error| Failure::from(e).error(&self.path);
        let same = match (tx.path().and_then(|p| Identity::of(Path::new(p))), self.identity) {
            (Some(theirs), Some(ours)) => theirs == ours,
            // Where files cannot be told apart, the numbers in them must do.
            _ => tx.path().is_some_and(|p| !p.is_empty()),
        };
        if !same || !matches!(look(tx).map_err(|f| f.error(&self.path))?, Ok(Found::Ours(SCHEMA))) {
            return Err(Error::invalid(
                "the transaction is on another database: open the connection on the path of this store",
            )
            .with_context("file", self.path.display()));
        }
        if tx.query_row("PRAGMA synchronous", [], |r| r.get::<_, i64>(0)).map_err(say)? < 2 {
            return Err(Error::invalid(
                "the connection does not wait for the disk: set PRAGMA synchronous = FULL before the transaction",
            ));
        }
        let batch = match encode(batch) {
            Ok(encoded) => encoded,
            Err(e) => {
                return apply::repeated(tx, &batch.id.to_string()).map_err(|f| f.error(&self.path))?.ok_or(e);
            }
        };
        tx.execute_batch("SAVEPOINT capomastro_commit").map_err(say)?;
        let done = (|| {
            let mut session = Session::new(tx).map_err(Stop::Broken)?;
            let committed = apply::commit(&mut session, apply::time(&*self.clock)?, &batch)?;
            session.finish().map_err(Stop::Broken)?;
            Ok(committed)
        })();
        let end = if done.is_ok() {
            "RELEASE capomastro_commit"
        } else {
            "ROLLBACK TO capomastro_commit; RELEASE capomastro_commit"
        };
        let ended = tx.execute_batch(end).map_err(say);
        match done {
            Ok(committed) => ended.map(|()| committed),
            Err(Stop::Refused(e)) => Err(e),
            Err(Stop::Broken(f)) => Err(f.error(&self.path)),
        }
    }

    /// Copies the store, as it stands at one moment, into a new file at `path`, while it stays in use. The copy is a store
    /// of its own that can be opened. Open commits go on meanwhile; the log is not emptied until the copy is done.
    ///
    /// *Cancellation*: a dropped future lets the copy go on to its end.
    ///
    /// # Errors
    /// [`AlreadyExists`](capomastro_core::ErrorKind::AlreadyExists) if something is at `path`, and what the storage says; then
    /// nothing is left there.
    pub async fn backup_to(&self, path: impl Into<PathBuf>) -> Result<()> {
        let (from, to, busy) = (self.path.clone(), path.into(), self.busy_timeout);
        let (reply, answer) = oneshot::channel();
        std::thread::Builder::new()
            .name("capomastro-sqlite-backup".into())
            // Whoever asked may have gone; the copy is finished all the same.
            .spawn(move || reply.send(copy::copy(&from, &to, busy)).ok())
            .map_err(|e| Error::transient(e).with_operation("back up the SQLite store"))?;
        answer
            .await
            .unwrap_or_else(|_| Err(Error::internal("the copying thread ended early: report this")))
            .map_err(|e| e.with_operation("back up the SQLite store"))
    }

    async fn write(&self, work: Work) -> Result<Answer> {
        self.writer.ask(work).await
    }
}

fn not_asked() -> Error {
    Error::internal("the writer answered what was not asked: report this")
}

#[async_trait]
impl StateStore for SqliteStore {
    async fn check(&self) -> Result<StoreInfo> {
        let named = |e: Error| e.with_operation("check the SQLite store");
        Identity::check(self.identity, &self.path).map_err(named)?;
        let clock = Arc::clone(&self.clock);
        let (now, version) = self
            .readers
            .ask(move |conn| {
                Ok((
                    apply::time(&*clock)?,
                    conn.query_row("SELECT sqlite_version()", [], |r| r.get::<_, String>(0))?,
                ))
            })
            .await
            .map_err(named)?;
        self.write(Work::Check).await.map_err(named)?;
        Ok(StoreInfo { now, description: format!("SQLite {version}, {}", self.path.display()) })
    }

    async fn get(&self, keys: &[Key]) -> Result<Snapshot> {
        let (clock, keys) = (Arc::clone(&self.clock), keys.to_vec());
        self.readers
            .ask(move |conn| read::get(conn, &*clock, &keys))
            .await
            .map_err(|e| e.with_operation("read records"))
    }

    async fn list(&self, query: &Query, after: Option<&str>, limit: usize) -> Result<Page> {
        let limit = check_limit(limit)?;
        let (clock, query, after) = (Arc::clone(&self.clock), query.clone(), after.map(ToOwned::to_owned));
        self.readers
            .ask(move |conn| read::list(conn, &*clock, &query, after.as_deref(), limit))
            .await
            .map_err(|e| e.with_operation("list records"))
    }

    async fn events(&self, filter: EventFilter, after: EventSeq, limit: usize) -> Result<EventPage> {
        let limit = check_limit(limit)?;
        self.readers
            .ask(move |conn| read::events(conn, filter, after, limit))
            .await
            .map_err(|e| e.with_operation("read events"))
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed> {
        let named = |e: Error| e.with_operation("commit");
        let encoded = match encode(batch) {
            Ok(encoded) => Box::new(encoded),
            // What was committed before is answered whatever the batch says now.
            Err(e) => {
                let id = batch.id.to_string();
                let before =
                    self.readers.ask(move |conn| Ok(apply::repeated(conn, &id)?)).await.map_err(named)?;
                return before.ok_or_else(|| named(e));
            }
        };
        match self.write(Work::Commit(encoded)).await.map_err(named)? {
            Answer::Committed(committed) => Ok(committed),
            _ => Err(not_asked()),
        }
    }

    async fn claim_due(&self, ask: &ClaimAsk) -> Result<Claimed> {
        let named = |e: Error| e.with_operation("claim due work");
        check_lanes(ask).map_err(named)?;
        let (clock, peek) = (Arc::clone(&self.clock), ask.clone());
        if let Some(nothing) =
            self.readers.ask(move |conn| read::nothing_due(conn, &*clock, &peek)).await.map_err(named)?
        {
            return Ok(nothing);
        }
        match self.write(Work::Claim(ask.clone())).await.map_err(named)? {
            Answer::Claimed(claimed) => Ok(claimed),
            _ => Err(not_asked()),
        }
    }

    async fn put_back(&self, holder: &HolderId, items: &[PutBack]) -> Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        let named = |e: Error| e.with_operation("put claims back");
        let back = Work::PutBack(holder.clone(), encode_put_backs(items).map_err(named)?);
        self.write(back).await.map(|_| ()).map_err(named)
    }
}
