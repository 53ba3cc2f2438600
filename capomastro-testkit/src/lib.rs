//! Fakes for testing what embeds or extends Capomastro, and suites that an implementation of its traits must pass.
//!
//! - [`fakes`]: a probe, a launcher, a lock, a clock and randomness that do what a test says.
//! - [`faults`]: a wrapper whose calls fail, are late, are made twice or freeze, from a seed.
//! - [`simulator`]: schedulers over all of these, attacked by dice while every commit is checked.
//! - `jenkins` (feature `jenkins`): a double of a Jenkins server, which speaks real HTTP.
//! - [`conformance`]: everything that is expected of an implementation of a trait, each a test of its own, by one line.

pub mod conformance;
pub mod fakes;
pub mod faults;
#[cfg(feature = "jenkins")]
pub mod jenkins;
pub mod simulator;

pub use fakes::{ControllableLauncher, ExpiringLock, ManualClock, ScriptedProbe, SeededRandom};

/// What the README shows is compiled, and run where it can be.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;
