//! Fakes for testing what embeds or extends Capomastro, and contracts that an implementation of its traits must keep.

pub mod fakes;
pub mod store_contract;

pub use fakes::{ControllableLauncher, ExpiringLock, ManualClock, ScriptedProbe, SeededRandom};
