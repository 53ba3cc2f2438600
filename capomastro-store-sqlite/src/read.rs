//! The threads that read: each call is answered from one snapshot.

use crate::{
    apply::{due_row, time},
    claims::{LANE, is_ready},
    error::{Failure, closed},
};
use capomastro_core::{
    Error, Result,
    events::StoredEvent,
    model::EventSeq,
    store::{
        ClaimAsk, Claimed, EventFilter, EventPage, Key, Page, Query, RECORD_FORMAT, Snapshot, Versioned,
        refusals::damaged,
        rows::{RecordRow, decode, decode_due, decode_event, timestamp},
    },
    time::{Clock, Timestamp},
};
use rusqlite::{Connection, OptionalExtension, params};
use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// The most reads that wait; further callers wait for a place.
const WAITING: usize = 256;

type Read = Box<dyn FnOnce(&Connection) + Send>;

enum Message {
    Do(Read),
    Stop,
}

/// The way to the reading threads. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Readers {
    sender: Sender<Message>,
    places: Semaphore,
    threads: usize,
    path: PathBuf,
}

/// Why a read failed.
pub(crate) enum Unread {
    Error(Error),
    Failure(Failure),
}

impl From<Error> for Unread {
    fn from(e: Error) -> Self {
        Self::Error(e)
    }
}

impl From<Failure> for Unread {
    fn from(f: Failure) -> Self {
        Self::Failure(f)
    }
}

impl From<rusqlite::Error> for Unread {
    fn from(e: rusqlite::Error) -> Self {
        Self::Failure(e.into())
    }
}

impl Readers {
    /// Starts one thread for each connection. Each drops its `alive` when it has ended.
    pub(crate) fn start(
        path: &Path,
        connections: Vec<Connection>,
        alive: &mpsc::Sender<Infallible>,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let threads = connections.len();
        for (number, conn) in connections.into_iter().enumerate() {
            let receiver = Arc::clone(&receiver);
            let alive = alive.clone();
            std::thread::Builder::new().name(format!("capomastro-sqlite-reader-{number}")).spawn(
                move || {
                    while let Some(read) = next(&receiver) {
                        read(&conn);
                    }
                    drop(conn);
                    drop(alive);
                },
            )?;
        }
        Ok(Self { sender, places: Semaphore::new(WAITING), threads, path: path.to_owned() })
    }

    /// Runs `read` on a connection, inside one transaction. Needs no runtime.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Unread> + Send + 'static,
    ) -> Result<T> {
        let _place = self.places.acquire().await.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        let read = Box::new(move |conn: &Connection| {
            if !reply.is_closed() {
                // Whoever asked may have gone meanwhile.
                reply.send(snapshot(conn, read)).ok();
            }
        });
        self.sender.send(Message::Do(read)).map_err(|_| closed())?;
        match answer.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Unread::Error(e))) => Err(e.with_context("file", self.path.display())),
            Ok(Err(Unread::Failure(f))) => Err(f.error(&self.path)),
            Err(_) => Err(closed()),
        }
    }

    /// Takes no more reads; those that were handed in are still answered.
    pub(crate) fn close(&self) {
        self.places.close();
        for _ in 0..self.threads {
            // If all threads have ended already, there is nobody to tell.
            self.sender.send(Message::Stop).ok();
        }
    }
}

/// The next read, taken by one thread at a time; `None` at the end.
fn next(receiver: &Mutex<Receiver<Message>>) -> Option<Read> {
    match receiver.lock().unwrap_or_else(PoisonError::into_inner).recv() {
        Ok(Message::Do(read)) => Some(read),
        Ok(Message::Stop) | Err(_) => None,
    }
}

fn snapshot<T>(conn: &Connection, read: impl FnOnce(&Connection) -> Result<T, Unread>) -> Result<T, Unread> {
    conn.prepare_cached("BEGIN")?.execute([])?;
    let value = read(conn);
    // Nothing was written, so that there is nothing to lose by it.
    let ended = conn.prepare_cached("ROLLBACK").and_then(|mut s| s.execute([]));
    let value = value?;
    ended?;
    Ok(value)
}

