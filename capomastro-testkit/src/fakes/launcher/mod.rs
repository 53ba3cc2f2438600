//! A build system that does what a test says.

mod system;
mod ticket;

pub use system::{LaunchAnswer, Mode};
pub use ticket::{FakeBuild, PendingLaunch};

use super::world::World;
use async_trait::async_trait;
use capomastro_core::{
    Error, ErrorKind, Result,
    launch::{
        BuildLauncher, BuildOutput, Chunk, Found, Journal, LaunchRequest, Launched, Outcome, Promise, Report,
    },
    model::{ExternalRef, LaunchKey},
    time::{Clock, Monotonic},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};
use system::{Sent, System};

/// A launcher over a made-up build system. Clones share one build system; what a clone was given as clock is its own.
///
/// It is as faithful as a real one: it keeps a memo in the journal before it sends, sends nothing after
/// [`LaunchRequest::send_before`] where it [has a clock](Self::with_clock), names a queue item `queue/N` and the build
/// that it becomes `build/N`, and counts each build that really started, so that
/// [`duplicates`](Self::duplicates) tells whether a key was built twice.
///
/// ```
/// use capomastro_core::launch::{BuildLauncher, Outcome};
/// use capomastro_testkit::fakes::ControllableLauncher;
/// # use capomastro_core::{launch::{Journal, LaunchRequest, SendBefore}, model::*, secret::Secrets, time::{Clock, Monotonic}};
/// # use capomastro_testkit::fakes::{ManualClock, SeededRandom};
/// # use std::time::Duration;
/// # #[derive(Debug)] struct NoJournal;
/// # #[capomastro_core::async_trait]
/// # impl Journal for NoJournal { async fn keep(&self, _: serde_json::Value) -> capomastro_core::Result<()> { Ok(()) } }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> capomastro_core::Result<()> {
/// # let build = BuildId::draw(ManualClock::new().now(), &SeededRandom::new(1));
/// # let (request, journal) = (LaunchRequest::new(build, LaunchKey::of(build), "lib".parse()?, 1, "r1".parse()?, 1,
/// #     serde_json::json!({}), Duration::from_secs(30), SendBefore(Monotonic(Duration::MAX)), Secrets::none()), NoJournal);
/// let launcher = ControllableLauncher::by_hand();
/// let test = async {
///     let build = launcher.next_launch().await.lose_answer();
///     build.start();
///     build.finish(Outcome::Succeeded);
/// };
/// let (launched, ()) = tokio::join!(launcher.launch(&request, &journal), test);
/// assert!(launched.is_err(), "the answer is lost,");
/// assert_eq!(launcher.external_builds(request.key), 1, "and the build is there");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ControllableLauncher {
    system: Arc<World<System>>,
    clock: Option<Arc<dyn Clock>>,
}

impl ControllableLauncher {
    /// A launcher in this mode, that can find builds by key after a settle time of two minutes.
    pub fn new(mode: Mode) -> Self {
        Self { system: Arc::new(World::new(System::new(mode))), clock: None }
    }

    /// A launcher whose builds all succeed without a hand of the test ([`Mode::Auto`]); also the default one.
    pub fn auto_succeed() -> Self {
        Self::new(Mode::Auto(Outcome::Succeeded))
    }

    /// A launcher that takes every launch and leaves it to the test to start and finish the builds ([`Mode::Accept`]).
    pub fn accepting() -> Self {
        Self::new(Mode::Accept)
    }

    /// A launcher whose every launch waits for the test ([`Mode::ByHand`]).
    pub fn by_hand() -> Self {
        Self::new(Mode::ByHand)
    }

    /// The same launcher with another promise. Promises do not change during a launcher's life, so say it at birth.
    #[must_use]
    pub fn with_promise(self, promise: Promise) -> Self {
        self.system.change(|s| s.promise = promise);
        self
    }

    /// The same launcher with the clock by which it keeps [`LaunchRequest::send_before`] and delays what
    /// [`LaunchAnswer::Delay`] delays. Without one it sends at any time.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// From now on launches are answered in this mode. Builds that have started stay as they are.
    pub fn set_mode(&self, mode: Mode) {
        self.system.change(|s| s.mode = mode);
    }

