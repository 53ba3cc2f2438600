//! A conversation with svnserve, fed with what it says. No I/O.
//!
//! Asked are the last change and the whole line of history of each path, all in one revision of the repository, since
//! answers about different ones would not fit together. Who can wait for an answer asks which revision that is first.
//! Who has to say everything in advance, since it speaks into a pipe, asks for the newest one before and after: where
//! they differ, it asks again, in the revision that it knows by then.
//!
//! <https://svn.apache.org/repos/asf/subversion/trunk/subversion/libsvn_ra_svn/protocol>

use super::{
    answer::{Node, Segment, nonsense, origin, refusal},
    revision::{is_date, is_uuid},
    wire::{Item, text},
};
use crate::remote::{http::Credentials, text::shown};
use capomastro_core::{Error, ErrorKind, Result};
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Md5;

/// How we name ourselves to servers.
const AGENT: &str = concat!("capomastro-probes/", env!("CARGO_PKG_VERSION"));
/// How many parts the history of a path may have.
const MAX_SEGMENTS: usize = 10_000;

/// What is asked, and by whom.
#[derive(Debug)]
pub(super) struct Request<'a> {
    /// The URL of the folder below which the paths lie.
    pub(super) url: &'a str,
    /// The paths, without a slash at start and end.
    pub(super) paths: &'a [String],
    pub(super) credentials: Option<&'a Credentials>,
    /// The revision in which it is asked, where that is known already.
    pub(super) at: Option<u64>,
}

/// What is said next.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing: more is to come.
    Listen,
    /// This.
    Say(String),
    /// All was answered.
    Done(Told),
    /// The server wants to know who asks in a way that only the svn program knows.
    NeedsProgram,
}

/// What was answered.
#[derive(Debug)]
pub(super) enum Told {
    /// What is at each path, in order; `None` where nothing is.
    Nodes(Vec<Result<Option<Node>>>),
    /// The server wants to know more of who asks for the path of this index, and says nothing before.
    Hidden(usize),
    /// The repository has changed meanwhile, and is at this revision now.
    Moved(u64),
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Phase {
    Greeting,
    Mechanisms,
    /// The challenge of CRAM-MD5.
    Challenge,
    Accepted,
    Repository,
    /// The newest revision, before the paths.
    Head,
    Stat,
    History,
    /// The newest revision once more.
    HeadAgain,
}

#[derive(Debug)]
pub(super) struct Conversation<'a> {
    request: Request<'a>,
    /// Whether everything was said in advance.
    blind: bool,
    phase: Phase,
    /// Whether the server has said that it needs to know no more of us for the command that it answers.
    cleared: bool,
    uuid: String,
    head: u64,
    nodes: Vec<Result<Option<Node>>>,
    segments: Vec<Segment>,
}

impl<'a> Conversation<'a> {
    /// One in which each answer is waited for.
    pub(super) const fn new(request: Request<'a>) -> Self {
        Self {
            request,
            blind: false,
            phase: Phase::Greeting,
            cleared: false,
            uuid: String::new(),
            head: 0,
            nodes: Vec::new(),
            segments: Vec::new(),
        }
    }

    /// One in which everything is said in advance, and what that is. The other side knows who we are.
    pub(super) fn blind(request: Request<'a>) -> (Self, String) {
        let mut said = introduction(request.url) + "( EXTERNAL ( 0: ) ) ( get-latest-rev ( ) ) ";
        said += &questions(request.paths, request.at);
        if request.at.is_none() {
            said += "( get-latest-rev ( ) ) ";
        }
        (Self { blind: true, ..Self::new(request) }, said)
    }

