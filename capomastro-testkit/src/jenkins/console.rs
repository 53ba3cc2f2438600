//! Consoles: the raw log of a build, and the two ways in which it is read.

use super::{
    answer::Answer,
    build::{Build, millis},
    job::JobKind,
    queue::Cause,
    request::Request,
    state::State,
};

/// At most this many lines of an unfinished log are sent at a time, while the header speaks of all.
const MOST_LINES: usize = 10_000;

/// A console note, as Jenkins puts one before the name of a user.
const NOTE: &str = "\u{1b}[8mha:////4OOpAY6v3ToVFJ/VVqTnjw3lXNTvIZdDkGvrImdibZV9AAAAlx+LCAAAAAAAAP9b85aBtbiIQTGjNKU4P08vOT+vOD8nVc83PyU1x6OyILUoJzMv2y+/JJUBAhiZGBgqihhk0NSjKDWzXb3RdlLBUSYGJk8GtpzUvPSSDB8G5tKinBIGIZ+sxLJE/ZzEvHT94JKizLx0a6BxUmjGOUNodHsLgAzWEgZu/dLi1CL9xJTczDwAj6GcLcAAAAA=\u{1b}[0m";

/// The log as it is on disk at `now`; `None` where there is no file yet.
pub(super) fn raw(build: &Build, kind: JobKind, now: u64) -> Option<Vec<u8>> {
    let began = build.began();
    if now < began.saturating_add(millis(build.script.log_late)) {
        return None;
    }
    let ended = build.ended.as_ref().filter(|ended| ended.at <= now);
    let mut log = Vec::new();
    match build.causes.first() {
        Some(Cause::User(user)) => log.extend(format!("Started by user {NOTE}{user}\n").bytes()),
        Some(Cause::Remote { address, .. }) => {
            log.extend(format!("Started by remote host {address}\n").bytes())
        }
        Some(Cause::Rebuild { upstream, number }) => {
            log.extend(format!("Rebuilds build #{number} of {upstream}\n").bytes());
        }
        None => {}
    }
    if kind == JobKind::Freestyle {
        log.extend(b"Running as SYSTEM\n");
    }
    let until = ended.map_or(now, |ended| ended.at);
    for (after, text) in &build.script.log {
        if began.saturating_add(millis(*after)) <= until {
            log.extend(text);
        }
    }
    // The last line is written when everything is over; a record cut short never got it.
    if let Some(ended) = ended.filter(|ended| !ended.cut)
        && build.over().is_some_and(|over| over <= now)
    {
        if log.last().is_some_and(|byte| *byte != b'\n') {
            log.push(b'\n');
        }
        log.extend(format!("Finished: {}\n", ended.result).bytes());
    }
    Some(log)
}

/// The log without its notes.
pub(super) fn plain(raw: &[u8]) -> Vec<u8> {
    const OPEN: &[u8] = b"\x1b[8mha:";
    const CLOSE: &[u8] = b"\x1b[0m";
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = find(rest, OPEN) {
        out.extend(&rest[..at]);
        rest = find(&rest[at..], CLOSE).map_or(&[], |end| &rest[at + end + CLOSE.len()..]);
    }
    out.extend(rest);
    out
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// Answers `logText/progressiveText`.
pub(super) fn progressive(state: &mut State, request: &Request, raw: Option<&[u8]>, open: bool) -> Answer {
    let start = match request.field("start").map(|start| start.parse::<i64>()) {
        None => 0,
        Some(Ok(start)) => start,
        Some(Err(_)) => return Answer::oops(state),
    };
    let raw = raw.unwrap_or_default();
    let answer = |body: &[u8]| {
        let mut crlf = Vec::with_capacity(body.len());
        for byte in body {
            if *byte == b'\n' {
                crlf.push(b'\r');
            }
            crlf.push(*byte);
        }
        let answer = Answer::text(crlf).with("X-Text-Size", raw.len().to_string());
        if open { answer.with("X-More-Data", "true") } else { answer }
    };
    let Ok(start) = usize::try_from(start) else { return answer(&[]) };
    let rest = raw.get(start..).unwrap_or(raw);
    if !open {
        return answer(rest);
    }
    // Of an open log: whole lines only, and not more than some.
    let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let lines = rest[..whole]
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .nth(MOST_LINES - 1)
        .map_or(whole, |(at, _)| at + 1);
    answer(&rest[..lines])
}
