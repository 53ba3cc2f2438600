//! Builds by the scripts of job types.

use super::{
    checkouts::Checkouts,
    job::{BuildScript, JobTypeJob},
    pin,
};
use async_trait::async_trait;
use capomastro_core::{
    Error, ErrorKind, Result,
    launch::{
        BuildLauncher, BuildOutput, Chunk, Found, Journal, LaunchRequest, Launched, Promise, Refusal, Report,
        Seen,
    },
    model::{ExternalRef, LaunchKey, Revision},
    time::{Clock, Monotonic, SystemClock},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{fmt, sync::Arc, time::Duration};

type MakeJob = dyn Fn(Map<String, Value>, &BuildScript) -> Result<Value> + Send + Sync;

/// Builds by the scripts of job types, through another launcher.
///
/// The job is a [`JobTypeJob`]. A launch finds out which revision the branch is at, keeps it with the build, checks it out,
/// and gives the job with the script in it to the other launcher, whose promise, builds, log and artifacts are this
/// launcher's. A launch that is repeated after a crash runs the scripts of the revision that was kept; so does one of a
/// revision that says by which revision of the branch it was seen
/// ([`rebuild_on_type_change`](super::JobTypeSource::rebuild_on_type_change)).
///
/// The checkout stays until this launcher sees the end of the build, or for as long as
/// [`CheckoutsBuilder::keep_leased`](super::CheckoutsBuilder::keep_leased) says.
///
/// A branch, a revision of it or a script that is not there refuses the launch. What an [`ExternalRef`] means is the other
/// launcher's matter, but for builds of revisions that name the branch's: see [`JobTypeOutput`] for their output.
#[derive(Clone)]
pub struct JobTypeLauncher {
    checkouts: Checkouts,
    inner: Arc<dyn BuildLauncher>,
    make: Arc<MakeJob>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for JobTypeLauncher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobTypeLauncher").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// What is kept with a build.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Memo {
    /// The revision of the branch.
    job_type: Revision,
    /// What the other launcher keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inner: Option<Value>,
}

impl Memo {
    fn read(memo: Option<&Value>) -> Result<Option<Self>> {
        memo.map(Self::deserialize).transpose().map_err(|e| {
            Error::new(
                ErrorKind::Corrupt,
                "what is kept with the build is not the launcher of job types' own: see which launcher made it",
            )
            .with_source(e)
        })
    }

    fn write(&self) -> Result<Value> {
        serde_json::to_value(self).map_err(|e| Error::internal("no JSON").with_source(e))
    }
}

/// Keeps what the other launcher keeps, beside the revision of the branch.
#[derive(Debug)]
struct Beside<'a> {
    job_type: Revision,
    journal: &'a dyn Journal,
}

#[async_trait]
impl Journal for Beside<'_> {
    async fn keep(&self, memo: Value) -> Result<()> {
        let memo = Memo { job_type: self.job_type.clone(), inner: Some(memo) };
        self.journal.keep(memo.write()?).await
    }
}

impl JobTypeLauncher {
    /// A launcher that builds through `inner`. `make` makes its job of one and a script:
    /// [`command_job`](super::command_job) and [`lxc_job`](super::lxc_job) do for the launchers of processes and of
    /// containers. It must be a pure function.
    pub fn new(
        checkouts: Checkouts,
        inner: Arc<dyn BuildLauncher>,
        make: impl Fn(Map<String, Value>, &BuildScript) -> Result<Value> + Send + Sync + 'static,
    ) -> Self {
        Self { checkouts, inner, make: Arc::new(make), clock: Arc::new(SystemClock) }
    }

