//! Real processes, really killed.
#![allow(clippy::unwrap_used, reason = "tests")]

mod crashing;
mod ending;
mod filling;
mod launching;
mod output;
mod running;
mod support;
