//! The hg probe against real repositories, servers and programs.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests too")]

mod asking;
mod conformance;
mod failing;
mod repo;
mod sshd;
mod stories;
#[path = "../bzr/web.rs"]
#[allow(dead_code, reason = "other tests show files")]
mod web;
