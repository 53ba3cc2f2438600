//! Schedulers and supervisors that are killed, and machines that are restarted.

use crate::{
    builds::{
        self, Forgets, end, groups, kill, launch, launcher, log, new_build, pids, request, request_of, script,
    },
    support::{eventually, folder, there_are_containers},
};
use capomastro_core::{
    launch::{BuildLauncher as _, Found, Launched, Outcome},
    model::BuildId,
    time::{Clock as _, SystemClock},
};
use capomastro_lxc::LxcJob;
use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

const ROOT: &str = "CAPOMASTRO_TEST_LXC_ROOT";
const BUILD: &str = "CAPOMASTRO_TEST_LXC_BUILD";

/// Says its start where the test sees it, waits for a word, ends well.
fn job() -> LxcJob {
    script(
        "cat /proc/sys/kernel/random/uuid >>starts\n\
         until [ -e go ]; do sleep 0.02; done\n\
         echo done",
    )
}

fn workspace(at: &Path, build: BuildId) -> std::path::PathBuf {
    let key = capomastro_core::model::LaunchKey::of(build);
    at.join("builds").join(key.to_string()).join("workspace")
}

fn starts(at: &Path, build: BuildId) -> usize {
    fs::read_to_string(workspace(at, build).join("starts")).unwrap_or_default().lines().count()
}

/// Launches. As the scheduler that the other tests of this file kill, it is given a folder and stays.
#[tokio::test]
async fn a_scheduler_launches_its_build() {
    let told = std::env::var_os(ROOT);
    if told.is_none() && !there_are_containers() {
        return;
    }
    let own = folder();
    let at = told.as_ref().map_or(own.path(), Path::new);
    let build = std::env::var(BUILD).map_or_else(|_| new_build(), |b| b.parse().unwrap());
    let l = launcher(at);
    let Launched::Accepted(reference) = l.launch(&request_of(build, &job()), &Forgets).await.unwrap() else {
        panic!("the launch is accepted")
    };
    fs::write(at.join("accepted"), "").unwrap();
    if told.is_some() {
        std::future::pending::<()>().await;
    }
    fs::write(workspace(at, build).join("go"), "").unwrap();
    assert_eq!(end(&l, &reference).await.outcome, Outcome::Succeeded);
}

