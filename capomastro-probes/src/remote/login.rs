//! Credentials for HTTP in a source: a user name, and the password by reference.

use super::http::Credentials;
use capomastro_core::{
    Error, Result,
    secret::{SecretRef, Secrets},
};
use serde::{Deserialize, Deserializer, de::Error as _};

/// The longest secret name or user name, in bytes: they are part of the probe key.
pub(crate) const MAX_NAME: usize = 200;

/// How to log in to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) username: String,
    pub(crate) password: SecretRef,
}

impl Login {
    /// What a source says about it.
    pub(crate) fn check(username: Option<&String>, password: Option<&SecretRef>) -> Result<Option<Self>> {
        match (username, password) {
            (Some(user), Some(password)) => {
                check_text("username", user, MAX_NAME)?;
                if user.contains(':') {
                    return Err(Error::config(
                        "the username contains a colon: the password is given as password, by reference",
                    ));
                }
                check_text("password", &password.secret, MAX_NAME)?;
                Ok(Some(Self { username: user.clone(), password: password.clone() }))
            }
            (None, None) => Ok(None),
            _ => Err(Error::config("username and password belong together: give both or none")),
        }
    }

    /// The password itself.
    pub(crate) async fn resolve(&self, secrets: &Secrets) -> Result<Credentials> {
        let password = secrets.resolve(&self.password).await?;
        Ok(Credentials { username: self.username.clone(), password })
    }
}

/// Reads a secret's reference. Serde's own message would repeat a value that was written in its place.
pub(crate) fn by_reference<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SecretRef>, D::Error> {
    let value = Option::<serde_json::Value>::deserialize(from)?;
    let Some(value) = value else { return Ok(None) };
    serde_json::from_value(value).map(Some).map_err(|_| {
        D::Error::custom(r#"credentials are given by reference only: write {"secret": "its name"}"#)
    })
}

/// Checks that text is there, short and printable.
pub(crate) fn check_text(what: &str, text: &str, max: usize) -> Result<()> {
    if text.is_empty() || text.len() > max || text.chars().any(char::is_control) {
        return Err(Error::config(format!(
            "{what} is empty, longer than {max} bytes or contains a control character: give printable text"
        )));
    }
    Ok(())
}
