//! The crumb that a server wants with each change by somebody who gives a password, and the session to which it belongs.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use serde_json::Value;
use std::fmt;

/// What goes with a change.
#[derive(Clone)]
pub(super) struct Crumb {
    pub(super) field: HeaderName,
    pub(super) value: HeaderValue,
    pub(super) cookie: Option<HeaderValue>,
}

impl fmt::Debug for Crumb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Crumb(…)")
    }
}

impl Crumb {
    /// From the issuer's answer. Only the session is kept of the cookies that came with it.
    pub(super) fn read(answer: &Value, headers: &HeaderMap) -> Option<Self> {
        let field = answer["crumbRequestField"].as_str()?.parse().ok()?;
        let mut value: HeaderValue = answer["crumb"].as_str()?.parse().ok()?;
        value.set_sensitive(true);
        let cookie = headers.get_all(SET_COOKIE).iter().filter_map(|c| c.to_str().ok()).find_map(|c| {
            let pair = c.split(';').next()?.trim();
            let mut cookie: HeaderValue = pair.starts_with("JSESSIONID").then_some(pair)?.parse().ok()?;
            cookie.set_sensitive(true);
            Some(cookie)
        });
        Some(Self { field, value, cookie })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_crumb_is_kept_with_its_session_alone() {
        let mut headers = HeaderMap::new();
        for cookie in
            ["remember-me=x; Max-Age=0", "JSESSIONID.1a=node0abc.node0; Path=/; HttpOnly", "other=1"]
        {
            headers.append(SET_COOKIE, cookie.parse().unwrap());
        }
        let crumb =
            Crumb::read(&json!({"crumb": "c", "crumbRequestField": "Jenkins-Crumb"}), &headers).unwrap();
        assert_eq!((crumb.field.as_str(), crumb.value.to_str().unwrap()), ("jenkins-crumb", "c"));
        assert_eq!(crumb.cookie.unwrap(), "JSESSIONID.1a=node0abc.node0");
        for bad in
            [json!({}), json!({"crumb": "a\nb", "crumbRequestField": "x"}), json!({"crumb": 1}), json!([])]
        {
            assert!(Crumb::read(&bad, &headers).is_none(), "{bad}");
        }
    }
}
