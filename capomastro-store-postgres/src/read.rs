//! What reads: each call is one statement, and so one snapshot.

use crate::{
    calls::{Call, Failure},
    text::stored,
};
use async_trait::async_trait;
use capomastro_core::{
    Error, Result,
    model::EventSeq,
    store::{
        EventFilter, EventPage, Key, Page, Query, Snapshot, Versioned, due,
        refusals::damaged,
        rows::{RecordRow, decode_due, decode_event, decode_stored, timestamp, unsigned},
    },
};
use std::{collections::BTreeMap, time::Duration};
use tokio_postgres::{Client, Row, types::Type};

/// A statement on the tables and functions of a schema: `@.` stands before their names.
pub(crate) fn statement(schema: &str, sql: &str) -> String {
    sql.replace("@.", &format!("\"{schema}\"."))
}

/// Records by their keys.
pub(crate) struct Get {
    pub(crate) schema: String,
    pub(crate) given: Option<i64>,
    pub(crate) keys: Vec<Key>,
}

#[async_trait]
impl Call for Get {
    type Answer = Snapshot;

    async fn perform(&self, client: &Client) -> Result<Snapshot, Failure> {
        let mut keys = Vec::new();
        let mut tasks = Vec::new();
        for key in &self.keys {
            match key {
                Key::Due(task) => tasks.push(task.to_string()),
                other => keys.push(stored(&other.to_string()).into_owned()),
            }
        }
        let sql = statement(
            &self.schema,
            "SELECT at, key, version, format, data, task, lane, due_at, holder, ticket, nudge_at, note \
             FROM @.get_1($1, $2, $3)",
        );
        let rows = client
            .query_typed(
                &sql,
                &[(&keys, Type::TEXT_ARRAY), (&tasks, Type::TEXT_ARRAY), (&self.given, Type::INT8)],
            )
            .await?;
        let mut at = None;
        let mut records = BTreeMap::new();
        let mut due = BTreeMap::new();
        for row in &rows {
            at = Some(row.try_get::<_, i64>(0)?);
            if let Some(key) = row.try_get::<_, Option<String>>(1)? {
                records.insert(key, row);
            }
            if let Some(task) = row.try_get::<_, Option<String>>(5)? {
                due.insert(task, row);
            }
        }
        let find = |key: &Key| match key {
            Key::Due(task) => {
                let found = due.get(&task.to_string());
                found.map(|row| Ok::<_, Failure>(decode_due(*task, &due_of(row, 6, 3)?)?))
            }
            other => {
                let key = stored(&other.to_string()).into_owned();
                records.get(&key).map(|row| record_of(key, row, 2))
            }
        };
        let records = self.keys.iter().map(|key| find(key).transpose()).collect::<Result<_, _>>()?;
        let at = at.ok_or_else(|| damaged("an answer", "no row"))?;
        Ok(Snapshot { at: timestamp(at)?, records })
    }
}

/// The record of a key whose version, format and data stand from a column on.
pub(crate) fn record_of(key: String, row: &Row, from: usize) -> Result<Versioned, Failure> {
    let record = RecordRow {
        key,
        version: row.try_get(from)?,
        format: i64::from(row.try_get::<_, i32>(from + 1)?),
        data: row.try_get(from + 2)?,
    };
    Ok(decode_stored(&record, |key| stored(&key).into_owned())?)
}

/// The due row whose lane, time, holder, ticket, nudge and note stand from a column on, and its format in another.
pub(crate) fn due_of(row: &Row, from: usize, format: usize) -> Result<due::Row, Failure> {
    Ok(due::Row {
        lane: row.try_get(from)?,
        due_at: row.try_get(from + 1)?,
        holder: row.try_get(from + 2)?,
        ticket: row.try_get(from + 3)?,
        nudge_at: row.try_get(from + 4)?,
        note: row.try_get(from + 5)?,
        format: i64::from(row.try_get::<_, i32>(format)?),
    })
}

/// A part of a list.
pub(crate) struct List {
    pub(crate) schema: String,
    pub(crate) given: Option<i64>,
    pub(crate) query: Query,
    pub(crate) after: Option<String>,
    pub(crate) limit: i64,
}

#[async_trait]
impl Call for List {
    type Answer = Page;

