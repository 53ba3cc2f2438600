//! One batch inside a transaction: first everything is checked, then everything is written.

use crate::error::Failure;
use capomastro_core::{
    Error, Result,
    store::{
        Claim, Committed, Forget, RECORD_FORMAT,
        due::{After, Row, Taken, change, claim_of, holds, is_taken},
        refusals::{claim_lost, conflict, name_taken, newer_format, place_taken},
        rows::{BatchRows, EventRow, PutRow, micros, places_from_json, timestamp},
    },
    time::{Clock, Timestamp},
};
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};
use std::collections::{BTreeMap, BTreeSet};

/// Why an operation did not happen.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Its preconditions do not hold; nothing was written, and the transaction can go on.
    Refused(Error),
    /// Something unforeseen; the transaction has to be rolled back.
    Broken(Failure),
}

impl From<rusqlite::Error> for Stop {
    fn from(e: rusqlite::Error) -> Self {
        Self::Broken(e.into())
    }
}

impl From<Failure> for Stop {
    fn from(f: Failure) -> Self {
        Self::Broken(f)
    }
}

impl From<Error> for Stop {
    fn from(e: Error) -> Self {
        Self::Refused(e)
    }
}

/// A transaction with the file's counter, which is read once and written once.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    conn: &'a Connection,
    stored: i64,
    last: i64,
}

impl<'a> Session<'a> {
    /// The connection, inside its transaction.
    pub(crate) const fn conn(&self) -> &'a Connection {
        self.conn
    }

    /// Starts on a connection that is inside a transaction.
    pub(crate) fn new(conn: &'a Connection) -> Result<Self, Failure> {
        let stored = conn
            .prepare_cached("SELECT value FROM capomastro_meta WHERE name = 'counter'")?
            .query_row([], |r| r.get(0))?;
        Ok(Self { conn, stored, last: stored })
    }

    /// Draws a version or ticket.
    pub(crate) fn next(&mut self) -> i64 {
        self.last += 1;
        self.last
    }

    /// Writes the counter; to be called before the transaction ends.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        if self.last != self.stored {
            self.write_counter()?;
        }
        Ok(())
    }

    /// Writes the counter even if it did not move, as a proof that the file can be written.
    pub(crate) fn write_counter(&self) -> Result<(), Failure> {
        self.conn
            .prepare_cached("UPDATE capomastro_meta SET value = ?1 WHERE name = 'counter'")?
            .execute([self.last])?;
        Ok(())
    }
}

/// The time of an operation, in the precision in which it is stored.
pub(crate) fn time(clock: &dyn Clock) -> Result<Timestamp> {
    timestamp(micros(clock.now()))
}

/// What is stored of a record that is to be written.
pub(crate) struct Stored {
    id: i64,
    version: i64,
    format: i64,
    name: Option<String>,
    places: String,
}

/// Writes a batch, or says why not.
pub(crate) fn commit(
    session: &mut Session<'_>,
    now: Timestamp,
    batch: &BatchRows,
) -> Result<Committed, Stop> {
    let conn = session.conn;
    if let Some(answer) = repeated(conn, &batch.id).map_err(Stop::Broken)? {
        return Ok(answer);
    }
    let rows = check_due(conn, now, batch)?;
    let stored = check_versions(conn, batch)?;
    check_names(conn, batch, &stored)?;
    write(session, now, batch, stored, rows)
}

/// The answer to a batch that was committed before.
pub(crate) fn repeated(conn: &Connection, id: &str) -> Result<Option<Committed>, Failure> {
    let at: Option<i64> = conn
        .prepare_cached("SELECT at FROM capomastro_commits WHERE id = ?1")?
        .query_row([id], |r| r.get(0))
        .optional()?;
    at.map(|at| {
        let at = timestamp(at).map_err(|e| Failure::of_row(e.report()))?;
        Ok(Committed { at, repeated: true, claims: Vec::new(), forgotten: 0 })
    })
    .transpose()
}

