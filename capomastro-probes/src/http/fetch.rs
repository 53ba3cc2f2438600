//! The requests of one look.

use super::{
    By,
    redirect::{followed, is_address, is_home},
    source::Spec,
    validator::{Condition, Validator, hex, written},
};
use crate::remote::http::{Credentials, Place, broken, send};
use capomastro_core::{Error, ErrorKind, Result};
use reqwest::{
    Client, Method, Response, StatusCode,
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, HeaderMap, IF_NONE_MATCH, LOCATION},
};
use sha2::{Digest as _, Sha256};
use url::Url;

/// How often a request may be sent elsewhere.
const MAX_REDIRECTS: usize = 5;

/// What a look found.
#[derive(Debug)]
pub(super) enum Found {
    /// The file, its revision, what to give back at the next look, and where it is.
    File { revision: String, cursor: Option<String>, at: Url },
    /// What the condition is about is still so.
    Same,
    /// The server has no such file.
    Nowhere,
}

/// Who asks for one file.
#[derive(Debug)]
pub(super) struct Fetch<'a> {
    /// For the source's own server.
    pub(super) client: &'a Client,
    /// For servers to which that one sends us.
    pub(super) away: &'a Client,
    pub(super) spec: &'a Spec,
    pub(super) credentials: Option<&'a Credentials>,
    /// The source's own headers, resolved.
    pub(super) headers: &'a HeaderMap,
}

impl Fetch<'_> {
    /// Looks at the file: by its headers alone where they tell.
    pub(super) async fn look(&self, condition: Option<&Condition>) -> Result<Found> {
        if self.spec.by != By::Digest {
            let (response, at) = self.send(Method::HEAD, condition).await?;
            // An error only says that the server leaves the header out here.
            if let Ok(Some(found)) = self.by_headers(&response, &at, condition) {
                return Ok(found);
            }
            if is_final(response.status()) {
                return Err(self.refusal(&response));
            }
        }
        // Either only the body can tell, or the server does not answer such a request, or it said something bad, which is
        // believed of the usual request only: many servers know no other.
        let (response, at) = self.send(Method::GET, condition).await?;
        if let Some(found) = self.by_headers(&response, &at, condition)? {
            return Ok(found);
        }
        match response.status() {
            StatusCode::OK => {
                let digest = self.digest(response).await?;
                Ok(Found::File { revision: format!("sha256:{digest}"), cursor: None, at })
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(Found::Nowhere),
            StatusCode::NOT_MODIFIED if condition.is_some() => {
                // It speaks of another tag or of another place.
                Box::pin(self.look(None)).await
            }
            StatusCode::NOT_MODIFIED => Err(Error::new(
                ErrorKind::Corrupt,
                "the server says that nothing changed, but was not asked that: a cache before it may be broken",
            )),
            _ => Err(self.refusal(&response)),
        }
    }

    /// What the headers of a good answer tell; `None` if the answer is not good or only the body can tell.
    fn by_headers(
        &self,
        response: &Response,
        at: &Url,
        condition: Option<&Condition>,
    ) -> Result<Option<Found>> {
        let place = self.place(at);
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED => {
                let is_same = condition.is_some_and(|c| c.is_met(response.headers(), &place));
                return Ok(is_same.then_some(Found::Same));
            }
            _ => return Ok(None),
        }
        let validator = Validator::of(response.headers(), self.spec.by)?;
        Ok(validator.map(|validator| Found::File {
            revision: validator.revision(&place),
            cursor: validator.cursor(&place),
            at: at.clone(),
        }))
    }

    /// The place behind redirects, without its host, since mirrors have the same file, and without its query, which for
    /// many stores is a signature that differs each time.
    fn place(&self, at: &Url) -> String {
        let path = at.path();
        if path == self.spec.url.path() { String::new() } else { hex(path.as_bytes()) }
    }

    async fn send(&self, method: Method, condition: Option<&Condition>) -> Result<(Response, Url)> {
        let home = &self.spec.url;
        let mut url = home.clone();
        // Credentials go to an encrypted server at once, and to another one when it asks.
        let mut is_asked = false;
        // At most one request more than redirects, and one that is repeated with credentials.
        for _ in 0..=MAX_REDIRECTS + 1 {
            let at_home = is_home(home, &url);
            let client = if at_home || is_address(&url) { self.client } else { self.away };
            let mut request = client.request(method.clone(), url.clone());
            if at_home {
                request = request.headers(self.headers.clone());
                if let Some(c) = self.credentials.filter(|_| is_asked || url.scheme() == "https") {
                    request = request.basic_auth(&c.username, Some(c.password.expose()));
                }
            }
            // A server that compresses has another tag for each way of doing so.
            request = request.header(ACCEPT_ENCODING, "identity");
            if !self.headers.contains_key(ACCEPT) || !at_home {
                request = request.header(ACCEPT, "*/*");
            }
            if let Some(condition) = condition {
                request = request.header(IF_NONE_MATCH, &condition.tag);
            }
            let response = send(request).await?;
            match response.status() {
                StatusCode::UNAUTHORIZED
                    if at_home && self.credentials.is_some() && !is_asked && url.scheme() == "http" =>
                {
                    is_asked = true;
                }
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => {
                    let to = response.headers().get(LOCATION).and_then(|l| l.to_str().ok());
                    let to = to.ok_or_else(|| {
                        Error::new(ErrorKind::Corrupt, "the server redirects to nowhere: check the URL")
                    })?;
                    url = followed(home, &url, to, &self.spec.redirects)?;
                }
                _ => return Ok((response, url)),
            }
        }
        Err(Error::config("the server redirects without end: give the URL at which the file is"))
    }

    fn refusal(&self, response: &Response) -> Error {
        Place::new(self.client, self.spec.url.clone(), self.credentials, "file").refusal(response)
    }

    async fn digest(&self, mut response: Response) -> Result<String> {
        let max = self.spec.max_bytes;
        let too_long = || {
            Error::new(
                ErrorKind::InvalidConfig,
                "the file is longer than max_bytes and has to be read to be compared: raise max_bytes, or have the \
                 server send an ETag",
            )
            .with_context("max_bytes", max)
        };
        let announced =
            response.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > max) {
            return Err(too_long());
        }
        let (mut digest, mut length) = (Sha256::new(), 0_u64);
        while let Some(bytes) = response.chunk().await.map_err(broken)? {
            length += bytes.len() as u64;
            if length > max {
                return Err(too_long());
            }
            digest.update(&bytes);
        }
        Ok(written(&digest.finalize()))
    }
}

/// Whether a bad answer to a request for headers is one to any other request too, and not to be asked again at once.
fn is_final(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    )
}
