//! A test's hands on one launch and on one build.

use super::{
    ControllableLauncher,
    system::{External, LaunchAnswer, State},
};
use capomastro_core::{
    Error, ErrorKind,
    launch::{Ended, LaunchRequest, Outcome, Seen},
    model::{ExternalRef, LaunchKey},
};
use std::time::Duration;

/// A launch that was sent and waits for the test to say what the build system does with it.
///
/// It is the build system's end of the wire: what it does takes effect even if the launch has been dropped meanwhile.
/// Dropped undecided, the request is lost.
#[derive(Debug)]
#[must_use = "dropped undecided, the request is lost"]
pub struct PendingLaunch {
    pub(super) launcher: ControllableLauncher,
    pub(super) ticket: u64,
    pub(super) request: LaunchRequest,
    pub(super) decided: bool,
}

impl PendingLaunch {
    /// What was asked for.
    pub const fn request(&self) -> &LaunchRequest {
        &self.request
    }

    /// Its launch key.
    pub const fn key(&self) -> LaunchKey {
        self.request.key
    }

    /// The build system takes it.
    pub fn accept(self) -> FakeBuild {
        self.started(LaunchAnswer::Accept)
    }

    /// The build system says no, and nothing starts.
    pub fn refuse(self, permanent: bool) {
        self.answer(LaunchAnswer::Refuse { permanent });
    }

    /// The build system takes it, and its answer is lost.
    pub fn lose_answer(self) -> FakeBuild {
        self.started(LaunchAnswer::LoseAnswer)
    }

    /// The build system never hears of it, and the launcher cannot know.
    pub fn lose_request(self) {
        self.answer(LaunchAnswer::LoseRequest);
    }

    /// The answer is lost, and the request arrives only after `by` of the launcher's clock.
    pub fn delay(self, by: Duration) -> FakeBuild {
        self.started(LaunchAnswer::Delay(by))
    }

    /// It could not be sent: an error of this kind, and nothing starts.
    pub fn fail(self, kind: ErrorKind) {
        self.answer(LaunchAnswer::Fail(kind));
    }

    /// Does what `answer` says, and gives the build where there is one then.
    pub fn answer(mut self, answer: LaunchAnswer) -> Option<FakeBuild> {
        self.decide(answer).map(|place| FakeBuild { launcher: self.launcher.clone(), place })
    }

    fn started(self, answer: LaunchAnswer) -> FakeBuild {
        self.answer(answer).expect("this answer starts a build or finds the one there is")
    }

    fn decide(&mut self, answer: LaunchAnswer) -> Option<usize> {
        self.decided = true;
        let now = self.launcher.monotonic();
        self.launcher.system.change(|s| {
            let (reply, place) = s.answer(&self.request, answer, now);
            s.answers.insert(self.ticket, reply);
            place
        })
    }
}

impl Drop for PendingLaunch {
    fn drop(&mut self) {
        if !self.decided {
            self.decide(LaunchAnswer::LoseRequest);
        }
    }
}

/// One build at the fake build system. Clones are the same build.
#[derive(Clone, Debug)]
pub struct FakeBuild {
    pub(super) launcher: ControllableLauncher,
    pub(super) place: usize,
}

impl FakeBuild {
    fn change<R>(&self, change: impl FnOnce(&mut External) -> R) -> R {
        self.launcher.system.change(|s| change(&mut s.builds[self.place]))
    }

    fn look<R>(&self, look: impl FnOnce(&External) -> R) -> R {
        self.launcher.system.look(|s| look(&s.builds[self.place]))
    }

    /// What was asked for.
    pub fn request(&self) -> LaunchRequest {
        self.look(|b| b.request.clone())
    }

    /// Its launch key.
    pub fn key(&self) -> LaunchKey {
        self.look(|b| b.request.key)
    }

    /// What it is called now: `queue/N` until it starts, `build/N` then.
    pub fn reference(&self) -> ExternalRef {
        self.look(External::reference)
    }

    /// Says why it waits.
    pub fn queued_because(&self, why: &str) {
        self.change(|b| b.why_queued = Some(why.into()));
    }

    /// It runs. Nothing changes if it has ended.
    pub fn start(&self) {
        self.change(External::start);
    }

    /// It ends so, having built the revision it was asked to. Nothing changes if it has ended.
    pub fn finish(&self, outcome: Outcome) {
        self.change(|b| {
            let mut ended = Ended::new(outcome);
            ended.built = Some(b.request.revision.clone());
            b.finish(ended);
        });
    }

    /// It ends so, and tells exactly this, plus what [`artifact`](Self::artifact) left. Nothing changes if it has ended.
    pub fn finish_with(&self, ended: Ended) {
        self.change(|b| b.finish(ended));
    }

    /// The build system does not know it any more.
    pub fn vanish(&self) {
        self.change(|b| b.vanished = true);
    }

    /// The build system knows it again, as it was.
    pub fn reappear(&self) {
        self.change(|b| b.vanished = false);
    }

    /// It leaves an artifact, to be told of when it ends. The last one of a name stays.
    pub fn artifact(&self, name: &str, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        self.change(|b| b.artifacts.insert(name.into(), bytes));
    }

    /// It writes to its log.
    pub fn log(&self, text: &str) {
        self.change(|b| b.log.extend_from_slice(text.as_bytes()));
    }

    /// Where it really stands, without a look by the launcher that would move an automatic build on.
    pub fn seen(&self) -> Seen {
        self.look(|b| match &b.state {
            _ if b.vanished => Seen::Unknown,
            State::Queued => Seen::Queued { why: b.why_queued.clone() },
            State::Running => Seen::Running,
            State::Ended(ended) => Seen::Ended(ended.clone()),
        })
    }

    /// Whether it has ended.
    pub fn is_ended(&self) -> bool {
        self.look(External::is_ended)
    }

    /// How often it was asked to stop.
    pub fn cancels(&self) -> usize {
        self.look(|b| b.cancels)
    }
}

/// A part of a path that would lead outside or nowhere.
pub(super) fn check_artifact_name(name: &str) -> Result<(), Error> {
    if name.split('/').all(|part| !matches!(part, "" | "." | "..")) {
        return Ok(());
    }
    Err(Error::invalid(
        "an artifact's name leads outside: give parts divided by single slashes, none of them . or ..",
    )
    .with_context("artifact", name))
}
