//! What a run printed, and what that means. No I/O.

use super::source::Language;
use capomastro_core::{
    Error, ErrorKind, Result,
    model::{MAX_REVISION_BYTES, Observation, Revision},
    probe::{Ask, Probed},
};

/// The most bytes of an answer, as the step of a template prints it.
const MAX_ANSWER: usize = 4_096 + 2;

/// Finds the answer in a log that comes in pieces. Keeps no more of it than one answer.
#[derive(Debug)]
pub(super) struct Scan {
    begin: Vec<u8>,
    end: Vec<u8>,
    line: Vec<u8>,
    /// The lines of the answer so far, while it is being read.
    open: Option<Vec<Vec<u8>>>,
    found: Option<Vec<Vec<u8>>>,
    held: usize,
    problem: Option<&'static str>,
}

impl Scan {
    pub(super) fn new(mark: &str) -> Self {
        Self {
            begin: format!("{mark} begin").into_bytes(),
            end: format!("{mark} end").into_bytes(),
            line: Vec::new(),
            open: None,
            found: None,
            held: 0,
            problem: None,
        }
    }

    /// Takes in the next piece.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.end_of_line(line);
            } else if self.line.len() <= MAX_ANSWER {
                // Of a longer line it is enough to know that it is one.
                self.line.push(*byte);
            }
        }
    }

    fn end_of_line(&mut self, mut line: Vec<u8>) {
        if line.ends_with(b"\r") {
            line.pop();
        }
        if line == self.begin {
            if self.open.is_some() || self.found.is_some() {
                self.problem = Some("answered more than once");
            }
            self.open = Some(Vec::new());
            self.held = 0;
        } else if line == self.end {
            self.found = self.open.take().or_else(|| self.found.take());
        } else if let Some(lines) = &mut self.open {
            self.held += line.len() + 1;
            if self.held > MAX_ANSWER {
                self.problem = Some("printed more than 4,096 bytes");
            } else {
                lines.push(line);
            }
        }
    }

    /// The answer: its lines.
    pub(super) fn finish(mut self) -> Result<Vec<Vec<u8>>> {
        let last = std::mem::take(&mut self.line);
        self.end_of_line(last);
        if let Some(problem) = self.problem {
            return Err(refuse(problem));
        }
        let Some(mut lines) = self.found else {
            return Err(refuse(
                "ended well and printed no answer between its marks; was its job made from a template for probes?",
            ));
        };
        // The line before the last mark is empty where the answer itself ended its line.
        if lines.len() > 1 && lines.last().is_some_and(Vec::is_empty) {
            lines.pop();
        }
        Ok(lines)
    }
}

fn refuse(problem: &str) -> Error {
    let advice =
        "let its script print the revision on one line, or answer by its status, as its language says";
    Error::new(ErrorKind::Corrupt, format!("the job {problem}: {advice}"))
}

/// What the lines say to this ask.
pub(super) fn read(language: Language, lines: &[Vec<u8>], ask: &Ask) -> Result<Probed> {
    let [line] = lines else {
        return Err(refuse(if lines.is_empty() { "printed nothing" } else { "printed several lines" }));
    };
    match language {
        Language::Token => token(line),
        Language::Changed => match line.as_slice() {
            b"true" => changed(ask),
            b"false" => match (&ask.seen, ask.wanted) {
                (Some(_), _) => Ok(Probed::SameAsSeen),
                // Somebody wants a build whether something changed or not, and a build needs a revision.
                (None, true) => changed(ask),
                (None, false) => Ok(Probed::Nothing),
            },
            _ => Err(refuse("said neither true nor false")),
        },
    }
}

fn token(line: &[u8]) -> Result<Probed> {
    if line.is_empty() {
        return Err(refuse("printed nothing"));
    }
    if line.len() > MAX_REVISION_BYTES {
        return Err(refuse("printed more than 1,024 bytes"));
    }
    let revision = Revision::try_from(line).map_err(|e| refuse("printed no revision").with_source(e))?;
    Ok(Probed::Observed(Observation::of(revision)))
}

