//! The branch that holds the scripts; a service has a real one.

use capomastro_core::{Error, Result};
use capomastro_probes::{git::GitSource, job_type::JobType};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

pub(crate) struct Branch(PathBuf);

impl Branch {
    pub(crate) fn make(path: &Path) -> Result<Self> {
        fs::create_dir(path).map_err(Error::transient)?;
        let branch = Self(path.to_owned());
        branch.git(&["init", "--quiet", "--initial-branch=main"])?;
        Ok(branch)
    }

    pub(crate) fn commit(&self, scripts: &[(&str, &str)]) -> Result<()> {
        for (name, text) in scripts {
            let path = self.0.join(name);
            fs::write(&path, text).map_err(Error::transient)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(Error::transient)?;
        }
        self.git(&["add", "--all"])?;
        self.git(&[
            "-c",
            "user.name=A",
            "-c",
            "user.email=a@example.org",
            "commit",
            "--quiet",
            "-m",
            "scripts",
        ])
    }

    pub(crate) fn job_type(&self) -> JobType {
        JobType::Git(GitSource::new(self.0.display().to_string()).branch("main"))
    }

    fn git(&self, args: &[&str]) -> Result<()> {
        let status =
            Command::new("git").args(args).current_dir(&self.0).status().map_err(Error::transient)?;
        if status.success() { Ok(()) } else { Err(Error::internal(format!("git {args:?} failed"))) }
    }
}
