//! What a newer version of the library wrote is left alone.

use crate::samples::{batch, holder, limit, limit_key, open, project, put, says_what_to_do, wait};
use capomastro_core::{
    ErrorKind,
    store::{ClaimAsk, DueChange, Key, Lane, LaneAsk, ListKey, Put, Query, StateStore, Task},
};
use capomastro_store_sqlite::rusqlite::Connection;
use std::time::Duration;

#[test]
fn a_newer_record_is_neither_read_nor_written_nor_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = open(&path);
    let named = project("p");
    let key = named.key();
    wait(store.commit(&put(named.clone(), None))).unwrap();
    let version = wait(store.get(std::slice::from_ref(&key))).unwrap().records[0].as_ref().unwrap().version;
    Connection::open(&path).unwrap().execute("UPDATE capomastro_records SET format = 2", []).unwrap();

    let mut delete = batch();
    delete.deletes.push((key.clone(), version));
    let mut both = put(limit("a", 1), None);
    both.puts.push(Put { record: named.clone(), expect: Some(version) });
    let list = Query::List { list: ListKey::projects(), backwards: false };
    let unique = Query::Unique(named.unique().unwrap());
    for e in [
        wait(store.get(std::slice::from_ref(&key))).unwrap_err(),
        wait(store.list(&list, None, 1)).unwrap_err(),
        wait(store.list(&unique, None, 1)).unwrap_err(),
        wait(store.commit(&put(named.clone(), Some(version)))).unwrap_err(),
        wait(store.commit(&put(named, Some(version + 1)))).unwrap_err(),
        wait(store.commit(&delete)).unwrap_err(),
        wait(store.commit(&both)).unwrap_err(),
    ] {
        assert_eq!(e.kind(), ErrorKind::NewerFormat, "{e}");
        assert!(e.to_string().contains(&key.to_string()), "{e}");
        says_what_to_do(&e);
    }
    assert_eq!(wait(store.get(&[limit_key("a")])).unwrap().records, [None], "all or nothing");
}

#[test]
fn a_newer_due_row_is_neither_taken_nor_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = open(&path);
    let set = || DueChange::Set { task: Task::Sweep, lane: Lane::House, after: Duration::ZERO, note: None };
    let change = |due: DueChange| {
        let mut batch = batch();
        batch.due.push(due);
        batch
    };
    wait(store.commit(&change(set()))).unwrap();
    Connection::open(&path).unwrap().execute("UPDATE capomastro_due SET format = 2", []).unwrap();
    let ask = ClaimAsk {
        lanes: vec![LaneAsk { lane: Lane::House, limit: 10, lease: Duration::from_secs(1) }],
        holder: holder("a"),
    };
    let claimed = wait(store.claim_due(&ask)).unwrap();
    assert_eq!((claimed.claims.len(), claimed.next_due), (0, None));
    for due in [
        set(),
        DueChange::Nudge { task: Task::Sweep, after: Duration::ZERO },
        DueChange::Done { task: Task::Sweep },
        DueChange::Drop { task: Task::Sweep },
    ] {
        let e = wait(store.commit(&change(due))).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NewerFormat, "{e}");
        says_what_to_do(&e);
    }
    let e = wait(store.get(&[Key::Due(Task::Sweep)])).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NewerFormat, "{e}");
}
