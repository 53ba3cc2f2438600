//! What people and services ask of a scheduler.

mod ask;
mod control;
mod define;
mod follow;
mod projects;
mod spec;
mod status;

pub use ask::{TriggerRequest, WholeBuild, WholeBuildRequest};
pub use control::{Cancelled, Withdrawn};
pub use define::Applied;
pub use follow::EventStream;
pub use spec::DependencySpec;
pub use status::{DependencyStatus, Preview, ProjectStatus};
