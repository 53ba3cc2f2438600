//! A disk that fails under SQLite: each call once, some calls in a row, for good, and by chance; and a process that is
//! killed before each call.

use crate::{
    samples::{batch, holder, large, limit, limit_key, put, says_what_to_do, wait},
    shim::{Action, DATABASE, EIO, ENOSPC, Fault, SHARED_MEMORY, SYNC, Shim, TRUNCATE, WAL, WRITE, When},
};
use capomastro_core::{
    Error, ErrorKind,
    events::{Event, EventKind},
    model::ProjectId,
    store::{Batch, ClaimAsk, DueChange, EventFilter, FIRST_EVENT, Lane, LaneAsk, PutBack, StateStore, Task},
    time::{Clock, SystemClock, SystemRandom},
};
use capomastro_store_sqlite::{SqliteStore, rusqlite::Connection};
use std::{
    io::Write as _,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

const PART: &str = "CAPOMASTRO_TEST_DISK_PART";

/// This program again, over a disk that fails as it or its parent says.
pub(crate) fn play(shim: &Shim, part: &str, choose: impl FnOnce(&mut Command)) -> ExitStatus {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "bad_disk::plays_its_part", "--nocapture"]).env(PART, part);
    shim.preload(&mut command);
    choose(&mut command);
    let output = command.output().unwrap();
    if !output.status.success() && output.status.signal().is_none() {
        panic!("{}", String::from_utf8_lossy(&output.stderr));
    }
    print!("{}", String::from_utf8_lossy(&output.stdout));
    output.status
}

/// Run in the other processes.
#[test]
fn plays_its_part() {
    let Ok(part) = std::env::var(PART) else { return };
    let shim = Shim::here();
    match part.as_str() {
        "fail" => fail_at_each_call(&shim),
        "chance" => fail_by_chance(&shim),
        "live" => drop(live(shim.database(), &mut |_, _| panic!("nothing fails here"))),
        "cut" => crate::power_cut::write(&shim),
        other => panic!("no such part: {other}"),
    }
}

/// What the disk does, and what may be answered then.
struct Trouble {
    ops: u64,
    files: u64,
    action: Action,
    errno: u64,
    kinds: &'static [ErrorKind],
}

const STORE: u64 = DATABASE + WAL;
const BROKEN: &[ErrorKind] = &[ErrorKind::Unavailable, ErrorKind::OutcomeUnknown];
const FULL: &[ErrorKind] = &[ErrorKind::StorageFull];

const fn trouble(ops: u64, files: u64, action: Action, errno: u64, kinds: &'static [ErrorKind]) -> Trouble {
    Trouble { ops, files, action, errno, kinds }
}

const TROUBLES: [Trouble; 9] = [
    trouble(WRITE, STORE, Action::Fail, EIO, BROKEN),
    trouble(WRITE, STORE, Action::Half, EIO, BROKEN),
    trouble(WRITE, STORE, Action::DoAndFail, EIO, BROKEN),
    trouble(WRITE, STORE, Action::Fail, ENOSPC, FULL),
    trouble(WRITE, STORE, Action::Half, ENOSPC, FULL),
    trouble(WRITE, SHARED_MEMORY, Action::Fail, ENOSPC, &[ErrorKind::Unavailable, ErrorKind::StorageFull]),
    trouble(SYNC, STORE, Action::Fail, EIO, BROKEN),
    trouble(SYNC, STORE, Action::DoAndFail, EIO, BROKEN),
    trouble(TRUNCATE, STORE, Action::Fail, EIO, BROKEN),
];

/// How often in a row, and of how many calls one is the first.
const TIMES: [(u64, usize); 2] = [(1, 1), (u64::MAX, 5)];

/// Lets each call of a life fail, and checks what is left each time.
fn fail_at_each_call(shim: &Shim) {
    let mut lives = 0_u32;
    for trouble in &TROUBLES {
        let mut reached = 0;
        for (times, step) in TIMES {
            for first in (1..).step_by(step) {
                let when = When::At { first, times };
                if !live_through(shim, trouble, when) {
                    break;
                }
                reached += 1;
                lives += 1;
            }
        }
        assert!(reached > 0, "nothing ever came to it");
    }
    println!("{lives} lives with a failure");
    assert!(lives > 300, "{lives}");
}

