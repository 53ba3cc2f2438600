//! Secrets by reference: what is stored names a secret; its value is fetched at the last moment.

use crate::{Error, ErrorKind, Result};
use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// The name of a secret, as it stands in a source or a job: `{"secret": "name"}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretRef {
    /// The name by which the resolver knows it.
    pub secret: String,
}

impl SecretRef {
    /// A reference to the secret of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { secret: name.into() }
    }
}

/// The value of a secret. Never printed: `Debug` shows a placeholder, and there is no `Display`.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// A secret with this value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(SecretString::from(value.into()))
    }

    /// The value, for the one place that sends it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where the values of secrets come from.
#[async_trait]
pub trait SecretResolver: fmt::Debug + Send + Sync + 'static {
    /// The value of a secret, now.
    ///
    /// *Idempotency*: may be called at any time and often. *Cancellation*: leaves nothing behind.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such secret; [`Unavailable`](ErrorKind::Unavailable) if it
    /// cannot be had now.
    async fn resolve(&self, secret: &SecretRef) -> Result<Secret>;
}

/// A resolver that is handed to probes and launchers with each call.
#[derive(Clone, Debug)]
pub struct Secrets(Arc<dyn SecretResolver>);

impl Secrets {
    /// Hands on `resolver`.
    pub fn new(resolver: Arc<dyn SecretResolver>) -> Self {
        Self(resolver)
    }

    /// No secrets at all: every reference is an error that names it.
    pub fn none() -> Self {
        Self(Arc::new(FixedSecrets::default()))
    }

    /// The value of a secret, now.
    ///
    /// # Errors
    /// As [`SecretResolver::resolve`].
    pub async fn resolve(&self, secret: &SecretRef) -> Result<Secret> {
        self.0.resolve(secret).await
    }
}

/// Secrets given at start-up.
#[derive(Clone, Debug, Default)]
pub struct FixedSecrets(BTreeMap<String, Secret>);

impl FixedSecrets {
    /// These secrets and one more.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.insert(name.into(), Secret::new(value));
        self
    }
}

#[async_trait]
impl SecretResolver for FixedSecrets {
    async fn resolve(&self, secret: &SecretRef) -> Result<Secret> {
        self.0.get(&secret.secret).cloned().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "no such secret: add it to the resolver given to the scheduler")
                .with_context("secret", &secret.secret)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secrets = FixedSecrets::default().with("token", "hunter2");
        let text = format!("{secrets:?} {:?}", Secret::new("hunter2"));
        assert!(!text.contains("hunter2"), "{text}");
    }
}
