//! Broken twins of launchers, probes and locks: for each case of their suites one that does right in all but one thing, on
//! which the case goes red.
//!
//! Without them a case that asserts nothing would look like one that always holds. A twin is named by its case: with that
//! flaw a sound fake does one thing otherwise. The tables of cases are walked through as a whole, so a case without a twin
//! meets a fake without a flaw, and that is a failure.

#![allow(clippy::unwrap_used, reason = "tests")]

mod launcher;
mod lock;
mod probe;
mod verdict;
