//! What a repository says of paths, whichever way it was asked. No I/O.

use super::revision::SvnRevision;
use crate::remote::text::shown;
use capomastro_core::{Error, ErrorKind, Result, model::Relation};
use std::collections::BTreeMap;

/// Where a path lay in a range of revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) start: u64,
    pub(super) end: u64,
    /// From the root, starting with a slash; `None` where the server does not show it to us.
    pub(super) path: Option<String>,
}

/// Where the content of a path comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was at this path when it was last changed.
    Here,
    /// It was elsewhere then.
    Elsewhere(String),
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) uuid: String,
    /// The last revision in which it changed.
    pub(super) number: u64,
    pub(super) date: Option<String>,
    pub(super) author: Option<String>,
    pub(super) origin: Origin,
    /// Where it came from, newest first; empty where that was not told.
    pub(super) history: Vec<Segment>,
    /// The newest revision of the repository, where that was told.
    pub(super) head: Option<u64>,
}

/// What a look at a path came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Node(Box<Node>),
    /// What all who ask have seen there before.
    Same,
    /// There is nothing at this path.
    Nothing,
}

impl From<Option<Node>> for Found {
    fn from(node: Option<Node>) -> Self {
        node.map_or(Self::Nothing, |node| Self::Node(Box::new(node)))
    }
}

/// What is at each path that was asked for.
pub(super) type Nodes = BTreeMap<String, Result<Found>>;

/// Why there is no answer about a path.
#[derive(Debug)]
pub(super) enum Failed {
    /// A matter of this path.
    This(Error),
    /// The others would fare no better, and should not be asked for: many failed logins may lock an account.
    All(Error),
}

#[cfg(feature = "job-types")]
impl Failed {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::This(e) | Self::All(e) => e,
        }
    }
}

impl From<Error> for Failed {
    fn from(e: Error) -> Self {
        use ErrorKind::{Internal, RateLimited, TimedOut, Unavailable, Unsupported};
        match e.kind() {
            Unavailable | TimedOut | RateLimited | Unsupported | Internal => Self::All(e),
            _ => Self::This(e),
        }
    }
}

impl Node {
    pub(super) fn revision(&self, with_date: bool) -> SvnRevision {
        SvnRevision {
            uuid: self.uuid.clone(),
            number: self.number,
            date: self.date.clone().filter(|_| with_date),
            path: match &self.origin {
                Origin::Here => None,
                Origin::Elsewhere(path) => Some(path.clone()),
            },
        }
    }

    /// How it relates to what is accounted; `None` where that is not known.
    pub(super) fn relation(&self, accounted: &SvnRevision) -> Option<Relation> {
        if self.uuid != accounted.uuid {
            return Some(Relation::Recreated);
        }
        // The repository has forgotten it: an older state was restored.
        if self.head.is_some_and(|head| head < accounted.number) {
            return Some(Relation::Rewound);
        }
        let own = self.history.first()?.path.as_ref()?;
        let then = self.history.iter().find(|s| (s.start..=s.end).contains(&accounted.number));
        match then {
            Some(Segment { path: None, .. }) => None,
            Some(Segment { path: Some(path), .. }) if path == accounted.path.as_ref().unwrap_or(own) => {
                // Within one line of history numbers tell the order.
                (accounted.number < self.number).then_some(Relation::Forward { by: None })
            }
            Some(_) => Some(Relation::Diverged),
            // What was there then is no ancestor of what is there now.
            None => Some(Relation::Recreated),
        }
    }
}

/// Where content that was last changed in revision `number` was then, as its history tells.
pub(super) fn origin(history: &[Segment], number: u64) -> Origin {
    let own = history.first().and_then(|s| s.path.as_ref());
    let then = history.iter().find(|s| (s.start..=s.end).contains(&number)).and_then(|s| s.path.as_ref());
    match then {
        Some(path) if Some(path) != own => Origin::Elsewhere(path.clone()),
        // What is hidden from us cannot be told apart.
        _ => Origin::Here,
    }
}

/// The other side does not speak Subversion.
pub(super) fn nonsense(what: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("the other side answered with {what}: check that the URL is that of a Subversion repository"),
    )
}

