//! Ask a build system to build; find the build again; look at it; stop it.

use crate::{
    Error, Result,
    model::{
        Artifact, BuildId, BuildKey, DependencyName, ExternalRef, LaunchKey, Parameters, Requester, Revision,
    },
    secret::Secrets,
    time::{Clock, Monotonic},
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{fmt, time::Duration};

/// What a launcher can promise about a launch whose answer was lost.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Launching again with the same key never starts a second build.
    IdempotentByKey,
    /// A build can be found by its key once this long has passed since the send.
    FindableByKey {
        /// Longer than a claim plus the request time-out; see [`SendBefore`].
        settle: Duration,
    },
    /// Neither: the dependency must choose at-most-once or at-least-once
    /// ([`Policy::when_blind`](crate::model::Policy::when_blind)).
    Blind,
}

/// The local time before which a request must have been sent: a frozen process must not wake up and send what another
/// has taken over meanwhile. Taken before the claim was asked for, plus the claim's lease, minus the request time-out.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SendBefore(pub Monotonic);

impl SendBefore {
    /// Call this directly before sending.
    ///
    /// # Errors
    /// [`ClaimLost`](crate::ErrorKind::ClaimLost) if it is too late. Nothing may be sent then.
    pub fn check(self, clock: &dyn Clock) -> Result<()> {
        if clock.monotonic() < self.0 {
            return Ok(());
        }
        Err(Error::new(crate::ErrorKind::ClaimLost, "the launch came too late to be sent safely"))
    }
}

/// One build to launch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LaunchRequest {
    /// The idempotency key; must travel with the build.
    pub key: LaunchKey,
    /// The build.
    pub build: BuildId,
    /// The dependency's name now.
    pub dependency: DependencyName,
    /// The build's number.
    pub number: u64,
    /// The revision to build, and no other.
    pub revision: Revision,
    /// What to show people for it.
    pub display: Option<String>,
    /// Parameters that somebody gave for this build.
    pub parameters: Parameters,
    /// The key shared by the builds of one whole-project request.
    pub build_key: Option<BuildKey>,
    /// Who asked for it.
    pub requesters: Vec<Requester>,
    /// A number that only grows, per dependency: a late writer has a lower one.
    pub fence: u64,
    /// The launcher's own configuration.
    pub job: Value,
    /// What an earlier launch of this key made durable.
    pub memo: Option<Value>,
    /// How long the launch may take, from its start.
    pub timeout: Duration,
    /// Nothing is sent after it.
    pub send_before: SendBefore,
    /// Where the values of secrets come from.
    pub secrets: Secrets,
}

impl LaunchRequest {
    /// A request with the facts that every launch has.
    #[expect(clippy::too_many_arguments, reason = "each is needed to launch anything")]
    pub const fn new(
        build: BuildId,
        key: LaunchKey,
        dependency: DependencyName,
        number: u64,
        revision: Revision,
        fence: u64,
        job: Value,
        timeout: Duration,
        send_before: SendBefore,
        secrets: Secrets,
    ) -> Self {
        Self {
            key,
            build,
            dependency,
            number,
            revision,
            display: None,
            parameters: Parameters::new(),
            build_key: None,
            requesters: Vec::new(),
            fence,
            job,
            memo: None,
            timeout,
            send_before,
            secrets,
        }
    }
}

/// Makes facts durable before a request is sent.
#[async_trait]
pub trait Journal: fmt::Debug + Send + Sync {
    /// Keeps `memo` with the build; a later launch or find of the same key is given it.
    ///
    /// # Errors
    /// Any error means that it may not be kept and nothing may be sent.
    async fn keep(&self, memo: Value) -> Result<()>;
}

/// The answer to a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Launched {
    /// The build system has it.
    Accepted(ExternalRef),
    /// Proven that nothing started.
    Refused(Refusal),
}

/// Why a build system refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For people, without secrets.
    pub reason: String,
    /// Whether trying again is useless until a person changes something.
    pub permanent: bool,
}

/// The answer to a search for a build by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is there.
    Build(ExternalRef),
    /// Proven that there is none.
    Absent,
    /// It cannot be told yet.
    Inconclusive {
        /// When to look again.
        look_again: Duration,
    },
}

/// How a build ended at the build system.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Succeeded,
    /// Neither good nor bad.
    Unstable,
    /// Badly.
    Failed,
    /// It was stopped.
    Cancelled,
    /// It runs no more and did not end by itself: its machine was restarted, say. A loss of infrastructure, which says
    /// nothing about the revision.
    Lost,
}

