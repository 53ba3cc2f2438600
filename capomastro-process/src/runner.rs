//! Commands run to their end on this machine.

use crate::{
    fault,
    group::KillOnDrop,
    handed::Handed,
    program::{self, Found},
};
use async_trait::async_trait;
use capomastro_core::{
    Error, ErrorKind, Result,
    command::{Command, CommandOutput, CommandRunner, Exit},
    time::{Clock, SystemClock},
};
use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::AsFd,
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStderr, ChildStdout},
};

/// How long a killed process may take to go before nobody waits for it any more (it may hang in a dead file system).
const REAP: Duration = Duration::from_secs(5);

/// More than a pipe holds: who still talks after the command's end is not listened to for ever.
const MAX_PIPE: usize = 2 * 1024 * 1024;

/// The path in which a program is looked up if the command's environment has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs commands as processes on this machine.
///
/// Each command leads a process group of its own. The whole group is killed (`SIGKILL`) at the deadline, when standard
/// output exceeds its bound, when the future is dropped, and when the command itself has ended: what it left running in
/// the group ends with it. A process that leaves the group on purpose (`setsid`) is not followed, but cannot hold anyone
/// up either: once the command has ended, what is in its pipes by then is read and the pipes are closed.
///
/// The environment is the command's and nothing else. On Linux its secret files are memory of this process, which
/// programs of the same user can open. A command without a working directory runs in an empty temporary
/// one, which is removed afterwards. Beside the errors of [`CommandRunner::run`] there are
/// [`PermissionDenied`](ErrorKind::PermissionDenied) for a file that may not be run and
/// [`InvalidInput`](ErrorKind::InvalidInput) for what the operating system does not take: a NUL in an argument,
/// arguments that are too large, a working directory that does not exist.
#[derive(Clone, Debug)]
pub struct ProcessRunner {
    clock: Arc<dyn Clock>,
    scratch: Option<PathBuf>,
}

impl Default for ProcessRunner {
    fn default() -> Self {
        Self::new()
    }
}

impl ProcessRunner {
    /// A runner with the system's clock and the system's folder for temporary files.
    pub fn new() -> Self {
        Self { clock: Arc::new(SystemClock), scratch: None }
    }

    /// The same runner that measures deadlines with this clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The same runner that makes temporary working directories inside this folder, which must exist.
    #[must_use]
    pub fn with_scratch(mut self, dir: impl Into<PathBuf>) -> Self {
        self.scratch = Some(dir.into());
        self
    }

    async fn empty_dir(&self) -> Result<TempDir> {
        let parent = self.scratch.clone().unwrap_or_else(std::env::temp_dir);
        blocking(move || {
            tempfile::Builder::new().prefix("capomastro-").tempdir_in(&parent).map_err(|e| {
                let full = matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
                Error::new(
                    if full { ErrorKind::StorageFull } else { ErrorKind::Unavailable },
                    "cannot make an empty working directory: see that the folder is there, writable and not full",
                )
                .with_context("folder", parent.display())
                .with_source(e)
            })
        })
        .await
    }

    async fn run_in(&self, command: &Command, dir: &Path) -> Result<CommandOutput> {
        let path = command.env.get(OsStr::new("PATH")).map_or(OsStr::new(DEFAULT_PATH), |p| p.as_os_str());
        let program = {
            let (name, path, dir) = (command.program.clone(), path.to_owned(), dir.to_owned());
            blocking(move || {
                if !dir.is_dir() {
                    return Err(Error::invalid("the working directory does not exist: create it")
                        .with_context("dir", dir.display()));
                }
                match program::find(&name, &path, &dir) {
                    Found::Program(file) => Ok(file),
                    Found::NotExecutable(file) => Err(Error::new(
                        ErrorKind::PermissionDenied,
                        "the program may not be run by this user: make it executable",
                    )
                    .with_context("program", file.display())),
                    Found::Nothing => Err(Error::new(
                        ErrorKind::NotFound,
                        "there is no such program: install it, or add its folder to PATH",
                    )
                    .with_context("program", name.to_string_lossy().escape_debug())),
                }
            })
            .await?
        };
        let handed = command.secret_files.iter().map(|(name, text)| Ok((name, Handed::over(text.expose())?)));
        let handed: Vec<(&OsString, Handed)> = handed.collect::<Result<_>>()?;
        let mut child = start(command, &program, dir, &handed)?;
        let mut group = KillOnDrop::of(child.id());
        let ended = tokio::select! {
            biased;
            ended = talk(&mut child, &mut group, command) => ended,
            () = self.clock.sleep(command.deadline) => Err(Error::new(
                ErrorKind::TimedOut,
                "the command did not end by its deadline and was stopped: see why it hangs, or allow it more time",
            )
            .with_context("deadline_ms", command.deadline.as_millis())),
        };
        group.kill();
        if ended.is_err() {
            tokio::select! {
                _ = child.wait() => {}
                () = self.clock.sleep(REAP) => {
                    tracing::warn!(program = %program.display(), "a killed command does not go away");
                }
            }
        }
        ended.map_err(|e| e.with_context("program", program.display()))
    }
}

