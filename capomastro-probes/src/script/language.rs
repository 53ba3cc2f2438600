//! What a script's output means. No I/O.

use super::source::Language;
use capomastro_core::{
    Error, ErrorKind, Result,
    command::{CommandOutput, Exit},
    model::{MAX_REVISION_BYTES, Observation, Revision},
    probe::Probed,
};

/// What has to be known to understand a script that answers true or false.
#[derive(Copy, Clone, Debug)]
pub(super) struct Standing<'a> {
    /// The revision that was last seen.
    pub(super) seen: Option<&'a Revision>,
    /// Whether a change that was seen is not accounted for yet.
    pub(super) in_debt: bool,
    /// Whether a build holds the dependency.
    pub(super) building: bool,
    /// Whether somebody who wants a build whatever the source says awaits the answer.
    pub(super) wanted: bool,
}

/// The answer that a script's output stands for. Standard error is repeated in errors.
pub(super) fn read(language: Language, output: &CommandOutput, standing: Standing<'_>) -> Result<Probed> {
    let meaning = match (language, output.exit) {
        (Language::Token, Exit::Code(0)) => token(&output.stdout),
        (Language::Changed, Exit::Code(0)) => changed(standing),
        (Language::Changed, Exit::Code(1)) => match (standing.seen, standing.wanted) {
            (Some(_), _) => Ok(Probed::SameAsSeen),
            // Somebody wants a build whether something changed or not, and a build needs a revision.
            (None, true) => changed(standing),
            (None, false) => Ok(Probed::Nothing),
        },
        (_, Exit::Code(code)) => Err(failed(language, code)),
        (_, Exit::Signal(signal)) => Err(Error::new(
            ErrorKind::Unavailable,
            "the script was ended by a signal: see who sent it (9 is often a lack of memory)",
        )
        .with_context("signal", signal)),
    };
    meaning.map_err(|e| e.with_context("stderr", output.complaint()))
}

fn token(stdout: &[u8]) -> Result<Probed> {
    let bytes = stdout.strip_suffix(b"\n").unwrap_or(stdout);
    let refuse = |problem: &str| {
        let advice = "print the revision, and nothing else, on one line of standard output";
        Err(Error::new(ErrorKind::Corrupt, format!("the script {problem}: {advice}"))
            .with_context("bytes", stdout.len()))
    };
    if bytes.is_empty() {
        return refuse("printed nothing");
    }
    if bytes.contains(&b'\n') {
        return refuse("printed several lines");
    }
    if bytes.ends_with(b"\r") {
        return refuse("ended its line with a carriage return");
    }
    if bytes.len() > MAX_REVISION_BYTES {
        return refuse("printed more than 1,024 bytes");
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return refuse("printed something that is not UTF-8");
    };
    text.parse::<Revision>().map(|r| Probed::Observed(Observation::of(r))).or_else(|_| {
        // What is left of what a revision may not contain.
        refuse("printed a NUL or a carriage return")
    })
}

/// "Changed" becomes a new counter value only when the last one has been dealt with: until a build has started, and
/// while it runs, a script that is asked again says "changed" again, and means the same change.
fn changed(standing: Standing<'_>) -> Result<Probed> {
    let Some(seen) = standing.seen else { return Probed::revision("1") };
    if standing.in_debt || standing.building {
        return Ok(Probed::SameAsSeen);
    }
    let next = seen.as_str().parse::<u64>().ok().and_then(|n| n.checked_add(1)).ok_or_else(|| {
        Error::config(
            "what was last seen is no counter, so the script spoke another language before: define the new source \
             with `apply`, so that it starts afresh",
        )
        .with_context("seen", seen.as_str().escape_debug())
    })?;
    Probed::revision(next.to_string())
}

