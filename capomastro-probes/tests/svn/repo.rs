//! Real repositories, made by the programs of Subversion with an environment of their own.

use capomastro_probes::svn::SvnRevision;
use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// The environment of every program that tests start.
pub(crate) fn clean(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    command.env_clear().env("PATH", path).env("HOME", "/nonexistent").env("LC_ALL", "C.UTF-8");
    command
}

/// Runs a command, which must succeed; what it prints.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Whether there is such a program; a test that needs it is skipped, loudly, if not.
pub(crate) fn is_there(file: &str, package: &str) -> bool {
    let is_there = Path::new(file).exists();
    assert!(is_there || std::env::var_os("CI").is_none(), "{package} is needed: apt-get install {package}");
    if !is_there {
        eprintln!("SKIP: a test of the svn probe needs {package} (apt-get install {package})");
    }
    is_there
}

/// A repository, `r` in a directory of its own.
#[derive(Debug)]
pub(crate) struct Repo {
    pub(crate) root: TempDir,
}

impl Repo {
    /// An empty repository; none if Subversion is not installed.
    pub(crate) fn empty() -> Option<Self> {
        if !is_there("/usr/bin/svnadmin", "subversion") {
            return None;
        }
        let repo = Self { root: TempDir::new().expect("a directory for temporary files") };
        // For a web server, which has a user of its own.
        fs::set_permissions(repo.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        repo.create();
        Some(repo)
    }

    /// One with a folder that has a file: `trunk/f`, in revision 1.
    pub(crate) fn new() -> Option<Self> {
        let repo = Self::empty()?;
        repo.commit(&["mkdir", "trunk", "put", "@one", "trunk/f"]);
        Some(repo)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.root.path().join("r")
    }

    pub(crate) fn url(&self) -> String {
        self.path().display().to_string()
    }

    /// A new repository, in place of the one before.
    pub(crate) fn create(&self) {
        drop(fs::remove_dir_all(self.path()));
        self.admin(&["create"], &[]);
    }

    pub(crate) fn admin(&self, before: &[&str], after: &[&str]) -> String {
        run(clean("svnadmin").args(before).arg(self.path()).args(after))
    }

    /// A commit by svnmucc; `@text` stands for a file with this text. The revision that it made.
    pub(crate) fn commit(&self, actions: &[&str]) -> u64 {
        let file = |(n, action): (usize, &&str)| match action.strip_prefix('@') {
            None => (*action).to_owned(),
            Some(text) => {
                let path = self.root.path().join(format!("text-{n}"));
                fs::write(&path, text).unwrap();
                path.display().to_string()
            }
        };
        let actions: Vec<String> = actions.iter().enumerate().map(file).collect();
        let url = format!("file://{}", self.url());
        run(clean("svnmucc").args(["--non-interactive", "-m", "x", "-U", &url, "--"]).args(actions));
        self.head()
    }

    /// A commit that changes a file.
    pub(crate) fn put(&self, path: &str, text: &str) -> u64 {
        self.commit(&["put", &format!("@{text}"), path])
    }

    pub(crate) fn head(&self) -> u64 {
        run(clean("svnlook").arg("youngest").arg(self.path())).parse().unwrap()
    }

    pub(crate) fn uuid(&self) -> String {
        run(clean("svnlook").arg("uuid").arg(self.path()))
    }

    /// What a path is at whose content was last changed in revision `number`.
    pub(crate) fn at(&self, number: u64, origin: Option<&str>) -> SvnRevision {
        let props = ["--revprop", "-r", &number.to_string()];
        let date = run(clean("svnlook").arg("propget").args(props).arg(self.path()).arg("svn:date"));
        format!("{}@{number}@{date}{}", self.uuid(), origin.unwrap_or_default()).parse().unwrap()
    }

    /// Writes the configuration of svnserve.
    pub(crate) fn configure(&self, name: &str, text: &str) {
        fs::write(self.path().join("conf").join(name), text).unwrap();
    }

    /// All revisions up to this one.
    pub(crate) fn dump(&self, up_to: u64) -> PathBuf {
        let path = self.root.path().join(format!("dump-{up_to}"));
        let range = format!("0:{up_to}");
        run(clean("svnadmin").arg("dump").arg("-q").arg(self.path()).args(["-r", &range, "-F"]).arg(&path));
        path
    }

    /// Makes the repository anew of a dump, with its UUID.
    pub(crate) fn restore(&self, dump: &Path) {
        self.create();
        run(clean("svnadmin").args(["load", "-q"]).arg(self.path()).arg("-F").arg(dump));
    }
}