/// The records of these keys.
pub(crate) fn get(conn: &Connection, clock: &dyn Clock, keys: &[Key]) -> Result<Snapshot, Unread> {
    let at = time(clock)?;
    let mut select =
        conn.prepare_cached("SELECT key, version, format, data FROM capomastro_records WHERE key = ?1")?;
    let mut records = Vec::with_capacity(keys.len());
    for key in keys {
        let found = match key {
            Key::Due(task) => conn
                .prepare_cached(
                    "SELECT lane, due_at, holder, ticket, nudge_at, note, format FROM capomastro_due WHERE task = ?1",
                )?
                .query_row([task.to_string()], due_row)
                .optional()?
                .map(|row| decode_due(*task, &row)),
            other => select.query_row([other.to_string()], record_row).optional()?.map(|row| decode(&row)),
        };
        records.push(found.transpose()?);
    }
    Ok(Snapshot { at, records })
}

fn record_row(r: &rusqlite::Row<'_>) -> rusqlite::Result<RecordRow> {
    Ok(RecordRow { key: r.get(0)?, version: r.get(1)?, format: r.get(2)?, data: r.get(3)? })
}

/// The columns of a list's rows; what follows says which of them.
macro_rules! list_rows {
    ($which:literal) => {
        concat!(
            "SELECT l.key, r.version, r.format, r.data, l.sort FROM capomastro_lists l \
             LEFT JOIN capomastro_records r ON r.key = l.key WHERE l.list = ?1 ",
            $which,
            " LIMIT ?2"
        )
    };
}

const FORWARDS: &str = list_rows!("AND l.sort > ?3 ORDER BY l.sort");
const BACKWARDS: &str = list_rows!("AND l.sort < ?3 ORDER BY l.sort DESC");
const FROM_THE_START: &str = list_rows!("ORDER BY l.sort");
const FROM_THE_END: &str = list_rows!("ORDER BY l.sort DESC");

/// A part of a list.
pub(crate) fn list(
    conn: &Connection,
    clock: &dyn Clock,
    query: &Query,
    after: Option<&str>,
    limit: i64,
) -> Result<Page, Unread> {
    let at = time(clock)?;
    let (list, backwards) = match query {
        Query::List { list, backwards } => (list, *backwards),
        Query::Unique(name) => {
            let found = conn
                .prepare_cached(
                    "SELECT r.key, r.version, r.format, r.data FROM capomastro_names n \
                     JOIN capomastro_records r ON r.key = n.key WHERE n.name = ?1",
                )?
                .query_row([name.as_str()], record_row)
                .optional()?;
            let items = found.iter().map(decode).collect::<Result<_>>()?;
            return Ok(Page { at, items, next: None });
        }
        _ => return Err(Error::internal("this store does not know this kind of query: upgrade it").into()),
    };
    // A statement for each case: a bound that may be missing would be read over instead of sought.
    let sql = match (backwards, after) {
        (false, None) => FROM_THE_START,
        (false, Some(_)) => FORWARDS,
        (true, None) => FROM_THE_END,
        (true, Some(_)) => BACKWARDS,
    };
    let mut select = conn.prepare_cached(sql)?;
    let mut rows = match after {
        Some(after) => select.query(params![list.as_str(), limit + 1, after])?,
        None => select.query(params![list.as_str(), limit + 1])?,
    };
    let mut items: Vec<Versioned> = Vec::new();
    let mut last: Option<String> = None;
    while let Some(row) = rows.next()? {
        if i64::try_from(items.len()) == Ok(limit) {
            return Ok(Page { at, items, next: last });
        }
        if row.get::<_, Option<i64>>(1)?.is_none() {
            return Err(
                damaged("a list", format_args!("{}: {}", list.as_str(), row.get::<_, String>(0)?)).into()
            );
        }
        items.push(decode(&record_row(row)?)?);
        last = Some(row.get(4)?);
    }
    Ok(Page { at, items, next: None })
}

