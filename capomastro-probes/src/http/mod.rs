//! Single URLs as sources: a file that somebody publishes, a listing, a page.
//!
//! A revision says of which kind it is:
//!
//! | revision | of | costs |
//! |---|---|---|
//! | `etag:"…"` | the `ETag` of the file | a `HEAD` request with `If-None-Match` |
//! | `modified:…` | its `Last-Modified` date | a `HEAD` request |
//! | `sha256:…` | its bytes | a `GET` request with the whole body |
//!
//! [`By::Auto`] takes the first that the server gives: a strong `ETag`, else the date, else the digest. Where `HEAD` is not
//! answered well, a `GET` request asks the same and its body is not read beyond need.
//!
//! What may be missed, and when once more is built than needed:
//! - A weak `ETag` (`W/"…"`) promises only that the meaning is the same. [`By::Auto`] passes it over; [`By::Etag`] takes it.
//! - A date counts seconds: a file that is written twice within one second and looked at in between is seen once only.
//!   [`By::Digest`] sees all. `If-Modified-Since` is never sent, since it would hide an older file in the place of a newer
//!   one; the date itself is compared, and any other one is a change.
//! - A server that begins or ends to send an `ETag`, or changes from one kind to another otherwise, is seen as changed once:
//!   values of different kinds are never equal.
//! - Behind a redirect the path to which it leads is part of the revision, so that another target with the same tag is a
//!   change. The target's host and query are not: mirrors and signed addresses would be changes all the time.
//!
//! `404` and `410` mean that the file is not there. A wait that a server asks for with `429` or `503` is kept. Credentials
//! and headers are references to secrets, go to the source's own server only, and appear in no error and no log.
//!
//! There is no second way through a program: to look from inside a container use a script probe with `curl`.

mod fetch;
mod redirect;
mod source;
mod validator;

pub use source::{By, HttpSource, Redirects};

use crate::remote::{http as web, text::shown};
use async_trait::async_trait;
use capomastro_core::{
    Error, ErrorKind, Result,
    model::{Observation, ProbeKey, Source},
    probe::{Ask, Probed, RevisionProbe, spread},
};
use fetch::{Fetch, Found};
use redirect::PublicOnly;
use reqwest::{Client, header::HeaderMap};
use source::{Spec, placed, sensitive};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use validator::{Condition, hex};

/// Who asks, as servers see it.
const AGENT: &str = concat!("capomastro/", env!("CARGO_PKG_VERSION"));
/// How many characters of a revision are shown to people.
const MAX_SHOWN: usize = 100;

/// Looks at single URLs.
///
/// Needs a tokio runtime with I/O and time. The caller's deadline is kept by dropping the future: no connection outlives
/// it.
///
/// ```
/// use capomastro_probes::http::{HttpProbe, HttpSource};
/// use capomastro_core::probe::RevisionProbe;
///
/// let probe = HttpProbe::new();
/// let a = HttpSource::new("https://example.org/lib.tar.gz").source("http")?;
/// let b = HttpSource::new("https://EXAMPLE.org:443/lib.tar.gz").source("http")?;
/// assert_eq!(probe.key(&a)?, probe.key(&b)?); // answered together
/// # Ok::<(), capomastro_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct HttpProbe {
    clients: Result<(Client, Client), String>,
}

/// Makes an [`HttpProbe`] that differs from [`HttpProbe::new`].
#[derive(Clone, Debug, Default)]
pub struct HttpProbeBuilder {
    client: Option<Client>,
}

impl HttpProbeBuilder {
    /// The client, for instance with a proxy or a certificate authority of one's own. Give it `redirect(Policy::none())` and
    /// no decompression: the probe follows redirects itself. It resolves names as it does, also of servers to which a
    /// redirect leads: private addresses behind names are refused by the probe's own client only.
    #[must_use]
    pub fn client(mut self, client: Client) -> Self {
        self.client = Some(client);
        self
    }

    /// The probe.
    pub fn build(self) -> HttpProbe {
        let clients = match self.client {
            Some(client) => Ok((client.clone(), client)),
            None => own(false).and_then(|client| Ok((client, own(true)?))),
        };
        // Told when a source needs it.
        HttpProbe { clients: clients.map_err(|e| Error::internal("no HTTP client").with_source(e).report()) }
    }
}

