//! The configuration of a URL source: what people write, and what it means.

use crate::remote::{
    login::{Login, MAX_NAME, by_reference, check_text},
    text::shown,
};
use capomastro_core::{Error, Result, model::Source, secret::SecretRef};
use reqwest::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use std::{collections::BTreeMap, fmt};
use url::Url;

/// The longest URL, in bytes: it is part of the probe key.
const MAX_URL: usize = 1_000;
/// The most headers, and the most hosts to which a redirect may lead.
const MAX_ENTRIES: usize = 16;
/// How many bytes of a body are digested unless the source says otherwise.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Headers that say whom a request is for and how it is framed, or that the probe sends by itself.
const RESERVED: [&str; 12] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "range",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// What the revision of a URL is.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum By {
    /// The strong `ETag`, else `Last-Modified`, else the digest of the body.
    #[default]
    Auto,
    /// The `ETag`, be it strong or weak; a server that sends none is an error.
    Etag,
    /// The `Last-Modified` date, in seconds; a server that sends none is an error.
    LastModified,
    /// The SHA-256 of the body, which is read at each look; nothing that the server says of it is believed.
    Digest,
}

/// Where a server may send the probe. A redirect from `https` to `http` is never followed, and credentials and headers
/// never leave the source's own server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Redirects {
    /// Nowhere: a redirect is an error.
    None,
    /// To other paths of the same server, and from `http` to `https` of the same host.
    #[default]
    SameOrigin,
    /// Also to these hosts, at their usual ports. A name among them that stands for a private, loopback or link-local
    /// address is not followed; such an address is followed only if it is listed itself.
    Hosts(Vec<String>),
}

/// Where a dependency comes from that is one file behind a URL.
///
/// Written as JSON it is `{"url": "https://example.org/lib.tar.gz"}`.
///
/// ```
/// use capomastro_probes::http::{By, HttpSource};
/// let source = HttpSource::new("https://example.org/lib.tar.gz")
///     .by(By::Digest)
///     .header("private-token", "forge-token")
///     .source("http")?;
/// # assert_eq!(source.config["headers"]["private-token"]["secret"], "forge-token");
/// # Ok::<(), capomastro_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSource {
    url: String,
    #[serde(default, skip_serializing_if = "is_default")]
    by: By,
    #[serde(default, skip_serializing_if = "is_default")]
    redirects: Redirects,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "by_reference")]
    password: Option<SecretRef>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "headers_by_reference")]
    headers: BTreeMap<String, SecretRef>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Serde's own message would repeat a value that was written in the place of a reference.
fn headers_by_reference<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, SecretRef>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    serde_json::from_value(value).map_err(|_| {
        D::Error::custom(r#"headers are given by reference only: write {"name": {"secret": "its name"}}"#)
    })
}

