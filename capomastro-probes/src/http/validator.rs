//! What a server says of a file's state, and the revision that becomes of it. Pure.
//!
//! A revision says of which kind it is (`etag:…`, `modified:…`, `sha256:…`), so that no value of one kind is ever taken for
//! one of another.

use super::source::By;
use capomastro_core::{Error, ErrorKind, Result};
use reqwest::header::{ETAG, HeaderMap, LAST_MODIFIED};
use sha2::{Digest as _, Sha256};

/// The longest value that stands in a revision as it is; a longer one is digested.
const MAX_PLAIN: usize = 512;
/// What divides a validator from the place behind a redirect, in a cursor.
const AT: char = '\u{1f}';

/// What tells that a file is still the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Validator {
    /// An `ETag`, with its quotation marks.
    Etag(String),
    /// A date.
    Modified(String),
}

impl Validator {
    /// What the headers of an answer say to somebody who asks like this; `None` if only the body can tell.
    ///
    /// A weak `ETag` promises that two bodies mean the same to the server, not that they are the same, so only who asks
    /// for it gets it.
    pub(super) fn of(headers: &HeaderMap, by: By) -> Result<Option<Self>> {
        let text = |name| {
            let value = headers.get(name)?;
            let text = String::from_utf8_lossy(value.as_bytes()).trim().to_owned();
            (!text.is_empty() && !text.contains(char::is_control)).then_some(text)
        };
        let etag = || text(ETAG).filter(|tag: &String| is_tag(tag.strip_prefix("W/").unwrap_or(tag)));
        let modified = || text(LAST_MODIFIED).filter(|t: &String| t.len() <= MAX_PLAIN).map(Self::Modified);
        let missing = |what: &str| {
            Error::new(
                ErrorKind::Unsupported,
                format!("the server sends no {what} for this file: set by to auto or digest"),
            )
        };
        match by {
            By::Auto => Ok(etag().filter(|tag| !tag.starts_with("W/")).map(Self::Etag).or_else(modified)),
            By::Etag => etag().map(|tag| Some(Self::Etag(tag))).ok_or_else(|| missing("ETag")),
            By::LastModified => modified().map(Some).ok_or_else(|| missing("Last-Modified")),
            By::Digest => Ok(None),
        }
    }

    /// The revision of a file at `place`, which is empty unless a redirect led there: a tag says nothing but of its own
    /// path, and two paths may have the same one.
    pub(super) fn revision(&self, place: &str) -> String {
        let (kind, value) = match self {
            Self::Etag(tag) => ("etag", tag),
            Self::Modified(date) => ("modified", date),
        };
        let is_plain = value.len() <= MAX_PLAIN && value.bytes().all(|b| (b' '..=b'~').contains(&b));
        let value = if is_plain { value.clone() } else { format!("sha256={}", hex(value.as_bytes())) };
        if place.is_empty() { format!("{kind}:{value}") } else { format!("{kind}:{value} at {place}") }
    }

    /// What is given back at the next look, for a conditional request.
    pub(super) fn cursor(&self, place: &str) -> Option<String> {
        match self {
            Self::Etag(tag) if tag.bytes().all(|b| (b' '..=b'~').contains(&b)) => {
                Some(format!("{tag}{AT}{place}"))
            }
            _ => None,
        }
    }
}

/// What is asked with `If-None-Match`, and the place behind redirects where it was seen.
///
/// There is no such thing for dates: many servers take `If-Modified-Since` for "unless newer than", and an older file that
/// was put in the place of a newer one would never be seen. Asking for the headers costs as little.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) tag: String,
    pub(super) place: String,
}

impl Condition {
    /// The condition that a cursor stands for, if it belongs to what was seen and to how is asked now.
    pub(super) fn of(by: By, seen: Option<&str>, cursor: Option<&str>) -> Option<Self> {
        let (tag, place) = cursor?.split_once(AT)?;
        let validator = Validator::Etag(tag.to_owned());
        let fits = match by {
            By::Auto => is_tag(tag),
            By::Etag => is_tag(tag.strip_prefix("W/").unwrap_or(tag)),
            By::LastModified | By::Digest => false,
        };
        let is_seen = seen == Some(validator.revision(place).as_str());
        (fits && is_seen).then(|| Self { tag: tag.to_owned(), place: place.to_owned() })
    }

