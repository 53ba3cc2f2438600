//! Branches that are asked through programs: Breezy's own library, and ssh.

use super::{
    file,
    key::Remote,
    smart,
    tip::{Tip, circle, elsewhere, nonsense},
};
use crate::remote::{
    http::Credentials,
    ssh::{self, SshLogin},
    text::shown,
};
use capomastro_core::{
    Error, ErrorKind, Result,
    command::{Command, CommandOutput, CommandRunner, Exit},
    secret::Secret,
};
use std::{collections::BTreeMap, ffi::OsString, sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// What Python runs, with the URL and the name of a colocated branch behind it. Breezy's commands look at the folders above
/// where there is no branch, and would answer for another one; its library opens the place itself.
const LOOK: &str = include_str!("look.py");
/// The variable that leads to user name and password.
const CREDENTIALS: &str = "CAPOMASTRO_BZR_CREDENTIALS";
/// How much a program may say.
const MAX_OUTPUT: usize = 64 * 1024;

/// How programs are called.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) python: OsString,
    pub(super) ssh: String,
    /// What an SSH server calls its bzr.
    pub(super) remote: String,
    /// What the embedder adds to the environment, such as `SSH_AUTH_SOCK`.
    pub(super) env: BTreeMap<OsString, OsString>,
}

impl Program {
    /// The tip of a branch as Breezy tells it.
    pub(super) async fn look(
        &self,
        runner: &dyn CommandRunner,
        readers: &Arc<Semaphore>,
        remote: &Remote,
        name: Option<&str>,
        credentials: Option<&Credentials>,
        deadline: Duration,
    ) -> Result<Option<Tip>> {
        let mut command = self.breezy(remote, name, credentials, deadline);
        if let Remote::File(path) = remote {
            for path in file::parts(readers, path.clone(), name.map(ToOwned::to_owned)).await? {
                command = command.reads(path);
            }
        }
        let looked = runner.run(&command).await.map_err(missing).and_then(|output| said(&output));
        looked.map_err(|e| match credentials {
            Some(credentials) => credentials.keep_out_of(e),
            None => e,
        })
    }

    /// Breezy's library, asked about a branch.
    pub(super) fn breezy(
        &self,
        remote: &Remote,
        name: Option<&str>,
        credentials: Option<&Credentials>,
        deadline: Duration,
    ) -> Command {
        // Isolated: neither this user's packages nor variables of Python have a say.
        let mut command = Command::new(&self.python)
            .args(["-I", "-c", LOOK, &remote.canonical(), name.unwrap_or_default()])
            .deadline(deadline)
            .max_output(MAX_OUTPUT)
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", "/nonexistent")
            .env("BRZ_HOME", "/nonexistent")
            .env("BRZ_LOG", "/dev/null")
            .env("BRZ_PROGRESS_BAR", "none");
        if let Some(Credentials { username, password }) = credentials {
            let text = format!("{username}\n{}", password.expose());
            command = command.secret_file(CREDENTIALS, Secret::new(text));
        }
        self.env.iter().fold(command, |command, (name, value)| command.env(name, value))
    }

    /// The tip of the branch at `path` of a bzr that ssh starts there.
    pub(super) async fn over_ssh(
        &self,
        runner: &dyn CommandRunner,
        (user, host, port, path): (&str, &str, Option<u16>, &str),
        login: &SshLogin,
        deadline: Duration,
    ) -> Result<Option<Tip>> {
        let ask = |question| self.exchange(runner, (user, host, port), login, question, deadline);
        if let Some(tip) = smart::whole(smart::answer(&ask(smart::tip_of(path)).await?)?)? {
            return Ok(Some(tip));
        }
        // What only refers to a branch is answered for like what is none.
        smart::whole(smart::is_place_itself(&ask(smart::kind_of(path)).await?)?)?;
        Ok(None)
    }

