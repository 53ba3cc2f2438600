//! What is a source at now?

use crate::{
    Result,
    model::{DependencyName, Observation, ProbeKey, Revision, Source},
    secret::Secrets,
    time::Timestamp,
};
use async_trait::async_trait;
use serde::de::DeserializeOwned;
use std::{fmt, future::Future, marker::PhantomData, sync::Arc, time::Duration};

/// One question to a probe.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ask {
    /// The dependency's name, for scripts and messages.
    pub dependency: DependencyName,
    /// Where to look.
    pub source: Source,
    /// The revision that the last good probe saw in this source epoch.
    pub seen: Option<Revision>,
    /// The cursor that came with it.
    pub cursor: Option<String>,
    /// The accounted revision, to which a relation refers.
    pub accounted: Option<Revision>,
    /// When the last build that was not refused was started.
    pub last_start: Option<Timestamp>,
    /// Whether a build holds the dependency.
    pub building: bool,
    /// Whether somebody who wants a build whatever the source says awaits the answer.
    pub wanted: bool,
    /// How long ago the newest trigger was given that awaits the answer; `None` if none does. What was looked at before
    /// then does not answer it, which matters to a probe that finds the work of an earlier look.
    pub trigger_age: Option<Duration>,
    /// How long the answer may take. The caller drops the probe then.
    pub deadline: Duration,
    /// Where the values of secrets come from.
    pub secrets: Secrets,
}

impl Ask {
    /// A first question about a source.
    pub const fn new(
        dependency: DependencyName,
        source: Source,
        deadline: Duration,
        secrets: Secrets,
    ) -> Self {
        Self {
            dependency,
            source,
            seen: None,
            cursor: None,
            accounted: None,
            last_start: None,
            building: false,
            wanted: false,
            trigger_age: None,
            deadline,
            secrets,
        }
    }

    /// Whether what was seen is not accounted for yet.
    pub fn in_debt(&self) -> bool {
        self.seen.is_some() && self.seen != self.accounted
    }
}

/// A good answer of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probed {
    /// This is what the source is at.
    Observed(Observation),
    /// The source is at the revision that was last seen (an HTTP 304, say). Decisions go on as if it had been observed
    /// again, so that a debt is paid. An error where nothing was seen before.
    SameAsSeen,
    /// Nothing can be said of the source yet, because nothing was seen before and nothing changed since; where
    /// something was seen before it means [`Probed::SameAsSeen`].
    Nothing,
    /// The source is reachable and does not have what is looked for.
    NotFound,
}

impl Probed {
    /// The source is at this revision.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if it is not one line of 1 to 1,024 bytes.
    pub fn revision(revision: impl Into<String>) -> Result<Self> {
        Ok(Self::Observed(Observation::of(revision.into().try_into()?)))
    }
}

/// Looks at sources. Has no memory of its own.
#[async_trait]
pub trait RevisionProbe: fmt::Debug + Send + Sync + 'static {
    /// The typed parse of a stored configuration, and what answers together: asks whose sources have equal keys are
    /// given to one call of [`probe`](RevisionProbe::probe).
    ///
    /// *Guarantees*: no I/O; the same source has the same key at any time; no secret in the key.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig), with a message that says what to do.
    fn key(&self, source: &Source) -> Result<ProbeKey>;

    /// What are these sources at now? All asks share one key; the answers are in the order of the asks.
    ///
    /// *Guarantees*: read-only. "Not there" is [`Probed::NotFound`], "cannot be reached" is an error: confusing the two
    /// would trigger builds. *Idempotency*: may be repeated at any time. *Cancellation*: a dropped future leaves nothing
    /// behind that goes on for ever; a process that was started is ended.
    ///
    /// # Errors
    /// Per ask. The kind tells a passing fault ([`Unavailable`](crate::ErrorKind::Unavailable),
    /// [`TimedOut`](crate::ErrorKind::TimedOut), [`RateLimited`](crate::ErrorKind::RateLimited)) from one that stays
    /// ([`PermissionDenied`](crate::ErrorKind::PermissionDenied), [`InvalidConfig`](crate::ErrorKind::InvalidConfig),
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), [`Unsupported`](crate::ErrorKind::Unsupported)). No secret in any part of it.
    async fn probe(&self, asks: &[Ask]) -> Vec<Result<Probed>>;
}

