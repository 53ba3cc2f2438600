//! What repositories behind a network share, whatever their kind: URLs, credentials, HTTP, ssh.

pub(crate) mod http;
pub(crate) mod login;
pub(crate) mod ssh;
pub(crate) mod text;
pub(crate) mod url;
