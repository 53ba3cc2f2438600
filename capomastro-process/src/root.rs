//! The folder in which all builds of a launcher are kept.

use crate::{
    fault::on_disk,
    folder::{Folder, write_durably},
};
use capomastro_core::{Error, ErrorKind, Result, model::LaunchKey, time::Random};
use serde::{Deserialize, Serialize};
use std::{fs, io, path::PathBuf};

const FILE: &str = "root.json";

#[derive(Serialize, Deserialize)]
struct Identity {
    format: u32,
    id: String,
}

/// The folder in which all builds of a launcher are kept. It has an identity of its own: "no such build" means something
/// only where it is the folder in which the build would be, and not, say, the empty place where a disk is not mounted.
#[derive(Clone, Debug)]
pub(crate) struct Root(PathBuf);

impl Root {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) const fn path(&self) -> &PathBuf {
        &self.0
    }

    pub(crate) fn folder(&self, key: LaunchKey) -> Folder {
        Folder::new(self.0.join(key.to_string()), key)
    }

    /// Its identity; `None` if there is no such folder yet.
    pub(crate) fn id(&self) -> Result<Option<String>> {
        let file = self.0.join(FILE);
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(on_disk("read the folder of builds", &file, e)),
        };
        match serde_json::from_slice::<Identity>(&text) {
            Ok(Identity { format: 1, id }) => Ok(Some(id)),
            Ok(_) => Err(Error::new(
                ErrorKind::NewerFormat,
                "the folder of builds was written by a newer version: upgrade this program",
            )),
            Err(e) => Err(Error::new(
                ErrorKind::Corrupt,
                "the folder of builds has a damaged root.json: restore it, or use another folder",
            )
            .with_source(e)),
        }
        .map_err(|e| e.with_context("path", file.display()))
    }

    /// Its identity, made if there is none.
    pub(crate) fn ensure(&self, random: &dyn Random) -> Result<String> {
        if let Some(id) = self.id()? {
            return Ok(id);
        }
        let failed = |e| on_disk("make the folder of builds", &self.0, e);
        fs::create_dir_all(&self.0).map_err(failed)?;
        let identity = Identity { format: 1, id: format!("{:032x}", random.bits()) };
        let text =
            serde_json::to_vec(&identity).map_err(|e| Error::internal("no identity").with_source(e))?;
        let draft = self.0.join(format!(".{}.new", identity.id));
        write_durably(&draft, &text)?;
        // Of several who begin at once, one wins.
        let linked = fs::hard_link(&draft, self.0.join(FILE));
        fs::remove_file(&draft).map_err(failed)?;
        match linked {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failed(e)),
            _ => {}
        }
        fs::File::open(&self.0).and_then(|d| d.sync_all()).map_err(failed)?;
        self.id()?.ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "the folder of builds disappears under us: see who removes it")
                .with_context("path", self.0.display())
        })
    }

    /// The keys of all builds that have a folder.
    pub(crate) fn keys(&self) -> Result<Vec<LaunchKey>> {
        Ok(self.names()?.iter().filter_map(|n| n.parse().ok()).collect())
    }

    /// Folders whose removal was begun and not finished.
    pub(crate) fn leavings(&self) -> Result<Vec<PathBuf>> {
        Ok(self.names()?.iter().filter(|n| n.starts_with(".gone-")).map(|n| self.0.join(n)).collect())
    }

    fn names(&self) -> Result<Vec<String>> {
        let failed = |e| on_disk("list the folder of builds", &self.0, e);
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed(e)),
        };
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capomastro_core::time::SystemRandom;

    #[test]
    fn an_identity_is_made_once_whoever_begins() {
        let d = tempfile::tempdir().unwrap();
        let root = Root::new(d.path().join("deep/builds"));
        assert_eq!(root.id().unwrap(), None);
        let ids: Vec<String> = std::thread::scope(|s| {
            let all: Vec<_> = (0..8).map(|_| s.spawn(|| root.ensure(&SystemRandom).unwrap())).collect();
            all.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0] && id.len() == 32), "{ids:?}");
        assert_eq!(root.names().unwrap(), ["root.json"]);
    }

    #[test]
    fn a_damaged_or_newer_folder_is_not_used() {
        let d = tempfile::tempdir().unwrap();
        let root = Root::new(d.path().into());
        for (text, kind) in [("", ErrorKind::Corrupt), (r#"{"format":2,"id":"x"}"#, ErrorKind::NewerFormat)] {
            fs::write(d.path().join(FILE), text).unwrap();
            assert_eq!(root.ensure(&SystemRandom).unwrap_err().kind(), kind);
        }
    }
}