/// The due rows that the batch touches; its claims hold.
fn check_due(conn: &Connection, now: Timestamp, batch: &BatchRows) -> Result<BTreeMap<String, Row>, Stop> {
    let mut rows = BTreeMap::new();
    let mut select = conn.prepare_cached(
        "SELECT lane, due_at, holder, ticket, nudge_at, note, format FROM capomastro_due WHERE task = ?1",
    )?;
    for task in batch.claims.iter().map(|(t, _)| t).chain(batch.due.iter().map(|d| &d.task)) {
        if let Some(row) = select.query_row([task], due_row).optional()? {
            timestamp(row.due_at)?;
            rows.insert(task.clone(), row);
        }
    }
    if let Some((task, _)) = batch.claims.iter().find(|(t, c)| !holds(rows.get(t), &batch.holder, c.ticket)) {
        return Err(claim_lost(task).into());
    }
    for due in &batch.due {
        let row = rows.get(&due.task);
        if let Some(row) = row.filter(|r| r.format > i64::from(RECORD_FORMAT)) {
            return Err(newer_format(format_args!("due/{}", due.task), row.format).into());
        }
        if is_taken(row, &due.change, claim_for(batch, &due.task).is_some(), now) {
            return Err(claim_lost(&due.task).into());
        }
    }
    Ok(rows)
}

fn claim_for<'b>(batch: &'b BatchRows, task: &str) -> Option<&'b Claim> {
    batch.claims.iter().find(|(t, _)| t == task).map(|(_, c)| c)
}

pub(crate) fn due_row(r: &SqlRow<'_>) -> rusqlite::Result<Row> {
    due_row_from(r, 0)
}

/// The same, whose first column is this one.
pub(crate) fn due_row_from(r: &SqlRow<'_>, first: usize) -> rusqlite::Result<Row> {
    Ok(Row {
        lane: r.get(first)?,
        due_at: r.get(first + 1)?,
        holder: r.get(first + 2)?,
        ticket: r.get(first + 3)?,
        nudge_at: r.get(first + 4)?,
        note: r.get(first + 5)?,
        format: r.get(first + 6)?,
    })
}

/// What is stored of the records that the batch writes, each of the expected version; its guards hold.
fn check_versions<'b>(conn: &Connection, batch: &'b BatchRows) -> Result<BTreeMap<&'b str, Stored>, Stop> {
    let mut found = BTreeMap::new();
    let mut select = conn
        .prepare_cached("SELECT id, version, format, name, places FROM capomastro_records WHERE key = ?1")?;
    let puts = batch.puts.iter().map(|p| (p.key.as_str(), p.expect));
    let deletes = batch.deletes.iter().map(|(key, version)| (key.as_str(), Some(*version)));
    for (key, expect) in puts.chain(deletes) {
        let stored = select
            .query_row([key], |r| {
                Ok(Stored {
                    id: r.get(0)?,
                    version: r.get(1)?,
                    format: r.get(2)?,
                    name: r.get(3)?,
                    places: r.get(4)?,
                })
            })
            .optional()?;
        if let Some(s) = stored.as_ref().filter(|s| s.format > i64::from(RECORD_FORMAT)) {
            return Err(newer_format(key, s.format).into());
        }
        expected(key, expect, stored.as_ref().map(|s| s.version))?;
        found.extend(stored.map(|s| (key, s)));
    }
    let mut select = conn.prepare_cached("SELECT version FROM capomastro_records WHERE key = ?1")?;
    for (key, expect) in &batch.guards {
        expected(key, *expect, select.query_row([key], |r| r.get(0)).optional()?)?;
    }
    Ok(found)
}

fn expected(key: &str, expect: Option<i64>, stored: Option<i64>) -> Result<()> {
    if expect == stored { Ok(()) } else { Err(conflict(key, expect, stored)) }
}

