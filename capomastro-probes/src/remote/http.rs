//! HTTP servers, with manners: credentials go to the server of the source only, redirects are followed where that is
//! safe, and a status becomes an error that says what to do.
//!
//! A redirect is followed within one origin or from `http` to `https` of the same host, and where it only moves the
//! place that was asked for: a source names where it really is.

use super::text::shown;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use capomastro_core::{Error, ErrorKind, Result, Retry, secret::Secret};
use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER},
};
use std::time::Duration;
use url::Url;

/// How often the first request may be sent elsewhere.
const MAX_REDIRECTS: usize = 5;
/// The longest wait that a server may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// A user and the password, resolved.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: Secret,
}

impl Credentials {
    /// Whether they stand in `text`, as they are or as they are sent.
    fn appear_in(&self, text: &str) -> bool {
        let password = self.password.expose();
        let sent = BASE64_STANDARD.encode(format!("{}:{password}", self.username));
        !password.is_empty() && (text.contains(password) || text.contains(&sent))
    }

    /// Hides an error that repeats them: a server may repeat what it was sent.
    pub(crate) fn keep_out_of(&self, e: Error) -> Error {
        if self.appear_in(&e.report()) {
            return Error::new(e.kind(), "the server's complaint repeats our credentials and is not shown")
                .with_retry(e.retry());
        }
        e
    }
}

/// A client that is fit for this: it follows no redirects by itself and keeps nothing of one server for another.
pub(crate) fn client(agent: &str) -> reqwest::Result<Client> {
    Client::builder()
        .user_agent(agent)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(Duration::from_secs(20))
        .pool_idle_timeout(Duration::from_secs(30))
        .build()
}

/// One place of a server, and who asks for it.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    client: &'a Client,
    credentials: Option<&'a Credentials>,
    /// Whether the server has asked for credentials in clear text, where they are not sent unasked.
    logged_in: bool,
    /// Without a slash at its end; where a redirect led, if one did.
    base: Url,
    /// What people expect to be there: `repository`.
    what: &'static str,
}

impl<'a> Place<'a> {
    /// The place at `base`, where a `what` (as messages call it) is expected.
    pub(crate) const fn new(
        client: &'a Client,
        base: Url,
        credentials: Option<&'a Credentials>,
        what: &'static str,
    ) -> Self {
        Self { client, credentials, logged_in: false, base, what }
    }

    /// The error without our credentials.
    pub(crate) fn discreet(&self, e: Error) -> Error {
        match self.credentials {
            Some(c) => c.keep_out_of(e),
            None => e,
        }
    }

    /// The first request, for `path` and `query` below the place: it may be redirected, and is repeated with credentials
    /// where the server asks for them. `shape` adds headers and a body. Any status but those is an answer.
    pub(crate) async fn first(
        &mut self,
        method: Method,
        path: &str,
        query: Option<&str>,
        shape: impl Fn(RequestBuilder) -> RequestBuilder + Send + Sync,
    ) -> Result<Response> {
        for _ in 0..=MAX_REDIRECTS {
            let mut url = self.at(path)?;
            url.set_query(query);
            let response = send(shape(self.request(method.clone(), url.clone()))).await?;
            match response.status() {
                StatusCode::UNAUTHORIZED if self.credentials.is_some() && !self.sends_credentials() => {
                    self.logged_in = true;
                }
                status if status.is_redirection() && status != StatusCode::NOT_MODIFIED => {
                    let to = response.headers().get(LOCATION).and_then(|l| l.to_str().ok());
                    self.base = redirected(&url, to.unwrap_or_default(), path, self.what)?;
                }
                _ => return Ok(response),
            }
        }
        let what = self.what;
        Err(Error::config(format!("the server redirects without end: give the URL at which the {what} is"))
            .with_context("at", self.base.as_str()))
    }

    /// Credentials go to an encrypted server at once, which saves a round trip, and to another one when it asks: it may
    /// be there only to send us to the encrypted one.
    fn sends_credentials(&self) -> bool {
        self.logged_in || self.base.scheme() == "https"
    }

    /// A further request, which is not redirected.
    pub(crate) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.client.request(method, url);
        match self.credentials {
            Some(c) if self.sends_credentials() => request.basic_auth(&c.username, Some(c.password.expose())),
            _ => request,
        }
    }

    /// The URL of `path` below the place; of the place itself where `path` is empty.
    pub(crate) fn at(&self, path: &str) -> Result<Url> {
        if path.is_empty() {
            return Ok(self.base.clone());
        }
        Url::parse(&format!("{}/{path}", self.base.as_str().trim_end_matches('/')))
            .map_err(|_| Error::internal("a URL that was read before cannot be read"))
    }

    /// What a status other than success means. The body is not read: it is for browsers.
    pub(crate) fn refusal(&self, response: &Response) -> Error {
        let (status, what) = (response.status(), self.what);
        let (kind, message) = match status {
            StatusCode::UNAUTHORIZED if self.credentials.is_none() => (
                ErrorKind::PermissionDenied,
                "the server wants to know who asks: give username and password".into(),
            ),
            StatusCode::UNAUTHORIZED => (
                ErrorKind::PermissionDenied,
                "the server does not accept username and password: check both".into(),
            ),
            StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                (ErrorKind::PermissionDenied, "the server refuses: check what the user may read".into())
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => (
                ErrorKind::InvalidConfig,
                format!(
                    "the server has no such {what}, or does not show it to us: check URL and credentials"
                ),
            ),
            StatusCode::TOO_MANY_REQUESTS => {
                (ErrorKind::RateLimited, "the server is asked too often: look less often".into())
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => {
                (ErrorKind::TimedOut, "the server, or one behind it, did not answer in time".into())
            }
            s if s.is_server_error() => (ErrorKind::Unavailable, "the server does not work now".into()),
            s if s.is_redirection() => (
                ErrorKind::Corrupt,
                "the server redirects a request that cannot be redirected: check the URL".into(),
            ),
            _ => (
                ErrorKind::Corrupt,
                format!("the server's status is none that belongs to a {what}: check the URL"),
            ),
        };
        let e = Error::new(kind, message).with_context("status", status.as_u16());
        let wait = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.trim().parse().ok());
        match wait.map(Duration::from_secs) {
            Some(wait) if matches!(kind, ErrorKind::RateLimited | ErrorKind::Unavailable) => {
                e.with_retry(Retry::After(wait.min(MAX_RETRY_AFTER)))
            }
            _ => e,
        }
    }
}

