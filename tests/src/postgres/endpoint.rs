//! Where a server is reached.

use std::fmt;

/// The superuser of every cluster.
pub const SUPERUSER: &str = "capomastro";

/// Its password where one is asked for: with characters that a URL must escape.
pub(super) const PASSWORD: &str = "pass/word@1";

/// A server, or something before one, that speaks PostgreSQL's protocol at a port of the loopback interface.
#[derive(Clone)]
pub struct Endpoint {
    port: u16,
    password: Option<&'static str>,
}

impl Endpoint {
    pub(super) fn new(port: u16, password: Option<&'static str>) -> Self {
        Self { port, password }
    }

    /// The same server through another port.
    pub(super) fn through(&self, port: u16) -> Self {
        Self { port, ..self.clone() }
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The password of [`SUPERUSER`], if one is asked for.
    #[must_use]
    pub fn password(&self) -> Option<&'static str> {
        self.password
    }

    /// Where this database is, for [`SUPERUSER`], with the password if one is needed.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.url_at("127.0.0.1", database)
    }

    /// The same by another name of this host.
    #[must_use]
    pub fn url_at(&self, host: &str, database: &str) -> String {
        let password = self.password.map(|p| format!(":{}", escaped(p))).unwrap_or_default();
        format!("postgres://{SUPERUSER}{password}@{host}:{}/{database}", self.port)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("port", &self.port).finish_non_exhaustive()
    }
}

fn escaped(text: &str) -> String {
    let escape = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(b).to_string(),
        _ => format!("%{b:02X}"),
    };
    text.bytes().map(escape).collect()
}
