//! URLs and other configuration that people write, with passwords where none belong.

use super::{SECRET, is_decent};
use capomastro_core::{model::Source, probe::RevisionProbe as _};
use capomastro_probes::git::{GitProbe, GitSource};
use serde_json::{Value, json};

thread_local! {
    static PROBE: GitProbe = GitProbe::new();
}

/// A git URL, or the JSON of a whole source.
pub fn git_url(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else { return false };
    let config = match serde_json::from_str::<Value>(text) {
        // Who writes a wrong name for a setting is told that name.
        Ok(Value::Object(config)) if config.keys().any(|k| k.contains(SECRET)) => return false,
        Ok(config @ Value::Object(_)) => config,
        _ => json!({"url": text}),
    };
    let url = config.get("url").and_then(Value::as_str).unwrap_or_default().to_owned();
    let source = Source { probe: "git".parse().unwrap(), config };
    let built = GitSource::new(&url);
    if has_password(&url) {
        assert!(!format!("{built:?}").contains(SECRET), "Debug shows a password: {built:?}");
        assert!(built.clone().source("git").is_err(), "a password is taken: {url}");
    }
    if let Err(error) = built.source("git") {
        is_decent(&error);
    }
    PROBE.with(|probe| match probe.key(&source) {
        Ok(key) => {
            let again = probe.key(&source).unwrap();
            assert_eq!(key, again);
            assert!(!has_password(&url), "a password is taken: {url}");
            assert!(format!("{key:?}").len() < 16_384);
            true
        }
        Err(error) => {
            is_decent(&error);
            false
        }
    })
}

/// Whether somebody would say that a password stands in it: behind a colon, before the last `@` of what names the host.
fn has_password(url: &str) -> bool {
    let authority = match url.split_once("://") {
        Some((_, rest)) => rest.split(['/', '?', '#', '\\']).next().unwrap_or_default(),
        None if url.starts_with('/') => return false,
        None => url.split('/').next().unwrap_or_default(),
    };
    let userinfo = authority.rsplit_once('@').map_or("", |(user, _)| user);
    userinfo.split_once(':').is_some_and(|(_, password)| password.contains(SECRET))
}
