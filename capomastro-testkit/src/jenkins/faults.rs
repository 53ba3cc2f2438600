//! What goes wrong between client and server, scripted or drawn from a seed.

use super::{
    answer::{Answer, HTML, html},
    request::Request,
    security::digest,
};
use std::time::Duration;

/// Whether the request that a fault hits reaches the server.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It never arrives.
    None,
    /// It arrives, and only its answer is hit.
    Done,
    /// It arrives this long after the client was answered. Not seen live.
    Late(Duration),
}

/// What the client meets instead of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The connection closes without an answer.
    Reset,
    /// Nothing comes back.
    Silence,
    /// A page of a proxy.
    Proxy(u16),
    /// A login page of a proxy, as 200.
    Login,
    /// A redirect of a proxy.
    Moved(u16, String),
    /// The connection breaks after this many bytes of the body.
    CutAfter(usize),
    /// The body ends after this many bytes, and its length says so: JSON that is no JSON.
    EndAfter(usize),
    /// A body of this many bytes.
    Huge(usize),
    /// Another `Location`, or none.
    Location(Option<String>),
    /// The answer comes this much later.
    Slow(Duration),
    /// The body is replaced by this JSON.
    Json(String),
}

/// Something that goes wrong with requests.
///
/// Unless told otherwise it hits the next request, whichever that is, before it has had any effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub(super) broken: Broken,
    pub(super) effect: Effect,
    method: Option<String>,
    path: Option<String>,
    times: u32,
}

impl Fault {
    fn new(broken: Broken, effect: Effect) -> Self {
        Self { broken, effect, method: None, path: None, times: 1 }
    }

    /// The connection closes without an answer.
    pub fn reset() -> Self {
        Self::new(Broken::Reset, Effect::None)
    }

    /// Nothing comes back, until the client gives up. Not seen live.
    pub fn silence() -> Self {
        Self::new(Broken::Silence, Effect::None)
    }

    /// A proxy answers with this status, such as 502 or 504, and a page of its own. Not seen live.
    pub fn proxy(status: u16) -> Self {
        Self::new(Broken::Proxy(status), Effect::None)
    }

    /// A proxy answers 200 with its login page. Not seen live.
    pub fn login_page() -> Self {
        Self::new(Broken::Login, Effect::None)
    }

    /// A proxy redirects elsewhere, with a status such as 301. Not seen live.
    pub fn moved(status: u16, location: impl Into<String>) -> Self {
        Self::new(Broken::Moved(status, location.into()), Effect::None)
    }

    /// The connection breaks after `bytes` of the body of an answer that promised more. Not seen live.
    pub fn cut_after(bytes: usize) -> Self {
        Self::new(Broken::CutAfter(bytes), Effect::Done)
    }

    /// The body of a 200 ends after `bytes`, as when an exporter fails midway. Not seen live.
    pub fn broken_json(bytes: usize) -> Self {
        Self::new(Broken::EndAfter(bytes), Effect::Done)
    }

    /// A JSON body of this many bytes. Not seen live.
    pub fn huge(bytes: usize) -> Self {
        Self::new(Broken::Huge(bytes), Effect::Done)
    }

    /// Another JSON body than the server's, for what no server would say.
    pub fn json(body: impl Into<String>) -> Self {
        Self::new(Broken::Json(body.into()), Effect::Done)
    }

    /// A proxy that writes another `Location`. Not seen live.
    pub fn location(location: impl Into<String>) -> Self {
        Self::new(Broken::Location(Some(location.into())), Effect::Done)
    }

    /// A proxy that drops the `Location`. Not seen live.
    pub fn no_location() -> Self {
        Self::new(Broken::Location(None), Effect::Done)
    }

    /// The answer is late by this much of the clock's time.
    pub fn slow(by: Duration) -> Self {
        Self::new(Broken::Slow(by), Effect::Done)
    }

    /// The request reaches the server, and only its answer is hit.
    #[must_use]
    pub fn after_effect(mut self) -> Self {
        self.effect = Effect::Done;
        self
    }

    /// The request reaches the server this long after it was sent, when its client was answered or gave up. Not seen
    /// live.
    #[must_use]
    pub fn late_effect(mut self, after: Duration) -> Self {
        self.effect = Effect::Late(after);
        self
    }