    /// The next launch is answered so, in whatever mode. Several are answered in the order of the calls.
    pub fn answer_next(&self, answer: LaunchAnswer) {
        self.system.change(|s| s.scripted.push_back(answer));
    }

    /// While `true`, the build system cannot be reached: everything is [`ErrorKind::Unavailable`], nothing is sent, and
    /// builds stay as they are.
    pub fn outage(&self, outage: bool) {
        self.system.change(|s| s.outage = outage);
    }

    /// While `true`, builds that are asked to stop go on. The asking is recorded.
    pub fn ignore_cancels(&self, ignores: bool) {
        self.system.change(|s| s.ignores_cancel = ignores);
    }

    /// While a duration is given, no search for a build can tell, and says to look again after it.
    pub fn inconclusive(&self, look_again: Option<Duration>) {
        self.system.change(|s| s.inconclusive = look_again);
    }

    /// While `true`, launches stop directly before they would look at the clock and send, as a frozen process does.
    pub fn hold_sends(&self, hold: bool) {
        self.system.change(|s| s.holding = hold);
    }

    /// Waits until at least `count` launches are held by [`hold_sends`](Self::hold_sends).
    pub async fn until_held(&self, count: usize) {
        self.system.until(|s| (s.held >= count).then_some(())).await;
    }

    /// Every later build leaves this artifact.
    pub fn leave_artifact(&self, name: &str, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        self.system.change(|s| s.leaves.insert(name.into(), bytes));
    }

    /// Takes the oldest launch that waits for the test, as soon as there is one. Cancel-safe.
    pub async fn next_launch(&self) -> PendingLaunch {
        let (ticket, request) = self.system.until(|s| s.pending.pop_front()).await;
        self.take(ticket, request)
    }

    /// Takes the oldest launch that waits for the test, if there is one.
    pub fn waiting_launch(&self) -> Option<PendingLaunch> {
        let (ticket, request) = self.system.change(|s| s.pending.pop_front())?;
        Some(self.take(ticket, request))
    }

    fn take(&self, ticket: u64, request: LaunchRequest) -> PendingLaunch {
        PendingLaunch { launcher: self.clone(), ticket, request, decided: false }
    }

    /// The requests that started a build, in the order in which the builds started: one for each external build.
    pub fn launched(&self) -> Vec<LaunchRequest> {
        self.system.look(|s| s.builds.iter().map(|b| b.request.clone()).collect())
    }

    /// How often a launch was asked for, with whatever answer.
    pub fn launch_calls(&self) -> usize {
        self.system.look(|s| s.calls)
    }

    /// How often a build was searched for.
    pub fn finds(&self) -> usize {
        self.system.look(|s| s.finds)
    }

    /// How often a build was looked at.
    pub fn looks(&self) -> usize {
        self.system.look(|s| s.looks)
    }

    /// Every build that really started, oldest first, whether or not anyone was told of it.
    pub fn builds(&self) -> Vec<FakeBuild> {
        let count = self.system.look(|s| s.builds.len());
        (0..count).map(|place| FakeBuild { launcher: self.clone(), place }).collect()
    }

    /// The first build of a key.
    pub fn build(&self, key: LaunchKey) -> Option<FakeBuild> {
        self.builds().into_iter().find(|b| b.key() == key)
    }

    /// The builds of a dependency, oldest first.
    pub fn builds_of(&self, dependency: &str) -> Vec<FakeBuild> {
        self.builds().into_iter().filter(|b| b.request().dependency.as_str() == dependency).collect()
    }

    /// The newest build of a dependency.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn last_of(&self, dependency: &str) -> FakeBuild {
        match self.builds_of(dependency).pop() {
            Some(build) => build,
            None => panic!("no build of {dependency:?} has started"),
        }
    }

    /// Waits until at least `count` builds have started.
    pub async fn until_started(&self, count: usize) {
        self.system.until(|s| (s.builds.len() >= count).then_some(())).await;
    }

    /// How many builds of a key really started.
    pub fn external_builds(&self, key: LaunchKey) -> usize {
        self.system.look(|s| s.builds.iter().filter(|b| b.request.key == key).count())
    }

    /// The keys of which more than one build really started. Exactly-once launching means that there is none.
    pub fn duplicates(&self) -> Vec<LaunchKey> {
        let mut counts = BTreeMap::<LaunchKey, usize>::new();
        for request in self.launched() {
            *counts.entry(request.key).or_default() += 1;
        }
        counts.into_iter().filter(|(_, count)| *count > 1).map(|(key, _)| key).collect()
    }

    /// Every ask to stop a build, oldest first.
    pub fn cancels(&self) -> Vec<(LaunchKey, ExternalRef)> {
        self.system.look(|s| s.cancels.clone())
    }

    fn monotonic(&self) -> Option<Monotonic> {
        self.clock.as_ref().map(|clock| clock.monotonic())
    }
}

