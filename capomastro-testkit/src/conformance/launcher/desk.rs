//! What a case works with: a launcher, requests, a journal, and short ways to say what is expected.

use super::{End, LauncherHarness, Told};
use capomastro_core::{
    Result, async_trait,
    launch::{
        BuildLauncher, Ended, Found, Journal, LaunchRequest, Launched, Outcome, Promise, Report, Seen,
        SendBefore,
    },
    model::{BuildId, ExternalRef, LaunchKey},
    secret::Secrets,
    time::Monotonic,
};
use serde_json::Value;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use uuid::Uuid;

pub(super) struct Desk<'a> {
    pub(super) harness: &'a dyn LauncherHarness,
    pub(super) launcher: Arc<dyn BuildLauncher>,
    ids: AtomicU64,
}

/// Keeps memos in memory.
#[derive(Debug, Default)]
pub(super) struct Memos(Mutex<Option<Value>>);

impl Memos {
    pub(super) fn last(&self) -> Option<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Journal for Memos {
    async fn keep(&self, memo: Value) -> Result<()> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(memo);
        Ok(())
    }
}

/// A build that was launched.
#[derive(Clone, Debug)]
pub(super) struct Build {
    pub(super) request: LaunchRequest,
    pub(super) external: ExternalRef,
}

impl Build {
    pub(super) const fn key(&self) -> LaunchKey {
        self.request.key
    }

    pub(super) fn named(&self) -> (LaunchKey, ExternalRef) {
        (self.request.key, self.external.clone())
    }
}

impl<'a> Desk<'a> {
    pub(super) async fn new(harness: &'a dyn LauncherHarness) -> Self {
        Self { harness, launcher: harness.open().await, ids: AtomicU64::new(0) }
    }

    /// The same build system, as another process meets it.
    pub(super) async fn restarted(self) -> Self {
        Self { launcher: self.harness.open().await, ..self }
    }

    /// A request of a new build.
    pub(super) fn request(&self) -> LaunchRequest {
        let number = self.ids.fetch_add(1, Ordering::Relaxed) + 1;
        let build = 0x0190_0000_0000_7000_8000_0000_0000_0000 + u128::from(number);
        let build = BuildId::from_uuid(Uuid::from_u128(build));
        LaunchRequest::new(
            build,
            LaunchKey::of(build),
            "lib foo".parse().expect("a name"),
            number,
            format!("r{number}").parse().expect("a revision"),
            number,
            self.harness.job(),
            Duration::from_secs(30),
            SendBefore(Monotonic(Duration::MAX)),
            Secrets::none(),
        )
    }

    /// Launches what must be accepted. The request that is returned knows what was kept.
    pub(super) async fn launch(&self, mut request: LaunchRequest) -> Build {
        let memos = Memos::default();
        match self.launcher.launch(&request, &memos).await {
            Ok(Launched::Accepted(external)) => {
                assert!(!external.0.trim().is_empty(), "a build is called something");
                request.memo = memos.last().or(request.memo);
                Build { request, external }
            }
            other => panic!("a good request is accepted, but: {other:?}"),
        }
    }

    /// Launches a new build and waits until the build system has it.
    pub(super) async fn build(&self) -> Build {
        let build = self.launch(self.request()).await;
        self.until_started(build.key()).await;
        build
    }

    pub(super) async fn until_started(&self, key: LaunchKey) {
        let what = "a build that was accepted to be at the build system";
        let started = || async { (!self.harness.builds(key).await.is_empty()).then_some(()) };
        self.harness.time().until(what, started).await;
    }

    pub(super) async fn builds(&self, key: LaunchKey) -> Vec<Told> {
        self.harness.builds(key).await
    }

    /// The build system has nothing of this key.
    pub(super) async fn nothing_started(&self, key: LaunchKey, why: &str) {
        let builds = self.builds(key).await;
        assert!(builds.is_empty(), "{why}, but the build system has {builds:?}");
    }

    pub(super) async fn look(&self, build: &Build) -> Result<Report> {
        let mut reports = self.launcher.observe(&[build.named()]).await;
        assert_eq!(reports.len(), 1, "one report for each build");
        reports.remove(0)
    }

    pub(super) async fn seen(&self, build: &Build) -> Seen {
        self.look(build).await.expect("the build system can be asked").seen
    }

    /// The build goes on: it waits or runs.
    pub(super) async fn goes_on(&self, build: &Build, why: &str) {
        let seen = self.seen(build).await;
        assert!(matches!(seen, Seen::Queued { .. } | Seen::Running), "{why}: a build goes on, but: {seen:?}");
    }

    /// Waits until the build has ended.
    pub(super) async fn ended(&self, build: &Build) -> Ended {
        let look = || async {
            match self.seen(build).await {
                Seen::Ended(ended) => Some(ended),
                Seen::Queued { .. } | Seen::Running => None,
                Seen::Unknown => panic!("a build that was launched is known"),
            }
        };
        self.harness.time().until("a build to be seen at its end", look).await
    }

    /// Lets a build end as every build can, and waits until that is seen.
    pub(super) async fn end(&self, build: &Build, outcome: Outcome) -> Ended {
        assert!(self.harness.end(build.key(), &End::of(outcome)).await, "builds can end with {outcome:?}");
        let ended = self.ended(build).await;
        assert_eq!(ended.outcome, outcome, "a build ends as it ended: {ended:?}");
        ended
    }

    /// Lets so much time pass that a search is believed.
    pub(super) async fn settle(&self) {
        if let Promise::FindableByKey { settle } = self.launcher.promise() {
            self.harness.time().pass(settle).await;
        }
    }

    /// Searches for a build of which an answer can be expected now; asks again where it cannot be told yet.
    pub(super) async fn found(&self, request: &LaunchRequest) -> Option<ExternalRef> {
        self.settle().await;
        let find = || async {
            match self.launcher.find(request).await.expect("the build system can be asked") {
                Found::Build(external) => Some(Some(external)),
                Found::Absent => Some(None),
                Found::Inconclusive { .. } => None,
            }
        };
        self.harness.time().until("a search by key to tell", find).await
    }

    pub(super) fn is_blind(&self) -> bool {
        self.launcher.promise() == Promise::Blind
    }

    pub(super) async fn cancel(&self, build: &Build) {
        let asked = self.launcher.cancel(&build.key(), &build.external).await;
        asked.expect("a build can be asked to stop");
    }
}
