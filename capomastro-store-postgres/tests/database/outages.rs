//! Servers that stop and start, and networks that end in the middle of a commit: nothing is lost, nothing is done twice, and
//! what is not known is said to be unknown.

use crate::{
    migrations::works,
    samples::{Base, SOON, eventually, limit, number, put, says_what_to_do, timed, within},
};
use capomastro_core::{
    Error, ErrorKind, Result, Retry,
    store::{Batch, Committed, StateStore},
};
use capomastro_store_postgres::PostgresStore;
use capomastro_tests::postgres::{Cluster, Proxy, Settings, Silent};
use std::{sync::Arc, time::Duration};

async fn open(url: String, deadline: Duration) -> Arc<PostgresStore> {
    let opened = PostgresStore::builder(url).deadline(deadline).connections(2).hints(false).open();
    Arc::new(within(SOON, opened).await.unwrap())
}

fn commit(store: &Arc<PostgresStore>, batch: &Batch) -> tokio::task::JoinHandle<Result<Committed>> {
    let (store, batch) = (Arc::clone(store), batch.clone());
    tokio::spawn(async move { store.commit(&batch).await })
}

fn is_unavailable(e: &Error) {
    assert_eq!((e.kind(), e.retry()), (ErrorKind::Unavailable, Retry::Backoff), "{e:?}");
    says_what_to_do(e);
}

fn is_unknown(e: &Error) {
    assert_eq!((e.kind(), e.retry()), (ErrorKind::OutcomeUnknown, Retry::SameAgain), "{e:?}");
    says_what_to_do(e);
}

/// Waits until a commit waits for a lock in the server.
async fn until_blocked(base: &Base) {
    let blocked = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0";
    eventually(SOON, async || base.sql(blocked) == "1").await;
}

const LOCK: &str = "SELECT 1 FROM capomastro.records FOR UPDATE";

#[tokio::test]
async fn an_answer_that_was_lost_is_found_out() {
    let Some(base) = Base::new() else { return };
    let proxy = Proxy::before(base.cluster.endpoint());
    let store = open(proxy.url(&base.name), Duration::from_secs(10)).await;
    for n in 0..5 {
        let name = format!("lost{n}");
        proxy.lose_answer("commit_1");
        let committed = within(SOON, store.commit(&put(limit(&name, 1), None))).await.unwrap();
        assert!(committed.repeated, "it had been written");
        let (_, version) = number(&store, &name).await.unwrap().unwrap();
        // A refusal that was lost is refused again.
        proxy.lose_answer("commit_1");
        let e = within(SOON, store.commit(&put(limit(&name, 2), None))).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Conflict, "{e:?}");
        proxy.lose_request("commit_1");
        let change = put(limit(&name, 3), Some(version));
        let committed = within(SOON, store.commit(&change)).await.unwrap();
        assert!(!committed.repeated, "it had not arrived");
        proxy.lose_answer("get_1");
        assert_eq!(within(SOON, number(&store, &name)).await.unwrap().unwrap().0, 3);
    }
    assert_eq!(proxy.cuts(), 20);
    works(&store).await.unwrap();
}

#[tokio::test]
async fn a_commit_whose_server_stays_away_is_unknown_and_repeated_later() {
    let Some(base) = Base::new() else { return };
    let proxy = Proxy::before(base.cluster.endpoint());
    let deadline = Duration::from_millis(700);
    let store = open(proxy.url(&base.name), deadline).await;
    // Written, and the answer does not come.
    let first = put(limit("a", 1), None);
    proxy.silence(Silent::Answers);
    let (answer, took) = timed(within(SOON, store.commit(&first))).await;
    is_unknown(&answer.unwrap_err());
    assert!(took < deadline * 6, "{took:?}");
    proxy.cut();
    proxy.pass();
    assert!(within(SOON, store.commit(&first)).await.unwrap().repeated);

    // On its way, when the network ends and does not come back.
    let (_, version) = number(&store, "a").await.unwrap().unwrap();
    let second = put(limit("a", 2), Some(version));
    let mut other = base.connect().await;
    let tx = other.transaction().await.unwrap();
    tx.batch_execute(LOCK).await.unwrap();
    let committing = commit(&store, &second);
    until_blocked(&base).await;
    proxy.refuse();
    is_unknown(&within(SOON, committing).await.unwrap().unwrap_err());
    // Who has nothing under way knows that nothing was written.
    is_unavailable(&within(SOON, store.commit(&put(limit("b", 1), None))).await.unwrap_err());
    is_unavailable(&within(SOON, number(&store, "a")).await.unwrap_err());
    tx.rollback().await.unwrap();
    proxy.pass();
    within(SOON, store.commit(&second)).await.unwrap();
    assert_eq!(number(&store, "a").await.unwrap().unwrap().0, 2, "once, this way or that");
}

#[tokio::test]
async fn a_server_that_stops_and_starts_is_used_again() {
    let Some(cluster) = Cluster::with(Settings::default().durable()) else { return };
    let base = Base::of(Arc::new(cluster));
    let store = open(base.url(), Duration::from_secs(20)).await;
    for (n, hard) in [false, true].into_iter().enumerate() {
        let name = format!("r{n}");
        let stop = || if hard { base.cluster.stop_immediate() } else { base.cluster.stop() };
        store.commit(&put(limit(&name, 1), None)).await.unwrap();
        stop();
        is_unavailable(&within(SOON, number(&store, &name)).await.unwrap_err());
        is_unavailable(&within(SOON, store.commit(&put(limit("never", 1), None))).await.unwrap_err());
        base.cluster.start_again();
        let (_, version) = within(SOON, number(&store, &name)).await.unwrap().expect("nothing was lost");
        assert_eq!(number(&store, "never").await.unwrap(), None);

        // In the middle of a commit: it is found out, and made if it was not.
        let mut other = base.connect().await;
        let tx = other.transaction().await.unwrap();
        tx.batch_execute(LOCK).await.unwrap();
        let committing = commit(&store, &put(limit(&name, 2), Some(version)));
        until_blocked(&base).await;
        stop();
        tokio::task::yield_now().await;
        base.cluster.start_again();
        assert!(!within(SOON, committing).await.unwrap().unwrap().repeated);
        assert_eq!(number(&store, &name).await.unwrap().unwrap().0, 2);
        drop(tx);
    }
    works(&store).await.unwrap();
}

#[tokio::test]
async fn connections_that_are_ended_are_replaced() {
    let Some(base) = Base::new() else { return };
    let store = open(base.url(), Duration::from_secs(10)).await;
    for n in 0..10 {
        base.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
        let name = n.to_string();
        within(SOON, store.commit(&put(limit(&name, 1), None))).await.unwrap();
        assert!(number(&store, &name).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn what_is_asked_after_close_is_refused() {
    let Some(base) = Base::new() else { return };
    let store = base.store().await;
    store.commit(&put(limit("a", 1), None)).await.unwrap();
    store.close();
    for e in [
        store.commit(&put(limit("b", 1), None)).await.unwrap_err(),
        number(&store, "a").await.unwrap_err(),
        store.check().await.unwrap_err(),
    ] {
        assert_eq!((e.kind(), e.retry()), (ErrorKind::Unavailable, Retry::Never), "{e:?}");
        says_what_to_do(&e);
    }
}
