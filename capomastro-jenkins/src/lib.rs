//! Launches and follows builds on Jenkins, for Capomastro.

pub mod notify;
pub mod template;
