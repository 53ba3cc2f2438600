//! A disk that is full.

use crate::support::{Memos, end, eventually, launch, launcher, look, request};
use capomastro_core::{
    ErrorKind,
    launch::{BuildLauncher as _, Found, Outcome, Seen},
};
use capomastro_process::CommandJob;
use std::{io::Write as _, path::Path, process::Command};

const DISK: &str = "CAPOMASTRO_TEST_DISK";

/// Runs itself once more with a small disk of its own, which needs a mount namespace.
#[tokio::test]
async fn a_full_disk_starts_nothing_and_loses_nothing() {
    match std::env::var(DISK) {
        Ok(disk) => on_a_small_disk(Path::new(&disk)).await,
        Err(_) => in_a_namespace(),
    }
}

fn in_a_namespace() {
    let may = Command::new("unshare").args(["-rm", "true"]).output().is_ok_and(|o| o.status.success());
    if !may {
        assert!(std::env::var_os("CI").is_none(), "CI must allow unshare -rm");
        eprintln!("SKIPPED: a full disk (unshare -rm is not allowed here)");
        return;
    }
    let d = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=256k none \"$CAPOMASTRO_TEST_DISK\" && exec \"$0\" \"$@\"";
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "filling::a_full_disk_starts_nothing_and_loses_nothing", "--nocapture"])
        .env(DISK, d.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn fill(disk: &Path) {
    let mut file = std::fs::File::create(disk.join("fill")).unwrap();
    while file.write_all(&[0; 512]).is_ok() {}
}

async fn on_a_small_disk(disk: &Path) {
    let l = launcher(disk);

    // Full before the first launch, and before a later one.
    let r = request(&CommandJob::script("echo x >>\"$ROOT/marks\"").env("ROOT", disk.to_str().unwrap()));
    for _ in 0..2 {
        fill(disk);
        let e = l.launch(&r, &Memos::default()).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::StorageFull, "{e:?}");
        assert_eq!(l.find(&r).await.unwrap(), Found::Absent);
        std::fs::remove_file(disk.join("fill")).unwrap();
        let other = launch(&l, &request(&CommandJob::new(["true"]))).await;
        assert_eq!(end(&l, &other).await.outcome, Outcome::Succeeded);
    }
    let reference = launch(&l, &r).await;
    assert_eq!(end(&l, &reference).await.outcome, Outcome::Succeeded);
    assert_eq!(std::fs::read_to_string(disk.join("marks")).unwrap(), "x\n");

    // Filled by the build: the outcome waits for room.
    let script = "cat /dev/zero >\"$ROOT/fill\"; echo said; : >\"$ROOT/full\"; exit 3";
    let r = request(&CommandJob::script(script).env("ROOT", disk.to_str().unwrap()).unstable(3));
    let reference = launch(&l, &r).await;
    let draft = disk.join("builds").join(r.key.to_string()).join("status.new");
    eventually("the build to end", || draft.exists().then_some(())).await;
    assert_eq!(look(&l, &reference).await.unwrap(), Seen::Running);
    std::fs::remove_file(disk.join("fill")).unwrap();
    assert_eq!(end(&l, &reference).await.outcome, Outcome::Unstable);
}