    /// Hits only requests with this method whose path holds `path`.
    #[must_use]
    pub fn on(mut self, method: impl Into<String>, path: impl Into<String>) -> Self {
        (self.method, self.path) = (Some(method.into()), Some(path.into()));
        self
    }

    /// Hits this many requests; once unless told otherwise.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Hits every request that it fits.
    #[must_use]
    pub fn always(self) -> Self {
        self.times(u32::MAX)
    }

    fn fits(&self, request: &Request) -> bool {
        self.times > 0
            && self.method.as_ref().is_none_or(|method| *method == request.method)
            && self.path.as_ref().is_none_or(|path| request.raw_path.contains(path))
    }

    /// What the client gets in place of `answer`.
    pub(super) fn spoil(&self, mut answer: Answer) -> Answer {
        match &self.broken {
            Broken::Proxy(status) => {
                let title = format!("{status} Error");
                Answer::empty(*status).with("Server", "nginx").body("text/html", html(&title, &title))
            }
            Broken::Login => Answer::empty(200).body(HTML, html("Single sign-on", "Please log in")),
            Broken::Moved(status, location) => Answer::to(*status, location),
            Broken::CutAfter(bytes) => {
                answer.cut_at = Some(*bytes);
                answer
            }
            Broken::EndAfter(bytes) => {
                answer.body.truncate(*bytes);
                answer
            }
            Broken::Json(body) => {
                answer.body = body.clone().into_bytes();
                answer
            }
            Broken::Huge(bytes) => {
                let mut body = b"{\"padding\":\"".to_vec();
                body.resize(bytes.saturating_sub(2).max(body.len()), b'x');
                body.extend(b"\"}");
                answer.body = body;
                answer
            }
            Broken::Location(location) => {
                answer.headers.retain(|(name, _)| *name != "Location");
                match location {
                    Some(location) => answer.with("Location", location),
                    None => answer,
                }
            }
            Broken::Reset | Broken::Silence | Broken::Slow(_) => answer,
        }
    }
}

/// Faults drawn from a seed: each request meets one with a given probability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chaos {
    seed: u64,
    per_thousand: u16,
    faults: Vec<Fault>,
}

impl Chaos {
    /// Of a thousand requests about `per_thousand` meet one of `faults`, which are as likely as one another. Whom a
    /// fault fits is heeded, how often it hits is not.
    pub fn new(seed: u64, per_thousand: u16, faults: impl IntoIterator<Item = Fault>) -> Self {
        Self { seed, per_thousand, faults: faults.into_iter().collect() }
    }

    /// What a trigger has to expect: connections that break, silence, and proxies that answer for the server, each
    /// before the request had an effect, after it, or long before it.
    pub fn of_triggers(seed: u64, per_thousand: u16) -> Self {
        let late = Duration::from_secs(20);
        let all = [Fault::reset(), Fault::proxy(502), Fault::proxy(504)]
            .into_iter()
            .flat_map(|fault| [fault.clone(), fault.clone().after_effect(), fault.late_effect(late)])
            .map(|fault| fault.on("POST", "build"));
        Self::new(seed, per_thousand, all)
    }

    fn draw(&self, count: u64, request: &Request) -> Option<Fault> {
        let drawn = digest(&[&self.seed.to_string(), "fault", &count.to_string()]);
        let number = |at: usize| u64::from_str_radix(&drawn[at..at + 8], 16).unwrap_or_default();
        if number(0) % 1_000 >= u64::from(self.per_thousand) || self.faults.is_empty() {
            return None;
        }
        let which = usize::try_from(number(8)).unwrap_or_default() % self.faults.len();
        let fault = self.faults[which].clone().always();
        fault.fits(request).then_some(fault)
    }
}

/// Faults in store.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) scripted: Vec<Fault>,
    pub(super) chaos: Option<Chaos>,
    pub(super) drawn: u64,
    pub(super) hit: u64,
}

impl Faults {
    /// The fault that `request` meets.
    pub(super) fn next(&mut self, request: &Request) -> Option<Fault> {
        self.drawn += 1;
        let found = match self.scripted.iter_mut().find(|fault| fault.fits(request)) {
            Some(fault) => {
                if fault.times != u32::MAX {
                    fault.times -= 1;
                }
                Some(fault.clone())
            }
            None => self.chaos.as_ref().and_then(|chaos| chaos.draw(self.drawn, request)),
        };
        self.scripted.retain(|fault| fault.times > 0);
        self.hit += u64::from(found.is_some());
        found
    }
}
