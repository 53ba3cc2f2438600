//! The raw limits: the same work by hand, without anything that a scheduler promises.

use capomastro_core::{
    probe::{Ask, RevisionProbe},
    secret::Secrets,
};
use capomastro_store_sqlite::rusqlite::{Connection, params};
use capomastro_tests::Standing;
use std::{path::Path, time::Duration};

/// Asks the probe, one ask at a time.
pub(crate) async fn bare_probes(count: usize) -> usize {
    let name = "dependency-0000001";
    let ask =
        Ask::new(name.parse().unwrap(), Standing::source(name), Duration::from_secs(60), Secrets::none());
    for _ in 0..count {
        let answers = Standing.probe(std::slice::from_ref(&ask)).await;
        assert!(std::hint::black_box(&answers)[0].is_ok());
    }
    count
}

/// A table of due rows, and two statements in two transactions for each page of them.
#[derive(Debug)]
pub(crate) struct ByHand {
    conn: Connection,
    now: i64,
    count: usize,
}

impl ByHand {
    pub(crate) fn new(path: &Path, count: usize) -> Self {
        let mut conn = Connection::open(path).unwrap();
        conn.pragma_update(None, "journal_mode", "WAL").unwrap();
        conn.pragma_update(None, "synchronous", "NORMAL").unwrap();
        conn.pragma_update(None, "cache_size", "-16384").unwrap();
        conn.execute_batch(
            "CREATE TABLE due (id INTEGER PRIMARY KEY, due_at INTEGER NOT NULL, held_by TEXT);
             CREATE INDEX by_time ON due (due_at)",
        )
        .unwrap();
        let tx = conn.transaction().unwrap();
        for number in 0..count {
            let number = i64::try_from(number).unwrap();
            tx.execute("INSERT INTO due (id, due_at) VALUES (?1, ?1)", [number]).unwrap();
        }
        tx.commit().unwrap();
        Self { conn, now: 1 << 40, count }
    }

    /// Takes all rows, a page at a time, and puts each back.
    pub(crate) fn take_and_put_back(&mut self, page: usize) -> usize {
        let step = i64::try_from(self.count).unwrap();
        self.now += step;
        let mut done = 0;
        loop {
            let tx = self.conn.transaction().unwrap();
            let taken: Vec<i64> = tx
                .prepare_cached("SELECT id FROM due WHERE due_at <= ?1 ORDER BY due_at LIMIT ?2")
                .unwrap()
                .query_map(params![self.now, i64::try_from(page).unwrap()], |r| r.get(0))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            let mut take =
                tx.prepare_cached("UPDATE due SET held_by = 'me', due_at = ?2 WHERE id = ?1").unwrap();
            for id in &taken {
                take.execute(params![id, self.now + 2 * step]).unwrap();
            }
            drop(take);
            tx.commit().unwrap();
            if taken.is_empty() {
                return done;
            }
            let tx = self.conn.transaction().unwrap();
            let mut put =
                tx.prepare_cached("UPDATE due SET held_by = NULL, due_at = ?2 WHERE id = ?1").unwrap();
            for id in &taken {
                put.execute(params![id, self.now + 1 + id]).unwrap();
            }
            drop(put);
            tx.commit().unwrap();
            done += taken.len();
        }
    }
}
