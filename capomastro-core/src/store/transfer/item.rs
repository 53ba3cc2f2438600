//! What is moved, piece by piece, and as rows of tables.

use crate::{
    Error, Result,
    events::StoredEvent,
    model::CommitId,
    store::{
        DueRow, RECORD_FORMAT, Record, Task, Versioned,
        due::Row,
        refusals::damaged,
        rows::{
            EventRow, PutRow, decode_due, encode_event, encode_record, micros, note_to_json, rank, signed,
            timestamp,
        },
    },
    time::Timestamp,
};

/// The kinds of what a store keeps.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ItemKind {
    /// Records.
    Record,
    /// Due rows.
    Due,
    /// Events.
    Event,
    /// Ids of commits.
    Commit,
}

impl ItemKind {
    /// All kinds, in the order in which they are moved.
    pub const ALL: [Self; 4] = [Self::Record, Self::Due, Self::Event, Self::Commit];
}

/// A due row with all that a store keeps of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueItem {
    /// What can be read of it.
    pub row: DueRow,
    /// The earliest time for which the task was nudged while it is claimed.
    pub nudge_at: Option<Timestamp>,
}

/// One thing that a store keeps.
#[expect(clippy::large_enum_variant, reason = "as `Record` itself")]
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A record; never a due row.
    Record(Versioned),
    /// A due row.
    Due(DueItem),
    /// An event.
    Event(StoredEvent),
    /// The id of a commit, and its time.
    Commit(CommitId, Timestamp),
}

impl Item {
    /// Its kind.
    pub const fn kind(&self) -> ItemKind {
        match self {
            Self::Record(_) => ItemKind::Record,
            Self::Due(_) => ItemKind::Due,
            Self::Event(_) => ItemKind::Event,
            Self::Commit(..) => ItemKind::Commit,
        }
    }
}

/// An item in the form of a row.
#[derive(Debug)]
pub enum ItemRow {
    /// A record and its version.
    Record(PutRow, i64),
    /// A due row: its task as text, the place of its kind among tasks that are due at the same time, and the row.
    Due(String, i64, Row),
    /// An event: its number, its time, and the row.
    Event(i64, i64, EventRow),
    /// The id of a commit as text, and its time.
    Commit(String, i64),
}

impl ItemRow {
    /// The row of an item.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if it is larger than a store keeps, or counts higher than databases
    /// do.
    pub fn of(item: &Item) -> Result<Self> {
        let number = |n: u64| match signed(n) {
            -1 => Err(Error::invalid(
                "a version, ticket or event number is too large for the store: report this",
            )
            .with_context("number", n)),
            n => Ok(n),
        };
        Ok(match item {
            Item::Record(Versioned { record: Record::Due(row), .. }) => {
                return Err(Error::internal("a due row was given as a record: report this")
                    .with_context("task", row.task));
            }
            Item::Record(v) => Self::Record(encode_record(&v.record, None)?, number(v.version)?),
            Item::Due(DueItem { row, nudge_at }) => Self::Due(
                row.task.to_string(),
                rank(row.task),
                Row {
                    lane: row.lane.to_string(),
                    due_at: micros(row.due_at),
                    holder: row.claimed_by.clone(),
                    ticket: number(row.ticket)?,
                    nudge_at: nudge_at.map(micros),
                    note: note_to_json(&row.note)?,
                    format: i64::from(RECORD_FORMAT),
                },
            ),
            Item::Event(e) => Self::Event(number(e.seq)?, micros(e.at), encode_event(&e.event)?),
            Item::Commit(id, at) => Self::Commit(id.to_string(), micros(*at)),
        })
    }
}

/// The item of a stored due row.
///
/// # Errors
/// [`NewerFormat`](crate::ErrorKind::NewerFormat), [`Corrupt`](crate::ErrorKind::Corrupt), naming the task.
pub fn due_of_row(task: &str, row: &Row) -> Result<Item> {
    let named: Task = task.parse().map_err(|e: Error| damaged("a task", task).with_source(e))?;
    let nudge_at = row.nudge_at.map(timestamp).transpose();
    match (decode_due(named, row), nudge_at) {
        (Ok(Versioned { record: Record::Due(row), .. }), Ok(nudge_at)) => {
            Ok(Item::Due(DueItem { row, nudge_at }))
        }
        (Err(e), _) | (_, Err(e)) => Err(e.with_context("task", named)),
        (Ok(_), _) => {
            Err(Error::internal("a due row was read as another record: report this")
                .with_context("task", named))
        }
    }
}

/// The item of a stored id of a commit.
///
/// # Errors
/// [`Corrupt`](crate::ErrorKind::Corrupt), naming the id.
pub fn commit_of_row(id: &str, at: i64) -> Result<Item> {
    let named = id.parse().map_err(|e: Error| damaged("the id of a commit", id).with_source(e))?;
    let at = timestamp(at).map_err(|e| e.with_context("commit", id))?;
    Ok(Item::Commit(named, at))
}
