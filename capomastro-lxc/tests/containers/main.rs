//! The runner and the launcher, in real containers.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod building;
mod builds;
mod conformance;
mod crashing;
mod ending;
mod hostile;
mod inside;
mod network;
mod stopping;
mod support;
mod sweeping;
