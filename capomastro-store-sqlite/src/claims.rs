//! Taking due work, and giving it back.

use crate::apply::{Session, Stop};
use capomastro_core::{
    model::HolderId,
    store::{
        ClaimAsk, Claimed, RECORD_FORMAT,
        due::from_now,
        rows::{PutBackRow, claim_of_row, micros, timestamp},
    },
    time::Timestamp,
};
use rusqlite::{
    params,
    types::{ToSqlOutput, ValueRef},
};

/// The most tasks that one call takes from a lane, so that a transaction stays short.
const MAX_CLAIMS: usize = 5_000;

/// The first rows of a lane, in due order. Those of a newer form are passed over.
pub(crate) const LANE: &str = "SELECT task, due_at, ticket, note FROM capomastro_due \
     WHERE lane = ?1 AND format <= ?2 ORDER BY due_at, rank, task LIMIT ?3";

/// Whether a row is to be taken: it is due, or says a time that cannot be.
pub(crate) fn is_ready(due_at: i64, now: Timestamp) -> bool {
    due_at <= micros(now) || timestamp(due_at).is_err()
}

/// Takes due work. A damaged row is taken like the others, so that it comes up again only when the lease ends.
pub(crate) fn claim_due(session: &mut Session<'_>, now: Timestamp, ask: &ClaimAsk) -> Result<Claimed, Stop> {
    let conn = session.conn();
    let mut next_due: Option<Timestamp> = None;
    let mut taken = Vec::new();
    for lane in &ask.lanes {
        let limit = lane.limit.min(MAX_CLAIMS);
        let mut select = conn.prepare_cached(LANE)?;
        let mut rows = select.query(params![
            lane.lane.to_string(),
            RECORD_FORMAT,
            i64::try_from(limit).unwrap_or(0) + 1
        ])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            let due_at: i64 = row.get(1)?;
            if count == limit || !is_ready(due_at, now) {
                let at = timestamp(due_at).unwrap_or(now);
                next_due = Some(next_due.map_or(at, |n| n.min(at)));
                break;
            }
            count += 1;
            // As bytes, since a damaged text need not be one.
            let (task, note) = (bytes(row, 0)?, bytes(row, 3)?);
            taken.push((task, from_now(now, lane.lease), due_at, note));
        }
    }
    let holder = ask.holder.to_string();
    let mut update = conn.prepare_cached(
        "UPDATE capomastro_due SET holder = ?2, ticket = ?3, due_at = ?4, nudge_at = NULL WHERE task = ?1",
    )?;
    let mut claims = Vec::with_capacity(taken.len());
    for (task, until, due_at, note) in taken {
        let ticket = session.next();
        update.execute(params![ToSqlOutput::Borrowed(ValueRef::Text(&task)), holder, ticket, until])?;
        let (task, note) = (String::from_utf8_lossy(&task), String::from_utf8_lossy(&note));
        claims.extend(claim_of_row(&task, ticket, due_at, &note));
    }
    Ok(Claimed { now, claims, next_due })
}

fn bytes(row: &rusqlite::Row<'_>, column: usize) -> Result<Vec<u8>, Stop> {
    let value = row.get_ref(column)?;
    Ok(value.as_bytes().map_err(rusqlite::Error::from)?.to_vec())
}

/// Gives claims back.
pub(crate) fn put_back(
    session: &mut Session<'_>,
    now: Timestamp,
    holder: &HolderId,
    items: &[PutBackRow],
) -> Result<(), Stop> {
    let mut update = session.conn().prepare_cached(
        "UPDATE capomastro_due SET holder = NULL, due_at = min(?4, max(coalesce(nudge_at, ?4), ?7)), nudge_at = NULL, note = ?5 \
         WHERE task = ?1 AND holder = ?2 AND ticket = ?3 AND format <= ?6",
    )?;
    for item in items {
        update.execute(params![
            item.task,
            holder.as_str(),
            item.ticket,
            from_now(now, item.after),
            item.note,
            RECORD_FORMAT,
            micros(now)
        ])?;
    }
    Ok(())
}