    /// The same launcher that bounds its own part of a launch by this clock.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// The request as the other launcher gets it.
    fn handed(&self, request: &LaunchRequest, job: &JobTypeJob, memo: &Memo) -> Result<LaunchRequest> {
        let script = BuildScript {
            dir: self.checkouts.place(&job.job_type, &memo.job_type)?,
            revision: memo.job_type.clone(),
            command: job.build.clone(),
        };
        let mut handed = request.clone();
        handed.job = (self.make)(job.job.clone(), &script)?;
        handed.memo.clone_from(&memo.inner);
        handed.revision = pin::split(request.revision.as_str()).1.parse()?;
        Ok(handed)
    }

    async fn launch_once(&self, request: &LaunchRequest, journal: &dyn Journal) -> Result<Launched> {
        let begun = self.clock.monotonic();
        let job = JobTypeJob::parse(&request.job)?;
        let (named, _) = pin::split(request.revision.as_str());
        let kept = Memo::read(request.memo.as_ref())?;
        let is_repeated = kept.is_some();
        let left = |end: Monotonic| end.since(self.clock.monotonic());
        // The other launcher needs some of the time.
        let end = begun.plus(request.timeout.saturating_sub(request.timeout / 4));
        let memo = match kept {
            Some(memo) => memo,
            None => {
                let job_type = match &named {
                    Some(job_type) => job_type.clone(),
                    None => {
                        let latest = self
                            .checkouts
                            // What was pushed to the branch before this build was decided counts.
                            .latest(&job.job_type, Some(Duration::ZERO), &request.secrets, left(end))
                            .await;
                        match latest {
                            Err(e) if e.kind() == ErrorKind::InvalidConfig => return Ok(refused(&e)),
                            latest => latest?,
                        }
                    }
                };
                let memo = Memo { job_type, inner: None };
                journal.keep(memo.write()?).await?;
                memo
            }
        };
        let handed = self.handed(request, &job, &memo)?;
        let checkout = match self
            .checkouts
            .get(&job.job_type, &memo.job_type, &request.secrets, left(end))
            .await
            .and_then(|checkout| {
                job.build.first().map_or(Ok(()), |s| checkout.script(s).map(drop)).map(|()| checkout)
            }) {
            Ok(checkout) => checkout,
            Err(e) => {
                // A build that was started before is there, whatever became of its scripts.
                if is_repeated {
                    match self.inner.find(&handed).await? {
                        Found::Build(external) => {
                            return Ok(Launched::Accepted(wrapped(named.as_ref(), external)));
                        }
                        Found::Inconclusive { .. } => {
                            return Err(Error::new(
                                ErrorKind::OutcomeUnknown,
                                "an earlier launch may have started the build, whose scripts cannot be had now",
                            )
                            .with_source(e));
                        }
                        Found::Absent => {}
                    }
                }
                return match e.kind() {
                    ErrorKind::InvalidConfig | ErrorKind::NotFound => Ok(refused(&e)),
                    _ => Err(e),
                };
            }
        };
        self.checkouts.lease(request.key, &checkout).await?;
        let beside = Beside { job_type: memo.job_type, journal };
        let launched = self.inner.launch(&handed, &beside).await?;
        Ok(match launched {
            Launched::Accepted(external) => Launched::Accepted(wrapped(named.as_ref(), external)),
            Launched::Refused(refusal) => {
                self.released(request.key).await;
                Launched::Refused(refusal)
            }
        })
    }

    /// The build has no need of its scripts any more. What fails here is made good by the lease's end.
    async fn released(&self, key: LaunchKey) {
        if let Err(e) = self.checkouts.release(key).await {
            tracing::warn!(%key, error = %e.report(), "could not let go of a job type's checkout");
        }
    }
}

/// Stands for a revision of the branch where none is needed.
fn unknown() -> Result<Revision> {
    "unknown".parse()
}

fn refused(e: &Error) -> Launched {
    Launched::Refused(Refusal { reason: e.report(), permanent: e.kind() == ErrorKind::InvalidConfig })
}

/// The other launcher's reference, marked with the revision of the branch where the dependency's revision is.
fn wrapped(named: Option<&Revision>, external: ExternalRef) -> ExternalRef {
    match named {
        Some(job_type) => ExternalRef(pin::prefixed(job_type, &external.0)),
        None => external,
    }
}

