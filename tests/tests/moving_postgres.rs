//! A whole installation is moved from a SQLite file into a PostgreSQL database, and back.
#![allow(clippy::unwrap_used, reason = "tests")]

use capomastro_core::{
    ErrorKind, Result,
    store::{
        ClaimAsk, EventFilter, FIRST_EVENT, LaneAsk, ListKey, Query, StateStore,
        transfer::{Afterwards, TransferReport, TransferSource, transfer},
    },
};
use capomastro_store_postgres::PostgresStore;
use capomastro_store_sqlite::SqliteStore;
use capomastro_testkit::{ManualClock, simulator::Simulation};
use capomastro_tests::{
    eventually,
    postgres::{Cluster, shared},
    samples::{limit, limit_key, put},
};
use std::{path::Path, sync::Arc, time::Duration};

/// A file with all that a history leaves behind.
fn lived_in(path: &Path) {
    let at = path.to_owned();
    let history = Simulation::new(11).over(move |clock| {
        Arc::new(SqliteStore::builder(&at).clock(Arc::new(clock)).readers(1).open().unwrap())
    });
    assert_eq!(history.run().violations, []);
}

/// A clock a week after all that happened in the file.
fn clock() -> ManualClock {
    let clock = ManualClock::new();
    clock.advance(Duration::from_secs(7 * 86_400));
    clock
}

async fn into_database(path: &Path, url: &str) -> Result<TransferReport> {
    let source = SqliteStore::builder(path).open_source()?;
    let target = PostgresStore::builder(url).open_target().await?;
    let report = transfer(&source, &target, Afterwards::RetireSource).await;
    source.close().await;
    report
}

async fn out_of_database(url: &str, path: &Path) -> Result<TransferReport> {
    let source = PostgresStore::builder(url).open_source().await?;
    let target = SqliteStore::builder(path).open_target()?;
    let report = transfer(&source, &target, Afterwards::RetireSource).await;
    target.close().await;
    report
}

/// What a store answers, without its own numbers of events' pages.
async fn all_of(store: &dyn StateStore) -> String {
    let mut all = String::new();
    for list in [
        ListKey::dependencies(),
        ListKey::projects(),
        ListKey::open_builds(),
        ListKey::ended_builds(),
        ListKey::sealed_project_builds(),
        ListKey::settled_receipts(),
        ListKey::deleted_dependencies(),
        ListKey::deleted_projects(),
    ] {
        for backwards in [false, true] {
            let query = Query::List { list: list.clone(), backwards };
            let page = store.list(&query, None, 1_000).await.unwrap();
            assert_eq!(page.next, None);
            all.push_str(&format!("{query:?}: {:?}\n", page.items));
        }
    }
    let events = store.events(EventFilter::All, FIRST_EVENT, 1_000).await.unwrap();
    all + &format!("{:?} up to {}", events.items, events.upto)
}

