//! The machine is switched off: what was written and not synced is lost, wholly or in part.
//!
//! A process works over a disk that writes down each write, truncation and sync. From that, the files are made as a disk may
//! have them after a power cut at any of these moments: all that was synced, and of the rest any part.

use crate::{
    bad_disk::{beside, claim, play, two_records},
    samples::wait,
    shim::{Action, DATABASE, EIO, ENOSPC, Fault, SYNC, Shim, WAL, WRITE, When},
};
use capomastro_core::{ErrorKind, store::StateStore, time::Random};
use capomastro_store_sqlite::{SqliteStore, rusqlite::Connection};
use capomastro_testkit::SeededRandom;
use futures_util::future::join_all;
use std::{collections::BTreeMap, io::Write as _, path::Path, time::Duration};

const LOG: &str = "CAPOMASTRO_SHIM_LOG";
const FAILING: &str = "CAPOMASTRO_TEST_DISK_FAILS";
/// The file in which the process writes down which commits were answered.
const ANSWERS: u64 = 8;

/// What fails in each of the three times that the process has the store open.
const FAILURES: [(u64, Action, u64); 3] =
    [(SYNC, Action::Fail, EIO), (SYNC, Action::DoAndFail, EIO), (WRITE, Action::Half, ENOSPC)];

/// What the process does: commits, several at once, and claims in between, while the log is written back now and then. It
/// writes down `?` and a name before it asks for a commit, the name when that is answered, and `!` and the name when the
/// answer is that nothing was written.
pub(crate) fn write(shim: &Shim) {
    let path = shim.database();
    let answers = std::fs::File::options().append(true).create(true).open(beside(path, "-answers")).unwrap();
    let say = |what: &str, name: &str| (&answers).write_all(format!("{what}{name}\n").as_bytes()).unwrap();
    let failing = std::env::var_os(FAILING).is_some();
    for (session, (ops, action, errno)) in FAILURES.into_iter().enumerate() {
        let idle = Duration::from_millis([1, 10_000, 3][session]);
        let store = SqliteStore::builder(path).readers(1).idle_after(idle).open().unwrap();
        if failing {
            let chance = if ops == WRITE { 65_536 / 40 } else { 65_536 / 4 };
            let when = When::Chance { chance, seed: session as u64 };
            shim.fault(&Fault { ops, files: DATABASE + WAL, action, errno, when });
        }
        for round in 0..12 {
            let commits = (0..=round % 3).map(|n| {
                let (store, say) = (&store, &say);
                async move {
                    let name = format!("s{session}r{round}n{n}");
                    let batch = two_records(&name);
                    let mut is_unknown = false;
                    for _ in 0..50 {
                        say("?", &name);
                        match store.commit(&batch).await {
                            Ok(_) => return say("", &name),
                            Err(e) if e.kind() == ErrorKind::OutcomeUnknown => is_unknown = true,
                            Err(e) => {
                                let kinds = [ErrorKind::Unavailable, ErrorKind::StorageFull];
                                assert!(failing && kinds.contains(&e.kind()), "{e:?}");
                                // What it says of this attempt, it does not say of an earlier one.
                                if !is_unknown {
                                    say("!", &name);
                                }
                            }
                        }
                    }
                    panic!("{name} is never answered")
                }
            });
            wait(join_all(commits));
            claim(&store, &mut |_, e| assert!(failing, "{e:?}"));
        }
        shim.heal();
        wait(store.close());
    }
}

/// One thing that happened to the disk.
#[derive(Clone, Debug)]
enum Happened {
    Write { file: u64, offset: usize, data: Vec<u8> },
    Truncate { file: u64, len: usize },
    Sync { file: u64 },
    SyncFailed { file: u64 },
}

fn recorded(log: &Path) -> Vec<Happened> {
    let bytes = std::fs::read(log).unwrap();
    let mut rest = &bytes[..];
    let mut all = Vec::new();
    while !rest.is_empty() {
        let number = |n: usize| u64::from_ne_bytes(rest[n * 8..n * 8 + 8].try_into().unwrap());
        let (kind, file, offset, len) = (number(0), number(1), number(2), number(3));
        let (offset, len) = (usize::try_from(offset).unwrap(), usize::try_from(len).unwrap());
        rest = &rest[32..];
        all.push(match kind {
            1 => {
                let (data, after) = rest.split_at(len);
                rest = after;
                Happened::Write { file, offset, data: data.to_vec() }
            }
            2 => Happened::Truncate { file, len: offset },
            3 => Happened::Sync { file },
            4 => Happened::SyncFailed { file },
            other => panic!("no such record: {other}"),
        });
    }
    all
}

/// A file as it is on the disk, and what was written to it since it was synced.
#[derive(Clone, Debug, Default)]
struct OnDisk {
    synced: Vec<u8>,
    since: Vec<Happened>,
}

fn apply(file: &mut Vec<u8>, happened: &Happened) {
    match happened {
        Happened::Write { offset, data, .. } => {
            if file.len() < offset + data.len() {
                file.resize(offset + data.len(), 0);
            }
            file[*offset..offset + data.len()].copy_from_slice(data);
        }
        Happened::Truncate { len, .. } => file.resize(*len, 0),
        Happened::Sync { .. } | Happened::SyncFailed { .. } => {}
    }
}

impl OnDisk {
    fn sync(&mut self) {
        for happened in std::mem::take(&mut self.since) {
            apply(&mut self.synced, &happened);
        }
    }

