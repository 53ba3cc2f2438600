//! All rows of a store, part by part: read to be moved, and written as they were elsewhere.

use crate::{
    apply::{form, places},
    calls::{Call, Failure},
    read::{due_of, record_of, statement},
    text::stored,
};
use async_trait::async_trait;
use capomastro_core::{
    Result,
    store::{
        due::Row as DueRow,
        refusals::{damaged, target_in_use},
        rows::{EventRow, PutRow, decode_event},
        transfer::{Item, ItemKind, ItemRow, Part, PartLimit, commit_of_row, due_of_row},
    },
};
use tokio_postgres::{Client, Row, types::Type};

/// A part of all rows of a kind, in the order of their keys.
pub(crate) struct ReadPart {
    pub(crate) schema: String,
    pub(crate) kind: ItemKind,
    pub(crate) after: Option<String>,
    pub(crate) limit: PartLimit,
}

/// The rows of a kind behind a key: the key, about how many bytes there are in all before, how many rows were found, and
/// the columns.
const fn rows_of(kind: ItemKind) -> &'static str {
    match kind {
        ItemKind::Record => {
            "SELECT key, before, found, version, format, data FROM ( \
               SELECT *, sum(octet_length(data)) OVER (ORDER BY key) - octet_length(data) AS before, count(*) OVER () AS found \
               FROM (SELECT key, version, format, data::text FROM @.records WHERE $1::text IS NULL OR key > $1 \
                     ORDER BY key LIMIT $2) r) r WHERE before < $3 ORDER BY key"
        }
        ItemKind::Due => {
            "SELECT task, before, found, lane, due_at, holder, ticket, nudge_at, note, format FROM ( \
               SELECT *, sum(octet_length(note)) OVER (ORDER BY task) - octet_length(note) AS before, count(*) OVER () AS found \
               FROM (SELECT * FROM @.due WHERE $1::text IS NULL OR task > $1 ORDER BY task LIMIT $2) d) d \
             WHERE before < $3 ORDER BY task"
        }
        ItemKind::Event => {
            "SELECT seq::text, before, found, at, format, data FROM ( \
               SELECT *, sum(octet_length(data)) OVER (ORDER BY seq) - octet_length(data) AS before, count(*) OVER () AS found \
               FROM (SELECT seq, at, format, data::text FROM @.events WHERE $1::text IS NULL OR seq > $1::text::bigint \
                     ORDER BY seq LIMIT $2) e) e WHERE before < $3 ORDER BY seq"
        }
        ItemKind::Commit => {
            "SELECT id, before, found, at FROM ( \
               SELECT *, 40 * (row_number() OVER (ORDER BY id) - 1) AS before, count(*) OVER () AS found \
               FROM (SELECT id, at FROM @.commits WHERE $1::text IS NULL OR id > $1 ORDER BY id LIMIT $2) c) c \
             WHERE before < $3 ORDER BY id"
        }
    }
}

#[async_trait]
impl Call for ReadPart {
    type Answer = Part;

    async fn perform(&self, client: &Client) -> Result<Part, Failure> {
        let most = i64::try_from(self.limit.items).unwrap_or(i64::MAX).saturating_add(1);
        let bytes = i64::try_from(self.limit.bytes).unwrap_or(i64::MAX);
        if self.kind == ItemKind::Event
            && let Some(after) = self.after.as_ref().filter(|after| after.parse::<i64>().is_err())
        {
            return Err(damaged("a place in the stream", after).into());
        }
        let rows = client
            .query_typed(
                &statement(&self.schema, rows_of(self.kind)),
                &[(&self.after, Type::TEXT), (&most, Type::INT8), (&bytes, Type::INT8)],
            )
            .await?;
        let mut part = Part::default();
        let mut last = None;
        for row in rows.iter().take(self.limit.items) {
            part.items.push(item_of(self.kind, row)?);
            last = Some(row.try_get::<_, String>(0)?);
        }
        let found = rows.first().map(|row| row.try_get::<_, i64>(2)).transpose()?.unwrap_or(0);
        if usize::try_from(found).is_ok_and(|found| found > part.items.len()) {
            part.next = last;
        }
        Ok(part)
    }
}

