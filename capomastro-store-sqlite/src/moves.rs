//! What a file says of moves from and into it.

use crate::error::Failure;
use capomastro_core::{
    Error, Result,
    store::{
        refusals::{move_unfinished, moved_away},
        transfer::Place,
    },
};
use rusqlite::{Connection, OptionalExtension, params};

/// A row of the table, beside that of the store itself.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From where it was or is being filled.
    From,
    /// Where everything went.
    To,
}

impl Way {
    const fn as_str(self) -> &'static str {
        match self {
            Self::From => "from",
            Self::To => "to",
        }
    }
}

/// The other end of a way, and whether the move has ended.
pub(crate) fn find(conn: &Connection, way: Way) -> Result<Option<(Place, bool)>, Failure> {
    Ok(conn
        .prepare_cached("SELECT id, what, done FROM capomastro_moves WHERE way = ?1")?
        .query_row([way.as_str()], |r| {
            Ok((Place::new(r.get::<_, String>(0)?, r.get::<_, String>(1)?), r.get::<_, i64>(2)? != 0))
        })
        .optional()?)
}

/// Writes a row, whatever it said before.
pub(crate) fn set(conn: &Connection, way: Way, place: &Place, done: bool) -> Result<(), Failure> {
    conn.prepare_cached(
        "INSERT INTO capomastro_moves (way, id, what, done) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (way) DO UPDATE SET id = ?2, what = ?3, done = ?4",
    )?
    .execute(params![way.as_str(), place.id, place.description, done])?;
    Ok(())
}

/// Removes a row.
pub(crate) fn clear(conn: &Connection, way: Way) -> Result<(), Failure> {
    conn.prepare_cached("DELETE FROM capomastro_moves WHERE way = ?1")?.execute([way.as_str()])?;
    Ok(())
}

/// The id of this store, drawn if it has none. To be called inside a transaction.
pub(crate) fn own_id(conn: &Connection) -> Result<String, Failure> {
    conn.execute(
        "INSERT INTO capomastro_moves (way, id, what, done) VALUES ('self', lower(hex(randomblob(16))), '', 1) \
         ON CONFLICT (way) DO NOTHING",
        [],
    )?;
    Ok(conn.query_row("SELECT id FROM capomastro_moves WHERE way = 'self'", [], |r| r.get(0))?)
}

/// Refuses a file with half of an installation in it.
pub(crate) fn check_whole(conn: &Connection) -> Result<Result<(), Error>, Failure> {
    Ok(match find(conn, Way::From)? {
        Some((from, false)) => Err(move_unfinished(from.description)),
        _ => Ok(()),
    })
}

/// Refuses a file that is not to be used: half filled, or moved away.
pub(crate) fn check_usable(conn: &Connection) -> Result<Result<(), Error>, Failure> {
    Ok(match (check_whole(conn)?, find(conn, Way::To)?) {
        (Err(half), _) => Err(half),
        (Ok(()), Some((to, _))) => Err(moved_away(to.description)),
        (Ok(()), None) => Ok(()),
    })
}
