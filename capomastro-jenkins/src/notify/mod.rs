//! What Jenkins tells of its own accord, by its Notification plugin: hints to look earlier.
//!
//! A message is never the truth. It may be lost, come twice, late or out of order, or be made up; nothing in it is
//! fetched from and nothing in it is believed. All that comes of one is that the build whose key it names is looked at
//! now instead of at its next turn. Without any message everything works, a little later.
//!
//! Who may send is decided by an address that cannot be guessed, since the plugin signs nothing.

#[cfg(feature = "axum")]
mod handler;
mod payload;
mod seen;

pub use payload::{Notification, Phase};

use capomastro_core::{Error, Result, Scheduler, model::LaunchKey, secret::Secret, time::Random};
use futures_util::future::{Either, select};
use seen::Seen;
use std::{
    collections::BTreeSet,
    fmt,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};
use subtle::ConstantTimeEq;
use tokio::sync::Notify;

/// The longest message that is read, in bytes. One with a log in it may be longer, and is not needed: set the endpoint's
/// `loglines` to 0.
pub const MAX_BODY: usize = 1024 * 1024;

/// The shortest secret segment: what 128 random bits need in base 64.
const MIN_SEGMENT: usize = 22;
const MAX_SEGMENT: usize = 200;

/// How many messages are remembered, so that their repetition costs nothing.
const REMEMBERED: usize = 4_096;
/// How many builds may wait for an earlier look. One more is looked at when its turn comes.
const WAITING: usize = 10_000;
/// How many builds one call asks the scheduler to look at.
const AT_ONCE: usize = 500;

/// The name of the parameter in which our key travels, unless another one is chosen.
pub const ID_PARAMETER: &str = "CAPOMASTRO_BUILD_ID";

/// What became of a message.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// A build will be looked at earlier.
    Noted,
    /// The same was said before.
    Repeated,
    /// It names no build of ours.
    NotOurs,
    /// It cannot be read.
    Unreadable,
    /// Too many builds wait for an earlier look already.
    Full,
}

/// Receives the messages of one Jenkins server and turns each into an earlier look. A cheap handle: clones are the same
/// receiver.
///
/// Mount [`routes`](Notifications::routes) (feature `axum`) or call [`receive`](Notifications::receive) from a handler of
/// your own, and keep [`forward`](Notifications::forward) running beside the scheduler.
#[derive(Clone)]
pub struct Notifications {
    shared: Arc<Shared>,
}

struct Shared {
    segment: Secret,
    id_parameter: String,
    state: Mutex<State>,
    came: Notify,
}

struct State {
    seen: Seen,
    waiting: BTreeSet<LaunchKey>,
}

/// Shows no part of the secret address.
impl fmt::Debug for Notifications {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifications")
            .field("id_parameter", &self.shared.id_parameter)
            .finish_non_exhaustive()
    }
}

/// A path segment that cannot be guessed: 128 random bits in base 16.
pub fn draw_segment(random: &dyn Random) -> Secret {
    Secret::new(format!("{:032x}", random.bits()))
}

impl Notifications {
    /// A receiver at the address that ends in this secret path segment; see [`draw_segment`].
    ///
    /// # Errors
    /// [`InvalidConfig`](capomastro_core::ErrorKind::InvalidConfig) unless it is 22 to 200 letters, digits, `-` and `_`.
    pub fn new(segment: Secret) -> Result<Self> {
        Self::with_id_parameter(segment, ID_PARAMETER)
    }

    /// The same, for jobs in which our key travels in the parameter of this name.
    ///
    /// # Errors
    /// As [`new`](Notifications::new).
    pub fn with_id_parameter(segment: Secret, name: impl Into<String>) -> Result<Self> {
        let text = segment.expose();
        let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !is_plain || !(MIN_SEGMENT..=MAX_SEGMENT).contains(&text.len()) {
            return Err(Error::config(
                "the secret path segment for notifications can be guessed or is no path segment: give 22 to 200 random \
                 letters, digits, `-` and `_`",
            ));
        }
        let state = State { seen: Seen::new(REMEMBERED), waiting: BTreeSet::new() };
        Ok(Self {
            shared: Arc::new(Shared {
                segment,
                id_parameter: name.into(),
                state: Mutex::new(state),
                came: Notify::new(),
            }),
        })
    }

    /// Whether this is the secret segment. Takes as long for a wrong one as for the right one.
    pub fn is_segment(&self, given: &str) -> bool {
        self.shared.segment.expose().as_bytes().ct_eq(given.as_bytes()).into()
    }

    /// Takes in a message; never waits. What becomes of it concerns nobody but logs: answer the sender with 204 whatever it
    /// was, before anything else is done, since a build waits for the answer.
    pub fn receive(&self, body: &[u8]) -> Received {
        let received = self.take_in(body);
        metric(received);
        received
    }

    fn take_in(&self, body: &[u8]) -> Received {
        if body.len() > MAX_BODY {
            return Received::Unreadable;
        }
        let message = match Notification::parse(body, &self.shared.id_parameter) {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(error = %error.report(), "a notification cannot be read");
                return Received::Unreadable;
            }
        };
        let Some(key) = message.key else { return Received::NotOurs };
        {
            let mut state = self.state();
            if state.seen.has(&message) {
                return Received::Repeated;
            }
            if state.waiting.len() >= WAITING && !state.waiting.contains(&key) {
                return Received::Full;
            }
            state.waiting.insert(key);
            state.seen.remember(message);
        }
        self.shared.came.notify_one();
        Received::Noted
    }

    /// The keys of builds about which something was said since the last call, at most 500; waits for the first.
    ///
    /// *Cancellation*: loses nothing.
    pub async fn next(&self) -> Vec<LaunchKey> {
        loop {
            let keys: Vec<LaunchKey> = {
                let mut state = self.state();
                let keys: Vec<_> = state.waiting.iter().take(AT_ONCE).copied().collect();
                for key in &keys {
                    state.waiting.remove(key);
                }
                keys
            };
            if !keys.is_empty() {
                return keys;
            }
            self.shared.came.notified().await;
        }
    }

    /// Hands what comes on to the scheduler, until `shutdown` is ready. What the scheduler cannot take is logged and lost:
    /// the builds are looked at when their turn comes.
    ///
    /// *Cancellation*: a dropped future loses at most the hints that it was handing on.
    pub async fn forward(&self, scheduler: &Scheduler, shutdown: impl Future<Output = ()> + Send) {
        let mut shutdown = pin!(shutdown);
        loop {
            let Either::Right((keys, _)) = select(shutdown.as_mut(), pin!(self.next())).await else { return };
            let handed = pin!(scheduler.look_sooner(&keys));
            match select(shutdown.as_mut(), handed).await {
                Either::Left(_) => return,
                Either::Right((Ok(found), _)) => {
                    tracing::debug!(hints = keys.len(), found, "builds are looked at sooner");
                }
                Either::Right((Err(error), _)) => {
                    tracing::warn!(error = %error.report(), "hints could not be handed on");
                }
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // What is in it is whole at each moment, whoever panicked.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn metric(received: Received) {
    let name = match received {
        Received::Noted => "noted",
        Received::Repeated => "repeated",
        Received::NotOurs => "not_ours",
        Received::Unreadable => "unreadable",
        Received::Full => "full",
    };
    metrics::counter!("capomastro_jenkins_notifications_total", "received" => name).increment(1);
}
