//! Answers that may be large: read as they come, and led elsewhere where that is safe.

use super::{
    Call, Client, Reply,
    client::{RESENDS, transport},
};
use crate::address::{JobName, Place};
use capomastro_core::{Error, ErrorKind, Result, time::Monotonic};
use futures_util::future::{Either, select};
use reqwest::{
    Response, StatusCode,
    header::{ACCEPT, ACCEPT_LANGUAGE, HeaderName, LOCATION, RANGE},
};
use std::pin::pin;
use tokio::sync::SemaphorePermit;
use url::Url;

/// How often one may be led elsewhere.
const MAX_REDIRECTS: usize = 3;

/// An answer whose body has not been read. It counts as a request that is under way until it is dropped.
#[derive(Debug)]
pub(crate) struct Opened<'a> {
    response: Response,
    client: &'a Client,
    /// When it must have been read.
    until: Monotonic,
    _permit: SemaphorePermit<'a>,
}

impl Opened<'_> {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.response.headers().get(name).and_then(|v| v.to_str().ok())
    }

    /// What an answer that is not a success says.
    pub(crate) fn complaint(&self) -> Error {
        Reply {
            status: self.response.status(),
            headers: self.response.headers().clone(),
            body: Vec::new(),
            may_be_starting: false,
        }
        .complaint()
    }

    /// The next piece of the body.
    pub(crate) async fn chunk(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>> {
        let clock = self.client.clock();
        let left = self.until.since(clock.monotonic());
        match select(pin!(self.response.chunk()), clock.sleep(left)).await {
            Either::Left((chunk, _)) => chunk.map_err(|e| transport(e).into()),
            Either::Right(_) => Err(Error::new(
                ErrorKind::TimedOut,
                "the server took too long to hand over all of it: allow downloads more time, or read from where it stopped",
            )),
        }
    }
}

impl Client {
    /// Opens a place of this server to read from it, from this byte on if the server can do that. An artifact may be kept
    /// elsewhere: credentials do not go there, and nothing that is encrypted is led to where it is not.
    pub(crate) async fn download(&self, place: &Place, from: u64, job: &JobName) -> Result<Opened<'_>> {
        self.opened(place, from).await.map_err(|e| self.name(e, Some(job)))
    }

    /// Opens what a request for reading names.
    pub(crate) async fn open(&self, call: Call) -> Result<Opened<'_>> {
        let opened = self.opened(call.place(), 0).await;
        opened.map_err(|e| self.name(e, call.job()))
    }

    async fn opened(&self, place: &Place, from: u64) -> Result<Opened<'_>> {
        let permit = self.download_permit().await?;
        let until = self.clock().monotonic().plus(self.settings().download_timeout);
        let base = self.settings().base.url().clone();
        let mut url = self.settings().base.at(place);
        for _ in 0..=MAX_REDIRECTS {
            let is_own = url.origin() == base.origin();
            let waiting = self.waiting();
            let mut sent = self.sent(&url, from, is_own).await?;
            for _ in 0..RESENDS {
                match &sent {
                    Err(e) if !e.is_timeout() && !e.is_connect() => {
                        sent = self.sent(&url, from, is_own).await?;
                    }
                    _ => break,
                }
            }
            waiting.end();
            if is_own {
                self.note(sent.as_ref().ok().map(Response::status));
            }
            let response = sent.map_err(|e| Error::from(transport(e)))?;
            if !response.status().is_redirection() {
                return Ok(Opened { response, client: self, until, _permit: permit });
            }
            let location = response.headers().get(LOCATION).and_then(|l| l.to_str().ok());
            url = next(&url, location.unwrap_or_default())?;
        }
        let message = "the server leads from place to place without end: check the store of its artifacts";
        Err(Error::config(message))
    }

    async fn sent(&self, url: &Url, from: u64, is_own: bool) -> Result<reqwest::Result<Response>> {
        let mut request =
            self.downloads().get(url.clone()).header(ACCEPT, "*/*").header(ACCEPT_LANGUAGE, "en");
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        if is_own {
            request = self.authorized(request).await?;
        }
        Ok(request.send().await)
    }
}

/// Where a redirect leads.
fn next(from: &Url, location: &str) -> Result<Url> {
    let elsewhere =
        || Error::config("the server leads to a place that is not safe to read from: check its URL");
    let to = from.join(location).map_err(|_| elsewhere())?;
    let is_safe = match from.scheme() {
        "https" => to.scheme() == "https",
        _ => matches!(to.scheme(), "http" | "https"),
    };
    if !is_safe || !to.username().is_empty() || to.password().is_some() {
        return Err(elsewhere());
    }
    if to.origin() == from.origin() && to.path() == format!("{}/", from.path()) {
        return Err(Error::new(ErrorKind::NotFound, "there is a folder of that name, and no file"));
    }
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_to_safe_places_only() {
        for (from, location, to) in [
            (
                "http://h/job/a/1/artifact/x",
                "https://store/x?signature=y",
                Some("https://store/x?signature=y"),
            ),
            ("https://h/job/a/1/artifact/x", "https://store/x", Some("https://store/x")),
            ("https://h/job/a/1/artifact/x", "/static-files/abc/x", Some("https://h/static-files/abc/x")),
            ("https://h/job/a/1/artifact/x", "http://store/x", None),
            ("http://h/job/a/1/artifact/x", "file:///etc/passwd", None),
            ("http://h/job/a/1/artifact/x", "http://u:hunter2@store/x", None),
            ("http://h/job/a/1/artifact/x", "http://[", None),
            ("http://h/job/a/1/artifact/x", "/job/a/1/artifact/x/", None),
        ] {
            let got = next(&Url::parse(from).unwrap(), location);
            if let Err(e) = &got {
                assert!(!e.report().contains("hunter2"), "{e:?}");
            }
            assert_eq!(got.ok().as_ref().map(Url::as_str), to, "{from} {location}");
        }
    }
}
