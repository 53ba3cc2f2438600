//! Revision probes for Capomastro: git and scripts.

pub mod script;
