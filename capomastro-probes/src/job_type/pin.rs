//! Revisions that say which revision of the job type they were seen by. Rules only.
//!
//! Where a change of the job type is to build its dependencies, what a script says is not all of a revision: it is
//! `job-type:<the branch's revision>:<what the script says>`, with the first percent-encoded.

use capomastro_core::{Error, ErrorKind, Result, model::Revision};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

const START: &str = "job-type:";
/// Letters, digits and what revisions are made of; no colon.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b'@')
    .remove(b'+');

/// What a script said, and by which revision of the job type, both in one.
pub(super) fn joined(job_type: &Revision, said: &str) -> Result<Revision> {
    prefixed(job_type, said).try_into().map_err(|e: Error| {
        Error::new(
            ErrorKind::Corrupt,
            "the script's revision is too long to stand beside that of the job type: let it print a shorter one",
        )
        .with_source(e)
    })
}

/// `text` marked as of this revision of the job type.
pub(super) fn prefixed(job_type: &Revision, text: &str) -> String {
    format!("{START}{}:{text}", utf8_percent_encode(job_type.as_str(), PLAIN))
}

/// Takes apart what was [joined] or [prefixed]; without a revision of the job type where it was neither.
pub(super) fn split(text: &str) -> (Option<Revision>, &str) {
    let parts = || {
        let (encoded, rest) = text.strip_prefix(START)?.split_once(':')?;
        let decoded = percent_decode_str(encoded).decode_utf8().ok()?.into_owned();
        // One revision has one form.
        if utf8_percent_encode(&decoded, PLAIN).to_string() != encoded {
            return None;
        }
        Some((Revision::try_from(decoded).ok()?, rest))
    };
    match parts() {
        Some((job_type, rest)) => (Some(job_type), rest),
        None => (None, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_joined_comes_apart() {
        for job_type in
            ["0123abcd", "u-1@12@2026-11-23T14:14:24Z/a%20b", "me@example.org-2026-x", "a:b c%\u{fc}"]
        {
            let job_type: Revision = job_type.parse().unwrap();
            for said in ["1", "v1:2", "job-type:x:y", " ", "job-type:"] {
                let joined = joined(&job_type, said).unwrap();
                assert_eq!(split(joined.as_str()), (Some(job_type.clone()), said));
            }
        }
    }

    #[test]
    fn what_was_not_joined_stays_whole() {
        for text in [
            "1",
            "job-type",
            "job-type:",
            "job-type:x",
            "job-type::x",
            "job-type:a%2:x",
            "job-type:%61:x",
            "x:y",
        ] {
            assert_eq!(split(text), (None, text));
        }
    }

    #[test]
    fn what_is_too_long_together_is_refused() {
        let job_type: Revision = "x".repeat(1_000).parse().unwrap();
        assert_eq!(joined(&job_type, &"y".repeat(100)).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
