//! Revision probes for Capomastro: git, bzr, hg, svn, URLs and scripts.
//!
//! - `git` (the default feature `git`): `GitProbe` looks at git repositories, mostly in process.
//! - `bzr` (the default feature `bzr`): `BzrProbe` looks at Bazaar (Breezy) branches, mostly in process.
//! - `hg` (the default feature `hg`): `HgProbe` looks at Mercurial repositories, mostly in process.
//! - `svn` (the default feature `svn`): `SvnProbe` looks at Subversion repositories, mostly in process.
//! - `http` (a default feature): `HttpProbe` looks at single URLs.
//! - `webhook` (the features `webhooks` and `axum`): what forges tell of pushes, as earlier looks.
//! - `job_type` (the default feature `job-types`): `JobTypeProbe` and `JobTypeLauncher`, for scripts that are kept in a
//!   branch and shared by dependencies.
//! - [`script`]: [`ScriptProbe`](script::ScriptProbe) asks scripts, which print a revision or answer true or false.

#[cfg(feature = "bzr")]
pub mod bzr;
#[cfg(feature = "git")]
pub mod git;
#[cfg(feature = "hg")]
pub mod hg;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "job-types")]
pub mod job_type;
#[cfg(feature = "remote")]
#[cfg_attr(
    not(all(feature = "bzr", feature = "git", feature = "hg", feature = "http", feature = "svn")),
    allow(dead_code, reason = "what one kind of source needs, another one does not")
)]
mod remote;
pub mod script;
#[cfg(feature = "svn")]
pub mod svn;
#[cfg(feature = "webhooks")]
pub mod webhook;

/// What the README shows is compiled, and run where it can be.
#[cfg(all(doctest, feature = "git"))]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;
