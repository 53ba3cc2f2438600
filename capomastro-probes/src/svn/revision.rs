//! The revision of a Subversion source as one token, and taken apart again.

use capomastro_core::{Error, ErrorKind, Result, model::Revision};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::{fmt, str::FromStr};

/// What is escaped in a path: everything but letters, digits, `-._~` and the slash.
pub(super) const PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
/// The longest UUID and the longest date, in bytes.
const MAX_PART: usize = 64;

/// What a Subversion source was at: where in which repository its content is found, for ever.
///
/// As a token it is `<uuid>@<number>[@<date>][/<path>]`:
///
/// - the repository's UUID, so that another repository at the same place is a change;
/// - the number of the last revision in which the path, or something below it, changed;
/// - the date of that commit, if the repository tells it. It tells a commit from another one that got the same number
///   after an older state of the repository was restored. Left out for a [mirror](super::SvnSource::mirror);
/// - the path of the content in that revision, from the root of the repository and percent-encoded, where it was not the
///   source's own: a folder above was copied there later, so that the number is that of a commit to the original.
///
/// ```
/// use capomastro_probes::svn::SvnRevision;
/// let revision: SvnRevision = "c26b688b-8c1a-4523-8588-a766141c3eca@2@2026-11-23T14:14:24.656505Z/other/sub".parse()?;
/// assert_eq!((revision.number, revision.path.as_deref()), (2, Some("/other/sub")));
/// # Ok::<(), capomastro_core::Error>(())
/// ```
///
/// What is exported for it is `path` of the repository's root, or else the source's own URL, with both the operative and
/// the peg revision `number`: `svn export <url>@<number>`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SvnRevision {
    /// The repository's UUID.
    pub uuid: String,
    /// The number of the last revision in which the content changed.
    pub number: u64,
    /// The date of that commit as the repository tells it, if it does.
    pub date: Option<String>,
    /// Where the content is found in that revision, from the root of the repository and starting with a slash, if not at
    /// the path of the source.
    pub path: Option<String>,
}

impl fmt::Display for SvnRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.uuid, self.number)?;
        if let Some(date) = &self.date {
            write!(f, "@{date}")?;
        }
        match &self.path {
            Some(path) => write!(f, "{}", utf8_percent_encode(path, PATH)),
            None => Ok(()),
        }
    }
}

impl FromStr for SvnRevision {
    type Err = Error;

    /// Takes a token apart.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if it is none of Subversion.
    fn from_str(token: &str) -> Result<Self> {
        Self::read(token).ok_or_else(|| {
            Error::invalid("this is no revision of Subversion: give what the svn probe has seen")
                .with_context("revision", token.escape_debug())
        })
    }
}

impl TryFrom<&Revision> for SvnRevision {
    type Error = Error;

    fn try_from(revision: &Revision) -> Result<Self> {
        revision.as_str().parse()
    }
}

impl TryFrom<SvnRevision> for Revision {
    type Error = Error;

    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) if the path is too long for a revision.
    fn try_from(revision: SvnRevision) -> Result<Self> {
        Self::try_from(revision.to_string()).map_err(|e| {
            Error::new(
                ErrorKind::Unsupported,
                "the path from which a folder above was copied is too long for a revision: follow the original",
            )
            .with_source(e)
        })
    }
}

impl SvnRevision {
    fn read(token: &str) -> Option<Self> {
        let (head, path) = match token.find('/') {
            Some(slash) => (&token[..slash], Some(&token[slash..])),
            None => (token, None),
        };
        let (uuid, rest) = head.split_once('@')?;
        let (number, date) = match rest.split_once('@') {
            Some((number, date)) => (number, Some(date)),
            None => (rest, None),
        };
        let path = match path {
            Some(path) => {
                let decoded = percent_decode_str(path).decode_utf8().ok()?.into_owned();
                // One content has one token.
                Some(decoded).filter(|d| utf8_percent_encode(d, PATH).to_string() == path)
            }
            None => None,
        };
        let revision = Self {
            uuid: is_uuid(uuid).then(|| uuid.to_owned())?,
            number: number.parse().ok()?,
            date: date.map(|d| is_date(d).then(|| d.to_owned())).map_or(Some(None), |d| d.map(Some))?,
            path,
        };
        (revision.to_string() == token).then_some(revision)
    }
}

/// Whether this may be the UUID of a repository.
pub(super) fn is_uuid(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_PART
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// Whether this may be the date of a commit.
pub(super) fn is_date(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_PART
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b':' | b'.' | b'+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "c26b688b-8c1a-4523-8588-a766141c3eca";

    #[test]
    fn a_token_is_taken_apart_as_it_was_put_together() {
        for (rest, number, date, path) in [
            ("@0", 0, None, None),
            ("@12", 12, None, None),
            ("@12@2026-11-23T14:14:24.656505Z", 12, Some("2026-11-23T14:14:24.656505Z"), None),
            ("@12/a%20b/%40/%C3%BC", 12, None, Some("/a b/@/ü")),
            ("@12/", 12, None, Some("/")),
            ("@7@2026-11-23T14:14:24Z/other/sub", 7, Some("2026-11-23T14:14:24Z"), Some("/other/sub")),
            ("@7/a%0Ab", 7, None, Some("/a\nb")),
        ] {
            let token = format!("{UUID}{rest}");
            let want = SvnRevision {
                uuid: UUID.into(),
                number,
                date: date.map(str::to_owned),
                path: path.map(str::to_owned),
            };
            assert_eq!(token.parse::<SvnRevision>().unwrap(), want, "{token}");
            assert_eq!(Revision::try_from(want).unwrap().as_str(), token);
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for token in [
            "", "12", "@12", "u@", "u@x", "u@-1", "u@+1", "u@01", "u@1@", "u@1@a b", "u u@1", "u@1/ü",
            "u@1/%e9",
        ] {
            let e = token.parse::<SvnRevision>().unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidInput, "{token}");
        }
        let long = SvnRevision { uuid: "u".into(), number: 1, date: None, path: Some("/ü".repeat(200)) };
        assert_eq!(Revision::try_from(long).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
