//! Starting the supervisor of a build.
//!
//! The supervisor is a shell script of fixed text: everything that differs reaches it as positional arguments or
//! environment. A library cannot count on a second binary of its own being installed, nor on its embedder's binary
//! doing something sensible when started again, and a thread of the scheduler would die with it. `/bin/sh` is
//! everywhere, has no state, and was tried with dash, bash and BusyBox.
//!
//! It is started in a session of its own with `setsid`, not only in a process group: without a controlling terminal it
//! is not hung up with the scheduler's terminal, and a build that asks for a password gets an error instead of being
//! stopped by `SIGTTIN` for ever.

use crate::folder::Lock;
use std::{collections::BTreeMap, ffi::OsString, io, path::PathBuf, process::Stdio};
use tokio::{io::AsyncReadExt as _, process::Child};

const SUPERVISE: &str = include_str!("shell/supervise.sh");
const BEGIN: &str = include_str!("shell/begin.sh");
const STOP: &str = include_str!("shell/stop.sh");

/// What the scripts need beside what every shell has.
pub(crate) const TOOLS: [&str; 6] = ["setsid", "mkfifo", "cat", "mv", "sync", "sleep"];

/// What to start.
pub(crate) struct Start {
    pub(crate) folder: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) argv: Vec<OsString>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) max_log_bytes: u64,
    pub(crate) grace_seconds: u64,
    pub(crate) setsid: PathBuf,
    pub(crate) tools: String,
}

/// What a supervisor said first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// The build has started.
    Started,
    /// It has ended, and said this instead.
    Other(String),
}

/// Starts a supervisor, which has the lock from then on.
pub(crate) fn start(start: Start, lock: Lock) -> io::Result<Child> {
    let mut env = start.env;
    // The shell's own look-ups use the tools' path; the build gets its own.
    let path = env.insert("PATH".into(), start.tools).unwrap_or_default();
    tokio::process::Command::new(start.setsid)
        .args(["/bin/sh", "-c", SUPERVISE, "capomastro-supervisor", BEGIN, STOP])
        .arg(start.folder)
        .arg(path)
        .arg(start.dir)
        .arg(start.max_log_bytes.div_ceil(512).to_string())
        .arg(start.grace_seconds.to_string())
        .args(start.argv)
        .env_clear()
        .envs(env)
        .current_dir("/")
        .stdin(lock.hand_on())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

/// Waits for a supervisor's first word. The child may be dropped afterwards: the runtime reaps it.
pub(crate) async fn listen(child: &mut Child) -> Word {
    let mut text = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        let mut buffer = [0; 512];
        while let Ok(n) = pipe.read(&mut buffer).await
            && n > 0
            && text.len() < 4 * 1024
        {
            text.extend_from_slice(&buffer[..n]);
            if text.split(|b| *b == b'\n').any(|line| line == b"started") {
                return Word::Started;
            }
        }
    }
    let text = String::from_utf8_lossy(&text);
    Word::Other(text.trim().chars().flat_map(char::escape_debug).take(500).collect())
}