    /// What is left of it: all that was synced, and what `keeps` says of the rest.
    fn after_cut(&self, mut keeps: impl FnMut(usize) -> Kept) -> Vec<u8> {
        let mut file = self.synced.clone();
        for (n, happened) in self.since.iter().enumerate() {
            match (keeps(n), happened) {
                (Kept::No, _) => {}
                // A disk writes sectors.
                (Kept::Half, Happened::Write { file: f, offset, data }) => {
                    let data = data[..data.len() / 2 / 512 * 512].to_vec();
                    apply(&mut file, &Happened::Write { file: *f, offset: *offset, data });
                }
                (_, happened) => apply(&mut file, happened),
            }
        }
        file
    }
}

#[derive(Copy, Clone)]
enum Kept {
    Yes,
    No,
    Half,
}

/// Cuts the power after each thing that happened, and looks at what is left. Returns how often.
fn cut_everywhere(all: &[Happened], folder: &Path) -> u32 {
    let random = SeededRandom::new(11);
    let mut files: BTreeMap<u64, OnDisk> = BTreeMap::new();
    let mut answers = String::new();
    let mut cuts = 0;
    for (n, happened) in all.iter().enumerate() {
        match happened {
            Happened::Write { file: ANSWERS, data, .. } => {
                answers.push_str(std::str::from_utf8(data).unwrap());
            }
            Happened::Write { file, .. } | Happened::Truncate { file, .. } => {
                files.entry(*file).or_default().since.push(happened.clone());
            }
            Happened::Sync { file } => files.entry(*file).or_default().sync(),
            // As Linux has it: what could not be written is forgotten, and the next sync knows nothing of it.
            Happened::SyncFailed { file } => {
                // Reading still shows it, until something else takes its place.
                files.entry(*file).or_default().since.clear();
            }
        }
        // Of writes to the store in a row, some; after each word of what was answered, always.
        let is_answer = matches!(happened, Happened::Write { file: ANSWERS, .. });
        let is_last = !matches!(all.get(n + 1), Some(Happened::Write { .. }));
        if !is_answer && !is_last && !n.is_multiple_of(7) {
            continue;
        }
        for variant in 0..3 {
            let keeps = |_| match (variant, random.bits() % 8) {
                (0, _) | (1, 0..=3) | (2, 0) => Kept::No,
                (1, 4) | (2, 1) => Kept::Half,
                _ => Kept::Yes,
            };
            let path = folder.join("cut.db");
            for (file, suffix) in [(DATABASE, ""), (WAL, "-wal")] {
                let left = files.get(&file).map(|f| f.after_cut(keeps)).unwrap_or_default();
                std::fs::write(beside(&path, suffix), left).unwrap();
            }
            std::fs::remove_file(beside(&path, "-shm")).ok();
            is_whole(&path, &answers);
            cuts += 1;
        }
    }
    cuts
}

/// The file is sound; all that was answered is there, and nothing that was answered not to be.
fn is_whole(path: &Path, answers: &str) {
    if answers.is_empty() && std::fs::metadata(path).unwrap().len() == 0 {
        return;
    }
    let conn = Connection::open(path).unwrap();
    conn.pragma_update(None, "synchronous", "OFF").unwrap();
    let sound: String = conn.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
    assert_eq!(sound, "ok", "after {answers}");
    if answers.is_empty() {
        return;
    }
    let mut keys = conn.prepare("SELECT key FROM capomastro_records").unwrap();
    let keys: Vec<String> = keys.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect();
    let mut last = BTreeMap::new();
    for line in answers.lines() {
        let name = line.trim_start_matches(['?', '!']);
        last.insert(name, line.chars().next().filter(|c| "?!".contains(*c)));
    }
    for (name, mark) in last {
        let found = keys.iter().filter(|k| k.contains(&format!("{name}/"))).count();
        match mark {
            None => assert_eq!(found, 2, "{name} was answered and is lost"),
            Some('!') => assert_eq!(found, 0, "{name} was answered not to be written and is there"),
            Some(_) => assert!(found == 0 || found == 2, "{name} is there in part"),
        }
    }
}

fn what_happened(choose: impl FnOnce(&mut std::process::Command)) -> Option<u32> {
    let dir = tempfile::tempdir().unwrap();
    let shim = Shim::compile(dir.path(), &dir.path().join("a.db"))?;
    let log = dir.path().join("log");
    let status = play(&shim, "cut", |command| {
        command.env(LOG, &log);
        choose(command);
    });
    assert!(status.success());
    let all = recorded(&log);
    let syncs = |wanted: fn(&Happened) -> bool| all.iter().filter(|h| wanted(h)).count();
    println!(
        "{} things happened, {} syncs, {} failed",
        all.len(),
        syncs(|h| matches!(h, Happened::Sync { .. })),
        syncs(|h| matches!(h, Happened::SyncFailed { .. }))
    );
    Some(cut_everywhere(&all, dir.path()))
}

#[test]
fn a_power_cut_at_any_moment_takes_back_nothing_that_was_answered() {
    if let Some(cuts) = what_happened(|_| ()) {
        println!("{cuts} power cuts");
        assert!(cuts > 500);
    }
}

#[test]
fn a_power_cut_after_failures_takes_back_nothing_that_was_answered() {
    if let Some(cuts) = what_happened(|c| {
        c.env(FAILING, "yes");
    }) {
        println!("{cuts} power cuts");
        assert!(cuts > 500);
    }
}
