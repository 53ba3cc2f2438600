//! Job types: branches that hold the scripts which several dependencies share.
//!
//! A job type is a branch of any kind that the probes of this crate look at. Typically it holds a script that tells whether
//! there is something new (`probe`), one that builds (`build`), and what both need:
//!
//! - [`JobTypeProbe`] runs the `probe` script with the facts of a dependency in its environment, and takes what it prints
//!   for the revision, or its exit status for true or false;
//! - [`JobTypeLauncher`] gives the `build` script to another launcher, such as one of local processes or of containers;
//! - [`Checkouts`] keeps what both share: one folder per revision of the branch, on this machine.
//!
//! Each look and each build works with one revision of the branch from its beginning to its end. A build's is kept before
//! it is started, so that a launch that has to be repeated after a crash runs the same scripts.
//!
//! ```
//! use capomastro_probes::{git::GitSource, job_type::{JobType, JobTypeSource}};
//!
//! let python = JobType::Git(GitSource::new("https://example.org/job-types.git").branch("python"));
//! let source = JobTypeSource::changed(python).source("https://example.org/lib").into_source("job-type")?;
//! assert_eq!(source.config["job_type"]["git"]["branch"], "python");
//! # Ok::<(), capomastro_core::Error>(())
//! ```

mod branch;
mod builder;
mod checkouts;
mod folder;
mod job;
mod launcher;
mod measure;
mod pin;
mod probe;
mod room;
mod source;

pub(crate) use branch::Export;
pub use branch::JobType;
pub use builder::CheckoutsBuilder;
pub use checkouts::{Checkout, Checkouts, Swept};
pub use job::{BuildScript, JobTypeJob, command_job, lxc_job};
pub use launcher::{JobTypeLauncher, JobTypeOutput};
pub use probe::JobTypeProbe;
pub use source::JobTypeSource;
