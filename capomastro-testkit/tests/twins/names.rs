//! Twins of the cases about unique names.

use crate::{
    Ground,
    bent::{Mem, refuse},
    twins,
};
use capomastro_core::{
    ErrorKind,
    store::{Batch, Key, Put, Query, Record},
};

/// Which other record has the name of this one, before the batch.
fn owner(mem: &Mem, put: &Put) -> Option<Key> {
    let page = mem.list(&Query::Unique(put.record.unique()?), None, 1).ok()?;
    page.items.first().map(|stored| stored.record.key()).filter(|owner| *owner != put.record.key())
}

/// Whether records of the batch take each other's names.
fn swaps(mem: &Mem, batch: &Batch) -> bool {
    batch.puts.iter().filter(|put| put.expect.is_some() && owner(mem, put).is_some()).count() > 1
}

twins! {
    a_unique_name_belongs_to_one_record, "a name can be taken by renaming: its owner goes": |ground: &Ground| {
        ground.sound().on_commit(|mem, mut batch| {
            for put in batch.puts.clone() {
                if put.expect.is_some()
                    && let Some(key) = owner(mem, &put)
                    && batch.puts.iter().all(|other| other.record.key() != key)
                    && batch.deletes.iter().all(|(other, _)| *other != key)
                    && let Some(stored) = mem.stored(&key)
                {
                    batch.deletes.push((key, stored.version));
                }
            }
            mem.commit(&batch)
        })
    };
    a_name_that_was_freed_may_be_taken, "what says that it is deleted keeps its name": |ground: &Ground| {
        ground.sound().on_commit(|mem, batch| {
            let kept: Vec<_> = mem
                .records()
                .into_iter()
                .filter_map(|record| match record {
                    Record::Dependency(gone) if gone.deleted_at.is_some() => Some(gone.name),
                    _ => None,
                })
                .collect();
            let wanted = |put: &Put| match &put.record {
                Record::Dependency(new) => put.expect.is_none() && kept.contains(&new.name),
                _ => false,
            };
            if batch.puts.iter().any(wanted) {
                return refuse(ErrorKind::AlreadyExists);
            }
            mem.commit(&batch)
        })
    };
    a_batch_may_hand_a_name_over, "a delete frees a name after its batch only": |ground: &Ground| {
        ground.sound().on_commit(|mem, batch| {
            let deleted = |key: Key| batch.deletes.iter().any(|(gone, _)| *gone == key);
            if batch.puts.iter().any(|put| owner(mem, put).is_some_and(deleted)) {
                return refuse(ErrorKind::AlreadyExists);
            }
            mem.commit(&batch)
        })
    };
    two_records_may_swap_their_names, "of two that swap their names the first finds its new one taken": |ground: &Ground| {
        ground.sound().on_commit(|mem, batch| {
            if swaps(mem, &batch) {
                return refuse(ErrorKind::AlreadyExists);
            }
            mem.commit(&batch)
        })
    };
    names_are_compared_byte_for_byte, "a letter and its accent are the letter with the accent": |ground: &Ground| {
        ground.sound().on_commit(|mem, mut batch| {
            for put in &mut batch.puts {
                if let Record::Dependency(dependency) = &mut put.record {
                    let composed = dependency.name.to_string().replace("a\u{308}", "ä");
                    dependency.name = composed.parse().unwrap();
                }
            }
            mem.commit(&batch)
        })
    };
}