/// "Changed" becomes a new value of a counter only when the last one has been dealt with: until a build has started, and
/// while it runs, a script that is asked again says "changed" again, and means the same change.
fn changed(ask: &Ask) -> Result<Probed> {
    let Some(seen) = &ask.seen else { return Probed::revision("1") };
    if ask.in_debt() || ask.building {
        return Ok(Probed::SameAsSeen);
    }
    let next = seen.as_str().parse::<u64>().ok().and_then(|n| n.checked_add(1)).ok_or_else(|| {
        Error::config(
            "what was last seen is no counter, so the job spoke another language before: define the new source with \
             `apply`, so that it starts afresh",
        )
        .with_context("seen", seen.as_str().escape_debug())
    })?;
    Probed::revision(next.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use capomastro_core::{model::Source, secret::Secrets};
    use serde_json::json;
    use std::time::Duration;

    fn scanned(log: &[u8]) -> Result<Vec<String>> {
        let mut whole = Scan::new("m7");
        whole.feed(log);
        let whole = whole.finish();
        // However it is cut.
        for size in [1, 2, 3, 7] {
            let mut pieces = Scan::new("m7");
            log.chunks(size).for_each(|piece| pieces.feed(piece));
            assert_eq!(pieces.finish().ok(), whole.as_ref().ok().cloned());
        }
        Ok(whole?.into_iter().map(|l| String::from_utf8_lossy(&l).into_owned()).collect())
    }

    #[test]
    fn the_answer_is_what_stands_between_the_marks() {
        let cases: [(&[u8], &[&str]); 8] = [
            (b"started\n\nm7 begin\nr1\n\nm7 end\nFinished: SUCCESS\n", &["r1"]),
            (b"m7 begin\nr1\nm7 end", &["r1"]),
            (b"m7 begin\r\nr1\r\nm7 end\r\n", &["r1"]),
            (b"m7 begin\n\nm7 end\n", &[""]),
            (b"m7 begin\na\nb\n\nm7 end\n", &["a", "b"]),
            // Not the marks, but what is said about them, and the marks of others.
            (
                b"+ echo 'm7 begin'\nm7 begin \n m7 end\nm8 begin\nm7 begin\nr1\nm8 end\nm7 end\n",
                &["r1", "m8 end"],
            ),
            (b"m7 end\nm7 begin\nr1\nm7 end\n", &["r1"]),
            (b"m7 begin\nr1\nm7 end\nm7 end\n", &["r1"]),
        ];
        for (log, expected) in cases {
            assert_eq!(scanned(log).unwrap(), expected, "{}", String::from_utf8_lossy(log));
        }
    }

    #[test]
    fn what_is_no_answer_is_corrupt() {
        let long = format!("m7 begin\n{}\nm7 end\n", "x".repeat(5_000));
        let lines = format!("m7 begin\n{}m7 end\n", "x\n".repeat(5_000));
        let cases: [&[u8]; 6] = [
            b"",
            b"m7 begin\nr1\n",
            b"r1\nm7 end\n",
            b"m7 begin\nr1\nm7 end\nm7 begin\nr2\nm7 end\n",
            long.as_bytes(),
            lines.as_bytes(),
        ];
        for log in cases {
            let shown = String::from_utf8_lossy(&log[..log.len().min(50)]).into_owned();
            assert_eq!(scanned(log).expect_err(&shown).kind(), ErrorKind::Corrupt);
        }
    }

    fn ask(seen: Option<&str>, accounted: Option<&str>, building: bool, wanted: bool) -> Ask {
        let source = Source::new("jenkins", json!({"job": "a"})).unwrap();
        let mut ask = Ask::new("lib".parse().unwrap(), source, Duration::from_secs(60), Secrets::none());
        ask.seen = seen.map(|s| s.parse().unwrap());
        ask.accounted = accounted.map(|s| s.parse().unwrap());
        ask.building = building;
        ask.wanted = wanted;
        ask
    }

    fn says(language: Language, lines: &[&str], ask: &Ask) -> Result<Probed, ErrorKind> {
        let lines: Vec<Vec<u8>> = lines.iter().map(|l| l.as_bytes().to_vec()).collect();
        read(language, &lines, ask).map_err(|e| e.kind())
    }

    #[test]
    fn a_token_is_one_line() {
        let ask = ask(None, None, false, false);
        let longest = "x".repeat(1_024);
        for token in ["r1", " r 1 ", "ä🦀", &longest] {
            assert_eq!(says(Language::Token, &[token], &ask), Ok(Probed::revision(token).unwrap()));
        }
        for lines in [&[][..], &[""], &["a", "b"], &["a\0b"], &[&"x".repeat(1_025)]] {
            assert_eq!(says(Language::Token, lines, &ask), Err(ErrorKind::Corrupt), "{lines:?}");
        }
        assert!(read(Language::Token, &[vec![0xff]], &ask).is_err());
    }

    #[test]
    fn true_and_false_mean_what_is_not_known_yet() {
        let observed = |n: &str| Ok(Probed::revision(n).unwrap());
        let (same, nothing) = (Ok(Probed::SameAsSeen), Ok(Probed::Nothing));
        let cases = [
            (ask(None, None, false, false), observed("1"), nothing.clone()),
            (ask(None, None, false, true), observed("1"), observed("1")),
            (ask(None, None, true, false), observed("1"), nothing),
            (ask(Some("1"), None, false, false), same.clone(), same.clone()),
            (ask(Some("1"), Some("1"), true, false), same.clone(), same.clone()),
            (ask(Some("1"), Some("1"), false, false), observed("2"), same.clone()),
            (ask(Some("1"), Some("1"), false, true), observed("2"), same.clone()),
            (ask(Some("abc"), Some("abc"), false, false), Err(ErrorKind::InvalidConfig), same),
        ];
        for (ask, if_true, if_false) in cases {
            assert_eq!(says(Language::Changed, &["true"], &ask), if_true, "{ask:?}");
            assert_eq!(says(Language::Changed, &["false"], &ask), if_false, "{ask:?}");
            assert_eq!(says(Language::Changed, &["yes"], &ask), Err(ErrorKind::Corrupt));
        }
    }
}
