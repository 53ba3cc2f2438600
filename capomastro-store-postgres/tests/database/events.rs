//! The order of events under many writers: nothing appears behind a place that was returned.

use crate::samples::{Base, SOON, batch, events, eventually, limit, number, open, put, timed, within};
use capomastro_core::{
    events::{Event, EventKind},
    model::ProjectId,
    store::{Batch, EventFilter, StateStore},
};
use capomastro_store_postgres::PostgresStore;
use capomastro_tests::postgres::Cluster;
use std::{sync::Arc, time::Duration};

fn about() -> ProjectId {
    ProjectId::from_uuid(uuid::Uuid::nil())
}

fn telling(name: &str, count: usize) -> Batch {
    let mut batch = batch();
    let name = name.to_owned();
    batch.events = vec![Event::of_project(about(), EventKind::Defined { name }); count];
    batch
}

fn name(kind: &EventKind) -> String {
    match kind {
        EventKind::Defined { name } => name.clone(),
        other => panic!("{other:?}"),
    }
}

/// Whoever reads on from the place where it stopped.
#[derive(Default)]
struct Follower {
    at: u64,
    seen: Vec<String>,
}

impl Follower {
    async fn read(&mut self, store: &PostgresStore) {
        let page = store.events(EventFilter::All, self.at, 7).await.unwrap();
        assert!(page.upto >= self.at, "a place never goes back");
        assert!(page.items.iter().all(|e| e.seq > self.at && e.seq <= page.upto));
        self.at = page.upto;
        self.seen.extend(page.items.iter().map(|e| name(&e.event.kind)));
    }

    async fn read_all(&mut self, store: &PostgresStore, count: usize) {
        eventually(SOON, async || {
            self.read(store).await;
            self.seen.len() >= count
        })
        .await;
    }
}

/// A cluster of its own: transactions of other tests would hold events back.
fn alone() -> Option<Base> {
    Cluster::start().map(|cluster| Base::of(Arc::new(cluster)))
}

#[tokio::test]
async fn no_event_appears_behind_a_place_while_a_long_transaction_writes() {
    let Some(base) = alone() else { return };
    let store = base.store().await;
    let mut follower = Follower::default();
    store.commit(&telling("first", 1)).await.unwrap();
    follower.read_all(&store, 1).await;

    let (mut early, mut late) = (base.connect().await, base.connect().await);
    let early = early.transaction().await.unwrap();
    store.commit_in(&early, &telling("early", 2)).await.unwrap();
    for n in 0..3 {
        store.commit(&telling(&format!("short{n}"), 2)).await.unwrap();
    }
    let late = late.transaction().await.unwrap();
    store.commit_in(&late, &telling("late", 2)).await.unwrap();
    store.commit(&telling("last", 2)).await.unwrap();

    // They are held back, since one that is still open comes before them; and reading answers all the same.
    let (page, took) = timed(store.events(EventFilter::All, follower.at, 100)).await;
    let page = page.unwrap();
    assert!(page.items.is_empty(), "{page:?}");
    assert!(took >= Duration::from_millis(250), "it waits a little for them: {took:?}");
    assert!(took < Duration::from_secs(2), "and not for long: {took:?}");
    follower.read(&store).await;
    assert_eq!(follower.seen, ["first"]);

    early.commit().await.unwrap();
    follower.read_all(&store, 1 + 2 + 6).await;
    follower.read(&store).await;
    assert_eq!(follower.seen[1..3], ["early", "early"]);
    assert_eq!(follower.seen.len(), 9, "what came after the other open one is still held back");
    late.rollback().await.unwrap();
    follower.read_all(&store, 9 + 2).await;
    assert_eq!(follower.seen[9..], ["last", "last"]);
    assert_eq!(events(&store, 11).await.len(), 11, "none was passed over");
}

#[tokio::test]
async fn a_long_transaction_that_only_reads_holds_nothing_back() {
    let Some(base) = alone() else { return };
    let store = base.store().await;
    let mut reader = base.connect().await;
    let reader = reader.build_transaction().read_only(true).start().await.unwrap();
    reader.batch_execute("SELECT count(*) FROM capomastro.events").await.unwrap();
    store.commit(&telling("a", 1)).await.unwrap();
    let (page, took) = timed(store.events(EventFilter::All, 0, 100)).await;
    assert_eq!(page.unwrap().items.len(), 1);
    assert!(took < Duration::from_millis(250), "{took:?}");
    reader.commit().await.unwrap();
}

