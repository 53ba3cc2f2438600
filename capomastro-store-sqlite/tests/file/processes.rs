//! Several processes on one file, and processes that are killed.

use crate::samples::{batch, holder, limit, limit_key, number, open, put, wait};
use capomastro_core::{
    ErrorKind,
    model::DependencyId,
    store::{Claim, ClaimAsk, DueChange, Lane, LaneAsk, StateStore, Task},
};
use capomastro_store_sqlite::{SqliteStore, rusqlite::Connection};
use futures_util::future::join_all;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// This program again, as a process with a part of its own.
pub(crate) fn process(part: &str, path: &Path, name: &str) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "processes::plays_its_part", "--nocapture"])
        .env("CAPOMASTRO_TEST_PART", part)
        .env("CAPOMASTRO_TEST_FILE", path)
        .env("CAPOMASTRO_TEST_NAME", name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process")
}

/// What a process has said, line by line; lines are marked, since the test's own output is there too.
pub(crate) fn said(line: &str) -> Option<&str> {
    line.split_once("> ").map(|(_, said)| said.trim())
}

pub(crate) fn say(what: &str) {
    println!("> {what}");
    std::io::stdout().flush().expect("a reader");
}

/// Run in the other processes.
#[test]
fn plays_its_part() {
    let Ok(part) = std::env::var("CAPOMASTRO_TEST_PART") else { return };
    let path = std::env::var_os("CAPOMASTRO_TEST_FILE").expect("a file");
    let name = std::env::var("CAPOMASTRO_TEST_NAME").expect("a name");
    let path = Path::new(&path);
    match part.as_str() {
        "open" => {
            say("ready");
            std::io::stdin().read_exact(&mut [0]).expect("a start");
            wait(open(path).check()).expect("a store");
            say("opened");
        }
        "count" => {
            wait(count(&SqliteStore::builder(path).busy_timeout(Duration::from_secs(60)).open().unwrap()))
        }
        "claim" => wait(claim(&open(path), &name)),
        "write" => wait(write_for_ever(&open(path), &name)),
        "move" => crate::moving::stopped::plays(path, Path::new(&name)),
        other => panic!("no such part: {other}"),
    }
}

const COUNTS: u64 = 100;

/// Adds to one record, again and again; every addition is based on what was read.
async fn count(store: &SqliteStore) {
    let mut done = 0;
    while done < COUNTS {
        let (sum, version) = number(store, "sum").await.unwrap().unwrap();
        match store.commit(&put(limit("sum", sum + 1), Some(version))).await {
            Ok(_) => done += 1,
            Err(e) => assert_eq!(e.kind(), ErrorKind::Conflict, "{e:?}"),
        }
    }
}

#[test]
fn two_processes_that_add_to_one_record_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = open(&path);
    wait(store.commit(&put(limit("sum", 0), None))).unwrap();
    let mut others = [process("count", &path, "a"), process("count", &path, "b")];
    wait(count(&store));
    for other in &mut others {
        assert!(other.wait().unwrap().success());
    }
    assert_eq!(wait(number(&store, "sum")).unwrap().unwrap().0, 3 * COUNTS);
}

const TASKS: u128 = 400;

/// Takes work until there is none, and says what it took.
async fn claim(store: &SqliteStore, name: &str) {
    let ask = ClaimAsk {
        lanes: vec![LaneAsk { lane: Lane::House, limit: 7, lease: Duration::from_secs(600) }],
        holder: holder(name),
    };
    loop {
        let claims = store.claim_due(&ask).await.unwrap().claims;
        if claims.is_empty() {
            return;
        }
        for Claim { task, ticket, .. } in claims {
            say(&format!("{task} {ticket}"));
        }
    }
}