/// A probe made of a closure over a typed configuration.
///
/// The probe's key is the configuration itself, so equal configurations are answered by one run, which is given the first
/// ask. What it says is handed on to the others as it applies to them: "same as seen" becomes the revision that the first
/// one saw, and a relation is told only to those who accounted for the same revision.
///
/// ```
/// use capomastro_core::{probe::{probe_fn, Ask, Probed}, Error};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Newest { folder: std::path::PathBuf }
///
/// let probe = probe_fn(|source: Newest, _ask: Ask| async move {
///     let entries = std::fs::read_dir(&source.folder).map_err(Error::transient)?;
///     let newest = entries.flatten().map(|e| e.file_name()).max();
///     newest.map_or(Ok(Probed::NotFound), |n| Probed::revision(n.to_string_lossy()))
/// });
/// # let _: std::sync::Arc<dyn capomastro_core::probe::RevisionProbe> = probe;
/// ```
pub fn probe_fn<T, F, R>(look: F) -> Arc<dyn RevisionProbe>
where
    T: DeserializeOwned + Send + Sync + 'static,
    F: Fn(T, Ask) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Probed>> + Send,
{
    Arc::new(ProbeFn { look, config: PhantomData::<fn() -> T> })
}

struct ProbeFn<T, F> {
    look: F,
    config: PhantomData<fn() -> T>,
}

impl<T, F> fmt::Debug for ProbeFn<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProbeFn<{}>", std::any::type_name::<T>())
    }
}

#[async_trait]
impl<T, F, R> RevisionProbe for ProbeFn<T, F>
where
    T: DeserializeOwned + Send + Sync + 'static,
    F: Fn(T, Ask) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Probed>> + Send,
{
    fn key(&self, source: &Source) -> Result<ProbeKey> {
        source.parse::<T>()?;
        Ok(ProbeKey::of(&[source.probe.as_str(), &source.config.to_string()]))
    }

    async fn probe(&self, asks: &[Ask]) -> Vec<Result<Probed>> {
        let Some(first) = asks.first() else { return Vec::new() };
        let answer = self.run(first).await;
        let mut answers = Vec::with_capacity(asks.len());
        for ask in asks {
            answers.push(match &answer {
                Ok(probed) => match handed_on(probed, first, ask) {
                    Some(probed) => Ok(probed),
                    None => self.run(ask).await,
                },
                Err(e) => Err(e.copy()),
            });
        }
        answers
    }
}

impl<T, F, R> ProbeFn<T, F>
where
    T: DeserializeOwned + Send,
    F: Fn(T, Ask) -> R + Send + Sync,
    R: Future<Output = Result<Probed>> + Send,
{
    async fn run(&self, ask: &Ask) -> Result<Probed> {
        let config = ask.source.parse::<T>()?;
        (self.look)(config, ask.clone()).await
    }
}

/// What an answer to one ask says to another one about the same source, who may have seen and accounted for something
/// else. `None` if it says nothing to it.
fn handed_on(answer: &Probed, asked: &Ask, other: &Ask) -> Option<Probed> {
    match (answer, &asked.seen) {
        (Probed::NotFound, _) => Some(Probed::NotFound),
        (Probed::Observed(observation), _) => {
            let mut observation = observation.clone();
            if other.accounted != asked.accounted {
                observation.relation = None;
            }
            Some(Probed::Observed(observation))
        }
        (Probed::SameAsSeen | Probed::Nothing, seen) if *seen == other.seen => Some(answer.clone()),
        (Probed::SameAsSeen | Probed::Nothing, Some(seen)) => Some(Probed::Observed(Observation {
            cursor: asked.cursor.clone(),
            ..Observation::of(seen.clone())
        })),
        (Probed::SameAsSeen | Probed::Nothing, None) => None,
    }
}

/// One answer for `count` asks.
pub fn spread(answer: Result<Probed>, count: usize) -> Vec<Result<Probed>> {
    match answer {
        Ok(probed) => (0..count).map(|_| Ok(probed.clone())).collect(),
        Err(e) => (0..count).map(|_| Err(e.copy())).collect(),
    }
}
