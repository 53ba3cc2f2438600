//! Locks that others hold, deadlocks, time-outs, and clocks that differ: calls wait, try again, and end.

use crate::samples::{
    Base, SOON, batch, due, eventually, holder, limit, number, put, says_what_to_do, timed, within,
};
use capomastro_core::{
    ErrorKind, Result, Retry, Scheduler, async_trait,
    model::{Policy, ReceiptState},
    scheduler::TriggerRequest,
    store::{ClaimAsk, Committed, DueChange, Lane, LaneAsk, PutBack, StateStore, Task},
    time::{Clock, Monotonic, SystemClock, Timestamp},
};
use capomastro_store_postgres::{PostgresStore, tokio_postgres::Transaction};
use capomastro_testkit::{ControllableLauncher, ScriptedProbe};
use capomastro_tests::{plain_spec, somebody};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// Waits until somebody waits for a lock in this base.
async fn until_blocked(base: &Base, sessions: usize) {
    let blocked = "SELECT count(DISTINCT pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0";
    eventually(SOON, async || base.sql(blocked).parse::<usize>().unwrap() >= sessions).await;
}

async fn hold(tx: &Transaction<'_>, name: &str) {
    let key = format!("limit/{name}");
    let lock = "SELECT 1 FROM capomastro.records WHERE key = $1 FOR UPDATE";
    assert_eq!(tx.execute(lock, &[&key]).await.unwrap(), 1);
}

/// A store with records `a` and `b`, and their versions.
async fn with_two(base: &Base, deadline: Duration) -> (Arc<PostgresStore>, u64, u64) {
    let opened = PostgresStore::builder(base.url()).deadline(deadline).hints(false).open();
    let store = Arc::new(within(SOON, opened).await.unwrap());
    let mut both = put(limit("a", 1), None);
    both.puts.extend(put(limit("b", 1), None).puts);
    store.commit(&both).await.unwrap();
    let version = async |name| number(&store, name).await.unwrap().unwrap().1;
    let (a, b) = (version("a").await, version("b").await);
    (store, a, b)
}

fn commit(
    store: &Arc<PostgresStore>,
    batch: capomastro_core::store::Batch,
) -> tokio::task::JoinHandle<Result<Committed>> {
    let store = Arc::clone(store);
    tokio::spawn(async move { store.commit(&batch).await })
}

#[tokio::test]
async fn a_lock_that_is_held_for_a_while_is_waited_for() {
    let Some(base) = Base::new() else { return };
    let (store, a, _) = with_two(&base, Duration::from_secs(10)).await;
    base.sql("ALTER FUNCTION capomastro.commit_1 SET lock_timeout = '400ms'");
    let mut other = base.connect().await;
    let tx = other.transaction().await.unwrap();
    hold(&tx, "a").await;
    let commit = commit(&store, put(limit("a", 2), Some(a)));
    // It was given up in the database twice at least, and is tried again.
    let since = "SELECT max(waitstart) FROM pg_locks JOIN pg_stat_activity USING (pid) \
                 WHERE NOT granted AND datname = current_database()";
    let mut waits = BTreeSet::new();
    eventually(SOON, async || {
        waits.extend(Some(base.sql(since)).filter(|at| !at.is_empty()));
        waits.len() > 2
    })
    .await;
    assert!(number(&store, "a").await.unwrap().unwrap().0 == 1, "reading does not wait");
    tx.rollback().await.unwrap();
    assert!(!within(SOON, commit).await.unwrap().unwrap().repeated);
    assert_eq!(number(&store, "a").await.unwrap().unwrap().0, 2);
}

#[tokio::test]
async fn a_lock_that_is_held_for_too_long_is_reported() {
    let Some(base) = Base::new() else { return };
    let (store, a, _) = with_two(&base, Duration::from_secs(20)).await;
    for function in ["commit_1", "claim_1", "put_back_1"] {
        base.sql(&format!("ALTER FUNCTION capomastro.{function} SET lock_timeout = '20ms'"));
    }
    store.commit(&due(Task::Sweep, Lane::House, Duration::ZERO)).await.unwrap();
    let lanes = vec![LaneAsk { lane: Lane::House, limit: 1, lease: Duration::from_secs(60) }];
    let ask = ClaimAsk { lanes, holder: holder("test") };
    let claim = store.claim_due(&ask).await.unwrap().claims.remove(0);
    let mut other = base.connect().await;
    let tx = other.transaction().await.unwrap();
    hold(&tx, "a").await;
    tx.batch_execute("SELECT 1 FROM capomastro.due FOR UPDATE").await.unwrap();
    let held = put(limit("a", 2), Some(a));
    let mut done = batch();
    done.due.push(DueChange::Done { task: Task::Sweep });
    let note = claim.note.clone();
    let back = [PutBack { claim, after: Duration::ZERO, note }];
    let commits = within(SOON, store.commit(&held)).await.map(drop);
    let dones = within(SOON, store.commit(&done)).await.map(drop);
    let backs = within(SOON, store.put_back(&holder("test"), &back)).await;
    for tried in [commits, dones, backs] {
        let e = tried.unwrap_err();
        assert_eq!((e.kind(), e.retry()), (ErrorKind::Unavailable, Retry::Backoff), "{e:?}");
        assert!(e.message().contains("locks"), "{e}");
        says_what_to_do(&e);
    }
    // Taking work does not wait for what others hold.
    let (claimed, took) = timed(store.claim_due(&ask)).await;
    assert_eq!(claimed.unwrap().claims.len(), 0);
    assert!(took < Duration::from_secs(2), "{took:?}");
    tx.rollback().await.unwrap();
    assert!(!store.commit(&held).await.unwrap().repeated, "nothing had been written");
}

