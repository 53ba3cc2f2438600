//! Remotes: what a URL means, and one way of writing it for all that mean the same.
//!
//! Folded together: the host's case, the default port, slashes at the end, `file://` and plain paths,
//! `host:/path` and `ssh://host/path`. Kept apart, because a server may keep them apart: `x` and `x.git`, `http` and
//! `https`, users of ssh, and `host:path`, which starts at a home directory, and `ssh://host/path`, which does not.

use crate::remote::url::{self as rules, decoded, host, normal, trimmed, user_part};
use capomastro_core::{Error, Result};
use std::path::PathBuf;
use url::Url;

/// What messages call it.
const KIND: &str = "git URL";

/// A remote repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remote {
    /// A directory of this machine.
    File(PathBuf),
    /// An HTTP server; the path has no slash at its end.
    Http(Url),
    /// A git daemon.
    Daemon {
        /// Name or address.
        host: String,
        /// 9418 where the URL says nothing.
        port: u16,
        /// As the daemon sees it.
        path: String,
    },
    /// An SSH server.
    Ssh {
        /// What the git program is given; canonical.
        argument: String,
        /// Name or address.
        host: String,
    },
}

impl Remote {
    /// The host that is asked, so that all looks at it share a budget; none for this machine.
    pub(super) fn host(&self) -> Option<String> {
        match self {
            Self::File(_) => None,
            Self::Http(url) => url.host_str().map(ToOwned::to_owned),
            Self::Daemon { host, .. } | Self::Ssh { host, .. } => Some(host.clone()),
        }
    }

