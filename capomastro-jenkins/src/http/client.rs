//! The client of one server.

use super::{Reply, circuit::Circuit, crumb::Crumb, trust::Trust};
use crate::{
    address::{Base, JobName, Place},
    credentials::Credentials,
};
use capomastro_core::{
    Error, ErrorKind, Result, Retry,
    launch::SendBefore,
    secret::Secrets,
    time::{Clock, Monotonic, Random},
};
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{ACCEPT, ACCEPT_LANGUAGE, CONTENT_TYPE, COOKIE},
};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{Semaphore, SemaphorePermit};
use url::form_urlencoded;

const AGENT: &str = concat!("capomastro-jenkins/", env!("CARGO_PKG_VERSION"));
/// Jenkins closes idle connections after 30 s; a request on one that is just being closed has an unknown outcome.
const IDLE: Duration = Duration::from_secs(10);
/// How often a request that only reads is sent again at once when its connection breaks.
pub(super) const RESENDS: usize = 2;
/// Who waits for less than this says nothing of the server by giving up.
const PATIENCE: Duration = Duration::from_secs(2);
/// What is read at most of an answer whose body says little.
const SMALL: usize = 64 * 1024;

/// How a server is talked to.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) base: Base,
    pub(crate) credentials: Credentials,
    pub(crate) secrets: Secrets,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    /// How many requests may be under way at once.
    pub(crate) concurrency: usize,
    pub(crate) connect_timeout: Duration,
    /// How long reading may take.
    pub(crate) read_timeout: Duration,
    /// How long reading an artifact or a log may take in all.
    pub(crate) download_timeout: Duration,
    /// How long asking for a build, or another change, may take.
    pub(crate) change_timeout: Duration,
    /// How many bytes of JSON are read at most.
    pub(crate) max_json: usize,
    pub(crate) proxy: Option<reqwest::Proxy>,
    pub(crate) roots: Vec<reqwest::Certificate>,
}

impl Settings {
    fn builder(&self) -> reqwest::ClientBuilder {
        let mut builder = reqwest::Client::builder()
            .user_agent(AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(IDLE);
        if let Some(proxy) = self.proxy.clone() {
            builder = builder.proxy(proxy);
        }
        if !self.roots.is_empty() {
            builder = builder.tls_certs_merge(self.roots.iter().cloned());
        }
        builder
    }
}

/// What a request carries.
#[derive(Clone)]
pub(crate) enum Body {
    Nothing,
    /// `application/x-www-form-urlencoded` in UTF-8. Values may be secret.
    Form(Vec<(String, String)>),
    /// `application/xml; charset=utf-8`.
    Xml(Vec<u8>),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Form(_) => "Form(…)",
            Self::Xml(_) => "Xml(…)",
        })
    }
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    method: Method,
    place: Place,
    body: Body,
    accept: &'static str,
    max: usize,
    job: Option<JobName>,
    send_before: Option<SendBefore>,
    timeout: Option<Duration>,
}

impl Call {
    fn new(method: Method, place: Place, body: Body) -> Self {
        Self {
            method,
            place,
            body,
            accept: "application/json",
            max: SMALL,
            job: None,
            send_before: None,
            timeout: None,
        }
    }

    /// Reads.
    pub(crate) fn get(place: Place) -> Self {
        Self::new(Method::GET, place, Body::Nothing)
    }

    /// Changes something.
    pub(crate) fn post(place: Place, body: Body) -> Self {
        Self::new(Method::POST, place, body)
    }

    /// Reads at most so many bytes; a longer answer is an error. 64 KiB by default.
    pub(crate) fn max(mut self, bytes: usize) -> Self {
        self.max = bytes;
        self
    }

    /// Takes whatever type of content the place has, rather than JSON.
    pub(crate) fn any_type(mut self) -> Self {
        self.accept = "*/*";
        self
    }

    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    pub(super) const fn job(&self) -> Option<&JobName> {
        self.job.as_ref()
    }

    /// Names the job in errors.
    pub(crate) fn about(mut self, job: &JobName) -> Self {
        self.job = Some(job.clone());
        self
    }

    /// Sends nothing once it is too late, and takes no longer than `timeout` then.
    pub(crate) fn send_before(mut self, limit: SendBefore, timeout: Duration) -> Self {
        self.send_before = Some(limit);
        self.timeout = Some(timeout);
        self
    }
}

/// No answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Proven that the server did not get the request.
    Unsent(Error),
    /// It may have.
    Unknown(Error),
}

impl From<Fault> for Error {
    /// For requests that may be sent twice.
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unsent(error) | Fault::Unknown(error) => error,
        }
    }
}

/// The client of one server. Clones share connections, limits and what is known of the server.
#[derive(Clone, Debug)]
pub(crate) struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    http: reqwest::Client,
    /// For what may be large: bounded by how long nothing comes, and never packed, so that offsets are offsets.
    downloads: reqwest::Client,
    permits: Semaphore,
    /// For downloads, which take long: what launches and looks wait for is never held by them.
    download_permits: Semaphore,
    circuit: Mutex<Circuit>,
    trust: Mutex<Trust>,
    /// What was issued, or that the server issues none.
    crumb: Mutex<Option<Option<Crumb>>>,
}

