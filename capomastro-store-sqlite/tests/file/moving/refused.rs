//! What is not moved, and what is seen to have gone wrong.

use super::{
    bent::{Bent, Fate},
    moved,
    rich::{all_of, rich},
};
use crate::samples::{limit, open, project, put, says_what_to_do, wait};
use capomastro_core::{
    Error, ErrorKind,
    model::Note,
    store::{
        StateStore,
        transfer::{Afterwards, Item, TransferReader, TransferTarget, transfer},
    },
};
use capomastro_store_sqlite::{SqliteStore, rusqlite::Connection};
use std::{path::Path, sync::Mutex, time::Duration};

fn refuses(path: &Path, kind: ErrorKind) -> Error {
    let e = SqliteStore::builder(path).open().unwrap_err();
    assert_eq!(e.kind(), kind, "{e}");
    says_what_to_do(&e);
    e
}

#[test]
fn a_target_that_holds_anything_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (rich(dir.path()), dir.path().join("new.db"));
    let store = open(&new);
    wait(store.commit(&put(limit("mine", 1), None))).unwrap();
    wait(store.close());
    let before = all_of(&new);
    let e = moved(&old, &new, Afterwards::RetireSource).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::AlreadyExists, "{e}");
    assert!(e.to_string().contains("new.db"), "{e}");
    says_what_to_do(&e);
    assert_eq!(all_of(&new), before);
    wait(open(&new).check()).unwrap();
    wait(open(&old).check()).unwrap();
}

#[test]
fn what_another_store_has_begun_to_fill_is_left_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new, other) = (rich(dir.path()), dir.path().join("new.db"), dir.path().join("other.db"));
    let store = open(&other);
    wait(store.commit(&put(limit("mine", 1), None))).unwrap();
    wait(store.close());
    let (source, target) = (
        SqliteStore::builder(&old).open_source().unwrap(),
        SqliteStore::builder(&new).open_target().unwrap(),
    );
    let from = wait(source.survey()).unwrap();
    wait(target.begin(&from)).unwrap();
    wait(source.close());
    wait(target.close());
    let e = refuses(&new, ErrorKind::ReadOnly);
    assert!(e.to_string().contains("rich.db"), "{e}");
    assert_eq!(moved(&other, &new, Afterwards::KeepSource).unwrap_err().kind(), ErrorKind::AlreadyExists);
    // Half an installation is not moved on either.
    assert_eq!(SqliteStore::builder(&new).open_source().unwrap_err().kind(), ErrorKind::ReadOnly);
    moved(&old, &new, Afterwards::KeepSource).unwrap();
}

#[test]
fn who_has_a_file_open_keeps_it_from_being_moved_and_the_other_way_round() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (rich(dir.path()), dir.path().join("new.db"));
    let brief = |path: &Path| SqliteStore::builder(path).busy_timeout(Duration::from_millis(50));
    let store = open(&old);
    let e = brief(&old).open_source().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
    assert!(e.message().contains("stop every scheduler"), "{e}");
    wait(store.close());
    let source = brief(&old).open_source().unwrap();
    assert_eq!(brief(&old).open().unwrap_err().kind(), ErrorKind::Unavailable);
    let empty = open(&new);
    assert_eq!(brief(&new).open_target().unwrap_err().kind(), ErrorKind::Unavailable);
    wait(empty.close());
    let target = brief(&new).open_target().unwrap();
    assert_eq!(brief(&new).open().unwrap_err().kind(), ErrorKind::Unavailable);
    wait(transfer(&source, &target, Afterwards::KeepSource)).unwrap();
    wait(source.close());
    wait(target.close());
    wait(open(&new).check()).unwrap();
}

#[test]
fn a_path_given_by_mistake_is_no_empty_installation() {
    let dir = tempfile::tempdir().unwrap();
    let (none, new) = (dir.path().join("none.db"), dir.path().join("new.db"));
    let e = moved(&none, &new, Afterwards::RetireSource).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{e}");
    assert!(!none.exists() && e.to_string().contains("none.db"));
    wait(open(&none).close());
    let e = moved(&none, &new, Afterwards::RetireSource).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidInput, "{e}");
    wait(open(&new).check()).unwrap();
}

