//! Files that are no store, or not any more.

use crate::samples::{large, limit_key, open, put, says_what_to_do, wait};
use capomastro_core::{
    Error, ErrorKind, Retry,
    store::{Key, StateStore},
};
use capomastro_store_sqlite::{SqliteStore, rusqlite::Connection};
use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

fn refused(path: &Path) -> Error {
    let e = SqliteStore::builder(path).open().expect_err("no store");
    says_what_to_do(&e);
    assert!(e.to_string().contains(&path.display().to_string()), "{e}");
    e
}

#[test]
fn a_text_file_is_no_store_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    let text = "not a database, but longer than the header of one would be. ".repeat(20);
    fs::write(&path, &text).unwrap();
    assert_eq!(refused(&path).kind(), ErrorKind::Corrupt);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn the_database_of_another_program_is_refused_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("theirs.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
    let before = fs::read(&path).unwrap();
    assert_eq!(refused(&path).kind(), ErrorKind::InvalidConfig);
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn an_empty_file_becomes_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("empty.db");
    fs::write(&path, "").unwrap();
    wait(open(&path).check()).unwrap();
}

#[test]
fn a_newer_schema_is_refused_when_opened_and_by_a_store_that_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = open(&path);
    wait(store.commit(&put(large("a", 1), None))).unwrap();
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 1000").unwrap();
    for e in [
        wait(store.commit(&put(large("b", 1), None))).unwrap_err(),
        wait(store.check()).unwrap_err(),
        refused(&path),
    ] {
        assert_eq!(e.kind(), ErrorKind::NewerFormat, "{e}");
        says_what_to_do(&e);
    }
}

#[test]
fn damaged_pages_are_reported_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = open(&path);
    let keys: Vec<Key> = (0..50).map(|n| limit_key(&format!("{n}"))).collect();
    for n in 0..50 {
        wait(store.commit(&put(large(&format!("{n}"), 3_000), None))).unwrap();
    }
    wait(store.close());
    let mut bytes = fs::read(&path).unwrap();
    assert!(bytes.len() > 40 * 4_096, "everything is in the file itself: {}", bytes.len());
    for byte in bytes.iter_mut().skip(8 * 4_096) {
        *byte = 0xa5;
    }
    fs::write(&path, bytes).unwrap();
    let e = match SqliteStore::builder(&path).open() {
        Ok(store) => wait(store.get(&keys)).expect_err("damage"),
        Err(e) => e,
    };
    assert_eq!(e.kind(), ErrorKind::Corrupt, "{e:?}");
    assert_eq!(e.retry(), Retry::Never);
    says_what_to_do(&e);
}

#[test]
fn a_damaged_record_is_reported_by_its_key_and_the_others_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = open(&path);
    for name in ["good", "bad"] {
        wait(store.commit(&put(large(name, 1), None))).unwrap();
    }
    let sql = "UPDATE capomastro_records SET data = '{\"limit\":' WHERE key = 'limit/bad'";
    assert_eq!(Connection::open(&path).unwrap().execute(sql, []).unwrap(), 1);
    let e = wait(store.get(&[limit_key("bad")])).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt);
    assert!(e.to_string().contains("limit/bad"), "{e}");
    says_what_to_do(&e);
    assert!(wait(store.get(&[limit_key("good")])).unwrap().records[0].is_some());
}

#[test]
fn a_file_that_is_deleted_or_replaced_while_open_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = open(&path);
    wait(store.check()).unwrap();
    fs::rename(&path, dir.path().join("b.db")).unwrap();
    for _ in 0..2 {
        let e = wait(store.check()).unwrap_err();
        assert_eq!((e.kind(), e.retry()), (ErrorKind::Unavailable, Retry::Never), "{e}");
        says_what_to_do(&e);
        fs::write(&path, "another one").unwrap();
    }
}

#[test]
fn a_store_that_was_closed_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("a.db"));
    wait(store.close());
    wait(store.close());
    for e in [
        wait(store.check()).unwrap_err(),
        wait(store.get(&[])).unwrap_err(),
        wait(store.commit(&put(large("a", 1), None))).unwrap_err(),
    ] {
        assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
        assert!(e.message().contains("open it again"), "{e}");
    }
    assert!(!dir.path().join("a.db-wal").exists(), "a closed store leaves one file");
}

/// The user to whom the permissions below apply; for root none do.
const NOBODY: u32 = 65_534;

#[test]
fn files_and_folders_that_cannot_be_written_are_read_only() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let made = |name: &str, file_mode: Option<u32>, folder_mode: u32| {
        let folder = root.join(name);
        fs::create_dir(&folder).unwrap();
        if let Some(mode) = file_mode {
            wait(open(&folder.join("a.db")).close());
            fs::set_permissions(folder.join("a.db"), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(folder_mode)).unwrap();
    };
    made("file", Some(0o444), 0o755);
    made("both", Some(0o444), 0o555);
    made("folder", Some(0o666), 0o555);
    made("missing", None, 0o555);
    made("secret", Some(0o000), 0o755);
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();

    // A copy, since the user may not enter the folder where this program is.
    let program = root.join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut child = Command::new(program);
    child.args(["--exact", "bad_files::opens_what_it_may_not_write", "--nocapture"]);
    child.env("CAPOMASTRO_TEST_READ_ONLY", root).current_dir(root).stdout(Stdio::piped());
    if rustix::process::getuid().is_root() {
        child.uid(NOBODY).gid(NOBODY);
    }
    let output = child.spawn().unwrap().wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("is read-only").count(), 5, "{said}");
    // So that it can be removed.
    for name in ["both", "folder", "missing"] {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// Run by the test above, as a user who is not root.
#[test]
fn opens_what_it_may_not_write() {
    let Some(root) = std::env::var_os("CAPOMASTRO_TEST_READ_ONLY") else { return };
    for name in ["file", "both", "folder", "missing", "secret"] {
        let e = refused(&Path::new(&root).join(name).join("a.db"));
        assert_eq!((e.kind(), e.retry()), (ErrorKind::ReadOnly, Retry::Never), "{name}: {e:?}");
        println!("{name} is read-only");
    }
}
