//! Real repositories, made by the hg program with an environment of its own, and its server.

use super::web::Answer;
use capomastro_probes::hg::HgSource;
use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
};
use tempfile::TempDir;

/// No two commits are the same.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Whether there is an hg. Loud where not, and a failure where all tests must run.
pub(crate) fn hg_is_there() -> bool {
    let is_there = Command::new("hg").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !is_there {
        assert!(std::env::var_os("CI").is_none(), "mercurial is needed: apt-get install mercurial");
        eprintln!("SKIPPED: a test of the hg probe needs hg (apt-get install mercurial)");
    }
    is_there
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("hg");
    command.args(args).current_dir(dir).env_clear().envs([
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("HOME", "/nonexistent"),
        ("HGRCPATH", ""),
        ("HGPLAIN", "1"),
        ("HGUSER", "A <a@example.org>"),
        ("LC_ALL", "C.UTF-8"),
    ]);
    command
}

/// A repository, `r` in a directory of its own.
#[derive(Debug)]
pub(crate) struct Repo {
    pub(crate) root: TempDir,
}

impl Repo {
    pub(crate) fn new() -> Self {
        let repo = Self { root: TempDir::new().unwrap() };
        let made = command(repo.root.path(), &["init", "r"]).status();
        assert!(made.expect("the program hg, of Debian's package mercurial").success());
        repo
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.root.path().join("r")
    }

    pub(crate) fn url(&self) -> String {
        self.path().display().to_string()
    }

    /// The source for its branch `default`.
    pub(crate) fn source(&self) -> HgSource {
        HgSource::new(self.url())
    }

    /// Runs hg in it, which must succeed; what it prints.
    pub(crate) fn hg(&self, args: &[&str]) -> String {
        let output = command(&self.path(), args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn node(&self) -> String {
        self.hg(&["log", "-r", ".", "-T", "{node}"])
    }

    /// A new commit on top of where the working directory is; its node.
    pub(crate) fn commit(&self) -> String {
        self.commit_with(&[])
    }

    pub(crate) fn commit_with(&self, options: &[&str]) -> String {
        let text = COUNT.fetch_add(1, Ordering::Relaxed).to_string();
        fs::write(self.path().join("f"), text).unwrap();
        self.hg(&["addremove", "--quiet"]);
        self.hg(&[&["commit", "--quiet", "-m", "x"], options].concat());
        self.node()
    }

    /// Replaces the last commit; the new node.
    pub(crate) fn amend(&self) -> String {
        self.commit_with(&["--amend"])
    }

    /// Takes a commit, and what is on top of it, away.
    pub(crate) fn strip(&self, what: &str) {
        self.hg(&["--config", "extensions.strip=", "strip", "--quiet", "--no-backup", "-r", what]);
    }

    pub(crate) fn update(&self, to: &str) {
        self.hg(&["update", "--quiet", "--clean", to]);
    }

    pub(crate) fn log(&self, what: &str) -> String {
        self.hg(&["log", "-r", what, "-T", "{node}"])
    }
}

/// `hg serve`, until this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
}

impl Server {
    pub(crate) fn over(repo: &Repo) -> Self {
        // What it logs goes nowhere: nobody reads on behind the first line.
        let args =
            ["serve", "-a", "127.0.0.1", "-p", "0", "-A", "/dev/null", "-E", "/dev/null", "--print-url"];
        let mut child = command(&repo.path(), &args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("hg runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().trim_end_matches('/').rsplit(':').next().unwrap().parse().expect("a port");
        Self { child, port }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it answers, for a server before it.
    pub(crate) fn ask(&self, path: &str) -> Answer {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        let at = all.windows(4).position(|w| w == b"\r\n\r\n").expect("headers end");
        let (head, body) = (String::from_utf8_lossy(&all[..at]).into_owned(), all[at + 4..].to_vec());
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let kind = head.lines().find_map(|l| l.strip_prefix("Content-Type: ")).unwrap_or("text/plain");
        Answer::Say(status, vec![("content-type", kind.to_owned())], body)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
