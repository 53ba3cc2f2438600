//! An embedder's own tables in the same database, its own transactions, and its own pool.

use crate::samples::{
    Base, SOON, batch, due, events, holder, limit, number, project, put, says_what_to_do, within,
};
use capomastro_core::{
    ErrorKind, Scheduler,
    events::{Event, EventKind},
    model::{Policy, ProjectId, ReceiptState},
    scheduler::TriggerRequest,
    store::{ClaimAsk, DueChange, Lane, LaneAsk, StateStore, Task},
};
use capomastro_store_postgres::{
    PostgresStore,
    deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod},
    tokio_postgres::{Client, Config, IsolationLevel, NoTls, Transaction},
};
use capomastro_testkit::{ControllableLauncher, ScriptedProbe};
use capomastro_tests::{plain_spec, postgres::Cluster, somebody};
use std::{sync::Arc, time::Duration};

const ORDERS: &str = "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY)";
const ORDER: &str = "INSERT INTO orders DEFAULT VALUES";

fn orders(base: &Base) -> String {
    base.sql("SELECT count(*) FROM orders")
}

async fn begin(client: &mut Client, level: IsolationLevel) -> Transaction<'_> {
    client.build_transaction().isolation_level(level).start().await.unwrap()
}

#[tokio::test]
async fn a_batch_in_the_callers_transaction_is_stored_with_it_or_not_at_all() {
    let Some(base) = Base::new() else { return };
    let store = base.store().await;
    base.sql(ORDERS);
    let mut client = base.connect().await;
    for commits in [false, true] {
        let tx = client.transaction().await.unwrap();
        tx.batch_execute(ORDER).await.unwrap();
        let mut batch = put(limit("a", 1), None);
        let lease = Duration::from_secs(60);
        batch.due.push(DueChange::Hold { task: Task::Sweep, lane: Lane::House, lease });
        let committed = store.commit_in(&tx, &batch).await.unwrap();
        assert_eq!((committed.repeated, committed.claims.len()), (false, 1));
        assert!(store.commit_in(&tx, &batch).await.unwrap().repeated);
        assert_eq!(number(&store, "a").await.unwrap(), None, "nothing is seen before COMMIT");
        if commits {
            tx.commit().await.unwrap();
            assert!(store.commit(&batch).await.unwrap().repeated);
        } else {
            tx.rollback().await.unwrap();
        }
        assert_eq!(number(&store, "a").await.unwrap().is_some(), commits);
        assert_eq!(orders(&base), u8::from(commits).to_string());
    }
    // Versions go on from there.
    let (_, version) = number(&store, "a").await.unwrap().unwrap();
    store.commit(&put(limit("a", 2), Some(version))).await.unwrap();
    assert!(number(&store, "a").await.unwrap().unwrap().1 > version);
}

#[tokio::test]
async fn a_refused_batch_leaves_the_callers_transaction_as_it_was() {
    let Some(base) = Base::new() else { return };
    let store = base.store().await;
    store.commit(&put(project("p"), None)).await.unwrap();
    base.sql(ORDERS);
    base.sql(
        "CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a fault'; END $$; \
         CREATE TRIGGER fault BEFORE INSERT ON capomastro.records FOR EACH ROW \
         WHEN (new.key = 'limit/fault') EXECUTE FUNCTION fault()",
    );
    let mut client = base.connect().await;
    let tx = client.transaction().await.unwrap();
    tx.batch_execute(ORDER).await.unwrap();
    let mut broken = put(limit("before", 1), None);
    broken.puts.extend(put(limit("fault", 1), None).puts);
    let mut twice = put(limit("a", 1), None);
    twice.puts.extend(put(limit("a", 2), None).puts);
    for (batch, kind) in [
        (put(project("p"), None), ErrorKind::AlreadyExists),
        (put(limit("a", 1), Some(7)), ErrorKind::Conflict),
        (twice, ErrorKind::InvalidInput),
        (broken, ErrorKind::Internal),
    ] {
        let e = store.commit_in(&tx, &batch).await.unwrap_err();
        assert_eq!(e.kind(), kind, "{e:?}");
    }
    store.commit_in(&tx, &put(limit("good", 1), None)).await.unwrap();
    tx.batch_execute(ORDER).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(orders(&base), "2");
    assert_eq!(number(&store, "before").await.unwrap(), None);
    assert!(number(&store, "good").await.unwrap().is_some());
}

#[tokio::test]
async fn batches_of_one_transaction_keep_their_order() {
    let Some(base) = Base::new() else { return };
    let store = base.store().await;
    let about = ProjectId::from_uuid(uuid::Uuid::nil());
    let mut client = base.connect().await;
    let tx = client.transaction().await.unwrap();
    let mut wanted = Vec::new();
    for n in 0..3 {
        let mut batch = put(limit("a", n), None);
        if n > 0 {
            batch.puts.clear();
        }
        for part in 0..3 {
            wanted.push(format!("{n}.{part}"));
            let name = wanted.last().unwrap().clone();
            batch.events.push(Event::of_project(about, EventKind::Defined { name }));
        }
        store.commit_in(&tx, &batch).await.unwrap();
    }
    tx.commit().await.unwrap();
    let found = events(&store, wanted.len()).await;
    let names = found.iter().map(|e| match &e.event.kind {
        EventKind::Defined { name } => name.clone(),
        other => panic!("{other:?}"),
    });
    assert_eq!(names.collect::<Vec<_>>(), wanted);
    assert!(found.is_sorted_by(|a, b| a.seq < b.seq));
}