impl Client {
    pub(crate) fn new(settings: Settings) -> Result<Self> {
        let made = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|e| {
                Error::config("no client can be made with these settings: check certificates and proxy")
                    .with_source(e)
            })
        };
        let http = made(settings.builder())?;
        let downloads = made(settings.builder().no_gzip().read_timeout(settings.read_timeout))?;
        Ok(Self(Arc::new(Inner {
            downloads,
            permits: Semaphore::new(settings.concurrency),
            download_permits: Semaphore::new(settings.concurrency.div_ceil(2)),
            settings,
            http,
            circuit: Mutex::default(),
            trust: Mutex::default(),
            crumb: Mutex::default(),
        })))
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(super) fn downloads(&self) -> &reqwest::Client {
        &self.0.downloads
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.0.settings.clock.as_ref()
    }

    /// The session of the server's process, as the last answer that told it did.
    pub(crate) fn session(&self) -> Option<String> {
        locked(&self.0.trust).session.clone()
    }

    /// An error of this server, about this job.
    pub(crate) fn name(&self, error: Error, job: Option<&JobName>) -> Error {
        let error = error.with_context("server", self.0.settings.base.url());
        match job {
            Some(job) => error.with_context("job", job),
            None => error,
        }
    }

    /// Sends a request and reads its answer, whatever its status.
    pub(crate) async fn exchange(&self, call: Call) -> Result<Reply, Fault> {
        let job = call.job.clone();
        self.attempt(&call).await.map_err(|fault| match fault {
            Fault::Unsent(e) => Fault::Unsent(self.name(e, job.as_ref())),
            Fault::Unknown(e) => Fault::Unknown(self.name(e, job.as_ref())),
        })
    }

    /// The JSON at a place, and the session of the process that told it.
    pub(crate) async fn json(
        &self,
        place: Place,
        job: Option<&JobName>,
    ) -> Result<(serde_json::Value, String)> {
        let mut call = Call::get(place).max(self.0.settings.max_json);
        call.job = job.cloned();
        let reply = self.exchange(call).await?;
        let value = reply.json().map_err(|e| self.name(e, job))?;
        Ok((value, reply.session().unwrap_or_default().to_owned()))
    }

    async fn attempt(&self, call: &Call) -> Result<Reply, Fault> {
        let _permit = self.permit().await.map_err(Fault::Unsent)?;
        let waiting = self.waiting();
        let tried = self.tries(call).await;
        waiting.end();
        match &tried {
            Ok(reply) => self.note(Some(reply.status)),
            // Ours, and not the server's.
            Err(Fault::Unsent(e)) if !is_of_transport(e) => {}
            Err(_) => self.note(None),
        }
        tried
    }

    async fn tries(&self, call: &Call) -> Result<Reply, Fault> {
        let mut tried = self.once(call).await;
        // An idle connection that the server was just closing broke; what only reads is sent again.
        for _ in 0..RESENDS {
            match tried {
                Err(Fault::Unknown(e))
                    if call.method == Method::GET && e.kind() == ErrorKind::Unavailable =>
                {
                    tried = self.once(call).await;
                }
                _ => break,
            }
        }
        let reply = tried?;
        // The crumb filter stands before everything else, so a refusal for its sake had no effect.
        if reply.wants_crumb() && self.0.settings.credentials.needs_crumb() {
            *locked(&self.0.crumb) = None;
            return self.once(call).await;
        }
        Ok(reply)
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>> {
        self.admitted(&self.0.permits).await
    }

    pub(super) async fn download_permit(&self) -> Result<SemaphorePermit<'_>> {
        self.admitted(&self.0.download_permits).await
    }

    async fn admitted<'a>(&self, permits: &'a Semaphore) -> Result<SemaphorePermit<'a>> {
        let closed = |_| Error::internal("a semaphore that is never closed is closed");
        let permit = permits.acquire().await.map_err(closed)?;
        let admitted = locked(&self.0.circuit).admit(self.clock().monotonic());
        admitted.map_err(|wait| {
            Error::new(
                ErrorKind::Unavailable,
                "the server has not worked lately and is left alone for a while",
            )
            .with_retry(Retry::After(wait))
        })?;
        Ok(permit)
    }

    async fn once(&self, call: &Call) -> Result<Reply, Fault> {
        let mut request = self.request(call);
        if call.method == Method::POST
            && let Some(crumb) = self.crumb().await.map_err(Fault::Unsent)?
        {
            request = request.header(crumb.field, crumb.value);
            if let Some(cookie) = crumb.cookie {
                request = request.header(COOKIE, cookie);
            }
        }
        let request = self.authorized(request).await.map_err(Fault::Unsent)?;
        if let Some(limit) = call.send_before {
            limit.check(self.clock()).map_err(Fault::Unsent)?;
        }
        self.send(request, call.max).await
    }

    fn request(&self, call: &Call) -> RequestBuilder {
        let settings = &self.0.settings;
        let default =
            if call.method == Method::POST { settings.change_timeout } else { settings.read_timeout };
        let request = self
            .0
            .http
            .request(call.method.clone(), settings.base.at(&call.place))
            .header(ACCEPT, call.accept)
            .header(ACCEPT_LANGUAGE, "en")
            .timeout(call.timeout.map_or(default, |t| t.min(default)));
        match &call.body {
            Body::Nothing => request,
            Body::Form(fields) => request
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded; charset=utf-8")
                .body(form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()),
            Body::Xml(text) => {
                request.header(CONTENT_TYPE, "application/xml; charset=utf-8").body(text.clone())
            }
        }
    }

    pub(super) async fn authorized(&self, request: RequestBuilder) -> Result<RequestBuilder> {
        let settings = &self.0.settings;
        let Some((user, secret)) = settings.credentials.user_and_secret() else { return Ok(request) };
        let secret = settings.secrets.resolve(secret).await?;
        Ok(request.basic_auth(user, Some(secret.expose())))
    }

    /// The crumb for a change, if the server wants one of us.
    async fn crumb(&self) -> Result<Option<Crumb>> {
        if !self.0.settings.credentials.needs_crumb() {
            return Ok(None);
        }
        if let Some(known) = locked(&self.0.crumb).clone() {
            return Ok(known);
        }
        let request = self.request(&Call::get(Place::of(["crumbIssuer", "api", "json"])));
        let reply = self.send(self.authorized(request).await?, SMALL).await?;
        let crumb = if reply.status == StatusCode::NOT_FOUND && reply.is_of_jenkins() {
            None
        } else {
            let crumb = Crumb::read(&reply.json()?, &reply.headers);
            Some(crumb.ok_or_else(|| Error::new(ErrorKind::Corrupt, "the server's crumb cannot be read"))?)
        };
        *locked(&self.0.crumb) = Some(crumb.clone());
        Ok(crumb)
    }

    async fn send(&self, request: RequestBuilder, max: usize) -> Result<Reply, Fault> {
        let response = request.send().await.map_err(transport)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = bounded(response, max).await.map_err(Fault::Unknown)?;
        let mut reply = Reply { status, headers, body, may_be_starting: false };
        let mut trust = locked(&self.0.trust);
        if let Some(session) = reply.session() {
            trust.session = Some(session.to_owned());
        }
        if reply.denies_us() {
            reply.may_be_starting = trust.denied(self.clock().monotonic());
        } else if reply.is_of_jenkins() && status.is_success() {
            trust.worked();
        }
        drop(trust);
        Ok(reply)
    }

    /// From now on somebody waits for the server.
    pub(super) fn waiting(&self) -> Waiting<'_> {
        Waiting { client: self, since: self.clock().monotonic(), is_over: false }
    }

    /// Notes whether the server answered, and with which status.
    pub(super) fn note(&self, answered: Option<StatusCode>) {
        let has_worked = answered.is_some_and(|status| {
            !matches!(
                status,
                StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
            )
        });
        let mut circuit = locked(&self.0.circuit);
        match has_worked {
            true => circuit.worked(),
            false => circuit.failed(self.clock().monotonic(), self.0.settings.random.bits()),
        }
    }
}

