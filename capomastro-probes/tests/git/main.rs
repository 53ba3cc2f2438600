//! The git probe against real repositories, servers and programs.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests too")]

mod asking;
mod conformance;
mod cost;
mod credentials;
mod file;
mod hostile;
mod inetd;
mod program;
mod repo;
mod runner;
mod ssh;
mod story;
mod web;
