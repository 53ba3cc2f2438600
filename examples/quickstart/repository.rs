//! A real git repository, made and committed to with the git program.

use capomastro_core::{Error, Result};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

#[derive(Debug)]
pub(crate) struct Repository {
    path: PathBuf,
}

impl Repository {
    /// The repository in this folder; made if there is none.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(Error::transient)?;
        let path = path.canonicalize().map_err(Error::transient)?;
        let repository = Self { path };
        if !repository.path.join(".git").exists() {
            repository.git(&["init", "--quiet", "--initial-branch=main"])?;
            repository.git(&["commit", "--quiet", "--allow-empty", "--message=start"])?;
        }
        Ok(repository)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a branch with a first commit, unless there is one.
    pub(crate) fn ensure_branch(&self, branch: &str) -> Result<()> {
        if self.git(&["rev-parse", "--quiet", "--verify", &format!("refs/heads/{branch}")]).is_err() {
            self.git(&["switch", "--quiet", "--create", branch, "main"])?;
            self.commit(branch)?;
        }
        Ok(())
    }

    /// Makes a branch with an executable script in it, unless there is one.
    #[allow(dead_code, reason = "another example has a job type")]
    pub(crate) fn ensure_script(&self, branch: &str, name: &str, text: &str) -> Result<()> {
        if self.git(&["rev-parse", "--quiet", "--verify", &format!("refs/heads/{branch}")]).is_err() {
            self.git(&["switch", "--quiet", "--create", branch, "main"])?;
            std::fs::write(self.path.join(name), text).map_err(Error::transient)?;
            self.git(&["add", "--chmod=+x", name])?;
            self.git(&["commit", "--quiet", &format!("--message={name}")])?;
        }
        Ok(())
    }

    /// Commits something new to a branch, and returns the commit's id.
    pub(crate) fn commit(&self, branch: &str) -> Result<String> {
        self.git(&["switch", "--quiet", branch])?;
        let count = self.git(&["rev-list", "--count", "HEAD"])?;
        std::fs::write(self.path.join("version.txt"), format!("version {count}\n"))
            .map_err(Error::transient)?;
        self.git(&["add", "version.txt"])?;
        self.git(&["commit", "--quiet", &format!("--message={branch} {count}")])?;
        self.git(&["rev-parse", "HEAD"])
    }

    fn git(&self, args: &[&str]) -> Result<String> {
        let output = Command::new("git")
            .arg("-C")
            .arg(&self.path)
            .args(["-c", "user.name=Quickstart", "-c", "user.email=quickstart@example.org"])
            .args(["-c", "commit.gpgsign=false"])
            .args(args)
            .output()
            .map_err(|e| Error::config("the quickstart needs the git program: install git").with_source(e))?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Error::internal("git failed")
                .with_context("args", args.join(" "))
                .with_context("said", complaint));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}
