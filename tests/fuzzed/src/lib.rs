//! Targets for fuzzing: each is a function of bytes that must not panic, hang or tell what it may not tell, whatever the
//! bytes are. The same functions are run by `cargo fuzz` (see `fuzz/`) and, over the kept corpus and seeded mutations of
//! it, by ordinary tests.
//!
//! They drive the public API: a probe that asks a server on the loopback, a store with damaged rows, a launcher over the
//! folder of a build that was tampered with. Inputs are text where they can be, cut by lines that say [`CUT`].

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a target panics where something is wrong"
)]

mod folder;
mod git;
mod mutate;
mod records;
mod rules;
mod script;
mod url;

pub use folder::build_folder;
pub use git::{git_daemon, git_http};
pub use mutate::mutations;
pub use records::stored_records;
pub use script::script_output;
pub use url::git_url;

/// A target: true if the bytes meant something, so that a kept example of something good does not silently turn bad.
pub type Target = fn(&[u8]) -> bool;

/// Every target by its name, which is also the name of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("build_folder", build_folder),
    ("git_daemon", git_daemon),
    ("git_http", git_http),
    ("git_url", git_url),
    ("script_output", script_output),
    ("stored_records", stored_records),
];

/// The line between the parts of an input.
pub const CUT: &str = "--8<--";

/// What no error, no log and no name may repeat.
const SECRET: &str = "hunter2-correct-horse";
/// The same as HTTP sends it, after `robot:`.
const SECRET_AS_SENT: &str = "cm9ib3Q6aHVudGVyMi1jb3JyZWN0LWhvcnNl";

/// The parts of an input, between the lines that say [`CUT`].
fn parts(data: &[u8]) -> Vec<&[u8]> {
    let mark = format!("\n{CUT}\n").into_bytes();
    let mut parts = Vec::new();
    let mut rest = data;
    while let Some(at) = rest.windows(mark.len()).position(|w| w == mark) {
        parts.push(&rest[..at]);
        rest = &rest[at + mark.len()..];
    }
    parts.push(rest);
    parts
}

/// What every error owes: a bounded text that says something, without control characters that could play tricks on a
/// terminal, and without secrets.
#[track_caller]
fn is_decent(error: &capomastro_core::Error) {
    let report = error.report();
    assert!(!report.is_empty() && report.len() < 8_192, "{} bytes: {report}", report.len());
    assert!(!report.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{report:?}");
    says_no_secret(&report);
    says_no_secret(&format!("{error:?}"));
}

#[track_caller]
fn says_no_secret(text: &str) {
    assert!(!text.contains(SECRET) && !text.contains(SECRET_AS_SENT), "a secret is told: {text}");
}
