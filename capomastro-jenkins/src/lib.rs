//! Launches and follows builds on Jenkins, for Capomastro.

mod address;
mod credentials;
mod http;

pub use credentials::Credentials;
