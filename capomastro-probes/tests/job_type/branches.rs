//! Real branches of each kind, made by the programs with an environment of their own.

use capomastro_core::model::{Revision, Source};
use capomastro_core::probe::{Ask, Probed, RevisionProbe};
use capomastro_core::secret::Secrets;
use capomastro_probes::{
    bzr::{BzrProbe, BzrSource},
    git::{GitProbe, GitSource},
    hg::{HgProbe, HgSource},
    job_type::JobType,
    svn::{SvnProbe, SvnSource},
};
use capomastro_process::ProcessRunner;
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Git,
    Bzr,
    Hg,
    Svn,
}

pub(crate) const KINDS: [Kind; 4] = [Kind::Git, Kind::Bzr, Kind::Hg, Kind::Svn];

/// Runs a program, which must succeed; what it prints.
pub(crate) fn run(dir: &Path, program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .current_dir(dir)
        .env_clear()
        .envs([
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("HOME", "/nonexistent"),
            ("BRZ_HOME", "/nonexistent"),
            ("BRZ_LOG", "/dev/null"),
            ("BRZ_EMAIL", "A <a@example.org>"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_AUTHOR_NAME", "A"),
            ("GIT_AUTHOR_EMAIL", "a@example.org"),
            ("GIT_COMMITTER_NAME", "A"),
            ("GIT_COMMITTER_EMAIL", "a@example.org"),
            ("HGRCPATH", ""),
            ("HGPLAIN", "1"),
            ("LC_ALL", "C.UTF-8"),
        ])
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A branch, and a working tree of it.
#[derive(Debug)]
pub(crate) struct Branch {
    pub(crate) kind: Kind,
    pub(crate) root: TempDir,
}

impl Branch {
    /// An empty branch; none, loudly, if its program is not there.
    pub(crate) fn new(kind: Kind) -> Option<Self> {
        let (program, package) = match kind {
            Kind::Git => ("git", "git"),
            Kind::Bzr => ("brz", "brz"),
            Kind::Hg => ("hg", "mercurial"),
            Kind::Svn => ("svn", "subversion"),
        };
        if Command::new(program).arg("--version").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "{package} is needed: apt-get install {package}");
            eprintln!("SKIPPED: job types of {kind:?} (needs the package {package})");
            return None;
        }
        let branch = Self { kind, root: TempDir::new().unwrap() };
        fs::set_permissions(branch.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let root = branch.root.path();
        match kind {
            Kind::Git => drop(run(root, "git", &["init", "--quiet", "--initial-branch=main", "work"])),
            Kind::Bzr => drop(run(root, "brz", &["init", "--quiet", "work"])),
            Kind::Hg => drop(run(root, "hg", &["init", "work"])),
            Kind::Svn => {
                run(root, "svnadmin", &["create", "r"]);
                let url = format!("file://{}/r", root.display());
                run(
                    root,
                    "svn",
                    &["mkdir", "--quiet", "--non-interactive", "-m", "x", &format!("{url}/trunk")],
                );
                run(root, "svn", &["checkout", "--quiet", &format!("{url}/trunk"), "work"]);
            }
        }
        Some(branch)
    }

    /// One of git, which is always there.
    pub(crate) fn git() -> Self {
        Self::new(Kind::Git).unwrap()
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    pub(crate) fn job_type(&self) -> JobType {
        match self.kind {
            Kind::Git => JobType::Git(GitSource::new(self.work().to_str().unwrap()).branch("main")),
            Kind::Bzr => JobType::Bzr(BzrSource::new(self.work().to_str().unwrap())),
            Kind::Hg => JobType::Hg(HgSource::new(self.work().to_str().unwrap())),
            Kind::Svn => {
                JobType::Svn(SvnSource::new(self.root.path().join("r").to_str().unwrap()).path("trunk"))
            }
        }
    }

    /// Commits scripts, and files that are none where the name ends with `.txt`.
    pub(crate) fn commit(&self, files: &[(&str, &str)]) {
        let work = self.work();
        for (name, text) in files {
            let path = work.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            let mode = if name.ends_with(".txt") { 0o644 } else { 0o755 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        match self.kind {
            Kind::Git => {
                run(&work, "git", &["add", "--all"]);
                run(&work, "git", &["commit", "--quiet", "--allow-empty", "-m", "x"]);
            }
            Kind::Bzr => {
                run(&work, "brz", &["add", "--quiet"]);
                run(&work, "brz", &["commit", "--quiet", "--unchanged", "-m", "x"]);
            }
            Kind::Hg => {
                // A commit without a change is none to hg.
                let count = fs::read_to_string(work.join("count.txt")).unwrap_or_default();
                fs::write(work.join("count.txt"), count + "x").unwrap();
                run(&work, "hg", &["addremove", "--quiet"]);
                run(&work, "hg", &["commit", "--quiet", "-u", "A", "-m", "x"]);
            }
            Kind::Svn => {
                run(&work, "svn", &["add", "--quiet", "--force", "."]);
                for (name, _) in files {
                    if !name.ends_with(".txt") {
                        run(&work, "svn", &["propset", "--quiet", "svn:executable", "*", name]);
                    }
                }
                run(&work, "svn", &["commit", "--quiet", "--non-interactive", "-m", "x"]);
            }
        }
    }

    /// Takes the last commit back, so that the next one replaces it.
    pub(crate) fn take_back(&self) {
        let work = self.work();
        match self.kind {
            Kind::Git => {
                run(&work, "git", &["reset", "--quiet", "--hard", "HEAD~1"]);
                run(&work, "git", &["reflog", "expire", "--expire=now", "--all"]);
                run(&work, "git", &["gc", "--quiet", "--prune=now"]);
            }
            Kind::Bzr => {
                run(&work, "brz", &["uncommit", "--quiet", "--force"]);
                run(&work, "brz", &["revert", "--quiet", "--no-backup"]);
            }
            Kind::Hg => {
                let strip = ["--config", "extensions.strip=", "strip", "--quiet", "--no-backup", "-r", "tip"];
                run(&work, "hg", &strip);
            }
            Kind::Svn => panic!("a commit to Subversion stays"),
        }
    }

    /// What the branch is at, as the probe of its kind sees it.
    pub(crate) async fn tip(&self) -> Revision {
        let runner = Arc::new(ProcessRunner::new());
        let probe: Box<dyn RevisionProbe> = match self.kind {
            Kind::Git => Box::new(GitProbe::new()),
            Kind::Bzr => Box::new(BzrProbe::builder().runner(runner).build()),
            Kind::Hg => Box::new(HgProbe::builder().runner(runner).build()),
            Kind::Svn => Box::new(SvnProbe::builder().runner(runner).build()),
        };
        let source: Source = self.job_type().source().unwrap();
        let ask = Ask::new("x".parse().unwrap(), source, Duration::from_secs(60), Secrets::none());
        match probe.probe(&[ask]).await.remove(0).unwrap() {
            Probed::Observed(observation) => observation.revision,
            other => panic!("{other:?}"),
        }
    }
}
