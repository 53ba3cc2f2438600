//! bzr's own protocol, in version 2, which servers since bzr 0.16 speak: one question, one answer, and a
//! second question where there is no tip.
//! Source: <https://bazaar.launchpad.net/~bzr-pqm/bzr/bzr.dev/view/head:/doc/developers/network-protocol.txt>

use super::tip::{Tip, elsewhere, nonsense};
use crate::remote::text::shown;
use capomastro_core::{Error, ErrorKind, Result};
use std::io;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The longest answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// The question for the tip of the branch at `path`.
pub(super) fn tip_of(path: &str) -> Vec<u8> {
    format!("bzr request 2\nBranch.last_revision_info\x01{path}\n").into_bytes()
}

/// The question whether the place at `path` is a branch or refers to one, to which the first question has the same answer
/// as to nothing.
pub(super) fn kind_of(path: &str) -> Vec<u8> {
    format!("bzr request 2\nBzrDir.open_branchV2\x01{path}\n").into_bytes()
}

/// Whether an answer is a good one, and its words.
type Words<'a> = (bool, Vec<&'a [u8]>);

/// Reads a whole answer; `None` as long as it is not whole.
fn words(bytes: &[u8]) -> Result<Option<Words<'_>>> {
    const START: &[u8] = b"bzr response 2\n";
    let start = bytes.get(..START.len()).unwrap_or(bytes);
    if !START.starts_with(start) {
        return Err(nonsense("something that is not bzr's protocol"));
    }
    let mut lines = bytes.get(START.len()..).unwrap_or_default().splitn(3, |b| *b == b'\n');
    let (Some(how), Some(what), Some(_)) = (lines.next(), lines.next(), lines.next()) else {
        return if bytes.len() > MAX_ANSWER { Err(nonsense("an answer without end")) } else { Ok(None) };
    };
    let is_good = match how {
        b"success" => true,
        b"failed" => false,
        _ => return Err(nonsense("something that was not asked for")),
    };
    Ok(Some((is_good, what.split(|b| *b == 1).collect())))
}

/// Reads a whole answer to [`kind_of`]; `None` as long as it is not whole, an error if the place refers to another one.
pub(super) fn is_place_itself(bytes: &[u8]) -> Result<Option<()>> {
    match words(bytes)? {
        None => Ok(None),
        Some((true, words)) if words.first() == Some(&&b"ref"[..]) => Err(elsewhere()),
        // Servers that do not know the question have said what they can.
        Some(_) => Ok(Some(())),
    }
}

/// Reads a whole answer to [`tip_of`]; `None` as long as it is not whole.
pub(super) fn answer(bytes: &[u8]) -> Result<Option<Option<Tip>>> {
    let Some((is_good, words)) = words(bytes)? else { return Ok(None) };
    match (is_good, words.as_slice()) {
        (true, [b"ok", revno, id]) => Tip::of(revno, id).map(Some),
        (false, [b"nobranch", ..] | [b"error", b"NotBranchError" | b"NoSuchFile", ..]) => Ok(Some(None)),
        (false, [b"error", b"PermissionDenied", ..]) => {
            Err(Error::new(ErrorKind::PermissionDenied, "the server refuses: check what the user may read"))
        }
        (false, words) => {
            let text =
                words.iter().map(|w| shown(&String::from_utf8_lossy(w), 200)).collect::<Vec<_>>().join(": ");
            Err(Error::new(
                ErrorKind::Unavailable,
                "the bzr server reports an error: if it stays, ask its operator",
            )
            .with_context("server", shown(&text, 300)))
        }
        _ => Err(nonsense("something that was not asked for")),
    }
}

/// What was read to the end of an answer.
pub(super) fn whole<T>(read: Option<T>) -> Result<T> {
    read.ok_or_else(|| {
        Error::new(
            ErrorKind::Unavailable,
            "the bzr server hung up before it had answered: try again, or ask its operator",
        )
    })
}

/// Asks the server at `host` and `port`.
pub(super) async fn ask(host: &str, port: u16, path: &str) -> Result<Option<Tip>> {
    // Brackets belong to an address in a URL only.
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let mut stream = TcpStream::connect((address, port)).await.map_err(|e| {
        Error::new(ErrorKind::Unavailable, "the bzr server cannot be reached: check host and port")
            .with_source(e)
    })?;
    if let Some(tip) = exchange(&mut stream, tip_of(path), answer).await? {
        return Ok(Some(tip));
    }
    exchange(&mut stream, kind_of(path), is_place_itself).await?;
    Ok(None)
}

async fn exchange<T>(
    stream: &mut TcpStream,
    question: Vec<u8>,
    read: impl Fn(&[u8]) -> Result<Option<T>>,
) -> Result<T> {
    stream.write_all(&question).await.map_err(broken)?;
    let mut bytes = Vec::new();
    let mut buffer = vec![0_u8; 4 * 1024];
    loop {
        let count = stream.read(&mut buffer).await.map_err(broken)?;
        bytes.extend_from_slice(&buffer[..count]);
        match read(&bytes)? {
            Some(answer) => return Ok(answer),
            None if count == 0 => return whole(None),
            None => {}
        }
    }
}

fn broken(e: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the connection to the bzr server broke").with_source(e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_or_not_at_all() {
        let tip = Tip { revno: 2, id: "a@b-x".into() };
        for (text, read) in [
            ("bzr response 2\nsuccess\nok\x012\x01a@b-x\n", Some(tip)),
            ("bzr response 2\nsuccess\nok\x010\x01null:\n", None),
            ("bzr response 2\nfailed\nnobranch\n", None),
            ("bzr response 2\nfailed\nerror\x01NotBranchError\x01Not a branch: x\n", None),
        ] {
            for cut in 0..text.len() {
                assert_eq!(answer(&text.as_bytes()[..cut]).unwrap(), None, "{text:?} {cut}");
            }
            assert_eq!(answer(text.as_bytes()).unwrap(), Some(read), "{text:?}");
        }
        for (text, is_itself) in [
            ("bzr response 2\nsuccess\nref\x01file:///a/\n", false),
            ("bzr response 2\nsuccess\nbranch\x01Bazaar Branch Format 7\n", true),
            ("bzr response 2\nfailed\nnobranch\n", true),
            ("bzr response 2\nfailed\nerror\x01UnknownMethod\x01x\n", true),
        ] {
            assert_eq!(is_place_itself(&text.as_bytes()[..text.len() - 1]).unwrap(), None, "{text:?}");
            assert_eq!(is_place_itself(text.as_bytes()).is_ok(), is_itself, "{text:?}");
        }
        for (text, kind) in [
            ("HTTP/1.1 400 Bad Request\r\n", ErrorKind::Corrupt),
            ("bzr response 2\nsuccess\nyes\n", ErrorKind::Corrupt),
            ("bzr response 2\nsuccess\nok\x01x\x01y z\n", ErrorKind::Corrupt),
            ("bzr response 2\nmaybe\nok\n", ErrorKind::Corrupt),
            ("bzr response 2\nfailed\nerror\x01Oops\x01\x1b[31m\n", ErrorKind::Unavailable),
            ("bzr response 2\nfailed\nerror\x01PermissionDenied\x01x\n", ErrorKind::PermissionDenied),
        ] {
            let e = answer(text.as_bytes()).unwrap_err();
            assert_eq!(e.kind(), kind, "{text:?}");
            assert!(!e.report().contains('\x1b'));
        }
        let endless = format!("bzr response 2\nsuccess\n{}", "a".repeat(MAX_ANSWER));
        assert!(answer(endless.as_bytes()).is_err());
    }
}
