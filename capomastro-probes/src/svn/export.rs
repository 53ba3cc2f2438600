//! A revision's files, written into a folder by the svn program.

use super::{
    SvnProbe, SvnRevision, SvnSource,
    key::{Remote, below, file_url},
    local,
    look::discreet,
    program::{Means, complaint, info, is_not_there, missing},
};
use crate::{job_type::Export, remote::ssh::SshLogin};
use capomastro_core::{Error, ErrorKind, Result, command::Exit, model::Revision};

impl SvnProbe {
    /// Writes the files of a revision. Externals are left out.
    pub(crate) async fn export(
        &self,
        source: &SvnSource,
        revision: &Revision,
        export: &Export<'_>,
    ) -> Result<()> {
        let spec = source.check()?;
        let wanted = SvnRevision::try_from(revision)?;
        let credentials = match &spec.login {
            Some(login) => Some(login.resolve(export.secrets).await?),
            None => None,
        };
        let login =
            SshLogin::resolve(spec.ssh_key.as_ref(), spec.known_hosts.as_ref(), export.secrets).await?;
        let mut means = Means { credentials: credentials.as_ref(), ..Means::default() };
        let url = match &spec.remote {
            Remote::File(path) => {
                let place = local::find(&self.readers, path.clone()).await?;
                below(&file_url(&place.root), &place.inner)
            }
            Remote::Ssh { port, .. } => {
                means.ssh = Some((&login, *port));
                spec.remote.for_program()
            }
            other => other.for_program(),
        };
        let limits = (export.deadline, self.max_answer);
        let run = async |subcommand, args: &[&str]| {
            let command = self.program.svn(subcommand, means, limits).args(args);
            let output = export.runner.run(&export.limit(command)).await.map_err(missing)?;
            match output.exit {
                Exit::Code(0) => Ok(output.stdout),
                _ if is_not_there(&output) => Err(gone(revision)),
                _ => Err(complaint(&output, means.credentials.is_some()).into_error()),
            }
        };
        let written = async {
            let own = below(&url, &spec.path);
            let place = match &wanted.path {
                Some(path) => {
                    let now = info(&run("info", &["--xml", "--", &format!("{own}@HEAD")]).await?)?;
                    below(&now.root, path.trim_start_matches('/'))
                }
                None => own,
            };
            let place = format!("{place}@{}", wanted.number);
            let then = info(&run("info", &["--xml", "--", &place]).await?)?.node;
            if then.uuid != wanted.uuid
                || then.number != wanted.number
                || (wanted.date.is_some() && then.date != wanted.date)
            {
                return Err(gone(revision));
            }
            // What an `@` in the folder's name would mean.
            let folder = format!("{}@", export.tree.display());
            let args = ["--quiet", "--force", "--ignore-externals", "--", &place, &folder];
            run("export", &args).await.map(drop)
        };
        written.await.map_err(|e| discreet(e, credentials.as_ref()))
    }
}

fn gone(revision: &Revision) -> Error {
    Error::new(ErrorKind::NotFound, "the repository has this revision no more: look again")
        .with_context("revision", revision.as_str().escape_debug())
}
