//! Where a world's store is kept, and how schedulers hold what is in it: a SQLite file.

use crate::ahead::Ahead;
use capomastro_core::scheduler::SchedulerBuilder;
use capomastro_store_sqlite::{SqliteStore, rusqlite::Connection};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub(crate) type Store = SqliteStore;

/// Events are numbered without a hole.
pub(crate) const HAS_NO_HOLES: bool = true;

/// Whether there can be a world here.
pub(crate) fn is_there() -> bool {
    true
}

/// The file of a world's store, in a folder that may be a disk of its own.
pub(crate) fn database(root: &Path) -> PathBuf {
    root.join("store/capomastro.sqlite3")
}

/// Makes room for a store, unless it is there.
pub(crate) fn prepare(root: &Path) {
    std::fs::create_dir_all(root.join("store")).unwrap();
}

/// The store, for the scheduler of this name.
pub(crate) async fn open(root: &Path, _name: &str) -> Arc<Store> {
    let store = SqliteStore::builder(database(root)).clock(Arc::new(Ahead::of(root))).open().unwrap();
    Arc::new(store)
}

/// Short leases, so that takeovers are quick, unless the world's clock can be set forward; then they are the usual ones.
pub(crate) fn leases(root: &Path, builder: SchedulerBuilder) -> SchedulerBuilder {
    if Ahead::of(root).is_there() {
        return builder.idle(Duration::from_millis(20));
    }
    builder
        .drive_lease(Duration::from_secs(2))
        .request_timeout(Duration::from_millis(500))
        .look_lease(Duration::from_secs(12))
        .idle(Duration::from_millis(200))
        .at_once(2)
}

/// The file is sound.
pub(crate) async fn check(root: &Path) {
    let file = Connection::open(database(root)).unwrap();
    let sound: String = file.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

/// Lets go of the store.
pub(crate) async fn close(store: &Store) {
    store.close().await;
}
