//! Where a world's store is kept, and how schedulers hold what is in it: a PostgreSQL database, on a line of each one's own.

use crate::told::Told;
use capomastro_core::{
    Retry,
    scheduler::SchedulerBuilder,
    time::{Clock as _, SystemClock},
};
use capomastro_store_postgres::PostgresStore;
use capomastro_tests::postgres::{is_installed, shared};
use std::{path::Path, sync::Arc, time::Duration};
use tokio_postgres::NoTls;

pub(crate) type Store = Told;

/// Events are numbered by their transactions.
pub(crate) const HAS_NO_HOLES: bool = false;

/// For how long builds are held, in ms.
pub(crate) const DRIVE_LEASE: u64 = 1_500;
/// For how long looks are held, in ms: the shortest that is allowed.
pub(crate) const LOOK_LEASE: u64 = 12_000;
/// How long a call of a scheduler may take, so that a claim outlives it.
const DEADLINE: Duration = Duration::from_millis(700);
/// How long a database may be away while a scheduler starts.
const AWAY: Duration = Duration::from_secs(60);

/// Whether there can be a world here.
pub(crate) fn is_there() -> bool {
    is_installed()
}

/// Says where the database is: for the process of this name, or for all others.
pub(crate) fn lead(root: &Path, name: Option<&str>, url: &str) {
    let file = name.map_or_else(|| "url".to_owned(), |n| format!("url-{n}"));
    std::fs::write(root.join(file), url).unwrap();
}

/// Makes room for a store, unless it is there.
pub(crate) fn prepare(root: &Path) {
    if !root.join("url").exists() {
        lead(root, None, &shared().unwrap().create_database());
    }
}

fn url(root: &Path, name: &str) -> String {
    let own = std::fs::read_to_string(root.join(format!("url-{name}")));
    own.unwrap_or_else(|_| std::fs::read_to_string(root.join("url")).unwrap())
}

/// The store, for the scheduler of this name; waits for a database that is away.
pub(crate) async fn open(root: &Path, name: &str) -> Arc<Store> {
    let until = SystemClock.monotonic().plus(AWAY);
    let url = url(root, name);
    let store = loop {
        let mut builder = PostgresStore::builder(url.as_str()).connections(4);
        if name != "asking" {
            builder = builder.deadline(DEADLINE);
        }
        match builder.open().await {
            Ok(store) => break store,
            Err(e) => {
                let waits = e.retry() == Retry::Backoff && SystemClock.monotonic() < until;
                assert!(waits, "{name}: {}", e.report());
                SystemClock.sleep(Duration::from_millis(50)).await;
            }
        }
    };
    Arc::new(Told { store, name: name.to_owned(), file: root.join("told") })
}

/// Short leases, so that takeovers are quick.
pub(crate) fn leases(_root: &Path, builder: SchedulerBuilder) -> SchedulerBuilder {
    builder
        .drive_lease(Duration::from_millis(DRIVE_LEASE))
        .request_timeout(Duration::from_millis(500))
        .look_lease(Duration::from_millis(LOOK_LEASE))
        .idle(Duration::from_millis(200))
        .at_once(4)
}

/// What must give no row.
const SOUND: [&str; 4] = [
    // Each record stands in its lists, and nothing else does.
    "SELECT list, sort, key FROM capomastro.lists \
     EXCEPT SELECT p ->> 0, p ->> 1, key FROM capomastro.records, json_array_elements(places::json) p",
    "SELECT p ->> 0, p ->> 1, key FROM capomastro.records, json_array_elements(places::json) p \
     EXCEPT SELECT list, sort, key FROM capomastro.lists",
    // No version or ticket will be given out again.
    "SELECT last_value FROM capomastro.counter WHERE last_value < greatest( \
       (SELECT max(version) FROM capomastro.records), (SELECT max(ticket) FROM capomastro.due))",
    // Builds that have ended are driven by nobody.
    "SELECT task FROM capomastro.due WHERE task LIKE 'drive/%' OR task LIKE 'judge/%'",
];

/// The database is sound.
pub(crate) async fn check(root: &Path) {
    let (client, connection) = tokio_postgres::connect(&url(root, "asking"), NoTls).await.unwrap();
    drop(tokio::spawn(connection));
    for sql in SOUND {
        let rows = client.query(sql, &[]).await.unwrap();
        assert!(rows.is_empty(), "{sql}: {rows:#?}");
    }
}

/// Lets go of the store.
pub(crate) async fn close(store: &Store) {
    store.store.close();
}
