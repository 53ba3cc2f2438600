//! Builds as processes on this machine.

use crate::{
    builder::CommandLauncherBuilder,
    enclosure::Enclosure,
    folder::{Folder, Standing},
    group,
    job::CommandJob,
    result,
    root::Root,
    runner::blocking,
};
use async_trait::async_trait;
use capomastro_core::{
    Error, ErrorKind, Result,
    launch::{BuildLauncher, Found, Journal, LaunchRequest, Launched, Promise, Report, Seen},
    model::{ExternalRef, LaunchKey},
    time::{Clock, Random},
};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    fs, io, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf, sync::Arc, time::Duration,
};

/// Builds with processes on this machine, whose outcome survives the scheduler.
///
/// The job is a [`CommandJob`]. Each build has a folder of its own, named by its launch key, inside the one given to
/// [`builder`](CommandLauncher::builder), with the request, a workspace, the log, the artifacts and the exit status. What
/// the job prints is the log; what it writes to `$CAPOMASTRO_ARTIFACTS`, and what the job names, are its artifacts.
///
/// # What the build is told
///
/// Nothing of the scheduler's environment is inherited. Beside the job's own, the build has `PATH`, `PWD`,
/// `CAPOMASTRO_BUILD_ID` (the launch key), `CAPOMASTRO_DEPENDENCY`, `CAPOMASTRO_REVISION`, `CAPOMASTRO_BUILD_NUMBER`,
/// `CAPOMASTRO_BUILD_KEY` (if it was requested with one), `CAPOMASTRO_ARTIFACTS` (a folder), `CAPOMASTRO_PARAM_<NAME>` for
/// each parameter, and `CAPOMASTRO_BUILT_REVISION_FILE`: what it writes there is reported as the revision really built.
/// Values of secrets are in the build's environment and nowhere on disk.
///
/// # Why one key never starts two builds
///
/// - *One may start.* Each folder has a lock file. Who launches takes the lock (`flock`), and hands the open file on to
///   the build's supervisor, which hands it on to the build's first process. That process alone writes `started`
///   (written aside, synced, renamed, synced), lets go of the lock and becomes the build. The supervisor holds the lock
///   until it has written the status. The kernel frees a lock when the last process that holds it is gone, however it
///   went. So at any time at most one process can write `started`, and if the lock is free nobody can.
/// - *Once.* `started` is never removed before the build is forgotten, and who finds it starts nothing: a second launch
///   of the key adopts the build.
///
/// | killed | what is found afterwards |
/// |---|---|
/// | the scheduler, before or after making the folder, before the spawn | lock free, no `started`: proven absent; the next launch of the key cleans up and starts |
/// | the scheduler, after the spawn | the supervisor goes on; until `started` is there the lock is held: [`Found::Inconclusive`], then the build |
/// | the supervisor, before `started` | either the build's first process still holds the lock, goes on and ends as in the next row, or the lock is free: proven absent |
/// | the supervisor, later | its companion kills the build at once; without a status it has failed, and the message says why |
/// | the supervisor and its companion | the build runs on (its group is known by start time and environment); when it is gone, as above |
/// | the build | the supervisor writes the status |
/// | the machine | `started` names the boot it belongs to; without a status the build is lost |
/// | the launcher while it gathers artifacts | gathered again from the beginning |
///
/// Each folder of builds has an identity, which is part of every [`ExternalRef`] and is kept as the launch's memo before
/// anything is started. A launcher that finds another folder in its place (a disk that is not mounted, a replica on
/// another machine) says [`Unavailable`](ErrorKind::Unavailable) and never "unknown". The folder must be on a local disk:
/// locks of network file systems do not do what is needed.
///
/// # The end of a build
///
/// When the build's main process has ended, what it left in its process group is killed. A process that left the group
/// (`setsid`) is not followed. Exit status 0 is `Succeeded`, one of [`CommandJob::unstable`] is `Unstable`, others are
/// `Failed`; after a stop everything but 0 is `Cancelled`. A build that ended well without the artifacts it was to leave,
/// or with more than is allowed, has failed.
///
/// # Under a service manager
///
/// systemd kills all of a service's processes when it stops it, supervisors and builds too. For builds that outlive
/// `systemctl restart`, set `KillMode=process` in the scheduler's unit.
#[derive(Clone, Debug)]
pub struct CommandLauncher(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) root: Root,
    pub(crate) tools: String,
    pub(crate) setsid: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) enclosure: Option<Arc<dyn Enclosure>>,
}

impl CommandLauncher {
    /// Sets a launcher up that keeps its builds in the folder `root`, an absolute path on a local disk. It is made at the
    /// first launch. Several launchers, and several processes, may share it.
    pub fn builder(root: impl Into<PathBuf>) -> CommandLauncherBuilder {
        CommandLauncherBuilder::new(root.into())
    }
}

impl Inner {
    /// What a dependency's job says about the command.
    pub(crate) fn job(&self, job: &Value) -> Result<CommandJob> {
        let Some(enclosure) = &self.enclosure else { return CommandJob::parse(job) };
        let job = enclosure.job(job)?;
        job.check()?;
        Ok(job)
    }

    pub(crate) fn reference(id: &str, key: LaunchKey) -> ExternalRef {
        ExternalRef(format!("{id}/{key}"))
    }

