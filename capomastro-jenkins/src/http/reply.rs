//! An answer, and what its status means to somebody who reads.

use capomastro_core::{Error, ErrorKind, Result, Retry};
use reqwest::{
    StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, LOCATION, RETRY_AFTER},
};
use serde_json::Value;
use std::time::Duration;
use url::Url;

/// The longest wait that a server may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);
/// When a server that is being started is asked again.
const STARTED: Duration = Duration::from_secs(30);

const JENKINS: HeaderName = HeaderName::from_static("x-jenkins");
const SESSION: HeaderName = HeaderName::from_static("x-jenkins-session");
const PERMISSION: HeaderName = HeaderName::from_static("x-required-permission");
const USER: HeaderName = HeaderName::from_static("x-you-are-authenticated-as");

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Our credentials were refused, and have worked before: the server may just be starting.
    pub(crate) may_be_starting: bool,
}

impl Reply {
    fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    /// The session of the server's process, if it is one of the answers that tell it.
    pub(crate) fn session(&self) -> Option<&str> {
        self.header(&SESSION)
    }

    /// Whether Jenkins itself made this answer, and says so.
    pub(crate) fn is_of_jenkins(&self) -> bool {
        self.headers.contains_key(JENKINS)
    }

    pub(crate) fn is_html(&self) -> bool {
        self.header(&CONTENT_TYPE)
            .is_some_and(|t| t.trim_start().to_ascii_lowercase().starts_with("text/html"))
    }

    pub(crate) fn location(&self) -> Option<&str> {
        self.header(&LOCATION)
    }

    /// Where a redirect leads, without what is not ours to show.
    pub(crate) fn shown_location(&self) -> String {
        let location = self.location().unwrap_or("nowhere");
        match Url::parse(location) {
            Ok(url) => format!("{}{}", url.origin().ascii_serialization(), url.path()),
            Err(_) => location.split(['?', '#']).next().unwrap_or_default().to_owned(),
        }
    }

    /// Jenkins' own page while it is being started or restarted.
    pub(crate) fn is_start_page(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
            && self.is_html()
            && !self.is_of_jenkins()
            && self.header(&CACHE_CONTROL).is_some_and(|c| c.to_ascii_lowercase().contains("no-store"))
    }

    /// A refusal for want of a permission, which is certain: Jenkins knows who asked.
    pub(crate) fn missing_permission(&self) -> Option<String> {
        (self.status == StatusCode::FORBIDDEN).then_some(())?;
        let permission = self.header(&PERMISSION);
        (permission.is_some() || self.is_of_jenkins()).then(|| {
            let user = self.header(&USER).unwrap_or("the user");
            format!("{user} lacks {}", permission.unwrap_or("a permission"))
        })
    }

    /// Whether the refusal is about a crumb.
    pub(crate) fn wants_crumb(&self) -> bool {
        self.status == StatusCode::FORBIDDEN
            && !self.is_of_jenkins()
            && self.body.windows(11).any(|w| w == b"valid crumb")
    }

    /// Whether it is the credentials that were refused.
    pub(crate) fn denies_us(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
            || self.status == StatusCode::FORBIDDEN && self.missing_permission().is_none()
    }

    /// The error when the credentials were refused.
    pub(crate) fn denial(&self) -> Error {
        if self.may_be_starting {
            let message = "the server refuses credentials that have worked: it may be starting";
            return Error::new(ErrorKind::Unavailable, message).with_retry(Retry::After(STARTED));
        }
        let message = if self.wants_crumb() {
            "the server wants a crumb that it does not give to us: use an API token, or check the proxy"
        } else if self.status == StatusCode::FORBIDDEN {
            "the server lets nobody in unknown, or something before it refuses: check user and token, and the proxy"
        } else {
            "the server does not accept the credentials: check user and token"
        };
        Error::new(ErrorKind::PermissionDenied, message)
    }

    /// The retry advice of the server itself.
    pub(crate) fn advised(&self, error: Error) -> Error {
        match self.header(&RETRY_AFTER).and_then(|v| v.trim().parse().ok()).map(Duration::from_secs) {
            Some(wait) => error.with_retry(Retry::After(wait.min(MAX_RETRY_AFTER))),
            None => error,
        }
    }

