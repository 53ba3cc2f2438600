//! The whole chain on real parts: scheduler processes over one SQLite file, git repositories and local builds, killed at
//! any moment and started again.
#![allow(clippy::unwrap_used, reason = "tests")]

mod ahead;
mod broken;
mod chance;
mod checks;
mod deadly;
mod full;
#[allow(clippy::unused_async, reason = "the other store is opened by waiting")]
mod kept;
mod killed;
mod loops;
mod process;
mod shared;
mod stopped;
mod walked;
mod world;

#[allow(dead_code, reason = "the store's own tests use all of it")]
#[path = "../../../capomastro-store-sqlite/tests/disk/shim.rs"]
mod shim;
