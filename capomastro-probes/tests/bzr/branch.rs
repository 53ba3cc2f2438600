//! Real branches, made by the brz program with an environment of its own, and its server.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// Whether there is a brz. Loud where not, and a failure where all tests must run.
pub(crate) fn brz_is_there() -> bool {
    let is_there = Command::new("brz").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !is_there {
        assert!(std::env::var_os("CI").is_none(), "brz is needed: apt-get install brz");
        eprintln!("SKIPPED: a test of the bzr probe needs brz (apt-get install brz)");
    }
    is_there
}

/// Runs brz in `dir`, which must succeed; what it prints.
pub(crate) fn brz(dir: &Path, args: &[&str]) -> String {
    let output = command(dir, args).output().expect("the program brz, of Debian's package brz");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("brz prints UTF-8").trim().to_owned()
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("brz");
    command.args(args).current_dir(dir).env_clear().envs([
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("HOME", "/nonexistent"),
        ("BRZ_HOME", "/nonexistent"),
        ("BRZ_LOG", "/dev/null"),
        ("BRZ_EMAIL", "A <a@example.org>"),
        ("LC_ALL", "C.UTF-8"),
    ]);
    command
}

/// Folders with branches in them.
#[derive(Debug)]
pub(crate) struct Branches {
    pub(crate) root: TempDir,
}

impl Branches {
    pub(crate) fn new() -> Self {
        Self { root: TempDir::new().expect("a directory for temporary files") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn url(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A new, empty branch.
    pub(crate) fn init(&self, name: &str, options: &[&str]) {
        brz(self.root.path(), &[&["init", "--quiet"], options, &[name]].concat());
    }

    /// A new commit; its revision-id.
    pub(crate) fn commit(&self, name: &str) -> String {
        let path = self.path(name);
        brz(&path, &["commit", "--quiet", "--unchanged", "-m", "x"]);
        self.tip(name)
    }

    pub(crate) fn tip(&self, name: &str) -> String {
        let said = brz(&self.path(name), &["revision-info"]);
        said.split_once(' ').expect("a number and an id").1.to_owned()
    }
}

/// `brz serve`, until this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
}

impl Server {
    pub(crate) fn over(root: &Path) -> Self {
        let directory = format!("--directory={}", root.display());
        let mut child = command(root, &["serve", "--listen=127.0.0.1", "--port=0", &directory])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("brz runs");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let port = loop {
            let line = lines.next().expect("brz says its port").expect("a line");
            if let Some(port) = line.strip_prefix("listening on port: ") {
                break port.trim().parse().expect("a port");
            }
        };
        Self { child, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}
