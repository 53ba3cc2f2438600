//! Who sent a request. Everything is checked over the bytes that came, before any of them is read, in constant time.

use super::{Forge, Headers};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use capomastro_core::{Error, Result, secret::Secret, time::Timestamp};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use subtle::{Choice, ConstantTimeEq};

/// How far the time in a signed request may be from ours.
const MAX_SKEW: Duration = Duration::from_secs(300);
/// What a signing token of GitLab begins with.
const SIGNING_TOKEN: &str = "whsec_";
/// The shortest secret, in bytes.
const MIN_SECRET: usize = 16;
const MAX_SECRET: usize = 1_024;
/// How many secrets are good at a time.
const MAX_SECRETS: usize = 8;

/// Refuses secrets that can be guessed.
pub(super) fn check(secrets: &[Secret]) -> Result<()> {
    if secrets.is_empty() || secrets.len() > MAX_SECRETS {
        return Err(Error::config(
            "a webhook has no secret or more than 8: give one, and two while you replace it",
        ));
    }
    for secret in secrets {
        let text = secret.expose();
        if !(MIN_SECRET..=MAX_SECRET).contains(&text.len()) || text.trim() != text {
            return Err(Error::config(
                "the secret of a webhook can be guessed: give 16 to 1,024 random letters and digits",
            ));
        }
        if text.strip_prefix(SIGNING_TOKEN).is_some_and(|key| BASE64_STANDARD.decode(key).is_err()) {
            return Err(Error::config("a signing token is whsec_ and base 64: copy it as GitLab shows it"));
        }
    }
    Ok(())
}

/// Whether a request carries what a signature needs, so that its body is worth reading.
pub(super) fn is_signed(forge: Forge, headers: Headers<'_>) -> bool {
    names(forge).iter().any(|name| headers.get(name).is_some())
}

const fn names(forge: Forge) -> &'static [&'static str] {
    match forge {
        Forge::GitHub => &["x-hub-signature-256"],
        Forge::GitLab => &["webhook-signature", "x-gitlab-token"],
        Forge::Gitea => &["x-forgejo-signature", "x-gitea-signature"],
        Forge::Bitbucket => &["x-hub-signature"],
        Forge::Generic => &["x-capomastro-signature"],
    }
}

/// Whether one of the secrets was used. All of them are tried, however the first ones fare.
pub(super) fn holds(
    forge: Forge,
    secrets: &[Secret],
    headers: Headers<'_>,
    body: &[u8],
    now: Timestamp,
) -> bool {
    let first = || names(forge).iter().find_map(|name| headers.get(name));
    match forge {
        Forge::GitHub | Forge::Bitbucket => {
            let claimed = first().and_then(|text| text.strip_prefix("sha256=")).and_then(from_hex);
            any(secrets, claimed, &[body])
        }
        Forge::Gitea => any(secrets, first().and_then(from_hex), &[body]),
        Forge::Generic => {
            let Some(time) = headers.get("x-capomastro-timestamp") else { return false };
            let claimed = first().and_then(|text| text.strip_prefix("sha256=")).and_then(from_hex);
            is_now(time, now) && any(secrets, claimed, &[time.as_bytes(), b".", body])
        }
        Forge::GitLab => {
            let (signing, tokens): (Vec<&Secret>, Vec<&Secret>) =
                secrets.iter().partition(|s| s.expose().starts_with(SIGNING_TOKEN));
            let is_signed = !signing.is_empty() && standard(&signing, headers, body, now);
            // Both sides are digested, so that not even the length of a token shows.
            let given = headers.get("x-gitlab-token").map(|t| Sha256::digest(t.as_bytes()));
            let mut is_token = Choice::from(0);
            if let Some(given) = given {
                for token in tokens {
                    is_token |= Sha256::digest(token.expose().as_bytes()).as_slice().ct_eq(given.as_slice());
                }
            }
            is_signed || is_token.into()
        }
    }
}

/// The form of <https://www.standardwebhooks.com>, which GitLab's signing tokens use.
fn standard(secrets: &[&Secret], headers: Headers<'_>, body: &[u8], now: Timestamp) -> bool {
    let (Some(id), Some(time), Some(signatures)) =
        (headers.get("webhook-id"), headers.get("webhook-timestamp"), headers.get("webhook-signature"))
    else {
        return false;
    };
    let mut good = false;
    for claimed in signatures.split(' ').take(MAX_SECRETS).filter_map(|s| s.strip_prefix("v1,")) {
        let Ok(claimed) = BASE64_STANDARD.decode(claimed) else { continue };
        for secret in secrets {
            let key = secret.expose().strip_prefix(SIGNING_TOKEN).unwrap_or_default();
            let Ok(key) = BASE64_STANDARD.decode(key) else { continue };
            good |= is_by(&key, &claimed, &[id.as_bytes(), b".", time.as_bytes(), b".", body]);
        }
    }
    good && is_now(time, now)
}

fn any(secrets: &[Secret], claimed: Option<Vec<u8>>, parts: &[&[u8]]) -> bool {
    let Some(claimed) = claimed else { return false };
    secrets.iter().fold(false, |good, secret| good | is_by(secret.expose().as_bytes(), &claimed, parts))
}

fn is_by(key: &[u8], claimed: &[u8], parts: &[&[u8]]) -> bool {
    // A key of any length is a key for this.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return false };
    for part in parts {
        mac.update(part);
    }
    mac.verify_slice(claimed).is_ok()
}

/// Whether a time in seconds since 1970 is about now.
fn is_now(text: &str, now: Timestamp) -> bool {
    let skew = i64::try_from(MAX_SKEW.as_secs()).unwrap_or(i64::MAX);
    text.parse::<i64>().is_ok_and(|time| time.abs_diff(now.timestamp()) <= skew.unsigned_abs())
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    text.as_bytes().chunks(2).map(|two| Some((digit(two[0])? << 4) | digit(*two.get(1)?)?)).collect()
}
