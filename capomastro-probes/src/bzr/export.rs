//! A revision's files, written into a folder by Breezy.

use super::{
    BzrProbe, BzrSource,
    key::Remote,
    program::{missing, said},
};
use crate::{job_type::Export, remote::ssh::SshLogin};
use capomastro_core::{Error, ErrorKind, Result, command::Exit, model::Revision};
use std::{fs, os::unix::fs::PermissionsExt as _};

/// What Breezy starts as its ssh: the line that it finds in a variable.
const SSH: &str = "#!/bin/sh\neval \"exec $CAPOMASTRO_BZR_SSH \\\"\\$@\\\"\"\n";

impl BzrProbe {
    /// Writes the files of a revision.
    pub(crate) async fn export(
        &self,
        source: &BzrSource,
        revision: &Revision,
        export: &Export<'_>,
    ) -> Result<()> {
        let spec = source.check()?;
        let credentials = match &spec.login {
            Some(login) => Some(login.resolve(export.secrets).await?),
            None => None,
        };
        let command =
            self.program.breezy(&spec.remote, spec.branch.as_deref(), credentials.as_ref(), export.deadline);
        let mut command = export.limit(command).arg(revision.as_str()).arg(export.tree);
        if let Remote::Ssh { .. } = &spec.remote {
            let login =
                SshLogin::resolve(spec.ssh_key.as_ref(), spec.known_hosts.as_ref(), export.secrets).await?;
            let ssh = export.scratch.join("ssh");
            write_program(&ssh)
                .map_err(|e| Error::transient(e).with_context("path", ssh.display().to_string()))?;
            command = login
                .hand_over(command)
                .env("CAPOMASTRO_BZR_SSH", login.command_line(&self.program.ssh))
                .env("BRZ_SSH", &ssh)
                .env("BZR_REMOTE_PATH", &self.program.remote);
        }
        let written = export.runner.run(&command).await.map_err(missing).and_then(|output| {
            let word = output.stdout.split(|b| *b == b'\n').next().unwrap_or_default();
            match (output.exit, word) {
                (Exit::Code(0), b"written") => Ok(()),
                (Exit::Code(0), b"gone" | b"none") => {
                    Err(Error::new(ErrorKind::NotFound, "the branch has this revision no more: look again")
                        .with_context("revision", revision.as_str().escape_debug()))
                }
                _ => match said(&output) {
                    Err(e) => Err(e),
                    Ok(_) => Err(Error::new(ErrorKind::Corrupt, "Breezy answered what was not asked")),
                },
            }
        });
        written.map_err(|e| match &credentials {
            Some(credentials) => credentials.keep_out_of(e),
            None => e,
        })
    }
}

fn write_program(path: &std::path::Path) -> std::io::Result<()> {
    fs::write(path, SSH)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}
