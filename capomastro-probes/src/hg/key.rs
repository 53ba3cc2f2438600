//! Remotes: what a URL means, and one way of writing it for all that mean the same.

use crate::remote::url::{self as rules, decoded, host, normal, trimmed, user_part};
use capomastro_core::{Error, Result};
use std::path::PathBuf;
use url::Url;

/// What messages call it.
const KIND: &str = "hg URL";

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remote {
    /// In a folder of this machine.
    File(PathBuf),
    /// On an HTTP server; the path has no slash at its end.
    Http(Url),
    /// On a machine that ssh reaches. The path is absolute, or begins with `~/` where it starts at the user's home.
    Ssh { user: String, host: String, port: Option<u16>, path: String },
}

impl Remote {
    /// The host that is asked, so that all looks at it share a budget; none for this machine.
    pub(super) fn host(&self) -> Option<String> {
        match self {
            Self::File(_) => None,
            Self::Http(url) => url.host_str().map(ToOwned::to_owned),
            Self::Ssh { host, .. } => Some(host.clone()),
        }
    }

    /// Reads a URL. No message repeats it, since it may hold a password.
    pub(super) fn parse(text: &str) -> Result<Self> {
        rules::check(KIND, text)?;
        if text.contains('#') {
            return Err(Error::config(
                "the hg URL names a branch behind a #: give its name as branch instead",
            ));
        }
        let remote = if text.starts_with('/') {
            Self::File(normal(text))
        } else if let Some((scheme, _)) = text.split_once("://") {
            Self::with_scheme(&scheme.to_ascii_lowercase(), text)?
        } else {
            return Err(Error::config(
                "the hg URL is neither a URL nor an absolute path: write https://…, ssh://user@host//path or /path",
            ));
        };
        if let Self::File(path) = &remote
            && path.components().any(|part| part.as_os_str() == "..")
        {
            return Err(Error::config("the path contains ..: write it out"));
        }
        rules::check_canonical(KIND, &remote.canonical())?;
        Ok(remote)
    }

    fn with_scheme(scheme: &str, text: &str) -> Result<Self> {
        if !matches!(scheme, "file" | "http" | "https" | "ssh") {
            return Err(Error::config("this kind of hg URL is not known: use file, http, https or ssh"));
        }
        let url = rules::plain(KIND, text, scheme == "ssh")?;
        match scheme {
            "file" => Ok(Self::File(rules::file_path(KIND, &url)?)),
            "http" | "https" => Ok(Self::Http(rules::http(url))),
            _ => {
                // To hg, the slash behind the host is none of the path's: two of them make it absolute.
                let whole = decoded(KIND, url.path())?;
                let path = trimmed(whole.strip_prefix('/').unwrap_or_default());
                if path.is_empty() || path == "/" {
                    return Err(Error::config(
                        "the hg URL has no path: write the repository's behind the host, after two slashes if it is absolute",
                    ));
                }
                let path = if path.starts_with('/') { path.to_owned() } else { format!("~/{path}") };
                let user = user_part(KIND, url.username())?;
                Ok(Self::Ssh { user, host: host(KIND, &url)?, port: url.port().filter(|p| *p != 22), path })
            }
        }
    }

    /// One text for all URLs that mean the same, which hg takes too. Holds no password.
    pub(super) fn canonical(&self) -> String {
        match self {
            Self::File(path) => format!("file://{}", path.display()),
            Self::Http(url) => trimmed(url.as_str()).to_owned(),
            Self::Ssh { user, host, port, path } => {
                let port = port.map(|p| format!(":{p}")).unwrap_or_default();
                let path = path.strip_prefix("~/").unwrap_or(path);
                format!("ssh://{user}{host}{port}/{path}")
            }
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
            ("ssh://u@h:22//srv/lib", "ssh://u@H//srv/lib/"),
            ("ssh://u@h/lib", "ssh://u@h/lib/"),
        ] {
            let canonical = |t: &str| Remote::parse(t).unwrap().canonical();
            assert_eq!(canonical(a), canonical(b));
            assert_eq!(Remote::parse(&canonical(a)).unwrap(), Remote::parse(b).unwrap());
        }
        assert_ne!(Remote::parse("ssh://h/a").unwrap(), Remote::parse("ssh://h//a").unwrap());
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
            "https://h/a#branch",
            "ssh://h",
            "ssh://h/",
            "ssh://h//",
            "ssh://h/a%0ab",
            "ssh://-oProxyCommand=hunter2/a",
            "ssh://u:hunter2@h/a",
            "bundle:a.hg",
            "union:a+b",
            "static-http://h/a",
            "/a/../b",
            "/a\nb",
        ] {
            let e = Remote::parse(text).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{text:?}");
            assert!(!e.report().contains("hunter2"), "{text:?}: {}", e.report());
        }
    }
}
