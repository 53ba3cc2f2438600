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
        EventFilter, EventPage, Key, Page, Query, Snapshot, Task, Versioned, due,
        refusals::damaged,
        rows::{RecordRow, decode_due, decode_event, decode_stored, timestamp, unsigned},
    },
    time::{Clock, SystemClock},
};
use std::{collections::BTreeMap, time::Duration};
use tokio_postgres::{
    Client, Row,
    types::{ToSql, Type},
};

/// A statement on the tables and functions of a schema: `@.` stands before their names.
pub(crate) fn statement(schema: &str, sql: &str) -> String {
    sql.replace("@.", &format!("\"{schema}\"."))
}

/// The records of some keys, with the time. There is one row at least.
pub(crate) const RECORDS: &str = "SELECT t.at, r.key, r.version, r.format, r.data::text \
     FROM (SELECT @.now_1($1) AS at OFFSET 0) t LEFT JOIN @.records r ON r.key = ANY ($2)";

/// The same, with the due rows of some tasks.
pub(crate) const RECORDS_AND_DUE: &str = "SELECT t.at, x.* FROM (SELECT @.now_1($1) AS at OFFSET 0) t LEFT JOIN ( \
       SELECT r.key, r.version, r.format, r.data::text, NULL::text AS task, NULL::text AS lane, NULL::bigint AS due_at, \
         NULL::text AS holder, NULL::bigint AS ticket, NULL::bigint AS nudge_at, NULL::text AS note, NULL::integer AS form \
       FROM @.records r WHERE r.key = ANY ($2) \
       UNION ALL \
       SELECT NULL, NULL, NULL, NULL, d.task, d.lane, d.due_at, d.holder, d.ticket, d.nudge_at, d.note, d.format \
       FROM @.due d WHERE d.task = ANY ($3)) x ON true";

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
        let mut parameters: Vec<(&(dyn ToSql + Sync), Type)> =
            vec![(&self.given, Type::INT8), (&keys, Type::TEXT_ARRAY)];
        let rows = if tasks.is_empty() {
            client.query_typed(&statement(&self.schema, RECORDS), &parameters).await?
        } else {
            parameters.push((&tasks, Type::TEXT_ARRAY));
            client.query_typed(&statement(&self.schema, RECORDS_AND_DUE), &parameters).await?
        };
        let mut at = None;
        let mut records = BTreeMap::new();
        let mut due = BTreeMap::new();
        for row in &rows {
            at = Some(row.try_get::<_, i64>(0)?);
            if let Some(key) = row.try_get::<_, Option<String>>(1)? {
                records.insert(key, row);
            }
            if !tasks.is_empty()
                && let Some(task) = row.try_get::<_, Option<String>>(5)?
            {
                due.insert(task, row);
            }
        }
        let find = |key: &Key| match key {
            Key::Due(task) => due.get(&task.to_string()).map(|row| due_of(*task, row)),
            other => records.get(stored(&other.to_string()).as_ref()).map(|row| record_of(row, 1)),
        };
        let records = self.keys.iter().map(|key| find(key).transpose()).collect::<Result<_, _>>()?;
        let at = at.ok_or_else(|| damaged("an answer", "no row"))?;
        Ok(Snapshot { at: timestamp(at)?, records })
    }
}

/// The record whose key, version, format and data stand from a column on.
fn record_of(row: &Row, from: usize) -> Result<Versioned, Failure> {
    let record = RecordRow {
        key: row.try_get(from)?,
        version: row.try_get(from + 1)?,
        format: i64::from(row.try_get::<_, i32>(from + 2)?),
        data: row.try_get(from + 3)?,
    };
    Ok(decode_stored(&record, |key| stored(&key).into_owned())?)
}

fn due_of(task: Task, row: &Row) -> Result<Versioned, Failure> {
    let found = due::Row {
        lane: row.try_get(6)?,
        due_at: row.try_get(7)?,
        holder: row.try_get(8)?,
        ticket: row.try_get(9)?,
        nudge_at: row.try_get(10)?,
        note: row.try_get(11)?,
        format: i64::from(row.try_get::<_, i32>(12)?),
    };
    Ok(decode_due(task, &found)?)
}

/// The rows of a list; what follows says which of them.
macro_rules! list_rows {
    ($which:literal, $order:literal) => {
        concat!(
            "SELECT t.at, l.key, r.version, r.format, r.data::text, l.sort \
             FROM (SELECT @.now_1($1) AS at OFFSET 0) t LEFT JOIN ( \
               SELECT l.key, l.sort FROM @.lists l WHERE l.list = $2 ",
            $which,
            " ORDER BY l.sort ",
            $order,
            " LIMIT $3) l ON true LEFT JOIN @.records r ON r.key = l.key ORDER BY l.sort ",
            $order,
        )
    };
}

pub(crate) const FORWARDS: &str = list_rows!("AND l.sort > $4", "");
pub(crate) const BACKWARDS: &str = list_rows!("AND l.sort < $4", "DESC");
pub(crate) const FROM_THE_START: &str = list_rows!("", "");
pub(crate) const FROM_THE_END: &str = list_rows!("", "DESC");

