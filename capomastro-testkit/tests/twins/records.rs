//! Twins of the cases about records.

use crate::{
    Ground,
    bent::{Bent, derived, refuse},
    twins,
};
use capomastro_core::{
    ErrorKind,
    store::{Key, Record},
};
use std::sync::{Arc, atomic::Ordering};

/// A store that changes each record before it writes it.
fn writes(ground: &Ground, change: impl Fn(&mut Record) + Send + Sync + 'static) -> Bent {
    ground.sound().on_commit(move |mem, mut batch| {
        batch.puts.iter_mut().for_each(|put| change(&mut put.record));
        mem.commit(&batch)
    })
}

twins! {
    an_empty_store_has_nothing_and_is_well, "the description is empty": |ground: &Ground| {
        ground.sound().on_check(|mem| {
            Ok(capomastro_core::store::StoreInfo { now: mem.now(), description: String::new() })
        })
    };
    each_kind_of_record_returns_as_it_was_written, "who asked is not kept with a receipt": |ground: &Ground| {
        writes(ground, |record| {
            if let Record::Receipt(receipt) = record {
                receipt.requester = None;
            }
        })
    };
    answers_come_in_the_order_of_the_keys, "answers come in the order of what was found": |ground: &Ground| {
        ground.sound().on_get(|mem, keys| {
            let mut snapshot = mem.get(keys)?;
            snapshot.records.sort_by_key(|found| found.as_ref().map(|stored| stored.record.key()));
            Ok(snapshot)
        })
    };
    a_record_is_created_once, "a second creation overwrites the first": |ground: &Ground| {
        ground.sound().on_commit(|mem, mut batch| {
            for put in batch.puts.iter_mut().filter(|put| put.expect.is_none()) {
                put.expect = mem.stored(&put.record.key()).map(|stored| stored.version);
            }
            mem.commit(&batch)
        })
    };
    a_stale_version_conflicts, "a version from the future is good enough": |ground: &Ground| {
        ground.sound().on_commit(|mem, mut batch| {
            for put in &mut batch.puts {
                let stored = mem.stored(&put.record.key()).map(|stored| stored.version);
                if stored.is_some() && put.expect > stored {
                    put.expect = stored;
                }
            }
            mem.commit(&batch)
        })
    };
    versions_grow_and_never_repeat, "what is written unchanged is not written": |ground: &Ground| {
        ground.sound().on_commit(|mem, mut batch| {
            batch.puts.retain(|put| {
                mem.stored(&put.record.key()).is_none_or(|stored| {
                    stored.record != put.record || Some(stored.version) != put.expect
                })
            });
            mem.commit(&batch)
        })
    };
    a_delete_needs_the_stored_version, "a delete asks for no version": |ground: &Ground| {
        ground.sound().on_commit(|mem, mut batch| {
            for (key, version) in &mut batch.deletes {
                *version = mem.stored(key).map_or(*version, |stored| stored.version);
            }
            mem.commit(&batch)
        })
    };
    kinds_and_ids_are_kept_apart, "with a state its dependency is deleted": |ground: &Ground| {
        ground.sound().on_commit(|mem, mut batch| {
            let states: Vec<Key> = batch.deletes.iter().map(|(key, _)| key.clone()).collect();
            for key in states {
                if let Key::State(id) = key
                    && let Some(stored) = mem.stored(&Key::Dependency(id))
                {
                    batch.deletes.push((Key::Dependency(id), stored.version));
                }
            }
            mem.commit(&batch)
        })
    };
    references_of_orphans_may_be_any_text, "blanks at the end of a reference are lost": |ground: &Ground| {
        writes(ground, |record| {
            if let Record::Orphan(orphan) = record {
                orphan.external.0.truncate(orphan.external.0.trim_end().len());
            }
        })
    };
    values_may_be_of_any_script_and_large, "a record of more than a mebibyte is too large": |ground: &Ground| {
        ground.sound().on_commit(|mem, batch| {
            let size = |record: &Record| serde_json::to_string(record).unwrap().len();
            if batch.puts.iter().any(|put| size(&put.record) > 1024 * 1024) {
                return refuse(ErrorKind::StorageFull);
            }
            mem.commit(&batch)
        })
    };
    times_return_to_the_microsecond, "time begins in 1970": |ground: &Ground| {
        writes(ground, |record| {
            if let Record::State(state) = record {
                state.debt_since = state.debt_since.map(|at| at.max(chrono::DateTime::UNIX_EPOCH));
            }
        })
    };
    what_was_answered_survives_reopening, "ids of commits are kept in memory": |ground: &Ground| {
        let reopened = Arc::clone(&ground.reopened);
        ground.sound().on_commit(move |mem, mut batch| {
            batch.id = derived(batch.id, u128::from(reopened.load(Ordering::SeqCst)));
            mem.commit(&batch)
        })
    };
}
