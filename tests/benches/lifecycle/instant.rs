//! Sources that move on when told, and a build system that has done a build when it is asked.

use capomastro_core::{
    Result, async_trait,
    launch::{BuildLauncher, Ended, Found, Journal, LaunchRequest, Launched, Outcome, Promise, Report, Seen},
    model::{ExternalRef, LaunchKey, ProbeKey, Source},
    probe::{Ask, Probed, RevisionProbe},
    time::{Clock, Monotonic, SystemClock},
};
use serde_json::Value;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};
use tokio::sync::mpsc;

/// A source of [`Changing`].
pub(crate) fn source(name: &str) -> Source {
    Source::new("changing", name).unwrap()
}

/// All its sources are at the same revision, and answered together.
#[derive(Debug, Default)]
pub(crate) struct Changing {
    changes: AtomicU64,
    /// When it answered last.
    pub(crate) answered: Mutex<Monotonic>,
}

impl Changing {
    /// All sources move on.
    pub(crate) fn change(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl RevisionProbe for Changing {
    fn key(&self, source: &Source) -> Result<ProbeKey> {
        Ok(ProbeKey::of(&[source.probe.as_str()]))
    }

    async fn probe(&self, asks: &[Ask]) -> Vec<Result<Probed>> {
        let revision = format!("{:040x}", self.changes.load(Ordering::Relaxed));
        let answers = asks.iter().map(|_| Probed::revision(revision.as_str())).collect();
        *self.answered.lock().unwrap() = SystemClock.monotonic();
        answers
    }
}

/// Clones are the same build system.
#[derive(Clone, Debug)]
pub(crate) struct Instant {
    ended: Arc<AtomicUsize>,
    launched: Option<mpsc::UnboundedSender<Monotonic>>,
}

impl Instant {
    pub(crate) fn new() -> Self {
        Self { ended: Arc::default(), launched: None }
    }

    /// One that says when each launch comes.
    pub(crate) fn telling(launched: mpsc::UnboundedSender<Monotonic>) -> Self {
        Self { launched: Some(launched), ..Self::new() }
    }

    /// How many ends it has told.
    pub(crate) fn ended(&self) -> usize {
        self.ended.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl BuildLauncher for Instant {
    fn promise(&self) -> Promise {
        Promise::IdempotentByKey
    }

    fn check_job(&self, _: &Value) -> Result<()> {
        Ok(())
    }

    async fn launch(&self, request: &LaunchRequest, _: &dyn Journal) -> Result<Launched> {
        if let Some(launched) = &self.launched {
            // Whoever measures may have gone.
            launched.send(SystemClock.monotonic()).ok();
        }
        Ok(Launched::Accepted(ExternalRef(request.key.to_string())))
    }

    async fn find(&self, request: &LaunchRequest) -> Result<Found> {
        Ok(Found::Build(ExternalRef(request.key.to_string())))
    }

    async fn observe(&self, builds: &[(LaunchKey, ExternalRef)]) -> Vec<Result<Report>> {
        self.ended.fetch_add(builds.len(), Ordering::Relaxed);
        let end = || Report { external: None, seen: Seen::Ended(Ended::new(Outcome::Succeeded)) };
        builds.iter().map(|_| Ok(end())).collect()
    }

    async fn cancel(&self, _: &LaunchKey, _: &ExternalRef) -> Result<()> {
        Ok(())
    }
}
