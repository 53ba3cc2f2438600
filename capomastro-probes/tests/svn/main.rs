//! The svn probe against real repositories, servers and programs.

#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests too")]

mod apache;
mod asking;
mod conformance;
mod cost;
mod credentials;
mod hostile;
mod local;
mod repo;
#[path = "../git/runner.rs"]
mod runner;
mod schedule;
mod serve;
mod ssh;
mod story;