fn own(public_only: bool) -> reqwest::Result<Client> {
    let client = Client::builder()
        .user_agent(AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_gzip()
        .connect_timeout(Duration::from_secs(20))
        .pool_idle_timeout(Duration::from_secs(30));
    if public_only { client.dns_resolver(Arc::new(PublicOnly)).no_proxy().build() } else { client.build() }
}

impl Default for HttpProbe {
    fn default() -> Self {
        Self::new()
    }
}

impl HttpProbe {
    /// A probe with HTTP clients of its own.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A probe that differs from [`HttpProbe::new`].
    pub fn builder() -> HttpProbeBuilder {
        HttpProbeBuilder::default()
    }

    /// One look for all asks, which share one specification.
    async fn look(&self, spec: &Spec, asks: &[&Ask]) -> Result<Found> {
        let Some(first) = asks.first() else { return Err(Error::internal("nobody asks")) };
        let (client, away) = self.clients.as_ref().map_err(|e| {
            Error::new(ErrorKind::Unsupported, "no HTTP client could be made: give one to the builder")
                .with_context("because", e)
        })?;
        let credentials = match &spec.login {
            Some(login) => Some(login.resolve(&first.secrets).await?),
            None => None,
        };
        let mut headers = HeaderMap::new();
        for (name, secret) in &spec.headers {
            let value = first.secrets.resolve(secret).await?;
            headers.insert(name.clone(), sensitive(value.expose())?);
        }
        // Those who saw different things are not answered by one "not modified".
        let conditions = asks
            .iter()
            .map(|ask| Condition::of(spec.by, ask.seen.as_ref().map(|r| r.as_str()), ask.cursor.as_deref()));
        let mut conditions: Vec<Option<Condition>> = conditions.collect();
        conditions.dedup();
        let condition = if conditions.len() == 1 { conditions.remove(0) } else { None };
        let fetch = Fetch { client, away, spec, credentials: credentials.as_ref(), headers: &headers };
        let found = fetch.look(condition.as_ref()).await;
        found.map_err(|e| discreet(e, credentials.as_ref(), &headers))
    }
}

/// An error without our secrets: a server may repeat what it was sent.
fn discreet(e: Error, credentials: Option<&web::Credentials>, headers: &HeaderMap) -> Error {
    let e = match credentials {
        Some(c) => c.keep_out_of(e),
        None => e,
    };
    let report = e.report();
    let repeats =
        headers.values().filter_map(|v| v.to_str().ok()).any(|v| !v.is_empty() && report.contains(v));
    if repeats {
        return Error::new(e.kind(), "the server's complaint repeats our headers and is not shown")
            .with_retry(e.retry());
    }
    e
}

fn probed(spec: &Spec, found: Found) -> Result<Probed> {
    let (revision, cursor, at) = match found {
        Found::Same => return Ok(Probed::SameAsSeen),
        Found::Nowhere => return Ok(Probed::NotFound),
        Found::File { revision, cursor, at } => (revision, cursor, at),
    };
    let mut observation = Observation::of(revision.try_into()?);
    let display = match observation.revision.as_str().split_once(':') {
        Some(("sha256", digest)) => format!("sha256 {}", digest.get(..12).unwrap_or(digest)),
        _ => shown(observation.revision.as_str(), MAX_SHOWN),
    };
    observation.display = Some(display);
    observation.cursor = cursor;
    if at != spec.url {
        observation.metadata.insert("at".into(), placed(&at));
    }
    Ok(Probed::Observed(observation))
}

/// What answers together: the file, what its revision is, and who looks at it.
fn key_of(source: &Source, spec: &Spec) -> ProbeKey {
    let mut place = spec.url.clone();
    place.set_query(None);
    let query = spec.url.query().map_or_else(String::new, |query| hex(query.as_bytes()));
    // Digested, since a key is short.
    let how =
        hex(format!("{:?}", (spec.by, &spec.redirects, spec.max_bytes, &spec.login, &spec.headers))
            .as_bytes());
    let key = ProbeKey::of(&[source.probe.as_str(), place.as_str(), &query, &how]);
    match spec.url.host_str() {
        Some(host) => key.at(host),
        None => key,
    }
}

#[async_trait]
impl RevisionProbe for HttpProbe {
    fn key(&self, source: &Source) -> Result<ProbeKey> {
        Ok(key_of(source, &source.parse::<HttpSource>()?.check()?))
    }

    async fn probe(&self, asks: &[Ask]) -> Vec<Result<Probed>> {
        let mut answers: Vec<Option<Result<Probed>>> = asks.iter().map(|_| None).collect();
        // One file, since all asks share one key; a caller that mixes them gets right answers too.
        let mut files: BTreeMap<ProbeKey, (Spec, Vec<usize>)> = BTreeMap::new();
        for (index, ask) in asks.iter().enumerate() {
            match ask.source.parse::<HttpSource>().and_then(|s| s.check()) {
                Ok(spec) => {
                    let key = key_of(&ask.source, &spec);
                    files.entry(key).or_insert_with(|| (spec, Vec::new())).1.push(index);
                }
                Err(e) => answers[index] = Some(Err(e)),
            }
        }
        for (spec, members) in files.into_values() {
            let who: Vec<&Ask> = members.iter().map(|i| &asks[*i]).collect();
            let url = placed(&spec.url);
            let answer = self.look(&spec, &who).await.and_then(|found| probed(&spec, found));
            let answer = answer.map_err(|e| {
                let e = e.with_operation("look at a URL").with_context("url", &url);
                tracing::debug!(%url, error = %e.report(), "could not look at a URL");
                e
            });
            for (index, answer) in members.iter().zip(spread(answer, members.len())) {
                answers[*index] = Some(answer);
            }
        }
        let unanswered = || Err(Error::internal("a question to the URL probe was not answered"));
        answers.into_iter().map(|a| a.unwrap_or_else(unanswered)).collect()
    }
}
