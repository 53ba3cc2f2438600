//! A copy that is put back, beside a build system that went on.
#![allow(clippy::unwrap_used, reason = "tests")]

use capomastro_core::{
    launch::Outcome,
    model::{Phase, Policy},
};
use capomastro_store_sqlite::SqliteStore;
use capomastro_testkit::{ControllableLauncher, ManualClock, ScriptedProbe, fakes::LaunchAnswer};
use capomastro_tests::{Stage, timeouts};
use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

fn open(path: &Path, clock: &ManualClock) -> Arc<SqliteStore> {
    Arc::new(SqliteStore::builder(path).clock(Arc::new(clock.clone())).open().unwrap())
}

#[tokio::test]
async fn a_restored_copy_follows_what_runs_and_builds_once_more_what_it_does_not_know() {
    let dir = tempfile::tempdir().unwrap();
    let (file, copy) = (dir.path().join("a.db"), dir.path().join("copy.db"));
    let (clock, probe, launcher) =
        (ManualClock::new(), ScriptedProbe::new(), ControllableLauncher::accepting());
    let store = open(&file, &clock);
    let s =
        Stage::over(Arc::<SqliteStore>::clone(&store), clock.clone(), probe.clone(), launcher.clone(), |b| b);
    for name in ["still", "changed", "running", "forgotten"] {
        s.begin(name, timeouts(|t| t.lost_after = Duration::from_secs(300))).await;
    }
    for name in ["still", "changed"] {
        s.launcher.last_of(name).finish(Outcome::Succeeded);
    }
    s.pass(10).await;
    // Nobody knows yet whether the build system has it.
    s.launcher.answer_next(LaunchAnswer::LoseAnswer);
    s.begin("unanswered", Policy::default()).await;
    assert_eq!(s.phases("unanswered").await, [Phase::Launching]);

    store.backup_to(&copy).await.unwrap();

    s.probe.set("changed", "r2");
    s.pass(70).await;
    s.launcher.last_of("changed").finish(Outcome::Succeeded);
    s.launcher.last_of("running").finish(Outcome::Succeeded);
    s.pass(200).await;
    assert_eq!(s.phases("changed").await, [Phase::Succeeded; 2]);
    assert_eq!(s.phases("running").await, [Phase::Succeeded]);
    s.launcher.last_of("forgotten").vanish();
    let changed = s.builds("changed").await;
    let launcher = s.launcher.clone();
    drop(s);
    store.close().await;

    // The copy takes the place of the file and of what belongs to it.
    for end in ["", "-wal", "-shm"] {
        let old = dir.path().join(format!("a.db{end}"));
        if old.exists() {
            std::fs::rename(&old, dir.path().join(format!("old{end}"))).unwrap();
        }
    }
    std::fs::rename(&copy, &file).unwrap();
    let restored = Stage::over(open(&file, &clock), clock, probe, launcher, |b| b).another(8, |b| b);
    assert_eq!(restored.phases("changed").await, [Phase::Succeeded]);
    assert_eq!(restored.phases("running").await, [Phase::Submitted]);
    restored.pass(400).await;

    assert_eq!(restored.phases("running").await, [Phase::Succeeded], "it is followed to its end");
    assert_eq!(restored.phases("forgotten").await, [Phase::Lost]);
    assert_eq!(restored.phases("unanswered").await, [Phase::Submitted], "it is found by its key");
    restored.launcher.last_of("unanswered").finish(Outcome::Succeeded);
    restored.launcher.last_of("changed").finish(Outcome::Succeeded);
    restored.pass(60).await;
    assert_eq!(restored.phases("unanswered").await, [Phase::Succeeded]);
    for name in ["still", "running", "forgotten", "unanswered"] {
        assert_eq!(restored.built(name), ["r1"], "{name} is not built again");
    }

    assert_eq!(restored.built("changed"), ["r1", "r2", "r2"], "once more");
    let again = restored.builds("changed").await;
    let numbers: Vec<_> = again.iter().map(|b| b.number).collect();
    assert_eq!((numbers, again[1].number), (vec![1, 2], changed[1].number), "the number is given out again");
    let keys: BTreeSet<_> = [changed[1].key, again[0].key, again[1].key].into();
    assert_eq!(keys.len(), 3, "a number may come again, a key never does");
    assert_eq!(restored.state("changed").await.linked.unwrap().build, again[1].id);
    assert_eq!(restored.launcher.duplicates(), []);
}
