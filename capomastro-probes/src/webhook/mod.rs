//! What forges tell of pushes: hints to look earlier.
//!
//! A hook is never the truth. It may be lost, come twice, late or out of order; no revision in it is used and no address
//! in it is fetched from. All that comes of one is that the dependencies that follow the named ref of the named
//! repository are looked at now instead of at their next turn. Without any hook everything works, a little later. A look
//! that was under way when the hook came does not answer it: the scheduler starts another one.
//!
//! Hooks have to be signed; those that are not are refused. Several secrets may be good at a time, to be replaced one
//! after the other. The set-up for each forge is in `docs/webhooks.md`.
//!
//! [`Webhooks::receive`] needs no framework; with the feature `axum`, `Webhooks::routes` is a handler to be mounted.

mod forward;
#[cfg(feature = "axum")]
mod handler;
mod payload;
mod place;
mod seen;
mod sign;
#[cfg(test)]
mod tests;

pub use place::{Changed, Place, Watched};

use capomastro_core::{
    Error, ErrorKind, Result,
    model::Source,
    secret::Secret,
    time::{Clock, SystemClock},
};
use payload::Said;
use seen::Seen;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use subtle::ConstantTimeEq;
use tokio::sync::{Notify, Semaphore};

/// The longest message that is read, in bytes, unless the builder says otherwise. GitHub sends up to 25 MB.
pub const MAX_BODY: usize = 8 * 1024 * 1024;

/// How many messages are remembered, and for how long, so that their repetition costs nothing. Later ones are somebody's
/// wish: forges have a button for that.
const REMEMBERED: usize = 4_096;
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// How many repositories may wait for an earlier look.
const WAITING: usize = 10_000;
/// How many endpoints there may be.
const MAX_ENDPOINTS: usize = 100;
/// The longest path segment of an endpoint, in bytes.
const MAX_SEGMENT: usize = 200;
/// How many bodies are read at a time.
const READERS: usize = 16;

/// Who sends.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Forge {
    /// GitHub: `X-Hub-Signature-256`.
    GitHub,
    /// GitLab: `X-Gitlab-Token`; `webhook-signature` with a secret that begins with `whsec_`.
    GitLab,
    /// Gitea and Forgejo: `X-Gitea-Signature`, `X-Forgejo-Signature`.
    Gitea,
    /// Bitbucket, cloud and own servers: `X-Hub-Signature`.
    Bitbucket,
    /// Anybody else: `X-Capomastro-Signature: sha256=…`, the HMAC-SHA256 in base 16 of `X-Capomastro-Timestamp` (seconds
    /// since 1970, at most 5 minutes from now), a dot and the body, which is
    /// `{"source": "the URL", "ref": "refs/heads/main"}`.
    Generic,
}

impl Forge {
    /// The path segment of its endpoint, unless another one is chosen.
    pub const fn segment(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::Gitea => "gitea",
            Self::Bitbucket => "bitbucket",
            Self::Generic => "generic",
        }
    }

    /// The header that names one delivery.
    const fn delivery(self) -> &'static str {
        match self {
            Self::GitHub => "x-github-delivery",
            Self::GitLab => "x-gitlab-event-uuid",
            Self::Gitea => "x-gitea-delivery",
            Self::Bitbucket => "x-request-uuid",
            Self::Generic => "x-capomastro-timestamp",
        }
    }
}

/// Where the headers of a request are found.
pub trait FindHeader: Sync {
    /// The value of the header of this name, which is in lower case; `None` also where it is there more than once, since
    /// such a request could be read in two ways.
    fn find(&self, name: &str) -> Option<&str>;
}

/// Headers by their names in lower case.
impl FindHeader for BTreeMap<String, String> {
    fn find(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

/// The headers of a request.
#[derive(Copy, Clone)]
pub struct Headers<'a>(&'a dyn FindHeader);

impl<'a> Headers<'a> {
    /// As they are found there.
    pub fn new(of: &'a dyn FindHeader) -> Self {
        Self(of)
    }

    /// The value of a header, whose name is in lower case, without blanks around it.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.0.find(name).map(str::trim)
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Headers").finish_non_exhaustive()
    }
}

/// What became of a request. What it is answered with is [`status`](Received::status) and [`text`](Received::text).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// Whoever follows what changed will be looked at earlier.
    Noted,
    /// The same was said a moment ago.
    Repeated,
    /// The forge only tried whether somebody is there.
    Ping,
    /// It is signed, and of no interest.
    Ignored,
    /// There is no such endpoint.
    NoEndpoint,
    /// It is not signed, or not with a secret of ours, or the time in it is not now.
    NotSigned,
    /// It is signed and cannot be read.
    Unreadable,
    /// Its content type is none in which the forge sends.
    NotJson,
    /// It is longer than what is read.
    TooLong,
    /// Too many repositories wait for an earlier look already, or too many requests are being read.
    Full,
}

