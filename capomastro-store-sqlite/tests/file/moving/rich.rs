//! A file with everything in it that a store keeps, and all that a file says.

use crate::samples::{batch, holder, limit, project, put, wait};
use capomastro_core::{
    events::{Event, EventKind},
    model::{BuildId, DependencyId, ExternalRef, Note, Orphan},
    store::{
        Batch, ClaimAsk, DueChange, Forget, Key, Lane, LaneAsk, ListKey, PutBack, Query, Record, StateStore,
        Task,
    },
    time::Clock,
};
use capomastro_store_sqlite::{SqliteStore, rusqlite::Connection, rusqlite::types::Value};
use capomastro_testkit::{fakes::ManualClock, simulator::Simulation};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::Duration,
};
use tempfile::TempDir;

/// Made once; whoever wants to work on it takes a copy.
static RICH: LazyLock<(TempDir, Batch)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a folder");
    let last = fill(&dir.path().join("rich.db"));
    (dir, last)
});

/// A copy of a file with everything in it.
pub(crate) fn rich(folder: &Path) -> PathBuf {
    let path = folder.join("rich.db");
    std::fs::copy(RICH.0.path().join("rich.db"), &path).expect("a copy");
    path
}

/// The same with less in it, for who moves it often: still more due rows and events than a part has.
pub(crate) fn lean(folder: &Path) -> PathBuf {
    let path = rich(folder);
    let conn = Connection::open(&path).expect("a file");
    for (table, key) in [("due", "task"), ("events", "seq")] {
        let table = format!("capomastro_{table}");
        let sql = format!(
            "DELETE FROM {table} WHERE {key} NOT IN (SELECT {key} FROM {table} ORDER BY {key} LIMIT 510)"
        );
        assert!(conn.execute(&sql, []).expect("a statement") > 0);
    }
    path
}

/// The last batch that was committed to it.
pub(crate) fn last_batch() -> &'static Batch {
    &RICH.1
}

/// A clock a day after all that happened in the file.
pub(crate) fn clock() -> ManualClock {
    let clock = ManualClock::new();
    clock.advance(Duration::from_secs(7 * 86_400));
    clock
}

pub(crate) fn open_at(path: &Path, clock: &ManualClock) -> SqliteStore {
    SqliteStore::builder(path).clock(Arc::new(clock.clone())).open().expect("a store")
}

pub(crate) fn look(n: u128) -> Task {
    Task::Look(DependencyId::from_uuid(uuid::Uuid::from_u128(n)))
}

pub(crate) fn ask(name: &str, limit: usize) -> ClaimAsk {
    let lanes = ["house", "probe/sources", "launcher/system"].map(|lane| LaneAsk {
        lane: lane.parse().expect("a lane"),
        limit,
        lease: Duration::from_secs(60),
    });
    ClaimAsk { lanes: lanes.into(), holder: holder(name) }
}

fn stalled(stalls: u32) -> Note {
    let mut note = Note::default();
    note.stalls = stalls;
    note
}