#[tokio::test]
async fn a_transaction_on_another_database_or_that_failed_is_refused() {
    let Some(base) = Base::new() else { return };
    let store = base.store().await;
    let (empty, same_kind) = (Base::new().unwrap(), Base::new().unwrap());
    let _other = same_kind.store().await;
    let second = PostgresStore::builder(base.url()).schema("second").hints(false).open().await.unwrap();
    for base in [&empty, &same_kind] {
        let mut client = base.connect().await;
        let tx = client.transaction().await.unwrap();
        for store in [&store, &second] {
            let e = store.commit_in(&tx, &batch()).await.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidInput, "{e}");
            says_what_to_do(&e);
        }
        tx.batch_execute("SELECT 1").await.unwrap();
    }
    // Two stores in one database may share a transaction.
    let mut client = base.connect().await;
    let tx = client.transaction().await.unwrap();
    store.commit_in(&tx, &put(limit("a", 1), None)).await.unwrap();
    second.commit_in(&tx, &put(limit("b", 1), None)).await.unwrap();
    tx.commit().await.unwrap();
    assert!(number(&store, "a").await.unwrap().is_some() && number(&second, "b").await.unwrap().is_some());
    assert!(number(&store, "b").await.unwrap().is_none() && number(&second, "a").await.unwrap().is_none());

    let tx = client.transaction().await.unwrap();
    tx.batch_execute("SELECT 1 / 0").await.unwrap_err();
    let e = store.commit_in(&tx, &batch()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidInput, "{e:?}");
    says_what_to_do(&e);
    drop(tx);
    let tx = client.build_transaction().read_only(true).start().await.unwrap();
    let e = store.commit_in(&tx, &put(limit("c", 1), None)).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::ReadOnly, "{e:?}");
}