impl Received {
    /// The status of HTTP.
    pub const fn status(self) -> u16 {
        match self {
            Self::Noted => 202,
            Self::Repeated | Self::Ping | Self::Ignored => 200,
            Self::Unreadable => 400,
            Self::NotSigned => 401,
            Self::NoEndpoint => 404,
            Self::TooLong => 413,
            Self::NotJson => 415,
            Self::Full => 429,
        }
    }

    /// A sentence for whoever set up the hook. The same for all requests that are not signed, whatever is wrong with them.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Noted => "noted\n",
            Self::Repeated => "known already\n",
            Self::Ping => "here I am\n",
            Self::Ignored => "nothing to do: only pushes, branches and tags are of interest\n",
            Self::NoEndpoint => "not found\n",
            Self::NotSigned => "the signature is missing or wrong: check the secret and the clock\n",
            Self::Unreadable => {
                "the message cannot be read: check that it is a hook of the forge of this address\n"
            }
            Self::NotJson => "the content type is not known: choose application/json\n",
            Self::TooLong => "the message is too long\n",
            Self::Full => "too many hooks wait: try again later\n",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Noted => "noted",
            Self::Repeated => "repeated",
            Self::Ping => "ping",
            Self::Ignored => "ignored",
            Self::NoEndpoint => "no_endpoint",
            Self::NotSigned => "not_signed",
            Self::Unreadable => "unreadable",
            Self::NotJson => "not_json",
            Self::TooLong => "too_long",
            Self::Full => "full",
        }
    }
}

/// What tells what a source follows.
type Follows = dyn Fn(&Source) -> Option<Watched> + Send + Sync;

/// Receives hooks and turns each into earlier looks. A cheap handle: clones are the same receiver.
///
/// Mount `routes` (feature `axum`) or call [`receive`](Webhooks::receive) from a handler of your own, and keep
/// [`forward`](Webhooks::forward) running beside the scheduler.
///
/// ```
/// use capomastro_core::secret::Secret;
/// use capomastro_probes::webhook::{Forge, Headers, Received, Webhooks};
/// use std::collections::BTreeMap;
///
/// let hooks = Webhooks::builder()
///     .endpoint(Forge::GitHub, [Secret::new("a long random secret")])
///     .build()?;
/// let unsigned = BTreeMap::new();
/// assert_eq!(hooks.receive("github", Headers::new(&unsigned), b"{}"), Received::NotSigned);
/// # Ok::<(), capomastro_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Webhooks {
    shared: Arc<Shared>,
}

struct Shared {
    endpoints: Vec<Endpoint>,
    max_body: usize,
    every: Duration,
    clock: Arc<dyn Clock>,
    follows: Box<Follows>,
    state: Mutex<State>,
    came: Notify,
    #[cfg_attr(not(feature = "axum"), expect(dead_code, reason = "for the handler"))]
    readers: Semaphore,
}

struct Endpoint {
    forge: Forge,
    segment: Secret,
    secrets: Vec<Secret>,
}

struct State {
    seen: Seen,
    waiting: BTreeMap<Place, Changed>,
}

/// Shows no secret and no path, which may be one.
impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let forges: Vec<Forge> = self.shared.endpoints.iter().map(|e| e.forge).collect();
        f.debug_struct("Webhooks").field("endpoints", &forges).finish_non_exhaustive()
    }
}

/// Puts [`Webhooks`] together.
pub struct WebhooksBuilder {
    endpoints: Vec<Endpoint>,
    max_body: usize,
    every: Duration,
    clock: Arc<dyn Clock>,
    follows: Box<Follows>,
}

impl fmt::Debug for WebhooksBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhooksBuilder").finish_non_exhaustive()
    }
}

impl WebhooksBuilder {
    /// Receives hooks of a forge at its own [segment](Forge::segment), signed with any of these secrets: 1 to 8, of 16 to
    /// 1,024 bytes each.
    #[must_use]
    pub fn endpoint(self, forge: Forge, secrets: impl IntoIterator<Item = Secret>) -> Self {
        self.endpoint_at(forge, Secret::new(forge.segment()), secrets)
    }

    /// The same at another path segment: letters, digits, `-` and `_`. One that cannot be guessed keeps strangers from
    /// having anything checked; it does not replace a signature.
    #[must_use]
    pub fn endpoint_at(
        mut self,
        forge: Forge,
        segment: Secret,
        secrets: impl IntoIterator<Item = Secret>,
    ) -> Self {
        self.endpoints.push(Endpoint { forge, segment, secrets: secrets.into_iter().collect() });
        self
    }

    /// The longest message that is read, in bytes; [`MAX_BODY`] unless given. At most 16 are read at a time.
    #[must_use]
    pub const fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// How often one dependency is looked at because of hooks at the most; each second unless given. Hooks that come in
    /// between are answered by one look after that time.
    #[must_use]
    pub const fn at_most_every(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }

    /// The clock; that of the machine unless given.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// What a source follows, for probes whose sources are written in their own way; [`Watched::of`] unless given.
    #[must_use]
    pub fn follows(mut self, follows: impl Fn(&Source) -> Option<Watched> + Send + Sync + 'static) -> Self {
        self.follows = Box::new(follows);
        self
    }

