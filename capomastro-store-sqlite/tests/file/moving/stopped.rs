//! Moves that end in the middle, and are made again.

use super::{
    bent::{Bent, Fate},
    moved, reinstate,
    rich::{all_of, clock, count, lean, open_at},
};
use crate::{
    processes::{process, said, say},
    samples::{batch, limit, put, says_what_to_do, wait},
};
use capomastro_core::{
    ErrorKind, Result,
    store::{
        DueChange, StateStore,
        transfer::{Afterwards, Item, TransferReport, transfer},
    },
};
use capomastro_store_sqlite::{SqliteStore, rusqlite::types::Value};
use std::{
    io::{BufRead, BufReader},
    path::Path,
};

/// A move until its process dies.
fn moved_until(from: &Path, to: &Path, fate: &Fate) -> Result<TransferReport> {
    let source = Bent::new(SqliteStore::builder(from).open_source()?, fate.clone());
    let target = Bent::new(SqliteStore::builder(to).open_target()?, fate.clone());
    let report = wait(transfer(&source, &target, Afterwards::RetireSource));
    wait(source.end.close());
    wait(target.end.close());
    report
}

fn usable(path: &Path) -> bool {
    match SqliteStore::builder(path).open() {
        Ok(store) => {
            wait(store.close());
            true
        }
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::ReadOnly, "{e}");
            says_what_to_do(&e);
            false
        }
    }
}

/// What is not whole is not used, and never are both. Returns whether the move had begun.
fn check_half(old: &Path, new: &Path, whole: &[Vec<Value>]) -> bool {
    let was_begun = new.exists() && {
        // Whoever was killed may have left the file without its tables.
        SqliteStore::builder(new).open().is_err()
            || count(new, "FROM capomastro_moves WHERE way = 'from'") > 0
    };
    if was_begun && usable(new) {
        assert!(!usable(old) && all_of(new) == whole);
    }
    was_begun
}

/// Every call of a move is once the last that its process made, done or not; then the move is made again.
#[test]
fn a_move_that_was_stopped_anywhere_ends_well_when_it_is_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let old = lean(dir.path());
    let whole = all_of(&old);
    let mut halves = 0;
    for after in [false, true] {
        for calls in 1.. {
            let new = dir.path().join(format!("{calls}-{after}.db"));
            let stopped = match moved_until(&old, &new, &Fate::new(calls, after)) {
                Ok(report) => {
                    assert!(report.source_retired && calls > 20, "{calls} calls");
                    reinstate(&old);
                    break;
                }
                Err(e) => e,
            };
            assert_eq!(stopped.kind(), ErrorKind::Cancelled, "{stopped}");
            halves += usize::from(check_half(&old, &new, &whole));
            let report = moved(&old, &new, Afterwards::RetireSource).unwrap();
            assert!(report.source_retired);
            assert_eq!(all_of(&new), whole, "call {calls}, {after}");
            assert!(!usable(&old) && usable(&new));
            reinstate(&old);
            std::fs::remove_file(new).unwrap();
        }
    }
    assert!(halves > 40, "{halves}");
}

#[test]
fn what_changed_between_two_tries_is_as_the_second_found_it() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (lean(dir.path()), dir.path().join("new.db"));
    let e = moved_until(&old, &new, &Fate::new(18, true)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Cancelled);
    assert!(count(&new, "FROM capomastro_records") > 10 && count(&new, "FROM capomastro_due") > 500);
    let store = open_at(&old, &clock());
    let small = limit("small", 8);
    let version = wait(store.get(&[small.key()])).unwrap().records[0].as_ref().unwrap().version;
    let mut change = put(limit("another", 1), None);
    change.deletes.push((small.key(), version));
    wait(store.commit(&change)).unwrap();
    let mut drops = batch();
    drops.due.extend((0..100).map(|n| DueChange::Drop { task: super::rich::look(n) }));
    wait(store.commit(&drops)).unwrap();
    wait(store.close());
    moved(&old, &new, Afterwards::RetireSource).unwrap();
    assert_eq!(all_of(&new), all_of(&old));
}

/// Run in another process: says each part that it reads.
pub(crate) fn plays(old: &Path, new: &Path) {
    let fate = Fate::new(usize::MAX, false);
    let mut source = Bent::new(SqliteStore::builder(old).open_source().unwrap(), fate.clone());
    let mut target = Bent::new(SqliteStore::builder(new).open_target().unwrap(), fate);
    let says = |items: &mut Vec<Item>| say(&format!("read {}", items.len()));
    source.reads = Box::new(says);
    target.reads = Box::new(says);
    wait(transfer(&source, &target, Afterwards::RetireSource)).unwrap();
}

#[test]
fn a_move_that_was_killed_ends_well_when_it_is_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let old = lean(dir.path());
    let whole = all_of(&old);
    let mut halves = 0;
    for parts in 1..=18 {
        let new = dir.path().join(format!("{parts}.db"));
        let mut child = process("move", &old, &new.display().to_string());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let read = lines.by_ref().filter(|l| said(l).is_some()).take(parts).count();
        assert_eq!(read, parts);
        child.kill().unwrap();
        child.wait().unwrap();
        halves += usize::from(check_half(&old, &new, &whole));
        moved(&old, &new, Afterwards::RetireSource).unwrap();
        assert_eq!(all_of(&new), whole, "killed after {parts} parts");
        assert!(!usable(&old) && usable(&new));
        reinstate(&old);
    }
    assert!(halves >= 15, "{halves}");
}
