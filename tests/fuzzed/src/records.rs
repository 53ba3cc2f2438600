//! Rows of a store's file that were damaged, or written by who knows whom.

use super::{SECRET, is_decent, parts, rules};
use capomastro_core::{
    ErrorKind, Result,
    model::{BuildId, DependencyId, ProjectBuildId, ProjectId, ReceiptId},
    store::{
        ClaimAsk, EventFilter, Key, Lane, LaneAsk, ListKey, Query, RECORD_FORMAT, Record, StateStore as _,
    },
};
use capomastro_store_sqlite::{
    SqliteStore,
    rusqlite::{Connection, params},
};
use std::{path::Path, time::Duration};

struct Place {
    store: SqliteStore,
    file: Connection,
    /// Waits for the store's own threads.
    runtime: tokio::runtime::Runtime,
    _root: tempfile::TempDir,
}

thread_local! {
    static PLACE: Place = {
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let path = root.path().join("store.sqlite3");
        let store = SqliteStore::builder(&path).readers(1).open().unwrap();
        let file = Connection::open(&path).unwrap();
        file.execute_batch("PRAGMA synchronous = OFF; PRAGMA busy_timeout = 10000").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Place { store, file, runtime, _root: root }
    };
}

/// One line `record <key> <format>`, `event <format>` or `due <task> <format>`, then the text of the row, then, for due
/// work, the lane.
pub fn stored_records(data: &[u8]) -> bool {
    if data.windows(SECRET.len()).any(|w| w == SECRET.as_bytes()) {
        // Damage is shown by what it is, and no secret is stored.
        return false;
    }
    let parts = parts(data);
    let head = String::from_utf8_lossy(parts[0]).into_owned();
    let mut words = head.split_whitespace();
    let (kind, text) = (words.next().unwrap_or("record"), parts.get(1).copied().unwrap_or_default());
    let mut name = String::new();
    if kind != "event" {
        words.next().unwrap_or_default().clone_into(&mut name);
    }
    let format = words.next().and_then(|w| w.parse().ok()).unwrap_or(1_i64);
    PLACE.with(|place| match kind {
        "event" => place.event(format, text),
        "due" => place.due(&name, format, text, parts.get(2).copied().unwrap_or(b"house")),
        _ => place.record(&name, format, text),
    })
}

impl Place {
    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    fn execute(&self, sql: &str, values: impl capomastro_store_sqlite::rusqlite::Params) {
        self.file.prepare_cached(sql).unwrap().execute(values).unwrap();
    }

    fn record(&self, name: &str, format: i64, data: &[u8]) -> bool {
        let Some(key) = key_of(name) else { return false };
        let row = "INSERT INTO capomastro_records (key, version, format, kind, places, data) \
                   VALUES (?1, 7, ?2, 'x', '[]', CAST(?3 AS TEXT))";
        self.execute(row, params![name, format, data]);
        let list = "INSERT INTO capomastro_lists (list, sort, key) VALUES (?1, 'a', ?2)";
        self.execute(list, params![ListKey::dependencies().as_str(), name]);
        let got = self.wait(self.store.get(&[key])).map(|s| s.records.into_iter().next().flatten());
        let query = Query::List { list: ListKey::dependencies(), backwards: false };
        let listed = self.wait(self.store.list(&query, None, 10));
        self.execute("DELETE FROM capomastro_lists", []);
        self.execute("DELETE FROM capomastro_records", []);
        let Some(found) = judged(got, format) else {
            assert!(listed.is_err(), "damage is seen by whoever reads it");
            return false;
        };
        let found = found.expect("the row is there");
        assert_eq!((found.version, found.record.key().to_string().as_str()), (7, name));
        assert_eq!(listed.unwrap().items, std::slice::from_ref(&found));
        let again: Record = serde_json::from_str(&serde_json::to_string(&found.record).unwrap()).unwrap();
        assert_eq!(again, found.record, "what is written is what was read");
        drop((found.record.unique(), found.record.lists()));
        rules::over(found.record);
        true
    }

    fn event(&self, format: i64, data: &[u8]) -> bool {
        let row = "INSERT INTO capomastro_events (at, format, data) VALUES (1, ?1, CAST(?2 AS TEXT))";
        self.execute(row, params![format, data]);
        let after = self.file.last_insert_rowid() - 1;
        let after = u64::try_from(after).unwrap();
        let got = self.wait(self.store.events(EventFilter::All, after, 10));
        self.execute("DELETE FROM capomastro_events", []);
        judged(got, format).is_some_and(|page| page.items.len() == 1)
    }

    fn due(&self, task: &str, format: i64, note: &[u8], lane: &[u8]) -> bool {
        let row = "INSERT OR REPLACE INTO capomastro_due (task, rank, lane, due_at, ticket, note, format) \
                   VALUES (?1, 10, CAST(?2 AS TEXT), 1, 3, CAST(?3 AS TEXT), ?4)";
        self.execute(row, params![task, lane, note, format]);
        let lanes = vec![LaneAsk { lane: Lane::House, limit: 10, lease: Duration::from_secs(60) }];
        let ask = ClaimAsk { lanes, holder: "test".parse().unwrap() };
        let claimed = self.wait(self.store.claim_due(&ask));
        let read = task.parse().map(|task| self.wait(self.store.get(&[Key::Due(task)])));
        self.execute("DELETE FROM capomastro_due", []);
        if let Ok(Err(error)) = read {
            is_decent(&error);
        }
        match claimed {
            Ok(claimed) => {
                let is_newer = format > i64::from(RECORD_FORMAT);
                assert!(!is_newer || claimed.claims.is_empty(), "what is newer is left to who knows it");
                claimed.claims.iter().any(|c| c.task.to_string() == task)
            }
            Err(error) => {
                is_decent(&error);
                false
            }
        }
    }
}

/// What could be read; what could not is said to be damaged or newer, as the format tells.
fn judged<T>(got: Result<T>, format: i64) -> Option<T> {
    let is_newer = format > i64::from(RECORD_FORMAT);
    match got {
        Ok(got) => {
            assert!(!is_newer, "what is newer is not guessed at");
            Some(got)
        }
        Err(error) => {
            is_decent(&error);
            // What is not even text is damaged, whoever wrote it.
            let may = [Some(ErrorKind::Corrupt), is_newer.then_some(ErrorKind::NewerFormat)];
            assert!(may.contains(&Some(error.kind())), "{}", error.report());
            let is_text = !error.report().contains("utf-8");
            assert!(!is_newer || !is_text || error.kind() == ErrorKind::NewerFormat, "{}", error.report());
            None
        }
    }
}

fn key_of(name: &str) -> Option<Key> {
    let (kind, id) = name.split_once('/')?;
    Some(match kind {
        "dependency" => Key::Dependency(id.parse::<DependencyId>().ok()?),
        "state" => Key::State(id.parse::<DependencyId>().ok()?),
        "build" => Key::Build(id.parse::<BuildId>().ok()?),
        "project" => Key::Project(id.parse::<ProjectId>().ok()?),
        "project-build" => Key::ProjectBuild(id.parse::<ProjectBuildId>().ok()?),
        "receipt" => Key::Receipt(id.parse::<ReceiptId>().ok()?),
        _ => return None,
    })
    .filter(|key: &Key| key.to_string() == name)
}
