//! Twins of the cases about commits, and about forgetting.

use crate::{
    Ground,
    bent::{Bent, derived, refuse},
    twins,
};
use capomastro_core::{
    ErrorKind,
    store::{Batch, Key, Record, Version},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, atomic::Ordering},
};

/// Guards are not looked at where the batch's own records have not changed. Two cases see it: one writes such batches
/// by hand, the other one through a draft.
fn trusts_writers_of_unchanged_records(ground: &Ground) -> Bent {
    ground.sound().on_commit(|mem, mut batch| {
        if batch.puts.iter().any(|put| put.expect.is_some()) {
            batch.guards.clear();
        }
        mem.commit(&batch)
    })
}

/// A store that forgets otherwise.
fn forgets(
    ground: &Ground,
    otherwise: impl Fn(&mut capomastro_core::store::Forget) + Send + Sync + 'static,
) -> Bent {
    ground.sound().on_commit(move |mem, mut batch| {
        batch.forget.iter_mut().for_each(&otherwise);
        mem.commit(&batch)
    })
}

twins! {
    a_guard_of_a_changed_record_conflicts, "a guard compares what is stored, not its version": |ground: &Ground| {
        let written: Mutex<BTreeMap<(Key, Version), Record>> = Mutex::default();
        ground.sound().on_commit(move |mem, mut batch| {
            let mut written = written.lock().unwrap();
            for (key, guarded) in &mut batch.guards {
                if let Some(stored) = mem.stored(key)
                    && let Some(version) = guarded
                    && written.get(&(key.clone(), *version)) == Some(&stored.record)
                {
                    *version = stored.version;
                }
            }
            let committed = mem.commit(&batch)?;
            for put in &batch.puts {
                if let Some(stored) = mem.stored(&put.record.key()) {
                    written.insert((put.record.key(), stored.version), stored.record);
                }
            }
            Ok(committed)
        })
    };
    a_guard_of_absence_conflicts_once_there_is_a_record, "that there is no record cannot be guarded": |ground: &Ground| {
        ground.sound().on_commit(|mem, mut batch| {
            batch.guards.retain(|(_, guarded)| guarded.is_some());
            mem.commit(&batch)
        })
    };
    two_decisions_that_read_each_other_conflict, "guards are not looked at beside a record that was changed":
        trusts_writers_of_unchanged_records;
    a_batch_that_fails_leaves_nothing, "what is to be deleted goes before the claims are looked at": |ground: &Ground| {
        ground.sound().on_commit(|mem, batch| {
            let answer = mem.commit(&batch);
            if answer.as_ref().is_err_and(|e| e.kind() == ErrorKind::ClaimLost) {
                let mut deletes = Batch::new(derived(batch.id, 1), batch.holder);
                deletes.deletes = batch.deletes;
                mem.commit(&deletes).ok();
            }
            answer
        })
    };
    a_repeated_commit_changes_nothing, "a repetition is answered with the time of the repetition": |ground: &Ground| {
        ground.sound().on_commit(|mem, batch| {
            let mut committed = mem.commit(&batch)?;
            committed.at = mem.now();
            Ok(committed)
        })
    };
    a_repeated_commit_is_answered_whatever_changed_since, "claims are looked at before the id": |ground: &Ground| {
        ground.sound().on_commit(|mem, batch| {
            for claim in &batch.claims {
                let row = mem.row(claim.task);
                if row.is_none_or(|row| row.ticket != claim.ticket || row.claimed_by.is_none()) {
                    return refuse(ErrorKind::ClaimLost);
                }
            }
            mem.commit(&batch)
        })
    };
    a_commit_that_failed_may_be_tried_again_under_its_id, "the id of a failure is used up": |ground: &Ground| {
        let failed: Mutex<BTreeSet<_>> = Mutex::default();
        ground.sound().on_commit(move |mem, batch| {
            let mut failed = failed.lock().unwrap();
            if failed.contains(&batch.id) {
                return refuse(ErrorKind::Conflict);
            }
            mem.commit(&batch).inspect_err(|_| {
                failed.insert(batch.id);
            })
        })
    };
    the_gravest_error_is_told_first, "versions are looked at before claims": |ground: &Ground| {
        ground.sound().on_commit(|mem, batch| {
            mem.commit(&batch).map_err(|lost| {
                let mut free = batch.clone();
                free.claims.clear();
                match mem.fork().commit(&free) {
                    Err(e) if lost.kind() == ErrorKind::ClaimLost && e.kind() == ErrorKind::Conflict => e,
                    _ => lost,
                }
            })
        })
    };
    a_batch_must_not_contradict_itself, "what is deleted twice is deleted once": |ground: &Ground| {
        ground.sound().on_commit(|mem, mut batch| {
            batch.deletes.dedup();
            mem.commit(&batch)
        })
    };
    due_rows_are_neither_put_nor_deleted_nor_guarded, "a guard of a due row is passed over": |ground: &Ground| {
        ground.sound().on_commit(|mem, mut batch| {
            batch.guards.retain(|(key, _)| !matches!(key, Key::Due(_)));
            mem.commit(&batch)
        })
    };
    a_draft_guards_what_it_read, "guards are not looked at beside a record that was changed":
        trusts_writers_of_unchanged_records;

    old_events_are_forgotten_oldest_first, "what is exactly as old is forgotten, too": |ground: &Ground| {
        forgets(ground, |forget| forget.events_before += chrono::TimeDelta::microseconds(1))
    };
    the_newest_events_are_kept, "one event less is kept": |ground: &Ground| {
        forgets(ground, |forget| forget.keep_events = forget.keep_events.saturating_sub(1))
    };
    forgetting_is_bounded, "all is forgotten at once": |ground: &Ground| {
        forgets(ground, |forget| forget.at_most = u32::MAX)
    };
    old_commit_ids_are_forgotten, "ids that are exactly as old are forgotten, too": |ground: &Ground| {
        forgets(ground, |forget| forget.commits_before += chrono::TimeDelta::microseconds(1))
    };
    places_are_never_given_out_again, "an empty stream begins anew when it is opened again": |ground: &Ground| {
        // How often it was opened, behind which place it has begun anew, and the newest place.
        let begun = Arc::new(Mutex::new((0, 0, 0)));
        let (reopened, same) = (Arc::clone(&ground.reopened), Arc::clone(&begun));
        ground
            .sound()
            .on_commit(move |mem, batch| {
                let mut begun = begun.lock().unwrap();
                let opened = reopened.load(Ordering::SeqCst);
                if begun.0 < opened {
                    *begun = (opened, if mem.last_place() == 0 { begun.2 } else { begun.1 }, begun.2);
                }
                let committed = mem.commit(&batch);
                begun.2 = begun.2.max(mem.last_place());
                committed
            })
            .on_events(move |mem, filter, after, limit| {
                let behind = same.lock().unwrap().1;
                let mut page = mem.events(filter, after + behind, limit)?;
                page.upto -= behind;
                page.items.iter_mut().for_each(|stored| stored.seq -= behind);
                Ok(page)
            })
    };
}