#[tokio::test]
async fn a_statement_that_takes_too_long_ends() {
    let Some(base) = Base::new() else { return };
    let deadline = Duration::from_millis(500);
    let (store, a, _) = with_two(&base, deadline).await;
    let mut other = base.connect().await;
    let tx = other.transaction().await.unwrap();
    tx.batch_execute("LOCK TABLE capomastro.records").await.unwrap();
    let (read, took) = timed(within(SOON, number(&store, "a"))).await;
    let e = read.unwrap_err();
    assert_eq!((e.kind(), e.retry()), (ErrorKind::TimedOut, Retry::Backoff), "{e:?}");
    says_what_to_do(&e);
    assert!(took < deadline * 6, "{took:?}");
    let change = put(limit("a", 2), Some(a));
    let (written, took) = timed(within(SOON, store.commit(&change))).await;
    let e = written.unwrap_err();
    assert!(matches!(e.kind(), ErrorKind::TimedOut | ErrorKind::OutcomeUnknown), "{e:?}");
    assert!(matches!(e.retry(), Retry::Backoff | Retry::SameAgain), "{e:?}");
    says_what_to_do(&e);
    assert!(took < deadline * 6, "{took:?}");
    // Nothing of it goes on in the server.
    let blocked = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0";
    eventually(SOON, async || base.sql(blocked) == "0").await;
    tx.rollback().await.unwrap();
    store.commit(&change).await.unwrap();
    assert_eq!(number(&store, "a").await.unwrap().unwrap().0, 2);
    // And the server's own limit, where it is shorter.
    base.sql("ALTER FUNCTION capomastro.now_1 RENAME TO now_0");
    base.sql(
        "CREATE FUNCTION capomastro.now_1(given bigint) RETURNS bigint LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'too long' USING ERRCODE = 'query_canceled'; END $$",
    );
    let e = store.get(&[]).await.unwrap_err();
    assert_eq!((e.kind(), e.retry()), (ErrorKind::TimedOut, Retry::Backoff), "{e:?}");
    says_what_to_do(&e);
}

#[tokio::test]
async fn a_deadlock_is_tried_again() {
    let Some(base) = Base::new() else { return };
    let (store, a, b) = with_two(&base, Duration::from_secs(10)).await;
    let mut other = base.connect().await;
    // Whoever looks for a deadlock first is the one that gives way.
    other.batch_execute("SET deadlock_timeout = '60s'").await.unwrap();
    let tx = other.transaction().await.unwrap();
    hold(&tx, "b").await;
    let mut both = put(limit("a", 2), Some(a));
    both.puts.extend(put(limit("b", 2), Some(b)).puts);
    let commit = commit(&store, both);
    until_blocked(&base, 1).await;
    within(SOON, hold(&tx, "a")).await;
    tx.rollback().await.unwrap();
    assert!(!within(SOON, commit).await.unwrap().unwrap().repeated);
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    eventually(SOON, async || base.sql(deadlocks) == "1").await;
    assert_eq!(number(&store, "b").await.unwrap().unwrap().0, 2);
}

#[tokio::test]
async fn a_deadlock_with_the_embedders_own_transaction_is_a_conflict() {
    let Some(base) = Base::new() else { return };
    let (store, a, _) = with_two(&base, Duration::from_secs(10)).await;
    base.sql("CREATE TABLE own AS SELECT 1 AS id");
    let (mut mine, mut other) = (base.connect().await, base.connect().await);
    other.batch_execute("SET deadlock_timeout = '60s'").await.unwrap();
    let other = other.transaction().await.unwrap();
    hold(&other, "a").await;
    let mine = mine.transaction().await.unwrap();
    mine.batch_execute("UPDATE own SET id = 2").await.unwrap();
    let change = put(limit("a", 2), Some(a));
    let theirs = async {
        until_blocked(&base, 1).await;
        other.batch_execute("UPDATE own SET id = 3").await
    };
    let (ours, theirs) = within(SOON, async {
        tokio::join!(
            async {
                let done = store.commit_in(&mine, &change).await;
                mine.rollback().await.unwrap();
                done
            },
            theirs
        )
    })
    .await;
    let e = ours.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Conflict, "{e:?}");
    says_what_to_do(&e);
    theirs.unwrap();
    other.commit().await.unwrap();
}