fn start_scheduler(at: &Path, build: BuildId) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crashing::a_scheduler_launches_its_build", "--nocapture"])
        .env(ROOT, at)
        .env(BUILD, build.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a_build_outlives_its_killed_scheduler_and_is_adopted() {
    if !there_are_containers() {
        return;
    }
    let (at, build) = (folder(), new_build());
    let mut scheduler = start_scheduler(at.path(), build);
    eventually("the build runs", || (starts(at.path(), build) > 0).then_some(())).await;
    eventually("the launch", || at.path().join("accepted").exists().then_some(())).await;
    scheduler.kill().unwrap();
    scheduler.wait().unwrap();

    let (l, r) = (launcher(at.path()), request_of(build, &job()));
    let Found::Build(reference) = l.find(&r).await.unwrap() else { panic!("not found") };
    assert_eq!(launch(&l, &r).await, reference);
    fs::write(workspace(at.path(), build).join("go"), "").unwrap();
    assert_eq!(end(&l, &reference).await.outcome, Outcome::Succeeded);
    assert_eq!(log(&l, &reference).await, "done\n");
    assert_eq!(starts(at.path(), build), 1);
    assert_eq!(groups(r.key), Vec::<String>::new());
}

/// Kills schedulers at points spread over the whole of a launch, each followed by another launch of the same key.
#[tokio::test]
async fn wherever_schedulers_are_killed_each_key_starts_once() {
    if !there_are_containers() {
        return;
    }
    // How long an undisturbed launch takes here.
    let at = folder();
    let begun = SystemClock.monotonic();
    let first = new_build();
    let mut scheduler = start_scheduler(at.path(), first);
    eventually("the launch", || at.path().join("accepted").exists().then_some(())).await;
    let whole = SystemClock.monotonic().0.saturating_sub(begun.0) + Duration::from_millis(10);
    scheduler.kill().unwrap();
    scheduler.wait().unwrap();
    fs::write(workspace(at.path(), first).join("go"), "").unwrap();

    let (mut before, mut after) = (0, 0);
    for round in 0..16_u32 {
        let (at, build) = (folder(), new_build());
        let r = request_of(build, &job());
        let mut scheduler = start_scheduler(at.path(), build);
        SystemClock.sleep(whole * (round + 1) / 16).await;
        scheduler.kill().unwrap();
        scheduler.wait().unwrap();
        let l = launcher(at.path());
        match l.find(&r).await.unwrap() {
            Found::Absent => before += 1,
            _ => after += 1,
        }
        let reference = launch(&l, &r).await;
        fs::write(workspace(at.path(), build).join("go"), "").unwrap();
        let ended = end(&l, &reference).await;
        assert_eq!(ended.outcome, Outcome::Succeeded, "round {round}: {ended:?}");
        assert_eq!(starts(at.path(), build), 1, "round {round}");
        assert_eq!(groups(r.key), Vec::<String>::new());
    }
    assert!(before > 0 && after > 0, "kills on both sides of the start: {before} before, {after} after");
}

/// Kills whatever process of the launch it meets: supervisor, companion, the one that holds the container, its init.
#[tokio::test]
async fn whoever_is_killed_each_key_starts_at_most_once_and_nothing_is_left() {
    if !there_are_containers() {
        return;
    }
    for round in 0..16_u32 {
        let (at, build) = (folder(), new_build());
        let r = request_of(build, &job());
        let l = launcher(at.path());
        let launching = {
            let (l, r) = (l.clone(), r.clone());
            tokio::spawn(async move { l.launch(&r, &Forgets).await })
        };
        let mark = at.path().join("builds").join(r.key.to_string());
        let mark = mark.to_str().unwrap();
        let victims = eventually("a process", || {
            let found = pids(mark);
            (!found.is_empty() || launching.is_finished()).then_some(found)
        })
        .await;
        SystemClock.sleep(Duration::from_millis(4) * round).await;
        for pid in victims.into_iter().chain(pids(mark)) {
            kill(pid);
        }
        drop(launching.await.unwrap());
        let reference = launch(&l, &r).await;
        fs::write(workspace(at.path(), build).join("go"), "").unwrap();
        end(&l, &reference).await;
        assert!(starts(at.path(), build) <= 1, "round {round}");
        assert_eq!(groups(r.key), Vec::<String>::new(), "round {round}");
        eventually("nothing is left", || pids(mark).is_empty().then_some(())).await;
    }
}

#[tokio::test]
async fn a_container_ends_with_its_supervisor() {
    let Some((l, at)) = builds::new() else { return };
    let mark = "capomastro-unsupervised-6120";
    let r = request(&script(&format!("touch ready; sh -c 'sleep 1000; : {mark}'")));
    let reference = launch(&l, &r).await;
    let here = at.path().join("builds").join(r.key.to_string());
    eventually("it runs", || here.join("workspace/ready").exists().then_some(())).await;
    let supervisors = pids("capomastro-supervisor");
    let supervisor = supervisors.into_iter().find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(here.to_str().unwrap())
    });
    kill(supervisor.unwrap());
    let ended = end(&l, &reference).await;
    assert_eq!(ended.outcome, Outcome::Failed, "{ended:?}");
    assert_eq!(pids(mark), Vec::<i32>::new());
    assert_eq!(groups(r.key), Vec::<String>::new());
}

/// A restart of the machine, as it is found afterwards: nothing runs, and the record names another boot.
#[tokio::test]
async fn a_build_of_an_earlier_boot_is_lost() {
    let Some((l, at)) = builds::new() else { return };
    let r = request(&job());
    let reference = launch(&l, &r).await;
    let here = at.path().join("builds").join(r.key.to_string());
    eventually("it runs", || here.join("workspace/starts").exists().then_some(())).await;
    let started = fs::read_to_string(here.join("started")).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    fs::write(here.join("started"), started.replace(boot.trim(), "another")).unwrap();
    for pid in pids(here.to_str().unwrap()) {
        kill(pid);
    }
    eventually("nothing runs", || pids(here.to_str().unwrap()).is_empty().then_some(())).await;
    let ended = end(&l, &reference).await;
    assert_eq!(ended.outcome, Outcome::Lost, "{ended:?}");
    assert!(ended.message.unwrap().contains("restarted"));
    assert_eq!(launch(&l, &r).await, reference, "it is not started again");
    assert_eq!(groups(r.key), Vec::<String>::new());
}
