//! Histories of schedulers under attack: kept seeds, some hundred new ones, the same on both stores and in another process.
#![allow(clippy::unwrap_used, reason = "tests")]

use capomastro_store_postgres::PostgresStore;
use capomastro_store_sqlite::SqliteStore;
use capomastro_testkit::simulator::Simulation;
use capomastro_tests::postgres::shared;
use std::{process::Command, sync::Arc};

/// Where the seeds stand that ever failed.
const KEPT: &str = include_str!("../../capomastro-testkit/tests/seeds.txt");

fn kept() -> Vec<u64> {
    let lines = KEPT.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(|line| line.parse().unwrap()).collect()
}

/// The same history on a SQLite file.
fn on_file(seed: u64, folder: &std::path::Path) -> Simulation {
    let path = folder.join(format!("{seed}.db"));
    Simulation::new(seed).over(move |clock| {
        let store = SqliteStore::builder(&path).clock(Arc::new(clock)).readers(1).open();
        Arc::new(store.unwrap())
    })
}

#[test]
fn a_history_is_the_same_on_a_sqlite_file() {
    let folder = tempfile::tempdir().unwrap();
    for seed in (1..=6).chain(kept().into_iter().take(4)) {
        let (memory, file) = (Simulation::new(seed).run(), on_file(seed, folder.path()).run());
        assert_eq!(file.violations, [], "seed {seed}");
        assert_eq!(memory.digest, file.digest, "seed {seed} went another way on the file");
    }
}

/// The same history in a schema of a PostgreSQL database.
fn in_database(seed: u64, url: &str, runtime: &tokio::runtime::Runtime) -> Simulation {
    let (url, handle) = (url.to_owned(), runtime.handle().clone());
    Simulation::new(seed).over(move |clock| {
        let store = PostgresStore::builder(url.as_str())
            .schema(format!("seed_{seed}"))
            .clock(Arc::new(clock))
            .runtime(handle.clone())
            .hints(false)
            .connections(1);
        Arc::new(handle.block_on(store.open()).unwrap())
    })
}

#[test]
fn a_history_is_the_same_in_a_postgresql_database() {
    let Some(cluster) = shared() else { return };
    let (url, runtime) = (cluster.create_database(), tokio::runtime::Runtime::new().unwrap());
    for seed in (1..=20).chain(kept()) {
        let (memory, database) = (Simulation::new(seed).run(), in_database(seed, &url, &runtime).run());
        assert_eq!(database.violations, [], "seed {seed}");
        assert_eq!(memory.digest, database.digest, "seed {seed} went another way in the database");
    }
}

fn digests() -> String {
    let digest = |seed| format!("{:016x}", Simulation::new(seed).run().digest);
    (100..110).map(digest).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_history_is_the_same_in_another_process_and_on_another_thread() {
    const CHILD: &str = "CAPOMASTRO_SIMULATED_CHILD";
    let own = digests();
    if std::env::var_os(CHILD).is_some() {
        println!("digests: {own}");
        return;
    }
    assert_eq!(own, std::thread::spawn(digests).join().unwrap());
    let this = "a_history_is_the_same_in_another_process_and_on_another_thread";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", this, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains(&format!("digests: {own}")), "{told}");
}
