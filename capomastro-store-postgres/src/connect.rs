//! From a connection string to a pool.

use crate::{
    error,
    tls::{self, Roots},
};
use capomastro_core::{Error, Result};
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use std::{fmt::Write as _, net::IpAddr, path::PathBuf, time::Duration};
use tokio_postgres::{
    Config,
    config::{Host, SslMode, TargetSessionAttrs},
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long a connection may take to come about, and a silent one to be noticed: less than any lease.
pub(crate) const SILENCE: Duration = Duration::from_secs(10);

/// The parts of a connection string.
#[derive(Debug)]
struct Parts {
    /// What the client understands.
    rest: String,
    tls: Option<bool>,
    roots: Option<PathBuf>,
}

/// Takes out what says how TLS is verified: the client knows fewer words for it than `psql` does.
fn split(text: &str) -> Result<Parts> {
    let mut parts = Parts { rest: String::new(), tls: None, roots: None };
    let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
    if is_url {
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        parts.rest.push_str(base);
        let mut separator = '?';
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8_lossy();
            if !parts.take(name, &value)? {
                parts.rest.push(separator);
                parts.rest.push_str(pair);
                separator = '&';
            }
        }
    } else {
        for word in words(text) {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            if !parts.take(name.trim(), value.trim().trim_matches('\''))? {
                parts.rest.push_str(word);
                parts.rest.push(' ');
            }
        }
    }
    Ok(parts)
}

impl Parts {
    fn take(&mut self, name: &str, value: &str) -> Result<bool> {
        match (name, value) {
            ("sslmode", "disable") => self.tls = Some(false),
            ("sslmode", "require" | "verify-ca" | "verify-full") => self.tls = Some(true),
            // Whether TLS is spoken is not left to the server.
            ("sslmode", "allow" | "prefer" | "") => {}
            ("sslmode", _) => {
                return Err(Error::config("this sslmode is not known: say disable or verify-full"));
            }
            ("sslrootcert", "system") => self.roots = None,
            ("sslrootcert", path) => self.roots = Some(path.into()),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The words of a string of `name=value`, in which quotes keep spaces together.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\'' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => {
                words.push(&text[start..at]);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    words.push(&text[start..]);
    words.retain(|word| !word.is_empty());
    words
}

/// What was said about the way to the database.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) text: SecretString,
    pub(crate) password: Option<SecretString>,
    pub(crate) roots: Option<PathBuf>,
    pub(crate) behind_pooler: bool,
    pub(crate) deadline: Duration,
}

/// How connections are made.
#[derive(Clone)]
pub(crate) struct Connect {
    pub(crate) config: Config,
    pub(crate) tls: MakeRustlsConnect,
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect").field("server", &self.server()).finish_non_exhaustive()
    }
}

impl Connect {
    /// Reads what was said.
    ///
    /// # Errors
    /// [`InvalidConfig`](capomastro_core::ErrorKind::InvalidConfig). What was said is not repeated: a password may be in it.
    pub(crate) fn new(way: &Way) -> Result<Self> {
        let parts = split(way.text.expose_secret())?;
        let mut config: Config = parts.rest.parse().map_err(|_| {
            Error::config(
                "the connection string cannot be read: write postgres://user@host:port/database, with special characters percent-encoded, or host=… user=… dbname=…",
            )
        })?;
        if let Some(password) = &way.password {
            config.password(password.expose_secret());
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(Error::config("the connection string names no host: name the database's host"));
        }
        let roots = if parts.tls.unwrap_or(!is_local(&config)) {
            Some(way.roots.clone().or(parts.roots).map_or(Roots::System, Roots::File))
        } else {
            None
        };
        config.ssl_mode(if roots.is_some() { SslMode::Require } else { SslMode::Disable });
        let tls = tls::connector(roots.as_ref())?;
        defaults(&mut config, way);
        Ok(Self { config, tls })
    }

    /// A pool of at most `size` connections. None is made yet.
    pub(crate) fn pool(&self, size: usize) -> Result<Pool> {
        // A call is one statement, so that no connection comes back inside a transaction; one that may is thrown away.
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(self.config.clone(), self.tls.clone(), recycling);
        Pool::builder(manager)
            .max_size(size)
            .build()
            .map_err(|e| Error::internal("the pool cannot be made: report this").with_source(e))
    }

