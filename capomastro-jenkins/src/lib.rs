//! Launches and follows builds on Jenkins, for Capomastro.

mod address;
mod credentials;
mod http;
pub mod jobs;
pub mod notify;
pub mod probe;
mod server;
pub mod template;

pub use credentials::Credentials;
pub use server::{JenkinsServer, JenkinsServerBuilder};