/// A row that cannot be read is named, and neither file is the worse for it.
#[test]
fn what_cannot_be_read_is_named_and_not_left_out() {
    let key = "SELECT key FROM capomastro_records ORDER BY key LIMIT 1 OFFSET 7";
    let task = "SELECT task FROM capomastro_due ORDER BY task LIMIT 1 OFFSET 7";
    let seq = "SELECT seq FROM capomastro_events ORDER BY seq LIMIT 1 OFFSET 7";
    let id = "SELECT id FROM capomastro_commits ORDER BY id LIMIT 1 OFFSET 7";
    for (damage, table, row, kind) in [
        ("format = 2", "records", ("key", key), ErrorKind::NewerFormat),
        ("format = 2", "due", ("task", task), ErrorKind::NewerFormat),
        ("format = 2", "events", ("seq", seq), ErrorKind::NewerFormat),
        ("data = '{'", "records", ("key", key), ErrorKind::Corrupt),
        ("version = -3", "records", ("key", key), ErrorKind::Corrupt),
        ("key = ''", "records", ("key", key), ErrorKind::Corrupt),
        ("due_at = 9223372036854775807", "due", ("task", task), ErrorKind::Corrupt),
        ("nudge_at = 9223372036854775807", "due", ("task", task), ErrorKind::Corrupt),
        ("lane = 'x'", "due", ("task", task), ErrorKind::Corrupt),
        ("task = 'x'", "due", ("task", task), ErrorKind::Corrupt),
        ("data = '7'", "events", ("seq", seq), ErrorKind::Corrupt),
        ("id = 'x'", "commits", ("id", id), ErrorKind::Corrupt),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (rich(dir.path()), dir.path().join("new.db"));
        let conn = Connection::open(&old).unwrap();
        let named: String =
            conn.query_row(&format!("SELECT CAST(({}) AS TEXT)", row.1), [], |r| r.get(0)).unwrap();
        let update = format!("UPDATE capomastro_{table} SET {damage} WHERE {} = ?1", row.0);
        assert_eq!(conn.execute(&update, [&named]).unwrap(), 1);
        drop(conn);
        let e = moved(&old, &new, Afterwards::RetireSource).unwrap_err();
        assert_eq!(e.kind(), kind, "{damage} in {table}: {e}");
        let changes_its_name = damage.starts_with(row.0);
        assert!(changes_its_name || e.report().contains(&named), "{damage} in {table}: {}", e.report());
        // The very first row is looked at before anything is begun.
        if damage == "key = ''" {
            wait(open(&new).close());
        } else {
            refuses(&new, ErrorKind::ReadOnly);
        }
        wait(open(&old).check()).unwrap();
    }
}

#[test]
fn counters_that_are_behind_and_names_that_two_have_are_damage() {
    for damage in [
        "UPDATE capomastro_meta SET value = 3 WHERE name = 'counter'",
        "UPDATE sqlite_sequence SET seq = 3 WHERE name = 'capomastro_events'",
        "UPDATE capomastro_records SET data = replace(data, 'twin-b', 'twin-a') WHERE name = 'project/twin-b'",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (rich(dir.path()), dir.path().join("new.db"));
        let store = open(&old);
        wait(store.commit(&put(project("twin-a"), None))).unwrap();
        wait(store.commit(&put(project("twin-b"), None))).unwrap();
        wait(store.close());
        assert_eq!(Connection::open(&old).unwrap().execute(damage, []).unwrap(), 1);
        let e = moved(&old, &new, Afterwards::RetireSource).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corrupt, "{damage}: {e}");
        refuses(&new, ErrorKind::ReadOnly);
    }
}