/// Somebody waits for the server. Who loses patience before it has answered, or this client has, tells as much of it as an
/// answer that never came.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    client: &'a Client,
    since: Monotonic,
    is_over: bool,
}

impl Waiting<'_> {
    pub(super) fn end(mut self) {
        self.is_over = true;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_over && self.client.clock().monotonic().since(self.since) >= PATIENCE {
            self.client.note(None);
        }
    }
}

/// Whether an error tells of the way to the server.
fn is_of_transport(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::TimedOut)
}

async fn bounded(mut response: Response, max: usize) -> Result<Vec<u8>> {
    let is_success = response.status().is_success();
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(|e| Error::from(transport(e)))? {
        if !is_success && body.len() + bytes.len() > SMALL {
            // A page for people: its beginning says enough.
            break;
        }
        if body.len() + bytes.len() > max {
            let error = Error::new(ErrorKind::Corrupt, "the server's answer is longer than is read of it");
            return Err(error.with_context("bytes", max));
        }
        body.extend_from_slice(&bytes);
    }
    Ok(body)
}

pub(super) fn transport(e: reqwest::Error) -> Fault {
    let is_unsent = e.is_connect() || e.is_builder();
    let (kind, message) = if e.is_builder() {
        (ErrorKind::InvalidConfig, "the request cannot be made: check the user's name")
    } else if e.is_timeout() {
        (ErrorKind::TimedOut, "the server did not answer in time")
    } else if e.is_connect() {
        (ErrorKind::Unavailable, "the server cannot be reached: check host, port and certificate")
    } else if e.is_decode() {
        // Of a packed body, half of it is told as this too.
        (ErrorKind::Unavailable, "the server's answer broke off, or cannot be unpacked")
    } else {
        (ErrorKind::Unavailable, "the connection to the server broke")
    };
    let error = Error::new(kind, message).with_source(e.without_url());
    if is_unsent { Fault::Unsent(error) } else { Fault::Unknown(error) }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
