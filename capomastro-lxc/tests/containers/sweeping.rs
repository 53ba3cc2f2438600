//! What is left by a scheduler that was killed, and what is missing on a machine.

use crate::support::{assert_clean, eventually, folder, groups, processes, runner, sh, there_are_containers};
use capomastro_core::{ErrorKind, command::CommandRunner as _};
use capomastro_lxc::{LxcRunner, Root};
use std::process::{Command, Stdio};

const MARK: &str = "capomastro-orphan-2906";
/// What tells the process that is this test program again, to be killed, where to keep its state.
const STATE: &str = "CAPOMASTRO_TEST_LXC_STATE";

/// Run by [`containers_of_a_killed_runner_are_swept`] in a process of its own; by itself it does nothing.
#[tokio::test]
async fn runs_until_it_is_killed() {
    let Some(state) = std::env::var_os(STATE) else { return };
    let lxc = LxcRunner::builder(state, Root::Host).build().unwrap();
    drop(lxc.run(&sh(&format!("sh -c 'sleep 1000; : {MARK}'"))).await);
    unreachable!("it is killed before");
}

#[tokio::test]
async fn containers_of_a_killed_runner_are_swept() {
    if !there_are_containers() {
        return;
    }
    let state = folder();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sweeping::runs_until_it_is_killed", "--nocapture"])
        .env(STATE, state.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("its container runs", || (processes(MARK) > 0).then_some(())).await;
    // A runner that lives leaves it alone.
    let lxc = LxcRunner::builder(state.path(), Root::Host).build().unwrap();
    assert_eq!(lxc.sweep().await.unwrap(), 0);
    assert!(processes(MARK) > 0);
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(!groups(state.path()).is_empty());
    assert_eq!(lxc.sweep().await.unwrap(), 1);
    assert_eq!(processes(MARK), 0);
    assert_clean(state.path());
    drop(lxc);
    assert_eq!(std::fs::read_dir(state.path().join("owners")).unwrap().count(), 0);
}

#[tokio::test]
async fn what_is_missing_is_told() {
    let Some((lxc, _state)) = runner() else { return };
    let health = lxc.health().await.unwrap();
    assert!(health.is_well(), "{health}");

    let (state, empty) = (folder(), folder());
    let of = |root: Root| LxcRunner::builder(state.path(), root);
    let cases = [
        (of(Root::Host).lxc_execute("/nonexistent/lxc-execute"), "install the package lxc"),
        (of(Root::Host).lxc_execute("true"), "too old or unknown"),
        (of(Root::Folder(empty.path().into())), "has no /bin/sh"),
        (of(Root::Folder("/nonexistent/root".into())), "is not there"),
    ];
    for (builder, said) in cases {
        let lxc = builder.build().unwrap();
        let health = lxc.health().await.unwrap().to_string();
        assert!(health.contains(said), "{said}: {health}");
    }
    let none = of(Root::Host).lxc_execute("/nonexistent/lxc-execute").build().unwrap();
    let e = none.run(&sh("true")).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e:?}");
    // What takes its place and says nothing is a broken container, not a command that failed.
    let broken = of(Root::Host).lxc_execute("false").build().unwrap();
    let e = broken.run(&sh("true")).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e:?}");
}