impl Default for ControllableLauncher {
    fn default() -> Self {
        Self::auto_succeed()
    }
}

impl fmt::Debug for ControllableLauncher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.system.look(|s| {
            f.debug_struct("ControllableLauncher")
                .field("mode", &s.mode)
                .field("promise", &s.promise)
                .field("builds", &s.builds.len())
                .finish_non_exhaustive()
        })
    }
}

/// Counts a launch as held until it goes on or is dropped.
struct Held<'a>(&'a World<System>);

impl<'a> Held<'a> {
    fn begin(system: &'a World<System>) -> Self {
        system.change(|s| s.held += 1);
        Self(system)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.change(|s| s.held -= 1);
    }
}

#[async_trait]
impl BuildLauncher for ControllableLauncher {
    fn promise(&self) -> Promise {
        self.system.look(|s| s.promise)
    }

    /// Takes any job but one with a field `invalid`, which is refused with that field's text.
    fn check_job(&self, job: &Value) -> Result<()> {
        match job.get("invalid") {
            None => Ok(()),
            Some(why) => Err(Error::config(format!("the test says that this job is invalid: {why}"))),
        }
    }

    async fn launch(&self, request: &LaunchRequest, journal: &dyn Journal) -> Result<Launched> {
        let builds = self.system.change(|s| {
            s.calls += 1;
            if s.outage { Err(system::unreachable()) } else { Ok(s.builds.len()) }
        })?;
        journal.keep(json!({ "next_build": builds + 1 })).await?;
        if self.system.look(|s| s.holding) {
            let _held = Held::begin(&self.system);
            self.system.until(|s| (!s.holding).then_some(())).await;
        }
        if let Some(clock) = &self.clock {
            request.send_before.check(clock.as_ref())?;
        }
        let now = self.monotonic();
        match self.system.change(|s| s.send(request, now)) {
            Sent::Answered(answer) => answer,
            Sent::Waits { ticket } => self.system.until(|s| s.answers.remove(&ticket)).await,
        }
    }

    async fn find(&self, request: &LaunchRequest) -> Result<Found> {
        let now = self.monotonic();
        self.system.change(|s| s.find(request.key, now))
    }

    async fn observe(&self, builds: &[(LaunchKey, ExternalRef)]) -> Vec<Result<Report>> {
        let now = self.monotonic();
        self.system.change(|s| builds.iter().map(|(key, name)| s.observe(*key, name, now)).collect())
    }

    async fn cancel(&self, key: &LaunchKey, build: &ExternalRef) -> Result<()> {
        let now = self.monotonic();
        self.system.change(|s| s.cancel(*key, build, now))
    }
}

#[async_trait]
impl BuildOutput for ControllableLauncher {
    async fn log(&self, build: &ExternalRef, offset: u64, max: usize) -> Result<Chunk> {
        let now = self.monotonic();
        self.system.look(|s| {
            let build = s.named(build, now)?;
            Ok(chunk(&build.log, offset, max, build.is_ended()))
        })
    }

    async fn artifact(&self, build: &ExternalRef, name: &str, offset: u64, max: usize) -> Result<Chunk> {
        ticket::check_artifact_name(name)?;
        let now = self.monotonic();
        self.system.look(|s| {
            let bytes = s.named(build, now)?.artifacts.get(name).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, "the build has left no such artifact")
                    .with_context("artifact", name)
            })?;
            Ok(chunk(bytes, offset, max, true))
        })
    }
}

fn chunk(bytes: &[u8], offset: u64, max: usize, complete: bool) -> Chunk {
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    let to = from.saturating_add(max).min(bytes.len());
    Chunk { bytes: bytes[from..to].to_vec(), is_last: complete && to == bytes.len() }
}

#[cfg(test)]
mod tests;
