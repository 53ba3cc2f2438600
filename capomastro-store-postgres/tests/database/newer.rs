//! What a newer version of the library wrote is left alone.

use crate::samples::{Base, batch, holder, limit, limit_key, project, put, says_what_to_do};
use capomastro_core::{
    ErrorKind,
    store::{ClaimAsk, DueChange, Key, Lane, LaneAsk, ListKey, Put, Query, StateStore, Task},
};
use std::time::Duration;

#[tokio::test]
async fn a_newer_record_is_neither_read_nor_written_nor_deleted() {
    let Some(base) = Base::new() else { return };
    let store = base.store().await;
    let named = project("p");
    let key = named.key();
    store.commit(&put(named.clone(), None)).await.unwrap();
    let version = store.get(std::slice::from_ref(&key)).await.unwrap().records[0].as_ref().unwrap().version;
    base.sql("UPDATE capomastro.records SET format = 2");

    let mut delete = batch();
    delete.deletes.push((key.clone(), version));
    let mut both = put(limit("a", 1), None);
    both.puts.push(Put { record: named.clone(), expect: Some(version) });
    let list = Query::List { list: ListKey::projects(), backwards: false };
    let unique = Query::Unique(named.unique().unwrap());
    for e in [
        store.get(std::slice::from_ref(&key)).await.unwrap_err(),
        store.list(&list, None, 1).await.unwrap_err(),
        store.list(&unique, None, 1).await.unwrap_err(),
        store.commit(&put(named.clone(), Some(version))).await.unwrap_err(),
        store.commit(&put(named, Some(version + 1))).await.unwrap_err(),
        store.commit(&delete).await.unwrap_err(),
        store.commit(&both).await.unwrap_err(),
    ] {
        assert_eq!(e.kind(), ErrorKind::NewerFormat, "{e}");
        assert!(e.to_string().contains(&key.to_string()), "{e}");
        says_what_to_do(&e);
    }
    assert_eq!(store.get(&[limit_key("a")]).await.unwrap().records, [None], "all or nothing");
}

#[tokio::test]
async fn a_newer_due_row_is_neither_taken_nor_changed() {
    let Some(base) = Base::new() else { return };
    let store = base.store().await;
    let set = || DueChange::Set { task: Task::Sweep, lane: Lane::House, after: Duration::ZERO, note: None };
    let change = |due: DueChange| {
        let mut batch = batch();
        batch.due.push(due);
        batch
    };
    store.commit(&change(set())).await.unwrap();
    base.sql("UPDATE capomastro.due SET format = 2");
    let ask = ClaimAsk {
        lanes: vec![LaneAsk { lane: Lane::House, limit: 10, lease: Duration::from_secs(1) }],
        holder: holder("a"),
    };
    let claimed = store.claim_due(&ask).await.unwrap();
    assert_eq!((claimed.claims.len(), claimed.next_due), (0, None));
    for due in [
        set(),
        DueChange::Nudge { task: Task::Sweep, after: Duration::ZERO },
        DueChange::Done { task: Task::Sweep },
        DueChange::Drop { task: Task::Sweep },
    ] {
        let e = store.commit(&change(due)).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NewerFormat, "{e}");
        says_what_to_do(&e);
    }
    let e = store.get(&[Key::Due(Task::Sweep)]).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NewerFormat, "{e}");
}
