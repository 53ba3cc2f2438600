//! The bzr probe against real branches, servers and programs.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests too")]

mod asking;
mod branch;
mod conformance;
mod failing;
mod places;
mod program;
mod stories;
mod web;
