//! Job types with real schedulers, launchers and containers.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod conformance;
mod containers;
#[path = "../../../capomastro-process/tests/harness/mod.rs"]
mod processes;
mod repository;
mod stories;