/// The revision of the branch with which a reference is marked, and the other launcher's own.
fn unwrapped(external: &ExternalRef) -> (Option<Revision>, ExternalRef) {
    let (named, own) = pin::split(&external.0);
    (named, ExternalRef(own.to_owned()))
}

/// A report in this launcher's words.
fn marked(mut report: Report, named: Option<&Revision>) -> Result<Report> {
    let Some(job_type) = named else { return Ok(report) };
    report.external = report.external.map(|external| wrapped(named, external));
    if let Seen::Ended(ended) = &mut report.seen
        && let Some(built) = &ended.built
    {
        ended.built = Some(pin::joined(job_type, built.as_str())?);
    }
    Ok(report)
}

#[async_trait]
impl BuildLauncher for JobTypeLauncher {
    fn promise(&self) -> Promise {
        self.inner.promise()
    }

    fn check_job(&self, job: &Value) -> Result<()> {
        let job = JobTypeJob::parse(job)?;
        let revision = unknown()?;
        let script = BuildScript {
            dir: self.checkouts.place(&job.job_type, &revision)?,
            revision,
            command: job.build,
        };
        self.inner.check_job(&(self.make)(job.job, &script)?)
    }

    async fn launch(&self, request: &LaunchRequest, journal: &dyn Journal) -> Result<Launched> {
        self.launch_once(request, journal).await.map_err(|e| e.with_operation("launch build by job type"))
    }

    async fn find(&self, request: &LaunchRequest) -> Result<Found> {
        let job = JobTypeJob::parse(&request.job)?;
        let (named, _) = pin::split(request.revision.as_str());
        // Whoever asks without what was kept is answered by what the other launcher knows without it.
        let memo = match Memo::read(request.memo.as_ref())? {
            Some(memo) => memo,
            None => Memo { job_type: unknown()?, inner: None },
        };
        Ok(match self.inner.find(&self.handed(request, &job, &memo)?).await? {
            Found::Build(external) => Found::Build(wrapped(named.as_ref(), external)),
            other => other,
        })
    }

    async fn observe(&self, builds: &[(LaunchKey, ExternalRef)]) -> Vec<Result<Report>> {
        let (named, own): (Vec<_>, Vec<_>) = builds
            .iter()
            .map(|(key, external)| {
                let (named, own) = unwrapped(external);
                (named, (*key, own))
            })
            .unzip();
        let reports = self.inner.observe(&own).await;
        let mut all = Vec::with_capacity(reports.len());
        for ((report, named), (key, _)) in reports.into_iter().zip(named).zip(own) {
            // One that is unknown may only be late in being known.
            if let Ok(Report { seen: Seen::Ended(_), .. }) = &report {
                self.released(key).await;
            }
            all.push(report.and_then(|report| marked(report, named.as_ref())));
        }
        all
    }

    async fn cancel(&self, key: &LaunchKey, build: &ExternalRef) -> Result<()> {
        self.inner.cancel(key, &unwrapped(build).1).await
    }
}

/// The output of builds by job types, which the other launcher has.
#[derive(Clone, Debug)]
pub struct JobTypeOutput(Arc<dyn BuildOutput>);

impl JobTypeOutput {
    /// The output of builds that a [`JobTypeLauncher`] gave to the launcher that has `output`.
    pub fn new(output: Arc<dyn BuildOutput>) -> Self {
        Self(output)
    }
}

#[async_trait]
impl BuildOutput for JobTypeOutput {
    async fn log(&self, build: &ExternalRef, offset: u64, max: usize) -> Result<Chunk> {
        self.0.log(&unwrapped(build).1, offset, max).await
    }

    async fn artifact(&self, build: &ExternalRef, name: &str, offset: u64, max: usize) -> Result<Chunk> {
        self.0.artifact(&unwrapped(build).1, name, offset, max).await
    }
}