#[tokio::test]
async fn what_was_answered_is_seen_by_who_asks_next() {
    let Some(base) = alone() else { return };
    let store = base.store().await;
    let mut seen = 0;
    for n in 0..50 {
        store.commit(&telling(&n.to_string(), 1)).await.unwrap();
        let page = store.events(EventFilter::All, seen, 100).await.unwrap();
        assert_eq!(page.items.len(), 1, "{n}");
        seen = page.upto;
    }
}

#[tokio::test]
async fn no_event_appears_behind_a_place_under_many_writers() {
    const WRITERS: usize = 8;
    const EACH: usize = 60;
    let Some(base) = alone() else { return };
    let stores = [Arc::new(base.store().await), Arc::new(base.store().await)];
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&stores[writer % 2]);
        let mut client = base.connect().await;
        tasks.spawn(async move {
            for n in 0..EACH {
                let batch = telling(&format!("{writer}.{n}"), 1 + n % 3);
                if n % 4 == 0 {
                    // A transaction that takes longer than the others, and one that ends in nothing.
                    let tx = client.transaction().await.unwrap();
                    store.commit_in(&tx, &batch).await.unwrap();
                    tx.batch_execute("SELECT pg_sleep(0.005)").await.unwrap();
                    tx.commit().await.unwrap();
                    let tx = client.transaction().await.unwrap();
                    store.commit_in(&tx, &telling("never", 1)).await.unwrap();
                    tx.rollback().await.unwrap();
                } else {
                    store.commit(&batch).await.unwrap();
                }
            }
        });
    }
    let total: usize = WRITERS * (0..EACH).map(|n| 1 + n % 3).sum::<usize>();
    let mut follower = Follower::default();
    within(SOON * 2, async {
        while follower.seen.len() < total {
            follower.read(&stores[0]).await;
        }
    })
    .await;
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    assert_eq!(follower.seen.len(), total);
    for writer in 0..WRITERS {
        let of_writer = |s: &&String| s.split_once('.').unwrap().0 == writer.to_string();
        let order: Vec<usize> = follower
            .seen
            .iter()
            .filter(of_writer)
            .map(|s| s.split_once('.').unwrap().1.parse().unwrap())
            .collect();
        assert!(order.is_sorted(), "{order:?}");
    }
}

/// The rows of a table, as `INSERT` takes them.
const TABLES: [&str; 6] = ["meta", "records", "lists", "due", "events", "commits"];

#[tokio::test]
async fn numbers_go_on_after_a_restore_into_a_server_of_fewer_transactions() {
    let Some(old) = alone() else { return };
    let store = old.store().await;
    // So many transactions that the new server is far behind.
    old.sql("DO $$ BEGIN FOR i IN 1..5000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$");
    store.commit(&put(limit("a", 1), None)).await.unwrap();
    for n in 0..5 {
        store.commit(&telling(&format!("old{n}"), 2)).await.unwrap();
    }
    let mut follower = Follower::default();
    follower.read_all(&store, 10).await;
    let counter = old.sql("SELECT last_value FROM capomastro.counter");

    let new = alone().unwrap();
    drop(new.store().await);
    for table in TABLES {
        let rows = old.sql(&format!("SELECT coalesce(json_agg(t), '[]') FROM capomastro.{table} t"));
        new.sql(&format!(
            "TRUNCATE capomastro.{table}; INSERT INTO capomastro.{table} \
             SELECT * FROM json_populate_recordset(NULL::capomastro.{table}, $rows${rows}$rows$)"
        ));
    }
    new.sql(&format!("SELECT setval('capomastro.counter', {counter})"));
    let xid = |base: &Base| base.sql("SELECT pg_current_xact_id()").parse::<u64>().unwrap();
    assert!(xid(&new) + 1_000 < xid(&old), "the new server is behind");

    // Two that open it at once raise the base once, and well.
    let (url, other) = (new.url(), new.url());
    let (store, second) = tokio::join!(open(&url), open(&other));
    assert_eq!(number(&store, "a").await.unwrap().unwrap().0, 1);
    let page = store.events(EventFilter::All, follower.at, 10).await.unwrap();
    assert_eq!((page.items.len(), page.upto), (0, follower.at), "the place is still good");
    assert_eq!(events(&store, 10).await.len(), 10);
    for n in 0..3 {
        store.commit(&telling(&format!("new{n}"), 1)).await.unwrap();
        second.commit(&telling(&format!("new{n}"), 1)).await.unwrap();
    }
    follower.read_all(&store, 16).await;
    assert_eq!(follower.seen[10..], ["new0", "new0", "new1", "new1", "new2", "new2"]);
    let again = new.store().await;
    assert_eq!(events(&again, 16).await.len(), 16);
}