fn item_of(kind: ItemKind, row: &Row) -> Result<Item, Failure> {
    let key: String = row.try_get(0)?;
    Ok(match kind {
        ItemKind::Record => Item::Record(record_of(key, row, 3)?),
        ItemKind::Due => due_of_row(&key, &due_of(row, 3, 9)?)?,
        ItemKind::Event => {
            let seq: i64 = key.parse().map_err(|_| damaged("the number of an event", &key))?;
            let format = i64::from(row.try_get::<_, i32>(4)?);
            Item::Event(decode_event(seq, row.try_get(3)?, format, row.try_get(5)?)?)
        }
        ItemKind::Commit => commit_of_row(&key, row.try_get(3)?)?,
    })
}

/// Items of one kind on their way into a store that is being filled.
pub(crate) struct WritePart {
    pub(crate) schema: String,
    pub(crate) mover: String,
    pub(crate) server: String,
    pub(crate) rows: Vec<ItemRow>,
}

/// The right to fill the store, held until the statement has been written.
const MINE: &str = "WITH mine AS MATERIALIZED ( \
    SELECT 1 FROM @.moves WHERE way = 'from' AND NOT done AND token = $1 FOR SHARE)";

#[async_trait]
impl Call for WritePart {
    type Answer = ();

    async fn perform(&self, client: &Client) -> Result<(), Failure> {
        let (mut records, mut due, mut events, mut commits) = (vec![], vec![], vec![], vec![]);
        for row in &self.rows {
            match row {
                ItemRow::Record(put, version) => records.push((put, *version)),
                ItemRow::Due(task, rank, row) => due.push((task, *rank, row)),
                ItemRow::Event(seq, at, event) => events.push((*seq, *at, event)),
                ItemRow::Commit(id, at) => commits.push((id, *at)),
            }
        }
        if !records.is_empty() {
            self.records(client, &records).await?;
        }
        if !due.is_empty() {
            self.due(client, &due).await?;
        }
        if !events.is_empty() {
            self.events(client, &events).await?;
        }
        if !commits.is_empty() {
            self.commits(client, &commits).await?;
        }
        Ok(())
    }
}

impl WritePart {
    fn sql(&self, rest: &str) -> String {
        statement(&self.schema, &format!("{MINE}, {rest} SELECT count(*) FROM mine"))
    }

    /// Refuses if somebody else fills the store by now, or nobody does.
    fn check(&self, answer: &Row) -> Result<(), Failure> {
        if answer.try_get::<_, i64>(0)? == 1 { Ok(()) } else { Err(target_in_use(&self.server).into()) }
    }

    async fn records(&self, client: &Client, rows: &[(&PutRow, i64)]) -> Result<(), Failure> {
        let keys: Vec<_> = rows.iter().map(|(put, _)| stored(&put.key)).collect();
        let versions: Vec<_> = rows.iter().map(|(_, version)| *version).collect();
        let kinds: Vec<_> = rows.iter().map(|(put, _)| &put.kind).collect();
        let names: Vec<_> = rows.iter().map(|(put, _)| put.name.as_deref().map(stored)).collect();
        let lists = rows.iter().map(|(put, _)| places(put)).collect::<Result<Vec<_>>>()?;
        let data: Vec<_> = rows.iter().map(|(put, _)| &put.data).collect();
        let sql = self.sql(
            "given AS MATERIALIZED (SELECT * FROM unnest($2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], \
               $7::text[]) g(key, version, kind, name, places, data)), \
             written AS (INSERT INTO @.records (key, version, format, kind, name, places, data) \
               SELECT g.key, g.version, $8, g.kind, g.name, g.places, g.data::json FROM given g, mine \
               ON CONFLICT (key) DO NOTHING RETURNING key, places), \
             listed AS (INSERT INTO @.lists (list, sort, key) \
               SELECT n.place ->> 0, n.place ->> 1, w.key FROM written w, json_array_elements(w.places::json) n(place))",
        );
        let answer = client
            .query_typed_one(
                &sql,
                &[
                    (&self.mover, Type::TEXT),
                    (&keys, Type::TEXT_ARRAY),
                    (&versions, Type::INT8_ARRAY),
                    (&kinds, Type::TEXT_ARRAY),
                    (&names, Type::TEXT_ARRAY),
                    (&lists, Type::TEXT_ARRAY),
                    (&data, Type::TEXT_ARRAY),
                    (&form(), Type::INT4),
                ],
            )
            .await?;
        self.check(&answer)
    }

