//! Commands inside LXC containers, for Capomastro.
//!
//! [`LxcRunner`] runs each [`Command`](capomastro_core::command::Command) in a fresh container by `lxc-execute`: with a
//! root that it cannot write to, without a network unless it is given one, and with nothing of the caller's environment.
//! Whatever takes a [`CommandRunner`](capomastro_core::command::CommandRunner), a probe say, looks from inside then.
//!
//! [`LxcLauncher`] builds in such containers, each build in one of its own, which outlives the scheduler and is found again
//! by its launch key.
//!
//! Needs Linux, LXC 5 (Debian's packages `lxc`, and `busybox-static` for small roots), root or a map of user ids, and a
//! Tokio runtime with its I/O driver enabled. [`LxcRunner::health`] tells what is missing on a machine.

#![cfg(target_os = "linux")]

mod builder;
mod cgroups;
mod config;
mod health;
mod launcher;
mod network;
mod root;
mod runner;
mod skeleton;
mod state;
mod wrapper;

pub use builder::{Limits, LxcRunnerBuilder};
pub use health::{Health, Problem};
pub use launcher::{Container, LxcJob, LxcLauncher, LxcLauncherBuilder};
pub use network::{AddressRange, Network};
pub use root::Root;
pub use runner::LxcRunner;

/// What the README shows is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;