/// No unique name, and no place in a list, has two records after the batch.
fn check_names(conn: &Connection, batch: &BatchRows, stored: &BTreeMap<&str, Stored>) -> Result<(), Stop> {
    // A record that is written itself gives up what it has before anything is taken.
    let stays = |owner: Option<String>| owner.filter(|key| !stored.contains_key(key.as_str()));
    let mut names = BTreeSet::new();
    let mut places = BTreeSet::new();
    for put in &batch.puts {
        let before = stored.get(put.key.as_str());
        if let Some(name) = &put.name {
            let same = before.is_some_and(|b| b.name.as_ref() == Some(name));
            let taken = if same { None } else { stays(owner_of_name(conn, name)?) };
            if taken.is_some() || !names.insert(name) {
                return Err(name_taken(name, taken.as_deref()).into());
            }
        }
        let same = before.is_some_and(|b| b.places == put.places);
        for (list, sort) in &put.lists {
            let taken = if same { None } else { stays(owner_of_place(conn, list, sort)?) };
            if taken.is_some() || !places.insert((list, sort)) {
                return Err(place_taken(list, sort).into());
            }
        }
    }
    Ok(())
}

pub(crate) fn owner_of_name(conn: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    conn.prepare_cached("SELECT key FROM capomastro_names WHERE name = ?1")?
        .query_row([name], |r| r.get(0))
        .optional()
}

pub(crate) fn owner_of_place(conn: &Connection, list: &str, sort: &str) -> rusqlite::Result<Option<String>> {
    conn.prepare_cached("SELECT key FROM capomastro_lists WHERE list = ?1 AND sort = ?2")?
        .query_row([list, sort], |r| r.get(0))
        .optional()
}

fn write(
    session: &mut Session<'_>,
    now: Timestamp,
    batch: &BatchRows,
    stored: BTreeMap<&str, Stored>,
    mut rows: BTreeMap<String, Row>,
) -> Result<Committed, Stop> {
    let conn = session.conn;
    // Names and places are freed before they are taken again, so that two records can swap them.
    for put in &batch.puts {
        if let Some(before) = stored.get(put.key.as_str()) {
            if before.name != put.name {
                free_name(conn, before)?;
            }
            if before.places != put.places {
                free_places(conn, &put.key, before)?;
            }
        }
    }
    for (key, _) in &batch.deletes {
        if let Some(before) = stored.get(key.as_str()) {
            free_name(conn, before)?;
            free_places(conn, key, before)?;
            conn.prepare_cached("DELETE FROM capomastro_records WHERE id = ?1")?.execute([before.id])?;
        }
    }
    for put in &batch.puts {
        let version = session.next();
        write_record(conn, put, stored.get(put.key.as_str()), version)?;
    }
    let mut claims = Vec::new();
    for due in &batch.due {
        let held = claim_for(batch, &due.task);
        let row = rows.remove(&due.task);
        let (after, taken) =
            change(row, &due.change, due.note.as_deref(), held.is_some(), &batch.holder, now, || {
                session.next()
            });
        write_due(conn, &due.task, due.rank, &after)?;
        if let (Some(taken), After::Write(row)) = (taken, &after) {
            claims.push(born(&taken, held, row, &due.task)?);
        }
    }
    let forgotten = batch.forget.as_ref().map_or(Ok(0), |f| forget(conn, f))?;
    for event in &batch.events {
        write_event(conn, now, event)?;
    }
    conn.prepare_cached("INSERT INTO capomastro_commits (id, at) VALUES (?1, ?2)")?
        .execute(params![batch.id, micros(now)])?;
    Ok(Committed { at: now, repeated: false, claims, forgotten })
}

/// After the first write nothing may be refused any more: what cannot be is a fault of the whole transaction.
fn born(taken: &Taken, held: Option<&Claim>, row: &Row, task: &str) -> Result<Claim, Stop> {
    claim_of(taken, held, &row.note, task).map_err(|e| Stop::Broken(Failure::of_row(e.report())))
}

fn free_name(conn: &Connection, before: &Stored) -> Result<(), Stop> {
    if let Some(name) = &before.name {
        conn.prepare_cached("DELETE FROM capomastro_names WHERE name = ?1")?.execute([name])?;
    }
    Ok(())
}

fn free_places(conn: &Connection, key: &str, before: &Stored) -> Result<(), Stop> {
    let mut delete =
        conn.prepare_cached("DELETE FROM capomastro_lists WHERE list = ?1 AND sort = ?2 AND key = ?3")?;
    let places =
        places_from_json(key, &before.places).map_err(|e| Stop::Broken(Failure::of_row(e.report())))?;
    for (list, sort) in places {
        delete.execute([&list, &sort, key])?;
    }
    Ok(())
}

