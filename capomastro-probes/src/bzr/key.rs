//! Remotes: what a URL means, and one way of writing it for all that mean the same.

use crate::remote::url::{self as rules, decoded, host, normal, trimmed, user_part};
use capomastro_core::{Error, Result};
use std::path::PathBuf;
use url::Url;

/// What messages call it.
const KIND: &str = "bzr URL";
/// The port of bzr's own servers.
const PORT: u16 = 4155;

/// Where a branch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remote {
    /// In a folder of this machine.
    File(PathBuf),
    /// On an HTTP server; the path has no slash at its end.
    Http(Url),
    /// On a server of bzr's own (`brz serve`).
    Bzr { host: String, port: u16, path: String },
    /// On such a server that ssh starts. `host` is the one to reach.
    Ssh { user: String, host: String, port: Option<u16>, path: String },
    /// At Launchpad, by its short name; only bzr's own program knows where that is.
    Launchpad(String),
}

impl Remote {
    /// The host that is asked, so that all looks at it share a budget; none for this machine.
    pub(super) fn host(&self) -> Option<String> {
        match self {
            Self::File(_) => None,
            Self::Http(url) => url.host_str().map(ToOwned::to_owned),
            Self::Bzr { host, .. } | Self::Ssh { host, .. } => Some(host.clone()),
            Self::Launchpad(_) => Some("launchpad.net".into()),
        }
    }

    /// Reads a URL. No message repeats it, since it may hold a password.
    pub(super) fn parse(text: &str) -> Result<Self> {
        rules::check(KIND, text)?;
        if text.rsplit('/').next().is_some_and(|last| last.contains(",branch=")) {
            return Err(Error::config(
                "the bzr URL names a colocated branch: give its name as branch instead",
            ));
        }
        let remote = if text.starts_with('/') {
            Self::File(normal(text))
        } else if let Some(name) = text.strip_prefix("lp:") {
            Self::launchpad(name)?
        } else if let Some((scheme, _)) = text.split_once("://") {
            Self::with_scheme(&scheme.to_ascii_lowercase(), text)?
        } else {
            return Err(Error::config(
                "the bzr URL is neither a URL nor an absolute path: write https://…, bzr://…, bzr+ssh://…, lp:… or /path",
            ));
        };
        rules::check_canonical(KIND, &remote.canonical())?;
        Ok(remote)
    }

    fn launchpad(name: &str) -> Result<Self> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '~' | '/' | '.' | '-' | '_' | '+');
        if name.is_empty() || name.starts_with('-') || name.starts_with('/') || !name.chars().all(fits) {
            return Err(Error::config(
                "this is no name at Launchpad: write lp:project or lp:~owner/project/branch",
            ));
        }
        Ok(Self::Launchpad(trimmed(name).to_owned()))
    }

    fn with_scheme(scheme: &str, text: &str) -> Result<Self> {
        if !matches!(scheme, "file" | "http" | "https" | "bzr" | "bzr+ssh") {
            return Err(Error::config(
                "this kind of bzr URL is not known: use file, http, https, bzr, bzr+ssh or lp (bzr+ssh also for sftp)",
            ));
        }
        let url = rules::plain(KIND, text, scheme == "bzr+ssh")?;
        match scheme {
            "file" => Ok(Self::File(rules::file_path(KIND, &url)?)),
            "http" | "https" => Ok(Self::Http(rules::http(url))),
            _ => {
                let path = trimmed(&decoded(KIND, url.path())?).to_owned();
                if path == "/" {
                    return Err(Error::config(
                        "the bzr URL has no path: write the path of the branch behind the host",
                    ));
                }
                let host = host(KIND, &url)?;
                if scheme == "bzr" {
                    return Ok(Self::Bzr { host, port: url.port().unwrap_or(PORT), path });
                }
                let user = user_part(KIND, url.username())?;
                Ok(Self::Ssh { user, host, port: url.port().filter(|p| *p != 22), path })
            }
        }
    }

    /// One text for all URLs that mean the same. Holds no password.
    pub(super) fn canonical(&self) -> String {
        match self {
            Self::File(path) => format!("file://{}", path.display()),
            Self::Http(url) => trimmed(url.as_str()).to_owned(),
            Self::Bzr { host, port: PORT, path } => format!("bzr://{host}{path}"),
            Self::Bzr { host, port, path } => format!("bzr://{host}:{port}{path}"),
            Self::Ssh { user, host, port, path } => {
                let port = port.map(|p| format!(":{p}")).unwrap_or_default();
                format!("bzr+ssh://{user}{host}{port}{path}")
            }
            Self::Launchpad(name) => format!("lp:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capomastro_core::ErrorKind;

    #[test]
    fn what_means_the_same_is_written_the_same() {
        for (a, b) in [
            ("/srv//lib/", "file:///srv/./lib"),
            ("https://H.example:443/lib/", "https://h.example/lib"),
            ("bzr://h:4155/lib/", "bzr://H/lib"),
            ("bzr+ssh://u@h:22/lib", "bzr+ssh://u@H/lib/"),
            ("lp:lib/", "lp:lib"),
        ] {
            let canonical = |t: &str| Remote::parse(t).unwrap().canonical();
            assert_eq!(canonical(a), canonical(b));
            assert_eq!(Remote::parse(&canonical(a)).unwrap(), Remote::parse(b).unwrap());
        }
        assert_ne!(Remote::parse("http://h/a").unwrap(), Remote::parse("https://h/a").unwrap());
    }

    #[test]
    fn what_is_dangerous_or_unclear_is_refused() {
        for text in [
            "",
            "a",
            "./a",
            "-a",
            "https://u:hunter2@h/a",
            "https://hunter2@h/a",
            "https://h/a?token=hunter2",
            "bzr://h",
            "bzr://h/a%0ab",
            "bzr+ssh://-oProxyCommand=hunter2/a",
            "bzr+ssh://u:hunter2@h/a",
            "lp:-x",
            "lp:",
            "lp:a b",
            "sftp://h/a",
            "ftp://h/a",
            "/srv/lib,branch=x",
            "https://h/a,branch=x",
            "/a\nb",
        ] {
            let e = Remote::parse(text).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{text:?}");
            assert!(!e.report().contains("hunter2"), "{text:?}: {}", e.report());
        }
    }
}