    /// What a status that is not a success means to somebody who reads, or who does what may be done twice.
    pub(crate) fn complaint(&self) -> Error {
        let status = self.status;
        let error = match status {
            _ if self.denies_us() => self.denial(),
            StatusCode::FORBIDDEN => Error::new(
                ErrorKind::PermissionDenied,
                "the server does not permit it: grant the permission to the user",
            )
            .with_context("missing", self.missing_permission().unwrap_or_default().escape_debug()),
            StatusCode::NOT_FOUND if self.is_of_jenkins() => Error::new(
                ErrorKind::NotFound,
                "the server has no such thing, or does not show it to this user",
            ),
            // No evidence of anything: a proxy, or the server on its way up.
            StatusCode::NOT_FOUND => Error::new(
                ErrorKind::Unavailable,
                "something that is not Jenkins knows no such place: check the server's URL and the proxy",
            ),
            StatusCode::TOO_MANY_REQUESTS => self.advised(Error::new(
                ErrorKind::RateLimited,
                "the server, or one before it, is asked too often",
            )),
            StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => {
                Error::new(ErrorKind::TimedOut, "the server, or one before it, did not answer in time")
            }
            _ if self.is_start_page() => {
                Error::new(ErrorKind::Unavailable, "the server is being started or stopped")
            }
            s if s.is_server_error() => {
                self.advised(Error::new(ErrorKind::Unavailable, "the server does not work now"))
            }
            s if s.is_redirection() => {
                Error::config("the server sends us elsewhere: give the URL at which it really is")
                    .with_context("to", self.shown_location())
            }
            _ => Error::new(ErrorKind::Corrupt, "the server's answer is none that Jenkins gives"),
        };
        error.with_context("status", status.as_u16())
    }

    /// The JSON of an answer that came from Jenkins itself.
    pub(crate) fn json(&self) -> Result<Value> {
        if self.status != StatusCode::OK {
            return Err(self.complaint());
        }
        if !self.is_of_jenkins() {
            return Err(Error::config(
                "something that is not Jenkins answers, perhaps a page to log in: check the server's URL and the proxy",
            ));
        }
        // An exporter that fails midway leaves half a text: it is worth another try.
        serde_json::from_slice(&self.body).map_err(|_| {
            Error::new(ErrorKind::Unavailable, "the server's answer is damaged: it is asked again")
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A reply from its parts, as the tables of tests give them.
    pub(crate) fn reply(status: u16, headers: &[(&'static str, &str)], body: &str) -> Reply {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        Reply {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: body.into(),
            may_be_starting: false,
        }
    }

    #[test]
    fn a_status_means_one_kind_of_error_to_a_reader() {
        let jenkins = ("x-jenkins", "2.568");
        let html = ("content-type", "text/html;charset=utf-8");
        for (status, headers, kind, retry) in [
            (401, vec![("www-authenticate", "Basic")], ErrorKind::PermissionDenied, Retry::Never),
            (403, vec![jenkins, ("x-required-permission", "x")], ErrorKind::PermissionDenied, Retry::Never),
            (403, vec![html], ErrorKind::PermissionDenied, Retry::Never),
            (404, vec![jenkins, html], ErrorKind::NotFound, Retry::Never),
            (404, vec![html], ErrorKind::Unavailable, Retry::Backoff),
            (429, vec![], ErrorKind::RateLimited, Retry::Backoff),
            (429, vec![("retry-after", "7")], ErrorKind::RateLimited, Retry::After(Duration::from_secs(7))),
            (503, vec![("retry-after", "9999999")], ErrorKind::Unavailable, Retry::After(MAX_RETRY_AFTER)),
            (500, vec![jenkins, html], ErrorKind::Unavailable, Retry::Backoff),
            (502, vec![html], ErrorKind::Unavailable, Retry::Backoff),
            (
                503,
                vec![html, ("cache-control", "no-cache, no-store")],
                ErrorKind::Unavailable,
                Retry::Backoff,
            ),
            (504, vec![], ErrorKind::TimedOut, Retry::Backoff),
            (302, vec![("location", "/login")], ErrorKind::InvalidConfig, Retry::Never),
            (418, vec![], ErrorKind::Corrupt, Retry::Never),
        ] {
            let e = reply(status, &headers, "").complaint();
            assert_eq!((e.kind(), e.retry()), (kind, retry), "{status} {headers:?}");
        }
        let mut starting = reply(401, &[], "");
        starting.may_be_starting = true;
        let e = starting.complaint();
        assert_eq!((e.kind(), e.retry()), (ErrorKind::Unavailable, Retry::After(STARTED)));
    }

    #[test]
    fn only_what_jenkins_says_is_read() {
        let jenkins = ("x-jenkins", "2.568");
        assert_eq!(reply(200, &[], "{}").json().unwrap_err().kind(), ErrorKind::InvalidConfig);
        for cut in ["", "{", "<html>", "{\"a\": [1, 2"] {
            assert_eq!(
                reply(200, &[jenkins], cut).json().unwrap_err().kind(),
                ErrorKind::Unavailable,
                "{cut}"
            );
        }
        let twice = reply(200, &[jenkins], r#"{"a": 1, "a": 2, "_class": "x"}"#).json().unwrap();
        assert_eq!(twice["a"], 2, "a key that comes twice is no error");
        let deep = "[".repeat(100_000);
        assert!(reply(200, &[jenkins], &deep).json().is_err());
    }

    #[test]
    fn where_a_redirect_leads_is_shown_without_secrets() {
        for (location, shown) in
            [("https://u:hunter2@h/a?token=hunter2#x", "https://h/a"), ("/login?from=hunter2", "/login")]
        {
            let e = reply(301, &[("location", location)], "").complaint();
            assert!(e.report().contains(shown) && !e.report().contains("hunter2"), "{e:?}");
        }
    }
}
