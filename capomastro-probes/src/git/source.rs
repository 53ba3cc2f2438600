//! The configuration of a git source: what people write, and what it means.

use super::key::Remote;
use crate::remote::{
    login::{Login, MAX_NAME, by_reference, check_text},
    ssh::check_known_hosts,
};
use capomastro_core::{Error, Result, model::Source, secret::SecretRef};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest ref name, in bytes.
const MAX_REF: usize = 500;

/// Where a git dependency comes from: a remote and one of its refs.
///
/// Written as JSON it is `{"url": "https://example.org/lib.git", "branch": "main"}`. At most one of `branch`, `tag` and
/// `ref` is given; without any, the default branch (`HEAD`) is followed.
///
/// ```
/// use capomastro_probes::git::GitSource;
/// let source = GitSource::new("https://example.org/lib.git")
///     .branch("main")
///     .login("robot", "forge-token")
///     .source("git")?;
/// # assert_eq!(source.config["password"]["secret"], "forge-token");
/// # Ok::<(), capomastro_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitSource {
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "ref")]
    reference: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "by_reference")]
    password: Option<SecretRef>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "by_reference")]
    ssh_key: Option<SecretRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    known_hosts: Option<String>,
}

impl GitSource {
    /// The default branch of the remote at `url`: an absolute path, or a `file`, `http`, `https`, `git` or `ssh` URL, or
    /// `user@host:path`. Credentials do not belong into it.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            branch: None,
            tag: None,
            reference: None,
            username: None,
            password: None,
            ssh_key: None,
            known_hosts: None,
        }
    }

    /// Follows a branch, such as `main`, instead.
    #[must_use]
    pub fn branch(mut self, name: impl Into<String>) -> Self {
        (self.branch, self.tag, self.reference) = (Some(name.into()), None, None);
        self
    }

    /// Follows a tag, such as `v1`, instead; an annotated one stands for what it points at.
    #[must_use]
    pub fn tag(mut self, name: impl Into<String>) -> Self {
        (self.branch, self.tag, self.reference) = (None, Some(name.into()), None);
        self
    }

    /// Follows a ref by its whole name, such as `refs/pull/7/head`, instead.
    #[must_use]
    pub fn reference(mut self, name: impl Into<String>) -> Self {
        (self.branch, self.tag, self.reference) = (None, None, Some(name.into()));
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

    /// The source, for the git probe that is registered as `probe`.
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
        let name = self.full_name()?;
        let is_http = matches!(remote, Remote::Http(_));
        let is_ssh = matches!(remote, Remote::Ssh { .. });
        if !is_http && (self.username.is_some() || self.password.is_some()) {
            return Err(Error::config(
                "username and password are for http and https only: for ssh write the user into the URL and \
                 give ssh_key; drop them otherwise",
            ));
        }
        if !is_ssh && (self.ssh_key.is_some() || self.known_hosts.is_some()) {
            return Err(Error::config("ssh_key and known_hosts are for ssh only: drop them"));
        }
        let login = Login::check(self.username.as_ref(), self.password.as_ref())?;
        if let Some(key) = &self.ssh_key {
            check_text("ssh_key", &key.secret, MAX_NAME)?;
        }
        if let Some(hosts) = &self.known_hosts {
            check_known_hosts(hosts)?;
        }
        Ok(Spec { remote, name, login, ssh_key: self.ssh_key.clone(), known_hosts: self.known_hosts.clone() })
    }

    fn full_name(&self) -> Result<String> {
        let name = match (&self.branch, &self.tag, &self.reference) {
            (None, None, None) => return Ok("HEAD".into()),
            (Some(b), None, None) => short("branch", "refs/heads/", b)?,
            (None, Some(t), None) => short("tag", "refs/tags/", t)?,
            (None, None, Some(r)) if r == "HEAD" || r.starts_with("refs/") => r.clone(),
            (None, None, Some(_)) => {
                return Err(Error::config(
                    "ref is the whole name of a ref and starts with refs/: give branch or tag for a short name",
                ));
            }
            _ => {
                return Err(Error::config("give one of branch, tag and ref, or none for the default branch"));
            }
        };
        if name.len() > MAX_REF || gix::validate::reference::name(name.as_str().into()).is_err() {
            return Err(Error::config("this is no name that git allows for a ref: see git check-ref-format")
                .with_context("ref", name.escape_debug()));
        }
        Ok(name)
    }
}

