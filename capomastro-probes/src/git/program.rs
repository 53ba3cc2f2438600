//! Repositories that only the git program reads: those behind SSH, and local ones with refs in tables.
//!
//! The program gets an environment of its own: no configuration of this machine or user, no prompt, no transport but the
//! one that is meant.

use super::{
    listing::{Listing, Wants},
    protocol::refusal,
};
use crate::remote::{
    ssh::{self, SshLogin},
    text::shown,
};
use capomastro_core::{
    Error, ErrorKind, Result,
    command::{Command, CommandOutput, CommandRunner, Exit},
};
use std::{collections::BTreeMap, ffi::OsString, time::Duration};

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

/// Where the program looks.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    File,
    Ssh,
}

impl Program {
    /// The refs of a remote.
    pub(super) async fn list(
        &self,
        runner: &dyn CommandRunner,
        transport: Transport,
        remote: &str,
        login: &SshLogin,
        wants: &Wants,
        limits: (Duration, usize),
    ) -> Result<Listing> {
        let mut command = Command::new(&self.git)
            .args(["ls-remote", "--symref", "--", remote])
            .deadline(limits.0)
            .max_output(limits.1)
            .env("LC_ALL", "C")
            // No repository of its own, whose configuration would have a say.
            .env("GIT_DIR", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("SSH_ASKPASS_REQUIRE", "never")
            .env("GIT_ALLOW_PROTOCOL", if transport == Transport::Ssh { "ssh" } else { "file" })
            .env("GIT_SSH_VARIANT", "ssh")
            .env("GIT_SSH_COMMAND", login.command_line(&self.ssh));
        command = login.hand_over(command);
        if transport == Transport::File {
            command = command.reads(remote);
        }
        if wants.len() <= MAX_NAMED {
            for name in wants {
                command = command.arg(name.as_str());
                if name.starts_with("refs/tags/") {
                    command = command.arg(format!("{name}^{{}}"));
                }
            }
        }
        for (name, value) in &self.env {
            command = command.env(name, value);
        }
        let output = runner.run(&command).await.map_err(|e| match e.kind() {
            ErrorKind::NotFound => Error::new(
                ErrorKind::Unsupported,
                "there is no git program: install git, or name it to the probe's builder",
            )
            .with_source(e),
            _ => e,
        })?;
        match output.exit {
            Exit::Code(0) => Listing::of_lines(&output.stdout, wants),
            _ => Err(complaint(&output)),
        }
    }
}

/// What the program's complaint means. Unknown ones are taken for passing faults.
fn complaint(output: &CommandOutput) -> Error {
    let text = String::from_utf8_lossy(&output.stderr).to_ascii_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|p| text.contains(p));
    let (kind, message) = if let Some(of_ssh) = ssh::complaint(&text) {
        of_ssh
    } else if has(&["dubious ownership"]) {
        (ErrorKind::PermissionDenied, "the repository belongs to another user: let its owner run the probe")
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
            ("", ErrorKind::Unavailable),
        ] {
            let output = CommandOutput::new(Exit::Code(128), Vec::new(), stderr.into());
            let e = complaint(&output);
            assert_eq!(e.kind(), kind, "{stderr}: {e}");
        }
    }
}
