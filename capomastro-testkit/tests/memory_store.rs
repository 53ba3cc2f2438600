//! The store in memory is what a state store must be.

use capomastro_core::{
    async_trait,
    events::{Event, EventKind},
    memory::InMemoryStore,
    model::{CommitId, DependencyId, DependencyState},
    store::{Batch, Put, Record, StateStore},
    time::Clock,
};
use capomastro_testkit::{conformance::state_store::StoreHarness, fakes::ManualClock};
use std::sync::Arc;
use uuid::Uuid;

#[derive(Debug, Default)]
struct Memory {
    clock: ManualClock,
}

#[async_trait]
impl StoreHarness for Memory {
    fn clock(&self) -> ManualClock {
        self.clock.clone()
    }

    async fn fresh(&self) -> Arc<dyn StateStore> {
        Arc::new(InMemoryStore::new(Arc::new(self.clock())))
    }

    async fn reopen(&self, store: Arc<dyn StateStore>) -> Arc<dyn StateStore> {
        store
    }
}

capomastro_testkit::state_store_conformance!(contract, Memory::default());

fn batch(n: u128) -> Batch {
    let id = DependencyId::from_uuid(Uuid::from_u128(n));
    let mut batch = Batch::new(CommitId::from_uuid(Uuid::from_u128(n)), "test".parse().expect("a name"));
    batch.puts = vec![Put { record: Record::State(DependencyState::new(id)), expect: None }];
    batch.events = vec![Event::of_dependency(id, EventKind::Deleted)];
    batch
}

#[tokio::test]
async fn a_clone_is_the_same_store_and_a_fork_is_not() {
    let clock = ManualClock::default();
    let store = InMemoryStore::new(Arc::new(clock.clone()));
    store.commit(&batch(1)).await.unwrap();
    let (clone, fork) = (store.clone(), store.fork());
    assert_eq!(store.dump(), fork.dump());

    clone.commit(&batch(2)).await.unwrap();
    assert_eq!(store.dump(), clone.dump());
    assert_eq!(store.records().len(), 2);
    assert_eq!(fork.records().len(), 1);
    // The same history, the same store.
    fork.commit(&batch(2)).await.unwrap();
    assert_eq!(store.dump(), fork.dump());
    clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(fork.check().await.unwrap().now, clock.now());
}

#[tokio::test]
async fn its_debug_form_is_short() {
    let store = InMemoryStore::new(Arc::new(ManualClock::default()));
    store.commit(&batch(1)).await.unwrap();
    assert_eq!(format!("{store:?}"), "InMemoryStore { records: 1, due: 0, events: 1, .. }");
}
