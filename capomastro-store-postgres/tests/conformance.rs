//! What every state store must do, in a real database: on a direct line, and through a pooler in transaction mode.

use capomastro_core::{async_trait, store::StateStore};
use capomastro_store_postgres::PostgresStore;
use capomastro_testkit::{conformance::state_store::StoreHarness, fakes::ManualClock};
use capomastro_tests::postgres::{Bouncer, shared};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU32, Ordering},
};

/// Stores in schemas of one database.
#[derive(Debug)]
struct Schemas {
    clock: ManualClock,
    stores: AtomicU32,
    url: String,
    behind_pooler: bool,
}

impl Schemas {
    fn direct() -> Self {
        let url = shared().expect("the condition was asked").create_database();
        Self { clock: ManualClock::default(), stores: AtomicU32::new(0), url, behind_pooler: false }
    }

    fn pooled() -> Self {
        let database = shared().expect("the condition was asked").new_database();
        let url = bouncer().expect("the condition was asked").url(&database);
        Self { clock: ManualClock::default(), stores: AtomicU32::new(0), url, behind_pooler: true }
    }

    async fn open(&self, number: u32) -> Arc<dyn StateStore> {
        let store = PostgresStore::builder(self.url.as_str())
            .schema(format!("store_{number}"))
            .clock(Arc::new(self.clock.clone()))
            .behind_pooler(self.behind_pooler)
            .hints(false)
            .open()
            .await;
        Arc::new(store.expect("a store"))
    }
}

/// One pooler for all tests, with fewer connections to the server than a store has to it.
fn bouncer() -> Option<&'static Bouncer> {
    static BOUNCER: OnceLock<Option<Bouncer>> = OnceLock::new();
    BOUNCER.get_or_init(|| Bouncer::before(&*shared()?, 3)).as_ref()
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
        let (_, number) = said.rsplit_once('_').expect("the schema is told");
        self.open(number.parse().expect("the number of the schema")).await
    }
}

capomastro_testkit::state_store_conformance!(direct, Schemas::direct(), if shared().is_some());
capomastro_testkit::state_store_conformance!(pooled, Schemas::pooled(), if bouncer().is_some());