    /// The receiver.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) for secrets that can be guessed, segments that are none or twice there.
    pub fn build(self) -> Result<Webhooks> {
        if self.endpoints.is_empty() || self.endpoints.len() > MAX_ENDPOINTS {
            return Err(Error::config("there is no endpoint for webhooks or more than 100: give 1 to 100"));
        }
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            sign::check(&endpoint.secrets).map_err(|e| e.with_context("forge", endpoint.forge.segment()))?;
            let segment = endpoint.segment.expose();
            let is_plain = segment.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if segment.is_empty() || segment.len() > MAX_SEGMENT || !is_plain {
                return Err(Error::config(
                    "the path segment of a webhook is none: give 1 to 200 letters, digits, `-` and `_`",
                ));
            }
            if self.endpoints[..index].iter().any(|other| other.segment.expose() == segment) {
                return Err(Error::config("two webhooks have the same path segment: give each its own"));
            }
        }
        let state = State { seen: Seen::new(REMEMBERED, REMEMBERED_FOR), waiting: BTreeMap::new() };
        Ok(Webhooks {
            shared: Arc::new(Shared {
                endpoints: self.endpoints,
                max_body: self.max_body,
                every: self.every,
                clock: self.clock,
                follows: self.follows,
                state: Mutex::new(state),
                came: Notify::new(),
                readers: Semaphore::new(READERS),
            }),
        })
    }
}

impl Webhooks {
    /// A receiver to be configured.
    pub fn builder() -> WebhooksBuilder {
        WebhooksBuilder {
            endpoints: Vec::new(),
            max_body: MAX_BODY,
            every: Duration::from_secs(1),
            clock: Arc::new(SystemClock),
            follows: Box::new(Watched::of),
        }
    }

    /// Whether it is worth reading the body of a request: its endpoint is there, it carries a signature, and the length
    /// that it announces fits. `None` if so, else what to answer.
    pub fn refused_unread(&self, segment: &str, headers: Headers<'_>) -> Option<Received> {
        let Some(endpoint) = self.endpoint(segment) else { return Some(Received::NoEndpoint) };
        let announced = headers.get("content-length").and_then(|length| length.parse::<usize>().ok());
        if announced.is_some_and(|length| length > self.shared.max_body) {
            return Some(Received::TooLong);
        }
        (!sign::is_signed(endpoint.forge, headers)).then_some(Received::NotSigned)
    }

    /// Takes in a request to the endpoint at `segment`; never waits. `body` is exactly what came.
    pub fn receive(&self, segment: &str, headers: Headers<'_>, body: &[u8]) -> Received {
        let received = self.take_in(segment, headers, body);
        counted(received)
    }

    fn take_in(&self, segment: &str, headers: Headers<'_>, body: &[u8]) -> Received {
        if let Some(refused) = self.refused_unread(segment, headers) {
            return refused;
        }
        let Some(endpoint) = self.endpoint(segment) else { return Received::NoEndpoint };
        if body.len() > self.shared.max_body {
            return Received::TooLong;
        }
        let clock = &self.shared.clock;
        if !sign::holds(endpoint.forge, &endpoint.secrets, headers, body, clock.now()) {
            return Received::NotSigned;
        }
        let (places, changed) = match payload::read(endpoint.forge, headers, body) {
            Ok(Said::Changed { places, changed }) => (places, changed),
            Ok(Said::Ping) => return Received::Ping,
            Ok(Said::Other) => return Received::Ignored,
            Err(error) => {
                tracing::debug!(error = %error.report(), forge = ?endpoint.forge, "a webhook cannot be read");
                return match error.kind() {
                    ErrorKind::Unsupported => Received::NotJson,
                    _ => Received::Unreadable,
                };
            }
        };
        let mut digest = Sha256::new();
        digest.update(endpoint.forge.segment());
        digest.update(headers.get(endpoint.forge.delivery()).unwrap_or_default());
        digest.update(body);
        let digest: [u8; 32] = digest.finalize().into();
        let now = clock.monotonic();
        {
            let mut state = self.state();
            if state.seen.has(&digest, now) {
                return Received::Repeated;
            }
            let is_new = |place: &&Place| !state.waiting.contains_key(place);
            if state.waiting.len() + places.iter().filter(is_new).count() > WAITING {
                return Received::Full;
            }
            for place in places {
                state.waiting.entry(place).or_insert_with(Changed::nothing).merge(changed.clone());
            }
            state.seen.remember(digest, now);
        }
        self.shared.came.notify_one();
        Received::Noted
    }

    /// Every endpoint is compared, so that the time tells nothing of a secret segment.
    fn endpoint(&self, segment: &str) -> Option<&Endpoint> {
        let is_it = |e: &&Endpoint| bool::from(e.segment.expose().as_bytes().ct_eq(segment.as_bytes()));
        self.shared.endpoints.iter().fold(None, |found, e| if is_it(&e) { Some(e) } else { found })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What is in it is whole at each moment, whoever panicked.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts what became of a request.
fn counted(received: Received) -> Received {
    metrics::counter!("capomastro_webhooks_total", "received" => received.name()).increment(1);
    received
}
