//! What a remote says its refs are at, whichever way it said it. No I/O.

use crate::remote::text::shown;
use capomastro_core::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};

/// The whole names of the refs that are looked for. What is not among them is not kept.
pub(super) type Wants = BTreeSet<String>;

/// A ref that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The object it points at, in hex.
    pub(super) id: String,
    /// What an annotated tag stands for.
    pub(super) peeled: Option<String>,
    /// The ref to which a symbolic one points.
    pub(super) target: Option<String>,
}

/// The refs that were looked for and are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listing(BTreeMap<String, Found>);

impl Listing {
    pub(super) fn get(&self, name: &str) -> Option<&Found> {
        self.0.get(name)
    }

    /// Notes a ref, if it is wanted.
    pub(super) fn note(&mut self, wants: &Wants, name: &str, found: Found) {
        if wants.contains(name) {
            let known = self.0.entry(name.to_owned()).or_default();
            known.id = found.id;
            known.peeled = found.peeled.or(known.peeled.take());
            known.target = found.target.or(known.target.take());
        }
    }

    /// Notes what `name^{}` is at.
    pub(super) fn note_peeled(&mut self, name: &str, id: String) {
        if let Some(found) = self.0.get_mut(name) {
            found.peeled = Some(id);
        }
    }

    /// Notes where a symbolic ref that is there points.
    pub(super) fn note_target(&mut self, name: &str, target: &str) {
        if let Some(found) = self.0.get_mut(name) {
            found.target = Some(shown(target, 500));
        }
    }

    /// Reads lines of id, tab and name: what `git ls-remote` prints, and what a web server without git has in
    /// `info/refs`.
    pub(super) fn of_lines(text: &[u8], wants: &Wants) -> Result<Self> {
        let mut listing = Self::default();
        let mut targets = Vec::new();
        for line in text.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            let tab =
                line.iter().position(|b| *b == b'\t').ok_or_else(|| nonsense("a line without a name"))?;
            let (id, name) = (&line[..tab], &line[tab + 1..]);
            // A name that is not UTF-8 is none that can be asked for.
            let Ok(name) = str::from_utf8(name) else { continue };
            if let Some(target) = id.strip_prefix(b"ref: ") {
                targets.push((name, String::from_utf8_lossy(target)));
            } else if let Some(tag) = name.strip_suffix("^{}") {
                listing.note_peeled(tag, object_id(id)?);
            } else {
                listing.note(wants, name, Found { id: object_id(id)?, ..Found::default() });
            }
        }
        for (name, target) in targets {
            listing.note_target(name, &target);
        }
        Ok(listing)
    }
}

/// An object id in hex: SHA-1 or SHA-256.
pub(super) fn object_id(hex: &[u8]) -> Result<String> {
    let lower = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    if !matches!(hex.len(), 40 | 64) || !hex.iter().all(lower) {
        return Err(nonsense("something that is no object id where one belongs"));
    }
    Ok(String::from_utf8_lossy(hex).into_owned())
}

/// The other side does not speak git.
pub(super) fn nonsense(what: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("the remote answered with {what}: check that the URL is that of a git repository"),
    )
}

/// The answer is larger than the bound.
pub(super) fn too_large(max: u64) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("the remote's list of refs is larger than {max} bytes: raise the probe's max_listing_bytes"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    #[test]
    fn lines_are_read_and_only_what_is_wanted_is_kept() {
        let wants: Wants = ["HEAD", "refs/tags/v1", "refs/heads/gone"].map(Into::into).into();
        let text = format!(
            "ref: refs/heads/main\tHEAD\n{A}\tHEAD\n{A}\trefs/heads/main\n{B}\trefs/tags/v1\n{A}\trefs/tags/v1^{{}}\n\
             {A}\trefs/x/refs/tags/v1\n{A}\trefs/tags/other^{{}}\n"
        );
        let listing = Listing::of_lines(text.as_bytes(), &wants).unwrap();
        assert_eq!(listing.0.len(), 2);
        assert_eq!(listing.get("HEAD").unwrap().target.as_deref(), Some("refs/heads/main"));
        let tag = listing.get("refs/tags/v1").unwrap();
        assert_eq!((tag.id.as_str(), tag.peeled.as_deref()), (B, Some(A)));
    }

    #[test]
    fn lines_of_something_else_are_nonsense() {
        let wants: Wants = ["HEAD".into()].into();
        for text in [
            "<!DOCTYPE html>\n",
            "\0\0\0",
            &format!("{A} HEAD\n"),
            "aaaa\tHEAD\n",
            &format!("{}\tHEAD", A.to_uppercase()),
        ] {
            assert_eq!(
                Listing::of_lines(text.as_bytes(), &wants).unwrap_err().kind(),
                ErrorKind::Corrupt,
                "{text}"
            );
        }
        assert_eq!(Listing::of_lines(b"", &wants).unwrap(), Listing::default());
    }
}
