//! Schedulers that are killed.

use crate::support::{Memos, end, eventually, kill, launch, launcher, lives, new_build, pid_in, request_of};
use capomastro_core::{
    launch::{BuildLauncher as _, Found, Launched, Outcome},
    model::BuildId,
    time::{Clock as _, SystemClock},
};
use capomastro_process::CommandJob;
use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

const ROOT: &str = "CAPOMASTRO_TEST_ROOT";
const BUILD: &str = "CAPOMASTRO_TEST_BUILD";

/// Says its start, waits for a word, ends well.
fn job(root: &Path) -> CommandJob {
    CommandJob::script(
        "echo \"$CAPOMASTRO_BUILD_ID\" >>\"$ROOT/starts\"\n\
         echo $$ >\"$ROOT/pid\"\n\
         until [ -e \"$ROOT/go\" ]; do sleep 0.05; done\n\
         echo done",
    )
    .env("ROOT", root.to_str().unwrap())
}

/// Launches. As the scheduler that the other tests of this file kill, it is given a folder and stays.
#[tokio::test]
async fn a_scheduler_launches_its_build() {
    let own = tempfile::tempdir().unwrap();
    let told = std::env::var(ROOT).ok();
    let root = told.as_ref().map_or(own.path(), Path::new);
    let build = std::env::var(BUILD).map_or_else(|_| new_build(), |b| b.parse().unwrap());
    let l = launcher(root);
    let r = request_of(build, &job(root));
    let Launched::Accepted(reference) = l.launch(&r, &Memos::default()).await.unwrap() else {
        panic!("the launch is accepted")
    };
    std::fs::write(root.join("accepted"), "").unwrap();
    if told.is_some() {
        std::future::pending::<()>().await;
    }
    std::fs::write(root.join("go"), "").unwrap();
    assert_eq!(end(&l, &reference).await.outcome, Outcome::Succeeded);
}

fn start_scheduler(root: &Path, build: BuildId) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crashing::a_scheduler_launches_its_build", "--nocapture"])
        .env(ROOT, root)
        .env(BUILD, build.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a_build_outlives_its_killed_scheduler_and_is_adopted() {
    let d = tempfile::tempdir().unwrap();
    let build = new_build();
    let mut scheduler = start_scheduler(d.path(), build);
    eventually("the launch", || d.path().join("accepted").exists().then_some(())).await;
    scheduler.kill().unwrap();
    scheduler.wait().unwrap();
    let pid = pid_in(&d.path().join("pid")).await;
    assert!(lives(pid));

    let l = launcher(d.path());
    let r = request_of(build, &job(d.path()));
    let Found::Build(reference) = l.find(&r).await.unwrap() else { panic!("not found") };
    assert_eq!(launch(&l, &r).await, reference);
    std::fs::write(d.path().join("go"), "").unwrap();
    assert_eq!(end(&l, &reference).await.outcome, Outcome::Succeeded);
    assert_eq!(crate::support::log(&l, &reference).await, "done\n");
    assert_eq!(std::fs::read_to_string(d.path().join("starts")).unwrap().lines().count(), 1);
}

/// Kills schedulers at points spread over the whole of a launch, each followed by another launch of the same key.
#[tokio::test]
async fn wherever_schedulers_are_killed_each_key_starts_once() {
    // How long an undisturbed launch takes here.
    let d = tempfile::tempdir().unwrap();
    let begun = SystemClock.monotonic();
    let mut scheduler = start_scheduler(d.path(), new_build());
    eventually("the launch", || d.path().join("accepted").exists().then_some(())).await;
    let whole = SystemClock.monotonic().0.saturating_sub(begun.0) + Duration::from_millis(10);
    scheduler.kill().unwrap();
    scheduler.wait().unwrap();
    std::fs::write(d.path().join("go"), "").unwrap();

    let (mut before, mut after) = (0, 0);
    for round in 0..24_u32 {
        let d = tempfile::tempdir().unwrap();
        let build = new_build();
        let r = request_of(build, &job(d.path()));
        std::fs::write(d.path().join("go"), "").unwrap();
        let mut scheduler = start_scheduler(d.path(), build);
        SystemClock.sleep(whole * (round + 1) / 24).await;
        scheduler.kill().unwrap();
        scheduler.wait().unwrap();
        match launcher(d.path()).find(&r).await.unwrap() {
            Found::Absent => before += 1,
            _ => after += 1,
        }
        let l = launcher(d.path());
        let reference = launch(&l, &r).await;
        let ended = end(&l, &reference).await;
        assert_eq!(ended.outcome, Outcome::Succeeded, "round {round}: {ended:?}");
        let starts = std::fs::read_to_string(d.path().join("starts")).unwrap();
        assert_eq!(starts, format!("{}\n", r.key), "round {round}");
    }
    assert!(before > 0 && after > 0, "kills on both sides of the start: {before} before, {after} after");
}

/// As above, but kills whatever process of the launch it meets: scheduler, supervisor, the build's first process.
#[tokio::test]
async fn whoever_is_killed_each_key_starts_at_most_once() {
    for round in 0..20_u32 {
        let d = tempfile::tempdir().unwrap();
        let build = new_build();
        let r = request_of(build, &job(d.path()));
        std::fs::write(d.path().join("go"), "").unwrap();
        let l = launcher(d.path());
        let launching = {
            let (l, r) = (l.clone(), r.clone());
            tokio::spawn(async move { l.launch(&r, &Memos::default()).await })
        };
        let here = d.path().join("builds").join(r.key.to_string());
        let mark = here.to_str().unwrap().to_owned();
        let victims = eventually("a process", || {
            let found = crate::support::processes(&mark);
            (!found.is_empty() || launching.is_finished()).then_some(found)
        })
        .await;
        SystemClock.sleep(Duration::from_micros(400) * round).await;
        for pid in victims.into_iter().chain(crate::support::processes(&mark)) {
            kill(pid);
        }
        drop(launching.await.unwrap());
        let reference = launch(&l, &r).await;
        end(&l, &reference).await;
        let starts = std::fs::read_to_string(d.path().join("starts")).unwrap_or_default();
        assert!(starts.lines().count() <= 1, "round {round}: {starts}");
    }
}
