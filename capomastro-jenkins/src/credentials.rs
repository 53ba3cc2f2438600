//! Who we are to a server.

use capomastro_core::secret::SecretRef;
use serde::{Deserialize, Serialize};

/// Who asks, as the server knows it. The value of a secret is fetched from the launcher's resolver for each request, so
/// that a token can be changed while builds go on.
///
/// The user needs Overall/Read and, on the jobs, Job/Read, Job/Build and Job/Cancel. Run/Update lets a running build's
/// record survive a crash of Jenkins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Credentials {
    /// A user and an API token of that user: preferred, since it needs neither a crumb nor a session.
    Token {
        /// The user's id.
        user: String,
        /// The token.
        token: SecretRef,
    },
    /// A user and the password. Each change asks the server for a crumb first, and a session is kept with it.
    Password {
        /// The user's id.
        user: String,
        /// The password.
        password: SecretRef,
    },
    /// Nobody: a server that lets everybody in, with or without crumbs.
    Anonymous,
}

impl Credentials {
    /// A user with an API token.
    pub fn token(user: impl Into<String>, token: impl Into<String>) -> Self {
        Self::Token { user: user.into(), token: SecretRef::new(token) }
    }

    /// A user with a password.
    pub fn password(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Password { user: user.into(), password: SecretRef::new(password) }
    }

    pub(crate) fn user_and_secret(&self) -> Option<(&str, &SecretRef)> {
        match self {
            Self::Token { user, token } => Some((user, token)),
            Self::Password { user, password } => Some((user, password)),
            Self::Anonymous => None,
        }
    }

    /// Whether changes need a crumb where the server asks for one.
    pub(crate) const fn needs_crumb(&self) -> bool {
        !matches!(self, Self::Token { .. })
    }
}
