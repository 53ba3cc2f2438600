//! Remotes: what a URL means, and one way of writing it for all that mean the same.
//!
//! Folded together: the host's case, the default port, slashes at the end, `file://` and plain paths. An `@` in a URL is
//! part of a name: there are no peg revisions here.

use super::revision::PATH;
use crate::remote::url::{self as rules, decoded, host, normal, trimmed, user_part};
use capomastro_core::{Error, Result};
use percent_encoding::utf8_percent_encode;
use std::path::{Path, PathBuf};
use url::Url;

/// What messages call it.
const KIND: &str = "Subversion URL";
/// Where svnserve listens.
pub(super) const PORT: u16 = 3690;

/// A repository, or a folder in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remote {
    /// A directory of this machine.
    File(PathBuf),
    /// An HTTP server; the path has no slash at its end.
    Http(Url),
    /// An svnserve.
    Daemon { host: String, port: u16, path: String },
    /// An svnserve that an SSH server starts. The user has an `@` behind it, where there is one.
    Ssh { user: String, host: String, port: Option<u16>, path: String },
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
        } else if text.starts_with("^/") {
            return refuse("^/ means the repository of a working copy: write the whole URL");
        } else {
            return refuse(
                "the Subversion URL is neither a URL nor an absolute path: write https://…, svn://…, \
                 svn+ssh://user@host/path or /path",
            );
        };
        if let Self::File(path) = &remote
            && path.components().any(|part| part.as_os_str() == "..")
        {
            return refuse("the path contains ..: write it out");
        }
        rules::check_canonical(KIND, &remote.canonical())?;
        Ok(remote)
    }

    fn with_scheme(scheme: &str, text: &str) -> Result<Self> {
        if !matches!(scheme, "file" | "http" | "https" | "svn" | "svn+ssh") {
            return Err(Error::config(
                "this kind of Subversion URL is not known: use file, http, https, svn or svn+ssh",
            ));
        }
        let url = rules::plain(KIND, text, scheme == "svn+ssh")?;
        let path = decoded(KIND, url.path())?;
        match scheme {
            "file" => Ok(Self::File(rules::file_path(KIND, &url)?)),
            "http" | "https" => Ok(Self::Http(rules::http(url))),
            _ => {
                let (user, host) = (user_part(KIND, url.username())?, host(KIND, &url)?);
                let path = normal(trimmed(&path)).display().to_string();
                if path.split('/').any(|part| part == "..") {
                    return Err(Error::config("the path of the Subversion URL contains ..: write it out"));
                }
                Ok(match scheme {
                    "svn" => Self::Daemon { host, port: url.port().unwrap_or(PORT), path },
                    _ => Self::Ssh { user, host, port: url.port().filter(|p| *p != 22), path },
                })
            }
        }
    }

    /// The URL that the svn program is given: to it a port of ssh would be part of the host's name.
    pub(super) fn for_program(&self) -> String {
        match self {
            Self::Ssh { user, host, path, .. } => format!("svn+ssh://{user}{host}{}", encoded(path)),
            other => other.canonical(),
        }
    }

    /// One text for all URLs that mean the same, which svnserve takes too. Holds no password.
    pub(super) fn canonical(&self) -> String {
        match self {
            Self::File(path) => file_url(path),
            Self::Http(url) => trimmed(url.as_str()).to_owned(),
            Self::Daemon { host, port, path } => {
                let port = Some(*port).filter(|p| *p != PORT).map(|p| format!(":{p}")).unwrap_or_default();
                format!("svn://{host}{port}{}", encoded(path))
            }
            Self::Ssh { user, host, port, path } => {
                let port = port.map(|p| format!(":{p}")).unwrap_or_default();
                format!("svn+ssh://{user}{host}{port}{}", encoded(path))
            }
        }
    }
}

/// A path as it stands behind a host, without a slash at its end.
pub(super) fn encoded(path: &str) -> String {
    utf8_percent_encode(path, PATH).to_string().trim_end_matches('/').to_owned()
}

/// The URL of a directory of this machine.
pub(super) fn file_url(path: &Path) -> String {
    // A path that was given as text is one.
    format!("file://{}", utf8_percent_encode(&path.to_string_lossy(), PATH))
}

/// The URL of a path below another URL.
pub(super) fn below(url: &str, path: &str) -> String {
    if path.is_empty() {
        url.to_owned()
    } else {
        format!("{}/{}", url.strip_suffix('/').unwrap_or(url), encoded(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capomastro_core::ErrorKind;

    #[test]
    fn remotes_that_mean_the_same_are_written_the_same() {
        for (canonical, written) in [
            ("file:///srv/a", &["/srv/a", "/srv//a/", "/srv/./a", "file:///srv/a/"][..]),
            (
                "file:///srv/a%20b%40c",
                &["/srv/a b@c", "file:///srv/a%20b@c", "file://localhost/srv/a%20b%40c"],
            ),
            ("https://h.org/a", &["https://h.org/a", "https://H.org:443/a/", "HTTPS://h.org/a//"]),
            ("http://h.org/a", &["http://h.org/a", "http://h.org:80/a"]),
            ("svn://h.org/a", &["svn://h.org/a", "svn://H.ORG:3690/a/", "svn://h.org//a"]),
            ("svn://h.org:1/a%20%C3%BC", &["svn://h.org:1/a%20ü"]),
            ("svn://h.org", &["svn://h.org", "svn://h.org/"]),
            ("svn+ssh://me@h.org/a", &["svn+ssh://me@h.org/a", "svn+ssh://me@H.org:22/a/"]),
            ("svn+ssh://me@[::1]:2222/a", &["svn+ssh://me@[::1]:2222/a"]),
        ] {
            for text in written {
                assert_eq!(Remote::parse(text).unwrap().canonical(), canonical, "{text}");
            }
        }
        assert_eq!(below("svn://h/r", "a b@2/ü"), "svn://h/r/a%20b%402/%C3%BC");
        assert_eq!(below("file:///", "a"), "file:///a");
    }

    #[test]
    fn what_is_dangerous_or_unclear_is_refused() {
        for text in [
            "",
            "a",
            "./a",
            "^/trunk",
            "h:a",
            "file://elsewhere/a",
            "--config-option=x",
            "https://",
            "https://h:x/a",
            "git://h/a",
            "svn+rsh://h/a",
            "svn+ssh://-oProxyCommand=x/a",
            "svn+ssh://-u@h/a",
            "svn://me@h/a",
            "svn://h/a%00b",
            "svn://h/a%0ab",
            "/a/../b",
            "svn://h/a%2f..%2fb",
            "https://h/a\n",
            " https://h/a",
            "https://h/a?p=1",
            "https://u:hunter2@h/a",
            "https://hunter2@h/a",
            "svn://u:hunter2@h/a",
            "svn+ssh://u:hunter2@h/a",
        ] {
            let e = Remote::parse(text).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{text:?}");
            assert!(!e.report().contains("hunter2"), "{text:?}: {}", e.report());
        }
        assert!(Remote::parse(&format!("/{}", "a".repeat(2_000))).is_err());
        assert!(Remote::parse(&format!("/{}", "ü".repeat(400))).is_err());
    }
}
