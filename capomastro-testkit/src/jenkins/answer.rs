//! Answers, in the shapes in which Jenkins and its container give them.

use super::{request::Request, state::State};
use serde_json::Value;

/// What goes back to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Names and raw values, in order.
    pub(super) headers: Vec<(&'static str, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    /// The connection breaks after this many bytes of the body.
    pub(super) cut_at: Option<usize>,
}

pub(super) const HTML: &str = "text/html;charset=utf-8";
const NO_CACHE: &str = "no-cache,no-store,must-revalidate";

impl Answer {
    /// A status and nothing else.
    pub(super) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), cut_at: None }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name, value.as_ref().to_vec()));
        self
    }

    pub(super) fn body(mut self, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.with("Content-Type", kind)
    }

    /// A redirect, which names neither version nor session.
    pub(super) fn to(status: u16, location: impl AsRef<[u8]>) -> Self {
        Self::empty(status).with("Location", location)
    }

    pub(super) fn text(body: impl Into<Vec<u8>>) -> Self {
        Self::empty(200).body("text/plain;charset=utf-8", body)
    }

    /// JSON of the remote API.
    pub(super) fn api(state: &State, value: &Value) -> Self {
        Self::empty(200).advertised(state).body("application/json;charset=utf-8", value.to_string())
    }

    /// Adds version and session value.
    pub(super) fn advertised(self, state: &State) -> Self {
        self.with("X-Jenkins", &state.config.version).with("X-Jenkins-Session", &state.session)
    }

    /// A page of Jenkins itself, which also opens a session for who has none.
    pub(super) fn page(state: &mut State, status: u16, title: &str, text: &str) -> Self {
        let cookie = state.new_cookie();
        let mut answer = Self::empty(status);
        if status == 500 || status == 404 {
            answer = answer.with("Cache-Control", NO_CACHE);
        }
        answer
            .with("Set-Cookie", cookie)
            .with("X-Hudson", "1.395")
            .advertised(state)
            .body(HTML, html(title, text))
    }

    pub(super) fn not_found(state: &mut State) -> Self {
        Self::page(state, 404, "Not Found - Jenkins", "Not Found")
    }

    /// An exception's page.
    pub(super) fn oops(state: &mut State) -> Self {
        Self::page(state, 500, "Jenkins - Jenkins", "Oops! A problem occurred while processing the request.")
    }

    pub(super) fn wrong_method(state: &mut State) -> Self {
        Self::page(state, 405, "Method Not Allowed - Jenkins", "Method Not Allowed").with("Allow", "POST")
    }

    /// A refusal with its reason in a header, in Latin-1.
    pub(super) fn failure(state: &mut State, message: &str) -> Self {
        let latin: Vec<u8> = message.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b' ')).collect();
        Self::page(state, 400, "Jenkins - Jenkins", message).with("X-Error", latin)
    }

    /// An error of the servlet container: JSON for who asks for it, without version and session value.
    pub(super) fn container(request: &Request, status: u16, message: &str) -> Self {
        let url = &request.raw_path;
        if request.wants_json() {
            let quoted = |text: &str| Value::from(text).to_string();
            let body = format!(
                "{{\n\"servlet\":\"Stapler\",\n\"message\":{},\n\"url\":{},\n\"status\":\"{status}\"\n}}",
                quoted(message),
                quoted(url)
            );
            Self::empty(status).body("application/json", body)
        } else {
            let title = format!("Error {status} {message}");
            Self::empty(status).body("text/html;charset=iso-8859-1", html(&title, &format!("URI: {url}")))
        }
    }

    /// The page of a server that starts or restarts.
    pub(super) fn unavailable(title: &str) -> Self {
        Self::empty(503).with("Cache-Control", NO_CACHE).body(HTML, html(title, "Please wait"))
    }
}

/// A page that shows `text`.
pub(super) fn html(title: &str, text: &str) -> String {
    let safe = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!(
        "<!DOCTYPE html><html><head><title>{}</title></head><body><p>{}</p></body></html>",
        safe(title),
        safe(text)
    )
}
