//! The words of the library as data: no I/O, no decisions.

mod build;
mod dependency;
mod ids;
mod names;
mod policy;
mod project;
mod receipt;
mod revision;
mod state;

pub use build::*;
pub use dependency::*;
pub use ids::*;
pub use names::*;
pub use policy::*;
pub use project::*;
pub use receipt::*;
pub(crate) use revision::cut;
pub use revision::*;
pub use state::*;
