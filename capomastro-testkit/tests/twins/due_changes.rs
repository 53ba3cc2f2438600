//! Twins of the cases about changes of due rows.

use crate::{
    Ground,
    bent::{held, refuse},
    twins,
};
use capomastro_core::{
    ErrorKind,
    model::Note,
    store::{DueChange, Record},
    time::until,
};
use std::time::Duration;

twins! {
    set_makes_and_moves_a_row, "a row is never moved to a later time": |ground: &Ground| {
        ground.changing(|mem, batch, mut change| {
            if let DueChange::Set { task, after, .. } = &mut change
                && held(batch, *task).is_none()
                && let Some(row) = mem.row(*task)
            {
                *after = (*after).min(until(mem.now(), row.due_at));
            }
            Some(change)
        })
    };
    set_by_its_holder_ends_the_claim, "whoever held a row leaves it in its lane": |ground: &Ground| {
        ground.changing(|mem, batch, mut change| {
            if let DueChange::Set { task, lane, .. } = &mut change
                && held(batch, *task).is_some()
                && let Some(row) = mem.row(*task)
            {
                *lane = row.lane;
            }
            Some(change)
        })
    };
    set_by_another_moves_the_lane_and_nudges, "the lane of a held row stays": |ground: &Ground| {
        ground.changing(|mem, batch, mut change| {
            if let DueChange::Set { task, lane, .. } = &mut change
                && held(batch, *task).is_none()
                && let Some(row) = mem.row(*task).filter(|row| row.claimed_by.is_some())
            {
                *lane = row.lane;
            }
            Some(change)
        })
    };
    hold_claims_at_birth, "the last claim is told first": |ground: &Ground| {
        ground.sound().on_commit(|mem, batch| {
            let mut committed = mem.commit(&batch)?;
            committed.claims.reverse();
            Ok(committed)
        })
    };
    hold_makes_a_claim_last_longer, "a lease is counted from the end of the one before": |ground: &Ground| {
        ground.changing(|mem, batch, mut change| {
            if let DueChange::Hold { task, lease, .. } = &mut change
                && held(batch, *task).is_some()
                && let Some(row) = mem.row(*task)
            {
                *lease = lease.saturating_add(until(mem.now(), row.due_at));
            }
            Some(change)
        })
    };
    hold_takes_what_nobody_holds, "only a new row can be held from birth": |ground: &Ground| {
        ground.sound().on_commit(|mem, batch| {
            let free = |change: &DueChange| {
                matches!(change, DueChange::Hold { task, .. }
                    if mem.row(*task).is_some_and(|row| row.claimed_by.is_none()))
            };
            if batch.due.iter().any(free) {
                return refuse(ErrorKind::ClaimLost);
            }
            mem.commit(&batch)
        })
    };
    hold_of_what_another_holds_is_lost, "the work of one's own holder can be taken over": |ground: &Ground| {
        ground.sound().on_commit(|mem, mut batch| {
            for change in &batch.due.clone() {
                let DueChange::Hold { task, .. } = change else { continue };
                if held(&batch, *task).is_none()
                    && let Some(row) = mem.row(*task)
                    && row.claimed_by == Some(batch.holder.to_string())
                {
                    let claim = capomastro_core::store::Claim {
                        task: *task,
                        ticket: row.ticket,
                        due_at: row.due_at,
                        note: row.note,
                    };
                    batch.claims.push(claim);
                }
            }
            mem.commit(&batch)
        })
    };
    done_removes_the_row, "what nobody holds is not done": |ground: &Ground| {
        ground.changing(|_, batch, change| {
            Some(change).filter(|change| {
                !matches!(change, DueChange::Done { .. }) || held(batch, change.task()).is_some()
            })
        })
    };
    drop_removes_the_row_whoever_holds_it, "a row that was nudged during its claim is not dropped": |ground: &Ground| {
        ground.changing(|mem, _, change| {
            Some(change).filter(|change| {
                !matches!(change, DueChange::Drop { .. }) || mem.nudged(change.task()).is_none()
            })
        })
    };
    the_note_stays_until_one_is_given, "an empty note is none": |ground: &Ground| {
        ground.changing(|_, _, mut change| {
            if let DueChange::Set { note, .. } = &mut change
                && *note == Some(Note::default())
            {
                *note = None;
            }
            Some(change)
        })
    };
    a_due_row_can_be_read, "a row tells nobody what it waits for": |ground: &Ground| {
        ground.sound().on_get(|mem, keys| {
            let mut snapshot = mem.get(keys)?;
            for stored in snapshot.records.iter_mut().flatten() {
                if let Record::Due(row) = &mut stored.record {
                    row.note.waits_for = None;
                }
            }
            Ok(snapshot)
        })
    };
    delays_without_bounds_do_no_harm, "what is due in a hundred years is due now": |ground: &Ground| {
        ground.changing(|_, _, mut change| {
            if let DueChange::Set { after, .. } = &mut change
                && *after > Duration::from_secs(100 * 366 * 24 * 60 * 60)
            {
                *after = Duration::ZERO;
            }
            Some(change)
        })
    };
}
