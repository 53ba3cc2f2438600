//! How much memory a scheduler takes with a million dependencies registered.
//!
//! Each figure is of a process of its own, since what an allocator has once had it may keep.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

use capomastro_store_sqlite::{SqliteStore, rusqlite::Connection};
use capomastro_testkit::ManualClock;
use capomastro_tests::{crowd_scheduler, figure, look_at_all, register};
use std::{path::Path, process::Command, sync::Arc};

const REGISTERED: usize = 1_000_000;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, part, path] = &args[..] {
        return child(part, Path::new(path));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("crowd.db");
    in_a_process("register", &path);
    let bare = in_a_process("bare", &path);
    let ours = in_a_process("run", &path);
    figure("mib_at_1m", ours, bare, "MiB");
}

/// What a process of this program printed.
fn in_a_process(part: &str, path: &Path) -> f64 {
    let this = std::env::current_exe().unwrap();
    let output = Command::new(this).arg(part).arg(path).output().unwrap();
    assert!(output.status.success(), "{part}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn child(part: &str, path: &Path) {
    let clock = ManualClock::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let before = resident("VmRSS");
    let mib = match part {
        "register" => runtime.block_on(async {
            let store = open(path, &clock);
            register(&store, &clock, REGISTERED).await;
            store.close().await;
            0.0
        }),
        // The whole process: with the file open, and as much of it read as a claim reads.
        "bare" => {
            let conn = Connection::open(path).unwrap();
            let mut due = conn.prepare("SELECT task FROM capomastro_due ORDER BY task LIMIT 256").unwrap();
            let tasks = due.query_map([], |r| r.get::<_, String>(0)).unwrap();
            assert_eq!(tasks.count(), 256);
            resident("VmRSS")
        }
        // What it grew by at the most, while it looked at every one of them.
        "run" => runtime.block_on(async {
            let store = Arc::new(open(path, &clock));
            let scheduler = crowd_scheduler(Arc::<SqliteStore>::clone(&store), &clock, 256);
            assert!(look_at_all(&scheduler, &clock).await >= REGISTERED);
            let most = resident("VmHWM");
            store.close().await;
            most - before
        }),
        other => panic!("no such part: {other}"),
    };
    println!("{mib}");
}

fn open(path: &Path, clock: &ManualClock) -> SqliteStore {
    SqliteStore::builder(path).clock(Arc::new(clock.clone())).open().unwrap()
}

/// A line of this process's status, in MiB.
fn resident(line: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let found = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':')).unwrap();
    let kib: f64 = found.trim().strip_suffix("kB").unwrap().trim().parse().unwrap();
    kib / 1_024.0
}