#[tokio::test]
async fn a_commit_is_durable_even_where_the_server_is_careless() {
    let Some(base) = Base::new() else { return };
    drop(base.store().await);
    base.sql(&format!("ALTER DATABASE {} SET synchronous_commit = off", base.name));
    base.sql(
        "CREATE TABLE seen (what text, how text); \
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN INSERT INTO seen VALUES (tg_argv[0], current_setting('synchronous_commit')); RETURN NULL; END $$; \
         CREATE TRIGGER see AFTER INSERT OR UPDATE ON capomastro.records FOR EACH STATEMENT EXECUTE FUNCTION see('record'); \
         CREATE TRIGGER see AFTER UPDATE ON capomastro.due FOR EACH STATEMENT EXECUTE FUNCTION see('due')",
    );
    let opened = PostgresStore::builder(base.url()).connections(1).hints(false).open();
    let store = within(SOON, opened).await.unwrap();
    let seen = || base.sql("WITH gone AS (DELETE FROM seen RETURNING *) SELECT DISTINCT how FROM gone");
    store.commit(&put(limit("a", 1), None)).await.unwrap();
    assert_eq!(seen(), "on");
    store.commit(&due(Task::Sweep, Lane::House, Duration::ZERO)).await.unwrap();
    let lanes = vec![LaneAsk { lane: Lane::House, limit: 1, lease: Duration::from_secs(60) }];
    seen();
    let claimed = store.claim_due(&ClaimAsk { lanes, holder: holder("test") }).await.unwrap();
    assert_eq!(seen(), "on");
    let claim = claimed.claims[0].clone();
    let note = claim.note.clone();
    store.put_back(&holder("test"), &[PutBack { claim, after: Duration::ZERO, note }]).await.unwrap();
    assert_eq!(seen(), "off", "what may be lost need not wait");
    store.commit(&put(limit("b", 1), None)).await.unwrap();
    assert_eq!(seen(), "on");
    let mut client = base.connect().await;
    let tx = client.transaction().await.unwrap();
    store.commit_in(&tx, &put(limit("c", 1), None)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(seen(), "on");
    // It is said for each transaction, and not to the connection.
    let after: String = client.query_one("SHOW synchronous_commit", &[]).await.unwrap().get(0);
    assert_eq!(after, "off");
}

/// A clock that is wrong by so many minutes.
#[derive(Debug)]
struct Wrong(i64);

#[async_trait]
impl Clock for Wrong {
    fn now(&self) -> Timestamp {
        let by = Duration::from_secs(60 * self.0.unsigned_abs());
        let now = SystemClock.now();
        if self.0 < 0 { now - by } else { now + by }
    }

    fn monotonic(&self) -> Monotonic {
        SystemClock.monotonic()
    }

    async fn sleep(&self, duration: Duration) {
        SystemClock.sleep(duration).await;
    }
}

#[tokio::test]
async fn clocks_that_differ_from_the_databases_change_nothing() {
    let Some(base) = Base::new() else { return };
    let (probe, launcher) = (ScriptedProbe::new(), ControllableLauncher::auto_succeed());
    probe.set("a", "r1");
    let mut schedulers = Vec::new();
    for minutes in [-10, 10] {
        let scheduler = Scheduler::builder(Arc::new(base.store().await))
            .clock(Arc::new(Wrong(minutes)))
            .probe("scripted", Arc::new(probe.clone()))
            .launcher("fake", Arc::new(launcher.clone()))
            .build()
            .unwrap();
        schedulers.push(scheduler);
    }
    schedulers[0].apply(&plain_spec("a", Policy::default())).await.unwrap();
    let both = async || {
        for scheduler in &schedulers {
            scheduler.tick().await.unwrap();
        }
    };
    let builds = async |count: usize| {
        eventually(SOON, async || {
            both().await;
            let (builds, _) = schedulers[1].history("a", None, 10).await.unwrap();
            builds.len() == count
                && builds.iter().all(|b| b.phase == capomastro_core::model::Phase::Succeeded)
        })
        .await;
    };
    builds(1).await;
    for (n, scheduler) in schedulers.iter().enumerate() {
        let request = TriggerRequest::manual().by(somebody());
        let receipt = scheduler.trigger("a", request).await.unwrap();
        builds(2 + n).await;
        let state = schedulers[1 - n].receipt(receipt).await.unwrap().state;
        assert!(matches!(state, ReceiptState::Started { .. }), "{state:?}");
    }
    for _ in 0..20 {
        both().await;
    }
    assert_eq!(launcher.launch_calls(), 3, "nothing twice, and nothing more");
    // All times that are kept are the database's.
    let off = base.sql(
        "SELECT count(*) FROM capomastro.events \
         WHERE abs(at - extract(epoch FROM clock_timestamp()) * 1000000) > 300 * 1000000::bigint",
    );
    assert_eq!(off, "0");
    let off = base.sql(
        "SELECT count(*) FROM capomastro.due \
         WHERE due_at - extract(epoch FROM clock_timestamp()) * 1000000 < -300 * 1000000::bigint",
    );
    assert_eq!(off, "0");
}