fn fail_by_chance(shim: &Shim) {
    for seed in 0..60 {
        for trouble in &TROUBLES {
            live_through(shim, trouble, When::Chance { chance: 65_536 / 12, seed });
        }
    }
}

/// A life with this trouble, and a good one afterwards. Returns whether the trouble came.
fn live_through(shim: &Shim, trouble: &Trouble, when: When) -> bool {
    let path = shim.database();
    for suffix in ["", "-wal", "-shm", "-answers"] {
        std::fs::remove_file(beside(path, suffix)).ok();
    }
    let Trouble { ops, files, action, errno, kinds } = *trouble;
    let fault = Fault { ops, files, action, errno, when };
    shim.fault(&fault);
    let left = live(path, &mut |what, e| {
        assert!(kinds.contains(&e.kind()), "{what} under {fault:?}: {e:?}");
        says_what_to_do(e);
    });
    let fired = shim.fired() > 0;
    shim.heal();
    let store = match left.store {
        Some(store) => store,
        None => open(path).unwrap_or_else(|e| panic!("{fault:?}: {e:?}")),
    };
    // The store that has seen the failures goes on, without being opened again.
    wait(store.check()).unwrap_or_else(|e| panic!("{fault:?}: {e:?}"));
    let mut answered = left.answered;
    for (name, batch) in left.open {
        wait(store.commit(&batch)).unwrap_or_else(|e| panic!("{name} after {fault:?}: {e:?}"));
        answered.push(name);
    }
    wait(store.close());
    let found = check(path, &answered);
    assert_eq!(found, COMMITS, "{fault:?}");
    fired
}

/// How many commits a life has.
const COMMITS: usize = 4;

/// What a life has done.
#[derive(Default)]
struct Life {
    store: Option<SqliteStore>,
    /// The names of the commits that were answered.
    answered: Vec<String>,
    /// The commits that were not.
    open: Vec<(String, Batch)>,
}

fn open(path: &Path) -> Result<SqliteStore, Error> {
    SqliteStore::builder(path).readers(1).idle_after(Duration::from_millis(1)).open()
}

pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Two times open, with commits, claims and what is put back. What fails is told to `failed`.
fn live(path: &Path, failed: &mut dyn FnMut(&str, &Error)) -> Life {
    let mut life = Life::default();
    let mut answers =
        std::fs::File::options().append(true).create(true).open(beside(path, "-answers")).unwrap();
    for session in 0..2 {
        if let Some(store) = life.store.take() {
            wait(store.close());
        }
        for _ in 0..4 {
            match open(path) {
                Ok(store) => {
                    life.store = Some(store);
                    break;
                }
                Err(e) => failed("open", &e),
            }
        }
        for n in 0..COMMITS / 2 {
            let name = format!("s{session}n{n}");
            let batch = two_records(&name);
            let done = life.store.as_ref().is_some_and(|s| commit(s, &name, &batch, failed));
            if done {
                answers.write_all(format!("{name}\n").as_bytes()).unwrap();
                life.answered.push(name);
            } else {
                life.open.push((name, batch));
            }
            if let Some(store) = &life.store {
                claim(store, failed);
            }
        }
    }
    life
}

/// Two records, of which one is large, an event and work that is due.
pub(crate) fn two_records(name: &str) -> Batch {
    let mut both = put(limit(&format!("{name}/a"), 1), None);
    both.puts.extend(put(large(&format!("{name}/b"), 2_000), None).puts);
    let project = ProjectId::draw(SystemClock.now(), &SystemRandom);
    both.events.push(Event::of_project(project, EventKind::Defined { name: name.into() }));
    let task = Task::Sweep;
    both.due.push(DueChange::Set { task, lane: Lane::House, after: Duration::ZERO, note: None });
    both
}

