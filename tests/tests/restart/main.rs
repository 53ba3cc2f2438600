//! The whole chain on real parts: scheduler processes over one SQLite file, git repositories and local builds, killed at
//! any moment and started again.
#![allow(clippy::unwrap_used, reason = "tests")]

mod ahead;
mod checks;
mod deadly;
mod killed;
mod loops;
mod process;
mod shared;
mod stopped;
mod walked;
mod world;
