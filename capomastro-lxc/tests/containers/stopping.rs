//! How builds are stopped, and what becomes of those whose container is ended from outside.

use crate::{
    builds::{self, end, groups, kill, launch, log, pids, request, script},
    support::eventually,
};
use capomastro_core::{
    launch::{BuildLauncher as _, Outcome, Seen},
    time::{Clock as _, SystemClock},
};
use std::{fs, time::Duration};

#[tokio::test]
async fn a_build_that_is_to_stop_may_take_its_time_and_all_of_it_is_told() {
    let Some((l, at)) = builds::new() else { return };
    let mut job = script(
        "(trap 'sleep 2; echo child >>told; exit' TERM; touch ready; while :; do sleep 0.05; done) &\n\
         trap 'sleep 2; echo parent >>told; cp told \"$CAPOMASTRO_ARTIFACTS\"; exit 5' TERM\n\
         until [ -e ready ]; do sleep 0.01; done; touch both; while :; do sleep 0.05; done",
    );
    job.command = job.command.grace(Duration::from_secs(20));
    let r = request(&job);
    let reference = launch(&l, &r).await;
    let workspace = at.path().join("builds").join(r.key.to_string()).join("workspace");
    eventually("both run", || workspace.join("both").exists().then_some(())).await;
    l.cancel(&r.key, &reference).await.unwrap();
    let ended = end(&l, &reference).await;
    assert_eq!(ended.outcome, Outcome::Cancelled, "{ended:?} {}", log(&l, &reference).await);
    assert!(ended.message.as_ref().unwrap().contains("status 5"), "{ended:?}");
    let mut told: Vec<_> =
        fs::read_to_string(workspace.join("told")).unwrap().lines().map(str::to_owned).collect();
    told.sort();
    assert_eq!(told, ["child", "parent"]);
    assert_eq!(ended.artifacts.len(), 1);
    assert_eq!(groups(r.key), Vec::<String>::new());
}

#[tokio::test]
async fn a_build_that_does_not_want_to_stop_is_killed_with_all_it_started() {
    let Some((l, at)) = builds::new() else { return };
    let mark = "capomastro-stubborn-7713";
    let mut job = script(&format!(
        "trap '' TERM; setsid sh -c 'sleep 1000; : {mark}' & touch ready; while :; do sleep 0.05; done"
    ));
    job.command = job.command.grace(Duration::from_secs(1));
    let r = request(&job);
    let reference = launch(&l, &r).await;
    let ready = at.path().join("builds").join(r.key.to_string()).join("workspace/ready");
    eventually("it runs", || ready.exists().then_some(())).await;
    l.cancel(&r.key, &reference).await.unwrap();
    let begun = SystemClock.monotonic();
    assert_eq!(end(&l, &reference).await.outcome, Outcome::Cancelled);
    let took = SystemClock.monotonic().0.saturating_sub(begun.0);
    assert!(took >= Duration::from_millis(900), "{took:?}");
    assert_eq!(pids(mark), Vec::<i32>::new());
    assert_eq!(groups(r.key), Vec::<String>::new());
}

/// The process of this machine that holds a build's container.
fn holder(key: &str) -> Option<i32> {
    let of = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "lxc-execute")
    };
    pids(key).into_iter().find(of)
}

#[tokio::test]
async fn a_container_that_is_killed_from_outside_is_a_failed_build() {
    let Some((l, at)) = builds::new() else { return };
    let mark = "capomastro-outside-5128";
    let r = request(&script(&format!("touch ready; sh -c 'sleep 1000; : {mark}'")));
    let reference = launch(&l, &r).await;
    let ready = at.path().join("builds").join(r.key.to_string()).join("workspace/ready");
    eventually("it runs", || ready.exists().then_some(())).await;
    kill(holder(&r.key.to_string()).unwrap());
    let ended = end(&l, &reference).await;
    assert_eq!(ended.outcome, Outcome::Failed, "{ended:?}");
    assert!(ended.message.as_ref().unwrap().contains("container was ended"), "{ended:?}");
    assert_eq!(pids(mark), Vec::<i32>::new());
    assert_eq!(groups(r.key), Vec::<String>::new());
}

/// It may end its container, or lie about its own end; never about another's, and never hold anybody up.
#[tokio::test]
async fn a_hostile_build_harms_itself_alone() {
    let Some((l, _at)) = builds::new() else { return };
    for (text, outcomes) in [
        ("kill -9 -1; kill -9 2; exit 0", &[Outcome::Failed][..]),
        ("rm -rf \"${CAPOMASTRO_BUILT_REVISION_FILE%/*}/end\"; kill -9 2", &[Outcome::Failed]),
        ("cd \"${CAPOMASTRO_BUILT_REVISION_FILE%/*}\"; rm end; mkdir end; exit 0", &[Outcome::Failed]),
        ("cd \"${CAPOMASTRO_BUILT_REVISION_FILE%/*}\"; rm end; mkfifo end; exit 0", &[Outcome::Failed]),
        ("cd \"${CAPOMASTRO_BUILT_REVISION_FILE%/*}\"; ln -sf /etc/passwd end; exit 0", &[Outcome::Failed]),
        ("echo 'end 0' >\"${CAPOMASTRO_BUILT_REVISION_FILE%/*}/end\"; exit 3", &[Outcome::Failed]),
        (": >\"${CAPOMASTRO_BUILT_REVISION_FILE%/*}/end\"; exit 0", &[Outcome::Succeeded]),
        ("kill -9 1; kill -TERM 1; exit 0", &[Outcome::Succeeded, Outcome::Failed]),
    ] {
        let (ended, said) = builds::build(&l, &script(text)).await;
        assert!(outcomes.contains(&ended.outcome), "{text}: {ended:?}\n{said}");
    }
}

#[tokio::test]
async fn builds_are_forgotten_and_swept_and_those_that_run_are_not() {
    let Some((l, at)) = builds::new() else { return };
    let r = request(&script("until [ -e go ]; do sleep 0.01; done"));
    let running = launch(&l, &r).await;
    let done = request(&script(":"));
    let reference = launch(&l, &done).await;
    end(&l, &reference).await;
    assert_eq!(l.sweep(Duration::ZERO).await.unwrap(), [done.key]);
    assert_eq!(builds::look(&l, &reference).await, Seen::Unknown);
    assert_eq!(l.forget(&[r.key]).await.unwrap(), [r.key]);
    fs::write(at.path().join("builds").join(r.key.to_string()).join("workspace/go"), "").unwrap();
    assert_eq!(end(&l, &running).await.outcome, Outcome::Succeeded);
    assert_eq!(l.forget(&[r.key]).await.unwrap(), []);
}
