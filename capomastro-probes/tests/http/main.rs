//! The URL probe against a real web server.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests too")]

mod conformance;
mod server;
mod story;