/// The one place that writes a record. Columns of their own for a hot kind belong here.
pub(crate) fn write_record(
    conn: &Connection,
    put: &PutRow,
    before: Option<&Stored>,
    version: i64,
) -> Result<(), Stop> {
    match before {
        Some(stored) => {
            conn.prepare_cached(
                "UPDATE capomastro_records SET version = ?2, format = ?3, name = ?4, places = ?5, data = ?6 WHERE id = ?1",
            )?
            .execute(params![stored.id, version, RECORD_FORMAT, put.name, put.places, put.data])?;
        }
        None => {
            conn.prepare_cached(
                "INSERT INTO capomastro_records (key, version, format, kind, name, places, data) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                put.key,
                version,
                RECORD_FORMAT,
                put.kind,
                put.name,
                put.places,
                put.data
            ])?;
        }
    }
    if before.is_none_or(|b| b.name != put.name)
        && let Some(name) = &put.name
    {
        conn.prepare_cached("INSERT INTO capomastro_names (name, key) VALUES (?1, ?2)")?
            .execute([name, &put.key])?;
    }
    if before.is_none_or(|b| b.places != put.places) {
        let mut insert =
            conn.prepare_cached("INSERT INTO capomastro_lists (list, sort, key) VALUES (?1, ?2, ?3)")?;
        for (list, sort) in &put.lists {
            insert.execute([list, sort, &put.key])?;
        }
    }
    Ok(())
}

pub(crate) fn write_due(conn: &Connection, task: &str, rank: i64, after: &After) -> Result<(), Stop> {
    match after {
        After::Same => {}
        After::Gone => {
            conn.prepare_cached("DELETE FROM capomastro_due WHERE task = ?1")?.execute([task])?;
        }
        After::Write(row) => {
            conn.prepare_cached(
                "INSERT INTO capomastro_due (task, rank, lane, due_at, holder, ticket, nudge_at, note, format) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
                 ON CONFLICT (task) DO UPDATE SET lane = ?3, due_at = ?4, holder = ?5, ticket = ?6, nudge_at = ?7, \
                 note = ?8, format = ?9",
            )?
            .execute(params![
                task,
                rank,
                row.lane,
                row.due_at,
                row.holder,
                row.ticket,
                row.nudge_at,
                row.note,
                RECORD_FORMAT
            ])?;
        }
    }
    Ok(())
}

fn write_event(conn: &Connection, now: Timestamp, event: &EventRow) -> Result<(), Stop> {
    conn.prepare_cached(
        "INSERT INTO capomastro_events (at, dependency, project, format, data) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![micros(now), event.dependency, event.project, RECORD_FORMAT, event.data])?;
    Ok(())
}

/// How many events or ids went: the greater number.
fn forget(conn: &Connection, forget: &Forget) -> Result<u64, Stop> {
    let mut events = 0;
    let newest_to_go: Option<i64> = conn
        .prepare_cached("SELECT seq FROM capomastro_events ORDER BY seq DESC LIMIT 1 OFFSET ?1")?
        .query_row([i64::try_from(forget.keep_events).unwrap_or(i64::MAX)], |r| r.get(0))
        .optional()?;
    if let Some(newest) = newest_to_go {
        events = conn
            .prepare_cached(
                "DELETE FROM capomastro_events WHERE seq IN \
             (SELECT seq FROM capomastro_events WHERE at < ?1 AND seq <= ?2 ORDER BY at, seq LIMIT ?3)",
            )?
            .execute(params![micros(forget.events_before), newest, forget.at_most])?;
    }
    let ids = conn
        .prepare_cached(
            "DELETE FROM capomastro_commits WHERE id IN \
         (SELECT id FROM capomastro_commits WHERE at < ?1 ORDER BY at, id LIMIT ?2)",
        )?
        .execute(params![micros(forget.commits_before), forget.at_most])?;
    Ok(events.max(ids) as u64)
}
