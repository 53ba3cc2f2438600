//! Git's wire protocol as far as listing refs needs it: versions 0, 1 and 2, fed with bytes from wherever. No I/O.
//!
//! <https://git-scm.com/docs/protocol-v2>, <https://git-scm.com/docs/gitprotocol-pack>

use super::listing::{Found, Listing, Wants, nonsense, object_id, too_large};
use crate::remote::text::shown;
use capomastro_core::{Error, ErrorKind, Result};
use gix_packetline::{
    PacketLineRef,
    decode::{Stream, streaming},
};

/// More prefixes than this are not sent: the server lists everything, and what is not wanted is not kept.
const MAX_PREFIXES: usize = 4_096;
/// How we name ourselves to servers.
pub(super) const AGENT: &str = concat!("git/capomastro-probes-", env!("CARGO_PKG_VERSION"));

/// What a server with version 2 can do, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// Sent back, so that the server is sure that we know its object format.
    object_format: Option<String>,
    lists_refs: bool,
}

impl Capabilities {
    /// The `ls-refs` command for these refs.
    pub(super) fn ask(&self, wants: &Wants) -> Result<Vec<u8>> {
        if !self.lists_refs {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the server speaks git's protocol 2 without ls-refs: ask its operator",
            ));
        }
        let mut out = Vec::new();
        line(&mut out, "command=ls-refs\n");
        line(&mut out, &format!("agent={AGENT}\n"));
        if let Some(format) = &self.object_format {
            line(&mut out, &format!("object-format={format}\n"));
        }
        out.extend_from_slice(b"0001");
        line(&mut out, "peel\n");
        line(&mut out, "symrefs\n");
        if wants.len() <= MAX_PREFIXES {
            for name in wants {
                line(&mut out, &format!("ref-prefix {name}\n"));
            }
        }
        out.extend_from_slice(b"0000");
        Ok(out)
    }
}

/// The first line that a git daemon is sent.
pub(super) fn daemon_request(path: &str, host: &str) -> Vec<u8> {
    let mut out = Vec::new();
    line(&mut out, &format!("git-upload-pack {path}\0host={host}\0\0version=2\0"));
    out
}

