//! How builds end and are stopped.

use crate::support::{
    build, end, eventually, kill, launch, launcher, lives, log, look, pid_in, processes, request,
};
use capomastro_core::{
    launch::{BuildLauncher as _, Found, Outcome, Seen},
    model::LaunchKey,
};
use capomastro_process::{CommandJob, CommandLauncher};
use std::{path::PathBuf, sync::Arc, time::Duration};

/// A build that says its pid and hangs.
async fn hanging(l: &CommandLauncher, d: &tempfile::TempDir, script: &str) -> (Hanging, u32) {
    let file = d.path().join("pid");
    let job = CommandJob::script(format!(
        "{script}\necho $$ >{0}.new; mv {0}.new {0}; sleep 600 & wait",
        file.display()
    ))
    .grace(Duration::from_secs(1));
    let r = request(&job);
    let reference = launch(l, &r).await;
    let here = d.path().join("builds").join(r.key.to_string());
    let pid = pid_in(&file).await;
    (Hanging { key: r.key, reference, here }, pid)
}

struct Hanging {
    key: LaunchKey,
    reference: capomastro_core::model::ExternalRef,
    here: PathBuf,
}

impl Hanging {
    /// Its supervisor, and the supervisor's companion that stops the build.
    fn supervisors(&self) -> (u32, u32) {
        let here = processes(self.here.to_str().unwrap());
        let one = |mark| {
            let found: Vec<u32> = processes(mark).into_iter().filter(|p| here.contains(p)).collect();
            assert_eq!(found.len(), 1, "{mark}");
            found[0]
        };
        (one("\0capomastro-supervisor\0"), one("\0capomastro-stop\0"))
    }

    /// Leaves the build without anybody.
    async fn orphan(&self) {
        let (supervisor, companion) = self.supervisors();
        for pid in [companion, supervisor] {
            kill(pid);
            eventually("it to be gone", || (!lives(pid)).then_some(())).await;
        }
    }

    /// Kills what is left of the build.
    fn kill_rest(&self) {
        let mark = format!("\0CAPOMASTRO_BUILD_ID={}\0", self.key);
        for pid in processes("sleep\x00600") {
            let env = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            if String::from_utf8_lossy(&env).contains(&mark) {
                kill(pid);
            }
        }
    }
}

