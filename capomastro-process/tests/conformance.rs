//! Builds as processes are what a launcher's builds must be.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

capomastro_testkit::build_launcher_conformance!(processes, harness::Processes::new());
