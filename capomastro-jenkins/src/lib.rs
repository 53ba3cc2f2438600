//! Launches and follows builds on Jenkins, for Capomastro.
//!
//! [`JenkinsLauncher`] launches a build once, whatever becomes of the answer, and follows it to its end: through queue,
//! restarts and crashes of the server, with its log, artifacts and the revision that it has really built.
//!
//! ```
//! use capomastro_core::secret::{FixedSecrets, Secrets};
//! use capomastro_jenkins::{Credentials, JenkinsJob, JenkinsLauncher};
//! use std::sync::Arc;
//!
//! # fn main() -> capomastro_core::Result<()> {
//! let secrets = Secrets::new(Arc::new(FixedSecrets::default().with("jenkins", "11aa…")));
//! let launcher = JenkinsLauncher::builder("https://ci.example.org/jenkins/")
//!     .credentials(Credentials::token("capomastro", "jenkins"), secrets)
//!     .build()?;
//! let job: serde_json::Value = JenkinsJob::new("team/libfoo").into();
//! # drop((launcher, job));
//! # Ok(())
//! # }
//! ```
//!
//! Beside it: [`template`] and [`jobs`] (jobs as Capomastro needs them, made and kept up to date), [`notify`] (a server's
//! messages make looks come earlier), [`probe`] (a job that says what a source is at). A launcher hands out
//! [`jobs`](JenkinsLauncher::jobs) and a [`probe`](JenkinsLauncher::probe) of its server, with its connections and limits.

mod address;
mod artifacts;
mod builder;
mod cancel;
mod canonical;
mod console;
mod credentials;
mod ended;
mod extras;
mod find;
mod http;
mod job;
pub mod jobs;
mod launch;
mod launcher;
mod memo;
mod memory;
pub mod notify;
mod observe;
mod output;
pub mod probe;
mod read;
mod records;
mod reference;
mod stand;
mod sweep;
pub mod template;
mod wire;

pub use builder::JenkinsLauncherBuilder;
pub use credentials::Credentials;
pub use job::{Artifacts, Built, JenkinsJob, ParameterValue};
pub use launcher::JenkinsLauncher;

/// What the README shows is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;
