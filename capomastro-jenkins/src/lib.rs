//! Launches and follows builds on Jenkins, for Capomastro.

mod address;
mod credentials;
mod http;
pub mod notify;
pub mod template;

pub use credentials::Credentials;
