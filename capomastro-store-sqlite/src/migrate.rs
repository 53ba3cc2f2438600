//! The schema and its numbers.

use crate::error::Failure;
use capomastro_core::{Error, ErrorKind};
use rusqlite::{Connection, TransactionBehavior};

/// `CAPO`, by which our files are known.
pub(crate) const APPLICATION_ID: i32 = 0x4341_504f;

/// What makes each version of the schema out of the one before; see `migrations/NOTES.md`.
const MIGRATIONS: &[&str] =
    &[include_str!("../migrations/0001_first.sql"), include_str!("../migrations/0002_moves.sql")];

/// The version of the schema that this library writes.
pub(crate) const SCHEMA: i64 = MIGRATIONS.len() as i64;

/// What a file is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing is in it yet.
    Empty,
    /// Ours, with this version of the schema.
    Ours(i64),
}

/// What a file with these numbers is.
///
/// # Errors
/// [`InvalidConfig`](ErrorKind::InvalidConfig) for another program's database, [`NewerFormat`](ErrorKind::NewerFormat).
pub(crate) fn judge(application_id: i32, user_version: i64, tables: i64) -> Result<Found, Error> {
    match (application_id, user_version) {
        (APPLICATION_ID, SCHEMA) => Ok(Found::Ours(SCHEMA)),
        (APPLICATION_ID, v) if v > SCHEMA => Err(Error::new(
            ErrorKind::NewerFormat,
            "the store was written by a newer version of the library: upgrade this process, or give another path",
        )
        .with_context("schema", v)
        .with_context("known", SCHEMA)),
        (APPLICATION_ID, v) if v >= 0 => Ok(Found::Ours(v)),
        (0, 0) if tables == 0 => Ok(Found::Empty),
        _ => Err(Error::config(
            "the file is a database of another program: give another path; tables of your own can be added once Capomastro has made the file",
        )
        .with_context("application_id", application_id)
        .with_context("user_version", user_version)),
    }
}

/// The numbers of a file, judged. To be called inside a transaction: another process may be making the file right now, and
/// half of its numbers would be those of a foreign one.
pub(crate) fn look(conn: &Connection) -> Result<Result<Found, Error>, Failure> {
    let id: i32 = conn.query_row("PRAGMA application_id", [], |r| r.get(0))?;
    let version: i64 = conn.query_row("PRAGMA user_version", [], |r| r.get(0))?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_master", [], |r| r.get(0))?;
    Ok(judge(id, version, tables))
}

/// The same on a connection that is in no transaction.
pub(crate) fn look_first(conn: &Connection) -> Result<Result<Found, Error>, Failure> {
    look(&*conn.unchecked_transaction()?)
}

/// Brings a file to this version of the schema. Two processes may do so at once: the later one finds the work done.
pub(crate) fn migrate(conn: &mut Connection) -> Result<Result<(), Error>, Failure> {
    if let Ok(Found::Ours(SCHEMA)) = look_first(conn)? {
        return Ok(Ok(()));
    }
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = match look(&tx)? {
        Ok(Found::Empty) => {
            tx.pragma_update(None, "application_id", APPLICATION_ID)?;
            0
        }
        Ok(Found::Ours(version)) => version,
        Err(e) => return Ok(Err(e)),
    };
    for (version, sql) in (1_i64..).zip(MIGRATIONS).filter(|(version, _)| *version > done) {
        tx.execute_batch(sql)?;
        tx.pragma_update(None, "user_version", version)?;
        tracing::info!(version, "the store's schema was brought to a new version");
    }
    tx.commit()?;
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_judged_by_its_numbers() {
        assert_eq!(judge(0, 0, 0).unwrap(), Found::Empty);
        assert_eq!(judge(APPLICATION_ID, 0, 0).unwrap(), Found::Ours(0));
        assert_eq!(judge(APPLICATION_ID, SCHEMA, 9).unwrap(), Found::Ours(SCHEMA));
        for (id, version, tables, kind) in [
            (APPLICATION_ID, SCHEMA + 1, 9, ErrorKind::NewerFormat),
            (APPLICATION_ID, -1, 9, ErrorKind::InvalidConfig),
            (0, 0, 1, ErrorKind::InvalidConfig),
            (0, 3, 0, ErrorKind::InvalidConfig),
            (17, 0, 0, ErrorKind::InvalidConfig),
        ] {
            let e = judge(id, version, tables).unwrap_err();
            assert_eq!(e.kind(), kind, "{id} {version} {tables}");
            assert!(e.message().contains(": "), "says what to do: {e}");
        }
    }

    #[test]
    fn migrating_twice_changes_nothing() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn).unwrap().unwrap();
        let schema =
            |c: &Connection| -> i64 { c.query_row("PRAGMA schema_version", [], |r| r.get(0)).unwrap() };
        let before = schema(&conn);
        migrate(&mut conn).unwrap().unwrap();
        assert_eq!(schema(&conn), before);
        assert_eq!(look(&conn).unwrap().unwrap(), Found::Ours(SCHEMA));
    }
}
