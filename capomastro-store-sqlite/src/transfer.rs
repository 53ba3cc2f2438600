//! Moving everything out of a file or into one. Whoever does it has the file alone.

use crate::{
    apply::Stop,
    error::{Failure, closed},
    fill,
    moves::{self, Way},
};
use async_trait::async_trait;
use capomastro_core::{
    Result,
    store::{
        refusals::{moved_away, target_in_use},
        transfer::{
            Begun, Item, ItemKind, ItemRow, Part, PartLimit, Place, Survey, TransferReader, TransferSource,
            TransferTarget,
        },
    },
};
use rusqlite::{Connection, TransactionBehavior};
use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::mpsc::{Sender, channel},
};
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A file that is open to be moved from or into, and locked against everybody else until this is closed or dropped. Opened by
/// [`SqliteStoreBuilder::open_source`](crate::SqliteStoreBuilder::open_source) or
/// [`open_target`](crate::SqliteStoreBuilder::open_target); no scheduler can run on it.
///
/// Tables of the embedder's own in the same file are not moved.
pub struct SqliteTransfer {
    path: PathBuf,
    jobs: Sender<Job>,
    /// Ends with the thread.
    ended: oneshot::Receiver<Infallible>,
}

impl std::fmt::Debug for SqliteTransfer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteTransfer").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SqliteTransfer {
    /// Works on a connection that has the file alone.
    pub(crate) fn start(path: PathBuf, mut conn: Connection) -> std::io::Result<Self> {
        let (jobs, queue) = channel::<Job>();
        let (alive, ended) = oneshot::channel();
        std::thread::Builder::new().name("capomastro-sqlite-transfer".into()).spawn(move || {
            while let Ok(job) = queue.recv() {
                job(&mut conn);
            }
            drop(conn);
            drop(alive);
        })?;
        Ok(Self { path, jobs, ended })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes the file; then others may open it. Dropping does the same without waiting.
    pub async fn close(self) {
        drop(self.jobs);
        // It never says anything: it ends.
        self.ended.await.ok();
    }

    fn place(&self, id: String) -> Place {
        Place::new(id, format!("SQLite, {}", self.path.display()))
    }

    /// Does something in one transaction on the file's thread. A dropped future has done all or nothing of it.
    async fn ask<T: Send + 'static>(
        &self,
        durable: bool,
        job: impl FnOnce(&Connection) -> Result<T, Stop> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let path = self.path.clone();
        let job = Box::new(move |conn: &mut Connection| {
            // Whoever asked may have gone; the work is done all the same.
            reply.send(in_transaction(conn, &path, durable, job)).ok();
        });
        self.jobs.send(job).map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

fn in_transaction<T>(
    conn: &mut Connection,
    path: &Path,
    durable: bool,
    job: impl FnOnce(&Connection) -> Result<T, Stop>,
) -> Result<T> {
    let say = |e: rusqlite::Error| Failure::from(e).error(path);
    // What is not durable by itself becomes so with the next transaction that is.
    conn.pragma_update(None, "synchronous", if durable { "FULL" } else { "NORMAL" }).map_err(say)?;
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(say)?;
    match job(&tx) {
        Ok(value) => {
            tx.commit().map_err(|e| Failure::from(e).commit_error(path))?;
            Ok(value)
        }
        // The transaction is rolled back when it is dropped.
        Err(Stop::Refused(e)) => Err(e.with_context("file", path.display())),
        Err(Stop::Broken(f)) => Err(f.error(path)),
    }
}

#[async_trait]
impl TransferReader for SqliteTransfer {
    async fn survey(&self) -> Result<Survey> {
        let (id, last_number, last_event, moved_to) = self
            .ask(true, |conn| {
                let (number, event) = fill::counters(conn)?;
                Ok((moves::own_id(conn)?, number, event, moves::find(conn, Way::To)?))
            })
            .await?;
        let mut survey = Survey::new(self.place(id), last_number, last_event);
        survey.moved_to = moved_to.map(|(to, _)| to);
        Ok(survey)
    }

    async fn read(&self, kind: ItemKind, after: Option<&str>, limit: PartLimit) -> Result<Part> {
        let after = after.map(ToOwned::to_owned);
        self.ask(false, move |conn| fill::read(conn, kind, after.as_deref(), limit)).await
    }
}

#[async_trait]
impl TransferSource for SqliteTransfer {
    async fn retire(&self, to: &Place) -> Result<()> {
        let to = to.clone();
        self.ask(true, move |conn| match moves::find(conn, Way::To)? {
            Some((other, _)) if other.id != to.id => Err(moved_away(other.description).into()),
            _ => Ok(moves::set(conn, Way::To, &to, true)?),
        })
        .await
    }

    async fn reinstate(&self) -> Result<()> {
        self.ask(true, |conn| Ok(moves::clear(conn, Way::To)?)).await
    }
}

#[async_trait]
impl TransferTarget for SqliteTransfer {
    async fn begin(&self, from: &Survey) -> Result<Begun> {
        let (from, path) = (from.clone(), self.path.display().to_string());
        self.ask(true, move |conn| {
            match moves::find(conn, Way::From)? {
                Some((other, done)) if other.id == from.place.id => {
                    if done {
                        return Ok(Begun::Finished);
                    }
                    fill::empty(conn)?;
                }
                Some(_) => return Err(target_in_use(path).into()),
                None if fill::is_empty(conn)? => {}
                None => return Err(target_in_use(path).into()),
            }
            moves::set(conn, Way::From, &from.place, false)?;
            fill::raise_counters(conn, from.last_number, from.last_event)?;
            Ok(Begun::Empty)
        })
        .await
    }

    async fn write(&self, items: &[Item]) -> Result<()> {
        let rows = items.iter().map(ItemRow::of).collect::<Result<Vec<_>>>()?;
        let path = self.path.display().to_string();
        self.ask(false, move |conn| {
            if !matches!(moves::find(conn, Way::From)?, Some((_, false))) {
                return Err(target_in_use(path).into());
            }
            rows.iter().try_for_each(|row| fill::write(conn, row))
        })
        .await
    }

    async fn finish(&self) -> Result<()> {
        let path = self.path.display().to_string();
        self.ask(true, move |conn| match moves::find(conn, Way::From)? {
            Some((from, _)) => Ok(moves::set(conn, Way::From, &from, true)?),
            None => Err(target_in_use(path).into()),
        })
        .await
    }
}