    /// What a bzr that ssh starts there says to a question.
    async fn exchange(
        &self,
        runner: &dyn CommandRunner,
        (user, host, port): (&str, &str, Option<u16>),
        login: &SshLogin,
        question: Vec<u8>,
        deadline: Duration,
    ) -> Result<Vec<u8>> {
        let line = format!("exec {} \"$@\"", login.command_line(&self.ssh));
        let mut command = Command::new("/bin/sh")
            .args(["-c", &line, "ssh"])
            .deadline(deadline)
            .max_output(MAX_OUTPUT)
            .stdin(question)
            .env("LC_ALL", "C");
        if let Some(port) = port {
            command = command.args(["-p", &port.to_string()]);
        }
        // The words that bzr itself sends: servers of forges know these and no others. Nothing is written.
        let remote = format!("{} serve --inet --directory=/ --allow-writes", self.remote);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        command = login.hand_over(command.args(["--", &format!("{user}{host}"), &remote]));
        for (variable, value) in &self.env {
            command = command.env(variable, value);
        }
        let output = runner.run(&command).await?;
        if !output.stdout.is_empty() {
            return Ok(output.stdout);
        }
        Err(ssh_complaint(&output))
    }
}

/// What it means that Python could not be run.
pub(super) fn missing(e: Error) -> Error {
    if e.kind() != ErrorKind::NotFound {
        return e;
    }
    Error::new(
        ErrorKind::Unsupported,
        "there is no Python to run Breezy: install brz, or name the Python that has it to the probe's builder",
    )
    .with_source(e)
}

/// What `look.py` says: a word, and what belongs to it.
pub(super) fn said(output: &CommandOutput) -> Result<Option<Tip>> {
    let mut words = output.stdout.splitn(3, |b| *b == b'\n');
    let word = words.next().unwrap_or_default();
    let first = words.next().unwrap_or_default();
    let (kind, message) = match (output.exit, word) {
        (Exit::Code(0), b"tip") => {
            let id = words.next().and_then(|rest| rest.strip_suffix(b"\n")).unwrap_or_default();
            return Tip::of(first, id);
        }
        (Exit::Code(0), b"none") => return Ok(None),
        (Exit::Code(0), b"denied") => (
            ErrorKind::PermissionDenied,
            "the branch may not be read: check user, password and what they may read",
        ),
        (Exit::Code(0), b"busy") => {
            (ErrorKind::RateLimited, "the server is asked too often: look less often")
        }
        (Exit::Code(0), b"unreachable") => {
            (ErrorKind::Unavailable, "the server cannot be reached: check host and port")
        }
        (Exit::Code(0), b"no branch") => {
            (ErrorKind::InvalidConfig, "the folder is no bzr branch: check the path")
        }
        (Exit::Code(0), b"elsewhere") => return Err(elsewhere()),
        (Exit::Code(0), b"circle") => return Err(circle()),
        (Exit::Code(0), b"unknown") => (
            ErrorKind::Unsupported,
            "the branch is of a kind that this Breezy does not know: install a newer one, or a plugin",
        ),
        (Exit::Code(0), b"missing") => {
            (ErrorKind::Unsupported, "Python has no Breezy: install brz, or name the Python that has it")
        }
        (Exit::Code(0), b"error") => {
            (ErrorKind::Unavailable, "Breezy reports an error: if it stays, look at the branch with brz")
        }
        (Exit::Code(0), _) => return Err(nonsense("something that was not asked for")),
        _ => {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "Breezy broke: if it stays, look at the branch with brz",
            )
            .with_context("breezy", output.complaint()));
        }
    };
    Err(Error::new(kind, message).with_context("breezy", shown(&String::from_utf8_lossy(first), 300)))
}

/// What ssh complains about, or the shell that it starts.
fn ssh_complaint(output: &CommandOutput) -> Error {
    let text = String::from_utf8_lossy(&output.stderr).to_ascii_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|p| text.contains(p));
    let (kind, message) = if let Some(of_ssh) = ssh::complaint(&text) {
        of_ssh
    } else if has(&["ssh: not found", "ssh: no such file"]) {
        (
            ErrorKind::Unsupported,
            "there is no ssh program: install OpenSSH, or name it to the probe's builder",
        )
    } else if has(&["not found", "no such file"]) {
        (
            ErrorKind::InvalidConfig,
            "the server has no bzr: install it there, or name it to the probe's builder",
        )
    } else {
        (ErrorKind::Unavailable, "the server cannot be reached over ssh: check host and port")
    };
    Error::new(kind, message).with_context("ssh", output.complaint())
}
