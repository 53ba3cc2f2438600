//! bzr's own protocol, in version 2, which servers since bzr 0.16 speak: one question, one answer.
//! Source: <https://bazaar.launchpad.net/~bzr-pqm/bzr/bzr.dev/view/head:/doc/developers/network-protocol.txt>

use super::tip::{Tip, nonsense};
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
pub(super) fn question(path: &str) -> Vec<u8> {
    format!("bzr request 2\nBranch.last_revision_info\x01{path}\n").into_bytes()
}

/// Reads a whole answer; `None` as long as it is not whole.
pub(super) fn answer(bytes: &[u8]) -> Result<Option<Option<Tip>>> {
    const START: &[u8] = b"bzr response 2\n";
    let start = bytes.get(..START.len()).unwrap_or(bytes);
    if !START.starts_with(start) {
        return Err(nonsense("something that is not bzr's protocol"));
    }
    let mut lines = bytes.get(START.len()..).unwrap_or_default().splitn(3, |b| *b == b'\n');
    let (Some(how), Some(what), Some(_)) = (lines.next(), lines.next(), lines.next()) else {
        return if bytes.len() > MAX_ANSWER { Err(nonsense("an answer without end")) } else { Ok(None) };
    };
    let words: Vec<&[u8]> = what.split(|b| *b == 1).collect();
    match (how, words.as_slice()) {
        (b"success", [b"ok", revno, id]) => Tip::of(revno, id).map(Some),
        (b"failed", [b"nobranch", ..] | [b"error", b"NotBranchError" | b"NoSuchFile", ..]) => Ok(Some(None)),
        (b"failed", [b"error", b"PermissionDenied", ..]) => {
            Err(Error::new(ErrorKind::PermissionDenied, "the server refuses: check what the user may read"))
        }
        (b"failed", words) => {
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

/// Asks the server at `host` and `port`.
pub(super) async fn ask(host: &str, port: u16, path: &str) -> Result<Option<Tip>> {
    // Brackets belong to an address in a URL only.
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let mut stream = TcpStream::connect((address, port)).await.map_err(|e| {
        Error::new(ErrorKind::Unavailable, "the bzr server cannot be reached: check host and port")
            .with_source(e)
    })?;
    stream.write_all(&question(path)).await.map_err(broken)?;
    let mut bytes = Vec::new();
    let mut buffer = vec![0_u8; 4 * 1024];
    loop {
        let count = stream.read(&mut buffer).await.map_err(broken)?;
        bytes.extend_from_slice(&buffer[..count]);
        if let Some(tip) = answer(&bytes)? {
            return Ok(tip);
        }
        if count == 0 {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "the bzr server hung up before it had answered: try again, or ask its operator",
            ));
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