    async fn due(&self, client: &Client, rows: &[(&String, i64, &DueRow)]) -> Result<(), Failure> {
        let tasks: Vec<_> = rows.iter().map(|(task, ..)| task).collect();
        let ranks: Vec<_> = rows.iter().map(|(_, rank, _)| *rank).collect();
        let lanes: Vec<_> = rows.iter().map(|(.., row)| &row.lane).collect();
        let times: Vec<_> = rows.iter().map(|(.., row)| row.due_at).collect();
        let holders: Vec<_> = rows.iter().map(|(.., row)| row.holder.as_deref().map(stored)).collect();
        let tickets: Vec<_> = rows.iter().map(|(.., row)| row.ticket).collect();
        let nudges: Vec<_> = rows.iter().map(|(.., row)| row.nudge_at).collect();
        let notes: Vec<_> = rows.iter().map(|(.., row)| &row.note).collect();
        let sql = self.sql(
            "written AS (INSERT INTO @.due (task, rank, lane, due_at, holder, ticket, nudge_at, note, format) \
               SELECT g.*, $10 FROM unnest($2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::text[], $7::bigint[], \
                 $8::bigint[], $9::text[]) g, mine ON CONFLICT (task) DO NOTHING)",
        );
        let answer = client
            .query_typed_one(
                &sql,
                &[
                    (&self.mover, Type::TEXT),
                    (&tasks, Type::TEXT_ARRAY),
                    (&ranks, Type::INT8_ARRAY),
                    (&lanes, Type::TEXT_ARRAY),
                    (&times, Type::INT8_ARRAY),
                    (&holders, Type::TEXT_ARRAY),
                    (&tickets, Type::INT8_ARRAY),
                    (&nudges, Type::INT8_ARRAY),
                    (&notes, Type::TEXT_ARRAY),
                    (&form(), Type::INT4),
                ],
            )
            .await?;
        self.check(&answer)
    }

    async fn events(&self, client: &Client, rows: &[(i64, i64, &EventRow)]) -> Result<(), Failure> {
        let numbers: Vec<_> = rows.iter().map(|(seq, ..)| *seq).collect();
        let times: Vec<_> = rows.iter().map(|(_, at, _)| *at).collect();
        let dependencies: Vec<_> = rows.iter().map(|(.., event)| event.dependency.as_deref()).collect();
        let projects: Vec<_> = rows.iter().map(|(.., event)| event.project.as_deref()).collect();
        let data: Vec<_> = rows.iter().map(|(.., event)| &event.data).collect();
        let sql = self.sql(
            "written AS (INSERT INTO @.events (seq, at, dependency, project, data, format) \
               SELECT g.seq, g.at, g.dependency, g.project, g.data::json, $7 FROM unnest($2::bigint[], $3::bigint[], \
                 $4::text[], $5::text[], $6::text[]) g(seq, at, dependency, project, data), mine \
               ON CONFLICT (seq) DO NOTHING)",
        );
        let answer = client
            .query_typed_one(
                &sql,
                &[
                    (&self.mover, Type::TEXT),
                    (&numbers, Type::INT8_ARRAY),
                    (&times, Type::INT8_ARRAY),
                    (&dependencies, Type::TEXT_ARRAY),
                    (&projects, Type::TEXT_ARRAY),
                    (&data, Type::TEXT_ARRAY),
                    (&form(), Type::INT4),
                ],
            )
            .await?;
        self.check(&answer)
    }

    async fn commits(&self, client: &Client, rows: &[(&String, i64)]) -> Result<(), Failure> {
        let ids: Vec<_> = rows.iter().map(|(id, _)| id).collect();
        let times: Vec<_> = rows.iter().map(|(_, at)| *at).collect();
        let sql = self.sql(
            "written AS (INSERT INTO @.commits (id, at) SELECT g.* FROM unnest($2::text[], $3::bigint[]) g, mine \
               ON CONFLICT (id) DO NOTHING)",
        );
        let answer = client
            .query_typed_one(
                &sql,
                &[(&self.mover, Type::TEXT), (&ids, Type::TEXT_ARRAY), (&times, Type::INT8_ARRAY)],
            )
            .await?;
        self.check(&answer)
    }
}
