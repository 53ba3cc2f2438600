//! How commands are ended: by deadlines, by limits, and when nobody waits any more.

use crate::support::{assert_clean, eventually, groups, processes, run, runner, runner_with, sh};
use capomastro_core::{
    ErrorKind,
    command::{Command, CommandRunner as _, Exit},
};
use capomastro_lxc::Limits;
use std::{path::Path, time::Duration};

fn config_of_a_container(state: &Path) -> Option<()> {
    let run = std::fs::read_dir(state.join("runs")).ok()?.flatten().next()?;
    run.path().join("config").is_file().then_some(())
}

#[tokio::test]
async fn at_the_deadline_everything_inside_ends() {
    let Some((lxc, state)) = runner() else { return };
    let mark = "capomastro-deadline-1237";
    let script = format!("trap '' TERM; setsid sh -c 'sleep 1000; : {mark}' & sh -c 'sleep 1000; : {mark}'");
    let e = lxc.run(&sh(&script).deadline(Duration::from_secs(2))).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::TimedOut, "{e:?}");
    eventually("everything has ended", || (processes(mark) == 0).then_some(())).await;
    assert_clean(state.path());
}

#[tokio::test]
async fn what_a_command_leaves_running_ends_with_it() {
    let Some((lxc, state)) = runner() else { return };
    let mark = "capomastro-left-4711";
    let o = run(&lxc, &sh(&format!("setsid sh -c 'sleep 1000; : {mark}' >/dev/null 2>&1 & echo done"))).await;
    assert_eq!((o.exit, &o.stdout[..]), (Exit::Code(0), &b"done\n"[..]));
    assert_eq!(processes(mark), 0);
    assert_clean(state.path());
}

#[tokio::test]
async fn a_command_that_says_too_much_is_stopped() {
    let Some((lxc, state)) = runner() else { return };
    let e = lxc.run(&Command::new("yes").max_output(10_000)).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt, "{e:?}");
    // A little too much, said at once.
    let e = lxc.run(&sh("echo 12345678901").max_output(10)).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt, "{e:?}");
    let o = run(&lxc, &sh("seq 100000 >&2; exit 7").max_output(10)).await;
    assert_eq!((o.exit, &o.stderr[..]), (Exit::Code(7), &b"99\n100000\n"[..]));
    assert_clean(state.path());
}

#[tokio::test]
async fn a_dropped_future_ends_the_container() {
    let Some((lxc, state)) = runner() else { return };
    let mark = "capomastro-dropped-815";
    let command = sh(&format!("sh -c 'sleep 1000; : {mark}'"));
    let running = tokio::spawn({
        let lxc = lxc.clone();
        async move { lxc.run(&command).await }
    });
    eventually("it runs", || (processes(mark) > 0 && !groups(state.path()).is_empty()).then_some(())).await;
    config_of_a_container(state.path()).unwrap();
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    eventually("it has ended", || (processes(mark) == 0).then_some(())).await;
    eventually("nothing is left", || {
        let empty = std::fs::read_dir(state.path().join("runs")).unwrap().next().is_none();
        (empty && groups(state.path()).is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn memory_is_limited() {
    let Some((lxc, state)) = runner_with(|b| b.limits(Limits::default().memory(Some(64 << 20)))) else {
        return;
    };
    let hungry = "python3 -c 'x = b\"a\" * 200000000; print(len(x))'";
    let o = run(&lxc, &sh(&format!("{hungry}; echo $?"))).await;
    assert_eq!(o.stdout, b"137\n");
    let o = run(&lxc, &Command::new("python3").args(["-c", "x = b'a' * 200000000"])).await;
    assert_eq!(o.exit, Exit::Signal(9));
    assert_clean(state.path());
}

#[tokio::test]
async fn a_fork_bomb_stays_inside() {
    let Some((lxc, state)) = runner_with(|b| b.limits(Limits::default().processes(64))) else { return };
    let bomb = "f() { f | f & }; f; wait; sleep 1";
    let ended = lxc.run(&sh(bomb).deadline(Duration::from_secs(5))).await;
    // However it ends: it ends, and takes nothing with it.
    if let Err(e) = &ended {
        assert!(matches!(e.kind(), ErrorKind::TimedOut | ErrorKind::Unavailable), "{e:?}");
    }
    assert_clean(state.path());
    assert_eq!(run(&lxc, &sh("exit 4")).await.exit, Exit::Code(4));
}

#[tokio::test]
async fn scratch_space_is_limited() {
    let Some((lxc, _state)) = runner_with(|b| b.limits(Limits::default().scratch(1 << 20))) else { return };
    let o = run(&lxc, &sh("head -c 3000000 /dev/zero >big")).await;
    assert_ne!(o.exit, Exit::Code(0));
    assert!(o.complaint().contains("No space left"), "{}", o.complaint());
}
