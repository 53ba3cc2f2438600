//! What a server is like, before it starts.

use super::{
    handle::Jenkins,
    phases::Startup,
    security::{Security, User},
    state::{Config, State},
};
use capomastro_core::time::{Clock, SystemClock};
use std::{collections::BTreeSet, io, sync::Arc, time::Duration};

/// What a server is like. Everything has a default: see [`Jenkins::builder`].
#[derive(Debug)]
pub struct JenkinsBuilder {
    clock: Arc<dyn Clock>,
    users: Vec<User>,
    config: Config,
    startup: Startup,
    safe_startup: Startup,
    reload_startup: Startup,
    seed: u64,
}

impl JenkinsBuilder {
    pub(super) fn new() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            users: vec![User::admin(Jenkins::ADMIN, Jenkins::TOKEN).password(Jenkins::PASSWORD)],
            config: Config {
                root_url: Some("http://jenkins.example/".to_owned()),
                context: String::new(),
                version: "2.568.2".to_owned(),
                executors: 2,
                labels: BTreeSet::new(),
                quiet_period: Duration::from_secs(5),
                tick: Duration::from_secs(5),
                pending_for: Duration::ZERO,
                queue_save_delay: Duration::from_secs(60),
                crumbs: true,
                old_fold: false,
                old_cancel: false,
                artifact_permission: false,
                keep_alive: Duration::from_secs(30),
            },
            startup: Startup::instant(),
            safe_startup: Startup::instant(),
            reload_startup: Startup::instant(),
            seed: 0,
        }
    }

    /// The clock by which quiet periods pass and builds end: the machine's unless told otherwise. Only its monotonic
    /// time is followed, so that a test may skew its wall clock without the server noticing.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// One more user. There is an administrator already.
    #[must_use]
    pub fn user(mut self, user: User) -> Self {
        self.users.retain(|known| known.name != user.name);
        self.users.push(user);
        self
    }

    /// A path under which the server is, such as `/ci`.
    #[must_use]
    pub fn context_path(mut self, path: &str) -> Self {
        let path = path.trim_matches('/');
        self.config.context = if path.is_empty() { String::new() } else { format!("/{path}") };
        self
    }

    /// The address that the administrator entered, of which JSON is full; `None` where nobody did. It is wrong unless
    /// told otherwise, as it often is.
    #[must_use]
    pub fn root_url(mut self, url: Option<&str>) -> Self {
        self.config.root_url = url.map(str::to_owned);
        self
    }

    /// What `X-Jenkins` says.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.config.version = version.into();
        self
    }

    /// How many freestyle builds run at a time; two unless told otherwise.
    #[must_use]
    pub fn executors(mut self, count: usize) -> Self {
        self.config.executors = count;
        self
    }

    /// A label that the node has.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.config.labels.insert(label.into());
        self
    }

    /// How long items wait when neither request nor job says; 5 s unless told otherwise.
    #[must_use]
    pub fn quiet_period(mut self, quiet_period: Duration) -> Self {
        self.config.quiet_period = quiet_period;
        self
    }

    /// How often the scheduler looks by itself; 5 s unless told otherwise. Zero: items start when they are due.
    #[must_use]
    pub fn tick(mut self, tick: Duration) -> Self {
        self.config.tick = tick;
        self
    }

    /// How long an item is pending, its executor chosen; not at all unless told otherwise. Not seen live.
    #[must_use]
    pub fn pending_for(mut self, time: Duration) -> Self {
        self.config.pending_for = time;
        self
    }

    /// How long after a change the queue is saved; 60 s unless told otherwise. What is younger does not outlive a crash.
    #[must_use]
    pub fn queue_save_delay(mut self, delay: Duration) -> Self {
        self.config.queue_save_delay = delay;
        self
    }

    /// Switches the protection by crumbs off.
    #[must_use]
    pub fn without_crumbs(mut self) -> Self {
        self.config.crumbs = false;
        self
    }

    /// Answers 201 where a request was folded, as cores before 2.308 did. Not seen live.
    #[must_use]
    pub fn old_fold(mut self) -> Self {
        self.config.old_fold = true;
        self
    }

    /// Answers every cancellation with a redirect, as cores before 2.211 did. Not seen live.
    #[must_use]
    pub fn old_cancel(mut self) -> Self {
        self.config.old_cancel = true;
        self
    }

    /// Asks for a permission of its own before artifacts are read.
    #[must_use]
    pub fn artifact_permission(mut self) -> Self {
        self.config.artifact_permission = true;
        self
    }

    /// How long an idle connection is kept; 30 s unless told otherwise. By the machine's clock, and at the next request
    /// by the server's.
    #[must_use]
    pub fn keep_alive(mut self, time: Duration) -> Self {
        self.config.keep_alive = time;
        self
    }

    /// What restarts and crashes go through until the server is up again; nothing unless told otherwise.
    #[must_use]
    pub fn startup(mut self, startup: Startup) -> Self {
        self.startup = startup;
        self
    }

    /// What a safe restart goes through once the last build has ended; nothing unless told otherwise.
    #[must_use]
    pub fn safe_restart_startup(mut self, startup: Startup) -> Self {
        self.safe_startup = startup;
        self
    }

    /// What a reload goes through; nothing unless told otherwise.
    #[must_use]
    pub fn reload_startup(mut self, startup: Startup) -> Self {
        self.reload_startup = startup;
        self
    }

    /// Where session values, cookies and crumbs come from.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Starts the server on a port of 127.0.0.1 that the system chooses.
    ///
    /// # Errors
    ///
    /// Where no port can be had.
    pub async fn start(self) -> io::Result<Jenkins> {
        let now = u64::try_from(self.clock.now().timestamp_millis()).unwrap_or_default();
        let security = Security { users: self.users, ..Security::default() };
        let mut state = State::new(self.config, security, now, self.seed);
        state.startup = self.startup;
        state.safe_startup = self.safe_startup;
        state.reload_startup = self.reload_startup;
        Jenkins::serve(state, self.clock).await
    }
}