/// Appends one pkt-line. What is written here is bounded by the bounds on URLs and ref names.
fn line(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(format!("{:04x}", text.len() + 4).as_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// What an answer came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The refs.
    Refs(Listing),
    /// A server with version 2 has introduced itself and waits for a command.
    Introduced(Capabilities),
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing was read yet.
    Start,
    /// `# service=…` was read, its flush was not.
    Service,
    /// After that flush, or after `version 1`.
    AfterService,
    /// Refs as versions 0 and 1 write them.
    Refs,
    /// Capabilities of version 2.
    Capabilities,
    /// Refs as `ls-refs` writes them.
    LsRefs,
    Done,
}

/// Reads an answer from its bytes, in pieces of any size.
#[derive(Debug)]
pub(super) struct Reader {
    wants: Wants,
    phase: Phase,
    buffer: Vec<u8>,
    seen: u64,
    max: u64,
    listing: Listing,
    capabilities: Capabilities,
    introduced: bool,
}

impl Reader {
    /// For what a server says first. `max` bounds the bytes that are read.
    pub(super) fn advertisement(wants: Wants, max: u64) -> Self {
        Self {
            wants,
            phase: Phase::Start,
            buffer: Vec::new(),
            seen: 0,
            max,
            listing: Listing::default(),
            capabilities: Capabilities::default(),
            introduced: false,
        }
    }

    /// For the answer to [`Capabilities::ask`].
    pub(super) fn ls_refs(wants: Wants, max: u64) -> Self {
        Self { phase: Phase::LsRefs, ..Self::advertisement(wants, max) }
    }

    /// Reads more bytes. True when the answer is complete; what follows is not looked at.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<bool> {
        self.seen += bytes.len() as u64;
        if self.seen > self.max {
            return Err(too_large(self.max));
        }
        self.buffer.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = buffer.as_slice();
        while self.phase != Phase::Done {
            match streaming(rest).map_err(|_| nonsense("bytes that are not git's protocol"))? {
                Stream::Incomplete { .. } => break,
                Stream::Complete { line, bytes_consumed } => {
                    self.packet(line)?;
                    rest = &rest[bytes_consumed..];
                }
            }
        }
        self.buffer = rest.to_vec();
        Ok(self.phase == Phase::Done)
    }

    /// What the answer came to.
    pub(super) fn finish(self) -> Result<Outcome> {
        if self.phase != Phase::Done {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "the remote's answer was cut short: if it stays so, look at the server and what lies before it",
            ));
        }
        Ok(if self.introduced { Outcome::Introduced(self.capabilities) } else { Outcome::Refs(self.listing) })
    }

    fn packet(&mut self, packet: PacketLineRef<'_>) -> Result<()> {
        let data = match packet {
            PacketLineRef::Data(data) => data,
            PacketLineRef::Flush => {
                self.phase = match self.phase {
                    Phase::Service => Phase::AfterService,
                    // A repository without refs: old servers send nothing but the end.
                    Phase::Start | Phase::AfterService | Phase::Refs | Phase::LsRefs => Phase::Done,
                    Phase::Capabilities => {
                        self.introduced = true;
                        Phase::Done
                    }
                    Phase::Done => Phase::Done,
                };
                return Ok(());
            }
            PacketLineRef::Delimiter | PacketLineRef::ResponseEnd => {
                return Err(nonsense("a separator where none belongs"));
            }
        };
        let data = data.strip_suffix(b"\n").unwrap_or(data);
        if let Some(complaint) = data.strip_prefix(b"ERR ") {
            return Err(refusal(&String::from_utf8_lossy(complaint)));
        }
        match self.phase {
            Phase::Start if data.starts_with(b"# service=git-upload-pack") => self.phase = Phase::Service,
            Phase::Start | Phase::AfterService if data == b"version 2" => self.phase = Phase::Capabilities,
            Phase::Start | Phase::AfterService if data == b"version 1" => self.phase = Phase::AfterService,
            Phase::Start | Phase::AfterService => {
                self.phase = Phase::Refs;
                let (first, capabilities) = match data.iter().position(|b| *b == 0) {
                    Some(nul) => (&data[..nul], &data[nul + 1..]),
                    None => (data, &[][..]),
                };
                self.old_line(first)?;
                for target in capabilities.split(|b| *b == b' ').filter_map(|c| c.strip_prefix(b"symref=")) {
                    if let Some((name, target)) = str::from_utf8(target).ok().and_then(|t| t.split_once(':'))
                    {
                        self.listing.note_target(name, target);
                    }
                }
            }
            Phase::Service => return Err(nonsense("a line where the end of a section belongs")),
            Phase::Refs => self.old_line(data)?,
            Phase::Capabilities => self.capability(data),
            Phase::LsRefs => self.new_line(data)?,
            Phase::Done => {}
        }
        Ok(())
    }

    fn capability(&mut self, data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        let (name, value) = text.split_once('=').unwrap_or((&text, ""));
        match name {
            "ls-refs" => self.capabilities.lists_refs = true,
            // What is sent back is one of the two formats there are, nothing that the server made up.
            "object-format" if matches!(value, "sha1" | "sha256") => {
                self.capabilities.object_format = Some(value.into());
            }
            _ => {}
        }
    }

    /// `<id> <name>`, as versions 0 and 1 write it.
    fn old_line(&mut self, data: &[u8]) -> Result<()> {
        let (id, name) = split(data)?;
        if id == b"shallow" {
            return Ok(());
        }
        let id = object_id(id)?;
        let Ok(name) = str::from_utf8(name) else { return Ok(()) };
        match name.strip_suffix("^{}") {
            // `capabilities^{}` stands for a repository without refs.
            Some(tag) => self.listing.note_peeled(tag, id),
            None => self.listing.note(&self.wants, name, Found { id, ..Found::default() }),
        }
        Ok(())
    }

    /// `<id> <name>[ symref-target:<name>][ peeled:<id>]`, as version 2 writes it.
    fn new_line(&mut self, data: &[u8]) -> Result<()> {
        let (id, rest) = split(data)?;
        if id == b"unborn" {
            return Ok(());
        }
        let mut found = Found { id: object_id(id)?, ..Found::default() };
        let mut parts = rest.split(|b| *b == b' ');
        let Some(Ok(name)) = parts.next().map(str::from_utf8) else { return Ok(()) };
        for attribute in parts {
            if let Some(id) = attribute.strip_prefix(b"peeled:") {
                found.peeled = Some(object_id(id)?);
            } else if let Some(target) = attribute.strip_prefix(b"symref-target:") {
                found.target = Some(shown(&String::from_utf8_lossy(target), 500));
            }
        }
        self.listing.note(&self.wants, name, found);
        Ok(())
    }
}

