//! An embedder's own tables in the same file, and copies of it.

use crate::samples::{batch, limit, limit_key, number, open, project, put, says_what_to_do, wait};
use capomastro_core::{
    ErrorKind,
    store::{DueChange, Lane, StateStore, Task},
};
use capomastro_store_sqlite::rusqlite::{Connection, TransactionBehavior};
use std::{path::Path, time::Duration};

fn connect(path: &Path) -> Connection {
    let conn = Connection::open(path).unwrap();
    conn.busy_timeout(Duration::from_secs(5)).unwrap();
    conn.execute_batch("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY)").unwrap();
    conn
}

fn orders(conn: &Connection) -> i64 {
    conn.query_row("SELECT count(*) FROM orders", [], |r| r.get(0)).unwrap()
}

#[test]
fn a_batch_in_the_callers_transaction_is_stored_with_it_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = open(&path);
    let mut conn = connect(&path);
    for commits in [false, true] {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        tx.execute("INSERT INTO orders DEFAULT VALUES", []).unwrap();
        let mut batch = put(limit("a", 1), None);
        let lease = Duration::from_secs(60);
        batch.due.push(DueChange::Hold { task: Task::Sweep, lane: Lane::House, lease });
        let committed = store.commit_in(&tx, &batch).unwrap();
        assert_eq!((committed.repeated, committed.claims.len()), (false, 1));
        assert!(store.commit_in(&tx, &batch).unwrap().repeated);
        assert_eq!(wait(number(&store, "a")).unwrap(), None, "nothing is seen before COMMIT");
        if commits {
            tx.commit().unwrap();
        } else {
            tx.rollback().unwrap();
        }
        assert_eq!(wait(number(&store, "a")).unwrap().is_some(), commits);
        assert_eq!(orders(&conn), i64::from(commits));
    }
    // Versions go on from there.
    let (_, version) = wait(number(&store, "a")).unwrap().unwrap();
    wait(store.commit(&put(limit("a", 2), Some(version)))).unwrap();
    assert!(wait(number(&store, "a")).unwrap().unwrap().1 > version);
}

#[test]
fn a_refused_batch_leaves_the_callers_transaction_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = open(&path);
    wait(store.commit(&put(project("p"), None))).unwrap();
    let mut conn = connect(&path);
    conn.execute_batch(
        "CREATE TRIGGER fault BEFORE INSERT ON capomastro_records WHEN new.key = 'limit/fault' \
         BEGIN SELECT raise(ABORT, 'a fault'); END",
    )
    .unwrap();
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    tx.execute("INSERT INTO orders DEFAULT VALUES", []).unwrap();
    let mut broken = put(limit("before", 1), None);
    broken.puts.extend(put(limit("fault", 1), None).puts);
    for (batch, kind) in [
        (put(project("p"), None), ErrorKind::AlreadyExists),
        (put(limit("a", 1), Some(7)), ErrorKind::Conflict),
        (broken, ErrorKind::Internal),
    ] {
        assert_eq!(store.commit_in(&tx, &batch).unwrap_err().kind(), kind);
    }
    store.commit_in(&tx, &put(limit("good", 1), None)).unwrap();
    tx.commit().unwrap();
    assert_eq!(orders(&conn), 1);
    assert_eq!(wait(number(&store, "before")).unwrap(), None);
    assert!(wait(number(&store, "good")).unwrap().is_some());
}

#[test]
fn a_transaction_on_another_file_or_without_durability_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("a.db"));
    let _other = open(&dir.path().join("b.db"));
    let mut theirs = connect(&dir.path().join("c.db"));
    let mut same_kind = connect(&dir.path().join("b.db"));
    let mut fast = connect(&dir.path().join("a.db"));
    fast.pragma_update(None, "synchronous", "NORMAL").unwrap();
    let mut memory = Connection::open_in_memory().unwrap();
    for conn in [&mut theirs, &mut same_kind, &mut fast, &mut memory] {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        let e = store.commit_in(&tx, &batch()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput, "{e}");
        assert!(e.message().contains(": open the connection") || e.message().contains(": set PRAGMA"), "{e}");
    }
}

#[test]
fn a_copy_is_a_store_as_it_stood_and_the_original_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("a.db"), dir.path().join("copy.db"));
    let store = open(&path);
    for n in 0..300 {
        wait(store.commit(&put(limit(&format!("{n}"), n), None))).unwrap();
    }
    wait(store.backup_to(&copy)).unwrap();
    wait(store.commit(&put(limit("later", 1), None))).unwrap();

    let copied = open(&copy);
    for n in 0..300 {
        assert!(wait(number(&copied, &format!("{n}"))).unwrap().is_some());
    }
    assert_eq!(wait(copied.get(&[limit_key("later")])).unwrap().records, [None]);
    wait(copied.commit(&put(limit("own", 1), None))).unwrap();

    let e = wait(store.backup_to(&copy)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::AlreadyExists);
    says_what_to_do(&e);
    let e = wait(store.backup_to(dir.path().join("no/such/folder.db"))).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e:?}");
    let partial: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("partial"))
        .collect();
    assert!(partial.is_empty(), "{partial:?}");
}
