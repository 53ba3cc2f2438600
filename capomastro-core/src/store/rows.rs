//! From records to rows of tables and back, for those who keep a store in a database: a batch as columns that need no
//! knowledge of records, and what was read of such columns as records again.
//!
//! Times are microseconds since 1970 UTC; versions, tickets and numbers of events are signed, as databases count.

use crate::{
    Error, Result,
    events::{Event, StoredEvent},
    model::Note,
    store::{
        Batch, Claim, DueChange, DueRow, Forget, Key, PutBack, RECORD_FORMAT, Record, Task, Version,
        Versioned, due,
        refusals::{damaged, newer_format},
    },
    time::Timestamp,
};
use chrono::DateTime;
use std::time::Duration;

/// The largest record or event, in bytes of JSON: far above any real one, far below what databases can keep.
const MAX_BYTES: usize = 32 << 20;

/// A batch in the form of rows.
#[derive(Debug)]
#[non_exhaustive]
pub struct BatchRows {
    /// The id of the batch.
    pub id: String,
    /// Who writes.
    pub holder: String,
    /// Records to write.
    pub puts: Vec<PutRow>,
    /// Records to delete: key and expected version.
    pub deletes: Vec<(String, i64)>,
    /// What else was read: key and expected version.
    pub guards: Vec<(String, Option<i64>)>,
    /// Claims that must hold, by their task.
    pub claims: Vec<(String, Claim)>,
    /// Changes of due rows.
    pub due: Vec<DueChangeRow>,
    /// What happened.
    pub events: Vec<EventRow>,
    /// What may be forgotten.
    pub forget: Option<Forget>,
}

/// A record in the form of a row.
#[derive(Debug)]
#[non_exhaustive]
pub struct PutRow {
    /// Its key.
    pub key: String,
    /// The word before the first `/` of the key.
    pub kind: String,
    /// The version that must be stored; `None` means that there must be none.
    pub expect: Option<i64>,
    /// Its unique name.
    pub name: Option<String>,
    /// The lists in which it is found, each with the text by which it is sorted there.
    pub lists: Vec<(String, String)>,
    /// The lists as JSON, to be compared with those of the stored row.
    pub places: String,
    /// The record as JSON.
    pub data: String,
}

/// A change of a due row, with what the row needs of the task.
#[derive(Debug)]
#[non_exhaustive]
pub struct DueChangeRow {
    /// The task as text.
    pub task: String,
    /// The place of its kind among tasks that are due at the same time.
    pub rank: i64,
    /// The change.
    pub change: DueChange,
    /// The new note as text, if one is given.
    pub note: Option<String>,
}

/// An event in the form of a row.
#[derive(Debug)]
#[non_exhaustive]
pub struct EventRow {
    /// The dependency that it is about.
    pub dependency: Option<String>,
    /// The project that it is about.
    pub project: Option<String>,
    /// The event as JSON.
    pub data: String,
}

/// A claim to be given back, in the form of a row.
#[derive(Debug)]
#[non_exhaustive]
pub struct PutBackRow {
    /// The task as text.
    pub task: String,
    /// The ticket of the claim.
    pub ticket: i64,
    /// After how long the task is due again.
    pub after: Duration,
    /// The new note as JSON.
    pub note: String,
}

/// A stored row of a record, before it is decoded.
#[derive(Debug)]
pub struct RecordRow {
    /// Its key.
    pub key: String,
    /// Its version.
    pub version: i64,
    /// The format in which it was written.
    pub format: i64,
    /// The record as JSON.
    pub data: String,
}

/// A time in microseconds since 1970 UTC.
pub const fn micros(at: Timestamp) -> i64 {
    at.timestamp_micros()
}

/// The time of so many microseconds since 1970 UTC.
///
/// # Errors
/// [`Corrupt`](crate::ErrorKind::Corrupt) if there is no such time.
pub fn timestamp(micros: i64) -> Result<Timestamp> {
    DateTime::from_timestamp_micros(micros).ok_or_else(|| damaged("a time", micros))
}

