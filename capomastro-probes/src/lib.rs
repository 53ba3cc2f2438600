//! Revision probes for Capomastro: git and scripts.
//!
//! - `git` (the default feature `git`): `GitProbe` looks at git repositories, mostly in process.
//! - [`script`]: [`ScriptProbe`](script::ScriptProbe) asks scripts, which print a revision or answer true or false.

#[cfg(feature = "git")]
pub mod git;
pub mod script;

/// What the README shows is compiled, and run where it can be.
#[cfg(all(doctest, feature = "git"))]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;
