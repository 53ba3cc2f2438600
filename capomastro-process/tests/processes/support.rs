//! What the tests share: waiting for conditions, requests, a journal.

use capomastro_core::{
    Result,
    launch::{BuildLauncher as _, Ended, Journal, LaunchRequest, Launched, Seen, SendBefore},
    model::{BuildId, ExternalRef, LaunchKey},
    secret::Secrets,
    time::{Clock as _, Monotonic, SystemClock, SystemRandom},
};
use capomastro_process::{CommandJob, CommandLauncher};
use serde_json::Value;
use std::{path::Path, sync::Mutex, time::Duration};

/// Waits until `condition` gives something. Generous: it only matters when something is wrong.
pub(crate) async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let until = SystemClock.monotonic().plus(Duration::from_secs(60));
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(SystemClock.monotonic() < until, "waited too long for: {what}");
        SystemClock.sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process exists that has not ended.
pub(crate) fn lives(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|s| s.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X'])))
}

/// The processes whose command line contains `mark`.
pub(crate) fn processes(mark: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(mark) && pid != std::process::id() && lives(pid) {
            found.push(pid);
        }
    }
    found
}

pub(crate) fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// A pid that a file says.
pub(crate) async fn pid_in(file: &Path) -> u32 {
    eventually("a pid in a file", || std::fs::read_to_string(file).ok()?.trim().parse().ok()).await
}

/// Keeps memos in memory.
#[derive(Debug, Default)]
pub(crate) struct Memos(pub(crate) Mutex<Vec<Value>>);

#[capomastro_core::async_trait]
impl Journal for Memos {
    async fn keep(&self, memo: Value) -> Result<()> {
        self.0.lock().unwrap().push(memo);
        Ok(())
    }
}

pub(crate) fn new_build() -> BuildId {
    BuildId::draw(SystemClock.now(), &SystemRandom)
}

pub(crate) fn request_of(build: BuildId, job: &CommandJob) -> LaunchRequest {
    LaunchRequest::new(
        build,
        LaunchKey::of(build),
        "lib foo/🦀".parse().unwrap(),
        7,
        "r-1 $(touch pwned) '\"".parse().unwrap(),
        1,
        serde_json::to_value(job).unwrap(),
        Duration::from_secs(30),
        SendBefore(Monotonic(Duration::MAX)),
        Secrets::none(),
    )
}

pub(crate) fn request(job: &CommandJob) -> LaunchRequest {
    request_of(new_build(), job)
}

pub(crate) fn launcher(root: &Path) -> CommandLauncher {
    CommandLauncher::builder(root.join("builds")).build().unwrap()
}

pub(crate) async fn launch(launcher: &CommandLauncher, request: &LaunchRequest) -> ExternalRef {
    match launcher.launch(request, &Memos::default()).await.unwrap() {
        Launched::Accepted(reference) => reference,
        Launched::Refused(why) => panic!("refused: {}", why.reason),
    }
}

pub(crate) async fn look(launcher: &CommandLauncher, build: &ExternalRef) -> Result<Seen> {
    let key = LaunchKey::of(new_build());
    launcher.observe(&[(key, build.clone())]).await.remove(0).map(|r| r.seen)
}

/// Waits for a build's end.
pub(crate) async fn end(launcher: &CommandLauncher, build: &ExternalRef) -> Ended {
    let until = SystemClock.monotonic().plus(Duration::from_secs(60));
    loop {
        match look(launcher, build).await.unwrap() {
            Seen::Ended(ended) => return ended,
            Seen::Running => {}
            other => panic!("{other:?}"),
        }
        assert!(SystemClock.monotonic() < until, "the build does not end");
        SystemClock.sleep(Duration::from_millis(5)).await;
    }
}

/// Runs a job to its end.
pub(crate) async fn build(launcher: &CommandLauncher, job: &CommandJob) -> (ExternalRef, Ended) {
    let reference = launch(launcher, &request(job)).await;
    let ended = end(launcher, &reference).await;
    (reference, ended)
}

pub(crate) async fn log(launcher: &CommandLauncher, build: &ExternalRef) -> String {
    use capomastro_core::launch::BuildOutput as _;
    let chunk = launcher.log(build, 0, usize::MAX).await.unwrap();
    String::from_utf8_lossy(&chunk.bytes).into_owned()
}
