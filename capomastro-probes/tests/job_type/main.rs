//! Job types: real branches of each kind, checked out, looked with, shared and swept.
#![allow(clippy::unwrap_used, reason = "tests")]

mod branches;
mod conformance;
mod killed;
mod kinds;
mod looking;
mod sharing;
mod support;
