//! Processes that are gone when this one is.

use super::installed::{Unprivileged, unprivileged};
use rustix::process::{Pid, Signal};
use std::{
    ffi::OsStr,
    io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, ExitStatus},
    sync::{OnceLock, mpsc},
    time::Duration,
};

/// How often something is looked at that nothing reports.
const POLL: Duration = Duration::from_millis(5);

/// Waits until this gives something, at most so long.
pub(super) fn poll<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let most = limit.as_millis() / POLL.as_millis();
    for _ in 0..=most {
        if let Some(found) = look() {
            return Some(found);
        }
        #[expect(clippy::disallowed_methods, reason = "waits for other processes, which report nothing")]
        std::thread::sleep(POLL);
    }
    None
}

/// A command for this program that runs as somebody who is not root, in a plain environment.
pub(super) fn command(program: impl AsRef<OsStr>, folder: &Path) -> Command {
    guarded(program.as_ref(), folder, &[])
}

/// The same, and the process gets this signal when the thread that starts it ends: see [`spawn`].
pub(super) fn mortal(program: impl AsRef<OsStr>, folder: &Path, signal: &str) -> Command {
    guarded(program.as_ref(), folder, &["--pdeathsig", signal])
}

fn guarded(program: &OsStr, folder: &Path, options: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(Unprivileged { user, group }) = unprivileged() {
        command.args([format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".into()]);
    }
    command.args(options).arg("--").arg(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|n| n.starts_with("PG") || n.starts_with("LC_")) {
            command.env_remove(name);
        }
    }
    // Not in our process group: Ctrl-C is for the tests, and their end is what ends the servers.
    command.env("LC_ALL", "C").current_dir(folder).stdin(std::process::Stdio::null()).process_group(0);
    command
}

/// Runs a short command, and panics with what it said if it fails.
pub(super) fn run(mut command: Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?} does not start: {e}"));
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{said}\n{complained}", output.status);
}

type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts a process from a thread that lives as long as this process does: a signal for the death of a parent is sent when the
/// parent's *thread* ends, and tests are threads.
pub(super) fn spawn(command: Command) -> Child {
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, taken) = mpsc::channel::<Order>();
        let serve = move || {
            for (mut command, answer) in taken {
                answer.send(command.spawn()).ok();
            }
        };
        std::thread::Builder::new().name("servers".into()).spawn(serve).expect("a thread starts");
        orders
    });
    let named = format!("{command:?}");
    let (answer, answered) = mpsc::channel();
    spawner.send((command, answer)).expect("the thread never ends");
    let child = answered.recv().expect("the thread answers");
    child.unwrap_or_else(|e| panic!("{named} does not start: {e}"))
}

/// Sends a signal to a process of ours.
pub(super) fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process has a number");
    // One that has just ended needs no signal.
    rustix::process::kill_process(pid, signal).ok();
}

/// Ends a process by this signal, and by force if it has not ended after so long.
pub(super) fn end(child: &mut Child, by: Signal, limit: Duration) -> ExitStatus {
    signal(child, by);
    if let Some(status) = poll(limit, || child.try_wait().expect("it is our child")) {
        return status;
    }
    signal(child, Signal::KILL);
    child.wait().expect("it is our child")
}