/// Commits as a scheduler does: what is of unknown outcome is repeated.
fn commit(store: &SqliteStore, name: &str, batch: &Batch, failed: &mut dyn FnMut(&str, &Error)) -> bool {
    let mut is_unknown = false;
    for _ in 0..4 {
        match wait(store.commit(batch)) {
            Ok(committed) => {
                assert!(is_unknown || !committed.repeated, "{name} was answered to have failed");
                return true;
            }
            Err(e) => {
                failed("commit", &e);
                is_unknown |= e.kind() == ErrorKind::OutcomeUnknown;
            }
        }
        if !is_unknown {
            let found = wait(store.get(&[limit_key(&format!("{name}/a"))])).unwrap().records;
            assert_eq!(found, [None], "{name} was answered not to be written");
        }
    }
    false
}

/// Takes the work and gives it back, as far as that is possible; it may be lost.
pub(crate) fn claim(store: &SqliteStore, failed: &mut dyn FnMut(&str, &Error)) {
    let lanes = vec![LaneAsk { lane: Lane::House, limit: 3, lease: Duration::from_secs(9) }];
    match wait(store.claim_due(&ClaimAsk { lanes, holder: holder("a") })) {
        Ok(claimed) => {
            let back = |claim| PutBack { claim, after: Duration::ZERO, note: Default::default() };
            let items: Vec<PutBack> = claimed.claims.into_iter().map(back).collect();
            if let Err(e) = wait(store.put_back(&holder("a"), &items)) {
                failed("put back", &e);
            }
        }
        Err(e) => failed("claim", &e),
    }
}

/// What must hold of a file, opened on a good disk. Returns how many commits are in it.
pub(crate) fn check(path: &Path, answered: &[String]) -> usize {
    let store = open(path).unwrap();
    wait(store.check()).unwrap();
    for name in answered {
        let keys = ["a", "b"].map(|end| limit_key(&format!("{name}/{end}")));
        assert!(
            wait(store.get(&keys)).unwrap().records.iter().all(Option::is_some),
            "{name} was answered and is lost"
        );
    }
    let events = wait(store.events(EventFilter::All, FIRST_EVENT, 1_000)).unwrap().items;
    assert!(events.iter().map(|e| e.seq).eq(1..=events.len() as u64), "events have holes");
    // It can be written.
    wait(store.commit(&batch())).unwrap();
    wait(store.close());
    let conn = Connection::open(path).unwrap();
    let sound: String = conn.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
    assert_eq!(sound, "ok");
    let keys = conn.query_row("SELECT count(*) FROM capomastro_records", [], |r| r.get::<_, i64>(0));
    assert_eq!(
        usize::try_from(keys.unwrap()),
        Ok(2 * events.len()),
        "each commit is there wholly or not at all"
    );
    events.len()
}

#[test]
fn whichever_call_fails_the_error_is_typed_and_what_was_answered_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let Some(shim) = Shim::compile(dir.path(), &dir.path().join("a.db")) else { return };
    assert!(play(&shim, "fail", |_| ()).success());
}

#[test]
fn a_disk_that_fails_now_and_then_loses_nothing_that_was_answered() {
    let dir = tempfile::tempdir().unwrap();
    let Some(shim) = Shim::compile(dir.path(), &dir.path().join("a.db")) else { return };
    assert!(play(&shim, "chance", |_| ()).success());
}

#[test]
fn whichever_call_a_process_is_killed_at_what_was_answered_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let Some(shim) = Shim::compile(dir.path(), &path) else { return };
    let mut kills = 0_u32;
    for first in 1.. {
        for suffix in ["", "-wal", "-shm", "-answers"] {
            std::fs::remove_file(beside(&path, suffix)).ok();
        }
        let (ops, files) = (WRITE + SYNC + TRUNCATE, STORE + SHARED_MEMORY);
        let when = When::At { first, times: 1 };
        shim.fault(&Fault { ops, files, action: Action::Kill, errno: 0, when });
        if play(&shim, "live", |_| ()).success() {
            break;
        }
        kills += 1;
        let answers = std::fs::read_to_string(beside(&path, "-answers")).unwrap_or_default();
        let answered: Vec<String> = answers.lines().map(str::to_owned).collect();
        let found = check(&path, &answered);
        // One more may be there, whose answer nobody has read.
        assert!((answered.len()..=answered.len() + 1).contains(&found), "{found}: {answers}");
    }
    println!("{kills} kills, one before each call");
    assert!(kills > 50, "{kills}");
}
