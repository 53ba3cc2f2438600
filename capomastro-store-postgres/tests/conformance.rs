//! What every state store must do, in a real database.

use capomastro_core::{async_trait, store::StateStore};
use capomastro_store_postgres::PostgresStore;
use capomastro_testkit::{conformance::state_store::StoreHarness, fakes::ManualClock};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

#[derive(Debug)]
struct Schemas {
    clock: ManualClock,
    stores: AtomicU32,
    prefix: String,
}

impl Schemas {
    fn new() -> Self {
        let prefix =
            uuid::Uuid::from_u128(capomastro_core::time::Random::bits(&capomastro_core::time::SystemRandom))
                .simple()
                .to_string();
        Self {
            clock: ManualClock::default(),
            stores: AtomicU32::new(0),
            prefix: format!("t{}", &prefix[..16]),
        }
    }

    async fn open(&self, number: u32) -> Arc<dyn StateStore> {
        let url = std::env::var("PGURL").expect("a url");
        let store = PostgresStore::builder(url)
            .schema(format!("{}_{number}", self.prefix))
            .clock(Arc::new(self.clock.clone()))
            .hints(false)
            .connections(4)
            .open()
            .await;
        Arc::new(store.expect("a store"))
    }
}

#[async_trait]
impl StoreHarness for Schemas {
    fn clock(&self) -> ManualClock {
        self.clock.clone()
    }

    async fn fresh(&self) -> Arc<dyn StateStore> {
        self.open(self.stores.fetch_add(1, Ordering::Relaxed)).await
    }

    async fn reopen(&self, store: Arc<dyn StateStore>) -> Arc<dyn StateStore> {
        let said = store.check().await.expect("a store that works").description;
        drop(store);
        let number = said.rsplit('_').next().expect("a number").parse().expect("a number");
        self.open(number).await
    }
}

capomastro_testkit::state_store_conformance!(postgres, Schemas::new());
