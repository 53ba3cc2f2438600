//! What the tests share: runners on this machine's root, and waiting for conditions.

use capomastro_core::{
    Result,
    command::{Command, CommandOutput, CommandRunner as _},
    time::{Clock as _, SystemClock},
};
use capomastro_lxc::{LxcRunner, LxcRunnerBuilder, Root};
use std::{io::Write as _, path::Path, process, time::Duration};
use tempfile::TempDir;

/// A folder for the runner's state that containers may pass through.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("lxc-test-").tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    folder
}

/// Whether there are containers on this machine. Loud where not, and a failure where all tests must run.
pub(crate) fn there_are_containers() -> bool {
    let there =
        process::Command::new("lxc-execute").arg("--version").output().is_ok_and(|o| o.status.success())
            && rustix::process::geteuid().is_root();
    if !there {
        assert!(std::env::var_os("CI").is_none(), "tests of containers need root, and the package lxc");
        let told = writeln!(
            std::io::stderr(),
            "SKIPPED: a test of LXC containers (needs root, and Debian's packages lxc and busybox-static)"
        );
        told.unwrap();
    }
    there
}

/// A runner on this machine's root, and its state folder; `None` where there are no containers.
pub(crate) fn runner_with(
    shape: impl FnOnce(LxcRunnerBuilder) -> LxcRunnerBuilder,
) -> Option<(LxcRunner, TempDir)> {
    if !there_are_containers() {
        return None;
    }
    let state = folder();
    let runner = shape(LxcRunner::builder(state.path(), Root::Host)).build().unwrap();
    Some((runner, state))
}

pub(crate) fn runner() -> Option<(LxcRunner, TempDir)> {
    runner_with(|b| b)
}

pub(crate) fn sh(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}

pub(crate) async fn run(runner: &LxcRunner, command: &Command) -> CommandOutput {
    runner.run(command).await.unwrap_or_else(|e| panic!("{}", e.report()))
}

/// What a script prints that must succeed.
pub(crate) async fn prints(runner: &LxcRunner, script: &str) -> String {
    let output: Result<CommandOutput> = runner.run(&sh(script)).await;
    let output = output.unwrap_or_else(|e| panic!("{script}: {}", e.report()));
    assert_eq!(output.exit, capomastro_core::command::Exit::Code(0), "{script}: {}", output.complaint());
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until `condition` gives something. Generous: it only matters when something is wrong.
pub(crate) async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let until = SystemClock.monotonic().plus(Duration::from_secs(60));
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(SystemClock.monotonic() < until, "waited too long for: {what}");
        SystemClock.sleep(Duration::from_millis(5)).await;
    }
}

/// The processes whose command line contains `mark`.
pub(crate) fn processes(mark: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(mark)
        })
        .count()
}

/// The control groups of our containers whose runner keeps its state there.
pub(crate) fn groups(state: &Path) -> Vec<String> {
    let ids: Vec<String> = std::fs::read_dir(state.join("owners"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    let mut found = Vec::new();
    let roots = [Path::new("/sys/fs/cgroup").to_owned()]
        .into_iter()
        .chain(std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|e| e.path()));
    for root in roots {
        for entry in std::fs::read_dir(root.join("capomastro")).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if ids.iter().any(|id| name.contains(id.as_str())) {
                found.push(name);
            }
        }
    }
    found
}

/// That no container and nothing of one is left.
pub(crate) fn assert_clean(state: &Path) {
    let left: Vec<_> = std::fs::read_dir(state.join("runs")).unwrap().flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(groups(state).is_empty(), "{:?}", groups(state));
}
