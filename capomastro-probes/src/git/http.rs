//! Repositories behind HTTP, asked in process.
//!
//! The smart protocol, version 2 where the server has it, else what it says in version 0 or 1; and the plain files of a
//! web server that knows nothing of git. Redirects are followed as git follows them (for the first request only), but
//! only within one origin or from `http` to `https` of the same host: credentials never go elsewhere, and a source
//! names where it really is.

use super::{
    listing::{Found, Listing, Wants, nonsense, object_id, shown, too_large},
    protocol::{AGENT, Outcome, Reader},
};
use capomastro_core::{Error, ErrorKind, Result, Retry, secret::Secret};
use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER},
};
use std::time::Duration;
use url::Url;

/// How often the first request may be sent elsewhere.
const MAX_REDIRECTS: usize = 5;
/// The longest wait that a server may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

const ADVERTISEMENT: &str = "application/x-git-upload-pack-advertisement";
const RESULT: &str = "application/x-git-upload-pack-result";

/// A user and the password, resolved.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub(super) username: String,
    pub(super) password: Secret,
}

impl Credentials {
    /// Whether they stand in `text`, as they are or as they are sent.
    fn appear_in(&self, client: &Client, text: &str) -> bool {
        let password = self.password.expose();
        let sent =
            client.get("http://localhost/").basic_auth(&self.username, Some(password)).build().ok().and_then(
                |r| r.headers().get(AUTHORIZATION)?.to_str().ok()?.split(' ').next_back().map(str::to_owned),
            );
        !password.is_empty() && (text.contains(password) || sent.is_some_and(|s| text.contains(&s)))
    }
}

/// A client that is fit for this: it follows no redirects by itself and keeps nothing of one server for another.
pub(super) fn client() -> reqwest::Result<Client> {
    Client::builder()
        .user_agent(AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(Duration::from_secs(20))
        .pool_idle_timeout(Duration::from_secs(30))
        .build()
}

/// The refs of the repository at `url`.
pub(super) async fn list(
    client: &Client,
    url: &Url,
    credentials: Option<&Credentials>,
    wants: &Wants,
    max: u64,
) -> Result<Listing> {
    let listed = Session { client, credentials, logged_in: false, base: url.clone(), max }.list(wants).await;
    listed.map_err(|e| match credentials {
        // A server may repeat what it was sent.
        Some(c) if c.appear_in(client, &e.report()) => {
            Error::new(e.kind(), "the server's complaint repeats our credentials and is not shown")
                .with_retry(e.retry())
        }
        _ => e,
    })
}

struct Session<'a> {
    client: &'a Client,
    credentials: Option<&'a Credentials>,
    /// Whether the server has asked for credentials in clear text, where they are not sent unasked.
    logged_in: bool,
    /// The repository's URL, without a slash at its end; where a redirect led, if one did.
    base: Url,
    max: u64,
}

