//! The programs of Subversion: what they are given, and what `svn info` says.
//!
//! They get an environment of their own: no configuration of the user, no prompt, no password that somebody saved. What
//! stands in `/etc/subversion` has a say, since the svn program cannot be told otherwise.

use super::{
    answer::{Failed, Found, Node, Origin, nonsense, refusal},
    key::below,
    revision::{is_date, is_uuid},
    xml::{Element, parse},
};
use crate::remote::{
    http::Credentials,
    ssh::{self, SshLogin},
    text::shown,
};
use capomastro_core::{
    Error, ErrorKind, Result,
    command::{Command, CommandOutput, CommandRunner, Exit},
};
use std::{collections::BTreeMap, ffi::OsString, path::Path, time::Duration};

/// The variable with the command line that starts ssh.
const TUNNEL: &str = "CAPOMASTRO_SVN_TUNNEL";

/// Codes of errors: there is nothing at a URL; there is no repository at it; what is there now was not there then.
const NO_SUCH_URL: u64 = 170_000;
const NO_SESSION: u64 = 170_013;
const UNRELATED: u64 = 195_012;
const NO_LOGIN: u64 = 215_004;

/// How the programs are called.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) svn: OsString,
    pub(super) svnserve: OsString,
    pub(super) ssh: String,
    /// What the embedder adds to the environment, such as `SSH_AUTH_SOCK`.
    pub(super) env: BTreeMap<OsString, OsString>,
}

/// With what the svn program is to look.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Means<'a> {
    /// The repository, where it is on this machine.
    pub(super) root: Option<&'a Path>,
    pub(super) credentials: Option<&'a Credentials>,
    pub(super) ssh: Option<(&'a SshLogin, Option<u16>)>,
}

/// What `svn info` prints about a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Info {
    pub(super) node: Node,
    /// The URL of the repository's root.
    pub(super) root: String,
    /// The newest revision of the repository, or the one that was asked about.
    head: u64,
    /// The path from the root of the repository, starting with a slash.
    own: String,
}

impl Program {
    /// What is at `path` below the URL.
    ///
    /// `is_seen` tells whether this is what everybody has seen there who asks, as far as it is known without a second run,
    /// which finds out where the content was when it was last changed.
    pub(super) async fn info(
        &self,
        runner: &dyn CommandRunner,
        url: &str,
        path: &str,
        means: Means<'_>,
        limits: (Duration, u64),
        is_seen: impl Fn(&Node) -> bool + Send + Sync,
    ) -> Result<Found, Failed> {
        let target = below(url, path);
        let command = self.svn_info(&format!("{target}@HEAD"), None, means, limits);
        let output = runner.run(&command).await.map_err(missing)?;
        let mut info = match output.exit {
            Exit::Code(0) => info(&output.stdout)?,
            _ if is_not_there(&output) => return Ok(Found::Nothing),
            _ => return Err(complaint(&output, means.credentials.is_some())),
        };
        if is_seen(&info.node) {
            return Ok(Found::Same);
        }
        // What was changed in the newest revision was changed here.
        if info.head > info.node.number {
            let target = format!("{target}@{}", info.head);
            let command = self.svn_info(&target, Some(info.node.number), means, limits);
            let output = runner.run(&command).await.map_err(missing)?;
            match output.exit {
                Exit::Code(0) => {
                    let then = self::info(&output.stdout)?;
                    if then.own != info.own {
                        info.node.origin = Origin::Elsewhere(then.own);
                    }
                }
                // What is hidden from us cannot be told apart.
                _ if said(&output).contains(&UNRELATED) => {}
                _ => return Err(complaint(&output, means.credentials.is_some())),
            }
        }
        Ok(Found::from(Some(info.node)))
    }

    fn svn_info(&self, target: &str, at: Option<u64>, means: Means<'_>, limits: (Duration, u64)) -> Command {
        let command = self.svn("info", means, limits).arg("--xml");
        let command = match at {
            Some(at) => command.args(["--revision".to_owned(), at.to_string()]),
            None => command,
        };
        command.args(["--", target])
    }

    /// The svn program with this subcommand, and with what it needs to meet the repository.
    pub(super) fn svn(&self, subcommand: &str, means: Means<'_>, limits: (Duration, u64)) -> Command {
        let mut command = Command::new(&self.svn)
            .args([subcommand, "--non-interactive", "--no-auth-cache"])
            // A folder that is not there and is not made.
            .args(["--config-dir", "/nonexistent/subversion"])
            .args(["--config-option", "config:auth:password-stores="])
            .env("HOME", "/nonexistent");
        if let Some(credentials) = means.credentials {
            command = command
                .args(["--username", &credentials.username, "--password-from-stdin"])
                .stdin(format!("{}\n", credentials.password.expose()));
        }
        if let Some((login, port)) = means.ssh {
            let port = port.map(|p| format!(" -p {p}")).unwrap_or_default();
            // The svn program splits this by rules of its own; what a shell is to make of it stands in a variable.
            command = command
                .env("SVN_SSH", format!("sh -c 'eval \"exec ${TUNNEL}\"' ssh"))
                .env(TUNNEL, format!("{}{port} \"$@\"", login.command_line(&self.ssh)));
            command = login.hand_over(command);
        }
        if let Some(root) = means.root {
            command = command.reads(root);
        }
        self.surrounded(command, limits)
    }