#[tokio::test]
async fn statuses_become_outcomes() {
    let d = tempfile::tempdir().unwrap();
    let l = launcher(d.path());
    for (script, outcome) in [
        ("exit 0", Outcome::Succeeded),
        ("exit 1", Outcome::Failed),
        ("exit 3", Outcome::Unstable),
        ("kill -9 $$", Outcome::Failed),
        ("kill -10 $$", Outcome::Failed),
        ("exec /no/such/program", Outcome::Failed),
    ] {
        let (_, ended) = build(&l, &CommandJob::script(script).unstable(3)).await;
        assert_eq!(ended.outcome, outcome, "{script}: {ended:?}");
        assert_eq!(ended.message.is_none(), outcome == Outcome::Succeeded, "{script}: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn builds_that_end_at_once_end() {
    let d = tempfile::tempdir().unwrap();
    let all: Vec<_> = (0..60)
        .map(|_| {
            let l = launcher(d.path());
            tokio::spawn(async move { build(&l, &CommandJob::new(["true"])).await.1.outcome })
        })
        .collect();
    for one in all {
        assert_eq!(one.await.unwrap(), Outcome::Succeeded);
    }
    eventually("nothing to be left", || processes(d.path().to_str().unwrap()).is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_cancelled_build_is_asked_first() {
    let d = tempfile::tempdir().unwrap();
    let l = launcher(d.path());
    let (h, _) = hanging(&l, &d, "trap 'echo bye; exit 9' TERM").await;
    assert_eq!(look(&l, &h.reference).await.unwrap(), Seen::Running);
    for _ in 0..3 {
        l.cancel(&h.key, &h.reference).await.unwrap();
    }
    let ended = end(&l, &h.reference).await;
    assert_eq!(ended.outcome, Outcome::Cancelled, "{ended:?}");
    assert_eq!(log(&l, &h.reference).await, "bye\n");
    l.cancel(&h.key, &h.reference).await.unwrap();
    assert_eq!(end(&l, &h.reference).await, ended);
    eventually("nothing to be left", || processes(h.here.to_str().unwrap()).is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_build_can_be_asked_to_stop_by_many_at_once() {
    let d = tempfile::tempdir().unwrap();
    let l = Arc::new(launcher(d.path()));
    let (h, _) = hanging(&l, &d, "trap '' TERM").await;
    let asks: Vec<_> = (0..64)
        .map(|_| {
            let (l, key, reference) = (Arc::clone(&l), h.key, h.reference.clone());
            tokio::spawn(async move { l.cancel(&key, &reference).await })
        })
        .collect();
    for ask in asks {
        ask.await.unwrap().unwrap();
    }
    assert_eq!(end(&l, &h.reference).await.outcome, Outcome::Cancelled);
}

#[tokio::test]
async fn a_build_that_will_not_listen_is_killed_with_all_its_group() {
    let d = tempfile::tempdir().unwrap();
    let l = launcher(d.path());
    let child = d.path().join("child");
    let script = format!("trap '' TERM; sh -c 'echo $$ >{}; sleep 600; sleep 600' &", child.display());
    let (h, pid) = hanging(&l, &d, &script).await;
    let child = pid_in(&child).await;
    l.cancel(&h.key, &h.reference).await.unwrap();
    // The request outlives whoever asked: a new launcher sees its effect.
    let l = launcher(d.path());
    assert_eq!(end(&l, &h.reference).await.outcome, Outcome::Cancelled);
    for pid in [pid, child] {
        eventually("the group to be gone", || (!lives(pid)).then_some(())).await;
    }
}

#[tokio::test]
async fn a_build_that_ends_well_in_spite_of_a_stop_has_succeeded() {
    let d = tempfile::tempdir().unwrap();
    let l = launcher(d.path());
    let (h, _) = hanging(&l, &d, "trap 'exit 0' TERM").await;
    l.cancel(&h.key, &h.reference).await.unwrap();
    assert_eq!(end(&l, &h.reference).await.outcome, Outcome::Succeeded);
}

#[tokio::test]
async fn what_a_build_leaves_running_ends_with_it_and_holds_nobody_up() {
    let d = tempfile::tempdir().unwrap();
    let l = launcher(d.path());
    let file = d.path().join("pid");
    let (_, ended) = build(&l, &CommandJob::script(format!("sleep 600 & echo $! >{}", file.display()))).await;
    assert_eq!(ended.outcome, Outcome::Succeeded);
    let pid = pid_in(&file).await;
    eventually("what was left to be gone", || (!lives(pid)).then_some(())).await;
    // One that leaves the group keeps the log's pipe, for longer than this test takes.
    let (reference, ended) = build(&l, &CommandJob::script("setsid sleep 100 & echo said")).await;
    assert_eq!(ended.outcome, Outcome::Succeeded);
    assert_eq!(log(&l, &reference).await, "said\n");
    for pid in processes("sleep\x00100\0") {
        kill(pid);
    }
}

#[tokio::test]
async fn a_killed_supervisor_takes_its_build_along() {
    let d = tempfile::tempdir().unwrap();
    let l = launcher(d.path());
    let (h, pid) = hanging(&l, &d, "").await;
    kill(h.supervisors().0);
    let ended = end(&l, &h.reference).await;
    assert_eq!(ended.outcome, Outcome::Failed);
    assert!(ended.message.unwrap().contains("supervisor was killed"));
    assert!(!lives(pid));
    assert_eq!(launch(&l, &request_like(&h)).await, h.reference, "and is not started again");
    eventually("nothing to be left", || processes(h.here.to_str().unwrap()).is_empty().then_some(())).await;
}

fn request_like(h: &Hanging) -> capomastro_core::launch::LaunchRequest {
    let mut r = request(&CommandJob::new(["true"]));
    r.key = h.key;
    r
}

#[tokio::test]
async fn an_orphan_runs_on_until_it_is_gone_or_stopped() {
    let d = tempfile::tempdir().unwrap();
    let l = launcher(d.path());
    for (script, outcome) in [("", Outcome::Failed), ("", Outcome::Cancelled)] {
        let (h, pid) = hanging(&l, &d, script).await;
        h.orphan().await;
        assert_eq!(look(&l, &h.reference).await.unwrap(), Seen::Running);
        assert_eq!(l.find(&request_like(&h)).await.unwrap(), Found::Build(h.reference.clone()));
        assert_eq!(l.forget(&[h.key]).await.unwrap(), [h.key], "what runs is never removed");
        if outcome == Outcome::Cancelled {
            l.cancel(&h.key, &h.reference).await.unwrap();
        } else {
            // Only the leader: what is left of the group still counts.
            kill(pid);
            eventually("the leader to be gone", || (!lives(pid)).then_some(())).await;
            assert_eq!(look(&l, &h.reference).await.unwrap(), Seen::Running);
            h.kill_rest();
        }
        assert_eq!(end(&l, &h.reference).await.outcome, outcome);
        std::fs::remove_file(d.path().join("pid")).unwrap();
    }
}

#[tokio::test]
async fn a_restart_of_the_machine_ends_what_ran() {
    let d = tempfile::tempdir().unwrap();
    let l = launcher(d.path());
    let (h, pid) = hanging(&l, &d, "").await;
    h.orphan().await;
    // What a restart leaves: a record of another boot, and numbers that mean other processes.
    let started = std::fs::read_to_string(h.here.join("started")).unwrap();
    let mut lines: Vec<&str> = started.lines().collect();
    lines[1] = "00000000-0000-0000-0000-000000000000";
    std::fs::write(h.here.join("started"), lines.join("\n") + "\n").unwrap();
    let ended = end(&l, &h.reference).await;
    assert_eq!(ended.outcome, Outcome::Lost);
    assert!(ended.message.unwrap().contains("restarted"));
    kill(pid);
    h.kill_rest();
}