pub(crate) const BY_NAME: &str = "SELECT t.at, r.key, r.version, r.format, r.data::text \
     FROM (SELECT @.now_1($1) AS at OFFSET 0) t LEFT JOIN @.records r ON r.name = $2";

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
                        &statement(&self.schema, BY_NAME),
                        &[(&self.given, Type::INT8), (&name, Type::TEXT)],
                    )
                    .await?;
                let items = match row.try_get::<_, Option<String>>(1)? {
                    Some(_) => vec![record_of(&row, 1)?],
                    None => Vec::new(),
                };
                return Ok(Page { at: timestamp(row.try_get(0)?)?, items, next: None });
            }
            _ => {
                return Err(Error::internal("this store does not know this kind of query: upgrade it").into());
            }
        };
        // A statement for each case: a bound that may be missing would be read over instead of sought.
        let sql = match (backwards, &self.after) {
            (false, None) => FROM_THE_START,
            (false, Some(_)) => FORWARDS,
            (true, None) => FROM_THE_END,
            (true, Some(_)) => BACKWARDS,
        };
        // `after` was given out by us, as it is stored.
        let (list, more) = (stored(list.as_str()), self.limit + 1);
        let mut parameters: Vec<(&(dyn ToSql + Sync), Type)> =
            vec![(&self.given, Type::INT8), (&list, Type::TEXT), (&more, Type::INT8)];
        if let Some(after) = &self.after {
            parameters.push((after, Type::TEXT));
        }
        let rows = client.query_typed(&statement(&self.schema, sql), &parameters).await?;
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
            items.push(record_of(row, 1)?);
            last = Some(row.try_get(5)?);
        }
        Ok(Page { at, items, next: None })
    }
}

/// Events up to the horizon, before which no transaction can bring one any more; the horizon; and the newest event, which
/// may be behind it.
///
/// The next events are found first, and then held against the horizon: a range with both ends looks small to the planner,
/// and it would read all of it.
macro_rules! events_where {
    ($which:literal) => {
        concat!(
            "SELECT h.horizon, h.newest, e.seq, e.at, e.format, e.data::text FROM ( \
               SELECT m.value::bigint + (pg_snapshot_xmin(pg_current_snapshot())::text::bigint << 16) - 1 AS horizon, \
                 (SELECT max(w.seq) FROM @.events w) AS newest \
               FROM @.meta m WHERE m.name = 'event_base' OFFSET 0) h \
             LEFT JOIN ( \
               SELECT e.seq, e.at, e.format, e.data FROM @.events e WHERE e.seq > $1 ",
            $which,
            " ORDER BY e.seq LIMIT $2) e ON e.seq <= h.horizon ORDER BY e.seq"
        )
    };
}

pub(crate) const EVENTS: &str = events_where!("");
pub(crate) const EVENTS_OF_DEPENDENCY: &str = events_where!("AND e.dependency = $3");
pub(crate) const EVENTS_OF_PROJECT: &str = events_where!("AND e.project = $3");

/// How long a reader waits for older transactions to end, so that it sees what was just answered: they are short.
const OLDER: [Duration; 5] = [
    Duration::from_millis(1),
    Duration::from_millis(4),
    Duration::from_millis(15),
    Duration::from_millis(60),
    Duration::from_millis(200),
];

/// A part of the event stream.
pub(crate) struct Events {
    pub(crate) schema: String,
    pub(crate) filter: EventFilter,
    pub(crate) after: EventSeq,
    pub(crate) limit: i64,
}

#[async_trait]
impl Call for Events {
    type Answer = EventPage;

    async fn perform(&self, client: &Client) -> Result<EventPage, Failure> {
        let (mut page, newest) = self.page(client).await?;
        for wait in OLDER {
            if newest <= page.upto || i64::try_from(page.items.len()) == Ok(self.limit) {
                break;
            }
            SystemClock.sleep(wait).await;
            page = self.page(client).await?.0;
        }
        // A long transaction holds back what came after it began.
        Ok(page)
    }
}

impl Events {
    /// A page, and the number of the newest committed event, which may be behind it.
    async fn page(&self, client: &Client) -> Result<(EventPage, EventSeq), Failure> {
        let (sql, about) = match self.filter {
            EventFilter::All => (EVENTS, None),
            EventFilter::Dependency(id) => (EVENTS_OF_DEPENDENCY, Some(id.to_string())),
            EventFilter::Project(id) => (EVENTS_OF_PROJECT, Some(id.to_string())),
            _ => {
                return Err(
                    Error::internal("this store does not know this filter of events: upgrade it").into()
                );
            }
        };
        let from = i64::try_from(self.after).unwrap_or(i64::MAX);
        let mut parameters: Vec<(&(dyn ToSql + Sync), Type)> =
            vec![(&from, Type::INT8), (&self.limit, Type::INT8)];
        if let Some(about) = &about {
            parameters.push((about, Type::TEXT));
        }
        let rows = client.query_typed(&statement(&self.schema, sql), &parameters).await?;
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
