//! The server's process: up, away, starting.

use std::time::Duration;

/// How a server that is away or starts answers, for some time.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum StartPhase {
    /// Connections are closed without an answer.
    Away,
    /// Connections are accepted, and nothing comes back while this lasts.
    Silent,
    /// 503 "Restarting Jenkins".
    Restarting,
    /// 503 "Starting Jenkins".
    Starting,
    /// 500 without `X-Jenkins` to everything.
    EarlyError,
    /// GET is answered with 503, POST with 500 without `X-Jenkins`, whatever the credentials.
    StartingPostFails,
    /// GET is answered with 503, POST with 403 for a missing crumb, even with a token.
    NoCrumb,
    /// Everything is answered with 401, good credentials or not.
    Unauthorized,
    /// Everything is answered with 500 that bears `X-Jenkins` and the old session value.
    LateError,
}

/// What a server goes through until it is up again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Startup(pub(super) Vec<(Duration, StartPhase)>);

impl Startup {
    /// It is up at once.
    pub const fn instant() -> Self {
        Self(Vec::new())
    }

    /// Adds a phase that lasts this long.
    #[must_use]
    pub fn then(mut self, lasts: Duration, phase: StartPhase) -> Self {
        self.0.push((lasts, phase));
        self
    }

    /// The phases of a real start, as they were seen: about eleven seconds.
    pub fn as_seen() -> Self {
        let millis = Duration::from_millis;
        Self::instant()
            .then(millis(2_000), StartPhase::Away)
            .then(millis(3_000), StartPhase::Silent)
            .then(millis(1_500), StartPhase::Starting)
            .then(millis(800), StartPhase::StartingPostFails)
            .then(millis(700), StartPhase::NoCrumb)
            .then(millis(1_200), StartPhase::Unauthorized)
            .then(millis(900), StartPhase::Starting)
            .then(millis(400), StartPhase::LateError)
    }

    /// The phases of a safe restart once the last build has ended.
    pub fn as_seen_after_safe_restart() -> Self {
        let mut all = Self::instant()
            .then(Duration::from_secs(10), StartPhase::Restarting)
            .then(Duration::from_millis(300), StartPhase::EarlyError);
        all.0.extend(Self::as_seen().0);
        all
    }
}

/// Where the process is.
#[derive(Clone, Debug, Default)]
pub(super) struct Phase {
    /// Phases yet to come, each with its end, in order.
    until: Vec<(u64, StartPhase)>,
    /// Away until a test says otherwise.
    pub(super) down: bool,
    /// The session value of the process before.
    pub(super) old_session: String,
}

impl Phase {
    pub(super) fn up() -> Self {
        Self::default()
    }

    pub(super) fn starting(now: u64, startup: &Startup, old_session: &str) -> Self {
        let mut at = now;
        let until = startup
            .0
            .iter()
            .map(|(lasts, phase)| {
                at = at.saturating_add(super::build::millis(*lasts));
                (at, *phase)
            })
            .collect();
        Self { until, down: false, old_session: old_session.to_owned() }
    }

    /// The phase at `now`, if the server is not up.
    pub(super) fn at(&self, now: u64) -> Option<StartPhase> {
        if self.down {
            return Some(StartPhase::Away);
        }
        self.until.iter().find(|(until, _)| now < *until).map(|(_, phase)| *phase)
    }

    pub(super) fn works(&self, now: u64) -> bool {
        self.at(now).is_none()
    }

    /// When the last phase ends.
    pub(super) fn works_from(&self) -> Option<u64> {
        if self.down { None } else { self.until.last().map(|(until, _)| *until) }
    }

    /// When the present phase ends.
    pub(super) fn changes_at(&self, now: u64) -> Option<u64> {
        if self.down { None } else { self.until.iter().map(|(until, _)| *until).find(|until| now < *until) }
    }

    pub(super) fn settle(&mut self, now: u64) {
        if self.works(now) {
            self.until.clear();
        }
    }
}