/// A part of the event stream.
pub(crate) fn events(
    conn: &Connection,
    filter: EventFilter,
    after: EventSeq,
    limit: i64,
) -> Result<EventPage, Unread> {
    let from = i64::try_from(after).unwrap_or(i64::MAX);
    let (sql, about) = events_of(filter)?;
    let mut select = conn.prepare_cached(sql)?;
    let mut rows = match &about {
        Some(id) => select.query(params![from, limit, id])?,
        None => select.query(params![from, limit])?,
    };
    let mut items: Vec<StoredEvent> = Vec::new();
    while let Some(row) = rows.next()? {
        let data: String = row.get(3)?;
        items.push(decode_event(row.get(0)?, row.get(1)?, row.get(2)?, &data)?);
    }
    let upto = match items.last() {
        Some(last) if i64::try_from(items.len()) == Ok(limit) => last.seq,
        _ => {
            let last: Option<i64> = conn
                .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'capomastro_events'")?
                .query_row([], |r| r.get(0))
                .optional()?;
            u64::try_from(last.unwrap_or(0)).unwrap_or(0).max(after)
        }
    };
    Ok(EventPage { items, upto })
}

/// The statement of a filter, and what it asks about.
fn events_of(filter: EventFilter) -> Result<(&'static str, Option<String>)> {
    Ok(match filter {
        EventFilter::All => {
            ("SELECT seq, at, format, data FROM capomastro_events WHERE seq > ?1 ORDER BY seq LIMIT ?2", None)
        }
        EventFilter::Dependency(id) => (
            "SELECT seq, at, format, data FROM capomastro_events WHERE seq > ?1 AND dependency = ?3 ORDER BY seq LIMIT ?2",
            Some(id.to_string()),
        ),
        EventFilter::Project(id) => (
            "SELECT seq, at, format, data FROM capomastro_events WHERE seq > ?1 AND project = ?3 ORDER BY seq LIMIT ?2",
            Some(id.to_string()),
        ),
        _ => return Err(Error::internal("this store does not know this filter of events: upgrade it")),
    })
}

/// Whether an ask would find anything: `Some` is its answer if not, so that looking in vain writes nothing.
pub(crate) fn nothing_due(
    conn: &Connection,
    clock: &dyn Clock,
    ask: &ClaimAsk,
) -> Result<Option<Claimed>, Unread> {
    let now = time(clock)?;
    let mut select = conn.prepare_cached(LANE)?;
    let mut next_due: Option<Timestamp> = None;
    for lane in &ask.lanes {
        let first: Option<i64> =
            select.query_row(params![lane.lane.to_string(), RECORD_FORMAT, 1], |r| r.get(1)).optional()?;
        if let Some(first) = first {
            if lane.limit > 0 && is_ready(first, now) {
                return Ok(None);
            }
            let at = timestamp(first).unwrap_or(now);
            next_due = Some(next_due.map_or(at, |n| n.min(at)));
        }
    }
    Ok(Some(Claimed { now, claims: Vec::new(), next_due }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::migrate;
    use capomastro_core::model::{DependencyId, ProjectId};

    /// Pages and claims cost what they return, however much is stored.
    #[test]
    fn no_statement_scans_or_sorts() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn).unwrap().unwrap();
        let id = uuid::Uuid::nil();
        let statements = [
            LANE,
            FORWARDS,
            BACKWARDS,
            FROM_THE_START,
            FROM_THE_END,
            events_of(EventFilter::All).unwrap().0,
            events_of(EventFilter::Dependency(DependencyId::from_uuid(id))).unwrap().0,
            events_of(EventFilter::Project(ProjectId::from_uuid(id))).unwrap().0,
        ];
        for sql in statements {
            let mut plan = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let mut rows = plan.raw_query();
            let mut steps: Vec<String> = Vec::new();
            while let Some(row) = rows.next().unwrap() {
                steps.push(row.get(3).unwrap());
            }
            assert!(!steps.is_empty(), "{sql}");
            for step in steps {
                assert!(step.starts_with("SEARCH"), "{step}: {sql}");
            }
        }
    }
}