impl HttpSource {
    /// The file at an `http` or `https` URL. Credentials do not belong into it, nor into its query.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            by: By::Auto,
            redirects: Redirects::SameOrigin,
            max_bytes: None,
            username: None,
            password: None,
            headers: BTreeMap::new(),
        }
    }

    /// What the revision is; [`By::Auto`] unless given.
    #[must_use]
    pub const fn by(mut self, by: By) -> Self {
        self.by = by;
        self
    }

    /// Where the server may send the probe; [`Redirects::SameOrigin`] unless given.
    #[must_use]
    pub fn redirects(mut self, redirects: Redirects) -> Self {
        self.redirects = redirects;
        self
    }

    /// How many bytes of a body are digested; a longer one is an error. 64 MiB unless given.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// Logs in as `username` with the password or token in the secret of this name.
    #[must_use]
    pub fn login(mut self, username: impl Into<String>, password_secret: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self.password = Some(SecretRef::new(password_secret));
        self
    }

    /// Sends a header whose value is the secret of this name, to the source's own server only.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value_secret: impl Into<String>) -> Self {
        self.headers.insert(name.into(), SecretRef::new(value_secret));
        self
    }

    /// The source, for the URL probe that is registered as `probe`.
    ///
    /// # Errors
    /// [`InvalidConfig`](capomastro_core::ErrorKind::InvalidConfig) if the probe would refuse it.
    pub fn source(self, probe: &str) -> Result<Source> {
        self.check()?;
        Source::new(probe, self)
    }

    /// What the configuration means.
    pub(super) fn check(&self) -> Result<Spec> {
        let url = read(&self.url)?;
        let max_bytes = self.max_bytes.unwrap_or(MAX_BYTES);
        if max_bytes == 0 || max_bytes > 1 << 40 {
            return Err(Error::config("max_bytes is out of range: give 1 to 1,099,511,627,776"));
        }
        if self.headers.len() > MAX_ENTRIES {
            return Err(Error::config("there are more than 16 headers: give fewer"));
        }
        let mut headers = Vec::new();
        for (name, secret) in &self.headers {
            let name = HeaderName::try_from(name.as_str())
                .map_err(|_| Error::config("a header's name is not one: use letters, digits and dashes"))?;
            if RESERVED.contains(&name.as_str()) {
                return Err(Error::config("this header is the probe's own: drop it")
                    .with_context("header", name.as_str()));
            }
            check_text("a header's secret", &secret.secret, MAX_NAME)?;
            headers.push((name, secret.clone()));
        }
        let login = Login::check(self.username.as_ref(), self.password.as_ref())?;
        if login.is_some() && headers.iter().any(|(name, _)| name == "authorization") {
            return Err(Error::config(
                "username and the header authorization say the same: give one of them",
            ));
        }
        Ok(Spec { url, by: self.by, redirects: checked(&self.redirects)?, max_bytes, login, headers })
    }
}

/// Reads a URL. No message repeats it, since it may hold a password.
fn read(text: &str) -> Result<Url> {
    let refuse = |message: &str| Err(Error::config(message));
    if text.is_empty() || text.len() > MAX_URL || text.chars().any(char::is_control) || text.trim() != text {
        return refuse(
            "the URL is empty, longer than 1,000 bytes, or has control characters or blanks around it",
        );
    }
    let Ok(mut url) = Url::parse(text) else {
        return refuse("the URL cannot be read: write https://host/path");
    };
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return refuse("the URL is neither http nor https: write https://host/path");
    }
    if url.password().is_some() || !url.username().is_empty() {
        return refuse(
            "the URL contains a user or a password: remove it, replace it on the server if it was a secret, and give \
             username and password, by reference, instead",
        );
    }
    url.set_fragment(None);
    if url.as_str().len() > MAX_URL {
        return refuse("the URL is longer than 1,000 bytes when written out: give a shorter one");
    }
    Ok(url)
}

/// Hosts as URLs write them.
fn checked(redirects: &Redirects) -> Result<Redirects> {
    let Redirects::Hosts(hosts) = redirects else { return Ok(redirects.clone()) };
    if hosts.is_empty() || hosts.len() > MAX_ENTRIES {
        return Err(Error::config("redirects names no host or more than 16: give 1 to 16, or same_origin"));
    }
    let mut canonical = Vec::new();
    for host in hosts {
        let parsed = Url::parse(&format!("https://{host}/")).ok().filter(|url| {
            let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
            is_bare && url.username().is_empty() && url.password().is_none() && url.port().is_none()
        });
        let Some(name) = parsed
            .as_ref()
            .and_then(Url::host_str)
            .filter(|_| !host.contains(['/', '@', ':']) || host.starts_with('['))
        else {
            return Err(Error::config(
                "redirects names something that is no host: give names or addresses alone",
            )
            .with_context("host", shown(host, 100)));
        };
        canonical.push(name.to_owned());
    }
    canonical.sort();
    Ok(Redirects::Hosts(canonical))
}

/// Shows neither the URL's query nor a URL that was refused: somebody may have written a password into it.
impl fmt::Debug for HttpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = read(&self.url).map_or_else(|_| "not acceptable".into(), |url| placed(&url));
        f.debug_struct("HttpSource")
            .field("url", &url)
            .field("by", &self.by)
            .field("redirects", &self.redirects)
            .field("max_bytes", &self.max_bytes)
            .field("username", &self.username)
            .field("password", &self.password)
            .field("headers", &self.headers)
            .finish()
    }
}

