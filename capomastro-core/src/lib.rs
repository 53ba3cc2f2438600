//! Rebuild software only when its source changed.
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
pub mod store;
pub mod time;
pub mod track;
pub mod why;

pub use async_trait::async_trait;
pub use error::{Error, ErrorKind, Result, Retry};
pub use memory::InMemoryStore;
pub use scheduler::Scheduler;
