//! The whole chain on real parts: three scheduler processes over one PostgreSQL, git repositories and local builds, while
//! processes, server and network fail. What is the same over one SQLite file stands in `restart`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fire;
mod followed;
#[allow(clippy::unused_async, reason = "the other store is closed by waiting")]
mod kept;
mod loops;
mod told;
mod watched;

#[allow(dead_code, reason = "a database has a clock of its own")]
#[path = "../restart/ahead.rs"]
mod ahead;
#[path = "../restart/chance.rs"]
mod chance;
#[path = "../restart/checks.rs"]
mod checks;
#[path = "../restart/deadly.rs"]
mod deadly;
#[allow(dead_code, reason = "the other tests use all of it")]
#[path = "../restart/process.rs"]
mod process;
#[allow(dead_code, reason = "the other tests use all of it")]
#[path = "../restart/world.rs"]
mod world;