    /// Takes what the server says.
    pub(super) fn hear(&mut self, item: &Item) -> Result<Step> {
        if matches!(self.phase, Phase::Head | Phase::Stat | Phase::History | Phase::HeadAgain)
            && !self.cleared
        {
            return self.clear(item);
        }
        if self.phase == Phase::History {
            return self.history(item);
        }
        if self.phase == Phase::Challenge {
            return self.challenge(item);
        }
        if self.phase == Phase::Stat {
            let node = self.stat(item);
            self.nodes.push(node);
            self.cleared = false;
            self.phase = Phase::History;
            return Ok(Step::Listen);
        }
        let answer = success(item)?;
        match self.phase {
            Phase::Greeting => {
                let is_2 =
                    matches!(answer, [low, high, ..] if low.number() <= Some(2) && high.number() >= Some(2));
                if !is_2 {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        "the server does not speak version 2 of Subversion's protocol: ask its operator",
                    ));
                }
                self.phase = Phase::Mechanisms;
                Ok(self.say(introduction(self.request.url)))
            }
            Phase::Mechanisms => self.mechanisms(answer),
            Phase::Accepted => {
                self.phase = Phase::Repository;
                Ok(Step::Listen)
            }
            Phase::Repository => {
                let uuid = answer.first().and_then(Item::text).filter(|u| is_uuid(u));
                self.uuid = uuid.ok_or_else(|| nonsense("no UUID of a repository"))?.to_owned();
                self.phase = Phase::Head;
                Ok(self.say("( get-latest-rev ( ) ) ".into()))
            }
            Phase::Head | Phase::HeadAgain => {
                let head = answer.first().and_then(Item::number).ok_or_else(|| nonsense("no revision"))?;
                self.cleared = false;
                if self.phase == Phase::HeadAgain {
                    return Ok(Step::Done(if head == self.head {
                        Told::Nodes(std::mem::take(&mut self.nodes))
                    } else {
                        Told::Moved(head)
                    }));
                }
                self.head = self.request.at.unwrap_or(head);
                self.phase = Phase::Stat;
                if self.request.paths.is_empty() {
                    return Ok(self.answered());
                }
                Ok(self.say(questions(self.request.paths, Some(self.head))))
            }
            Phase::Challenge | Phase::Stat | Phase::History => {
                Err(Error::internal("a phase of a conversation was passed over"))
            }
        }
    }

    /// Says something, unless it was said in advance.
    fn say(&self, text: String) -> Step {
        if self.blind { Step::Listen } else { Step::Say(text) }
    }

    fn mechanisms(&mut self, answer: &[Item]) -> Result<Step> {
        let offered = answer.first().and_then(Item::list).ok_or_else(|| nonsense("no ways to log in"))?;
        let offers = |name: &str| offered.iter().any(|m| m.word() == Some(name));
        self.phase = Phase::Accepted;
        if self.blind {
            return Ok(if offers("EXTERNAL") { Step::Listen } else { Step::NeedsProgram });
        }
        if offered.is_empty() {
            self.phase = Phase::Repository;
            return Ok(Step::Listen);
        }
        if self.request.credentials.is_some() && offers("CRAM-MD5") {
            self.phase = Phase::Challenge;
            return Ok(Step::Say("( CRAM-MD5 ( ) ) ".into()));
        }
        if self.request.credentials.is_none() || offered.iter().all(|m| m.word() == Some("ANONYMOUS")) {
            return if offers("ANONYMOUS") {
                Ok(Step::Say(format!("( ANONYMOUS ( {} ) ) ", text(""))))
            } else {
                Err(unknown())
            };
        }
        Ok(Step::NeedsProgram)
    }

    fn challenge(&mut self, item: &Item) -> Result<Step> {
        let challenge = match item.list() {
            Some([step, answer]) if step.word() == Some("step") => answer.first().and_then(Item::text),
            _ => {
                success(item)?;
                None
            }
        };
        let challenge = challenge.ok_or_else(|| nonsense("no challenge where one belongs"))?;
        let credentials =
            self.request.credentials.ok_or_else(|| Error::internal("no credentials to answer with"))?;
        self.phase = Phase::Accepted;
        Ok(Step::Say(text(&format!("{} {}", credentials.username, digest(credentials, challenge)?)) + " "))
    }

    /// What comes before each answer: whether the server wants to know more of us.
    fn clear(&mut self, item: &Item) -> Result<Step> {
        // It gives no reason where it refuses what was said in advance.
        let wanted =
            success(item)?.first().and_then(Item::list).ok_or_else(|| nonsense("no ways to log in"))?;
        if !wanted.is_empty() {
            // Who has logged in already is asked to log in otherwise.
            return Ok(match self.phase {
                _ if self.blind || self.request.credentials.is_some() => Step::NeedsProgram,
                Phase::Stat | Phase::History => {
                    Step::Done(Told::Hidden(self.nodes.len() - usize::from(self.phase == Phase::History)))
                }
                _ => return Err(unknown()),
            });
        }
        self.cleared = true;
        Ok(Step::Listen)
    }

    fn stat(&self, item: &Item) -> Result<Option<Node>> {
        let entry = success(item)?.first().ok_or_else(|| nonsense("no answer to a question"))?;
        entry.first().map(|e| node(e, &self.uuid, self.head)).transpose()
    }

    fn history(&mut self, item: &Item) -> Result<Step> {
        match item.list() {
            None if item.word() == Some("done") => return Ok(Step::Listen),
            Some([start, end, path]) if start.number().is_some() => {
                if self.segments.len() == MAX_SEGMENTS {
                    return Err(nonsense("a history of more than 10,000 parts"));
                }
                let bounds =
                    start.number().zip(end.number()).ok_or_else(|| nonsense("no range of revisions"))?;
                let path =
                    path.first().and_then(Item::text).map(|p| format!("/{}", p.trim_start_matches('/')));
                self.segments.push(Segment { start: bounds.0, end: bounds.1, path });
                return Ok(Step::Listen);
            }
            _ => {}
        }
        let segments = std::mem::take(&mut self.segments);
        self.cleared = false;
        self.phase = Phase::Stat;
        // What is not there, or hidden from us, has no history, which is an error that was awaited.
        let told = success(item).map(drop);
        if let Some(last) = self.nodes.last_mut()
            && let Ok(Some(node)) = last
        {
            node.origin = origin(&segments, node.number);
            node.history = segments;
            if let Err(e) = told {
                *last = Err(e);
            }
        }
        Ok(self.answered())
    }

    /// What follows when the questions about a path were answered.
    fn answered(&mut self) -> Step {
        if self.nodes.len() < self.request.paths.len() {
            return Step::Listen;
        }
        if self.blind && self.request.at.is_none() {
            self.phase = Phase::HeadAgain;
            return Step::Listen;
        }
        Step::Done(Told::Nodes(std::mem::take(&mut self.nodes)))
    }
}

