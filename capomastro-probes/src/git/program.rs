//! Repositories that the git program reads: those behind SSH, local ones with refs in tables, and all where the probe is
//! told so.
//!
//! The program gets an environment of its own: no configuration of this machine or user, no prompt, no transport but the
//! one that is meant.

use super::{
    key::Remote,
    listing::{Listing, Wants},
    protocol::refusal,
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
use std::{collections::BTreeMap, ffi::OsString, time::Duration};
use url::Url;

/// The variable that leads to user name and password.
const CREDENTIALS: &str = "CAPOMASTRO_GIT_CREDENTIALS";
/// What git runs in a shell to learn them; it adds what it wants (`get`) as an argument.
const HELPER: &str = r#"!f() { test "$1" != get || cat "$CAPOMASTRO_GIT_CREDENTIALS"; }; f"#;

/// More refs than this are not named to the program: it lists everything, and what is not wanted is not kept.
const MAX_NAMED: usize = 500;

/// How the program is called.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) git: OsString,
    pub(super) ssh: String,
    /// What the embedder adds to the environment, such as `SSH_AUTH_SOCK`.
    pub(super) env: BTreeMap<OsString, OsString>,
}

/// How a remote is to be met.
#[derive(Debug, Default)]
pub(super) struct Introduction {
    pub(super) ssh: SshLogin,
    pub(super) http: Option<Credentials>,
}

impl Program {
    /// The refs of a remote.
    pub(super) async fn list(
        &self,
        runner: &dyn CommandRunner,
        remote: &Remote,
        introduction: &Introduction,
        wants: &Wants,
        limits: (Duration, usize),
    ) -> Result<Listing> {
        let listed = self.ask(runner, remote, introduction, wants, limits).await;
        listed.map_err(|e| match &introduction.http {
            Some(credentials) => credentials.keep_out_of(e),
            None => e,
        })
    }

    async fn ask(
        &self,
        runner: &dyn CommandRunner,
        remote: &Remote,
        introduction: &Introduction,
        wants: &Wants,
        limits: (Duration, usize),
    ) -> Result<Listing> {
        let command = Command::new(&self.git)
            .args(["ls-remote", "--symref", "--", &argument(remote)])
            .deadline(limits.0)
            .max_output(limits.1)
            // No repository of its own, whose configuration would have a say.
            .env("GIT_DIR", "/dev/null");
        let mut command = self.meet(command, remote, introduction)?;
        if wants.len() <= MAX_NAMED {
            for name in wants {
                command = command.arg(name.as_str());
                if name.starts_with("refs/tags/") {
                    command = command.arg(format!("{name}^{{}}"));
                }
            }
        }
        let output = runner.run(&command).await.map_err(missing)?;
        match output.exit {
            Exit::Code(0) => Listing::of_lines(&output.stdout, wants),
            _ => Err(complaint(&output)),
        }
    }

    /// The command with what it needs to meet the remote, and with nothing of this user's.
    pub(super) fn meet(
        &self,
        command: Command,
        remote: &Remote,
        introduction: &Introduction,
    ) -> Result<Command> {
        let protocols = match remote {
            Remote::File(_) => "file",
            Remote::Http(_) => "http:https",
            Remote::Daemon { .. } => "git",
            Remote::Ssh { .. } => "ssh",
        };
        let command = command
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "")
            .env("SSH_ASKPASS_REQUIRE", "never")
            .env("GIT_ALLOW_PROTOCOL", protocols);
        let command = match remote {
            Remote::File(path) => command.reads(path),
            Remote::Http(url) => match &introduction.http {
                Some(credentials) => log_in(command, url, credentials)?,
                None => command,
            },
            Remote::Ssh { .. } => introduction
                .ssh
                .hand_over(command)
                .env("GIT_SSH_VARIANT", "ssh")
                .env("GIT_SSH_COMMAND", introduction.ssh.command_line(&self.ssh)),
            Remote::Daemon { .. } => command,
        };
        Ok(self.env.iter().fold(command, |command, (name, value)| command.env(name, value)))
    }
}

/// What the program is given for a remote.
pub(super) fn argument(remote: &Remote) -> String {
    match remote {
        Remote::File(path) => path.to_string_lossy().into_owned(),
        Remote::Http(url) => url.as_str().to_owned(),
        Remote::Daemon { .. } => remote.canonical(),
        Remote::Ssh { argument, .. } => argument.clone(),
    }
}

/// What it means that the program could not be run.
pub(super) fn missing(e: Error) -> Error {
    match e.kind() {
        ErrorKind::NotFound => Error::new(
            ErrorKind::Unsupported,
            "there is no git program: install git, or name it to the probe's builder",
        )
        .with_source(e),
        _ => e,
    }
}

/// The command that logs in at the server of `url`, and, as in process, at the encrypted one of the same name where that
/// is where it is sent; at no other.
fn log_in(command: Command, url: &Url, credentials: &Credentials) -> Result<Command> {
    let (username, password) = (&credentials.username, credentials.password.expose());
    if password.contains(['\n', '\0']) {
        return Err(Error::new(
            ErrorKind::PermissionDenied,
            "the password contains a line break or a NUL, which git cannot send: store it without",
        ));
    }
    let mut places = vec![url.origin().ascii_serialization()];
    if url.scheme() == "http" && url.port().is_none() {
        places.push(places[0].replacen("http", "https", 1));
    }
    let text = Secret::new(format!("username={username}\npassword={password}\n"));
    let mut command =
        command.secret_file(CREDENTIALS, text).env("GIT_CONFIG_COUNT", places.len().to_string());
    for (n, place) in places.iter().enumerate() {
        command = command
            .env(format!("GIT_CONFIG_KEY_{n}"), format!("credential.{place}.helper"))
            .env(format!("GIT_CONFIG_VALUE_{n}"), HELPER);
    }
    Ok(command)
}

