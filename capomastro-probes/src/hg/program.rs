//! Repositories that hg's own library is asked about: those behind ssh, those whose heads cannot be told otherwise, and all
//! where the probe is told so.

use super::{
    heads::{Found, Name, all_closed, node, nonsense, several},
    key::Remote,
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
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    time::Duration,
};

/// What Python runs. hg's commands cannot list what a repository elsewhere has; its library can.
const LOOK: &str = include_str!("look.py");
/// The variables that lead to user name and password, to the line that starts ssh, and to what hg is called there.
const CREDENTIALS: &str = "CAPOMASTRO_HG_CREDENTIALS";
const SSH: &str = "CAPOMASTRO_HG_SSH";
const REMOTE: &str = "CAPOMASTRO_HG_REMOTE";
/// How much a program may say.
const MAX_OUTPUT: usize = 1024 * 1024;

/// How programs are called.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) python: OsString,
    pub(super) ssh: String,
    /// What an SSH server calls its hg.
    pub(super) remote: String,
    /// What the embedder adds to the environment, such as `SSH_AUTH_SOCK`.
    pub(super) env: BTreeMap<OsString, OsString>,
}

/// How a remote is to be met.
#[derive(Debug, Default)]
pub(super) struct Introduction {
    pub(super) ssh: SshLogin,
    pub(super) http: Option<Credentials>,
}

impl Introduction {
    /// An error without our credentials.
    pub(super) fn discreet(&self, e: Error) -> Error {
        match &self.http {
            Some(credentials) => credentials.keep_out_of(e),
            None => e,
        }
    }
}

impl Program {
    /// What these names are at.
    pub(super) async fn look(
        &self,
        runner: &dyn CommandRunner,
        remote: &Remote,
        introduction: &Introduction,
        names: &BTreeSet<Name>,
        deadline: Duration,
    ) -> Result<BTreeMap<Name, Result<Found>>> {
        let command = self.library(remote, introduction, "look", deadline)?;
        let command = command.args(names.iter().flat_map(|name| [name.kind(), name.text()]));
        let told = runner.run(&command).await.map_err(missing).and_then(|output| said(&output, names));
        told.map_err(|e| introduction.discreet(e))
    }

    /// hg's library, asked about a repository.
    pub(super) fn library(
        &self,
        remote: &Remote,
        introduction: &Introduction,
        mode: &str,
        deadline: Duration,
    ) -> Result<Command> {
        // Isolated: neither this user's packages nor variables of Python have a say; nor files of configuration.
        let mut command = Command::new(&self.python)
            .args(["-I", "-c", LOOK, &remote.canonical(), mode])
            .deadline(deadline)
            .max_output(MAX_OUTPUT)
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", "/nonexistent")
            .env("HGRCPATH", "")
            .env("HGRCSKIPREPO", "1")
            .env("HGPLAIN", "1")
            .env("HGENCODING", "utf-8");
        if let Remote::File(path) = remote {
            // Where the repository is gone, the folder that it was in tells so; never all of this machine.
            let shown = if path.exists() { Some(path.as_path()) } else { path.parent() };
            if let Some(shown) = shown.filter(|shown| shown.parent().is_some()) {
                command = command.reads(shown);
            }
        }
        if let Some(Credentials { username, password }) = &introduction.http {
            if !username.is_ascii() || !password.expose().is_ascii() || password.expose().contains('\n') {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "Mercurial's library logs in with ASCII on one line only: choose such a name and password",
                ));
            }
            let text = format!("{username}\n{}", password.expose());
            command = command.secret_file(CREDENTIALS, Secret::new(text));
        }
        if let Remote::Ssh { .. } = remote {
            command = introduction
                .ssh
                .hand_over(command)
                .env(SSH, introduction.ssh.command_line(&self.ssh))
                .env(REMOTE, &self.remote);
        }
        Ok(self.env.iter().fold(command, |command, (name, value)| command.env(name, value)))
    }
}

