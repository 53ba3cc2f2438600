//! Probes that look from inside real containers, with the same answers as from outside.
#![allow(clippy::unwrap_used, reason = "tests")]

use capomastro_core::{
    Error,
    model::Source,
    probe::{Ask, Probed, RevisionProbe},
    secret::Secrets,
};
use capomastro_lxc::{AddressRange, LxcRunner, Network, Root};
use capomastro_probes::{
    bzr::{BzrProbe, BzrSource},
    git::{GitProbe, GitSource},
    hg::{HgProbe, HgSource},
    svn::{SvnProbe, SvnSource},
};
use capomastro_process::ProcessRunner;
use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::Ipv4Addr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;

/// Whether there are containers on this machine. Loud where not, and a failure where all tests must run.
fn there_are_containers() -> bool {
    let there = Command::new("lxc-execute").arg("--version").output().is_ok_and(|o| o.status.success())
        && rustix::process::geteuid().is_root();
    if !there {
        assert!(std::env::var_os("CI").is_none(), "tests of containers need root, and the package lxc");
        eprintln!("SKIPPED: probes inside LXC containers (needs root and the package lxc)");
    }
    there
}

/// A folder that containers may pass through.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    folder
}

/// Runs a program that must succeed; what it prints.
fn run(dir: &Path, program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(args).current_dir(dir).env_clear().envs([
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("HOME", "/nonexistent"),
        ("BRZ_HOME", "/nonexistent"),
        ("BRZ_LOG", "/dev/null"),
        ("BRZ_EMAIL", "A <a@example.org>"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_AUTHOR_NAME", "A"),
        ("GIT_AUTHOR_EMAIL", "a@example.org"),
        ("GIT_COMMITTER_NAME", "A"),
        ("GIT_COMMITTER_EMAIL", "a@example.org"),
        ("HGRCPATH", ""),
        ("HGUSER", "A <a@example.org>"),
        ("LC_ALL", "C.UTF-8"),
    ]);
    let output = command.output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

async fn look(probe: &dyn RevisionProbe, source: &Source) -> Result<Probed, Error> {
    let ask = Ask::new("lib".parse().unwrap(), source.clone(), Duration::from_secs(60), Secrets::none());
    probe.probe(&[ask]).await.remove(0)
}

/// What is seen from inside and from outside: the revision, or nothing.
async fn both(inside: &dyn RevisionProbe, outside: &dyn RevisionProbe, source: &Source) -> Option<String> {
    let mut seen = Vec::new();
    for probe in [inside, outside] {
        seen.push(match look(probe, source).await {
            Ok(Probed::Observed(observation)) => Some(observation.revision.as_str().to_owned()),
            Ok(Probed::NotFound) => None,
            other => panic!("{source:?} by {probe:?}: {other:?}"),
        });
    }
    assert_eq!(seen[0], seen[1], "{source:?}");
    seen.remove(0)
}

fn runner(state: &Path, network: Network) -> Arc<LxcRunner> {
    Arc::new(LxcRunner::builder(state, Root::Host).network(network).build().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn git_from_inside() {
    if !there_are_containers() {
        return;
    }
    let (state, at) = (folder(), folder());
    let inside = GitProbe::builder().always_program(true).runner(runner(state.path(), Network::None)).build();
    let outside = GitProbe::new();
    run(at.path(), "git", &["init", "--quiet", "--bare", "--initial-branch=other", "a.git"]);
    run(at.path(), "git", &["clone", "--quiet", "a.git", "work"]);
    let work = at.path().join("work");
    let source =
        GitSource::new(at.path().join("a.git").display().to_string()).branch("main").source("git").unwrap();
    assert_eq!(both(&inside, &outside, &source).await, None);
    let push = |message: &str, amend: bool| {
        let amend: &[&str] = if amend { &["--amend"] } else { &[] };
        run(&work, "git", &[&["commit", "--quiet", "--allow-empty", "-m", message], amend].concat());
        run(&work, "git", &["push", "--quiet", "--force", "origin", "HEAD:main"]);
        run(&work, "git", &["rev-parse", "HEAD"])
    };
    let first = push("one", false);
    assert_eq!(both(&inside, &outside, &source).await, Some(first.clone()));
    let other = push("another one", true);
    assert_ne!(other, first);
    assert_eq!(both(&inside, &outside, &source).await, Some(other), "overwritten by one of the same length");
    run(&work, "git", &["push", "--quiet", "origin", ":main"]);
    assert_eq!(both(&inside, &outside, &source).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bzr_from_inside() {
    if !there_are_containers() {
        return;
    }
    let (state, at) = (folder(), folder());
    let inside = BzrProbe::builder().always_program(true).runner(runner(state.path(), Network::None)).build();
    let outside = BzrProbe::new();
    run(at.path(), "brz", &["init", "--quiet", "trunk"]);
    let trunk = at.path().join("trunk");
    let source = BzrSource::new(trunk.display().to_string()).source("bzr").unwrap();
    assert_eq!(both(&inside, &outside, &source).await, None);
    let commit = |dir: &Path| run(dir, "brz", &["commit", "--quiet", "--unchanged", "-m", "x"]);
    commit(&trunk);
    run(at.path(), "brz", &["branch", "--quiet", "trunk", "side"]);
    commit(&trunk);
    let second = both(&inside, &outside, &source).await.unwrap();
    commit(&at.path().join("side"));
    run(&at.path().join("side"), "brz", &["push", "--quiet", "--overwrite", "../trunk"]);
    let other = both(&inside, &outside, &source).await.unwrap();
    assert_ne!(other, second, "overwritten by one of the same length");
    fs::remove_dir_all(&trunk).unwrap();
    assert_eq!(both(&inside, &outside, &source).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hg_from_inside() {
    if !there_are_containers() {
        return;
    }
    let (state, at) = (folder(), folder());
    let inside = HgProbe::builder().always_program(true).runner(runner(state.path(), Network::None)).build();
    let outside = HgProbe::builder().runner(Arc::new(ProcessRunner::new())).build();
    run(at.path(), "hg", &["init", "trunk"]);
    let trunk = at.path().join("trunk");
    let source = HgSource::new(trunk.display().to_string()).source("hg").unwrap();
    assert_eq!(both(&inside, &outside, &source).await, None);
    let commit = |text: &str, options: &[&str]| {
        fs::write(trunk.join("f"), text).unwrap();
        run(&trunk, "hg", &[&["commit", "--quiet", "--addremove", "-m", "x"], options].concat())
    };
    commit("one", &[]);
    let first = both(&inside, &outside, &source).await.unwrap();
    commit("two", &["--amend"]);
    let other = both(&inside, &outside, &source).await.unwrap();
    assert_ne!(other, first, "overwritten by one of the same length");
    fs::remove_dir_all(&trunk).unwrap();
    assert_eq!(both(&inside, &outside, &source).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn svn_from_inside() {
    if !there_are_containers() {
        return;
    }
    let (state, at) = (folder(), folder());
    let inside = SvnProbe::builder().always_program(true).runner(runner(state.path(), Network::None)).build();
    let outside = SvnProbe::builder().runner(Arc::new(ProcessRunner::new())).build();
    let url = format!("file://{}/repo", at.path().display());
    run(at.path(), "svnadmin", &["create", "repo"]);
    run(at.path(), "svn", &["mkdir", "-q", "-m", "x", &format!("{url}/trunk"), &format!("{url}/other")]);
    let source = SvnSource::new(format!("{url}/trunk")).source("svn").unwrap();
    let first = both(&inside, &outside, &source).await.unwrap();
    run(at.path(), "svn", &["mkdir", "-q", "-m", "x", &format!("{url}/other/a")]);
    assert_eq!(both(&inside, &outside, &source).await.unwrap(), first, "beside it");
    run(at.path(), "svn", &["mkdir", "-q", "-m", "x", &format!("{url}/trunk/a")]);
    assert_ne!(both(&inside, &outside, &source).await.unwrap(), first);
    run(at.path(), "svn", &["rm", "-q", "-m", "x", &format!("{url}/trunk")]);
    assert_eq!(both(&inside, &outside, &source).await, None);
}

/// A bridge of its own, gone with the test.
struct Bridge {
    name: String,
    net: u8,
}

impl Bridge {
    fn make() -> Self {
        for net in 0..=255 {
            let name = format!("capolook{net}");
            if ip(&["link", "add", &name, "type", "bridge"]) {
                assert!(ip(&["addr", "add", &format!("10.215.{net}.1/24"), "dev", &name]));
                assert!(ip(&["link", "set", &name, "up"]));
                return Self { name, net };
            }
        }
        panic!("no bridge can be made");
    }

    fn at(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 215, self.net, last)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        assert!(ip(&["link", "del", &self.name]));
    }
}

fn ip(args: &[&str]) -> bool {
    Command::new("ip").args(args).output().expect("the program ip, of Debian's iproute2").status.success()
}

/// A process that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_a_bridge_is_reached_from_inside() {
    if !there_are_containers() {
        return;
    }
    let (bridge, state, at) = (Bridge::make(), folder(), folder());
    let range = AddressRange::new(bridge.at(2), bridge.at(9), 24).unwrap();
    let lxc = runner(state.path(), Network::bridge(&bridge.name, range));
    run(at.path(), "brz", &["init", "--quiet", "trunk"]);
    run(&at.path().join("trunk"), "brz", &["commit", "--quiet", "--unchanged", "-m", "x"]);
    let (listen, directory) =
        (format!("--listen={}", bridge.at(1)), format!("--directory={}", at.path().display()));
    let mut server = Server(
        Command::new("brz")
            .args(["serve", &listen, "--port=0", &directory])
            .envs([("BRZ_LOG", "/dev/null"), ("BRZ_HOME", "/nonexistent"), ("HOME", "/nonexistent")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut lines = BufReader::new(server.0.stderr.take().unwrap()).lines();
    let port = lines.find_map(|l| l.unwrap().strip_prefix("listening on port: ").map(str::to_owned)).unwrap();
    let inside = BzrProbe::builder().always_program(true).runner(lxc).build();
    let source = |path: &str| {
        BzrSource::new(format!("bzr://{}:{}/{path}", bridge.at(1), port.trim())).source("bzr").unwrap()
    };
    assert!(both(&inside, &BzrProbe::new(), &source("trunk")).await.is_some());
    assert_eq!(both(&inside, &BzrProbe::new(), &source("gone")).await, None);
    // Without a network it is not.
    let alone = folder();
    let cut_off =
        BzrProbe::builder().always_program(true).runner(runner(alone.path(), Network::None)).build();
    assert!(look(&cut_off, &source("trunk")).await.is_err());
}
