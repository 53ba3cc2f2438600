//! The configuration of a bzr source: what people write, and what it means.

use super::key::Remote;
use crate::remote::{
    login::{Login, MAX_NAME, by_reference, check_text},
    ssh::check_known_hosts,
};
use capomastro_core::{Error, Result, model::Source, secret::SecretRef};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest name of a colocated branch, in bytes.
const MAX_BRANCH: usize = 300;

/// Where a bzr dependency comes from: the place of a branch.
///
/// Written as JSON it is `{"url": "https://example.org/lib/trunk"}`. `branch` names one of several branches that are
/// colocated at one place.
///
/// ```
/// use capomastro_probes::bzr::BzrSource;
/// let source = BzrSource::new("https://example.org/lib/trunk").login("robot", "forge-token").source("bzr")?;
/// # assert_eq!(source.config["password"]["secret"], "forge-token");
/// # Ok::<(), capomastro_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BzrSource {
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "by_reference")]
    password: Option<SecretRef>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "by_reference")]
    ssh_key: Option<SecretRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    known_hosts: Option<String>,
}

impl BzrSource {
    /// The branch at `url`: an absolute path, or a `file`, `http`, `https`, `bzr`, `bzr+ssh` or `lp` URL. Credentials do
    /// not belong into it.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            branch: None,
            username: None,
            password: None,
            ssh_key: None,
            known_hosts: None,
        }
    }

    /// Follows the branch of this name among those that are colocated there.
    #[must_use]
    pub fn branch(mut self, name: impl Into<String>) -> Self {
        self.branch = Some(name.into());
        self
    }

    /// Logs in to an HTTP server as `username` with the password or token in the secret of this name.
    #[must_use]
    pub fn login(mut self, username: impl Into<String>, password_secret: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self.password = Some(SecretRef::new(password_secret));
        self
    }

    /// Logs in to an SSH server with the private key in the secret of this name, and with no other.
    #[must_use]
    pub fn ssh_key(mut self, secret: impl Into<String>) -> Self {
        self.ssh_key = Some(SecretRef::new(secret));
        self
    }

    /// Trusts the SSH servers in this text, in the form of `ssh-keyscan`, and no others.
    #[must_use]
    pub fn known_hosts(mut self, lines: impl Into<String>) -> Self {
        self.known_hosts = Some(lines.into());
        self
    }

    /// The source, for the bzr probe that is registered as `probe`.
    ///
    /// # Errors
    /// [`InvalidConfig`](capomastro_core::ErrorKind::InvalidConfig) if the probe would refuse it.
    pub fn source(self, probe: &str) -> Result<Source> {
        self.check()?;
        Source::new(probe, self)
    }

    /// What the configuration means.
    pub(super) fn check(&self) -> Result<Spec> {
        let remote = Remote::parse(&self.url)?;
        if !matches!(remote, Remote::Http(_)) && (self.username.is_some() || self.password.is_some()) {
            return Err(Error::config(
                "username and password are for http and https only: for ssh write the user into the URL and give \
                 ssh_key; drop them otherwise",
            ));
        }
        if !matches!(remote, Remote::Ssh { .. }) && (self.ssh_key.is_some() || self.known_hosts.is_some()) {
            return Err(Error::config("ssh_key and known_hosts are for bzr+ssh only: drop them"));
        }
        if let Some(name) = &self.branch {
            check_branch(name)?;
            if matches!(remote, Remote::Bzr { .. } | Remote::Ssh { .. }) {
                return Err(Error::config(
                    "bzr servers do not tell colocated branches apart: reach them by path or http",
                ));
            }
        }
        if let Some(key) = &self.ssh_key {
            check_text("ssh_key", &key.secret, MAX_NAME)?;
        }
        if let Some(hosts) = &self.known_hosts {
            check_known_hosts(hosts)?;
        }
        Ok(Spec {
            remote,
            branch: self.branch.clone(),
            login: Login::check(self.username.as_ref(), self.password.as_ref())?,
            ssh_key: self.ssh_key.clone(),
            known_hosts: self.known_hosts.clone(),
        })
    }
}

fn check_branch(name: &str) -> Result<()> {
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if name.len() > MAX_BRANCH
        || name.chars().any(|c| c.is_control() || matches!(c, ',' | '\\'))
        || !name.split('/').all(is_plain)
    {
        return Err(Error::config(
            "branch is the name of a colocated branch, without control characters, commas, backslashes and empty parts, \
             of at most 300 bytes: give one",
        )
        .with_context("branch", name.chars().take(MAX_BRANCH).collect::<String>().escape_debug()));
    }
    Ok(())
}

/// Shows neither the URL, into which somebody may have written a password, nor the known hosts.
impl fmt::Debug for BzrSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remote = Remote::parse(&self.url).map_or_else(|_| "not acceptable".into(), |r| r.canonical());
        f.debug_struct("BzrSource")
            .field("remote", &remote)
            .field("branch", &self.branch)
            .field("username", &self.username)
            .field("password", &self.password)
            .field("ssh_key", &self.ssh_key)
            .finish_non_exhaustive()
    }
}

/// A configuration that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) remote: Remote,
    pub(super) branch: Option<String>,
    pub(super) login: Option<Login>,
    pub(super) ssh_key: Option<SecretRef>,
    pub(super) known_hosts: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use capomastro_core::ErrorKind;
    use serde_json::json;

    fn check(config: serde_json::Value) -> Result<Spec> {
        Source { probe: "bzr".parse()?, config }.parse::<BzrSource>()?.check()
    }

    #[test]
    fn what_is_not_acceptable_is_refused_with_what_to_do() {
        for (config, said) in [
            (json!({"url": "/r", "branch": ""}), "colocated"),
            (json!({"url": "/r", "branch": "a/../b"}), "colocated"),
            (json!({"url": "/r", "branch": "a\nb"}), "colocated"),
            (json!({"url": "/r", "branch": "a,b=c"}), "colocated"),
            (json!({"url": "bzr://h/r", "branch": "a"}), "colocated"),
            (json!({"url": "/r", "revno": 3}), "unknown field `revno`"),
            (json!({"branch": "main"}), "missing field `url`"),
            (json!({"url": "/r", "username": "u", "password": {"secret": "s"}}), "http"),
            (json!({"url": "https://h/r", "username": "u"}), "belong together"),
            (json!({"url": "https://h/r", "username": "u", "password": "hunter2"}), "by reference"),
            (json!({"url": "https://h/r", "ssh_key": {"secret": "s"}}), "bzr+ssh only"),
            (json!({"url": "bzr+ssh://h/r", "known_hosts": ""}), "known_hosts"),
        ] {
            let e = check(config.clone()).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{config}");
            assert!(e.report().contains(said), "{config}: {}", e.report());
            assert!(!e.report().contains("hunter2"), "{}", e.report());
        }
    }

    #[test]
    fn the_builder_writes_what_is_read_back() {
        let built = BzrSource::new("bzr+ssh://bzr@h/r").ssh_key("k").known_hosts("h x y");
        let source = built.clone().source("bzr").unwrap();
        assert_eq!(
            source.config,
            json!({"url": "bzr+ssh://bzr@h/r", "ssh_key": {"secret": "k"}, "known_hosts": "h x y"})
        );
        assert_eq!(source.parse::<BzrSource>().unwrap(), built);
        let source = BzrSource::new("https://u:hunter2@h/r");
        assert!(!format!("{source:?}").contains("hunter2"), "{source:?}");
    }
}