#[async_trait]
impl CommandRunner for ProcessRunner {
    async fn run(&self, command: &Command) -> Result<CommandOutput> {
        let result = match &command.dir {
            Some(dir) => self.run_in(command, dir).await,
            None => {
                let dir = self.empty_dir().await?;
                let result = self.run_in(command, dir.path()).await;
                // Removing may block; a failure to tidy up does not change what the command said.
                blocking(move || {
                    if let Err(error) = dir.close() {
                        tracing::warn!(%error, "a temporary working directory could not be removed");
                    }
                    Ok(())
                })
                .await?;
                result
            }
        };
        result.map_err(|e| e.with_operation("run command"))
    }
}

fn start(command: &Command, program: &Path, dir: &Path, handed: &[(&OsString, Handed)]) -> Result<Child> {
    let mut std = std::process::Command::new(program);
    std.arg0(&command.program)
        .args(&command.args)
        .env_clear()
        .envs(&command.env)
        .envs(command.secret_env.iter().map(|(name, value)| (name, value.expose())))
        .envs(handed.iter().map(|(name, file)| (name, file.path())))
        .current_dir(dir)
        .process_group(0)
        .stdin(if command.stdin.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    tokio::process::Command::from(std).kill_on_drop(true).spawn().map_err(|e| fault::on_start(program, e))
}

/// Feeds and listens to the command until it has ended by itself, or has said too much.
async fn talk(child: &mut Child, group: &mut KillOnDrop, command: &Command) -> Result<CommandOutput> {
    let mut stdin = child.stdin.take();
    let mut stdout = child.stdout.take().ok_or_else(|| Error::internal("standard output is not piped"))?;
    let mut stderr = child.stderr.take().ok_or_else(|| Error::internal("standard error is not piped"))?;
    let mut said = Said::new(command.max_output);
    let mut unsent = command.stdin.as_slice();
    let (mut out, mut err) = (buffer(), buffer());
    let (mut out_open, mut err_open) = (true, true);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.map_err(|e| {
                Error::new(ErrorKind::Unavailable, "the command's end cannot be waited for").with_source(e)
            })?,
            n = stdout.read(&mut out[..]), if out_open => match n {
                Ok(n) if n > 0 => said.out(&out[..n])?,
                // A pipe that cannot be read any more has nothing to say.
                _ => out_open = false,
            },
            n = stderr.read(&mut err[..]), if err_open => match n {
                Ok(n) if n > 0 => said.err(&err[..n]),
                _ => err_open = false,
            },
            n = feed(&mut stdin, unsent), if stdin.is_some() => {
                unsent = unsent.get(n.unwrap_or(unsent.len())..).unwrap_or_default();
                // It need not read what it is given: a closed pipe is no error.
                if unsent.is_empty() {
                    stdin = None;
                }
            }
        }
    };
    group.kill();
    said.rest(&stdout, &stderr, &mut out)?;
    Ok(CommandOutput::new(exit(status), said.stdout, said.stderr))
}

async fn feed(stdin: &mut Option<tokio::process::ChildStdin>, bytes: &[u8]) -> io::Result<usize> {
    match stdin {
        Some(pipe) => pipe.write(bytes).await,
        None => std::future::pending().await,
    }
}

/// On the heap: a future with two of them inside would be large.
type Buffer = Box<[u8]>;

fn buffer() -> Buffer {
    vec![0; 16 * 1024].into_boxed_slice()
}

/// What a command has said so far, within bounds.
struct Said {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    max: usize,
}

impl Said {
    const fn new(max: usize) -> Self {
        Self { stdout: Vec::new(), stderr: Vec::new(), max }
    }

    fn out(&mut self, bytes: &[u8]) -> Result<()> {
        if self.stdout.len() + bytes.len() > self.max {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "the command said more than is allowed and was stopped: make it say less, or allow more",
            )
            .with_context("max_output", self.max));
        }
        self.stdout.extend_from_slice(bytes);
        Ok(())
    }

    /// Keeps the end: that is where the reason stands.
    fn err(&mut self, bytes: &[u8]) {
        self.stderr.extend_from_slice(bytes);
        // Not for every piece, or a flood would be moved about again and again.
        if self.stderr.len() > self.max.saturating_mul(2).max(64 * 1024) {
            self.trim();
        }
    }

    fn trim(&mut self) {
        let excess = self.stderr.len().saturating_sub(self.max);
        self.stderr.drain(..excess);
    }

    /// Takes what is in the pipes after the command's end, without waiting for whoever may still hold them.
    fn rest(&mut self, stdout: &ChildStdout, stderr: &ChildStderr, buffer: &mut Buffer) -> Result<()> {
        while let Some(n) = now(stdout, buffer) {
            self.out(&buffer[..n])?;
        }
        let mut left = MAX_PIPE;
        while left > 0
            && let Some(n) = now(stderr, buffer)
        {
            self.err(&buffer[..n]);
            left = left.saturating_sub(n);
        }
        self.trim();
        Ok(())
    }
}

/// What can be read at once; `None` at the end, and where more could only be had by waiting.
fn now(pipe: impl AsFd, buffer: &mut Buffer) -> Option<usize> {
    loop {
        match rustix::io::read(&pipe, &mut buffer[..]) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) | Err(_) => return None,
            Ok(n) => return Some(n),
        }
    }
}

fn exit(status: ExitStatus) -> Exit {
    status.code().map_or_else(|| Exit::Signal(status.signal().unwrap_or_default()), Exit::Code)
}

/// Runs blocking work where it may block.
pub(crate) async fn blocking<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(e) => Err(Error::new(ErrorKind::Unavailable, "the runtime is shutting down").with_source(e)),
    }
}