/// What it means that Python could not be run.
pub(super) fn missing(e: Error) -> Error {
    if e.kind() != ErrorKind::NotFound {
        return e;
    }
    Error::new(
        ErrorKind::Unsupported,
        "there is no Python to run Mercurial's library: install mercurial, or name the Python that has it to the probe's builder",
    )
    .with_source(e)
}

/// The lines of `look.py`, one for each name.
fn said(output: &CommandOutput, names: &BTreeSet<Name>) -> Result<BTreeMap<Name, Result<Found>>> {
    let mut lines = lines(output)?.into_iter();
    let mut answers = BTreeMap::new();
    for name in names {
        let (word, text) = lines.next().ok_or_else(|| broken(output))?;
        let found = match word.as_str() {
            "node" => node(text.as_bytes()).map(Found::Node),
            "none" => Ok(Found::Nothing),
            "closed" => Ok(all_closed()),
            "several" => Err(several(&text.split(' ').collect::<Vec<_>>())),
            _ => return Err(nonsense("something that was not asked for")),
        };
        answers.insert(name.clone(), found);
    }
    Ok(answers)
}

/// What `look.py` printed: a word and what belongs to it in each line. What is for everything is an error, or `none`, which
/// is repeated for whoever asks.
pub(super) fn lines(output: &CommandOutput) -> Result<Vec<(String, String)>> {
    if output.exit != Exit::Code(0) {
        return Err(broken(output));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = Vec::new();
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if word != "all" {
            lines.push((word.to_owned(), rest.to_owned()));
            continue;
        }
        let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        if word == "none" {
            return Ok(vec![("none".to_owned(), String::new()); MAX_NAMES]);
        }
        return Err(failed(word, rest, output));
    }
    Ok(lines)
}

/// More names than this are not asked for in one look.
pub(super) const MAX_NAMES: usize = 500;

fn failed(word: &str, text: &str, output: &CommandOutput) -> Error {
    let complaint = String::from_utf8_lossy(&output.stderr).to_ascii_lowercase();
    let lower = text.to_ascii_lowercase();
    let (kind, message) = if let Some(of_ssh) = ssh::complaint(&complaint).or_else(|| ssh::complaint(&lower))
    {
        of_ssh
    } else if complaint.contains("not found") && (complaint.contains("ssh:") || complaint.contains("exec")) {
        (
            ErrorKind::Unsupported,
            "there is no ssh program here, or no hg on the server: install it, or name it to the probe's builder",
        )
    } else if lower.contains("no suitable response from remote hg") {
        (
            ErrorKind::InvalidConfig,
            "the server has no hg, or it is called otherwise: install it there, or name it to the probe's builder",
        )
    } else if complaint.contains("no repository")
        || complaint.contains("repository") && complaint.contains("not found")
    {
        (ErrorKind::InvalidConfig, "the server has no such repository: check the path")
    } else {
        match word {
            "denied" => (
                ErrorKind::PermissionDenied,
                "the repository may not be read: check user, password and what they may read",
            ),
            "busy" => (ErrorKind::RateLimited, "the server is asked too often: look less often"),
            "unreachable" => (ErrorKind::Unavailable, "the server cannot be reached: check host and port"),
            "nowhere" => (ErrorKind::InvalidConfig, "there is no hg repository: check URL and path"),
            "unknown" => (
                ErrorKind::Unsupported,
                "the repository is of a kind that this Mercurial does not know: install a newer one, or an extension",
            ),
            "missing" => (
                ErrorKind::Unsupported,
                "Python has no Mercurial: install mercurial, or name the Python that has it",
            ),
            "error" => (
                ErrorKind::Unavailable,
                "Mercurial reports an error: if it stays, look at the repository with hg",
            ),
            _ => return nonsense("something that was not asked for"),
        }
    };
    let text = if text.is_empty() { output.complaint() } else { shown(text, 300) };
    Error::new(kind, message).with_context("mercurial", text)
}

fn broken(output: &CommandOutput) -> Error {
    Error::new(ErrorKind::Unavailable, "Mercurial broke: if it stays, look at the repository with hg")
        .with_context("mercurial", output.complaint())
}
