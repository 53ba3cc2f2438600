//! The launcher against the double of a server: what happens to launches, builds and jobs while nobody looks.

#![allow(clippy::unwrap_used, reason = "tests")]

mod cost;
mod desk;
mod jobs;
mod launching;
mod output;
mod refused;
mod restarts;
mod stopping;
mod twins;