#[tokio::test]
async fn a_stricter_transaction_conflicts_with_what_came_between() {
    let Some(base) = Base::new() else { return };
    let store = base.store().await;
    for (n, level) in [IsolationLevel::RepeatableRead, IsolationLevel::Serializable].into_iter().enumerate() {
        let name = |what: &str| format!("{what}{n}");
        store.commit(&put(limit(&name("there"), 1), None)).await.unwrap();
        let (_, version) = number(&store, &name("there")).await.unwrap().unwrap();
        let mut client = base.connect().await;
        let tx = begin(&mut client, level).await;
        tx.batch_execute("SELECT count(*) FROM capomastro.records").await.unwrap();
        // Somebody else changes one, and makes one, after the transaction has taken its view.
        store.commit(&put(limit(&name("there"), 2), Some(version))).await.unwrap();
        store.commit(&put(limit(&name("new"), 1), None)).await.unwrap();
        let mut relies = put(limit(&name("own"), 1), None);
        relies.guards.push((limit(&name("new"), 1).key(), None));
        for (what, batch) in [
            ("a record that changed", put(limit(&name("there"), 3), Some(version))),
            ("a record that was made", put(limit(&name("new"), 3), None)),
            ("the absence of a record that was made", relies),
        ] {
            let e = store.commit_in(&tx, &batch).await.expect_err(what);
            assert_eq!(e.kind(), ErrorKind::Conflict, "{what}: {e:?}");
            says_what_to_do(&e);
        }
        // What nobody touched goes through all the same.
        let mut free = put(limit(&name("free"), 1), None);
        free.guards.push((limit(&name("absent"), 1).key(), None));
        store.commit_in(&tx, &free).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(number(&store, &name("there")).await.unwrap().unwrap().0, 2);
        assert_eq!(number(&store, &name("own")).await.unwrap(), None);
        assert_eq!(number(&store, &name("absent")).await.unwrap(), None);
        assert!(number(&store, &name("free")).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn an_order_and_its_build_are_stored_together_or_not_at_all() {
    let Some(base) = Base::new() else { return };
    base.sql("CREATE TABLE orders (receipt text NOT NULL)");
    let store = Arc::new(base.store().await);
    let probe = ScriptedProbe::new();
    probe.set("a", "r1");
    let scheduler = Scheduler::builder(Arc::clone(&store))
        .probe("scripted", Arc::new(probe))
        .launcher("fake", Arc::new(ControllableLauncher::auto_succeed()))
        .build()
        .unwrap();
    scheduler.apply(&plain_spec("a", Policy::default())).await.unwrap();
    let mut client = base.connect().await;
    for commits in [false, true] {
        let staged = scheduler.stage();
        let receipt = staged.handle().trigger("a", TriggerRequest::manual().by(somebody())).await.unwrap();
        let batch = staged.into_batch().unwrap().expect("a trigger writes");
        let tx = client.transaction().await.unwrap();
        tx.execute("INSERT INTO orders VALUES ($1)", &[&receipt.to_string()]).await.unwrap();
        store.commit_in(&tx, &batch).await.unwrap();
        assert_eq!(scheduler.receipt(receipt).await.unwrap_err().kind(), ErrorKind::NotFound);
        if commits {
            tx.commit().await.unwrap();
        } else {
            drop(tx);
        }
        let found = scheduler.receipt(receipt).await;
        assert_eq!(found.is_ok(), commits, "{found:?}");
        assert_eq!(orders(&base), u8::from(commits).to_string());
        if commits {
            within(SOON, async {
                while !matches!(scheduler.receipt(receipt).await.unwrap().state, ReceiptState::Started { .. })
                {
                    scheduler.tick().await.unwrap();
                }
            })
            .await;
        }
    }
}

fn pool(base: &Base, most: usize) -> Pool {
    let config: Config = base.url().parse().unwrap();
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    Pool::builder(Manager::from_config(config, NoTls, recycling)).max_size(most).build().unwrap()
}

#[tokio::test]
async fn connections_that_come_back_clean_leave_nothing_in_the_servers_log() {
    let Some(cluster) = Cluster::start() else { return };
    let base = Base::of(Arc::new(cluster));
    let store = within(SOON, PostgresStore::with_pool(pool(&base, 2)).open()).await.unwrap();
    for n in 0..5 {
        store.commit(&put(limit(&n.to_string(), 1), None)).await.unwrap();
        assert!(number(&store, &n.to_string()).await.unwrap().is_some());
    }
    let log = std::fs::read_to_string(base.cluster.socket_folder().join("log")).unwrap();
    assert!(log.contains("ready to accept connections"), "{log}");
    assert!(!log.contains("WARNING"), "{log}");
}

#[tokio::test]
async fn a_connection_that_comes_back_inside_a_transaction_swallows_no_commit() {
    let Some(base) = Base::new() else { return };
    base.sql(ORDERS);
    let pool = pool(&base, 1);
    // Left open, left failed, and left open by somebody who only read.
    let left = [
        format!("BEGIN; {ORDER}"),
        "BEGIN; SAVEPOINT a".into(),
        "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY; SELECT 1".into(),
    ];
    let leave = async |n: usize| {
        let client = pool.get().await.unwrap();
        client.batch_execute(&left[n]).await.unwrap();
        if n == 1 {
            client.batch_execute("SELECT 1 / 0").await.unwrap_err();
        }
    };
    leave(1).await;
    let store = within(SOON, PostgresStore::with_pool(pool.clone()).open()).await.unwrap();
    let look = base.store().await;
    for (n, left) in left.iter().enumerate() {
        let name = n.to_string();
        leave(n).await;
        store.commit(&put(limit(&name, 1), None)).await.unwrap();
        assert!(number(&look, &name).await.unwrap().is_some(), "{left}");
        leave(n).await;
        store.commit(&due(Task::Sweep, Lane::House, Duration::ZERO)).await.unwrap();
        leave(n).await;
        let lanes = vec![LaneAsk { lane: Lane::House, limit: 1, lease: Duration::from_secs(60) }];
        let ask = ClaimAsk { lanes, holder: holder("test") };
        assert_eq!(store.claim_due(&ask).await.unwrap().claims.len(), 1, "{left}");
        assert_eq!(look.claim_due(&ask).await.unwrap().claims.len(), 0, "the claim is seen by others");
        leave(n).await;
        store.check().await.unwrap();
        let mut done = batch();
        done.due.push(DueChange::Drop { task: Task::Sweep });
        store.commit(&done).await.unwrap();
    }
    assert_eq!(orders(&base), "0", "what was left open is not stored by somebody else's commit");
}

#[tokio::test]
async fn a_pool_is_shared_with_other_work_and_stays_the_embedders() {
    let Some(base) = Base::new() else { return };
    base.sql(ORDERS);
    let pool = pool(&base, 3);
    let store = Arc::new(within(SOON, PostgresStore::with_pool(pool.clone()).open()).await.unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..6 {
        let (store, pool) = (Arc::clone(&store), pool.clone());
        tasks.spawn(async move {
            for n in 0..20 {
                let mut client = pool.get().await.unwrap();
                let tx = client.transaction().await.unwrap();
                tx.batch_execute(ORDER).await.unwrap();
                store.commit_in(&tx, &put(limit(&format!("in-{worker}-{n}"), n), None)).await.unwrap();
                tx.commit().await.unwrap();
                drop(client);
                store.commit(&put(limit(&format!("by-{worker}-{n}"), n), None)).await.unwrap();
            }
        });
    }
    within(SOON, async { while tasks.join_next().await.is_some_and(|t| t.is_ok()) {} }).await;
    assert!(tasks.is_empty());
    assert_eq!(orders(&base), "120");
    assert_eq!(base.sql("SELECT count(*) FROM capomastro.records"), "240");
    store.close();
    pool.get().await.unwrap().batch_execute(ORDER).await.unwrap();
}