    /// The folder of a build, which need not exist. An error if it would be in another folder of builds than ours.
    pub(crate) fn folder_of(&self, build: &ExternalRef) -> Result<Folder> {
        let parsed = build.0.split_once('/').and_then(|(id, key)| Some((id, key.parse::<LaunchKey>().ok()?)));
        let Some((id, key)) = parsed else {
            return Err(Error::invalid(
                "the reference is not one of the command launcher: see which launcher made it",
            )
            .with_context("build", build.0.escape_debug()));
        };
        self.must_be(id)?;
        Ok(self.root.folder(key))
    }

    pub(crate) fn must_be(&self, id: &str) -> Result<()> {
        if self.root.id()?.as_deref() == Some(id) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            "the folder of builds is not the one in which this build was started: \
             mount it, or ask the replica on the machine that has it",
        )
        .with_context("path", self.root.path().display()))
    }

    fn look(&self, build: &ExternalRef) -> Result<Seen> {
        let folder = self.folder_of(build)?;
        let standing = folder.standing()?;
        Ok(match standing {
            Standing::NotStarted => Seen::Unknown,
            Standing::Starting => Seen::Queued { why: Some("its supervisor is starting".into()) },
            Standing::Running | Standing::Orphaned(_) => Seen::Running,
            Standing::Ended(_) | Standing::Died { .. } => {
                match result::of(&folder, self.enclosure.as_deref())? {
                    // Somebody is gathering its artifacts.
                    None => Seen::Running,
                    Some((job, gathered)) => Seen::Ended(match standing {
                        Standing::Ended(status) => result::judge(status, &job, gathered),
                        _ => result::judge_dead(
                            matches!(standing, Standing::Died { restarted: true }),
                            folder.has("cancel"),
                            gathered,
                        ),
                    }),
                }
            }
        })
    }

    fn stop(&self, build: &ExternalRef) -> Result<()> {
        let folder = self.folder_of(build)?;
        match folder.standing()? {
            Standing::NotStarted | Standing::Ended(_) | Standing::Died { .. } => return Ok(()),
            Standing::Starting => {
                return Err(Error::new(ErrorKind::Unavailable, "the build is just being started: ask again"));
            }
            Standing::Running | Standing::Orphaned(_) => {}
        }
        folder.mark("cancel")?;
        // The supervisor's companion listens here; opening fails if nobody does.
        let control = folder.at("control");
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let asked = fs::File::options()
            .write(true)
            .custom_flags(nonblocking)
            .open(&control)
            .and_then(|mut pipe| pipe.write_all(b"stop\n"));
        match asked {
            Ok(()) => return Ok(()),
            // Asked so often that nobody has read it all: it is being stopped.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(_) => {}
        }
        // Nobody is left who could be asked to be gentle.
        if let Some(group) = folder.started()?.and_then(|started| started.living_group(folder.key())) {
            folder.mark("stopping")?;
            group::kill(group, Signal::KILL);
        }
        Ok(())
    }
}

#[async_trait]
impl BuildLauncher for CommandLauncher {
    fn promise(&self) -> Promise {
        Promise::IdempotentByKey
    }

    fn check_job(&self, job: &Value) -> Result<()> {
        self.0.job(job).map(drop)
    }

    /// A job that cannot work (its program or folder does not exist, a parameter cannot be a variable) is refused for
    /// good. Adopts a build of this key that is there already, whatever the request says.
    async fn launch(&self, request: &LaunchRequest, journal: &dyn Journal) -> Result<Launched> {
        self.launch_once(request, journal).await.map_err(|e| e.with_operation("launch build"))
    }

    async fn find(&self, request: &LaunchRequest) -> Result<Found> {
        let (this, memo, key) = (Arc::clone(&self.0), request.memo.clone(), request.key);
        blocking(move || {
            let Some(id) = this.kept_root(memo.as_ref())?.or(this.root.id()?) else {
                return Ok(Found::Absent);
            };
            Ok(match this.root.folder(key).standing()? {
                Standing::NotStarted => Found::Absent,
                Standing::Starting => Found::Inconclusive { look_again: Duration::from_secs(1) },
                _ => Found::Build(Inner::reference(&id, key)),
            })
        })
        .await
        .map_err(|e| e.with_operation("find build"))
    }

    /// The first look after a build's end copies and digests its artifacts, which takes as long as that takes; looks
    /// that come meanwhile see it running. When it is dropped, the work goes on.
    async fn observe(&self, builds: &[(LaunchKey, ExternalRef)]) -> Vec<Result<Report>> {
        let looks: Vec<_> = builds
            .iter()
            .map(|(_, build)| {
                let (this, build) = (Arc::clone(&self.0), build.clone());
                tokio::task::spawn(blocking(move || this.look(&build)))
            })
            .collect();
        let mut reports = Vec::with_capacity(looks.len());
        for look in looks {
            let seen = match look.await {
                Ok(seen) => seen,
                Err(e) => Err(Error::internal("looking at a build failed").with_source(e)),
            };
            reports.push(
                seen.map(|seen| Report { external: None, seen })
                    .map_err(|e| e.with_operation("observe build")),
            );
        }
        reports
    }

    /// Sends `SIGTERM` to the build's group and, after the job's grace, `SIGKILL`. The build's supervisor does it, so
    /// that it happens whatever becomes of the scheduler. A build whose supervisor was killed is killed at once.
    async fn cancel(&self, _key: &LaunchKey, build: &ExternalRef) -> Result<()> {
        let (this, build) = (Arc::clone(&self.0), build.clone());
        blocking(move || this.stop(&build)).await.map_err(|e| e.with_operation("cancel build"))
    }
}