#[test]
fn two_processes_never_take_the_same_task() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = open(&path);
    let mut all = batch();
    for n in 0..TASKS {
        let task = Task::Look(DependencyId::from_uuid(uuid::Uuid::from_u128(n)));
        all.due.push(DueChange::Set { task, lane: Lane::House, after: Duration::ZERO, note: None });
    }
    wait(store.commit(&all)).unwrap();
    let others = ["a", "b", "c"].map(|name| process("claim", &path, name));
    let (mut tasks, mut tickets) = (BTreeSet::new(), BTreeSet::new());
    for other in others {
        let output = other.wait_with_output().unwrap();
        assert!(output.status.success());
        for line in String::from_utf8(output.stdout).unwrap().lines().filter_map(said) {
            let (task, ticket) = line.split_once(' ').unwrap();
            assert!(tasks.insert(task.to_owned()), "{task} was taken twice");
            assert!(tickets.insert(ticket.to_owned()), "ticket {ticket} was given twice");
        }
    }
    assert_eq!(tasks.len(), usize::try_from(TASKS).unwrap());
}

#[test]
fn processes_that_open_a_new_file_at_once_agree() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let path = dir.path().join(format!("{round}.db"));
        let mut others: Vec<Child> = (0..4).map(|n| process("open", &path, &n.to_string())).collect();
        let mut outputs: Vec<_> =
            others.iter_mut().map(|o| BufReader::new(o.stdout.take().unwrap())).collect();
        for output in &mut outputs {
            assert!(output.lines().any(|l| said(&l.unwrap()) == Some("ready")));
        }
        for other in &mut others {
            other.stdin.take().unwrap().write_all(b"!").unwrap();
        }
        for (mut other, output) in others.into_iter().zip(outputs) {
            let lines: Vec<String> = output.lines().map(Result::unwrap).collect();
            assert!(other.wait().unwrap().success(), "{lines:?}");
            assert!(lines.iter().any(|l| said(l) == Some("opened")), "{lines:?}");
        }
    }
}

/// The same from threads of one process, where SQLite keeps its locks in another way.
#[test]
fn threads_that_open_a_new_file_at_once_agree() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..10 {
        let path = dir.path().join(format!("{round}.db"));
        let start = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    wait(open(&path).check()).unwrap();
                });
            }
        });
    }
}

/// Writes pairs of records as fast as it can, several at once, and says which were answered.
async fn write_for_ever(store: &SqliteStore, name: &str) {
    for round in 0_u64.. {
        let commits = (0..8).map(|n| async move {
            let id = format!("{name}-{round}-{n}");
            let mut both = put(limit(&format!("{id}/a"), round), None);
            both.puts.extend(put(limit(&format!("{id}/b"), round), None).puts);
            store.commit(&both).await.unwrap();
            say(&id);
        });
        join_all(commits).await;
    }
}

#[test]
fn what_was_answered_survives_a_kill_and_nothing_is_half_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let mut answered = BTreeMap::new();
    for round in 0..6_usize {
        let mut writer = process("write", &path, &format!("w{round}"));
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines().map(Result::unwrap);
        // Killed after some answers, each time after more, while others are under way.
        let enough = 5 + round * 37;
        let first = lines.by_ref().filter_map(|l| said(&l).map(str::to_owned)).take(enough);
        let mut ids: Vec<String> = first.collect();
        assert_eq!(ids.len(), enough);
        writer.kill().unwrap();
        writer.wait().unwrap();
        ids.extend(lines.filter_map(|l| said(&l).map(str::to_owned)));
        answered.insert(round, ids);

        let store = open(&path);
        for id in answered.values().flatten() {
            let keys = [limit_key(&format!("{id}/a")), limit_key(&format!("{id}/b"))];
            assert!(wait(store.get(&keys)).unwrap().records.iter().all(Option::is_some), "{id} was answered");
        }
        wait(store.check()).unwrap();
        wait(store.close());
    }
    let conn = Connection::open(&path).unwrap();
    let sound: String = conn.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
    assert_eq!(sound, "ok");
    let mut pairs: BTreeMap<String, u32> = BTreeMap::new();
    let mut keys = conn.prepare("SELECT key FROM capomastro_records").unwrap();
    for key in keys.query_map([], |r| r.get::<_, String>(0)).unwrap() {
        *pairs.entry(key.unwrap().rsplit_once('/').unwrap().0.to_owned()).or_default() += 1;
    }
    assert!(pairs.values().all(|n| *n == 2), "a batch is there wholly or not at all");
}
