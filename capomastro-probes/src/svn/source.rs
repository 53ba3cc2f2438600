//! The configuration of a Subversion source: what people write, and what it means.

use super::key::Remote;
use crate::remote::{
    login::{Login, MAX_NAME, by_reference, check_text},
    ssh::check_known_hosts,
};
use capomastro_core::{Error, Result, model::Source, secret::SecretRef};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest path, in bytes.
const MAX_PATH: usize = 700;

/// Where a Subversion dependency comes from: a repository, or a folder or file in one.
///
/// Written as JSON it is `{"url": "https://example.org/svn/lib", "path": "trunk"}`. The path is plain text, and may as well
/// be the end of the URL, percent-encoded. Sources with the same URL and different paths are looked at together.
///
/// ```
/// use capomastro_probes::svn::SvnSource;
/// let source = SvnSource::new("https://example.org/svn/lib")
///     .path("trunk")
///     .login("robot", "svn-password")
///     .source("svn")?;
/// # assert_eq!(source.config["password"]["secret"], "svn-password");
/// # Ok::<(), capomastro_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SvnSource {
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    mirror: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "by_reference")]
    password: Option<SecretRef>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "by_reference")]
    ssh_key: Option<SecretRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    known_hosts: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl SvnSource {
    /// What is at `url`: an absolute path, or a `file`, `http`, `https`, `svn` or `svn+ssh` URL of a repository or of
    /// something in it. Credentials do not belong into it, and an `@` in it is part of a name, not a peg revision.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            path: None,
            mirror: false,
            username: None,
            password: None,
            ssh_key: None,
            known_hosts: None,
        }
    }

    /// What is at this path below the URL, instead; plain text, such as `branches/my work`.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// The repository is a mirror that `svnsync` keeps. That sets the date of a commit only after the commit was made, so
    /// that the date of a mirror's commit is not taken into the revision.
    #[must_use]
    pub const fn mirror(mut self, is_mirror: bool) -> Self {
        self.mirror = is_mirror;
        self
    }

    /// Logs in to an HTTP server or svnserve as `username` with the password in the secret of this name.
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

    /// The source, for the svn probe that is registered as `probe`.
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
        let takes_password = matches!(remote, Remote::Http(_) | Remote::Daemon { .. });
        let is_ssh = matches!(remote, Remote::Ssh { .. });
        if !takes_password && (self.username.is_some() || self.password.is_some()) {
            return Err(Error::config(
                "username and password are for http, https and svn only: for svn+ssh write the user into the URL and \
                 give ssh_key; drop them otherwise",
            ));
        }
        if !is_ssh && (self.ssh_key.is_some() || self.known_hosts.is_some()) {
            return Err(Error::config("ssh_key and known_hosts are for svn+ssh only: drop them"));
        }
        let login = Login::check(self.username.as_ref(), self.password.as_ref())?;
        if let Some(key) = &self.ssh_key {
            check_text("ssh_key", &key.secret, MAX_NAME)?;
        }
        if let Some(hosts) = &self.known_hosts {
            check_known_hosts(hosts)?;
        }
        Ok(Spec {
            remote,
            path: self.inner_path()?,
            with_date: !self.mirror,
            login,
            ssh_key: self.ssh_key.clone(),
            known_hosts: self.known_hosts.clone(),
        })
    }

    fn inner_path(&self) -> Result<String> {
        let Some(path) = &self.path else { return Ok(String::new()) };
        check_text("path", path, MAX_PATH)?;
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
        if parts.contains(&"..") {
            return Err(Error::config("the path contains ..: write it out"));
        }
        Ok(parts.join("/"))
    }
}

/// Shows neither the URL, into which somebody may have written a password, nor the known hosts.
impl fmt::Debug for SvnSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remote = Remote::parse(&self.url).map_or_else(|_| "not acceptable".into(), |r| r.canonical());
        f.debug_struct("SvnSource")
            .field("remote", &remote)
            .field("path", &self.path)
            .field("mirror", &self.mirror)
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
    /// Below the remote, without a slash at start and end.
    pub(super) path: String,
    /// Whether the date of a commit is part of the revision.
    pub(super) with_date: bool,
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
        Source { probe: "svn".parse()?, config }.parse::<SvnSource>()?.check()
    }

    #[test]
    fn paths_are_plain_text() {
        for (path, want) in [
            ("trunk", "trunk"),
            ("/a//b/./c/", "a/b/c"),
            ("a b@2/ü%20", "a b@2/ü%20"),
            ("-x", "-x"),
            ("/", ""),
        ] {
            assert_eq!(check(json!({"url": "/r", "path": path})).unwrap().path, want);
        }
        assert_eq!(check(json!({"url": "/r"})).unwrap().path, "");
    }

    #[test]
    fn what_is_not_acceptable_is_refused_with_what_to_do() {
        for (config, said) in [
            (json!({"url": "/r", "path": ""}), "path"),
            (json!({"url": "/r", "path": "a\nb"}), "control"),
            (json!({"url": "/r", "path": "a/../b"}), "write it out"),
            (json!({"url": "/r", "path": "a".repeat(2_000)}), "700"),
            (json!({"url": "/r", "pfad": "a"}), "unknown field `pfad`"),
            (json!({"path": "trunk"}), "missing field `url`"),
            (json!({"url": "/r", "username": "u", "password": {"secret": "s"}}), "http"),
            (json!({"url": "svn+ssh://h/r", "username": "u", "password": {"secret": "s"}}), "ssh_key"),
            (json!({"url": "svn://h/r", "username": "u"}), "belong together"),
            (json!({"url": "svn://h/r", "ssh_key": {"secret": "s"}}), "svn+ssh only"),
            (json!({"url": "https://h/r", "username": "u", "password": "hunter2"}), "by reference"),
            (json!({"url": "svn+ssh://h/r", "known_hosts": " "}), "known_hosts"),
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
            SvnSource::new("svn+ssh://me@h/r").path("trunk").mirror(true).ssh_key("k").known_hosts("h x y");
        let source = built.clone().source("svn").unwrap();
        assert_eq!(
            source.config,
            json!({"url": "svn+ssh://me@h/r", "path": "trunk", "mirror": true, "ssh_key": {"secret": "k"},
                "known_hosts": "h x y"})
        );
        assert_eq!(source.parse::<SvnSource>().unwrap(), built);
        assert!(!format!("{:?}", SvnSource::new("https://u:hunter2@h/r")).contains("hunter2"));
    }
}
