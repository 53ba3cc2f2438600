//! Jobs and probes on a server of which the tests decide each answer.
#![allow(clippy::unwrap_used, reason = "tests")]

mod jobs;
mod looks;
mod mini;
