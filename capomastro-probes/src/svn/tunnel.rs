//! `svnserve -t`, which speaks its protocol on standard input and output: on this machine, and started by ssh on another.
//!
//! Everything is said in advance and read at the end, so that one run of one small program is one look.

use super::{
    answer::{Nodes, refusal},
    conversation::{Conversation, Request, Step, Told},
    program::{Program, codes, has_no_program, missing, no_program},
    wire::Reader,
};
use crate::remote::{
    ssh::{self, SshLogin},
    text::shown,
};
use capomastro_core::{
    Error, ErrorKind, Result,
    command::{Command, CommandOutput, CommandRunner, Exit},
};
use std::{path::Path, time::Duration};

/// Where svnserve is started.
#[derive(Debug)]
pub(super) enum Tunnel<'a> {
    /// Here, for the repository in this directory.
    Here(&'a Path),
    /// On a host.
    Ssh { user: &'a str, host: &'a str, port: Option<u16>, login: &'a SshLogin },
}

impl Program {
    /// What is at each path below the URL; `None` if that cannot be told in this way.
    pub(super) async fn tunnel(
        &self,
        runner: &dyn CommandRunner,
        tunnel: Tunnel<'_>,
        url: &str,
        paths: &[String],
        limits: (Duration, u64),
    ) -> Result<Option<Nodes>> {
        let mut at = None;
        loop {
            let request = Request { url, paths, credentials: None, at };
            let (mut conversation, said) = Conversation::blind(request);
            let command = self.svnserve(&tunnel, limits).stdin(said);
            let output = runner.run(&command).await.map_err(missing)?;
            let mut reader = Reader::new(limits.1);
            reader.feed(&output.stdout)?;
            let step = loop {
                let Some(item) = reader.next()? else { return Err(ended_early(&output)) };
                match conversation.hear(&item)? {
                    Step::Listen | Step::Say(_) => {}
                    step => break step,
                }
            };
            match step {
                Step::Done(Told::Nodes(told)) => {
                    let nodes = paths.iter().cloned().zip(told.into_iter().map(|node| node.map(Into::into)));
                    return Ok(Some(nodes.collect()));
                }
                // Once it is said in which revision, there is no second time.
                Step::Done(Told::Moved(head)) if at.is_none() => at = Some(head),
                _ => return Ok(None),
            }
        }
    }

    fn svnserve(&self, tunnel: &Tunnel<'_>, limits: (Duration, u64)) -> Command {
        let command = match tunnel {
            // Neither the configuration of the repository nor one of this machine has a say, as for the svn program.
            Tunnel::Here(root) => {
                Command::new(&self.svnserve).args(["--tunnel", "--config-file", "/dev/null"]).reads(root)
            }
            Tunnel::Ssh { user, host, port, login } => {
                // The paths of the key and the known hosts stand in variables, which only a shell puts into arguments.
                let line = format!("exec {} \"$@\"", login.command_line(&self.ssh));
                let mut command = Command::new("sh").args(["-c", &line, "ssh"]);
                if let Some(port) = port {
                    command = command.args(["-p".to_owned(), port.to_string()]);
                }
                let host = host.trim_start_matches('[').trim_end_matches(']');
                login.hand_over(command.args(["--", &format!("{user}{host}"), "svnserve -t"]))
            }
        };
        self.surrounded(command, limits)
    }
}

/// What it means that a program said too little.
fn ended_early(output: &CommandOutput) -> Error {
    let text = String::from_utf8_lossy(&output.stderr);
    let lower = text.to_ascii_lowercase();
    let (kind, message) = if let Some(of_ssh) = ssh::complaint(&lower) {
        of_ssh
    } else if output.exit == Exit::Code(127) || has_no_program(&lower) {
        return no_program().with_context("said", shown(&output.complaint(), 500));
    } else if lower.contains("svnserve: e") {
        return refusal(&codes(&text), &text);
    } else {
        (ErrorKind::Unavailable, "svnserve ended before it had answered")
    };
    Error::new(kind, message).with_context("said", shown(&output.complaint(), 500))
}
