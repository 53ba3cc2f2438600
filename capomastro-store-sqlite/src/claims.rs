//! Taking due work, and giving it back.

use crate::{
    apply::{Session, Stop},
    error::Failure,
};
use capomastro_core::{
    model::HolderId,
    store::{
        Claim, ClaimAsk, Claimed, RECORD_FORMAT, Task,
        due::from_now,
        refusals::damaged,
        rows::{PutBackRow, micros, note_from_json, timestamp, unsigned},
    },
    time::Timestamp,
};
use rusqlite::params;

/// The most tasks that one call takes from a lane, so that a transaction stays short.
const MAX_CLAIMS: usize = 5_000;

/// The first rows of a lane, in due order. Those of a newer form are passed over.
pub(crate) const LANE: &str = "SELECT task, due_at, ticket, note FROM capomastro_due \
     WHERE lane = ?1 AND format <= ?2 ORDER BY due_at, rank, task LIMIT ?3";

/// Takes due work.
pub(crate) fn claim_due(session: &mut Session<'_>, now: Timestamp, ask: &ClaimAsk) -> Result<Claimed, Stop> {
    let conn = session.conn();
    let mut claims = Vec::new();
    let mut next_due: Option<i64> = None;
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
            if count == limit || due_at > micros(now) {
                next_due = Some(next_due.map_or(due_at, |n| n.min(due_at)));
                break;
            }
            count += 1;
            let task: String = row.get(0)?;
            let claim = Claim {
                task: task.parse::<Task>().map_err(|e| damaged("a task", &task).with_source(e))?,
                ticket: 0,
                due_at: timestamp(due_at)?,
                note: note_from_json(&task, &row.get::<_, String>(3)?),
            };
            taken.push((task, from_now(now, lane.lease), claim));
        }
    }
    let next_due = next_due.map(timestamp).transpose()?;
    let holder = ask.holder.to_string();
    let mut update = conn.prepare_cached(
        "UPDATE capomastro_due SET holder = ?2, ticket = ?3, due_at = ?4, nudge_at = NULL WHERE task = ?1",
    )?;
    for (task, until, claim) in taken {
        let ticket = session.next();
        update.execute(params![task, holder, ticket, until])?;
        let ticket = unsigned(ticket).map_err(|e| Stop::Broken(Failure::of_row(e.report())))?;
        claims.push(Claim { ticket, ..claim });
    }
    Ok(Claimed { now, claims, next_due })
}

/// Gives claims back.
pub(crate) fn put_back(
    session: &mut Session<'_>,
    now: Timestamp,
    holder: &HolderId,
    items: &[PutBackRow],
) -> Result<(), Stop> {
    let mut update = session.conn().prepare_cached(
        "UPDATE capomastro_due SET holder = NULL, due_at = min(?4, coalesce(nudge_at, ?4)), nudge_at = NULL, note = ?5 \
         WHERE task = ?1 AND holder = ?2 AND ticket = ?3 AND format <= ?6",
    )?;
    for item in items {
        update.execute(params![
            item.task,
            holder.as_str(),
            item.ticket,
            from_now(now, item.after),
            item.note,
            RECORD_FORMAT
        ])?;
    }
    Ok(())
}