/// The place after the request for `from`, which is `path` below it, was sent to `to`.
fn redirected(from: &Url, to: &str, path: &str, what: &str) -> Result<Url> {
    let mut base = from.join(to).map_err(|_| {
        Error::new(ErrorKind::Corrupt, format!("the server redirects to nowhere: check the {what}'s URL"))
    })?;
    // What is written before the host and behind the path is not ours to show.
    let mut place = base.clone();
    place.set_query(None);
    place.set_fragment(None);
    let cleared = place.set_username("").is_ok() && place.set_password(None).is_ok();
    let place = if cleared { shown(place.as_str(), 300) } else { "elsewhere".into() };
    let upgraded = from.scheme() == "http"
        && base.scheme() == "https"
        && from.host() == base.host()
        && from.port().is_none()
        && base.port().is_none();
    if from.origin() != base.origin() && !upgraded {
        return Err(Error::config("the server sends us to another place: if it is right, give that URL")
            .with_context("to", place));
    }
    let is_plain = base.query() == from.query() && base.username().is_empty() && base.password().is_none();
    let suffix = if path.is_empty() { String::new() } else { format!("/{path}") };
    let Some(path) = base.path().strip_suffix(&suffix).filter(|_| is_plain).map(str::to_owned) else {
        return Err(Error::config(format!(
            "the server sends us to something that is no {what}: check the URL"
        ))
        .with_context("to", place));
    };
    base.set_query(None);
    base.set_fragment(None);
    base.set_path(&path);
    Ok(base)
}

/// Sends a request.
pub(crate) async fn send(request: RequestBuilder) -> Result<Response> {
    request.send().await.map_err(broken)
}

/// The whole body, if it has at most `max` bytes unpacked; `None` if it has more.
pub(crate) async fn body(mut response: Response, max: u64) -> Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(broken)? {
        if body.len() as u64 + bytes.len() as u64 > max {
            return Ok(None);
        }
        body.extend_from_slice(&bytes);
    }
    Ok(Some(body))
}

/// The type of a body, in lower case, without parameters.
pub(crate) fn content_type(headers: &HeaderMap) -> String {
    let text = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// What a failed exchange means.
pub(crate) fn broken(e: reqwest::Error) -> Error {
    let (kind, message) = if e.is_timeout() {
        (ErrorKind::TimedOut, "the server did not answer in time")
    } else if e.is_connect() {
        (ErrorKind::Unavailable, "the server cannot be reached: check host and port")
    } else if e.is_decode() {
        (ErrorKind::Corrupt, "the server's answer cannot be unpacked")
    } else {
        (ErrorKind::Unavailable, "the connection to the server broke")
    };
    Error::new(kind, message).with_source(e.without_url())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_followed_where_it_is_safe() {
        let asked = |url: &str| Url::parse(&format!("{url}/info/refs?service=git-upload-pack")).unwrap();
        let q = "info/refs?service=git-upload-pack";
        for (from, to, base) in [
            ("http://h/a", format!("/b/{q}"), Some("http://h/b")),
            ("http://h/a", format!("https://h/a/{q}"), Some("https://h/a")),
            ("http://h/a", format!("https://h:443/b.git/{q}"), Some("https://h/b.git")),
            ("https://h/a", format!("https://H/b/{q}"), Some("https://h/b")),
            ("https://h:8443/a", format!("https://h:8443/b/{q}"), Some("https://h:8443/b")),
            ("https://h/a", format!("http://h/a/{q}"), None),
            ("http://h/a", format!("https://other/a/{q}"), None),
            ("http://h:80/a", format!("https://h:8443/a/{q}"), None),
            ("http://h:8080/a", format!("https://h/a/{q}"), None),
            ("https://h/a", format!("https://h.evil/a/{q}"), None),
            ("https://h/a", format!("https://hunter2@h/a/{q}"), None),
            ("https://h/a", format!("https://u:hunter2@h/a/{q}"), None),
            ("https://h/a", "/login?next=hunter2".into(), None),
            ("https://h/a", "/a/info/refs?service=git-receive-pack".into(), None),
            ("https://h/a", "/a/info/refs".into(), None),
            ("https://h/a", "file:///etc/passwd".into(), None),
            ("https://h/a", "http://[".into(), None),
            ("https://h/a", String::new(), Some("https://h/a")),
        ] {
            let got = redirected(&asked(from), &to, "info/refs", "repository");
            if let Err(e) = &got {
                assert!(!e.report().contains("hunter2"), "{to}: {e:?}");
            }
            assert_eq!(got.ok().as_ref().map(Url::as_str), base, "{from} {to}");
        }
    }
}
