//! Twins of the cases about nudges.

use crate::{
    Ground,
    bent::{derived, held},
    twins,
};
use capomastro_core::{
    store::{Batch, DueChange, Lane, PutBack},
    time::until,
};
use std::time::Duration;

twins! {
    a_nudge_brings_forward_and_never_delays, "a nudge is taken at its word": |ground: &Ground| {
        ground.changing(|mem, _, change| match change {
            DueChange::Nudge { task, after } => Some(match mem.row(task) {
                Some(row) if row.claimed_by.is_none() => {
                    DueChange::Set { task, lane: row.lane, after, note: None }
                }
                _ => change,
            }),
            _ => Some(change),
        })
    };
    a_nudge_of_nothing_makes_nothing, "a nudge makes a row where there is none": |ground: &Ground| {
        ground.changing(|mem, _, change| match change {
            DueChange::Nudge { task, after } if mem.row(task).is_none() => {
                Some(DueChange::Set { task, lane: Lane::House, after, note: None })
            }
            _ => Some(change),
        })
    };
    a_nudge_during_a_claim_survives_set, "the holder's word is the last": |ground: &Ground| {
        ground.sound().on_commit(|mem, mut batch| {
            // Given back in the same breath, with its nudge, so that a free row is set.
            if mem.fork().commit(&batch).is_ok_and(|tried| !tried.repeated) {
                for change in batch.due.clone() {
                    if let DueChange::Set { task, .. } = change
                        && let Some(claim) = held(&batch, task).cloned()
                    {
                        let note = mem.row(task).map(|row| row.note).unwrap_or_default();
                        batch.claims.retain(|other| *other != claim);
                        mem.put_back(&batch.holder, &[PutBack { claim, after: Duration::ZERO, note }])?;
                    }
                }
            }
            mem.commit(&batch)
        })
    };
    a_nudge_during_a_claim_survives_put_back, "what is given back is due when its holder says": |ground: &Ground| {
        ground.sound().on_put_back(|mem, holder, items| {
            let nudged: Vec<_> = items.iter().map(|item| mem.nudged(item.claim.task).is_some()).collect();
            mem.put_back(holder, &items)?;
            for (item, _) in items.iter().zip(nudged).filter(|(_, nudged)| *nudged) {
                let task = item.claim.task;
                let Some(row) = mem.row(task) else { continue };
                let id = derived(capomastro_core::model::CommitId::from_uuid(uuid::Uuid::nil()), row.ticket.into());
                let mut batch = Batch::new(id, holder.clone());
                batch.due = vec![DueChange::Set { task, lane: row.lane, after: item.after, note: None }];
                mem.commit(&batch)?;
            }
            Ok(())
        })
    };
    a_nudge_during_a_claim_survives_done, "what is done is done": |ground: &Ground| {
        ground.changing(|_, _, change| match change {
            DueChange::Done { task } => Some(DueChange::Drop { task }),
            _ => Some(change),
        })
    };
    the_earliest_nudge_counts, "only the first nudge during a claim counts": |ground: &Ground| {
        ground.changing(|mem, _, change| {
            Some(change).filter(|change| {
                !matches!(change, DueChange::Nudge { .. }) || mem.nudged(change.task()).is_none()
            })
        })
    };
    a_nudge_does_not_delay_what_is_due_sooner, "a nudge outweighs what its holder says": |ground: &Ground| {
        ground.changing(|mem, batch, mut change| {
            if let DueChange::Set { task, after, .. } = &mut change
                && held(batch, *task).is_some()
                && let Some(at) = mem.nudged(*task)
            {
                *after = until(mem.now(), at);
            }
            Some(change)
        })
    };
    a_new_claim_answers_the_nudges_before_it, "a nudge stays until a claim is ended": |ground: &Ground| {
        ground.sound().on_claim(|mem, ask| {
            let nudged: Vec<_> =
                mem.rows().into_iter().filter_map(|row| Some((row.task, mem.nudged(row.task)?))).collect();
            let claimed = mem.claim_due(&ask)?;
            for claim in &claimed.claims {
                if let Some((task, at)) = nudged.iter().find(|(task, _)| *task == claim.task) {
                    let id = derived(capomastro_core::model::CommitId::from_uuid(uuid::Uuid::nil()), claim.ticket.into());
                    let mut batch = Batch::new(id, ask.holder.clone());
                    batch.due = vec![DueChange::Nudge { task: *task, after: until(mem.now(), *at) }];
                    mem.commit(&batch)?;
                }
            }
            Ok(claimed)
        })
    };
}