fn introduction(url: &str) -> String {
    format!("( 2 ( edit-pipeline svndiff1 ) {} {} ( ) ) ", text(url), text(AGENT))
}

fn questions(paths: &[String], at: Option<u64>) -> String {
    let at = at.map(|n| format!("{n} ")).unwrap_or_default();
    paths.iter().fold(String::new(), |mut all, path| {
        let path = text(path);
        all +=
            &format!("( stat ( {path} ( {at}) ) ) ( get-location-segments ( {path} ( {at}) ( {at}) ( ) ) ) ");
        all
    })
}

fn digest(credentials: &Credentials, challenge: &str) -> Result<String> {
    let mut mac = Hmac::<Md5>::new_from_slice(credentials.password.expose().as_bytes())
        .map_err(|_| Error::internal("a password of this length cannot be used"))?;
    mac.update(challenge.as_bytes());
    Ok(mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect())
}

pub(super) fn unknown() -> Error {
    Error::new(ErrorKind::PermissionDenied, "the server wants to know who asks: give username and password")
}

/// The parameters of an answer that is no failure.
fn success(item: &Item) -> Result<&[Item]> {
    match item.list() {
        Some([word, answer]) if word.word() == Some("success") => {
            answer.list().ok_or_else(|| nonsense("an answer of another form"))
        }
        Some([word, answer]) if word.word() == Some("failure") => Err(failure(answer)),
        _ => Err(nonsense("something that is no answer")),
    }
}

fn failure(answer: &Item) -> Error {
    let parts = answer.list().unwrap_or_default();
    // Who we are is refused with a text, everything else with a list of errors.
    if let Some(reason) = parts.first().and_then(Item::text) {
        return Error::new(
            ErrorKind::PermissionDenied,
            "the server does not accept username and password: check both",
        )
        .with_context("svn", shown(reason, 200));
    }
    let errors: Vec<&[Item]> = parts.iter().take(20).filter_map(Item::list).collect();
    let codes: Vec<u64> = errors.iter().filter_map(|e| e.first()?.number()).collect();
    let texts: Vec<&str> = errors.iter().filter_map(|e| e.get(1)?.text()).filter(|t| !t.is_empty()).collect();
    refusal(&codes, &texts.join(" | "))
}

fn node(entry: &Item, uuid: &str, head: u64) -> Result<Node> {
    let fields = entry.list().unwrap_or_default();
    let number = fields.get(3).and_then(Item::number).ok_or_else(|| nonsense("no revision of a path"))?;
    let optional =
        |index: usize| fields.get(index).and_then(Item::first).and_then(Item::text).map(str::to_owned);
    Ok(Node {
        uuid: uuid.to_owned(),
        number,
        date: optional(4).filter(|d| is_date(d)),
        author: optional(5),
        origin: super::answer::Origin::Here,
        history: Vec::new(),
        head: Some(head),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use capomastro_core::secret::Secret;

    #[test]
    fn a_password_is_not_sent_but_proved() {
        // RFC 2195, section 2.
        let credentials = Credentials { username: "tim".into(), password: Secret::new("tanstaaftanstaaf") };
        let digest = digest(&credentials, "<1896.697170952@postoffice.reston.mci.net>").unwrap();
        assert_eq!(digest, "b913a602c7eda7a495b4e6e7334d3890");
    }
}