fn fill(path: &Path) -> Batch {
    let at = path.to_owned();
    let history = Simulation::new(11).over(move |clock| {
        Arc::new(SqliteStore::builder(&at).clock(Arc::new(clock)).readers(1).open().expect("a store"))
    });
    assert_eq!(history.run().violations, []);
    let clock = clock();
    let store = open_at(path, &clock);
    let commit = |batch: &Batch| wait(store.commit(batch)).expect("a commit");

    commit(&put(limit("small", 7), None));
    let mut deleted = project("gone");
    if let Record::Project(p) = &mut deleted {
        p.deleted_at = Some(clock.now());
    }
    commit(&put(deleted, None));
    let orphan = Orphan {
        build: BuildId::from_uuid(uuid::Uuid::from_u128(5)),
        external: ExternalRef("17/ä\0\u{1}x".into()),
        seen_by: "somebody".into(),
        seen_at: clock.now(),
        verdict: None,
    };
    commit(&put(Record::Orphan(orphan), None));
    // More due rows and events than a part has.
    let mut many = batch();
    for n in 0..1_203_u64 {
        let note = (n % 3 == 0).then(|| stalled(3));
        let after = Duration::from_secs(n % 7);
        many.due.push(DueChange::Set { task: look(n.into()), lane: Lane::House, after, note });
        many.events.push(Event::of_dependency(
            DependencyId::from_uuid(uuid::Uuid::from_u128(u128::from(n) % 5)),
            EventKind::Changed { what: format!("no. {n}") },
        ));
    }
    commit(&many);
    // Some are held by a process that is gone, some of these were nudged, some were given back.
    clock.advance(Duration::from_secs(60));
    let claims = wait(store.claim_due(&ask("gone", 40))).expect("claims").claims;
    assert!(claims.len() >= 40);
    let mut nudges = batch();
    nudges.due.extend(
        claims[..10].iter().map(|c| DueChange::Nudge { task: c.task, after: Duration::from_secs(9) }),
    );
    commit(&nudges);
    let back: Vec<_> = claims[20..30]
        .iter()
        .map(|c| PutBack { claim: c.clone(), after: Duration::from_secs(5), note: stalled(9) })
        .collect();
    wait(store.put_back(&holder("gone"), &back)).expect("given back");
    // The first events are forgotten, and the counter is ahead of every version.
    let mut forget = batch();
    forget.forget = Some(Forget::new(clock.now(), 1_000, clock.now() - chrono::TimeDelta::days(1), 50));
    commit(&forget);
    let brief = limit("brief", 1);
    commit(&put(brief.clone(), None));
    let version = wait(store.get(&[brief.key()])).expect("a record").records[0].as_ref().expect("it").version;
    let mut last = batch();
    last.deletes.push((brief.key(), version));
    commit(&last);
    wait(store.close());
    for kind in ["dependency", "state", "build", "project", "project-build", "receipt", "orphan", "limit"] {
        assert!(count(path, &format!("FROM capomastro_records WHERE kind = '{kind}'")) > 0, "no {kind}");
    }
    for what in ["holder IS NOT NULL", "nudge_at IS NOT NULL", "note <> '{}'", "ticket = 0"] {
        assert!(count(path, &format!("FROM capomastro_due WHERE {what}")) > 0, "{what}");
    }
    last
}

pub(crate) fn count(path: &Path, from: &str) -> i64 {
    let conn = Connection::open(path).expect("a file");
    conn.query_row(&format!("SELECT count(*) {from}"), [], |r| r.get(0)).expect("a count")
}

/// All that a file says, but for the places of its rows and its own moves.
pub(crate) fn all_of(path: &Path) -> Vec<Vec<Value>> {
    let conn = Connection::open(path).expect("a file");
    let mut all = Vec::new();
    for sql in [
        "SELECT name, value FROM capomastro_meta ORDER BY 1",
        "SELECT key, version, format, kind, name, places, data FROM capomastro_records ORDER BY 1",
        "SELECT * FROM capomastro_names ORDER BY 1",
        "SELECT * FROM capomastro_lists ORDER BY 1, 2",
        "SELECT * FROM capomastro_due ORDER BY 1",
        "SELECT * FROM capomastro_events ORDER BY 1",
        "SELECT * FROM capomastro_commits ORDER BY 1",
        "SELECT * FROM sqlite_sequence",
    ] {
        let mut select = conn.prepare(sql).expect("a statement");
        let columns = select.column_count();
        let rows = select.query_map([], |r| (0..columns).map(|c| r.get(c)).collect()).expect("rows");
        all.extend(rows.map(|row| row.expect("a row")));
    }
    all
}

/// A list from both ends.
pub(crate) fn list(store: &SqliteStore, list: &ListKey) -> Vec<Key> {
    let mut keys = Vec::new();
    for backwards in [false, true] {
        let (mut after, query) = (None, Query::List { list: list.clone(), backwards });
        loop {
            let page = wait(store.list(&query, after.as_deref(), 3)).expect("a page");
            keys.extend(page.items.iter().map(|v| v.record.key()));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    keys
}
