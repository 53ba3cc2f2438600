//! All rows of a file, part by part: read to be moved, and written as they were elsewhere.

use crate::{
    apply::{Stop, due_row_from, owner_of_name, owner_of_place, write_due, write_record},
    error::Failure,
};
use capomastro_core::{
    Error, ErrorKind, Result,
    store::{
        RECORD_FORMAT,
        due::After,
        refusals::damaged,
        rows::{RecordRow, decode, decode_event, unsigned},
        transfer::{Item, ItemKind, ItemRow, Part, PartLimit, commit_of_row, due_of_row},
    },
};
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};

/// The tables whose rows are what is kept.
const TABLES: [&str; 6] = [
    "capomastro_records",
    "capomastro_names",
    "capomastro_lists",
    "capomastro_due",
    "capomastro_events",
    "capomastro_commits",
];

/// Whether nothing is kept.
pub(crate) fn is_empty(conn: &Connection) -> Result<bool, Failure> {
    for table in TABLES {
        let any =
            conn.query_row(&format!("SELECT EXISTS (SELECT 1 FROM {table})"), [], |r| r.get::<_, bool>(0))?;
        if any {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Throws everything away that is kept. Counters stay.
pub(crate) fn empty(conn: &Connection) -> Result<(), Failure> {
    for table in TABLES {
        conn.execute(&format!("DELETE FROM {table}"), [])?;
    }
    Ok(())
}

/// The last version or ticket, and the last number of an event.
pub(crate) fn counters(conn: &Connection) -> Result<(u64, u64), Stop> {
    let number: i64 =
        conn.query_row("SELECT value FROM capomastro_meta WHERE name = 'counter'", [], |r| r.get(0))?;
    let event: Option<i64> = conn
        .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'capomastro_events'", [], |r| r.get(0))
        .optional()?;
    Ok((unsigned(number)?, unsigned(event.unwrap_or(0))?))
}

/// Sees to it that nothing at or below these numbers is given.
pub(crate) fn raise_counters(conn: &Connection, number: u64, event: u64) -> Result<(), Stop> {
    let signed = |n: u64| {
        i64::try_from(n).map_err(|_| {
            Error::invalid("the source has counted further than SQLite can: report this")
                .with_context("last", n)
        })
    };
    conn.execute(
        "UPDATE capomastro_meta SET value = max(value, ?1) WHERE name = 'counter'",
        [signed(number)?],
    )?;
    let event = signed(event)?;
    let raised = conn
        .execute("UPDATE sqlite_sequence SET seq = max(seq, ?1) WHERE name = 'capomastro_events'", [event])?;
    if raised == 0 {
        conn.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('capomastro_events', ?1)", [event])?;
    }
    Ok(())
}

/// Each statement has its key first, then what it is made of. `?3` says that the first key of all counts too.
const fn statement(kind: ItemKind) -> &'static str {
    match kind {
        ItemKind::Record => {
            "SELECT key, version, format, data FROM capomastro_records WHERE key >= ?1 AND (?3 OR key > ?1) ORDER BY key LIMIT ?2"
        }
        ItemKind::Due => {
            "SELECT task, lane, due_at, holder, ticket, nudge_at, note, format FROM capomastro_due \
             WHERE task >= ?1 AND (?3 OR task > ?1) ORDER BY task LIMIT ?2"
        }
        ItemKind::Event => {
            "SELECT seq, at, format, data FROM capomastro_events WHERE seq >= ?1 AND (?3 OR seq > ?1) ORDER BY seq LIMIT ?2"
        }
        ItemKind::Commit => {
            "SELECT id, at FROM capomastro_commits WHERE id >= ?1 AND (?3 OR id > ?1) ORDER BY id LIMIT ?2"
        }
    }
}

/// A part of all rows of a kind, in the order of their keys.
pub(crate) fn read(
    conn: &Connection,
    kind: ItemKind,
    after: Option<&str>,
    limit: PartLimit,
) -> Result<Part, Stop> {
    let most = i64::try_from(limit.items).unwrap_or(i64::MAX).saturating_add(1);
    let is_first = after.is_none();
    let mut select = conn.prepare_cached(statement(kind))?;
    let mut rows = if kind == ItemKind::Event {
        let after: i64 =
            after.map_or(Ok(i64::MIN), |a| a.parse().map_err(|_| damaged("a place in the stream", a)))?;
        select.query(params![after, most, is_first])?
    } else {
        select.query(params![after.unwrap_or_default(), most, is_first])?
    };
    let mut part = Part::default();
    let (mut bytes, mut last) = (0, None);
    while let Some(row) = rows.next()? {
        if part.items.len() == limit.items || bytes >= limit.bytes {
            part.next = last;
            break;
        }
        let (key, item, size) = item_of(kind, row)?;
        part.items.push(item);
        bytes += size;
        last = Some(key);
    }
    Ok(part)
}

/// The key, the item and about how many bytes it has.
fn item_of(kind: ItemKind, r: &SqlRow<'_>) -> Result<(String, Item, usize), Stop> {
    Ok(match kind {
        ItemKind::Record => {
            let row = RecordRow { key: r.get(0)?, version: r.get(1)?, format: r.get(2)?, data: r.get(3)? };
            let item = Item::Record(decode(&row)?);
            (row.key, item, row.data.len())
        }
        ItemKind::Due => {
            let task: String = r.get(0)?;
            let row = due_row_from(r, 1)?;
            (task.clone(), due_of_row(&task, &row)?, row.note.len() + task.len())
        }
        ItemKind::Event => {
            let (seq, data): (i64, String) = (r.get(0)?, r.get(3)?);
            (seq.to_string(), Item::Event(decode_event(seq, r.get(1)?, r.get(2)?, &data)?), data.len())
        }
        ItemKind::Commit => {
            let id: String = r.get(0)?;
            let item = commit_of_row(&id, r.get(1)?)?;
            let size = id.len();
            (id, item, size)
        }
    })
}

/// Writes a row as it was elsewhere; one that is there already is not changed.
pub(crate) fn write(conn: &Connection, row: &ItemRow) -> Result<(), Stop> {
    match row {
        ItemRow::Record(put, version) => {
            let there =
                conn.prepare_cached("SELECT 1 FROM capomastro_records WHERE key = ?1")?.exists([&put.key])?;
            if there {
                return Ok(());
            }
            if let Some(name) = &put.name
                && owner_of_name(conn, name)?.is_some()
            {
                return Err(twice("a unique name", &put.key).into());
            }
            for (list, sort) in &put.lists {
                if owner_of_place(conn, list, sort)?.is_some() {
                    return Err(twice("a place in a list", &put.key).into());
                }
            }
            write_record(conn, put, None, *version)
        }
        ItemRow::Due(task, rank, row) => write_due(conn, task, *rank, &After::Write(row.clone())),
        ItemRow::Event(seq, at, event) => {
            conn.prepare_cached(
                "INSERT INTO capomastro_events (seq, at, dependency, project, format, data) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (seq) DO NOTHING",
            )?
            .execute(params![
                seq,
                at,
                event.dependency,
                event.project,
                RECORD_FORMAT,
                event.data
            ])?;
            Ok(())
        }
        ItemRow::Commit(id, at) => {
            conn.prepare_cached(
                "INSERT INTO capomastro_commits (id, at) VALUES (?1, ?2) ON CONFLICT (id) DO NOTHING",
            )?
            .execute(params![id, at])?;
            Ok(())
        }
    }
}

fn twice(what: &str, key: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("{what} of a record belongs to another record too: restore a backup of the source"),
    )
    .with_context("record", key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::migrate;

    /// Each part costs what it has, however much was read before it.
    #[test]
    fn no_part_scans_or_sorts() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn).unwrap().unwrap();
        for kind in ItemKind::ALL {
            let mut plan = conn.prepare(&format!("EXPLAIN QUERY PLAN {}", statement(kind))).unwrap();
            let mut rows = plan.raw_query();
            let mut steps: Vec<String> = Vec::new();
            while let Some(row) = rows.next().unwrap() {
                steps.push(row.get(3).unwrap());
            }
            assert!(
                !steps.is_empty() && steps.iter().all(|s| s.starts_with("SEARCH")),
                "{kind:?}: {steps:?}"
            );
        }
    }
}