    async fn perform(&self, client: &Client) -> Result<Page, Failure> {
        let (list, backwards) = match &self.query {
            Query::List { list, backwards } => (list, *backwards),
            Query::Unique(name) => {
                let name = stored(name.as_str());
                let row = client
                    .query_typed_one(
                        &statement(
                            &self.schema,
                            "SELECT at, key, version, format, data FROM @.by_name_1($1, $2)",
                        ),
                        &[(&name, Type::TEXT), (&self.given, Type::INT8)],
                    )
                    .await?;
                let items = match row.try_get::<_, Option<String>>(1)? {
                    Some(key) => vec![record_of(key, &row, 2)?],
                    None => Vec::new(),
                };
                return Ok(Page { at: timestamp(row.try_get(0)?)?, items, next: None });
            }
            _ => {
                return Err(Error::internal("this store does not know this kind of query: upgrade it").into());
            }
        };
        // `after` was given out by us, as it is stored.
        let (list, more) = (stored(list.as_str()), self.limit + 1);
        let sql = statement(
            &self.schema,
            "SELECT at, key, version, format, data, sort FROM @.list_1($1, $2, $3, $4, $5)",
        );
        let rows = client
            .query_typed(
                &sql,
                &[
                    (&list, Type::TEXT),
                    (&self.after, Type::TEXT),
                    (&backwards, Type::BOOL),
                    (&more, Type::INT8),
                    (&self.given, Type::INT8),
                ],
            )
            .await?;
        let first = rows.first().ok_or_else(|| damaged("an answer", "no row"))?;
        let at = timestamp(first.try_get(0)?)?;
        let mut items: Vec<Versioned> = Vec::new();
        let mut last: Option<String> = None;
        for row in &rows {
            let Some(key) = row.try_get::<_, Option<String>>(1)? else { break };
            if i64::try_from(items.len()) == Ok(self.limit) {
                return Ok(Page { at, items, next: last });
            }
            if row.try_get::<_, Option<i64>>(2)?.is_none() {
                return Err(damaged("a list", format_args!("{list}: {key}")).into());
            }
            items.push(record_of(key, row, 2)?);
            last = Some(row.try_get(5)?);
        }
        Ok(Page { at, items, next: None })
    }
}

/// How long a reader waits for older transactions to end, so that it sees what was just answered: they are short. It holds no
/// connection meanwhile.
pub(crate) const OLDER: [Duration; 5] = [
    Duration::from_millis(1),
    Duration::from_millis(4),
    Duration::from_millis(15),
    Duration::from_millis(60),
    Duration::from_millis(200),
];

/// A part of the event stream.
#[derive(Clone)]
pub(crate) struct Events {
    pub(crate) schema: String,
    pub(crate) filter: EventFilter,
    pub(crate) after: EventSeq,
    pub(crate) limit: i64,
}

#[async_trait]
impl Call for Events {
    /// A page, and the number of the newest committed event, which may be behind it.
    type Answer = (EventPage, EventSeq);

    async fn perform(&self, client: &Client) -> Result<(EventPage, EventSeq), Failure> {
        let (dependency, project) = match self.filter {
            EventFilter::All => (None, None),
            EventFilter::Dependency(id) => (Some(id.to_string()), None),
            EventFilter::Project(id) => (None, Some(id.to_string())),
            _ => {
                return Err(
                    Error::internal("this store does not know this filter of events: upgrade it").into()
                );
            }
        };
        let from = i64::try_from(self.after).unwrap_or(i64::MAX);
        let sql = statement(
            &self.schema,
            "SELECT horizon, newest, seq, at, format, data FROM @.events_1($1, $2, $3, $4)",
        );
        let rows = client
            .query_typed(
                &sql,
                &[
                    (&dependency, Type::TEXT),
                    (&project, Type::TEXT),
                    (&from, Type::INT8),
                    (&self.limit, Type::INT8),
                ],
            )
            .await?;
        let first = rows.first().ok_or_else(|| damaged("the meta table", "no event_base"))?;
        let (horizon, newest): (i64, Option<i64>) = (first.try_get(0)?, first.try_get(1)?);
        let mut items = Vec::new();
        for row in &rows {
            let Some(seq) = row.try_get::<_, Option<i64>>(2)? else { break };
            let format = i64::from(row.try_get::<_, i32>(4)?);
            items.push(decode_event(seq, row.try_get(3)?, format, row.try_get(5)?)?);
        }
        let upto = match items.last() {
            Some(last) if i64::try_from(items.len()) == Ok(self.limit) => last.seq,
            _ => unsigned(horizon.min(newest.unwrap_or(0)))?.max(self.after),
        };
        Ok((EventPage { items, upto }, unsigned(newest.unwrap_or(0))?))
    }
}
