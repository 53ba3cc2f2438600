//! Fakes for testing what embeds or extends Capomastro, and contracts that an implementation of its traits must keep.

pub mod clock;
pub mod store_contract;
