//! What a store answers when it refuses: the same words whichever store it is.

use crate::{
    Error, ErrorKind, Result,
    store::{ClaimAsk, MAX_PAGE, RECORD_FORMAT},
};
use std::{collections::BTreeSet, fmt::Display};

/// A claim is not held any more, or a task that is to be held is held by another one.
pub fn claim_lost(task: impl Display) -> Error {
    Error::new(
        ErrorKind::ClaimLost,
        "the claim is not held any more: drop the work, whoever holds it now goes on with it",
    )
    .with_context("task", task)
}

/// A record has not the expected version; `None` stands for no record.
pub fn conflict(record: impl Display, expected: Option<impl Display>, stored: Option<impl Display>) -> Error {
    let show = |v: Option<String>| v.unwrap_or_else(|| "none".into());
    Error::new(
        ErrorKind::Conflict,
        "a record has changed since it was read: read again, decide again and commit a new batch",
    )
    .with_context("record", record)
    .with_context("expected", show(expected.map(|v| v.to_string())))
    .with_context("stored", show(stored.map(|v| v.to_string())))
}

/// Another record has a unique name, or a record of the same batch if `owner` is `None`.
pub fn name_taken(name: impl Display, owner: Option<&str>) -> Error {
    Error::new(
        ErrorKind::AlreadyExists,
        "another record has this unique name: choose another name, or rename or delete that record",
    )
    .with_context("name", name)
    .with_context("owner", owner.unwrap_or("in the same batch"))
}

/// Two records have the same place in a list, which core promises not to do.
pub fn place_taken(list: impl Display, sort: impl Display) -> Error {
    Error::internal("two records have the same place in a list: report this")
        .with_context("list", list)
        .with_context("place", sort)
}

/// Something was written by a newer version of the library.
pub fn newer_format(key: impl Display, format: i64) -> Error {
    Error::new(
        ErrorKind::NewerFormat,
        "this was written by a newer version of the library: upgrade this process before it works on it",
    )
    .with_context("key", key)
    .with_context("format", format)
    .with_context("known", RECORD_FORMAT)
}

/// What was read cannot have been written by this library.
pub fn damaged(what: &str, value: impl Display) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("{what} in the store is damaged: restore a backup, and check that no other program changes the tables"),
    )
    .with_context("value", value.to_string().escape_debug())
}

/// The limit of a page, as databases count.
///
/// # Errors
/// [`InvalidInput`](ErrorKind::InvalidInput) unless it is from 1 to 1,000.
pub fn check_limit(limit: usize) -> Result<i64> {
    match i64::try_from(limit) {
        Ok(n) if (1..=MAX_PAGE).contains(&limit) => Ok(n),
        _ => Err(Error::invalid("the limit of a page is out of range: give 1 to 1,000")
            .with_context("limit", limit)),
    }
}

/// No lane is asked for twice.
///
/// # Errors
/// [`InvalidInput`](ErrorKind::InvalidInput) if one is.
pub fn check_lanes(ask: &ClaimAsk) -> Result<()> {
    let mut seen = BTreeSet::new();
    match ask.lanes.iter().find(|l| !seen.insert(&l.lane)) {
        Some(twice) => Err(Error::invalid("a lane is asked for twice: name each lane once")
            .with_context("lane", &twice.lane)),
        None => Ok(()),
    }
}

/// A store into which a move was begun and not finished is opened or written: half of an installation is in it.
pub fn move_unfinished(from: impl Display) -> Error {
    Error::new(
        ErrorKind::ReadOnly,
        "a move into this store was begun and not finished: repeat the move, or give another store",
    )
    .with_context("from", from)
}

/// A store is opened or written from which everything was moved.
pub fn moved_away(to: impl Display) -> Error {
    Error::new(
        ErrorKind::ReadOnly,
        "everything in this store was moved to another one: give that one, or, if its move was never finished, repeat the move or reinstate this store",
    )
    .with_context("moved_to", to)
}

/// Something is to be moved into a store that holds something else.
pub fn target_in_use(target: impl Display) -> Error {
    Error::new(
        ErrorKind::AlreadyExists,
        "the store into which is to be moved is in use, or was begun to be filled from another one: give a new, empty store",
    )
    .with_context("target", target)
}
