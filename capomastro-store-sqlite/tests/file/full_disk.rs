//! A disk without room.

use crate::samples::{large, limit_key, open, put, says_what_to_do, wait};
use capomastro_core::{ErrorKind, Retry, store::StateStore};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A small file system, as long as this lives.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Option<Self> {
        let done =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs"]).arg(at).output();
        done.is_ok_and(|o| o.status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

fn small_disk(at: &Path) -> Option<Disk> {
    let disk = Disk::mount(at);
    if disk.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must run this as root, so that it can mount a small disk"
        );
        eprintln!("SKIP: no small disk can be mounted here; run as root to test a full disk");
    }
    disk
}

#[test]
fn a_full_disk_loses_nothing_and_is_left_behind_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_disk) = small_disk(dir.path()) else { return };
    let filler = dir.path().join("filler");
    fs::write(&filler, vec![1; 300 << 10]).unwrap();
    let store = open(&dir.path().join("a.db"));
    let mut answered = Vec::new();
    let e = loop {
        assert!(answered.len() < 1_000, "the disk is full at last");
        let name = answered.len().to_string();
        match wait(store.commit(&put(large(&name, 8_000), None))) {
            Ok(_) => answered.push(limit_key(&name)),
            Err(e) => break e,
        }
    };
    assert_eq!((e.kind(), e.retry()), (ErrorKind::StorageFull, Retry::Backoff), "{e:?}");
    says_what_to_do(&e);
    assert!(answered.len() > 3, "{}", answered.len());
    let found = wait(store.get(&answered)).unwrap().records;
    assert!(found.iter().all(Option::is_some), "reading goes on");
    assert_eq!(wait(store.get(&[limit_key(&answered.len().to_string())])).unwrap().records, [None]);

    fs::remove_file(&filler).unwrap();
    wait(store.commit(&put(large("later", 8_000), None))).expect("a commit when there is room");
    wait(store.check()).unwrap();
    wait(store.close());
    let store = open(&dir.path().join("a.db"));
    assert!(
        wait(store.get(&answered)).unwrap().records.iter().all(Option::is_some),
        "after opening it again"
    );
}

#[test]
fn a_store_cannot_be_made_on_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_disk) = small_disk(dir.path()) else { return };
    // Fails when the disk is full, which is the purpose.
    fs::write(dir.path().join("filler"), vec![1; 2 << 20]).expect_err("a full disk");
    let e =
        capomastro_store_sqlite::SqliteStore::builder(dir.path().join("a.db")).open().expect_err("no store");
    assert_eq!(e.kind(), ErrorKind::StorageFull, "{e:?}");
    says_what_to_do(&e);
}

#[test]
fn a_disk_that_is_mounted_read_only_is_reported_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = small_disk(dir.path()) else { return };
    let path = dir.path().join("a.db");
    wait(open(&path).close());
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&disk.0).status().unwrap();
    assert!(remounted.success());
    for path in [path, dir.path().join("missing.db")] {
        let e = capomastro_store_sqlite::SqliteStore::builder(&path).open().expect_err("no store");
        assert_eq!(e.kind(), ErrorKind::ReadOnly, "{e:?}");
        says_what_to_do(&e);
    }
}
