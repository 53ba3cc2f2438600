//! From records to rows and back. All serialization is done by the caller's thread or a reader's, never the writer's.

use capomastro_core::{
    Error, ErrorKind, Result,
    events::{Event, StoredEvent},
    model::Note,
    store::{Batch, Claim, DueChange, DueRow, Forget, Key, RECORD_FORMAT, Record, Task, Version, Versioned},
    time::Timestamp,
};
use chrono::DateTime;
use std::{collections::BTreeSet, fmt::Display};

/// The largest record or event, in bytes of JSON: far above any real one, far below what SQLite can keep.
const MAX_BYTES: usize = 32 << 20;

/// A batch in the form of rows.
#[derive(Debug)]
pub(crate) struct EncodedBatch {
    pub(crate) id: String,
    pub(crate) holder: String,
    pub(crate) puts: Vec<EncodedPut>,
    pub(crate) deletes: Vec<(String, i64)>,
    pub(crate) guards: Vec<(String, Option<i64>)>,
    pub(crate) claims: Vec<(String, Claim)>,
    pub(crate) due: Vec<EncodedDue>,
    pub(crate) events: Vec<EncodedEvent>,
    pub(crate) forget: Option<Forget>,
}

/// A record in the form of a row. A kind that gets columns of its own gets them here, in `apply` where the row is
/// written, and in `read` where it is fetched.
#[derive(Debug)]
pub(crate) struct EncodedPut {
    pub(crate) key: String,
    pub(crate) kind: String,
    pub(crate) expect: Option<i64>,
    pub(crate) name: Option<String>,
    pub(crate) lists: Vec<(String, String)>,
    /// The lists as text, to be compared with those of the stored row.
    pub(crate) places: String,
    pub(crate) data: String,
}

/// A change of a due row, with what the row needs of the task.
#[derive(Debug)]
pub(crate) struct EncodedDue {
    pub(crate) task: String,
    pub(crate) rank: i64,
    pub(crate) change: DueChange,
    /// The new note as text, if one is given.
    pub(crate) note: Option<String>,
}

/// An event in the form of a row.
#[derive(Debug)]
pub(crate) struct EncodedEvent {
    pub(crate) dependency: Option<String>,
    pub(crate) project: Option<String>,
    pub(crate) data: String,
}

/// A stored row of a record, before it is decoded.
#[derive(Debug)]
pub(crate) struct RecordRow {
    pub(crate) key: String,
    pub(crate) version: i64,
    pub(crate) format: i64,
    pub(crate) data: String,
}

pub(crate) fn micros(at: Timestamp) -> i64 {
    at.timestamp_micros()
}

pub(crate) fn timestamp(micros: i64) -> Result<Timestamp> {
    DateTime::from_timestamp_micros(micros).ok_or_else(|| damaged("a time", micros))
}

/// A number that the file's counter has given, as the traits count.
pub(crate) fn unsigned(number: i64) -> Result<u64> {
    u64::try_from(number).map_err(|_| damaged("a counter", number))
}

/// A version given by a caller, as the file counts; one that the file cannot hold is never stored.
fn signed(version: Version) -> i64 {
    i64::try_from(version).unwrap_or(-1)
}

pub(crate) fn damaged(what: &str, value: impl Display) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("{what} in the store is damaged: restore a backup, and check that no other program changes the tables"),
    )
    .with_context("value", value.to_string().escape_debug())
}

