//! Commands on this machine, and builds as local processes, for Capomastro.
//!
//! - [`ProcessRunner`] runs a [`Command`](capomastro_core::command::Command) to its end, in a process group of its own
//!   that is ended at the deadline, at too much output, and when the caller loses interest.
//! - [`CommandLauncher`] builds with processes on this machine. A build has a folder of its own and a small supervisor
//!   that outlives the scheduler, so that a scheduler which is restarted, or killed, finds the build again by its launch
//!   key, with log, artifacts and exit status.
//!
//! ```
//! use capomastro_core::command::{Command, CommandRunner, Exit};
//! use capomastro_process::{CommandLauncher, ProcessRunner};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> capomastro_core::Result<()> {
//! let output = ProcessRunner::new().run(&Command::new("echo").arg("hello")).await?;
//! assert_eq!((output.exit, &output.stdout[..]), (Exit::Code(0), &b"hello\n"[..]));
//!
//! let launcher = CommandLauncher::builder("/var/lib/capomastro/builds").build()?;
//! # drop(launcher);
//! # Ok(())
//! # }
//! ```
//!
//! Both need a Tokio runtime with its I/O driver enabled. [`ProcessRunner`] works on any Unix; [`CommandLauncher`] needs
//! Linux, since it tells processes apart by what `/proc` says of them.

mod fault;
mod group;
mod handed;
mod program;
mod runner;

#[cfg(target_os = "linux")]
mod artifacts;
#[cfg(target_os = "linux")]
mod builder;
#[cfg(target_os = "linux")]
mod enclosure;
#[cfg(target_os = "linux")]
mod environment;
#[cfg(target_os = "linux")]
mod folder;
#[cfg(target_os = "linux")]
mod job;
#[cfg(target_os = "linux")]
mod launch;
#[cfg(target_os = "linux")]
mod launcher;
#[cfg(target_os = "linux")]
mod output;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod result;
#[cfg(target_os = "linux")]
mod retention;
#[cfg(target_os = "linux")]
mod root;
#[cfg(target_os = "linux")]
mod supervise;

#[cfg(target_os = "linux")]
pub use builder::CommandLauncherBuilder;
#[cfg(target_os = "linux")]
pub use enclosure::{Enclosure, Left, STOP_PIPE, Site};
#[cfg(target_os = "linux")]
pub use job::{CommandJob, EnvValue};
#[cfg(target_os = "linux")]
pub use launcher::CommandLauncher;
pub use runner::ProcessRunner;

/// What the README shows is compiled, and run where it can be.
#[cfg(all(doctest, target_os = "linux"))]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;