/// What the program's complaint means. Unknown ones are taken for passing faults.
pub(super) fn complaint(output: &CommandOutput) -> Error {
    let text = String::from_utf8_lossy(&output.stderr).to_ascii_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|p| text.contains(p));
    let (kind, message) = if let Some(of_ssh) = ssh::complaint(&text) {
        of_ssh
    } else if has(&["could not read username", "could not read password"]) {
        (ErrorKind::PermissionDenied, "the server wants to know who asks: give username and password")
    } else if has(&["authentication failed"]) {
        (ErrorKind::PermissionDenied, "the server does not accept username and password: check both")
    } else if has(&["returned error: 403", "returned error: 407"]) {
        (ErrorKind::PermissionDenied, "the server refuses: check what the user may read")
    } else if has(&["returned error: 429"]) {
        (ErrorKind::RateLimited, "the server is asked too often: look less often")
    } else if has(&["returned error: 404", "returned error: 410"]) {
        (
            ErrorKind::InvalidConfig,
            "the server has no such repository, or does not show it to us: check URL and credentials",
        )
    } else if has(&["returned error: 408", "returned error: 504"]) {
        (ErrorKind::TimedOut, "the server, or one behind it, did not answer in time")
    } else if has(&["unable to update url base from redirection"]) {
        (ErrorKind::InvalidConfig, "the server sends us to something that is no repository: check the URL")
    } else if has(&["is this a git repository", "invalid server response", "bad line length character"]) {
        (ErrorKind::Corrupt, "the server answers with something that is no git repository: check the URL")
    } else if has(&["dubious ownership"]) {
        (ErrorKind::PermissionDenied, "the repository belongs to another user: let its owner run the probe")
    } else if has(&["unable to look up", "couldn't connect", "failed to connect"]) {
        (ErrorKind::Unavailable, "the server cannot be reached: check host and port")
    } else if has(&["is not a git command", "unknown option"]) {
        (ErrorKind::Unsupported, "the git program is too old: install git 2.28 or newer")
    } else if has(&["cannot run", "unable to fork", "not found\nfatal: could not read"]) {
        (
            ErrorKind::Unsupported,
            "there is no ssh program: install OpenSSH, or name it to the probe's builder",
        )
    } else {
        return refusal(&essence(&String::from_utf8_lossy(&output.stderr)));
    };
    Error::new(kind, message).with_context("git", essence(&String::from_utf8_lossy(&output.stderr)))
}

/// The lines of a complaint without those that git appends to each.
fn essence(text: &str) -> String {
    let appended =
        ["could not read from remote repository", "please make sure you have", "and the repository exists"];
    let telling = text.lines().map(str::trim).filter(|line| {
        let lower = line.to_ascii_lowercase();
        !line.is_empty() && !appended.iter().any(|a| lower.contains(a))
    });
    let mut lines: Vec<&str> = telling.collect();
    let last = lines.split_off(lines.len().saturating_sub(4));
    if last.is_empty() { "no reason given".into() } else { shown(&last.join(" | "), 500) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_told_apart() {
        for (stderr, kind) in [
            (
                "git@h: Permission denied (publickey).\nfatal: Could not read from remote repository.",
                ErrorKind::PermissionDenied,
            ),
            (
                "No ED25519 host key is known for h\nHost key verification failed.",
                ErrorKind::PermissionDenied,
            ),
            ("Load key \"/x\": error in libcrypto\ngit@h: Permission denied", ErrorKind::PermissionDenied),
            ("ssh: Could not resolve hostname h: Name or service not known", ErrorKind::Unavailable),
            ("ssh: connect to host h port 22: Connection refused", ErrorKind::Unavailable),
            ("ssh: connect to host h port 22: Connection timed out", ErrorKind::TimedOut),
            ("fatal: '/x' does not appear to be a git repository", ErrorKind::InvalidConfig),
            ("ERROR: Repository not found.\nfatal: Could not read", ErrorKind::InvalidConfig),
            ("sh: 1: ssh: not found\nfatal: Could not read from remote", ErrorKind::Unsupported),
            ("kex_exchange_identification: Connection closed by remote host", ErrorKind::Unavailable),
            ("fatal: Authentication failed for 'http://h/a/'", ErrorKind::PermissionDenied),
            (
                "fatal: could not read Username for 'http://h': terminal prompts disabled",
                ErrorKind::PermissionDenied,
            ),
            ("fatal: unable to access 'x': The requested URL returned error: 429", ErrorKind::RateLimited),
            ("fatal: unable to access 'x': The requested URL returned error: 503", ErrorKind::Unavailable),
            ("fatal: repository 'http://h/a/' not found", ErrorKind::InvalidConfig),
            ("fatal: unable to access 'x': Failed to connect to h port 1", ErrorKind::Unavailable),
            ("fatal: protocol error: bad line length character: <htm", ErrorKind::Corrupt),
            ("", ErrorKind::Unavailable),
        ] {
            let output = CommandOutput::new(Exit::Code(128), Vec::new(), stderr.into());
            let e = complaint(&output);
            assert_eq!(e.kind(), kind, "{stderr}: {e}");
        }
    }
}