pub(crate) fn newer(key: impl Display, format: i64) -> Error {
    Error::new(
        ErrorKind::NewerFormat,
        "this was written by a newer version of the library: upgrade this process before it works on it",
    )
    .with_context("key", key)
    .with_context("format", format)
    .with_context("known", RECORD_FORMAT)
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

pub(crate) fn note_to_json(note: &Note) -> Result<String> {
    to_json("a note", note)
}

/// A note is lossy: a damaged one is an empty one, and no reason to stop.
pub(crate) fn note_from_json(task: &str, text: &str) -> Note {
    serde_json::from_str(text).unwrap_or_else(|e| {
        tracing::warn!(task, error = %e, "the note of a due row cannot be read and is taken as empty");
        Note::default()
    })
}

/// The rows of a batch.
///
/// # Errors
/// [`InvalidInput`](ErrorKind::InvalidInput) for a batch that contradicts itself.
pub(crate) fn encode(batch: &Batch) -> Result<EncodedBatch> {
    let mut written = BTreeSet::new();
    let mut once = |key: &Key| {
        if matches!(key, Key::Due(_)) {
            return Err(Error::invalid("a due row is not written as a record: change it by `due`")
                .with_context("key", key));
        }
        if written.insert(key.to_string()) {
            Ok(())
        } else {
            Err(Error::invalid("a batch writes a record twice: write its last state only")
                .with_context("key", key))
        }
    };
    let mut puts = Vec::with_capacity(batch.puts.len());
    for put in &batch.puts {
        once(&put.record.key())?;
        puts.push(encode_record(&put.record, put.expect)?);
    }
    for (key, _) in &batch.deletes {
        once(key)?;
    }
    if let Some((key, _)) = batch.guards.iter().find(|(key, _)| matches!(key, Key::Due(_))) {
        return Err(
            Error::invalid("a due row cannot be guarded: hold its claim instead").with_context("key", key)
        );
    }
    let mut tasks = BTreeSet::new();
    if let Some(twice) = batch.due.iter().find(|change| !tasks.insert(change.task())) {
        return Err(Error::invalid("a batch changes a due row twice: give one change for each task")
            .with_context("task", twice.task()));
    }
    Ok(EncodedBatch {
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

fn encode_record(record: &Record, expect: Option<Version>) -> Result<EncodedPut> {
    let key = record.key().to_string();
    let lists: Vec<_> = record.lists().into_iter().map(|(l, s)| (l.as_str().to_owned(), s)).collect();
    Ok(EncodedPut {
        kind: key.split('/').next().unwrap_or(&key).to_owned(),
        expect: expect.map(signed),
        name: record.unique().map(|u| u.as_str().to_owned()),
        places: to_json("the lists of a record", &lists)?,
        lists,
        data: to_json("a record", record)?,
        key,
    })
}

fn encode_due(change: &DueChange) -> Result<EncodedDue> {
    let note = match change {
        DueChange::Set { note: Some(note), .. } => Some(note_to_json(note)?),
        _ => None,
    };
    let task = change.task();
    Ok(EncodedDue { task: task.to_string(), rank: rank(task), change: change.clone(), note })
}

/// The place of a kind of task among those that are due at the same time: the order of `Task` itself. Stored, so with gaps
/// for kinds that come later.
const fn rank(task: Task) -> i64 {
    match task {
        Task::Look(_) => 10,
        Task::Evaluate(_) => 20,
        Task::Drive(_) => 30,
        Task::Release(_) => 40,
        Task::Judge(_) => 50,
        Task::Trim(_) => 60,
        Task::Sweep => 1_000,
        _ => i64::MAX,
    }
}

fn encode_event(event: &Event) -> Result<EncodedEvent> {
    Ok(EncodedEvent {
        dependency: event.dependency.map(|d| d.to_string()),
        project: event.project.map(|p| p.to_string()),
        data: to_json("an event", event)?,
    })
}

/// The lists that a stored row says it is in.
pub(crate) fn places_from_json(key: &str, places: &str) -> Result<Vec<(String, String)>> {
    serde_json::from_str(places).map_err(|e| damaged("the lists of a record", key).with_source(e))
}

/// The record of a row.
pub(crate) fn decode(row: &RecordRow) -> Result<Versioned> {
    if row.format > i64::from(RECORD_FORMAT) {
        return Err(newer(&row.key, row.format));
    }
    let record: Record =
        serde_json::from_str(&row.data).map_err(|e| damaged("a record", &row.key).with_source(e))?;
    if record.key().to_string() != row.key {
        return Err(damaged("the key of a record", &row.key));
    }
    Ok(Versioned { version: unsigned(row.version)?, record })
}

/// The event of a row.
pub(crate) fn decode_event(seq: i64, at: i64, format: i64, data: &str) -> Result<StoredEvent> {
    if format > i64::from(RECORD_FORMAT) {
        return Err(newer(format_args!("event/{seq}"), format));
    }
    let event = serde_json::from_str(data).map_err(|e| damaged("an event", seq).with_source(e))?;
    Ok(StoredEvent { seq: unsigned(seq)?, at: timestamp(at)?, event })
}

/// A due row as it can be read.
pub(crate) fn decode_due(task: Task, row: &crate::due::Row) -> Result<Versioned> {
    if row.format > i64::from(RECORD_FORMAT) {
        return Err(newer(Key::Due(task), row.format));
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
    use capomastro_core::model::{BuildId, DependencyId};

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
