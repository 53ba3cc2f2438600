//! Revision probes for Capomastro: git and scripts.

#[cfg(feature = "git")]
pub mod git;
pub mod script;
