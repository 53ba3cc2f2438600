//! What a repository says of its branches and bookmarks, and what of that is the revision. No I/O.

use capomastro_core::{Error, ErrorKind, Result};
use percent_encoding::percent_decode;
use std::collections::BTreeMap;

/// More branches and bookmarks than this has nobody; and a bound for hostile servers.
const MAX_NAMES: usize = 200_000;
/// How many heads an error names.
const SHOWN: usize = 8;

/// What is followed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    Branch(String),
    Bookmark(String),
}

impl Name {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Branch(name) | Self::Bookmark(name) => name,
        }
    }

    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Branch(_) => "branch",
            Self::Bookmark(_) => "bookmark",
        }
    }
}

/// One head of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) node: String,
    /// Whether it closes the branch; `None` if that was not told.
    pub(super) is_closed: Option<bool>,
}

/// What is known of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It is at this node; 40 hex digits.
    Node(String),
    /// It is not there.
    Nothing,
    /// Whether heads are closed would have to be known.
    Unclear,
}

/// The revision among the heads of a branch: the one that there is, or the one of several that is open.
pub(super) fn pick(heads: &[Head]) -> Result<Found> {
    match heads {
        [] => return Ok(Found::Nothing),
        [only] => return Ok(Found::Node(only.node.clone())),
        _ => {}
    }
    if heads.iter().any(|h| h.is_closed.is_none()) {
        return Ok(Found::Unclear);
    }
    let open: Vec<&str> =
        heads.iter().filter(|h| h.is_closed == Some(false)).map(|h| h.node.as_str()).collect();
    match open[..] {
        [] => Ok(all_closed()),
        [only] => Ok(Found::Node(only.to_owned())),
        _ => Err(several(&open)),
    }
}

/// A branch with several heads, all of which are closed: nobody works on it any more.
pub(super) const fn all_closed() -> Found {
    Found::Nothing
}

pub(super) fn several(open: &[&str]) -> Error {
    let named: Vec<&str> = open.iter().take(SHOWN).map(|node| node.get(..12).unwrap_or(node)).collect();
    Error::new(
        ErrorKind::InvalidConfig,
        "the branch has several open heads, and none of them is the one to build: merge them, close those that are not \
         meant, or follow a bookmark",
    )
    .with_context("heads", named.join(" "))
}

/// A node as text.
pub(super) fn node(bytes: &[u8]) -> Result<String> {
    match str::from_utf8(bytes) {
        Ok(text) if text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) => {
            Ok(text.to_owned())
        }
        _ => Err(nonsense("something that is no node")),
    }
}

/// Of the command `branchmap`: a line for each branch, with its name percent-encoded and its heads, of which it is not told
/// which are closed.
pub(super) fn branches(text: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<Head>>> {
    let mut branches = BTreeMap::new();
    for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let mut words = line.split(|b| *b == b' ');
        let name: Vec<u8> = percent_decode(words.next().unwrap_or_default()).collect();
        let heads: Result<Vec<Head>> =
            words.map(|word| Ok(Head { node: node(word)?, is_closed: None })).collect();
        branches.insert(name, heads?);
        if branches.len() > MAX_NAMES {
            return Err(nonsense("more branches than there can be"));
        }
    }
    Ok(branches)
}

/// Of the command `listkeys` for bookmarks: a line for each, with a tab between name and node.
pub(super) fn bookmarks(text: &[u8]) -> Result<BTreeMap<Vec<u8>, String>> {
    let mut bookmarks = BTreeMap::new();
    for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let tab =
            line.iter().position(|b| *b == b'\t').ok_or_else(|| nonsense("something that is no list"))?;
        bookmarks.insert(line[..tab].to_vec(), node(&line[tab + 1..])?);
        if bookmarks.len() > MAX_NAMES {
            return Err(nonsense("more bookmarks than there can be"));
        }
    }
    Ok(bookmarks)
}

/// The other side does not speak hg.
pub(super) fn nonsense(what: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!(
            "the repository's place answered with {what}: check that the URL is that of an hg repository"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    const C: &str = "cccccccccccccccccccccccccccccccccccccccc";

    #[test]
    fn the_one_that_is_meant_is_picked() {
        let heads = |all: &[(&str, Option<bool>)]| -> Vec<Head> {
            all.iter().map(|&(node, is_closed)| Head { node: node.into(), is_closed }).collect()
        };
        let (open, closed) = (Some(false), Some(true));
        let node = |n: &str| Found::Node(n.into());
        for (all, found) in [
            (&[][..], Found::Nothing),
            (&[(A, open)], node(A)),
            (&[(A, closed)], node(A)),
            (&[(A, None)], node(A)),
            (&[(A, closed), (B, open)], node(B)),
            (&[(A, open), (B, closed), (C, closed)], node(A)),
            (&[(A, closed), (B, closed)], Found::Nothing),
            (&[(A, None), (B, None)], Found::Unclear),
            (&[(A, open), (B, None)], Found::Unclear),
        ] {
            assert_eq!(pick(&heads(all)).unwrap(), found, "{all:?}");
        }
        let e = pick(&heads(&[(A, open), (B, open), (C, closed)])).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidConfig);
        assert!(e.to_string().contains("aaaaaaaaaaaa bbbbbbbbbbbb"), "{e}");
    }

    #[test]
    fn lists_are_read() {
        let text = format!("default {A}\na%20b%C3%BC {A} {B}\n");
        let read = branches(text.as_bytes()).unwrap();
        assert_eq!(read["default".as_bytes()].len(), 1);
        assert_eq!(read["a bü".as_bytes()][1].node, B);
        let read = bookmarks(format!("b m\t{A}\n@\t{B}").as_bytes()).unwrap();
        assert_eq!((read["b m".as_bytes()].as_str(), read["@".as_bytes()].as_str()), (A, B));
        assert!(branches(b"").unwrap().is_empty() && bookmarks(b"").unwrap().is_empty());
        for bad in ["<html>\n<p> x", "default", "default -1", &format!("default {}", &A[1..]), "default  "] {
            let read = branches(bad.as_bytes());
            assert!(read.is_err() || read.unwrap().values().all(Vec::is_empty), "{bad}");
        }
        for bad in ["x", "x\ty", &format!("x\t{A}x"), &format!("x\t{}", A.to_uppercase())] {
            assert_eq!(bookmarks(bad.as_bytes()).unwrap_err().kind(), ErrorKind::Corrupt, "{bad}");
        }
    }
}