fn split(data: &[u8]) -> Result<(&[u8], &[u8])> {
    let blank = data.iter().position(|b| *b == b' ').ok_or_else(|| nonsense("a line without a name"))?;
    Ok((&data[..blank], &data[blank + 1..]))
}

/// What a server's own complaint means. Unknown ones are taken for passing faults.
pub(super) fn refusal(text: &str) -> Error {
    let lower = text.to_ascii_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|p| lower.contains(p));
    // A daemon says the same for both, so that nobody learns which repositories exist.
    let (kind, message) = if has(&["access denied", "not exported", "permission denied", "unauthorized"]) {
        (
            ErrorKind::PermissionDenied,
            "the server refuses: check the repository's path, and that it is served to us",
        )
    } else if has(&["not found", "no such", "does not exist", "does not appear to be a git repository"]) {
        (ErrorKind::InvalidConfig, "the server has no such repository: check the URL")
    } else {
        (ErrorKind::Unavailable, "the server reports an error: if it stays, ask its operator")
    };
    Error::new(kind, message).with_context("server", shown(text, 300))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn wants() -> Wants {
        ["HEAD", "refs/heads/main", "refs/tags/v1"].map(Into::into).into()
    }

    fn packets(lines: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for text in lines {
            if matches!(*text, "0000" | "0001" | "0002") {
                out.extend_from_slice(text.as_bytes());
            } else {
                line(&mut out, text);
            }
        }
        out
    }

    /// The outcome, fed at once; and the same fed byte by byte.
    fn read(mut reader: impl FnMut() -> Reader, bytes: &[u8]) -> Result<Outcome> {
        let mut slow = reader();
        let slowly = bytes.iter().try_for_each(|b| slow.feed(&[*b]).map(drop)).and_then(|()| slow.finish());
        let mut fast = reader();
        let quickly = fast.feed(bytes).and_then(|_| fast.finish());
        assert_eq!(
            slowly.as_ref().map_err(Error::report).ok(),
            quickly.as_ref().map_err(Error::report).ok(),
            "pieces matter"
        );
        quickly
    }

    fn found(id: &str, peeled: Option<&str>, target: Option<&str>) -> Found {
        Found { id: id.into(), peeled: peeled.map(Into::into), target: target.map(Into::into) }
    }

    #[test]
    fn versions_0_and_1_are_read() {
        let first = format!("{A} HEAD\0multi_ack symref=HEAD:refs/heads/main agent=git/2\n");
        let rest = [
            format!("{A} refs/heads/main\n"),
            format!("{A} refs/heads/main2\n"),
            format!("{B} refs/tags/v1\n"),
            format!("{A} refs/tags/v1^{{}}\n"),
            format!("shallow {A}"),
        ];
        let refs: Vec<&str> =
            std::iter::once(first.as_str()).chain(rest.iter().map(String::as_str)).collect();
        for before in [&[][..], &["# service=git-upload-pack\n", "0000"][..], &["version 1\n"][..]] {
            let all = [before, &refs, &["0000"]].concat();
            let reader = || Reader::advertisement(wants(), 10_000);
            let Outcome::Refs(listing) = read(reader, &packets(&all)).unwrap() else {
                panic!("not version 2")
            };
            assert_eq!(listing.get("HEAD"), Some(&found(A, None, Some("refs/heads/main"))));
            assert_eq!(listing.get("refs/heads/main"), Some(&found(A, None, None)));
            assert_eq!(listing.get("refs/tags/v1"), Some(&found(B, Some(A), None)));
            assert_eq!(listing.get("refs/heads/main2"), None);
        }
    }

    #[test]
    fn version_2_is_read() {
        let said = ["version 2\n", "agent=git/2\n", "ls-refs=unborn\n", "object-format=sha1\n", "0000"];
        let served = [&["# service=git-upload-pack\n", "0000"][..], &said].concat();
        for lines in [&said[..], &served] {
            let reader = || Reader::advertisement(wants(), 10_000);
            let Outcome::Introduced(capabilities) = read(reader, &packets(lines)).unwrap() else {
                panic!("no")
            };
            let ask = String::from_utf8(capabilities.ask(&wants()).unwrap()).unwrap();
            for part in
                ["0014command=ls-refs\n", "object-format=sha1\n0001", "peel", "001cref-prefix refs/tags/v1\n"]
            {
                assert!(ask.contains(part), "{ask}");
            }
            assert!(ask.ends_with("0000"));
        }
        let lines = [
            "unborn HEAD symref-target:refs/heads/x\n".to_owned(),
            format!("{A} refs/heads/main symref-target:refs/heads/trunk\n"),
            format!("{B} refs/tags/v1 peeled:{A}\n"),
            format!("{B} refs/tags/v10\n"),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).chain(["0000"]).collect();
        let reader = || Reader::ls_refs(wants(), 10_000);
        let Outcome::Refs(listing) = read(reader, &packets(&lines)).unwrap() else { panic!("no refs") };
        assert_eq!(listing.get("HEAD"), None);
        assert_eq!(listing.get("refs/heads/main"), Some(&found(A, None, Some("refs/heads/trunk"))));
        assert_eq!(listing.get("refs/tags/v1"), Some(&found(B, Some(A), None)));
        assert_eq!(listing.get("refs/tags/v10"), None);
    }

    #[test]
    fn a_repository_without_refs_has_an_empty_listing() {
        let none = format!("{} capabilities^{{}}\0agent=git/2\n", "0".repeat(40));
        for lines in [&["0000"][..], &["# service=git-upload-pack\n", "0000", "0000"], &[&none, "0000"]] {
            let reader = || Reader::advertisement(wants(), 10_000);
            assert_eq!(read(reader, &packets(lines)).unwrap(), Outcome::Refs(Listing::default()));
        }
        assert_eq!(
            read(|| Reader::ls_refs(wants(), 10_000), b"0000").unwrap(),
            Outcome::Refs(Listing::default())
        );
    }

    #[test]
    fn hostile_bytes_are_errors_and_never_an_empty_listing() {
        let long_id = format!("{A}a HEAD\n");
        for (bytes, kind) in [
            (b"<!DOCTYPE html><html>".to_vec(), ErrorKind::Corrupt),
            (b"\0\0\0\0\0\0".to_vec(), ErrorKind::Corrupt),
            (b"0003".to_vec(), ErrorKind::Corrupt),
            (b"0004".to_vec(), ErrorKind::Corrupt),
            (b"0001".to_vec(), ErrorKind::Corrupt),
            (b"fff1aaaa".to_vec(), ErrorKind::Corrupt),
            (b"ffffaaaa".to_vec(), ErrorKind::Corrupt),
            (b"zzzz".to_vec(), ErrorKind::Corrupt),
            (packets(&["nonsense"]), ErrorKind::Corrupt),
            (packets(&["HEAD HEAD"]), ErrorKind::Corrupt),
            (packets(&[&long_id, "0000"]), ErrorKind::Corrupt),
            (packets(&["# service=git-upload-pack\n", "x y"]), ErrorKind::Corrupt),
            (b"".to_vec(), ErrorKind::Unavailable),
            (b"00".to_vec(), ErrorKind::Unavailable),
            (b"0040aaaa".to_vec(), ErrorKind::Unavailable),
            (packets(&["# service=git-upload-pack\n", "0000"]), ErrorKind::Unavailable),
            (packets(&[&format!("{A} HEAD\0\n")]), ErrorKind::Unavailable),
            (packets(&["version 2\n", "ls-refs\n"]), ErrorKind::Unavailable),
            (packets(&["ERR access denied or repository not exported: /x\n"]), ErrorKind::PermissionDenied),
            (packets(&["ERR repository not found"]), ErrorKind::InvalidConfig),
            (packets(&["ERR \x1b[31mbusy\n"]), ErrorKind::Unavailable),
        ] {
            let e = read(|| Reader::advertisement(wants(), 1_000_000), &bytes).unwrap_err();
            assert_eq!(e.kind(), kind, "{:?}: {e}", String::from_utf8_lossy(&bytes));
            assert!(!e.report().contains('\x1b'));
        }
        let e = read(|| Reader::ls_refs(wants(), 1_000_000), &packets(&["x", "0000"])).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn an_answer_without_end_is_cut_off_at_the_bound() {
        let mut reader = Reader::ls_refs(wants(), 10_000);
        let one = packets(&[&format!("{A} refs/heads/other\n")]);
        let e = (0..10_000).find_map(|_| reader.feed(&one).err()).expect("it is bounded");
        assert_eq!(e.kind(), ErrorKind::Corrupt);
        assert!(e.message().contains("max_listing_bytes"));
    }

    #[test]
    fn a_server_that_cannot_list_is_not_asked() {
        assert_eq!(Capabilities::default().ask(&wants()).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn a_daemon_is_asked_for_version_2() {
        assert_eq!(daemon_request("/a", "h"), b"0029git-upload-pack /a\0host=h\0\0version=2\0");
    }
}
