//! The runner, in real containers.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod conformance;
mod ending;
mod hostile;
mod inside;
mod network;
mod support;
mod sweeping;
