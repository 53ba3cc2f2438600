//! Calls whose commit joins a transaction of the embedder's own.
#![allow(clippy::unwrap_used, reason = "tests")]

use capomastro_core::{
    ErrorKind, Scheduler,
    model::{Policy, ReceiptState},
    scheduler::TriggerRequest,
    store::StateStore,
};
use capomastro_store_sqlite::{SqliteStore, rusqlite};
use capomastro_testkit::{ControllableLauncher, ManualClock, ScriptedProbe};
use capomastro_tests::{Stage, plain_spec, revision, somebody};
use std::sync::Arc;

fn by_hand() -> TriggerRequest {
    TriggerRequest::manual().by(somebody())
}

async fn built_once() -> Stage {
    let stage = Stage::new(ControllableLauncher::auto_succeed());
    stage.begin("a", Policy::default()).await;
    stage.pass(20).await;
    assert_eq!(stage.built("a"), ["r1"]);
    stage
}

#[tokio::test]
async fn a_trigger_that_is_staged_is_stored_with_the_batch_and_not_before() {
    let stage = built_once().await;
    for (pinned, count) in [(None, 2), (Some("r7"), 3)] {
        let staged = stage.scheduler.stage();
        let mut request = by_hand();
        if let Some(pinned) = pinned {
            request = request.at(revision(pinned));
        }
        let receipt = staged.handle().trigger("a", request).await.unwrap();
        let batch = staged.into_batch().unwrap().expect("a trigger writes");
        stage.pass(5).await;
        assert_eq!(stage.built("a").len(), count - 1, "nothing happens before it is written");
        assert_eq!(stage.scheduler.receipt(receipt).await.unwrap_err().kind(), ErrorKind::NotFound);

        assert!(!stage.store.commit(&batch).await.unwrap().repeated);
        assert!(stage.store.commit(&batch).await.unwrap().repeated, "repeating it is harmless");
        stage.pass(30).await;
        assert_eq!(stage.built("a").len(), count);
        let state = stage.scheduler.receipt(receipt).await.unwrap().state;
        assert!(matches!(state, ReceiptState::Started { .. }), "{state:?}");
    }
}

#[tokio::test]
async fn what_was_staged_conflicts_with_what_came_between() {
    let stage = built_once().await;
    let staged = stage.scheduler.stage();
    staged.handle().trigger("a", by_hand()).await.unwrap();
    let batch = staged.into_batch().unwrap().unwrap();
    stage.scheduler.pause("a", &somebody(), "a rest").await.unwrap();
    assert_eq!(stage.store.commit(&batch).await.unwrap_err().kind(), ErrorKind::Conflict);
    let e = stage.scheduler.stage().handle().trigger("a", by_hand()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Paused, "anew it is decided anew");
}

#[tokio::test]
async fn one_call_is_staged_and_no_work() {
    let stage = built_once().await;
    let staged = stage.scheduler.stage();
    staged.handle().status("a").await.unwrap();
    let same = plain_spec("a", Policy::default());
    staged.handle().ensure_project("one").await.unwrap();
    let e = staged.handle().ensure_project("two").await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.message().contains(": "), "says what to do: {e}");
    assert_eq!(staged.into_batch().unwrap_err().kind(), ErrorKind::Unsupported, "a part is not enough");

    let staged = stage.scheduler.stage();
    staged.handle().ensure(&same).await.unwrap();
    assert!(staged.into_batch().unwrap().is_none(), "it is there already");
    let staged = stage.scheduler.stage();
    assert_eq!(staged.handle().tick().await.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn an_order_and_its_build_are_stored_together_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("both.db");
    let clock = ManualClock::new();
    let store = Arc::new(SqliteStore::builder(&path).clock(Arc::new(clock.clone())).open().unwrap());
    let probe = ScriptedProbe::new();
    probe.set("a", "r1");
    let scheduler = Scheduler::builder(Arc::clone(&store))
        .clock(Arc::new(clock.clone()))
        .probe("scripted", Arc::new(probe))
        .launcher("fake", Arc::new(ControllableLauncher::auto_succeed()))
        .build()
        .unwrap();
    let mut own = rusqlite::Connection::open(&path).unwrap();
    own.execute_batch("CREATE TABLE orders (dependency TEXT NOT NULL)").unwrap();
    for commits in [false, true] {
        let staged = scheduler.stage();
        staged.handle().apply(&plain_spec("a", Policy::default())).await.unwrap();
        let batch = staged.into_batch().unwrap().unwrap();
        let tx = own.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
        tx.execute("INSERT INTO orders VALUES ('a')", []).unwrap();
        store.commit_in(&tx, &batch).unwrap();
        if commits {
            tx.commit().unwrap();
        } else {
            drop(tx);
        }
        assert_eq!(scheduler.status("a").await.is_ok(), commits);
        let orders: i64 = own.query_row("SELECT count(*) FROM orders", [], |r| r.get(0)).unwrap();
        assert_eq!(orders, i64::from(commits));
    }
}
