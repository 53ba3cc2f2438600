//! Databases and stores for the tests.

use capomastro_core::{
    Error,
    events::StoredEvent,
    store::{EventFilter, StateStore},
};
use capomastro_store_postgres::{PostgresStore, tokio_postgres::Client};
use capomastro_tests::postgres::{Cluster, shared};
pub(crate) use capomastro_tests::samples::{
    batch, due, holder, limit, limit_key, number, project, put, says_what_to_do,
};
pub(crate) use capomastro_tests::{eventually, timed, within};
use std::{sync::Arc, time::Duration};

/// Longer than anything here takes on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A database of a test's own, in the cluster of all tests.
pub(crate) struct Base {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) name: String,
}

impl Base {
    /// Nothing if PostgreSQL is not installed.
    pub(crate) fn new() -> Option<Self> {
        shared().map(Self::of)
    }

    pub(crate) fn of(cluster: Arc<Cluster>) -> Self {
        let name = cluster.new_database();
        Self { cluster, name }
    }

    pub(crate) fn url(&self) -> String {
        self.cluster.url(&self.name)
    }

    /// A connection past the store.
    pub(crate) async fn connect(&self) -> Client {
        self.cluster.connect(&self.name).await
    }

    /// Statements past the store.
    pub(crate) fn sql(&self, statements: &str) -> String {
        self.cluster.sql(&self.name, statements)
    }

    pub(crate) async fn store(&self) -> PostgresStore {
        open(&self.url()).await
    }
}

/// A store without hints.
pub(crate) async fn open(url: &str) -> PostgresStore {
    within(SOON, PostgresStore::builder(url).hints(false).open()).await.expect("a store")
}

/// All events from a place on; waits until there are so many, as those of transactions that others hold open hold them back.
pub(crate) async fn events(store: &dyn StateStore, count: usize) -> Vec<StoredEvent> {
    let mut found = Vec::new();
    eventually(SOON, async || {
        found = store.events(EventFilter::All, 0, 1_000).await.expect("the store answers").items;
        found.len() >= count
    })
    .await;
    found
}

/// The name of the schema's part that an error is about, or whatever else it says of this kind.
pub(crate) fn context<'a>(e: &'a Error, name: &str) -> Option<&'a str> {
    e.context().find(|(n, _)| *n == name).map(|(_, value)| value)
}
