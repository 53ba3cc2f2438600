//! What a branch's own files and bzr's servers say of its tip. No I/O.

use capomastro_core::{Error, ErrorKind, Result};

/// The last revision of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tip {
    pub(super) revno: u64,
    pub(super) id: String,
}

/// The id that stands for a branch without revisions.
const NULL: &str = "null:";

impl Tip {
    /// Of a number and an id; none if the branch has no revision.
    pub(super) fn of(revno: &[u8], id: &[u8]) -> Result<Option<Self>> {
        let revno = str::from_utf8(revno).ok().and_then(|n| n.parse().ok());
        let id = str::from_utf8(id)
            .ok()
            .filter(|id| !id.is_empty() && !id.chars().any(|c| c.is_whitespace() || c.is_control()));
        match (revno, id) {
            (_, Some(NULL)) => Ok(None),
            (Some(revno), Some(id)) => Ok(Some(Self { revno, id: id.into() })),
            _ => Err(nonsense("something that is no revision")),
        }
    }

    /// Of a file `last-revision`: the number, a blank, the id.
    pub(super) fn of_last_revision(text: &[u8]) -> Result<Option<Self>> {
        let line = text.strip_suffix(b"\n").unwrap_or(text);
        let blank = line.iter().position(|b| *b == b' ');
        let (revno, id) = blank.map_or((line, &b""[..]), |at| (&line[..at], &line[at + 1..]));
        Self::of(revno, id)
    }

    /// Of a file `revision-history`, which branches of old had: one id a line.
    pub(super) fn of_history(text: &[u8]) -> Result<Option<Self>> {
        let mut ids = text.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        let count = ids.clone().count();
        match ids.next_back() {
            None => Ok(None),
            Some(id) => Self::of(count.to_string().as_bytes(), id),
        }
    }
}

/// What the file `format` of a branch says.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// The branch is elsewhere: where, stands in `location`.
    Reference,
    /// A branch of old, with a `revision-history`.
    History,
    /// Another one.
    Other,
}

impl Format {
    pub(super) fn of(text: &[u8]) -> Self {
        match text.trim_ascii() {
            b"Bazaar-NG Branch Reference Format 1" => Self::Reference,
            b"Bazaar-NG branch format 5" => Self::History,
            _ => Self::Other,
        }
    }
}

/// Whether the first line is one of Bazaar's: pages of web servers are not.
pub(super) fn is_format(text: &[u8]) -> bool {
    text.starts_with(b"Bazaar")
}

/// The other side does not speak bzr.
pub(super) fn nonsense(what: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("the branch's place answered with {what}: check that the URL is that of a bzr branch"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tips_are_read() {
        let tip = |revno, id: &str| Some(Tip { revno, id: id.into() });
        for (text, read) in [
            ("2 a@b-2026-x\n", tip(2, "a@b-2026-x")),
            ("2 a@b-2026-x", tip(2, "a@b-2026-x")),
            ("0 null:\n", None),
        ] {
            assert_eq!(Tip::of_last_revision(text.as_bytes()).unwrap(), read);
        }
        for text in ["", "\n", "2", "2 ", "x y", "2 a b", "-1 a", "2 a\nb", "<html>", "2 \x1b[31m", "2 a\0b"]
        {
            assert_eq!(
                Tip::of_last_revision(text.as_bytes()).unwrap_err().kind(),
                ErrorKind::Corrupt,
                "{text:?}"
            );
        }
        assert!(Tip::of_last_revision(b"2 \xff").is_err());
        assert_eq!(Tip::of_history(b"a\nb\n").unwrap(), tip(2, "b"));
        assert_eq!(Tip::of_history(b"").unwrap(), None);
        assert!(Tip::of_history(b"<html> <p>\n").is_err());
    }
}
