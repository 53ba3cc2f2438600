//! Rules for URLs that all kinds of repositories share. No message repeats a URL, since it may hold a password.

use capomastro_core::{Error, Result};
use percent_encoding::percent_decode_str;
use std::path::PathBuf;
use url::Url;

/// The longest URL, in bytes, as given and in canonical form: it is part of the probe key.
pub(crate) const MAX_URL: usize = 1_000;

/// Checks what no URL may be. `kind` is what people call it: `git URL`.
pub(crate) fn check(kind: &str, text: &str) -> Result<()> {
    let refuse = |message: &str| Err(Error::config(format!("the {kind} {message}")));
    if text.is_empty() || text.len() > MAX_URL {
        return refuse("is empty or longer than 1,000 bytes: give the URL of a repository");
    }
    if text.chars().any(char::is_control) || text.trim() != text {
        return refuse("contains a control character or starts or ends with a blank: remove it");
    }
    if text.starts_with('-') {
        return refuse("starts with a dash, like an option: give the URL of a repository");
    }
    Ok(())
}

/// Checks the length of a URL in canonical form.
pub(crate) fn check_canonical(kind: &str, text: &str) -> Result<()> {
    if text.len() > MAX_URL {
        return Err(Error::config(format!(
            "the {kind} is longer than 1,000 bytes when written out: give a shorter one"
        )));
    }
    Ok(())
}

/// Reads a URL that has neither password, query nor fragment, and a user only where `may_name_user`.
pub(crate) fn plain(kind: &str, text: &str, may_name_user: bool) -> Result<Url> {
    let refuse = |message: &str| Err(Error::config(format!("the {kind} {message}")));
    // The parser's own message is not repeated: it may quote what it could not read.
    let Ok(url) = Url::parse(text) else {
        return refuse("cannot be read: check host, port and path");
    };
    if url.password().is_some() {
        return refuse(
            "contains a password: remove it, replace it on the server since it was written in clear text, and give \
             the new one by reference, as password: {\"secret\": \"its name\"}",
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("has a query or a fragment: remove it, and give credentials as username and password");
    }
    if !may_name_user && !url.username().is_empty() {
        return refuse(
            "contains a user name, which may be a token: give username and password, by reference, instead",
        );
    }
    Ok(url)
}

/// The path of a `file` URL.
pub(crate) fn file_path(kind: &str, url: &Url) -> Result<PathBuf> {
    if url.host_str().is_some_and(|h| !h.is_empty() && h != "localhost") {
        return Err(Error::config("a file URL names no host: write file:///path"));
    }
    let path = decoded(kind, url.path())?;
    if !path.starts_with('/') {
        return Err(Error::config("a file URL has an absolute path: write file:///path"));
    }
    Ok(normal(&path))
}

/// An HTTP URL without slashes at its end.
pub(crate) fn http(mut url: Url) -> Url {
    let trimmed = url.path().trim_end_matches('/').to_owned();
    url.set_path(&trimmed);
    url
}

/// A path without slashes at its end.
pub(crate) fn trimmed(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() { "/" } else { trimmed }
}

/// A path without empty parts and dots. `..` stays: what it means depends on links.
pub(crate) fn normal(path: &str) -> PathBuf {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    format!("/{}", parts.join("/")).into()
}

/// The path of a URL as text.
pub(crate) fn decoded(kind: &str, path: &str) -> Result<String> {
    let text = percent_decode_str(path).decode_utf8().ok().filter(|t| !t.chars().any(char::is_control));
    text.map(Into::into).ok_or_else(|| {
        Error::config(format!(
            "the path of the {kind} is not UTF-8 or hides a control character: give another"
        ))
    })
}

/// The host of a URL, in lower case; an address of version 6 keeps its brackets.
pub(crate) fn host(kind: &str, url: &Url) -> Result<String> {
    let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    if host.is_empty() || host.starts_with('-') || !host.bytes().all(fits) {
        return Err(Error::config(format!(
            "the host of the {kind} is missing or not one: give a name or an address"
        )));
    }
    Ok(host)
}

/// A user for ssh, with the `@` behind it where there is one.
pub(crate) fn user_part(kind: &str, user: &str) -> Result<String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+');
    if user.starts_with('-') || user.len() > 64 || !user.bytes().all(fits) {
        return Err(Error::config(format!(
            "the user of the {kind} is not one: use letters, digits, dots and dashes"
        )));
    }
    Ok(if user.is_empty() { String::new() } else { format!("{user}@") })
}