    /// Where the database is, without secrets.
    pub(crate) fn server(&self) -> String {
        server(&self.config)
    }
}

/// Where a database is, without secrets.
pub(crate) fn server(config: &Config) -> String {
    let mut text = String::new();
    let ports = config.get_ports();
    for (n, host) in config.get_hosts().iter().enumerate() {
        let port = ports.get(n).or(ports.first()).copied().unwrap_or(5432);
        let separator = if n == 0 { "" } else { "," };
        // Writing into a text cannot fail.
        match host {
            Host::Tcp(name) => write!(text, "{separator}{name}:{port}"),
            #[cfg(unix)]
            Host::Unix(folder) => write!(text, "{separator}{}:{port}", folder.display()),
        }
        .ok();
    }
    text.push('/');
    text.push_str(config.get_dbname().or(config.get_user()).unwrap_or_default());
    text
}

fn is_local(config: &Config) -> bool {
    let local = |host: &Host| match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        #[cfg(unix)]
        Host::Unix(_) => true,
    };
    config.get_hosts().iter().all(local) && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

/// What is not said gets a value with which nothing hangs for ever.
fn defaults(config: &mut Config, way: &Way) {
    if config.get_application_name().is_none() {
        config.application_name("capomastro");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(SILENCE / 2);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(SILENCE);
    }
    config
        .keepalives(true)
        .keepalives_idle(SILENCE / 2)
        .keepalives_interval(Duration::from_secs(2))
        .keepalives_retries(3);
    if config.get_hosts().len() > 1 && config.get_target_session_attrs() == TargetSessionAttrs::Any {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    // A pooler refuses options of a session that it does not know.
    if !way.behind_pooler {
        let given = config.get_options().unwrap_or_default();
        let options = format!(
            "-c statement_timeout={} -c idle_in_transaction_session_timeout={} {given}",
            way.deadline.as_millis(),
            SILENCE.as_millis(),
        );
        config.options(options.trim_end());
    }
}

/// The error of a pool that gives no connection.
pub(crate) fn pool_error(e: deadpool_postgres::PoolError) -> Error {
    match e {
        deadpool_postgres::PoolError::Backend(e) => error::error(e),
        deadpool_postgres::PoolError::Closed => error::closed(),
        other => Error::transient(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capomastro_core::ErrorKind;

    fn way(text: &str) -> Way {
        Way {
            text: text.into(),
            password: None,
            roots: None,
            behind_pooler: false,
            deadline: Duration::from_secs(10),
        }
    }

    #[test]
    fn tls_is_spoken_unless_the_host_is_this_one_or_somebody_says_no() {
        for (text, tls) in [
            ("postgres://u@localhost/d", false),
            ("postgres://u@127.0.0.1:5433/d", false),
            ("postgres://u@[::1]/d", false),
            ("host=/run/postgresql user=u", false),
            ("postgres://u@db.example.org/d?sslmode=disable", false),
            ("host=db.example.org user=u sslmode=disable", false),
        ] {
            let made = Connect::new(&way(text)).unwrap();
            assert_eq!(made.config.get_ssl_mode() == SslMode::Require, tls, "{text}");
        }
        let folder = std::env::temp_dir().join("no-such-file.pem");
        for text in [
            "postgres://u@localhost/d?sslmode=verify-full",
            "postgres://u@db.example.org/d",
            "postgres://u@db.example.org/d?sslmode=prefer",
            "postgres://u@localhost,db.example.org/d",
            "host=localhost sslmode=require",
            "host=db.example.org",
        ] {
            let mut way = way(text);
            way.roots = Some(folder.clone());
            let e = Connect::new(&way).unwrap_err();
            assert!(e.message().contains("root certificates cannot be read"), "{text}: {e}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_being_repeated() {
        for text in [
            "",
            "postgres://u:hunter2@",
            "postgres://u:hunter2@h:99999999/d",
            "postgres://u:hunter2@localhost/d?nonsense=hunter2",
            "password=hunter2",
            "host=localhost password='hunter2",
            "host=localhost port=hunter2",
            "postgres://u:hunter2@localhost/d?sslmode=hunter2",
        ] {
            let e = Connect::new(&way(text)).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{text}");
            assert!(e.message().contains(": "), "says what to do: {e}");
            assert!(!format!("{e:?}{e}").contains("hunter2"), "{e:?}");
        }
    }

    #[test]
    fn our_words_are_taken_out_and_the_others_kept() {
        let parts =
            split("postgres://u:p%26@h/d?sslmode=verify-full&connect_timeout=3&sslrootcert=%2Fa%20b.pem")
                .unwrap();
        assert_eq!(parts.rest, "postgres://u:p%26@h/d?connect_timeout=3");
        assert_eq!((parts.tls, parts.roots), (Some(true), Some("/a b.pem".into())));
        let parts =
            split("host=h  password='a sslmode=disable \\' b' sslmode=require sslrootcert='/a b'").unwrap();
        assert_eq!(parts.rest.trim(), "host=h password='a sslmode=disable \\' b'");
        assert_eq!((parts.tls, parts.roots), (Some(true), Some("/a b".into())));
    }

    #[test]
    fn the_place_is_named_without_secrets() {
        let made = Connect::new(&way("postgres://me:hunter2@localhost:5433/builds")).unwrap();
        assert_eq!(made.server(), "localhost:5433/builds");
        assert!(!format!("{made:?}").contains("hunter2"));
    }
}
