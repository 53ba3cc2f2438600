//! A revision's files, written into a folder by hg's library.

use super::{
    HgProbe, HgSource,
    heads::nonsense,
    program::{lines, missing},
};
use crate::job_type::Export;
use capomastro_core::{Error, ErrorKind, Result, model::Revision};

impl HgProbe {
    /// Writes the files of a changeset. Subrepositories are left out, and no filter has a say.
    pub(crate) async fn export(
        &self,
        source: &HgSource,
        revision: &Revision,
        export: &Export<'_>,
    ) -> Result<()> {
        let spec = source.check()?;
        super::heads::node(revision.as_str().as_bytes()).map_err(|_| {
            Error::invalid("this is no changeset of hg: give what the hg probe has seen")
                .with_context("revision", revision.as_str().escape_debug())
        })?;
        let introduction = super::introduction(&spec, export.secrets).await?;
        let command = self.program.library(&spec.remote, &introduction, "export", export.deadline)?;
        let copy = export.scratch.join("copy");
        let command = export.limit(command).arg(revision.as_str()).arg(export.tree).arg(copy);
        let told = export.runner.run(&command).await.map_err(missing).and_then(|output| lines(&output));
        let told = told.map_err(|e| introduction.discreet(e))?;
        match told.first().map(|(word, _)| word.as_str()) {
            Some("written") => Ok(()),
            Some("gone" | "none") => {
                Err(Error::new(ErrorKind::NotFound, "the repository has this changeset no more: look again")
                    .with_context("revision", revision))
            }
            _ => Err(nonsense("something that was not asked for")),
        }
    }
}
