//! Fakes for testing what embeds or extends Capomastro, and contracts that an implementation of its traits must keep.
//!
//! - [`fakes`]: a probe, a launcher, a lock, a clock and randomness that do what a test says.
//! - [`mod@store_contract`]: everything that is expected of a [`StateStore`](capomastro_core::store::StateStore), each a test of
//!   its own, by one macro call.

pub mod fakes;
pub mod store_contract;

pub use fakes::{ControllableLauncher, ExpiringLock, ManualClock, ScriptedProbe, SeededRandom};

/// What the README shows is compiled, and run where it can be.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;
