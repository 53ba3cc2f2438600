//! The shell step of a template, really run: real git, real folders, real signals, real containers.
#![allow(clippy::unwrap_used, reason = "tests")]

mod agent;
mod containers;
mod direct;
mod probes;