/// A version, ticket or number of an event, as the traits count.
///
/// # Errors
/// [`Corrupt`](crate::ErrorKind::Corrupt) for a negative one.
pub fn unsigned(number: i64) -> Result<u64> {
    u64::try_from(number).map_err(|_| damaged("a counter", number))
}

/// A number given by a caller, as databases count; one that they cannot hold is never stored.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(-1)
}

fn to_json<T: serde::Serialize>(what: &str, value: &T) -> Result<String> {
    let text = serde_json::to_string(value).map_err(|e| {
        Error::internal(format!("{what} cannot be written as JSON: report this")).with_source(e)
    })?;
    if text.len() > MAX_BYTES {
        return Err(Error::invalid(format!(
            "{what} is larger than {MAX_BYTES} bytes: split what it describes into smaller parts"
        )));
    }
    Ok(text)
}

/// The bookkeeping of a due row as JSON.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) if it is larger than a store keeps.
pub fn note_to_json(note: &Note) -> Result<String> {
    to_json("a note", note)
}

/// The bookkeeping of a due row. It is lossy: a damaged one is an empty one, and no reason to stop.
pub fn note_from_json(task: &str, text: &str) -> Note {
    serde_json::from_str(text).unwrap_or_else(|e| {
        tracing::warn!(task, error = %e, "the note of a due row cannot be read and is taken as empty");
        Note::default()
    })
}

/// The rows of a batch.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a batch that contradicts itself, or a record larger than a store
/// keeps.
pub fn encode(batch: &Batch) -> Result<BatchRows> {
    batch.check_form()?;
    let puts = batch.puts.iter().map(|put| encode_record(&put.record, put.expect)).collect::<Result<_>>()?;
    Ok(BatchRows {
        id: batch.id.to_string(),
        holder: batch.holder.to_string(),
        puts,
        deletes: batch.deletes.iter().map(|(k, v)| (k.to_string(), signed(*v))).collect(),
        guards: batch.guards.iter().map(|(k, v)| (k.to_string(), v.map(signed))).collect(),
        claims: batch.claims.iter().map(|c| (c.task.to_string(), c.clone())).collect(),
        due: batch.due.iter().map(encode_due).collect::<Result<_>>()?,
        events: batch.events.iter().map(encode_event).collect::<Result<_>>()?,
        forget: batch.forget,
    })
}

/// Claims to be given back, in the form of rows.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) if a note is larger than a store keeps.
pub fn encode_put_backs(items: &[PutBack]) -> Result<Vec<PutBackRow>> {
    let row = |item: &PutBack| {
        Ok(PutBackRow {
            task: item.claim.task.to_string(),
            ticket: signed(item.claim.ticket),
            after: item.after,
            note: note_to_json(&item.note)?,
        })
    };
    items.iter().map(row).collect()
}

pub(super) fn encode_record(record: &Record, expect: Option<Version>) -> Result<PutRow> {
    let key = record.key().to_string();
    let lists: Vec<_> = record.lists().into_iter().map(|(l, s)| (l.as_str().to_owned(), s)).collect();
    Ok(PutRow {
        kind: key.split('/').next().unwrap_or(&key).to_owned(),
        expect: expect.map(signed),
        name: record.unique().map(|u| u.as_str().to_owned()),
        places: to_json("the lists of a record", &lists)?,
        lists,
        data: to_json("a record", record)?,
        key,
    })
}

fn encode_due(change: &DueChange) -> Result<DueChangeRow> {
    let note = match change {
        DueChange::Set { note: Some(note), .. } => Some(note_to_json(note)?),
        _ => None,
    };
    let task = change.task();
    Ok(DueChangeRow { task: task.to_string(), rank: rank(task), change: change.clone(), note })
}

/// The place of a kind of task among those that are due at the same time: the order of `Task` itself. Stored, so with gaps
/// for kinds that come later.
pub(super) const fn rank(task: Task) -> i64 {
    match task {
        Task::Look(_) => 10,
        Task::Evaluate(_) => 20,
        Task::Drive(_) => 30,
        Task::Release(_) => 40,
        Task::Judge(_) => 50,
        Task::Trim(_) => 60,
        Task::Sweep => 1_000,
    }
}

