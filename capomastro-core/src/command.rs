//! Running a command somewhere, as data and one trait: probes and launchers say what to run, a runner says where.

use crate::{Result, secret::Secret};
use async_trait::async_trait;
use std::{collections::BTreeMap, ffi::OsString, fmt, path::PathBuf, time::Duration};

/// A command to run: an argument vector, never a line for a shell.
#[derive(Clone)]
#[non_exhaustive]
pub struct Command {
    /// The program: a path, or a name that is looked up in the `PATH` of [`Command::env`].
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// The whole environment; nothing is inherited.
    pub env: BTreeMap<OsString, OsString>,
    /// Further environment whose values are never printed.
    pub secret_env: BTreeMap<OsString, Secret>,
    /// Texts for a program that reads them from a file only (a key, a configuration with a password), by the name of the
    /// variable that is to hold the file's path. The command may read its file as often as it likes; nobody else may,
    /// and it is gone when the command has ended.
    pub secret_files: BTreeMap<OsString, Secret>,
    /// Folders and files of this machine, by absolute path, that the command reads. A runner that runs it elsewhere, in a
    /// container say, shows them there under the same path, read-only.
    pub reads: Vec<PathBuf>,
    /// The working directory; the runner's choice of an empty one where absent.
    pub dir: Option<PathBuf>,
    /// What is written to its standard input, which is then closed.
    pub stdin: Vec<u8>,
    /// When the whole process group is ended.
    pub deadline: Duration,
    /// How many bytes are kept of standard output and of standard error, each. One byte more on standard output is an
    /// error; what exceeds it on standard error is dropped.
    pub max_output: usize,
}

impl Command {
    /// A command with an environment that has only `PATH`, a deadline of 60 s and 1 MiB of output.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::from([(
                "PATH".into(),
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
            )]),
            secret_env: BTreeMap::new(),
            secret_files: BTreeMap::new(),
            reads: Vec::new(),
            dir: None,
            stdin: Vec::new(),
            deadline: Duration::from_secs(60),
            max_output: 1024 * 1024,
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// One variable of the environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// One variable of the environment whose value is never printed.
    #[must_use]
    pub fn secret_env(mut self, name: impl Into<OsString>, value: Secret) -> Self {
        self.secret_env.insert(name.into(), value);
        self
    }

    /// One text in a file whose path stands in the variable `name`.
    #[must_use]
    pub fn secret_file(mut self, name: impl Into<OsString>, text: Secret) -> Self {
        self.secret_files.insert(name.into(), text);
        self
    }

    /// One folder or file of this machine that the command reads, by absolute path.
    #[must_use]
    pub fn reads(mut self, path: impl Into<PathBuf>) -> Self {
        self.reads.push(path.into());
        self
    }

    /// The working directory.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// What is written to its standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// When the whole process group is ended.
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How many bytes are kept of each output.
    #[must_use]
    pub const fn max_output(mut self, bytes: usize) -> Self {
        self.max_output = bytes;
        self
    }
}

/// Shows program, arguments and names of variables; no value of the environment and no input.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("program", &self.program)
            .field("args", &self.args)
            .field("env", &self.env.keys().chain(self.secret_env.keys()).collect::<Vec<_>>())
            .field("secret_files", &self.secret_files.keys().collect::<Vec<_>>())
            .field("reads", &self.reads)
            .field("dir", &self.dir)
            .field("deadline", &self.deadline)
            .field("max_output", &self.max_output)
            .finish_non_exhaustive()
    }
}

/// How a command ended by itself.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It returned this status.
    Code(i32),
    /// It was ended by this signal.
    Signal(i32),
}

/// What a command that ended by itself left.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandOutput {
    /// How it ended.
    pub exit: Exit,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// The end of its standard error.
    pub stderr: Vec<u8>,
}

impl CommandOutput {
    /// An output.
    pub const fn new(exit: Exit, stdout: Vec<u8>, stderr: Vec<u8>) -> Self {
        Self { exit, stdout, stderr }
    }

    /// The last lines of standard error as one bounded line for an error message, control characters escaped.
    pub fn complaint(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        let tail: Vec<&str> = text.trim().lines().rev().take(3).collect();
        let line = tail.into_iter().rev().collect::<Vec<_>>().join(" | ");
        let shown: String = line.chars().flat_map(char::escape_debug).take(500).collect();
        if shown.is_empty() { "nothing on standard error".into() } else { shown }
    }
}

/// Runs commands: on this machine, inside a container, or in a test's imagination.
#[async_trait]
pub trait CommandRunner: fmt::Debug + Send + Sync + 'static {
    /// Runs a command to its end.
    ///
    /// *Guarantees*: the command runs in a process group of its own; when the deadline passes, the output grows too
    /// large or the future is dropped, the whole group is ended. Nothing is inherited but what the command says.
    /// *Cancellation*: ends the group.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such program, [`TimedOut`](crate::ErrorKind::TimedOut)
    /// at the deadline, [`Corrupt`](crate::ErrorKind::Corrupt) if standard output exceeds the bound,
    /// [`Unavailable`](crate::ErrorKind::Unavailable) if it cannot be started now. A status other than 0 is no error.
    async fn run(&self, command: &Command) -> Result<CommandOutput>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_value_of_the_environment() {
        let c = Command::new("git")
            .env("A", "hunter2")
            .secret_env("B", Secret::new("hunter3"))
            .secret_file("C", Secret::new("hunter5"))
            .stdin("hunter4");
        assert!(!format!("{c:?}").contains("hunter"), "{c:?}");
    }

    #[test]
    fn a_complaint_is_one_short_line() {
        let o = CommandOutput::new(Exit::Code(1), vec![], b"a\nb\x1b[31m\nc\nd\n".to_vec());
        assert_eq!(o.complaint(), "b\\u{1b}[31m | c | d");
    }
}
