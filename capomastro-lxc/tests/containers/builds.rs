//! What the tests of builds share: launchers, requests, looks.

use crate::support::folder;
use capomastro_core::{
    Result,
    launch::{
        BuildLauncher as _, BuildOutput as _, Ended, Journal, LaunchRequest, Launched, Outcome, Seen,
        SendBefore,
    },
    model::{BuildId, ExternalRef, LaunchKey},
    secret::Secrets,
    time::{Clock as _, Monotonic, SystemClock, SystemRandom},
};
use capomastro_lxc::{LxcJob, LxcLauncher, LxcLauncherBuilder, LxcRunner, LxcRunnerBuilder, Root};
use capomastro_process::CommandJob;
use serde_json::Value;
use std::{path::Path, time::Duration};
use tempfile::TempDir;

/// A launcher whose builds are in `at`.
pub(crate) fn launcher(at: &Path) -> LxcLauncher {
    launcher_with(at, |runner| runner, |launcher| launcher)
}

pub(crate) fn launcher_with(
    at: &Path,
    runner: impl FnOnce(LxcRunnerBuilder) -> LxcRunnerBuilder,
    launcher: impl FnOnce(LxcLauncherBuilder) -> LxcLauncherBuilder,
) -> LxcLauncher {
    let runner = runner(LxcRunner::builder(at.join("state"), Root::Host)).build().unwrap();
    launcher(LxcLauncher::builder(at.join("builds"), &runner)).build().unwrap()
}

/// A folder, and a launcher whose builds are in it; `None` where there are no containers.
pub(crate) fn new() -> Option<(LxcLauncher, TempDir)> {
    if !crate::support::there_are_containers() {
        return None;
    }
    let at = folder();
    Some((launcher(at.path()), at))
}

/// Keeps nothing.
#[derive(Debug)]
pub(crate) struct Forgets;

#[capomastro_core::async_trait]
impl Journal for Forgets {
    async fn keep(&self, _: Value) -> Result<()> {
        Ok(())
    }
}

pub(crate) fn new_build() -> BuildId {
    BuildId::draw(SystemClock.now(), &SystemRandom)
}

pub(crate) fn script(text: &str) -> LxcJob {
    LxcJob::new(CommandJob::script(text))
}

pub(crate) fn request_of(build: BuildId, job: &LxcJob) -> LaunchRequest {
    LaunchRequest::new(
        build,
        LaunchKey::of(build),
        "lib foo/🦀".parse().unwrap(),
        7,
        "r-1 $(touch pwned) '\"".parse().unwrap(),
        1,
        job.clone().into(),
        Duration::from_secs(30),
        SendBefore(Monotonic(Duration::MAX)),
        Secrets::none(),
    )
}

pub(crate) fn request(job: &LxcJob) -> LaunchRequest {
    request_of(new_build(), job)
}

pub(crate) async fn launch(launcher: &LxcLauncher, request: &LaunchRequest) -> ExternalRef {
    match launcher.launch(request, &Forgets).await.unwrap_or_else(|e| panic!("{}", e.report())) {
        Launched::Accepted(reference) => reference,
        Launched::Refused(why) => panic!("refused: {}", why.reason),
    }
}

/// Why a job is refused.
pub(crate) async fn refusal(launcher: &LxcLauncher, job: &LxcJob) -> String {
    match launcher.launch(&request(job), &Forgets).await.unwrap_or_else(|e| panic!("{}", e.report())) {
        Launched::Accepted(_) => panic!("{job:?} is accepted"),
        Launched::Refused(why) => {
            assert!(why.permanent);
            why.reason
        }
    }
}

pub(crate) async fn look(launcher: &LxcLauncher, build: &ExternalRef) -> Seen {
    let asked = [(LaunchKey::of(new_build()), build.clone())];
    launcher.observe(&asked).await.remove(0).unwrap_or_else(|e| panic!("{}", e.report())).seen
}

/// Waits for a build's end.
pub(crate) async fn end(launcher: &LxcLauncher, build: &ExternalRef) -> Ended {
    let until = SystemClock.monotonic().plus(Duration::from_secs(60));
    loop {
        match look(launcher, build).await {
            Seen::Ended(ended) => return ended,
            Seen::Running => {}
            other => panic!("{other:?}"),
        }
        assert!(SystemClock.monotonic() < until, "the build does not end");
        SystemClock.sleep(Duration::from_millis(5)).await;
    }
}

/// Runs a job to its end: how it ended, and what it said.
pub(crate) async fn build(launcher: &LxcLauncher, job: &LxcJob) -> (Ended, String) {
    let request = request(job);
    let reference = launch(launcher, &request).await;
    let ended = end(launcher, &reference).await;
    assert_eq!(groups(request.key), Vec::<String>::new());
    (ended, log(launcher, &reference).await)
}

/// What a job says that must end well.
pub(crate) async fn says(launcher: &LxcLauncher, job: &LxcJob) -> String {
    let (ended, said) = build(launcher, job).await;
    assert_eq!(ended.outcome, Outcome::Succeeded, "{ended:?}\n{said}");
    said
}

pub(crate) async fn log(launcher: &LxcLauncher, build: &ExternalRef) -> String {
    let chunk = launcher.log(build, 0, usize::MAX).await.unwrap();
    String::from_utf8_lossy(&chunk.bytes).into_owned()
}

/// The control groups of a build's container.
pub(crate) fn groups(key: LaunchKey) -> Vec<String> {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|e| e.path());
    let roots = hierarchies.chain(["/sys/fs/cgroup".into()]).map(|root| root.join("capomastro"));
    let entries = roots.filter_map(|root| std::fs::read_dir(root).ok()).flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(&key.to_string())).collect()
}

/// The processes of this machine whose command line contains `mark`.
pub(crate) fn pids(mark: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let of = |entry: std::fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let is_own = u32::try_from(pid).is_ok_and(|pid| pid == std::process::id());
        (!is_own && String::from_utf8_lossy(&line).contains(mark)).then_some(pid)
    };
    entries.filter_map(of).collect()
}

pub(crate) fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    if let Err(error) = rustix::process::kill_process(pid, rustix::process::Signal::KILL) {
        assert_eq!(error, rustix::io::Errno::SRCH, "it may have ended by itself");
    }
}