/// The end of a build, as the build system tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// The revision that was really built, if it can be told.
    pub built: Option<Revision>,
    /// What it left behind.
    pub artifacts: Vec<Artifact>,
    /// For people.
    pub message: Option<String>,
}

impl Ended {
    /// An end without further facts.
    pub const fn new(outcome: Outcome) -> Self {
        Self { outcome, built: None, artifacts: Vec::new(), message: None }
    }
}

/// Where a build stands at the build system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It waits there.
    Queued {
        /// For what, for people.
        why: Option<String>,
    },
    /// It runs.
    Running,
    /// It has ended.
    Ended(Ended),
    /// The build system works and does not know it.
    Unknown,
}

/// One build, as the build system sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What the build is called from now on, if that changed (a queue item became a build).
    pub external: Option<ExternalRef>,
    /// Where it stands.
    pub seen: Seen,
}

/// Asks a build system to build; finds a build again; looks; stops.
#[async_trait]
pub trait BuildLauncher: fmt::Debug + Send + Sync + 'static {
    /// What can be promised about a launch whose answer was lost. Constant for the life of the launcher.
    fn promise(&self) -> Promise;

    /// Checks a job's configuration when a dependency is defined. No I/O.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig), with a message that says what to do.
    fn check_job(&self, job: &Value) -> Result<()>;

    /// Starts exactly one build.
    ///
    /// *Guarantees*: nothing is sent after [`LaunchRequest::send_before`], nor before what [`Journal::keep`] was given is
    /// kept; the key travels with the build; the revision is the pinned one. *Idempotency*: as promised.
    /// *Cancellation*: a dropped future may have started the build; [`find`](BuildLauncher::find) tells.
    ///
    /// # Errors
    /// [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) if it may have been sent. Any other error means that nothing
    /// was sent, and the launch is tried again.
    async fn launch(&self, request: &LaunchRequest, journal: &dyn Journal) -> Result<Launched>;

    /// Is there a build of this key?
    ///
    /// *Guarantees*: [`Found::Absent`] only where it is proven; what cannot be reached is an error. Read-only.
    /// *Cancellation*: leaves nothing behind.
    ///
    /// # Errors
    /// When the build system cannot be asked; never evidence of absence.
    async fn find(&self, request: &LaunchRequest) -> Result<Found>;

    /// Where do these builds stand? Answers in the order of the builds.
    ///
    /// *Guarantees*: the truth at some moment of the call; read-only. *Cancellation*: leaves nothing behind.
    ///
    /// # Errors
    /// Per build, when the build system cannot be asked about it; never evidence of loss.
    async fn observe(&self, builds: &[(LaunchKey, ExternalRef)]) -> Vec<Result<Report>>;

    /// Asks the build system to stop a build. What it reports afterwards is what counts.
    ///
    /// *Idempotency*: may be repeated; of a build that has ended or is unknown it is `Ok` and changes nothing.
    /// *Cancellation*: a dropped future may have asked.
    ///
    /// # Errors
    /// When it could not be asked; it is asked again.
    async fn cancel(&self, key: &LaunchKey, build: &ExternalRef) -> Result<()>;
}

/// A piece of a log or an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The bytes, from the offset that was asked for.
    pub bytes: Vec<u8>,
    /// Whether nothing follows, now or later.
    pub is_last: bool,
}

/// The log and the artifacts' bytes of builds: optional, beside a launcher.
#[async_trait]
pub trait BuildOutput: fmt::Debug + Send + Sync + 'static {
    /// Up to `max` bytes of the log, from byte `offset`; empty and not last means that more may come.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such build any more.
    async fn log(&self, build: &ExternalRef, offset: u64, max: usize) -> Result<Chunk>;

    /// Up to `max` bytes of an artifact, by its name, from byte `offset`.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such build or artifact;
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the name leads outside.
    async fn artifact(&self, build: &ExternalRef, name: &str, offset: u64, max: usize) -> Result<Chunk>;
}

/// When a claim that was asked for at `asked` with `lease` stops being safe for a send that may take `timeout`.
pub fn send_before(asked: Monotonic, lease: Duration, timeout: Duration) -> SendBefore {
    SendBefore(asked.plus(lease).minus(timeout))
}