    /// The command with what is common to all.
    pub(super) fn surrounded(&self, command: Command, limits: (Duration, u64)) -> Command {
        let max = usize::try_from(limits.1).unwrap_or(usize::MAX);
        // Names of files are UTF-8, messages English.
        let command = command.deadline(limits.0).max_output(max).env("LC_ALL", "C.UTF-8");
        self.env.iter().fold(command, |command, (name, value)| command.env(name, value))
    }
}

/// What it means that a program could not be run.
pub(super) fn missing(e: Error) -> Error {
    if e.kind() != ErrorKind::NotFound {
        return e;
    }
    no_program().with_source(e)
}

/// Whether a shell, here or on a server, found no program.
pub(super) fn has_no_program(lower: &str) -> bool {
    lower.lines().any(|l| {
        l.ends_with("not found") && (l.contains("exec") || l.contains("svnserve") || l.contains("ssh"))
    })
}

pub(super) fn no_program() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "a program of Subversion or ssh is not there: install it, or name it to the probe's builder",
    )
}

/// Whether the repository answered, and has nothing at the path.
pub(super) fn is_not_there(output: &CommandOutput) -> bool {
    let codes = said(output);
    codes.contains(&NO_SUCH_URL) && !codes.contains(&NO_SESSION)
}

/// Reads what `svn info --xml` prints.
pub(super) fn info(xml: &[u8]) -> Result<Info> {
    let root = parse(xml)?;
    let missing = || nonsense("no facts of a path");
    let entry = root.child("", "entry").ok_or_else(missing)?;
    let number = |element: &Element| element.attribute("revision").and_then(|n| n.parse::<u64>().ok());
    let repository = entry.child("", "repository").ok_or_else(missing)?;
    let commit = entry.child("", "commit").ok_or_else(missing)?;
    let uuid = repository.text_of("", "uuid").filter(|u| is_uuid(u)).ok_or_else(missing)?;
    let head = number(entry).ok_or_else(missing)?;
    let root = repository.text_of("", "root").ok_or_else(missing)?;
    let own = entry.text_of("", "relative-url").and_then(|u| u.strip_prefix('^')).ok_or_else(missing)?;
    let own = percent_encoding::percent_decode_str(own).decode_utf8().map_err(|_| missing())?;
    Ok(Info {
        node: Node {
            uuid: uuid.to_owned(),
            number: number(commit).ok_or_else(missing)?,
            date: commit.text_of("", "date").filter(|d| is_date(d)).map(str::to_owned),
            author: commit.text_of("", "author").map(str::to_owned),
            origin: Origin::Here,
            history: Vec::new(),
            head: Some(head),
        },
        root: root.to_owned(),
        head,
        own: own.into_owned(),
    })
}

fn said(output: &CommandOutput) -> Vec<u64> {
    codes(&String::from_utf8_lossy(&output.stderr))
}

/// The codes in a complaint, such as `E170013`.
pub(super) fn codes(text: &str) -> Vec<u64> {
    let words = text.split_ascii_whitespace().filter_map(|w| w.strip_suffix(':'));
    words.filter_map(|w| w.strip_prefix(['E', 'W'])?.parse().ok()).take(20).collect()
}

/// What a complaint of the svn program means.
pub(super) fn complaint(output: &CommandOutput, logs_in: bool) -> Failed {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    let said = lines[lines.len().saturating_sub(4)..].join(" | ");
    let lower = text.to_ascii_lowercase();
    if let Some((kind, message)) = ssh::complaint(&lower) {
        return Failed::All(Error::new(kind, message).with_context("svn", shown(&said, 500)));
    }
    if has_no_program(&lower) {
        return Failed::All(no_program().with_context("svn", shown(&said, 500)));
    }
    let codes = codes(&text);
    let e = refusal(&codes, &said);
    if logs_in && (codes.contains(&NO_LOGIN) || lower.contains("authentication error")) {
        return Failed::All(e);
    }
    e.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_read() {
        let xml = "<?xml version=\"1.0\"?>\n<info><entry kind=\"dir\" path=\"sub\" revision=\"5\"><url>x</url>\
            <relative-url>^/a%20b</relative-url><repository><root>x</root><uuid>u-1</uuid></repository>\
            <commit revision=\"2\"><author>me</author><date>2026-11-23T14:14:24.656505Z</date></commit></entry></info>";
        let info = info(xml.as_bytes()).unwrap();
        assert_eq!((info.head, info.own.as_str(), info.node.number), (5, "/a b", 2));
        assert_eq!(info.node.author.as_deref(), Some("me"));
        for (from, to) in [("<uuid>u-1</uuid>", ""), ("revision=\"2\"", ""), ("^/", "/"), ("</info>", "")] {
            assert!(self::info(xml.replace(from, to).as_bytes()).is_err(), "{from}");
        }
        assert!(self::info(b"<info></info>").is_err());
    }

    #[test]
    fn codes_are_found_in_complaints() {
        let text = "svn: warning: W170000: URL 'E1:' is not\nsvn: E200009: Could not";
        assert_eq!(codes(text), [170_000, 200_009]);
    }
}
