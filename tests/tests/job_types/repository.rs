//! A branch of git that holds scripts.

use capomastro_core::model::Revision;
use capomastro_probes::{git::GitSource, job_type::JobType};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// A folder through which containers may pass.
pub(crate) fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// The branch, and a working tree of it.
#[derive(Debug)]
pub(crate) struct Branch(TempDir);

impl Branch {
    pub(crate) fn new() -> Self {
        let branch = Self(folder());
        branch.git(&["init", "--quiet", "--initial-branch=main"]);
        branch
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git")
            .args(args)
            .current_dir(self.path())
            .env_clear()
            .envs([
                ("PATH", "/usr/local/bin:/usr/bin:/bin"),
                ("HOME", "/nonexistent"),
                ("GIT_CONFIG_NOSYSTEM", "1"),
                ("GIT_CONFIG_GLOBAL", "/dev/null"),
                ("GIT_AUTHOR_NAME", "A"),
                ("GIT_AUTHOR_EMAIL", "a@example.org"),
                ("GIT_COMMITTER_NAME", "A"),
                ("GIT_COMMITTER_EMAIL", "a@example.org"),
            ])
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Commits scripts; the new revision.
    pub(crate) fn commit(&self, scripts: &[(&str, &str)]) -> Revision {
        for (name, text) in scripts {
            let path: PathBuf = self.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", "x"]);
        self.git(&["rev-parse", "HEAD"]).parse().unwrap()
    }

    pub(crate) fn job_type(&self) -> JobType {
        JobType::Git(GitSource::new(self.path().to_str().unwrap()).branch("main"))
    }
}
