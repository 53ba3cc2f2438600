//! A scheduler as a process of its own: this test binary, executed again.

use crate::{
    deadly::{Deadly, Place, Points},
    kept::{self, Store},
    world::World,
};
use async_trait::async_trait;
use capomastro_core::{
    Result, Scheduler,
    launch::{BuildLauncher, Found, Journal, LaunchRequest, Launched, Promise, Report},
    model::{ExternalRef, LaunchKey},
    time::{Clock as _, SystemClock},
};
use capomastro_probes::git::GitProbe;
use capomastro_process::{CommandLauncher, ProcessRunner};
use serde_json::Value;
use std::{
    fs::OpenOptions,
    io::{Read as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
    time::Duration,
};

const ROOT: &str = "CAPOMASTRO_TEST_ROOT";
const NAME: &str = "CAPOMASTRO_TEST_NAME";
/// The point at which it kills itself, or freezes if that is said, and at which time.
const LAST: [&str; 3] =
    ["CAPOMASTRO_TEST_LAST_POINT", "CAPOMASTRO_TEST_LAST_TIME", "CAPOMASTRO_TEST_LAST_FREEZES"];

/// How long a stopped scheduler may take to end.
const END: Duration = Duration::from_secs(20);

/// A command launcher that writes down which scheduler had a build accepted, and which one looks at it.
#[derive(Debug)]
struct Signed {
    launcher: CommandLauncher,
    name: String,
    file: PathBuf,
}

impl Signed {
    fn sign(&self, what: &str, key: &LaunchKey) {
        append(&self.file, &format!("{} {what} {key}\n", self.name));
    }
}

/// Appends a line at once, so that lines of several processes do not mix.
pub(crate) fn append(file: &Path, line: &str) {
    OpenOptions::new().append(true).create(true).open(file).unwrap().write_all(line.as_bytes()).unwrap();
}

#[async_trait]
impl BuildLauncher for Signed {
    fn promise(&self) -> Promise {
        self.launcher.promise()
    }
    fn check_job(&self, job: &Value) -> Result<()> {
        self.launcher.check_job(job)
    }
    async fn launch(&self, request: &LaunchRequest, journal: &dyn Journal) -> Result<Launched> {
        let launched = self.launcher.launch(request, journal).await?;
        self.sign("launched", &request.key);
        Ok(launched)
    }
    async fn find(&self, request: &LaunchRequest) -> Result<Found> {
        self.launcher.find(request).await
    }
    async fn observe(&self, builds: &[(LaunchKey, ExternalRef)]) -> Vec<Result<Report>> {
        let reports = self.launcher.observe(builds).await;
        for (key, _) in builds {
            self.sign("observed", key);
        }
        reports
    }
    async fn cancel(&self, key: &LaunchKey, build: &ExternalRef) -> Result<()> {
        self.launcher.cancel(key, build).await
    }
}

/// A scheduler over what is in this folder.
pub(crate) async fn scheduler(root: &Path, name: &str, last: Option<Place>) -> (Scheduler, Arc<Store>) {
    let store = kept::open(root, name).await;
    let launcher = CommandLauncher::builder(root.join("builds")).build().unwrap();
    let launcher = Signed { launcher, name: name.to_owned(), file: root.join("signed") };
    let git = GitProbe::builder().runner(Arc::new(ProcessRunner::new())).build();
    let points = Points::new(last);
    let builder = Scheduler::builder(Deadly(Arc::clone(&store), points.clone()))
        .instance(name)
        .probe("git", Arc::new(Deadly(git, points.clone())))
        .launcher("local", Arc::new(Deadly(launcher, points)));
    (kept::leases(root, builder).build().unwrap(), store)
}

/// Builds what is there until the project is complete, and stops. As the process that the other tests start and kill, it is
/// given a folder and goes on until its standard input ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduler_runs_until_it_is_stopped() {
    if let Ok(root) = std::env::var(ROOT) {
        let name = std::env::var(NAME).unwrap();
        let last = std::env::var(LAST[0]).ok().map(|point| Place {
            point,
            time: std::env::var(LAST[1]).unwrap().parse().unwrap(),
            freezes: std::env::var(LAST[2]).is_ok(),
        });
        // Frozen, it would outlive the tests.
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
        let (scheduler, store) = scheduler(Path::new(&root), &name, last).await;
        let (ended, end) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            drop(std::io::stdin().read_to_end(&mut Vec::new()));
            ended.send(()).ok();
        });
        append(&Path::new(&root).join("runs"), &format!("{name}\n"));
        scheduler.run(async { drop(end.await) }).await.unwrap();
        kept::close(&store).await;
        return;
    }
    if !kept::is_there() {
        return;
    }
    let world = World::new(&["a", "b"]).await;
    let (scheduler, store) = scheduler(world.root(), "alone", None).await;
    scheduler.run(world.until_settled("the first builds")).await.unwrap();
    kept::close(&store).await;
    world.check().await;
    assert_eq!(world.starts().len(), 2);
}

/// A scheduler that runs. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Its end is the word to stop.
    stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts a scheduler; does not wait for it.
    pub(crate) fn start(world: &World, name: &str) -> Self {
        Self::start_with(world, name, |_| {})
    }

    /// One that kills or freezes itself at this place.
    pub(crate) fn start_deadly(world: &World, name: &str, last: &Place) -> Self {
        Self::start_with(world, name, |command| {
            command.env(LAST[0], &last.point).env(LAST[1], last.time.to_string());
            if last.freezes {
                command.env(LAST[2], "yes");
            }
        })
    }

    /// One whose process is set up in some further way.
    pub(crate) fn start_with(world: &World, name: &str, choose: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "process::a_scheduler_runs_until_it_is_stopped", "--nocapture"])
            .env(ROOT, world.root())
            .env(NAME, name)
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        choose(&mut command);
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        Self { child, stdin }
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has killed itself; fails if it ended in another way.
    pub(crate) fn has_died(&mut self) -> bool {
        let status = self.child.try_wait().unwrap();
        assert!(
            status.is_none_or(|s| s.signal() == Some(9)),
            "scheduler {} ended by itself: {status:?}",
            self.id()
        );
        status.is_some()
    }

    /// `SIGKILL`; fails if it had ended before.
    pub(crate) fn kill(mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "a scheduler ended by itself");
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, and waits until it has, which must be soon and well.
    pub(crate) async fn stop(mut self) {
        drop(self.stdin.take());
        let until = SystemClock.monotonic().plus(END);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "a scheduler that was stopped: {status}");
                return;
            }
            assert!(SystemClock.monotonic() < until, "a scheduler does not stop");
            SystemClock.sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
