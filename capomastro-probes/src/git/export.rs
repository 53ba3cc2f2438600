//! A revision's files, written into a folder by the git program.

use super::{
    GitProbe, GitSource, credentials,
    program::{Introduction, argument, complaint, missing},
};
use crate::{job_type::Export, remote::ssh::SshLogin};
use capomastro_core::{
    Error, ErrorKind, Result,
    command::{Command, CommandOutput, Exit},
    model::Revision,
};

/// What a checkout needs to be the same everywhere; and nothing of what was fetched starts anything.
const SETTINGS: [&str; 6] = [
    "core.hooksPath=/dev/null",
    "core.autocrlf=false",
    "core.symlinks=true",
    "core.fsmonitor=false",
    "gc.auto=0",
    "maintenance.auto=false",
];
/// What a server says that does not hand out this commit by its id.
const NOT_BY_ID: [&str; 4] =
    ["not our ref", "unadvertised object", "couldn't find remote ref", "upload-pack: not our"];

impl GitProbe {
    /// Writes the files of a commit. Submodules stay empty, and no filter (such as LFS) has a say.
    pub(crate) async fn export(
        &self,
        source: &GitSource,
        revision: &Revision,
        export: &Export<'_>,
    ) -> Result<()> {
        let spec = source.check()?;
        let id = revision.as_str();
        if !matches!(id.len(), 40 | 64) || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::invalid("this is no commit of git: give what the git probe has seen")
                .with_context("revision", id.escape_debug()));
        }
        let introduction = Introduction {
            ssh: SshLogin::resolve(spec.ssh_key.as_ref(), spec.known_hosts.as_ref(), export.secrets).await?,
            http: credentials(&spec, export.secrets).await?,
        };
        let written = async {
            let repository = export.scratch.join("repository");
            let run = async |args: &[&str]| {
                let settings = SETTINGS.iter().flat_map(|setting| ["-c", setting]);
                let command = export.limit(Command::new(&self.program.git)).args(settings).args(args);
                let command = command.env("GIT_DIR", &repository).env("GIT_WORK_TREE", export.tree);
                let command = self.program.meet(command, &spec.remote, &introduction)?;
                export.runner.run(&command).await.map_err(missing)
            };
            good(&run(&["init", "--quiet", "--template="]).await?)?;
            let remote = argument(&spec.remote);
            let fetch = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"];
            // The one commit, where the server hands it out; otherwise what the ref holds.
            let by_id = run(&[&fetch[..], &["--depth=1", "--", &remote, id]].concat()).await?;
            if by_id.exit != Exit::Code(0) {
                let said = String::from_utf8_lossy(&by_id.stderr).to_ascii_lowercase();
                if !NOT_BY_ID.iter().any(|words| said.contains(words)) {
                    return Err(complaint(&by_id));
                }
                let refspec = format!("+{}:refs/fetched", spec.name);
                let by_ref = run(&[&fetch[..], &["--", &remote, &refspec]].concat()).await?;
                let said = String::from_utf8_lossy(&by_ref.stderr).to_ascii_lowercase();
                if said.contains("couldn't find remote ref") {
                    return Err(gone(id));
                }
                good(&by_ref)?;
            }
            let commit = format!("{id}^{{commit}}");
            if run(&["cat-file", "-e", &commit]).await?.exit != Exit::Code(0) {
                return Err(gone(id));
            }
            good(&run(&["checkout", "--quiet", "--force", "--detach", id]).await?)
        }
        .await;
        written.map_err(|e| match &introduction.http {
            Some(credentials) => credentials.keep_out_of(e),
            None => e,
        })
    }
}

fn good(output: &CommandOutput) -> Result<()> {
    match output.exit {
        Exit::Code(0) => Ok(()),
        _ => Err(complaint(output)),
    }
}

fn gone(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, "the repository has this commit no more: look again")
        .with_context("commit", id)
}