impl Session<'_> {
    async fn list(mut self, wants: &Wants) -> Result<Listing> {
        let response = self.first().await?;
        match content_type(response.headers()).as_str() {
            ADVERTISEMENT => {}
            "text/html" | "application/xhtml+xml" => {
                return Err(nonsense("a web page, perhaps to log in,"));
            }
            _ => return self.plain_files(response, wants).await,
        }
        match self.read(response, Reader::advertisement(wants.clone(), self.max)).await? {
            Outcome::Refs(listing) => Ok(listing),
            Outcome::Introduced(capabilities) => {
                let url = self.at("git-upload-pack")?;
                let request = self
                    .request(Method::POST, url)
                    .header(ACCEPT, RESULT)
                    .header(CONTENT_TYPE, "application/x-git-upload-pack-request")
                    .body(capabilities.ask(wants)?);
                let response = send(request).await?;
                if response.status() != StatusCode::OK {
                    return Err(self.refusal(&response));
                }
                if content_type(response.headers()) != RESULT {
                    return Err(nonsense("something that is no answer to its own protocol"));
                }
                match self.read(response, Reader::ls_refs(wants.clone(), self.max)).await? {
                    Outcome::Refs(listing) => Ok(listing),
                    Outcome::Introduced(_) => Err(nonsense("an introduction where refs belong")),
                }
            }
        }
    }

    /// The first request, which may be redirected and may have to be repeated with credentials.
    async fn first(&mut self) -> Result<Response> {
        for _ in 0..=MAX_REDIRECTS {
            let mut url = self.at("info/refs")?;
            url.set_query(Some("service=git-upload-pack"));
            let response = send(self.request(Method::GET, url.clone())).await?;
            match response.status() {
                StatusCode::OK => return Ok(response),
                StatusCode::UNAUTHORIZED if self.credentials.is_some() && !self.sends_credentials() => {
                    self.logged_in = true;
                }
                status if status.is_redirection() => {
                    let to = response.headers().get(LOCATION).and_then(|l| l.to_str().ok());
                    self.base = redirected(&url, to.unwrap_or_default())?;
                }
                _ => return Err(self.refusal(&response)),
            }
        }
        Err(Error::config("the server redirects without end: give the URL at which the repository is")
            .with_context("at", self.base.as_str()))
    }

    /// A web server without git: what `git update-server-info` wrote, and `HEAD`.
    async fn plain_files(&mut self, response: Response, wants: &Wants) -> Result<Listing> {
        let refs = self.body(response).await?;
        let response = send(self.request(Method::GET, self.at("HEAD")?)).await?;
        if response.status() != StatusCode::OK {
            return Err(self.refusal(&response));
        }
        let head = self.body(response).await?;
        let head = str::from_utf8(&head).unwrap_or_default().trim();
        let mut wants_and_head = wants.clone();
        if let Some(target) = head.strip_prefix("ref: ").map(str::trim).filter(|t| t.starts_with("refs/")) {
            wants_and_head.insert(target.to_owned());
            let mut listing = Listing::of_lines(&refs, &wants_and_head)?;
            if let Some(found) = listing.get(target).cloned() {
                listing.note(wants, "HEAD", Found { target: Some(target.to_owned()), ..found });
            }
            return Ok(listing);
        }
        let id = object_id(head.as_bytes()).map_err(|_| nonsense("something that is no git repository"))?;
        let mut listing = Listing::of_lines(&refs, &wants_and_head)?;
        listing.note(wants, "HEAD", Found { id, ..Found::default() });
        Ok(listing)
    }

    /// Credentials go to an encrypted server at once, which saves a round trip, and to another one when it asks: it may
    /// be there only to send us to the encrypted one.
    fn sends_credentials(&self) -> bool {
        self.logged_in || self.base.scheme() == "https"
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.client.request(method, url).header("Git-Protocol", "version=2");
        match self.credentials {
            Some(c) if self.sends_credentials() => request.basic_auth(&c.username, Some(c.password.expose())),
            _ => request,
        }
    }

    fn at(&self, what: &str) -> Result<Url> {
        Url::parse(&format!("{}/{what}", self.base.as_str().trim_end_matches('/')))
            .map_err(|_| Error::internal("a URL that was read before cannot be read"))
    }

    async fn read(&self, mut response: Response, mut reader: Reader) -> Result<Outcome> {
        while let Some(bytes) = response.chunk().await.map_err(broken)? {
            if reader.feed(&bytes)? {
                break;
            }
        }
        reader.finish()
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(bytes) = response.chunk().await.map_err(broken)? {
            if body.len() as u64 + bytes.len() as u64 > self.max {
                return Err(too_large(self.max));
            }
            body.extend_from_slice(&bytes);
        }
        Ok(body)
    }

    /// What a status other than success means. The body is not read: it is for browsers.
    fn refusal(&self, response: &Response) -> Error {
        let status = response.status();
        let (kind, message) = match status {
            StatusCode::UNAUTHORIZED if self.credentials.is_none() => {
                (ErrorKind::PermissionDenied, "the server wants to know who asks: give username and password")
            }
            StatusCode::UNAUTHORIZED => {
                (ErrorKind::PermissionDenied, "the server does not accept username and password: check both")
            }
            StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                (ErrorKind::PermissionDenied, "the server refuses: check what the user may read")
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => (
                ErrorKind::InvalidConfig,
                "the server has no such repository, or does not show it to us: check URL and credentials",
            ),
            StatusCode::TOO_MANY_REQUESTS => {
                (ErrorKind::RateLimited, "the server is asked too often: look less often")
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => {
                (ErrorKind::TimedOut, "the server, or one behind it, did not answer in time")
            }
            s if s.is_server_error() => (ErrorKind::Unavailable, "the server does not work now"),
            s if s.is_redirection() => (
                ErrorKind::Corrupt,
                "the server redirects a request that cannot be redirected: check the URL",
            ),
            _ => (ErrorKind::Corrupt, "the server's status is none that git servers have: check the URL"),
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

/// The repository's URL after the first request, for `from`, was sent to `to`.
fn redirected(from: &Url, to: &str) -> Result<Url> {
    let mut base = from.join(to).map_err(|_| nonsense("a redirect to nowhere"))?;
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
    let Some(path) = base.path().strip_suffix("/info/refs").filter(|_| is_plain).map(str::to_owned) else {
        return Err(Error::config("the server sends us to something that is no repository: check the URL")
            .with_context("to", place));
    };
    base.set_query(None);
    base.set_fragment(None);
    base.set_path(&path);
    Ok(base)
}

async fn send(request: RequestBuilder) -> Result<Response> {
    request.send().await.map_err(broken)
}

fn content_type(headers: &HeaderMap) -> String {
    let text = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn broken(e: reqwest::Error) -> Error {
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
            let got = redirected(&asked(from), &to);
            if let Err(e) = &got {
                assert!(!e.report().contains("hunter2"), "{to}: {e:?}");
            }
            assert_eq!(got.ok().as_ref().map(Url::as_str), base, "{from} {to}");
        }
    }
}
