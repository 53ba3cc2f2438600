//! Work that is due before all that claims have found is found all the same.

use crate::samples::{Base, SOON, due, holder, within};
use capomastro_core::{
    model::DependencyId,
    store::{ClaimAsk, Lane, LaneAsk, StateStore, Task},
};
use capomastro_store_postgres::PostgresStore;
use capomastro_testkit::ManualClock;
use std::{sync::Arc, time::Duration};

#[tokio::test]
async fn what_a_long_transaction_wrote_is_claimed_soon_after_its_end() {
    let Some(base) = Base::new() else { return };
    let clock = ManualClock::new();
    let opened = PostgresStore::builder(base.url()).clock(Arc::new(clock.clone())).hints(false).open();
    let store = within(SOON, opened).await.unwrap();
    let task = |n| Task::Look(DependencyId::from_uuid(uuid::Uuid::from_u128(n)));
    let lease = Duration::from_secs(3_600);
    let lanes = vec![LaneAsk { lane: Lane::House, limit: 5, lease }];
    let ask = ClaimAsk { lanes, holder: holder("test") };
    let claimed = async || {
        let claimed = store.claim_due(&ask).await.unwrap().claims;
        claimed.iter().map(|c| c.task).collect::<Vec<_>>()
    };
    let mut embedder = base.connect().await;
    let tx = embedder.transaction().await.unwrap();
    store.commit_in(&tx, &due(task(1), Lane::House, Duration::ZERO)).await.unwrap();
    for n in 2..12 {
        clock.advance(Duration::from_secs(60));
        store.commit(&due(task(n), Lane::House, Duration::ZERO)).await.unwrap();
        assert_eq!(claimed().await, [task(n)]);
    }
    tx.commit().await.unwrap();
    clock.advance(Duration::from_secs(30));
    assert_eq!(claimed().await, [task(1)]);
}