/// What Subversion's errors mean, by code and text. Unknown ones are taken for passing faults.
pub(super) fn refusal(codes: &[u64], message: &str) -> Error {
    let lower = message.to_ascii_lowercase();
    let has = |wanted: &[u64]| codes.iter().any(|c| wanted.contains(c));
    let says = |parts: &[&str]| parts.iter().any(|p| lower.contains(p));
    let (kind, text) =
        if has(&[210_005, 180_000]) || codes.ends_with(&[180_001]) || has(&[180_001]) && has(&[2]) {
            (
                ErrorKind::InvalidConfig,
                "there is no such repository, or the server does not show it to us: check the URL",
            )
        } else if has(&[170_001, 175_013, 215_000, 215_001, 215_002, 215_004, 220_000, 220_001]) {
            (
                ErrorKind::PermissionDenied,
                "the server does not accept us: check username and password, and what the user may read",
            )
        } else if has(&[13]) || says(&["permission denied"]) {
            (ErrorKind::PermissionDenied, "the repository cannot be read: check who may read it")
        } else if has(&[230_001]) || says(&["certificate verification failed", "certificate issuer"]) {
            (
                ErrorKind::PermissionDenied,
                "the server's certificate is not trusted: install its authority where the svn program runs",
            )
        } else if has(&[110, 175_012]) || says(&["timed out"]) {
            (ErrorKind::TimedOut, "the server did not answer in time")
        } else if has(&[111, 113, 101, 670_002, 670_003, 670_008]) {
            (ErrorKind::Unavailable, "the server cannot be reached: check host and port")
        } else if has(&[175_003]) {
            (ErrorKind::Corrupt, "the server is none of Subversion: check the URL")
        } else if has(&[170_011, 175_011]) {
            (ErrorKind::InvalidConfig, "the server sends us to another place: if it is right, give that URL")
        } else if has(&[125_002, 170_000]) {
            (ErrorKind::InvalidConfig, "the URL is none that Subversion takes: check it")
        } else if has(&[160_043, 210_001, 210_006, 210_007]) {
            (ErrorKind::Unsupported, "the server is too old for this probe, or too new for this svn program")
        } else if has(&[2]) {
            (ErrorKind::InvalidConfig, "there is no such repository: check the URL")
        } else {
            (ErrorKind::Unavailable, "the repository cannot be looked at now")
        };
    Error::new(kind, text).with_context("svn", shown(message, 500))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(start: u64, end: u64, path: &str) -> Segment {
        Segment { start, end, path: Some(path.into()).filter(|p: &String| !p.is_empty()) }
    }

    #[test]
    fn the_origin_is_where_it_was_last_changed() {
        let history = [segment(7, 9, "/b/sub"), segment(3, 6, "/trunk/sub"), segment(1, 2, "")];
        assert_eq!(origin(&history, 8), Origin::Here);
        assert_eq!(origin(&history, 7), Origin::Here);
        assert_eq!(origin(&history, 4), Origin::Elsewhere("/trunk/sub".into()));
        assert_eq!(origin(&history, 2), Origin::Here);
        assert_eq!(origin(&[], 2), Origin::Here);
    }

    #[test]
    fn relations_are_told_where_history_tells_them() {
        let node = |number, history: &[Segment]| Node {
            uuid: "u".into(),
            number,
            date: None,
            author: None,
            origin: Origin::Here,
            history: history.to_vec(),
            head: Some(20),
        };
        let line = [segment(7, 20, "/b/sub"), segment(3, 6, "/trunk/sub")];
        let forward = Some(Relation::Forward { by: None });
        for (now, accounted, relation) in [
            (node(15, &line), "u@9", forward),
            (node(15, &line), "u@15", None),
            (node(15, &line), "u@5/trunk/sub", forward),
            (node(15, &line), "u@5", Some(Relation::Diverged)),
            (node(15, &line), "u@5/other", Some(Relation::Diverged)),
            (node(15, &line), "u@2", Some(Relation::Recreated)),
            (node(15, &line), "u@21", Some(Relation::Rewound)),
            (node(15, &line), "v@9", Some(Relation::Recreated)),
            (node(9, &line), "u@12", None),
            (node(15, &[]), "u@9", None),
            (node(15, &[segment(7, 20, "/b"), segment(1, 6, "")]), "u@3", None),
        ] {
            assert_eq!(now.relation(&accounted.parse().unwrap()), relation, "{} {accounted}", now.number);
        }
    }

    #[test]
    fn errors_are_told_apart() {
        for (codes, message, kind) in [
            (&[210_005][..], "No repository found", ErrorKind::InvalidConfig),
            (&[170_013, 180_001], "Unable to open repository 'file:///x'", ErrorKind::InvalidConfig),
            (&[180_001, 2], "Unable to open repository", ErrorKind::InvalidConfig),
            (&[180_001, 13], "Can't open file: Permission denied", ErrorKind::PermissionDenied),
            (&[170_013, 170_001], "Authentication error", ErrorKind::PermissionDenied),
            (&[170_013, 111], "Connection refused", ErrorKind::Unavailable),
            (&[170_013, 670_002], "Name or service not known", ErrorKind::Unavailable),
            (&[175_003], "does not support the HTTP/DAV protocol", ErrorKind::Corrupt),
            (&[210_001], "Unknown command", ErrorKind::Unsupported),
            (&[], "", ErrorKind::Unavailable),
        ] {
            assert_eq!(refusal(codes, message).kind(), kind, "{codes:?} {message}");
        }
    }
}
