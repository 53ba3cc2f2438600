//! Rebuild software only when its source changed.
//!
//! A [`Scheduler`] looks at the sources of dependencies, decides, explainably, what to do, launches at most one build of each
//! dependency at a time, follows it to its end through crashes, and links what was built into projects. It is put together
//! from a store, probes and launchers, which other crates and you implement. This crate has the traits, the rules and the
//! scheduler; it touches neither disk nor network nor processes.
//!
//! # The way of one change
//!
//! | module | what happens there | |
//! |---|---|---|
//! | [`model`] | the words as data | data |
//! | [`schedule`], [`budget`] | when is a look due, and how much may one remote be asked? | pure |
//! | [`probe`] | what is the source at? | trait |
//! | [`detect`] | what does the answer mean? | pure |
//! | [`decide`] | given that, and what is running: what do we do? | pure |
//! | [`lock`] | one build of a dependency at a time | trait |
//! | [`launch`] | ask a build system to build; find the build again; look; stop | trait |
//! | [`track`] | what does a launcher's answer, or its silence, mean for the build? | pure |
//! | [`link`] | which slots does a project build have, and which one is current? | pure |
//! | [`store`] | what is kept, and what one commit holds | trait |
//! | [`memory`] | a store in memory | |
//! | [`scheduler`] | doing all that; and the handle by which people define, ask and read | performs |
//! | [`why`] | why is a dependency not building? | pure |
//!
//! Beside the way: [`events`] (what happened, for whoever listens), [`error`], [`time`] (clocks and randomness, injected),
//! [`command`] (running commands, as data and a trait), [`secret`] (secrets by reference).
//!
//! # Where to start
//!
//! - To embed it: [`Scheduler::builder`], [`scheduler::DependencySpec`], [`Scheduler::run`].
//! - To write a probe: [`probe::probe_fn`], or [`probe::RevisionProbe`].
//! - To drive another build system: [`launch::BuildLauncher`].
//! - To keep state elsewhere: [`store::StateStore`], and the contract in `capomastro-testkit`.
//!
//! The pure modules are public so that what they decide can be tried, shown and tested; nobody has to call them.

pub mod budget;
pub mod command;
pub mod decide;
pub mod detect;
pub mod error;
pub mod events;
pub mod launch;
pub mod link;
pub mod lock;
pub mod memory;
pub mod model;
pub mod probe;
#[cfg(test)]
mod sample;
pub mod schedule;
pub mod scheduler;
pub mod secret;
#[cfg(test)]
mod small_world;
pub mod store;
pub mod time;
pub mod track;
pub mod why;

pub use async_trait::async_trait;
pub use error::{Error, ErrorKind, Result, Retry};
pub use memory::InMemoryStore;
pub use scheduler::Scheduler;

/// What the README shows is compiled, and run where it can be.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;
