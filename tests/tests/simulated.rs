//! Histories of schedulers under attack: kept seeds, some hundred new ones, the same on both stores and in another process.
#![allow(clippy::unwrap_used, reason = "tests")]

use capomastro_store_sqlite::SqliteStore;
use capomastro_testkit::simulator::Simulation;
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
