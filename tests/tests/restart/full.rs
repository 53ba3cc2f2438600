//! The whole chain on a disk without room.

use crate::{
    kept::database,
    process::Process,
    walked::LEASES,
    world::{Kind, World, eventually},
};
use capomastro_core::{Error, ErrorKind, Retry, scheduler::TriggerRequest, why::WhyNotBuilding};
use capomastro_store_sqlite::SqliteStore;
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

/// A small file system, as long as this lives.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path, size: &str) -> Option<Self> {
        let options = format!("size={size},mode=755");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
        let disk = done.is_ok_and(|o| o.status.success()).then(|| Self(at.to_owned()));
        if disk.is_none() {
            assert!(
                std::env::var_os("CI").is_none(),
                "CI must run this as root, so that it can mount a small disk"
            );
            eprintln!("SKIP: no small disk can be mounted here; run as root to test a full disk");
        }
        disk
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[0; 4_096]).is_ok() {}
        while file.write_all(&[0; 16]).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

/// A world of which this folder is on a small disk.
async fn world_on(folder: &str, size: &str) -> Option<(World, Disk)> {
    let mut disk = None;
    let kind = Kind { is_hurried: true, ..Kind::default() };
    let world = World::within(kind, &["a", "b"], |root| {
        let at = root.join(folder);
        std::fs::create_dir_all(&at).unwrap();
        disk = Disk::mount(&at, size);
    })
    .await;
    Some((world, disk?))
}

async fn end(world: World, disk: Disk) {
    world.check().await;
    world.store.close().await;
    drop(disk);
    drop(world);
}

fn tells_of_room(e: &Error) {
    assert_eq!((e.kind(), e.retry()), (ErrorKind::StorageFull, Retry::Backoff), "{e:?}");
    assert!(e.message().contains("free some"), "{e}");
}

#[tokio::test]
async fn a_store_on_a_full_disk_loses_nothing_and_goes_on_when_there_is_room() {
    let Some((world, disk)) = world_on("store", "3m").await else { return };
    let mut scheduler = Process::start(&world, "first");
    world.until_settled("the first builds").await;
    for round in 0..4 {
        disk.fill();
        // What still has room in the log that is there is accepted; in the end nothing is.
        let mut pushed = 0;
        let refused = loop {
            assert!(pushed < 2_000, "the disk is full at last");
            world.commit(["a", "b"][pushed % 2]);
            match world.scheduler.trigger("a", TriggerRequest::push()).await {
                Ok(_) => pushed += 1,
                Err(e) => break e,
            }
        };
        tells_of_room(&refused);
        world.scheduler.status("a").await.expect("reading goes on");
        world.advance(LEASES);
        match SqliteStore::builder(database(world.root())).open() {
            Ok(store) => store.close().await,
            Err(e) => tells_of_room(&e),
        }
        assert!(!scheduler.has_died(), "a scheduler that cannot write goes on trying");
        if round % 2 == 1 {
            scheduler.kill();
            disk.free();
            world.advance(LEASES);
            scheduler = Process::start(&world, "next");
        } else {
            disk.free();
        }
        world.until_settled("what came while the disk was full").await;
    }
    scheduler.stop().await;
    end(world, disk).await;
}

#[tokio::test]
async fn builds_on_a_full_disk_wait_and_start_once_when_there_is_room() {
    let Some((world, disk)) = world_on("builds", "1m").await else { return };
    let mut scheduler = Process::start(&world, "first");
    world.until_settled("the first builds").await;
    for round in 0..3 {
        disk.fill();
        let before = world.starts().len();
        world.commit("a");
        world.push("a").await;
        let waits_for_room = async || {
            world.advance(4);
            let status = world.scheduler.status("a").await.unwrap();
            match status.why {
                WhyNotBuilding::Building { waits_for: Some(what), .. } => {
                    what.contains("make room on the disk")
                }
                _ => false,
            }
        };
        eventually("a build that waits for room, and says so", waits_for_room).await;
        assert_eq!(world.starts().len(), before, "nothing starts without room");
        assert!(!scheduler.has_died());
        if round == 1 {
            scheduler.kill();
            world.advance(LEASES);
            scheduler = Process::start(&world, "next");
        }
        disk.free();
        world.until_settled("what waited for room").await;
        assert_eq!(world.starts().len(), before + 1);
    }
    scheduler.stop().await;
    end(world, disk).await;
}