/// Each change of any item is seen, as it is read back from the target or as it is read again from the source.
#[test]
fn whatever_is_not_as_it_was_copied_is_seen() {
    type Change = fn(&mut Vec<Item>);
    let changes: [(&str, Change); 12] = [
        ("a record is lost", |items| items.retain(|i| !matches!(i, Item::Record(v) if v.version % 7 == 0))),
        ("another version", |items| {
            if let Some(Item::Record(v)) = items.last_mut() {
                v.version += 1;
            }
        }),
        ("another record", |items| {
            for item in items {
                if let Item::Record(v) = item
                    && let capomastro_core::store::Record::Limit(l) = &mut v.record
                {
                    l.next_place += 1;
                }
            }
        }),
        ("a record twice", |items| {
            if let Some(Item::Record(v)) = items.last().cloned() {
                items.pop();
                items.pop();
                items.extend([Item::Record(v.clone()), Item::Record(v)]);
            }
        }),
        ("another time", |items| {
            items.iter_mut().for_each(|i| {
                if let Item::Due(d) = i {
                    d.row.due_at += chrono::TimeDelta::microseconds(1);
                }
            })
        }),
        ("another holder", |items| {
            items.iter_mut().for_each(|i| {
                if let Item::Due(d) = i {
                    d.row.claimed_by = None;
                }
            })
        }),
        ("a note is lost", |items| {
            items.iter_mut().for_each(|i| {
                if let Item::Due(d) = i {
                    d.row.note = Note::default();
                }
            })
        }),
        ("a nudge is lost", |items| {
            items.iter_mut().for_each(|i| {
                if let Item::Due(d) = i {
                    d.nudge_at = None;
                }
            })
        }),
        ("an event has another number", |items| {
            if let Some(Item::Event(e)) = items.first_mut() {
                e.seq -= 1;
            }
        }),
        ("an event has another time", |items| {
            if let Some(Item::Event(e)) = items.first_mut() {
                e.at += chrono::TimeDelta::microseconds(1);
            }
        }),
        ("a commit has another time", |items| {
            if let Some(Item::Commit(_, at)) = items.first_mut() {
                *at += chrono::TimeDelta::microseconds(1);
            }
        }),
        ("a commit is lost", |items| {
            items.retain({
                let mut first = true;
                move |i| !matches!(i, Item::Commit(..)) || !std::mem::take(&mut first)
            })
        }),
    ];
    let dir = tempfile::tempdir().unwrap();
    let old = rich(dir.path());
    for (what, change) in changes {
        let new = dir.path().join("new.db");
        let fate = Fate::new(usize::MAX, false);
        let source = Bent::new(SqliteStore::builder(&old).open_source().unwrap(), fate.clone());
        let mut target = Bent::new(SqliteStore::builder(&new).open_target().unwrap(), fate.clone());
        target.reads = Box::new(change);
        let e = wait(transfer(&source, &target, Afterwards::RetireSource)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corrupt, "{what}: {e}");
        assert!(e.to_string().contains("copied=") && e.to_string().contains("found="), "{e}");
        // The same in the source, when it is read for the second time.
        target.reads = Box::new(|_| {});
        let reads = Mutex::new(0_u32);
        let mut source = source;
        source.reads = Box::new(move |items| {
            let mut reads = reads.lock().unwrap();
            *reads += u32::from(matches!(items.first(), Some(Item::Record(_))));
            // One look whether there is anything, two parts or so to be copied, and then again.
            if *reads > 2 && items.len() > 1 {
                change(items);
            }
        });
        let parts = wait(records_in_parts(&source));
        assert_eq!(parts, 1, "the records are one part, so that the count above is right");
        let e = wait(transfer(&source, &target, Afterwards::RetireSource)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Conflict, "{what}: {e}");
        assert!(e.message().contains("stop every scheduler"), "{e}");
        wait(source.end.close());
        wait(target.end.close());
        refuses(&new, ErrorKind::ReadOnly);
        wait(open(&old).close());
        std::fs::remove_file(new).unwrap();
    }
}

async fn records_in_parts(source: &Bent) -> usize {
    use capomastro_core::store::transfer::{ItemKind, PART};
    let (mut parts, mut after) = (0, None);
    loop {
        let part = source.end.read(ItemKind::Record, after.as_deref(), PART).await.unwrap();
        parts += 1;
        after = part.next;
        if after.is_none() {
            return parts;
        }
    }
}