    /// Reads a URL. No message repeats it, since it may hold a password.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let refuse = |message: &str| Err(Error::config(message));
        rules::check(KIND, text)?;
        let remote = if text.starts_with('/') {
            Self::File(normal(text))
        } else if let Some((scheme, _)) = text.split_once("://") {
            Self::with_scheme(&scheme.to_ascii_lowercase(), text)?
        } else if text
            .split_once("::")
            .is_some_and(|(helper, _)| helper.bytes().all(|b| b.is_ascii_alphanumeric()))
        {
            return refuse("git's remote helpers (ext::, fd:: and the like) are not used: give a URL");
        } else if let Some((host, path)) = text.split_once(':').filter(|(host, _)| !host.contains('/')) {
            Self::scp_like(host, path)?
        } else {
            return refuse(
                "the git URL is neither a URL nor an absolute path: write https://…, ssh://…, user@host:path, \
                 git://… or /path",
            );
        };
        rules::check_canonical(KIND, &remote.canonical())?;
        Ok(remote)
    }

    fn with_scheme(scheme: &str, text: &str) -> Result<Self> {
        if !matches!(scheme, "file" | "http" | "https" | "git" | "ssh") {
            return Err(Error::config(
                "this kind of git URL is not known: use file, http, https, git or ssh (ssh also for git+ssh)",
            ));
        }
        let url = rules::plain(KIND, text, scheme == "ssh")?;
        let path = decoded(KIND, url.path())?;
        match scheme {
            "file" => Ok(Self::File(rules::file_path(KIND, &url)?)),
            "http" | "https" => Ok(Self::Http(rules::http(url))),
            "git" => {
                let (host, port) = (host(KIND, &url)?, url.port().unwrap_or(9418));
                Ok(Self::Daemon { host, port, path: trimmed(&path).to_owned() })
            }
            _ => {
                let host = host(KIND, &url)?;
                let user = user_part(KIND, url.username())?;
                let port = url.port().filter(|p| *p != 22).map(|p| format!(":{p}")).unwrap_or_default();
                if trimmed(url.path()).len() < 2 {
                    return Err(Error::config("the git URL has no path: write ssh://user@host/path"));
                }
                let argument = format!("ssh://{user}{host}{port}{}", trimmed(url.path()));
                Ok(Self::Ssh { argument, host })
            }
        }
    }

    /// `user@host:path`, as scp writes it.
    fn scp_like(host: &str, path: &str) -> Result<Self> {
        let (user, host) = host.rsplit_once('@').unwrap_or(("", host));
        // `user:password@host:path` would be read as the host `user`.
        if path.split('/').next().is_some_and(|start| start.contains('@')) {
            return Err(Error::config(
                "the git URL seems to contain a password: write user@host:path without one",
            ));
        }
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if host.is_empty() || host.starts_with('-') || !host.bytes().all(fits) {
            return Err(Error::config(
                "the host of user@host:path is not one: write ssh://user@host:port/path for ports and addresses",
            ));
        }
        let (user, host) = (user_part(KIND, user)?, host.to_ascii_lowercase());
        if path.is_empty() || path.starts_with('-') {
            return Err(Error::config(
                "the path of user@host:path is empty or starts with a dash: give another",
            ));
        }
        let path = trimmed(path);
        // Nothing is decoded in this form, so a percent sign stands for itself.
        let argument = if path.starts_with('/') {
            format!("ssh://{user}{host}{}", path.replace('%', "%25"))
        } else {
            format!("{user}{host}:{path}")
        };
        Ok(Self::Ssh { argument, host })
    }

    /// One text for all URLs that mean the same. Holds no password.
    pub(super) fn canonical(&self) -> String {
        match self {
            Self::File(path) => format!("file://{}", path.display()),
            Self::Http(url) => trimmed(url.as_str()).to_owned(),
            Self::Daemon { host, port: 9418, path } => format!("git://{host}{path}"),
            Self::Daemon { host, port, path } => format!("git://{host}:{port}{path}"),
            Self::Ssh { argument, .. } => argument.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capomastro_core::ErrorKind;

    #[test]
    fn remotes_that_mean_the_same_are_written_the_same() {
        for (canonical, written) in [
            ("file:///srv/a.git", &["/srv/a.git", "/srv//a.git/", "/srv/./a.git", "file:///srv/a.git/"][..]),
            ("file:///srv/a b", &["/srv/a b", "file:///srv/a%20b", "file://localhost/srv/a%20b"]),
            ("https://h.org/a", &["https://h.org/a", "https://H.org:443/a/", "HTTPS://h.org/a//"]),
            ("http://h.org/a", &["http://h.org/a", "http://h.org:80/a"]),
            ("https://h.org:8443/a", &["https://h.org:8443/a"]),
            ("https://h.org", &["https://h.org", "https://h.org/"]),
            ("git://h.org/a", &["git://h.org/a", "git://H.ORG:9418/a/"]),
            ("git://h.org:1/a b", &["git://h.org:1/a%20b"]),
            ("ssh://git@h.org/a", &["ssh://git@h.org/a", "ssh://git@H.org:22/a/", "git@h.org:/a"]),
            ("ssh://git@[::1]:2222/a", &["ssh://git@[::1]:2222/a"]),
            ("git@h.org:a/b.git", &["git@h.org:a/b.git", "git@H.org:a/b.git/"]),
            ("h.org:~me/b", &["h.org:~me/b"]),
        ] {
            for text in written {
                assert_eq!(Remote::parse(text).unwrap().canonical(), canonical, "{text}");
            }
        }
    }

    #[test]
    fn remotes_that_may_differ_are_written_differently() {
        for (a, b) in [
            ("https://h/a", "https://h/a.git"),
            ("https://h/a", "http://h/a"),
            ("https://h/a", "https://h/A"),
            ("ssh://u@h/a", "ssh://v@h/a"),
            ("h:a", "ssh://h/a"),
            ("/a/../b", "/b"),
        ] {
            assert_ne!(
                Remote::parse(a).unwrap().canonical(),
                Remote::parse(b).unwrap().canonical(),
                "{a} {b}"
            );
        }
    }

    #[test]
    fn what_is_dangerous_or_unclear_is_refused() {
        for text in [
            "",
            "a",
            "./a",
            "../a",
            "~/a",
            "file://elsewhere/a",
            "ext::sh -c date",
            "fd::3",
            "--upload-pack=touch",
            "-x",
            "https://",
            "https://h:x/a",
            "rsync://h/a",
            "ftp://h/a",
            "git+ssh://h/a",
            "ssh://-oProxyCommand=x/a",
            "ssh://h",
            "ssh://-u@h/a",
            "-oProxyCommand=x:a",
            "h:-a",
            "h:",
            ":a",
            "git://h/a%00host=evil",
            "git://h/a%0aset",
            "https://h/a\n",
            "https://h/a\0b",
            " https://h/a",
            "https://h/a?token=hunter2",
            "https://h/a#hunter2",
            "https://u:hunter2@h/a",
            "https://hunter2@h/a",
            "ssh://u:hunter2@h/a",
            "u:hunter2@h:a",
            "git://hunter2@h/a",
            "ssh://$(hunter2)@h/a",
            "[::1]:a",
            "ssh://h/a%0a",
            "http:://h/a",
        ] {
            let e = Remote::parse(text).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{text:?}");
            assert!(!e.report().contains("hunter2"), "{text:?}: {}", e.report());
        }
        let e = Remote::parse("https://u:hunter2@h/a").unwrap_err();
        assert!(e.message().contains("\"secret\""), "{e}");
        assert!(Remote::parse(&format!("/{}", "a".repeat(2_000))).is_err());
        assert!(Remote::parse(&format!("https://h/{}", "ä".repeat(400))).is_err());
    }
}