fn short(what: &'static str, prefix: &str, name: &str) -> Result<String> {
    if name.starts_with("refs/") {
        return Err(Error::config(format!(
            "{what} is a short name, without {prefix}: give ref for a whole name"
        ))
        .with_context(what, name.escape_debug()));
    }
    Ok(format!("{prefix}{name}"))
}

/// Shows neither the URL, into which somebody may have written a password, nor the known hosts.
impl fmt::Debug for GitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remote = Remote::parse(&self.url).map_or_else(|_| "not acceptable".into(), |r| r.canonical());
        f.debug_struct("GitSource")
            .field("remote", &remote)
            .field("branch", &self.branch)
            .field("tag", &self.tag)
            .field("ref", &self.reference)
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
    /// The whole name of the ref, or `HEAD`.
    pub(super) name: String,
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
        Source { probe: "git".parse()?, config }.parse::<GitSource>()?.check()
    }

    #[test]
    fn the_ref_is_named_in_full() {
        for (config, name) in [
            (json!({"url": "/r"}), "HEAD"),
            (json!({"url": "/r", "branch": "main"}), "refs/heads/main"),
            (json!({"url": "/r", "branch": "a/b"}), "refs/heads/a/b"),
            (json!({"url": "/r", "branch": "-x"}), "refs/heads/-x"),
            (json!({"url": "/r", "tag": "v1"}), "refs/tags/v1"),
            (json!({"url": "/r", "ref": "refs/pull/7/head"}), "refs/pull/7/head"),
            (json!({"url": "/r", "ref": "HEAD"}), "HEAD"),
        ] {
            assert_eq!(check(config).unwrap().name, name);
        }
    }

    #[test]
    fn what_is_not_acceptable_is_refused_with_what_to_do() {
        for (config, said) in [
            (json!({"url": "/r", "branch": "a", "tag": "b"}), "one of branch, tag and ref"),
            (json!({"url": "/r", "branch": "refs/heads/a"}), "short name"),
            (json!({"url": "/r", "branch": "a..b"}), "git allows"),
            (json!({"url": "/r", "branch": ""}), "git allows"),
            (json!({"url": "/r", "branch": "a\nb"}), "git allows"),
            (json!({"url": "/r", "branch": "a*"}), "git allows"),
            (json!({"url": "/r", "ref": "main"}), "starts with refs/"),
            (json!({"url": "/r", "branche": "main"}), "unknown field `branche`"),
            (json!({"branch": "main"}), "missing field `url`"),
            (json!({"url": "/r", "username": "u", "password": {"secret": "s"}}), "http"),
            (json!({"url": "https://h/r", "username": "u"}), "belong together"),
            (json!({"url": "https://h/r", "username": "u:p", "password": {"secret": "s"}}), "colon"),
            (json!({"url": "https://h/r", "ssh_key": {"secret": "s"}}), "ssh only"),
            (json!({"url": "https://h/r", "username": "u", "password": "hunter2"}), "by reference"),
            (json!({"url": "ssh://h/r", "ssh_key": {"secret": {"x": "hunter2"}}}), "by reference"),
            (json!({"url": "ssh://h/r", "known_hosts": " "}), "known_hosts"),
        ] {
            let e = check(config.clone()).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{config}");
            assert!(e.report().contains(said), "{config}: {}", e.report());
            assert!(!e.report().contains("hunter2"), "{}", e.report());
        }
    }

    #[test]
    fn the_builder_writes_what_is_read_back() {
        let built =
            GitSource::new("ssh://git@h/r").tag("v0").branch("main").ssh_key("k").known_hosts("h x y");
        let source = built.clone().source("git").unwrap();
        assert_eq!(
            source.config,
            json!({"url": "ssh://git@h/r", "branch": "main", "ssh_key": {"secret": "k"}, "known_hosts": "h x y"})
        );
        assert_eq!(source.parse::<GitSource>().unwrap(), built);
    }

    #[test]
    fn debug_does_not_show_a_password_in_a_url() {
        let source = GitSource::new("https://u:hunter2@h/r");
        assert!(!format!("{source:?}").contains("hunter2"), "{source:?}");
        assert!(source.source("git").is_err());
    }
}
