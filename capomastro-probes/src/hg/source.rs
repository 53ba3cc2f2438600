//! The configuration of a hg source: what people write, and what it means.

use super::{heads::Name, key::Remote};
use crate::remote::{
    login::{Login, MAX_NAME, by_reference, check_text},
    ssh::check_known_hosts,
};
use capomastro_core::{Error, Result, model::Source, secret::SecretRef};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest name of a branch or bookmark, in bytes.
const MAX_LABEL: usize = 300;
/// The branch that is followed where none is named.
const DEFAULT: &str = "default";

/// Where an hg dependency comes from: a repository, and a branch or a bookmark in it.
///
/// Written as JSON it is `{"url": "https://example.org/lib", "branch": "stable"}`. Without `branch` and `bookmark` it is the
/// branch `default`.
///
/// ```
/// use capomastro_probes::hg::HgSource;
/// let source = HgSource::new("https://example.org/lib").bookmark("next").login("robot", "forge-token").source("hg")?;
/// # assert_eq!(source.config["password"]["secret"], "forge-token");
/// # Ok::<(), capomastro_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HgSource {
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bookmark: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "by_reference")]
    password: Option<SecretRef>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "by_reference")]
    ssh_key: Option<SecretRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    known_hosts: Option<String>,
}

impl HgSource {
    /// The branch `default` of the repository at `url`: an absolute path, or a `file`, `http`, `https` or `ssh` URL as hg
    /// takes it (`ssh://host//absolute/path`). Credentials do not belong into it.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            branch: None,
            bookmark: None,
            username: None,
            password: None,
            ssh_key: None,
            known_hosts: None,
        }
    }

    /// Follows the branch of this name.
    #[must_use]
    pub fn branch(mut self, name: impl Into<String>) -> Self {
        self.branch = Some(name.into());
        self
    }

    /// Follows the bookmark of this name.
    #[must_use]
    pub fn bookmark(mut self, name: impl Into<String>) -> Self {
        self.bookmark = Some(name.into());
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

    /// The source, for the hg probe that is registered as `probe`.
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
            return Err(Error::config("ssh_key and known_hosts are for ssh only: drop them"));
        }
        let name = match (&self.branch, &self.bookmark) {
            (Some(_), Some(_)) => {
                return Err(Error::config("branch and bookmark are both given: one of them is followed"));
            }
            (None, Some(name)) => Name::Bookmark(name.clone()),
            (Some(name), None) => Name::Branch(name.clone()),
            (None, None) => Name::Branch(DEFAULT.into()),
        };
        check_name(&name)?;
        if let Some(key) = &self.ssh_key {
            check_text("ssh_key", &key.secret, MAX_NAME)?;
        }
        if let Some(hosts) = &self.known_hosts {
            check_known_hosts(hosts)?;
        }
        Ok(Spec {
            remote,
            name,
            login: Login::check(self.username.as_ref(), self.password.as_ref())?,
            ssh_key: self.ssh_key.clone(),
            known_hosts: self.known_hosts.clone(),
        })
    }
}

fn check_name(name: &Name) -> Result<()> {
    let text = name.text();
    let is_refused = |c: char| c.is_control() || c == ':';
    if text.is_empty()
        || text.len() > MAX_LABEL
        || text.trim() != text
        || text.chars().any(is_refused)
        || text.bytes().all(|b| b.is_ascii_digit())
    {
        return Err(Error::config(
            "branch and bookmark are names of at most 300 bytes that hg allows: without colons, control characters and \
             blanks at their ends, and not a number alone",
        )
        .with_context("name", text.chars().take(MAX_LABEL).collect::<String>().escape_debug()));
    }
    Ok(())
}

/// Shows neither the URL, into which somebody may have written a password, nor the known hosts.
impl fmt::Debug for HgSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remote = Remote::parse(&self.url).map_or_else(|_| "not acceptable".into(), |r| r.canonical());
        f.debug_struct("HgSource")
            .field("remote", &remote)
            .field("branch", &self.branch)
            .field("bookmark", &self.bookmark)
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
    pub(super) name: Name,
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
        Source { probe: "hg".parse()?, config }.parse::<HgSource>()?.check()
    }

    #[test]
    fn what_is_not_acceptable_is_refused_with_what_to_do() {
        for (config, said) in [
            (json!({"url": "/r", "branch": ""}), "names of"),
            (json!({"url": "/r", "branch": "12"}), "names of"),
            (json!({"url": "/r", "bookmark": "a\nb"}), "names of"),
            (json!({"url": "/r", "bookmark": "a:b"}), "names of"),
            (json!({"url": "/r", "bookmark": " a"}), "names of"),
            (json!({"url": "/r", "bookmark": "a", "branch": "b"}), "one of them"),
            (json!({"url": "/r", "revno": 3}), "unknown field `revno`"),
            (json!({"branch": "main"}), "missing field `url`"),
            (json!({"url": "/r", "username": "u", "password": {"secret": "s"}}), "http"),
            (json!({"url": "https://h/r", "username": "u"}), "belong together"),
            (json!({"url": "https://h/r", "username": "u", "password": "hunter2"}), "by reference"),
            (json!({"url": "https://h/r", "ssh_key": {"secret": "s"}}), "ssh only"),
            (json!({"url": "ssh://h/r", "known_hosts": ""}), "known_hosts"),
        ] {
            let e = check(config.clone()).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{config}");
            assert!(e.report().contains(said), "{config}: {}", e.report());
            assert!(!e.report().contains("hunter2"), "{}", e.report());
        }
    }

    #[test]
    fn the_builder_writes_what_is_read_back() {
        let built = HgSource::new("ssh://hg@h//r").ssh_key("k").known_hosts("h x y");
        let source = built.clone().source("hg").unwrap();
        assert_eq!(
            source.config,
            json!({"url": "ssh://hg@h//r", "ssh_key": {"secret": "k"}, "known_hosts": "h x y"})
        );
        assert_eq!(source.parse::<HgSource>().unwrap(), built);
        let source = HgSource::new("https://u:hunter2@h/r");
        assert!(!format!("{source:?}").contains("hunter2"), "{source:?}");
    }
}
