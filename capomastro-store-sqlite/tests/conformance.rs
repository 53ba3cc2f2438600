//! What every state store must do, on a file.

use capomastro_core::{async_trait, store::StateStore};
use capomastro_store_sqlite::SqliteStore;
use capomastro_testkit::{conformance::state_store::StoreHarness, fakes::ManualClock};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};
use tempfile::TempDir;

#[derive(Debug)]
struct Files {
    clock: ManualClock,
    folder: TempDir,
    stores: AtomicU32,
}

impl Files {
    fn new() -> Self {
        Self {
            clock: ManualClock::default(),
            folder: tempfile::tempdir().expect("a folder for the test"),
            stores: AtomicU32::new(0),
        }
    }

    fn path(&self, number: u32) -> PathBuf {
        self.folder.path().join(format!("{number}.db"))
    }

    fn open(&self, number: u32) -> Arc<dyn StateStore> {
        let store = SqliteStore::builder(self.path(number)).clock(Arc::new(self.clock.clone())).open();
        Arc::new(store.expect("a store"))
    }
}

#[async_trait]
impl StoreHarness for Files {
    fn clock(&self) -> ManualClock {
        self.clock.clone()
    }

    async fn fresh(&self) -> Arc<dyn StateStore> {
        self.open(self.stores.fetch_add(1, Ordering::Relaxed))
    }

    async fn reopen(&self, store: Arc<dyn StateStore>) -> Arc<dyn StateStore> {
        let said = store.check().await.expect("a store that works").description;
        drop(store);
        let stores = 0..self.stores.load(Ordering::Relaxed);
        let number = stores
            .into_iter()
            .find(|n| said.ends_with(&self.path(*n).display().to_string()))
            .expect("a store of this harness");
        self.open(number)
    }
}

capomastro_testkit::state_store_conformance!(sqlite, Files::new());
