//! What shares a transaction, and what waits for it.

use crate::samples::{batch, holder, limit, number, open, put, says_what_to_do, wait};
use capomastro_core::{
    ErrorKind, Retry,
    events::{Event, EventKind},
    model::ProjectId,
    store::{Batch, EventFilter, StateStore},
};
use capomastro_store_sqlite::{SqliteStore, rusqlite::Connection};
use futures_util::future::join_all;
use std::{path::Path, pin::pin, task::Poll, time::Duration};

/// Another connection that keeps the write lock until it is dropped.
fn lock(path: &Path) -> Connection {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    conn
}

#[test]
fn a_writer_elsewhere_is_waited_for_and_then_reported() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = SqliteStore::builder(&path).busy_timeout(Duration::from_millis(50)).open().unwrap();
    let held = lock(&path);
    let e = wait(store.commit(&put(limit("a", 1), None))).unwrap_err();
    assert_eq!((e.kind(), e.retry()), (ErrorKind::Unavailable, Retry::Backoff));
    assert!(e.message().contains("another process"), "{e}");
    assert_eq!(wait(number(&store, "a")).unwrap(), None, "reading goes on, and nothing was written");
    drop(held);
    wait(store.commit(&put(limit("a", 1), None))).unwrap();
}

/// Hands in all batches while another connection keeps the lock, so that they share one transaction.
fn in_one_group(store: &SqliteStore, path: &Path, batches: &[Batch]) -> Vec<Result<bool, ErrorKind>> {
    let held = lock(path);
    // The first may start a group of its own; it waits for the lock while the others come.
    let mut all = pin!(join_all(batches.iter().map(|b| store.commit(b))));
    let mut held = Some(held);
    wait(std::future::poll_fn(|cx| {
        let polled = all.as_mut().poll(cx);
        drop(held.take());
        polled
    }))
    .into_iter()
    .map(|r| r.map(|c| c.repeated).map_err(|e| e.kind()))
    .collect()
}

#[test]
fn one_bad_batch_does_not_touch_the_others_of_its_group() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = open(&path);
    Connection::open(&path)
        .unwrap()
        .execute_batch(
            "CREATE TRIGGER fault BEFORE INSERT ON capomastro_records WHEN new.key = 'limit/7' \
             BEGIN SELECT raise(ABORT, 'a fault'); END; \
             CREATE TABLE causes (id INTEGER PRIMARY KEY); CREATE TABLE faults (cause INTEGER REFERENCES causes DEFERRABLE INITIALLY DEFERRED); \
             CREATE TRIGGER late_fault AFTER INSERT ON capomastro_records WHEN new.key = 'limit/9' \
             BEGIN INSERT INTO faults VALUES (1000); END",
        )
        .unwrap();
    let mut batches: Vec<Batch> = (0..20).map(|n| put(limit(&n.to_string(), n), None)).collect();
    // Refused by its precondition; an id that is there already; and the fault of the disk, as it were, at 7.
    batches[11].puts[0].expect = Some(1);
    batches.push(batches[3].clone());
    let answers = in_one_group(&store, &path, &batches);
    for (n, answer) in answers.iter().enumerate() {
        let expected = match n {
            // In the middle, and at COMMIT.
            7 | 9 => Err(ErrorKind::Internal),
            11 => Err(ErrorKind::Conflict),
            20 => Ok(true),
            _ => Ok(false),
        };
        assert_eq!(*answer, expected, "{n}");
    }
    let mut versions = Vec::new();
    for n in 0..20 {
        let found = wait(number(&store, &n.to_string())).unwrap();
        assert_eq!(found.is_some(), ![7, 9, 11].contains(&n), "{n}");
        versions.extend(found.map(|(_, version)| version));
    }
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), 17, "each write has a version of its own");
}

#[test]
fn more_than_fits_the_queue_is_answered_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = open(&path);
    let batches: Vec<Batch> = (0..3_000).map(|n| put(limit(&n.to_string(), n), None)).collect();
    assert!(in_one_group(&store, &path, &batches).iter().all(|a| *a == Ok(false)));
}

#[test]
fn a_dropped_commit_is_written_wholly_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = open(&path);
    let mut written = 0;
    for n in 0..200 {
        let mut both = put(limit(&format!("a{n}"), 1), None);
        both.puts.extend(put(limit(&format!("b{n}"), 1), None).puts);
        let mut polls = 0;
        let mut commit = Box::pin(store.commit(&both));
        wait(std::future::poll_fn(|cx| {
            // Some are dropped at their first wait, some later, some not.
            polls += 1;
            match commit.as_mut().poll(cx) {
                Poll::Pending if polls <= n % 3 => Poll::Pending,
                _ => Poll::Ready(()),
            }
        }));
        drop(commit);
        // Behind it in the queue.
        wait(store.check()).unwrap();
        let a = wait(number(&store, &format!("a{n}"))).unwrap();
        let b = wait(number(&store, &format!("b{n}"))).unwrap();
        assert_eq!(a.is_some(), b.is_some(), "{n}");
        let repeated = wait(store.commit(&both)).unwrap().repeated;
        assert_eq!(repeated, a.is_some(), "{n}");
        written += u32::from(repeated);
    }
    assert!(written > 0, "some were written");
}

#[test]
fn no_event_appears_behind_a_place_that_was_returned() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let (store, other) = (open(&path), open(&path));
    let project = ProjectId::from_uuid(uuid::Uuid::nil());
    let writers = [&store, &other].map(|store| {
        move || {
            for _ in 0..150 {
                let mut batch = batch();
                batch.holder = holder("w");
                batch.events = vec![Event::of_project(project, EventKind::Resumed); 2];
                wait(store.commit(&batch)).unwrap();
            }
        }
    });
    let seen = std::thread::scope(|scope| {
        for writer in writers {
            scope.spawn(writer);
        }
        let mut seen = Vec::new();
        let mut after = 0;
        while seen.len() < 600 {
            let page = wait(store.events(EventFilter::All, after, 7)).unwrap();
            assert!(page.upto >= after);
            after = page.upto;
            seen.extend(page.items.iter().map(|e| e.seq));
        }
        seen
    });
    assert!(seen.is_sorted() && seen.len() == 600);
    assert_eq!(
        wait(store.events(EventFilter::All, 0, 1_000)).unwrap().items.len(),
        600,
        "none was passed over"
    );
}

#[test]
fn the_log_is_emptied_when_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = SqliteStore::builder(&path).idle_after(Duration::from_millis(5)).open().unwrap();
    for n in 0..50 {
        wait(store.commit(&put(limit(&n.to_string(), n), None))).unwrap();
    }
    let log = dir.path().join("a.db-wal");
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        while log.metadata().unwrap().len() > 0 {
            std::thread::yield_now();
        }
        sender.send(()).ok();
    });
    receiver.recv_timeout(Duration::from_secs(10)).expect("an empty log");
    let e = wait(store.list(
        &capomastro_core::store::Query::List {
            list: capomastro_core::store::ListKey::projects(),
            backwards: true,
        },
        None,
        0,
    ))
    .unwrap_err();
    says_what_to_do(&e);
}