fn ask() -> ClaimAsk {
    let lanes = ["house", "probe/sources", "launcher/system"].map(|lane| LaneAsk {
        lane: lane.parse().unwrap(),
        limit: 1_000,
        lease: Duration::from_secs(60),
    });
    ClaimAsk { lanes: lanes.into(), holder: "mover".parse().unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_and_back_again() {
    let Some(cluster) = shared() else { return };
    let (url, folder) = (cluster.create_database(), tempfile::tempdir().unwrap());
    let (old, back) = (folder.path().join("old.db"), folder.path().join("back.db"));
    lived_in(&old);
    let clock = clock();
    let file = || SqliteStore::builder(&old).clock(Arc::new(clock.clone())).open().unwrap();
    let opened = file();
    let before = all_of(&opened).await;
    opened.close().await;

    let there = into_database(&old, &url).await.unwrap();
    assert!(there.source_retired && !there.repeated, "{there}");
    assert!(there.contents.records.count > 20 && there.contents.events.count > 20, "{there}");
    let e = SqliteStore::builder(&old).open().unwrap_err();
    assert!(e.to_string().contains("PostgreSQL") && e.kind() == ErrorKind::ReadOnly, "{e}");

    let again = into_database(&old, &url).await.unwrap();
    assert!(again.repeated && again.contents == there.contents, "{again}");

    // Moved on before anything runs on it: what is there is what was moved.
    let here = out_of_database(&url, &back).await.unwrap();
    assert_eq!(here.contents, there.contents);
    let e = PostgresStore::builder(url.as_str()).open().await.unwrap_err();
    assert!(e.to_string().contains("back.db") && e.kind() == ErrorKind::ReadOnly, "{e}");
    let source = PostgresStore::builder(url.as_str()).open_source().await.unwrap();
    source.reinstate().await.unwrap();

    let database = PostgresStore::builder(url.as_str())
        .clock(Arc::new(clock.clone()))
        .hints(false)
        .open()
        .await
        .unwrap();
    let returned = SqliteStore::builder(&back).clock(Arc::new(clock.clone())).open().unwrap();
    assert_eq!(all_of(&returned).await, before);
    assert_eq!(all_of(&database).await, before);

    let (a, b) = (database.claim_due(&ask()).await.unwrap(), returned.claim_due(&ask()).await.unwrap());
    let shape = |claimed: &capomastro_core::store::Claimed| {
        let due = claimed.claims.iter().map(|c| (c.task, c.due_at, c.note.clone()));
        (due.collect::<Vec<_>>(), claimed.next_due)
    };
    assert!(!a.claims.is_empty());
    assert_eq!(shape(&a), shape(&b), "due in the same order");
    for claimed in [&a, &b] {
        assert!(claimed.claims.iter().all(|c| c.ticket > there.last_number), "tickets go on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_an_installation_cannot_be_used_and_is_filled_anew() {
    let Some(cluster) = shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (old, other) = (folder.path().join("old.db"), folder.path().join("other.db"));
    lived_in(&old);
    lived_in(&other);
    let url = cluster.create_database();
    let running = PostgresStore::builder(url.as_str()).hints(false).open().await.unwrap();

    // A move that ends after its first part.
    let source = SqliteStore::builder(&old).open_source().unwrap();
    let target = PostgresStore::builder(url.as_str()).open_target().await.unwrap();
    {
        use capomastro_core::store::transfer::{Begun, ItemKind, PART, TransferReader, TransferTarget};
        let from = source.survey().await.unwrap();
        assert_eq!(target.begin(&from).await.unwrap(), Begun::Empty);
        let part = source.read(ItemKind::Record, None, PART).await.unwrap();
        target.write(&part.items).await.unwrap();
        target.write(&part.items).await.unwrap();
        // Somebody else goes on; this one has no right any more.
        let later = PostgresStore::builder(url.as_str()).open_target().await.unwrap();
        assert_eq!(later.begin(&from).await.unwrap(), Begun::Empty);
        for e in [target.write(&part.items).await.unwrap_err(), target.finish().await.unwrap_err()] {
            assert_eq!(e.kind(), ErrorKind::AlreadyExists, "{e}");
        }
    }
    source.close().await;
    for e in [
        PostgresStore::builder(url.as_str()).open().await.unwrap_err(),
        running.check().await.unwrap_err(),
        running.claim_due(&ask()).await.unwrap_err(),
    ] {
        assert_eq!(e.kind(), ErrorKind::ReadOnly, "{e}");
        assert!(e.message().contains(": repeat the move"), "{e}");
    }
    let e = into_database(&other, &url).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::AlreadyExists, "half of another one is in it: {e}");
    into_database(&old, &url).await.unwrap();
    running.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_in_use_is_refused_and_what_was_bent_on_the_way_is_found() {
    let Some(cluster) = shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("old.db");
    lived_in(&old);
    let name = cluster.new_database();
    let url = cluster.url(&name);
    let used = PostgresStore::builder(url.as_str()).hints(false).open().await.unwrap();
    drop(used);
    // Whoever changes a row on its way is found out by the digests.
    cluster.sql(
        &name,
        "CREATE FUNCTION capomastro.bend() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
           NEW.version := NEW.version - 1; RETURN NEW; END $$; \
         CREATE TRIGGER bend BEFORE INSERT ON capomastro.records FOR EACH ROW WHEN (NEW.kind = 'build') \
           EXECUTE FUNCTION capomastro.bend()",
    );
    let e = into_database(&old, &url).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}");
    assert!(e.to_string().contains("Record"), "{e}");
    cluster.sql(&name, "DROP TRIGGER bend ON capomastro.records");
    into_database(&old, &url).await.unwrap();

    let other = folder.path().join("other.db");
    lived_in(&other);
    let e = into_database(&other, &url).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::AlreadyExists, "{e}");
    let e = PostgresStore::builder(cluster.create_database()).open_source().await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{e}");
}

const SOON: Duration = Duration::from_secs(30);

async fn until_somebody_waits(cluster: &Cluster, database: &str) {
    let waits = "SELECT count(*) FROM pg_stat_activity \
                 WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0";
    eventually(SOON, async || cluster.sql(database, waits) != "0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_under_way_in_the_source_is_waited_for_and_found() {
    let Some(cluster) = shared() else { return };
    let (database, folder) = (cluster.new_database(), tempfile::tempdir().unwrap());
    let (url, file) = (cluster.url(&database), folder.path().join("new.db"));
    let store = PostgresStore::builder(url.as_str()).hints(false).open().await.unwrap();
    store.commit(&put(limit("a", 1), None)).await.unwrap();
    let mut embedder = cluster.connect(&database).await;
    let open = embedder.transaction().await.unwrap();
    store.commit_in(&open, &put(limit("b", 1), None)).await.unwrap();
    let moving = {
        let (url, file) = (url.clone(), file.clone());
        tokio::spawn(async move { out_of_database(&url, &file).await })
    };
    until_somebody_waits(&cluster, &database).await;
    // Another one, which comes while the move waits, is made after it; and this one before.
    open.commit().await.unwrap();
    let e = moving.await.unwrap().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Conflict, "{e:?}");
    let keys = [limit_key("a"), limit_key("b")];
    assert!(store.get(&keys).await.unwrap().records.iter().all(Option::is_some), "the source goes on");
    let report = out_of_database(&url, &file).await.unwrap();
    assert_eq!(report.contents.records.count, 2);
    let e = store.commit(&put(limit("c", 1), None)).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::ReadOnly, "{e:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_under_way_in_the_target_is_waited_for_and_kept() {
    let Some(cluster) = shared() else { return };
    let (database, folder) = (cluster.new_database(), tempfile::tempdir().unwrap());
    let (url, file) = (cluster.url(&database), folder.path().join("old.db"));
    lived_in(&file);
    let store = PostgresStore::builder(url.as_str()).hints(false).open().await.unwrap();
    let mut embedder = cluster.connect(&database).await;
    let open = embedder.transaction().await.unwrap();
    store.commit_in(&open, &put(limit("b", 1), None)).await.unwrap();
    let moving = tokio::spawn(async move { into_database(&file, &url).await });
    until_somebody_waits(&cluster, &database).await;
    open.commit().await.unwrap();
    let e = moving.await.unwrap().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::AlreadyExists, "{e:?}");
    assert!(store.get(&[limit_key("b")]).await.unwrap().records[0].is_some(), "what was answered is kept");
}