/// A URL as it is shown: without what stands before the host and behind the path.
pub(super) fn placed(url: &Url) -> String {
    let mut place = url.clone();
    let query = if place.query().is_some() { "?…" } else { "" };
    place.set_query(None);
    place.set_fragment(None);
    if place.set_username("").is_err() || place.set_password(None).is_err() {
        return "elsewhere".into();
    }
    format!("{}{query}", shown(place.as_str(), 300))
}

/// A configuration that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) url: Url,
    pub(super) by: By,
    pub(super) redirects: Redirects,
    pub(super) max_bytes: u64,
    pub(super) login: Option<Login>,
    pub(super) headers: Vec<(HeaderName, SecretRef)>,
}

/// The value of a header, which no log shows.
pub(super) fn sensitive(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(text.trim()).map_err(|_| {
        Error::config("a secret is no value of a header: it has to be printable text on one line")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use capomastro_core::ErrorKind;
    use serde_json::json;

    fn check(config: serde_json::Value) -> Result<Spec> {
        Source { probe: "http".parse()?, config }.parse::<HttpSource>()?.check()
    }

    #[test]
    fn what_is_not_acceptable_is_refused_with_what_to_do() {
        for (config, said) in [
            (json!({}), "missing field `url`"),
            (json!({"url": ""}), "empty"),
            (json!({"url": "/srv/a"}), "https://host/path"),
            (json!({"url": "ftp://h/a"}), "neither http nor https"),
            (json!({"url": "file:///etc/passwd"}), "neither http nor https"),
            (json!({"url": "https://u:hunter2@h/a"}), "by reference"),
            (json!({"url": "https://hunter2@h/a"}), "by reference"),
            (json!({"url": "https://h/a\nb"}), "control"),
            (json!({"url": "https://h/a", "by": "hunter2"}), "unknown variant"),
            (json!({"url": "https://h/a", "bye": "etag"}), "unknown field"),
            (json!({"url": "https://h/a", "max_bytes": 0}), "out of range"),
            (json!({"url": "https://h/a", "username": "u"}), "belong together"),
            (json!({"url": "https://h/a", "username": "u", "password": "hunter2"}), "by reference"),
            (json!({"url": "https://h/a", "headers": {"x": "hunter2"}}), "by reference"),
            (json!({"url": "https://h/a", "headers": {"x y": {"secret": "s"}}}), "name"),
            (json!({"url": "https://h/a", "headers": {"Host": {"secret": "s"}}}), "own"),
            (json!({"url": "https://h/a", "headers": {"If-None-Match": {"secret": "s"}}}), "own"),
            (json!({"url": "https://h/a", "redirects": {"hosts": []}}), "1 to 16"),
            (json!({"url": "https://h/a", "redirects": {"hosts": ["https://cdn"]}}), "no host"),
            (json!({"url": "https://h/a", "redirects": {"hosts": ["cdn:8443"]}}), "no host"),
            (json!({"url": "https://h/a", "redirects": {"hosts": ["cdn/x"]}}), "no host"),
            (json!({"url": "https://h/a", "redirects": {"hosts": ["u@cdn"]}}), "no host"),
        ] {
            let e = check(config.clone()).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{config}");
            assert!(e.report().contains(said), "{config}: {}", e.report());
            assert!(!e.report().contains("hunter2"), "{}", e.report());
        }
    }

    #[test]
    fn the_builder_writes_what_is_read_back() {
        let built = HttpSource::new("https://h/a?b=c")
            .by(By::LastModified)
            .redirects(Redirects::Hosts(vec!["CDN.example".into(), "[::1]".into()]))
            .max_bytes(5)
            .login("u", "p")
            .header("X-Token", "t");
        let source = built.clone().source("http").unwrap();
        assert_eq!(source.parse::<HttpSource>().unwrap(), built);
        let spec = built.check().unwrap();
        assert_eq!(spec.redirects, Redirects::Hosts(vec!["[::1]".into(), "cdn.example".into()]));
        assert_eq!(spec.headers[0].0, "x-token");
    }

    #[test]
    fn debug_shows_no_password_and_no_query() {
        for url in ["https://u:hunter2@h/a", "https://h/a?token=hunter2", "https://h/a#hunter2"] {
            let shown = format!("{:?}", HttpSource::new(url));
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
