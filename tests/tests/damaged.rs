//! What is damaged in a store stops only what needs it.
#![allow(clippy::unwrap_used, reason = "tests")]

use capomastro_core::{
    model::{CommitId, Policy},
    scheduler::{Retention, TriggerRequest},
    store::{Batch, ClaimAsk, DueChange, Lane, LaneAsk, ListKey, StateStore, Task},
    time::{Clock, SystemClock, SystemRandom},
};
use capomastro_store_postgres::PostgresStore;
use capomastro_store_sqlite::{SqliteStore, rusqlite::Connection};
use capomastro_testkit::{ControllableLauncher, ManualClock, ScriptedProbe};
use capomastro_tests::{Stage, plain_spec, postgres::shared};
use std::{path::Path, sync::Arc, time::Duration};
use tokio_postgres::NoTls;

const DAY: Duration = Duration::from_secs(86_400);

/// A scheduler over a file, whose rows can be damaged behind its back.
fn on_file(path: &Path, keep: Retention) -> Stage {
    let clock = ManualClock::new();
    let store = SqliteStore::builder(path).clock(Arc::new(clock.clone())).open().unwrap();
    let launcher = ControllableLauncher::auto_succeed();
    Stage::over(Arc::new(store), clock, ScriptedProbe::new(), launcher, |b| b.retention(keep))
}

fn keeping_a_week() -> Retention {
    let mut keep = Retention::default();
    (keep.builds_for, keep.receipts_for, keep.events_for, keep.events) = (DAY * 7, DAY * 7, DAY * 7, 0);
    keep
}

async fn build(s: &Stage, name: &str, revision: &str) {
    s.probe.set(name, revision);
    s.scheduler.trigger(name, TriggerRequest::push()).await.unwrap();
    s.pass(3).await;
}

fn damage(conn: &Connection, sql: &str) -> usize {
    conn.execute(sql, []).unwrap()
}

fn count(conn: &Connection, sql: &str) -> i64 {
    conn.query_row(sql, [], |row| row.get(0)).unwrap()
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

#[tokio::test]
async fn damaged_records_keep_no_others_from_being_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let s = on_file(&path, keeping_a_week());
    for (name, project) in
        [("lib", "site"), ("app", "site"), ("gone", "site"), ("away", "site"), ("till", "shop")]
    {
        s.probe.set(name, "r0");
        s.apply(&plain_spec(name, Policy::default()).in_project(project).unwrap()).await;
    }
    s.pass(5).await;
    for n in 1..=6 {
        build(&s, "lib", &format!("r{n}")).await;
        build(&s, "till", &format!("r{n}")).await;
    }
    s.scheduler.delete("gone").await.unwrap();
    s.scheduler.delete("away").await.unwrap();
    build(&s, "app", "r1").await;
    s.pass(5).await;

    let conn = Connection::open(&path).unwrap();
    let shop = ListKey::project_builds_of(s.scheduler.project_status("shop").await.unwrap().project.id);
    // The first of each list, and some in the middle.
    let mut damaged = 0;
    for (list, place) in [
        ("settled-receipts", 0),
        ("settled-receipts", 2),
        ("settled-receipts", 3),
        ("ended-builds", 0),
        ("ended-builds", 5),
        (shop.as_str(), 0),
        (shop.as_str(), 3),
        ("deleted-dependencies", 0),
    ] {
        let key = format!(
            "SELECT key FROM capomastro_lists WHERE list = '{list}' ORDER BY sort LIMIT 1 OFFSET {place}"
        );
        damaged += damage(&conn, &format!("UPDATE capomastro_records SET data = '{{}}' WHERE key = ({key})"));
    }
    assert_eq!(damaged, 8);
    let oldest =
        "UPDATE capomastro_events SET data = '{}' WHERE seq = (SELECT min(seq) FROM capomastro_events)";
    assert_eq!(damage(&conn, oldest), 1);

    for _ in 0..4 {
        s.skip(DAY * 8).await;
        s.pass(5).await;
    }
    let left = |kind: &str| {
        count(&conn, &format!("SELECT count(*) FROM capomastro_records WHERE key LIKE '{kind}/%'"))
    };
    assert_eq!(left("receipt"), 3, "the damaged ones");
    assert_eq!(left("project-build"), 4, "the damaged ones and the current ones");
    assert_eq!(left("dependency"), 4, "the damaged one and those that stand");
    for name in ["lib", "app"] {
        let list = ListKey::builds_of(s.id(name).await);
        let sound = "SELECT count(*) FROM capomastro_records r JOIN capomastro_lists l ON l.key = r.key";
        let sound = format!("{sound} WHERE l.list = '{}' AND r.data != '{{}}'", list.as_str());
        assert_eq!(count(&conn, &sound), 1, "what stands for {name}");
    }
    assert_eq!(s.built("till").len(), 7);
    assert_eq!(count(&conn, "SELECT count(*) FROM capomastro_events WHERE data = '{}'"), 0);
    build(&s, "lib", "r7").await;
    assert_eq!(s.built("lib").last().unwrap(), "r7");
}

#[tokio::test]
async fn all_else_is_made_due_when_the_clock_was_set_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let s = on_file(&path, Retention::default());
    for name in ["a", "b", "c", "d"] {
        s.begin(name, Policy::default()).await;
    }
    s.pass(3).await;
    let conn = Connection::open(&path).unwrap();
    let sql = "UPDATE capomastro_records SET data = '{}' WHERE key = \
               (SELECT key FROM capomastro_lists WHERE list = 'dependencies' ORDER BY sort LIMIT 1 OFFSET 1)";
    assert_eq!(damage(&conn, sql), 1);
    s.pass(5).await;
    s.clock.skew(-chrono::TimeDelta::days(1));
    for name in ["a", "c", "d"] {
        s.probe.set(name, "r2");
    }
    s.pass(10).await;
    for name in ["a", "c", "d"] {
        assert_eq!(s.built(name), ["r1", "r2"], "{name}");
    }
}
