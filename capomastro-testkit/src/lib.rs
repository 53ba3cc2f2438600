//! Fakes for testing what embeds or extends Capomastro.
pub mod fakes;