fn failed(language: Language, code: i32) -> Error {
    let error = match (code, language) {
        (126, _) => {
            Error::config("the script, or a program that it needs, may not be run: make it executable")
        }
        (127, _) => Error::config(
            "the script, or a program that it needs, was not found: install it, or name its folder in PATH in `env`",
        ),
        (1, Language::Token) => Error::new(
            ErrorKind::Unavailable,
            "the script failed: see what it says (one that answers by its exit status needs `language`: \"changed\")",
        ),
        (_, Language::Token) => Error::new(ErrorKind::Unavailable, "the script failed: see what it says"),
        (_, Language::Changed) => Error::new(
            ErrorKind::Unavailable,
            "the script failed: see what it says (0 means changed, 1 not changed, anything else that it failed)",
        ),
    };
    error.with_context("exit_status", code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use capomastro_core::Retry;

    const FRESH: Standing<'_> = Standing { seen: None, in_debt: false, building: false, wanted: false };

    fn said(exit: Exit, stdout: &[u8]) -> CommandOutput {
        CommandOutput::new(exit, stdout.to_vec(), b"warning: x\n".to_vec())
    }

    #[test]
    fn a_token_is_standard_output_without_one_newline() {
        let longest = "x".repeat(1_024);
        let cases: [(&[u8], &str); 7] = [
            (b"r1\n", "r1"),
            (b"r1", "r1"),
            (b" r1 \n", " r1 "),
            (b"a\tb\n", "a\tb"),
            ("ä🦀\n".as_bytes(), "ä🦀"),
            (longest.as_bytes(), &longest),
            (b"-n\n", "-n"),
        ];
        for (stdout, expected) in cases {
            let probed = read(Language::Token, &said(Exit::Code(0), stdout), FRESH).unwrap();
            assert_eq!(probed, Probed::revision(expected).unwrap());
        }
        let mut line = longest.into_bytes();
        line.push(b'\n');
        assert!(read(Language::Token, &said(Exit::Code(0), &line), FRESH).is_ok());
    }

    #[test]
    fn what_is_no_token_is_corrupt() {
        let long = "x".repeat(1_025);
        let cases: [(&[u8], &str); 10] = [
            (b"", "nothing"),
            (b"\n", "nothing"),
            (b"\n\n", "several lines"),
            (b"r1\n\n", "several lines"),
            (b"r1\nr2\n", "several lines"),
            (b"r1\r\n", "carriage return"),
            (b"a\rb\n", "carriage return"),
            (b"a\0b\n", "NUL"),
            (b"\xff\xfe\n", "not UTF-8"),
            (long.as_bytes(), "more than 1,024 bytes"),
        ];
        for (stdout, expected) in cases {
            let error = read(Language::Token, &said(Exit::Code(0), stdout), FRESH).unwrap_err();
            assert_eq!((error.kind(), error.retry()), (ErrorKind::Corrupt, Retry::Never), "{stdout:?}");
            assert!(error.message().contains(expected), "{error} of {stdout:?}");
            assert!(error.message().contains("on one line"), "{error}");
            assert!(error.to_string().contains("warning: x"), "{error}");
        }
    }

    #[test]
    fn each_exit_status_has_a_meaning() {
        use Language::{Changed, Token};
        let config = Err((ErrorKind::InvalidConfig, Retry::Never));
        let fault = Err((ErrorKind::Unavailable, Retry::Backoff));
        let cases = [
            (Token, Exit::Code(0), Ok(Probed::revision("r1").unwrap())),
            (Token, Exit::Code(1), fault.clone()),
            (Token, Exit::Code(2), fault.clone()),
            (Token, Exit::Code(126), config.clone()),
            (Token, Exit::Code(127), config.clone()),
            (Token, Exit::Code(255), fault.clone()),
            (Token, Exit::Signal(9), fault.clone()),
            (Changed, Exit::Code(0), Ok(Probed::revision("1").unwrap())),
            (Changed, Exit::Code(1), Ok(Probed::Nothing)),
            (Changed, Exit::Code(2), fault.clone()),
            (Changed, Exit::Code(126), config.clone()),
            (Changed, Exit::Code(127), config),
            (Changed, Exit::Signal(15), fault),
        ];
        for (language, exit, expected) in cases {
            let got = read(language, &said(exit, b"r1\n"), FRESH).map_err(|e| (e.kind(), e.retry()));
            assert_eq!(got, expected, "{language:?} {exit:?}");
        }
    }

    #[test]
    fn not_changed_is_the_first_revision_where_somebody_wants_a_build() {
        let output = CommandOutput::new(Exit::Code(1), vec![], vec![]);
        let wanted = Standing { wanted: true, ..FRESH };
        assert_eq!(read(Language::Changed, &output, wanted).unwrap(), Probed::revision("1").unwrap());
        let seen = "3".parse().unwrap();
        let wanted = Standing { seen: Some(&seen), ..wanted };
        assert_eq!(read(Language::Changed, &output, wanted).unwrap(), Probed::SameAsSeen);
    }

    #[test]
    fn changed_counts_once_for_each_change() {
        let observed = |n: &str| Probed::revision(n).unwrap();
        let (same, nothing) = (Probed::SameAsSeen, Probed::Nothing);
        // seen, in debt, building, what "changed" means, what "not changed" means
        let cases = [
            (None, false, false, observed("1"), nothing.clone()),
            // An edited source: the build that runs is of the source before.
            (None, false, true, observed("1"), nothing),
            (Some("1"), true, false, same.clone(), same.clone()),
            (Some("1"), true, true, same.clone(), same.clone()),
            (Some("1"), false, true, same.clone(), same.clone()),
            (Some("1"), false, false, observed("2"), same.clone()),
            (Some("9"), false, false, observed("10"), same),
        ];
        for (seen, in_debt, building, if_changed, if_not) in cases {
            let seen: Option<Revision> = seen.map(|s| s.parse().unwrap());
            let standing = Standing { seen: seen.as_ref(), in_debt, building, wanted: false };
            for (code, expected) in [(0, if_changed), (1, if_not)] {
                let output = said(Exit::Code(code), b"it may say\nwhat it likes \xff");
                let got = read(Language::Changed, &output, standing).unwrap();
                assert_eq!(got, expected, "exit status {code}, {standing:?}");
            }
        }
    }

    #[test]
    fn a_counter_does_not_go_on_from_what_is_none() {
        for seen in ["abc", "-1", "1.5", "18446744073709551615"] {
            let seen: Revision = seen.parse().unwrap();
            let standing = Standing { seen: Some(&seen), in_debt: false, building: false, wanted: false };
            let error = read(Language::Changed, &said(Exit::Code(0), b""), standing).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert_eq!(
                read(Language::Changed, &said(Exit::Code(1), b""), standing).unwrap(),
                Probed::SameAsSeen
            );
        }
    }
}
