//! What a look at a git repository costs, beside the program `git ls-remote`; and what a hundred branches of one remote
//! cost, beside one.
//!
//! Processor time is that of this process and all its children, as the kernel counts it in ticks of 10 ms.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

mod server;

use capomastro_core::{
    InMemoryStore, Scheduler,
    model::{First, Policy},
    probe::{Ask, Probed, RevisionProbe},
    scheduler::DependencySpec,
    secret::Secrets,
};
use capomastro_probes::git::{GitProbe, GitSource};
use capomastro_testkit::{ControllableLauncher, ManualClock};
use capomastro_tests::figure;
use server::{SERVE, Server, serve};
use std::{path::Path, process::Command, sync::Arc, time::Duration};

/// How many branches the repository has.
const BRANCHES: usize = 100;
/// How often `git ls-remote` is run.
const RUNS: usize = 150;
/// How often is looked in process, which must be long enough for ticks to count it.
const LOOKS: usize = 2_000;

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|a| a == SERVE) {
        return serve(arguments.next().unwrap().into());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.git");
    let tip = make(&path);
    let server = Server::start(folder.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (name, url) in [("git_http_cpu", server.url()), ("git_file_cpu", path.display().to_string())] {
        let by_program = each(RUNS, || ls_remote(&url, &tip));
        let probe = GitProbe::new();
        let ours = each(LOOKS, || runtime.block_on(look(&probe, &url, &tip)));
        figure(name, ours, by_program, "ms of processor time a look");
    }
    let (all, all_requests) = runtime.block_on(rounds(&server, BRANCHES));
    let (one, one_request) = runtime.block_on(rounds(&server, 1));
    figure("git_many_refs", all, one, "ms of processor time a round");
    figure("git_many_refs_requests", all_requests, one_request, "requests a round");
}

/// A bare repository with branches; the commit of each.
fn make(path: &Path) -> String {
    git(Path::new("/"), &["init", "--quiet", "--bare", "--initial-branch=b0", path.to_str().unwrap()]);
    let tree = git(path, &["hash-object", "-t", "tree", "-w", "/dev/null"]);
    let tip = git(path, &["commit-tree", "-m", "x", &tree]);
    for n in 0..BRANCHES {
        git(path, &["update-ref", &format!("refs/heads/b{n}"), &tip]);
    }
    git(path, &["pack-refs", "--all"]);
    tip
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(folder)
        .envs([
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_AUTHOR_NAME", "A"),
            ("GIT_AUTHOR_EMAIL", "a@example.org"),
            ("GIT_COMMITTER_NAME", "A"),
            ("GIT_COMMITTER_EMAIL", "a@example.org"),
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn ls_remote(url: &str, tip: &str) {
    assert_eq!(git(Path::new("/"), &["ls-remote", url, "refs/heads/b7"]), format!("{tip}\trefs/heads/b7"));
}

async fn look(probe: &GitProbe, url: &str, tip: &str) {
    let source = GitSource::new(url).branch("b7").source("git").unwrap();
    let ask = Ask::new("a".parse().unwrap(), source, Duration::from_secs(60), Secrets::none());
    match probe.probe(&[ask]).await.remove(0).unwrap() {
        Probed::Observed(seen) => assert_eq!(seen.revision.as_str(), tip),
        other => panic!("{other:?}"),
    }
}

/// Milliseconds of processor time that a call takes on the average.
fn each(calls: usize, mut call: impl FnMut()) -> f64 {
    call();
    let before = ticks();
    for _ in 0..calls {
        call();
    }
    mean(ticks() - before, calls)
}

fn mean(ticks: u32, calls: usize) -> f64 {
    f64::from(ticks) * 10.0 / f64::from(u32::try_from(calls).unwrap())
}

/// Processor time of this process and of all children that have ended, in user and in system mode.
fn ticks() -> u32 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name in parentheses may hold anything; behind it come the state and, as 11th to 14th, the times.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_ascii_whitespace().skip(11).take(4).map(|t| t.parse::<u32>().unwrap()).sum()
}

/// What a round of the scheduler costs in which this many branches are looked at together: processor time and requests.
async fn rounds(server: &Server, branches: usize) -> (f64, f64) {
    const ROUNDS: usize = 100;
    let clock = ManualClock::new();
    let scheduler = Scheduler::builder(Arc::new(InMemoryStore::new(Arc::new(clock.clone()))))
        .clock(Arc::new(clock.clone()))
        .probe("git", Arc::new(GitProbe::new()))
        .launcher("fake", Arc::new(ControllableLauncher::default()))
        .build()
        .unwrap();
    let every = Duration::from_secs(60);
    let mut policy = Policy::default().with_look_every(every);
    policy.first = First::Baseline;
    for n in 0..branches {
        let source = GitSource::new(server.url()).branch(format!("b{n}")).source("git").unwrap();
        let spec = DependencySpec::new(&format!("dependency-{n}"), source, "fake").unwrap();
        scheduler.apply(&spec.with_policy(policy.clone())).await.unwrap();
    }
    scheduler.tick().await.unwrap();
    let (before, requests) = (ticks(), server.requests());
    let mut looked = 0;
    for _ in 0..ROUNDS {
        clock.advance(every);
        looked += scheduler.tick().await.unwrap().taken;
    }
    let (took, requests) = (ticks() - before, server.requests() - requests);
    assert!(looked >= ROUNDS * branches, "{looked}");
    let requests = f64::from(u32::try_from(requests).unwrap()) / f64::from(u32::try_from(ROUNDS).unwrap());
    (mean(took, ROUNDS), requests)
}
