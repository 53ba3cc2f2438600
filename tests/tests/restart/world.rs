//! What schedulers work on: repositories, a store, builds that write down that they started.

use crate::{
    ahead::Ahead,
    kept::{self, Store},
    process::scheduler,
};
use capomastro_core::{
    Scheduler,
    model::{Build, Policy, ReceiptId, RetryOn, RetryPolicy, Timeouts},
    scheduler::{DependencySpec, TriggerRequest},
    time::{Clock as _, SystemClock},
};
use capomastro_probes::git::GitSource;
use capomastro_process::CommandJob;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

/// How long anything may take that must come. Generous: it only matters when something is wrong.
const LONG: Duration = Duration::from_secs(60);

/// Writes down that it started, waits while it is held, takes a while, perhaps fails, and leaves the pinned file.
const SCRIPT: &str = r#"set -eu
echo "$CAPOMASTRO_BUILD_ID $CAPOMASTRO_REVISION $$" >>"$ROOT/starts"
while [ -e "$ROOT/hold" ]; do sleep 0.05; done
for _ in $(seq "$LOOKS"); do
  if grep -q "observed $CAPOMASTRO_BUILD_ID" "$ROOT/signed"; then break; fi
  sleep 0.02
done
sleep "$PAUSE$((CAPOMASTRO_BUILD_NUMBER % 5))"
if [ -n "${STUMBLES:-}" ] && ! [ -e "$ROOT/stumbled-$CAPOMASTRO_REVISION" ]; then
  : >"$ROOT/stumbled-$CAPOMASTRO_REVISION"
  exit 1
fi
git --git-dir="$REPOSITORY/.git" show "$CAPOMASTRO_REVISION:version.txt" >"$CAPOMASTRO_ARTIFACTS/version.txt"
"#;

/// One start of a build, as the build itself wrote it down.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) key: String,
    pub(crate) revision: String,
    pub(crate) pid: u32,
}

/// A folder with one repository for each dependency, all of the project `all`, and a handle that only asks.
#[derive(Debug)]
pub(crate) struct World {
    folder: tempfile::TempDir,
    names: Vec<String>,
    kind: Kind,
    /// What was committed to each repository, the oldest first.
    commits: Mutex<BTreeMap<String, Vec<String>>>,
    /// What was given for each push.
    receipts: Mutex<Vec<ReceiptId>>,
    pub(crate) scheduler: Scheduler,
    pub(crate) store: Arc<Store>,
}

/// What is special in a world.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Kind {
    /// The store's clock is set forward instead of waiting.
    pub(crate) is_hurried: bool,
    /// The first build of each revision fails and is tried again.
    pub(crate) stumbles: bool,
    /// Builds go on until somebody has seen them running, or for some seconds.
    pub(crate) is_seen_running: bool,
}

impl World {
    /// A world with these dependencies, each with a first commit and looked at every second.
    pub(crate) async fn new(names: &[&str]) -> Self {
        Self::of(Kind::default(), names).await
    }

    /// The same, with something special in it.
    pub(crate) async fn of(kind: Kind, names: &[&str]) -> Self {
        Self::within(kind, names, |_| {}).await
    }

    /// The same, in a folder that is prepared first.
    pub(crate) async fn within(kind: Kind, names: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if kind.is_hurried {
            Ahead::of(folder.path()).advance(0);
        }
        prepare(folder.path());
        kept::prepare(folder.path());
        let (scheduler, store) = scheduler(folder.path(), "asking", None).await;
        let names = names.iter().map(|&n| n.to_owned()).collect();
        let (commits, receipts) = (Mutex::default(), Mutex::default());
        let world = Self { folder, names, kind, commits, receipts, scheduler, store };
        for name in &world.names {
            std::fs::create_dir(world.repository(name)).unwrap();
            world.git(name, &["init", "--quiet", "--initial-branch", name]);
            world.commit(name);
            world.scheduler.apply(&world.spec(name)).await.unwrap();
        }
        world
    }

