//! An installation in the middle of its work is moved to another store, and its schedulers go on there.
#![allow(clippy::unwrap_used, reason = "tests")]

use capomastro_core::{
    launch::Outcome,
    model::{Phase, Policy},
    scheduler::WholeBuildRequest,
    store::{
        StateStore,
        transfer::{Afterwards, transfer},
    },
};
use capomastro_store_sqlite::SqliteStore;
use capomastro_testkit::{ControllableLauncher, ManualClock, ScriptedProbe, SeededRandom};
use capomastro_tests::{Stage, revision};
use std::{path::Path, sync::Arc, time::Duration};

fn open(path: &Path, clock: &ManualClock) -> Arc<SqliteStore> {
    Arc::new(SqliteStore::builder(path).clock(Arc::new(clock.clone())).open().unwrap())
}

#[tokio::test]
async fn schedulers_go_on_in_the_new_store_where_they_stopped_in_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old.db"), folder.path().join("new.db"));
    let clock = ManualClock::new();
    let launcher = ControllableLauncher::accepting();
    let store = open(&old, &clock);
    let stage = Stage::over(
        Arc::clone(&store) as Arc<dyn StateStore>,
        clock.clone(),
        ScriptedProbe::new(),
        launcher,
        |b| b.overall_limit(5),
    );
    for name in ["engine", "wheel"] {
        stage.probe.set(name, "r1");
        stage.define(name, &["car"], Policy::default()).await;
    }
    stage.settle().await;
    for name in ["engine", "wheel"] {
        stage.launcher.last_of(name).start();
        stage.pass_until_phase(60, name, Phase::Running).await;
    }
    for build in stage.launcher.builds_of("wheel") {
        build.finish(Outcome::Succeeded);
    }
    stage.pass_until_phase(60, "wheel", Phase::Succeeded).await;
    stage.scheduler.build_project("car", &WholeBuildRequest::all()).await.unwrap();
    // The engine is still being built, and somebody has asked for more.
    let running = stage.last_build("engine").await;
    assert_eq!(running.phase, Phase::Running);
    stage.build_now("engine", "r9").await;
    let (before, events) = (stage.status("engine").await, stage.events("engine").await);
    let wheel = stage.builds("wheel").await;

    // The process is killed while it holds claims.
    let Stage { probe, launcher, store: shared, scheduler, .. } = stage;
    drop((shared, scheduler));
    store.close().await;
    drop(store);
    let source = SqliteStore::builder(&old).open_source().unwrap();
    let target = SqliteStore::builder(&new).open_target().unwrap();
    let report = transfer(&source, &target, Afterwards::RetireSource).await.unwrap();
    assert!(report.contents.events.count > 5 && report.contents.records.count > 8, "{report}");
    source.close().await;
    target.close().await;

    let stage = Stage::over(open(&new, &clock), clock.clone(), probe, launcher, |b| {
        b.overall_limit(5).random(Arc::new(SeededRandom::new(8)))
    });
    assert_eq!(stage.status("engine").await.state, before.state);
    assert_eq!(stage.events("engine").await, events);
    assert_eq!(stage.builds("wheel").await, wheel);
    clock.advance(Duration::from_secs(20));
    for build in stage.launcher.builds_of("engine") {
        build.finish(Outcome::Succeeded);
    }
    stage.pass_until(60, async |s| s.builds("engine").await.len() == 2).await;
    let builds = stage.builds("engine").await;
    assert_eq!((builds[0].id, builds[0].phase), (running.id, Phase::Succeeded), "it was followed to its end");
    assert_eq!((builds[1].number, &builds[1].revision), (running.number + 1, &revision("r9")));
    assert_eq!(stage.built("engine"), ["r1", "r9"], "nothing was launched twice");
}
