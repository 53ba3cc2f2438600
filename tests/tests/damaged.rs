//! What is damaged in a store stops only what needs it.
#![allow(clippy::unwrap_used, reason = "tests")]

use capomastro_core::{
    model::{CommitId, Policy},
    scheduler::{Retention, TriggerRequest},
    store::{Batch, ClaimAsk, DueChange, Lane, LaneAsk, StateStore, Task},
    time::{Clock, SystemClock, SystemRandom},
};
use capomastro_store_postgres::PostgresStore;
use capomastro_store_sqlite::{SqliteStore, rusqlite::Connection};
use capomastro_testkit::{ControllableLauncher, ManualClock, ScriptedProbe};
use capomastro_tests::{Stage, postgres::shared};
use std::{path::Path, sync::Arc, time::Duration};
use tokio_postgres::NoTls;

/// A scheduler over a file, whose rows can be damaged behind its back.
fn on_file(path: &Path, keep: Retention) -> Stage {
    let clock = ManualClock::new();
    let store = SqliteStore::builder(path).clock(Arc::new(clock.clone())).open().unwrap();
    let launcher = ControllableLauncher::auto_succeed();
    Stage::over(Arc::new(store), clock, ScriptedProbe::new(), launcher, |b| b.retention(keep))
}

async fn build(s: &Stage, name: &str, revision: &str) {
    s.probe.set(name, revision);
    s.scheduler.trigger(name, TriggerRequest::push()).await.unwrap();
    s.pass(3).await;
}

fn damage(conn: &Connection, sql: &str) -> usize {
    conn.execute(sql, []).unwrap()
}

#[tokio::test]
async fn a_damaged_due_row_stops_neither_a_tick_nor_a_run_that_starts() {
    for sql in [
        "INSERT OR REPLACE INTO capomastro_due (task, rank, lane, due_at, ticket, note, format) \
         VALUES ('swoop/1', 10, 'house', 1, 3, '{}', 1)",
        "UPDATE capomastro_due SET due_at = -9223372036854775807 WHERE task = 'sweep'",
        "UPDATE capomastro_due SET due_at = 9223372036854775807 WHERE task = 'sweep'",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let s = on_file(&path, Retention::default());
        s.begin("lib", Policy::default()).await;
        s.pass(3).await;
        assert_eq!(damage(&Connection::open(&path).unwrap(), sql), 1);
        build(&s, "lib", "r2").await;
        assert_eq!(s.built("lib"), ["r1", "r2"], "{sql}");
        let next = s.another(8, |b| b);
        assert_eq!(damage(&Connection::open(&path).unwrap(), sql), 1);
        next.scheduler.run(std::future::ready(())).await.unwrap();
        build(&next, "lib", "r3").await;
        assert_eq!(s.built("lib"), ["r1", "r2", "r3"], "{sql}");
    }
}

#[tokio::test]
async fn a_damaged_due_row_of_a_database_holds_up_no_other() {
    let Some(server) = shared() else { return };
    let url = server.create_database();
    let store = PostgresStore::builder(url.as_str()).hints(false).open().await.unwrap();
    let (client, line) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    let line = tokio::spawn(line);
    let change = |due| {
        let id = CommitId::draw(SystemClock.now(), &SystemRandom);
        let mut batch = Batch::new(id, "somebody".parse().unwrap());
        batch.due.push(due);
        batch
    };
    let set = DueChange::Set { task: Task::Sweep, lane: Lane::House, after: Duration::ZERO, note: None };
    let ask = ClaimAsk {
        lanes: vec![LaneAsk { lane: Lane::House, limit: 10, lease: Duration::from_secs(600) }],
        holder: "somebody".parse().unwrap(),
    };
    for sql in [
        "INSERT INTO capomastro.due (task, rank, lane, due_at, ticket, note, format) VALUES ('swoop/1', 10, 'house', 1, 3, '{}', 1)",
        "INSERT INTO capomastro.due (task, rank, lane, due_at, ticket, note, format) \
         VALUES ('trim/00000000-0000-0000-0000-000000000000', 10, 'house', -9223372036854775807, 3, '{}', 1)",
        "INSERT INTO capomastro.due (task, rank, lane, due_at, ticket, note, format) \
         VALUES ('trim/00000000-0000-0000-0000-000000000001', 10, 'house', 9223372036854775807, 3, '{}', 1)",
    ] {
        store.commit(&change(set.clone())).await.unwrap();
        assert_eq!(client.execute(sql, &[]).await.unwrap(), 1);
        let claimed = store.claim_due(&ask).await.unwrap();
        let tasks: Vec<_> = claimed.claims.iter().map(|c| c.task).collect();
        assert_eq!(tasks, [Task::Sweep], "{sql}");
        let again = store.claim_due(&ask).await.unwrap();
        assert_eq!(again.claims, [], "{sql}");
        assert!(again.next_due.is_none_or(|at| at > again.now + Duration::from_secs(300)), "{sql}");
        store.commit(&change(DueChange::Drop { task: Task::Sweep })).await.unwrap();
    }
    drop(client);
    line.await.unwrap().unwrap();
}