    /// Whether an answer "not modified" from `place` is about what was asked: a server, or a cache before it, that
    /// repeats another tag is not believed.
    pub(super) fn is_met(&self, headers: &HeaderMap, place: &str) -> bool {
        let said = headers.get(ETAG).map(|tag| tag.as_bytes().trim_ascii());
        self.place == place && said.is_none_or(|tag| tag == self.tag.as_bytes())
    }
}

/// Whether this is a strong tag, <https://www.rfc-editor.org/rfc/rfc9110#section-8.8.3>.
fn is_tag(text: &str) -> bool {
    let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    inner.is_some_and(|inner| !inner.is_empty() && !inner.contains('"'))
}

/// SHA-256 in base 16.
pub(super) fn hex(bytes: &[u8]) -> String {
    written(&Sha256::digest(bytes))
}

/// Bytes in base 16.
pub(super) fn written(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn what_the_headers_make_of_it() {
        const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        let (strong, weak, date) = (("etag", "\"a\""), ("etag", "W/\"a\""), ("last-modified", DATE));
        let modified = format!("modified:{DATE}");
        for (by, of, revision) in [
            (By::Auto, &[strong, date][..], Some("etag:\"a\"")),
            (By::Auto, &[weak, date], Some(modified.as_str())),
            (By::Auto, &[weak], None),
            (By::Auto, &[], None),
            (By::Auto, &[("etag", "a"), date], Some(modified.as_str())),
            (By::Auto, &[("etag", "\"\"")], None),
            (By::Auto, &[("etag", " \"a b\" ")], Some("etag:\"a b\"")),
            (By::Etag, &[weak, date], Some("etag:W/\"a\"")),
            (By::Etag, &[strong], Some("etag:\"a\"")),
            (By::LastModified, &[strong, date], Some(modified.as_str())),
            (By::Digest, &[strong, date], None),
        ] {
            let got = Validator::of(&headers(of), by).unwrap().map(|v| v.revision(""));
            assert_eq!(got.as_deref(), revision, "{by:?} {of:?}");
        }
        for (by, of) in [(By::Etag, &[date][..]), (By::LastModified, &[strong])] {
            let e = Validator::of(&headers(of), by).unwrap_err();
            assert!(e.message().contains("set by to"), "{e}");
        }
    }

    #[test]
    fn a_revision_fits_whatever_a_server_says() {
        let long = Validator::Etag(format!("\"{}\"", "x".repeat(5_000)));
        assert!(long.revision(&"p".repeat(64)).len() < 1_024);
        assert!(long.revision("").starts_with("etag:sha256="));
        let odd = Validator::Etag("\"ä\"".into());
        assert!(odd.revision("").is_ascii());
        assert_eq!(odd.cursor(""), None);
    }

    #[test]
    fn a_condition_belongs_to_what_was_seen() {
        let of = |by, seen: &str, cursor: &str| Condition::of(by, Some(seen), Some(cursor)).is_some();
        let tag = Validator::Etag("\"a\"".into());
        let (revision, cursor) = (tag.revision("x"), tag.cursor("x").unwrap());
        assert!(of(By::Auto, &revision, &cursor));
        assert!(of(By::Etag, &revision, &cursor));
        for (by, seen, cursor) in [
            (By::Digest, revision.as_str(), cursor.as_str()),
            (By::LastModified, &revision, &cursor),
            (By::Auto, "etag:\"b\" at x", &cursor),
            (By::Auto, "sha256:00", &cursor),
            (By::Auto, &revision, "\"a\""),
            (By::Auto, "etag:W/\"a\"", "W/\"a\"\u{1f}"),
        ] {
            assert!(!of(by, seen, cursor), "{by:?} {seen} {cursor:?}");
        }
        assert_eq!(Condition::of(By::Auto, None, Some(&cursor)), None);
        let condition = Condition::of(By::Auto, Some(&revision), Some(&cursor)).unwrap();
        assert!(condition.is_met(&headers(&[]), "x"));
        assert!(condition.is_met(&headers(&[("etag", "\"a\"")]), "x"));
        assert!(!condition.is_met(&headers(&[("etag", "\"b\"")]), "x"));
        assert!(!condition.is_met(&headers(&[]), "y"));
    }
}
