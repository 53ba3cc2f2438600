//! Real repositories, made by the git program with an environment of their own.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
};
use tempfile::TempDir;

/// Every commit is made a minute after the one before.
static CLOCK: AtomicU64 = AtomicU64::new(1_400_000_000);

/// The environment of every git program that tests start.
pub(crate) fn env() -> Vec<(&'static str, String)> {
    let date = format!("@{} +0000", CLOCK.fetch_add(60, Ordering::Relaxed));
    vec![
        ("PATH", "/usr/local/bin:/usr/bin:/bin".into()),
        ("HOME", "/nonexistent".into()),
        ("LC_ALL", "C".into()),
        ("GIT_CONFIG_NOSYSTEM", "1".into()),
        ("GIT_CONFIG_GLOBAL", "/dev/null".into()),
        ("GIT_AUTHOR_NAME", "A".into()),
        ("GIT_AUTHOR_EMAIL", "a@example.org".into()),
        ("GIT_COMMITTER_NAME", "A".into()),
        ("GIT_COMMITTER_EMAIL", "a@example.org".into()),
        ("GIT_AUTHOR_DATE", date.clone()),
        ("GIT_COMMITTER_DATE", date),
    ]
}

/// Runs git in `dir`, which must succeed; what it prints.
pub(crate) fn git<S: AsRef<OsStr>>(dir: &Path, args: impl IntoIterator<Item = S>) -> String {
    let mut command = Command::new("git");
    command.args(args).current_dir(dir).env_clear().envs(env());
    let output = command.output().expect("git runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("git prints UTF-8").trim().to_owned()
}

/// A bare repository, `a.git` in a directory of its own.
#[derive(Debug)]
pub(crate) struct Repo {
    pub(crate) root: TempDir,
}

impl Repo {
    pub(crate) fn empty() -> Self {
        Self::with(&["--initial-branch=main"])
    }

    pub(crate) fn with(options: &[&str]) -> Self {
        let repo = Self { root: TempDir::new().expect("a directory for temporary files") };
        git(repo.root.path(), [&["init", "--quiet", "--bare"], options, &["a.git"]].concat());
        repo
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.root.path().join("a.git")
    }

    pub(crate) fn url(&self) -> String {
        self.path().display().to_string()
    }

    pub(crate) fn git(&self, args: &str) -> String {
        git(&self.path(), args.split(' '))
    }

    /// A new commit on top of `parents`, on no branch.
    pub(crate) fn commit(&self, parents: &[&str]) -> String {
        let tree = self.git("hash-object -t tree -w /dev/null");
        let parents: String = parents.iter().map(|p| format!(" -p {p}")).collect();
        self.git(&format!("commit-tree{parents} -m x {tree}"))
    }

    /// A new commit on top of `branch`, which moves there.
    pub(crate) fn advance(&self, branch: &str) -> String {
        let name = format!("refs/heads/{branch}");
        let tip = self.git(&format!("for-each-ref --format=%(objectname) {name}"));
        let id = self.commit(&[tip.as_str()].into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>());
        self.git(&format!("update-ref {name} {id}"));
        id
    }
}