pub(super) fn encode_event(event: &Event) -> Result<EventRow> {
    Ok(EventRow {
        dependency: event.dependency.map(|d| d.to_string()),
        project: event.project.map(|p| p.to_string()),
        data: to_json("an event", event)?,
    })
}

/// The lists that a stored row says it is in.
///
/// # Errors
/// [`Corrupt`](crate::ErrorKind::Corrupt).
pub fn places_from_json(key: &str, places: &str) -> Result<Vec<(String, String)>> {
    serde_json::from_str(places).map_err(|e| damaged("the lists of a record", key).with_source(e))
}

/// The record of a row.
///
/// # Errors
/// [`NewerFormat`](crate::ErrorKind::NewerFormat), [`Corrupt`](crate::ErrorKind::Corrupt).
pub fn decode(row: &RecordRow) -> Result<Versioned> {
    decode_stored(row, |key| key)
}

/// The record of a row whose key is stored in another form: `stored` makes that form of a key.
///
/// # Errors
/// As [`decode`].
pub fn decode_stored(row: &RecordRow, stored: impl FnOnce(String) -> String) -> Result<Versioned> {
    if row.format > i64::from(RECORD_FORMAT) {
        return Err(newer_format(&row.key, row.format));
    }
    let record: Record =
        serde_json::from_str(&row.data).map_err(|e| damaged("a record", &row.key).with_source(e))?;
    if stored(record.key().to_string()) != row.key {
        return Err(damaged("the key of a record", &row.key));
    }
    let version = unsigned(row.version).map_err(|_| damaged("the version of a record", &row.key))?;
    Ok(Versioned { version, record })
}

/// The event of a row.
///
/// # Errors
/// [`NewerFormat`](crate::ErrorKind::NewerFormat), [`Corrupt`](crate::ErrorKind::Corrupt).
pub fn decode_event(seq: i64, at: i64, format: i64, data: &str) -> Result<StoredEvent> {
    if format > i64::from(RECORD_FORMAT) {
        return Err(newer_format(format_args!("event/{seq}"), format));
    }
    let event = serde_json::from_str(data).map_err(|e| damaged("an event", seq).with_source(e))?;
    let at = timestamp(at).map_err(|_| damaged("the time of an event", seq))?;
    Ok(StoredEvent { seq: unsigned(seq)?, at, event })
}

/// A due row as it can be read.
///
/// # Errors
/// [`NewerFormat`](crate::ErrorKind::NewerFormat), [`Corrupt`](crate::ErrorKind::Corrupt).
pub fn decode_due(task: Task, row: &due::Row) -> Result<Versioned> {
    if row.format > i64::from(RECORD_FORMAT) {
        return Err(newer_format(Key::Due(task), row.format));
    }
    let record = Record::Due(DueRow {
        task,
        lane: row.lane.parse()?,
        due_at: timestamp(row.due_at)?,
        claimed_by: row.holder.clone(),
        ticket: unsigned(row.ticket)?,
        note: note_from_json(&task.to_string(), &row.note),
    });
    Ok(Versioned { version: unsigned(row.ticket)?.saturating_add(1), record })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BuildId, DependencyId};

    #[test]
    fn kinds_of_tasks_rank_as_they_are_ordered() {
        let (dependency, build) =
            (DependencyId::from_uuid(uuid::Uuid::nil()), BuildId::from_uuid(uuid::Uuid::nil()));
        let mut tasks = [
            Task::Sweep,
            Task::Trim(dependency),
            Task::Judge(build),
            Task::Release(build),
            Task::Drive(build),
            Task::Evaluate(dependency),
            Task::Look(dependency),
        ];
        tasks.sort();
        assert!(tasks.windows(2).all(|pair| rank(pair[0]) < rank(pair[1])), "{tasks:?}");
    }
}