    fn spec(&self, name: &str) -> DependencySpec {
        let repository = self.repository(name);
        let repository = repository.to_str().unwrap();
        let mut job = CommandJob::script(SCRIPT)
            .env("ROOT", self.root().to_str().unwrap())
            .env("REPOSITORY", repository)
            .env("LOOKS", if self.kind.is_seen_running { "200" } else { "0" })
            .env("PAUSE", if self.kind.is_hurried { "0.0" } else { "0." });
        let mut policy = Policy::default().with_look_every(Duration::from_secs(1));
        if self.kind.is_hurried {
            policy = policy.with_look_every(Duration::from_secs(30));
        } else {
            let mut timeouts = Timeouts::default();
            timeouts.probe = Duration::from_secs(1);
            policy = policy.with_timeouts(timeouts);
        }
        if self.kind.stumbles {
            job = job.env("STUMBLES", "yes");
            policy = policy.with_retry(RetryPolicy::default().with_max(1).with_on(RetryOn::Any));
        }
        let source = GitSource::new(repository).branch(name).source("git").unwrap();
        DependencySpec::new(name, source, "local")
            .unwrap()
            .with_policy(policy)
            .with_job(job)
            .in_project("all")
            .unwrap()
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn repository(&self, name: &str) -> PathBuf {
        self.root().join(format!("repository-{name}"))
    }

    fn git(&self, name: &str, args: &[&str]) -> String {
        let output = Command::new("git")
            .arg("-C")
            .arg(self.repository(name))
            .args(["-c", "user.name=Restart", "-c", "user.email=restart@example.org"])
            .args(["-c", "commit.gpgsign=false", "-c", "gc.auto=0"])
            .args(args)
            .output()
            .unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Commits something new.
    pub(crate) fn commit(&self, name: &str) {
        let file = self.repository(name).join("version.txt");
        let before = std::fs::read_to_string(&file).unwrap_or_default();
        std::fs::write(file, format!("{before}{name}\n")).unwrap();
        self.git(name, &["add", "version.txt"]);
        self.git(name, &["commit", "--quiet", "--message=more"]);
        let head = self.git(name, &["rev-parse", "HEAD"]);
        self.commits.lock().unwrap().entry(name.to_owned()).or_default().push(head);
    }

    /// The newest commit.
    pub(crate) fn head(&self, name: &str) -> String {
        self.commits(name).pop().unwrap()
    }

    /// All commits, the oldest first.
    pub(crate) fn commits(&self, name: &str) -> Vec<String> {
        self.commits.lock().unwrap()[name].clone()
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// Sets the store's clock forward.
    pub(crate) fn advance(&self, seconds: u64) {
        assert!(self.kind.is_hurried);
        Ahead::of(self.root()).advance(seconds);
    }

    /// Says that something was pushed.
    pub(crate) async fn push(&self, name: &str) {
        let receipt = self.scheduler.trigger(name, TriggerRequest::push()).await.unwrap();
        self.receipts.lock().unwrap().push(receipt);
    }

    /// What was given for each push.
    pub(crate) fn receipts(&self) -> Vec<ReceiptId> {
        self.receipts.lock().unwrap().clone()
    }

    /// Builds that run go on running.
    pub(crate) fn hold(&self) {
        std::fs::write(self.root().join("hold"), "").unwrap();
    }

    /// Builds that run may end.
    pub(crate) fn let_go(&self) {
        std::fs::remove_file(self.root().join("hold")).unwrap();
    }

    /// The lines of a file, none if it is not there.
    pub(crate) fn lines(&self, file: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.root().join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// What builds wrote down at their start.
    pub(crate) fn starts(&self) -> Vec<Start> {
        let start = |line: String| {
            let words: Vec<&str> = line.split(' ').collect();
            let [key, revision, pid] = words[..] else { panic!("not a start: {line}") };
            Start { key: key.into(), revision: revision.into(), pid: pid.parse().unwrap() }
        };
        self.lines("starts").into_iter().map(start).collect()
    }

    /// Whether a scheduler of this name had a build accepted, or looked at one of this key.
    pub(crate) fn signed(&self, name: &str, what: &str, key: Option<&str>) -> bool {
        self.lines("signed").iter().any(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            words[..2] == [name, what] && key.is_none_or(|k| words[2] == k)
        })
    }

    /// The recorded builds of all dependencies.
    pub(crate) async fn builds(&self) -> Vec<Build> {
        let mut all = Vec::new();
        for name in &self.names {
            let (builds, more) = self.scheduler.history(name, None, 1_000).await.unwrap();
            assert!(more.is_none());
            all.extend(builds);
        }
        all
    }

    /// What is missing until everything newest is linked, nothing is held or waits, and the project shows just that.
    pub(crate) async fn missing(&self) -> Option<String> {
        let mut linked = BTreeMap::new();
        for name in &self.names {
            let status = self.scheduler.status(name).await.unwrap();
            let state = status.state;
            let head = self.head(name);
            let settled = state.linked.as_ref().is_some_and(|l| l.revision.as_str() == head)
                && state.held.is_none()
                && state.waiting.is_empty()
                && state.stored.is_empty()
                && state.retry.is_none()
                && state.debt_since.is_none();
            if !settled {
                return Some(format!("{name} at {head}, why {:?}, {state:#?}", status.why));
            }
            linked.insert(state.id, state.linked?.build);
        }
        let status = self.scheduler.project_status("all").await.unwrap();
        let current = status.current.as_ref().map(|current| {
            let builds = current.slots.iter().filter_map(|(id, slot)| Some((*id, slot.build()?)));
            builds.collect::<BTreeMap<_, _>>()
        });
        if current.as_ref() == Some(&linked) && status.open.is_empty() {
            return None;
        }
        Some(format!("linked are {linked:?}, the project is {status:#?}"))
    }

    /// Waits until there is nothing left to do.
    pub(crate) async fn until_settled(&self, what: &str) {
        self.until_settled_or(what, || false).await;
    }

    /// Waits until there is nothing left to do, or something else is true. Returns whether it is settled.
    pub(crate) async fn until_settled_or(&self, what: &str, mut is_enough: impl FnMut() -> bool) -> bool {
        let until = SystemClock.monotonic().plus(LONG);
        for round in 1_u64.. {
            if is_enough() {
                return false;
            }
            let Some(missing) = self.missing().await else { break };
            assert!(SystemClock.monotonic() < until, "{what}: {missing}");
            SystemClock.sleep(Duration::from_millis(20)).await;
            if self.kind.is_hurried && round.is_multiple_of(3) {
                self.advance(4);
            }
        }
        true
    }

    /// Lets go of the store.
    pub(crate) async fn close(self) {
        kept::close(&self.store).await;
    }
}

/// Waits for something that must come.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = SystemClock.monotonic().plus(LONG);
    while !holds().await {
        assert!(SystemClock.monotonic() < until, "waited too long for: {what}");
        SystemClock.sleep(Duration::from_millis(10)).await;
    }
}

/// Whether a process exists that has not ended.
pub(crate) fn lives(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|s| s.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X'])))
}
