//! What the answer to a request for a build means: whether a build may have been started by it.

use super::{Fault, Reply};
use crate::address::{JobName, is_page_of, queue_item};
use capomastro_core::{Error, ErrorKind};
use reqwest::StatusCode;

/// Whether a request for a build took effect.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It did; the queue item, where the answer names it.
    Accepted(Option<u64>),
    /// The queue took nothing, perhaps for now only.
    NotQueued,
    /// It did not, and will not until somebody changes something; why.
    Rejected(String),
    /// It did not, and the error says what to do about it.
    NoEffect(Error),
    /// It may have.
    Unknown(Error),
}

/// The verdict, which depends on nothing but what came back.
pub(crate) fn of_trigger(answer: Result<Reply, Fault>, job: &JobName) -> Verdict {
    let reply = match answer {
        Ok(reply) => reply,
        Err(Fault::Unsent(error)) => return Verdict::NoEffect(error),
        Err(Fault::Unknown(error)) => return Verdict::Unknown(error),
    };
    let location = reply.location().unwrap_or_default();
    let rejected = |reason: &str| Verdict::Rejected(format!("{reason} (status {})", reply.status.as_u16()));
    let unknown = |what: &str| {
        Verdict::Unknown(
            Error::new(ErrorKind::OutcomeUnknown, what).with_context("status", reply.status.as_u16()),
        )
    };
    match reply.status {
        StatusCode::CREATED | StatusCode::SEE_OTHER => Verdict::Accepted(queue_item(location)),
        StatusCode::FOUND if queue_item(location).is_some() => Verdict::Accepted(queue_item(location)),
        StatusCode::FOUND if is_page_of(location, job) => Verdict::NotQueued,
        StatusCode::MOVED_PERMANENTLY | StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => {
            Verdict::NoEffect(reply.complaint())
        }
        StatusCode::BAD_REQUEST => {
            rejected("the job takes no parameters, or not these: look at its definition")
        }
        StatusCode::NOT_FOUND if reply.is_of_jenkins() => {
            rejected("the server has no such job, or does not show it to this user")
        }
        StatusCode::CONFLICT => rejected("the job is disabled, or a copy that was never saved"),
        StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::URI_TOO_LONG
        | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            rejected("the request is too large for the server, or for one before it")
        }
        _ if reply.denies_us() => Verdict::NoEffect(reply.denial()),
        StatusCode::FORBIDDEN => rejected(&reply.missing_permission().unwrap_or_default()),
        StatusCode::NOT_FOUND | StatusCode::TOO_MANY_REQUESTS => Verdict::NoEffect(reply.complaint()),
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => Verdict::NoEffect(
            Error::config("something before the server does not let the request through: check the proxy")
                .with_context("status", reply.status.as_u16()),
        ),
        _ if reply.is_start_page() => Verdict::NoEffect(reply.complaint()),
        StatusCode::OK if reply.is_html() => unknown(
            "a web page came back where a build was asked for, perhaps one to log in: check the server's URL and the proxy",
        ),
        StatusCode::FOUND => unknown("the answer leads to a place that is not the job"),
        _ => unknown("the answer does not tell whether the build was taken"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::reply::tests::reply, *};
    use capomastro_core::Retry;

    fn short(verdict: &Verdict) -> String {
        match verdict {
            Verdict::Accepted(Some(item)) => format!("accepted {item}"),
            Verdict::Accepted(None) => "accepted".into(),
            Verdict::NotQueued => "not queued".into(),
            Verdict::Rejected(_) => "rejected".into(),
            Verdict::NoEffect(e) => format!("no effect: {}", e.kind()),
            Verdict::Unknown(_) => "unknown".into(),
        }
    }

    #[test]
    fn an_answer_tells_whether_a_build_may_have_started() {
        let jenkins = ("x-jenkins", "2.568");
        let html = ("content-type", "text/html;charset=utf-8");
        let no_store = ("cache-control", "no-cache,no-store,must-revalidate");
        let at = |location| ("location", location);
        for (status, headers, body, means) in [
            (201, vec![at("http://inner:80/ctx/queue/item/7/")], "", "accepted 7"),
            (303, vec![at("/queue/item/7")], "", "accepted 7"),
            (201, vec![], "", "accepted"),
            (201, vec![at("http://h/job/a/")], "", "accepted"),
            (302, vec![at("/ctx/job/a/")], "", "not queued"),
            (302, vec![at("/ctx/job/b/")], "", "unknown"),
            (302, vec![at("https://sso/login")], "", "unknown"),
            (301, vec![at("https://h/job/a/buildWithParameters")], "", "no effect: invalid_config"),
            (307, vec![], "", "no effect: invalid_config"),
            (308, vec![], "", "no effect: invalid_config"),
            (400, vec![], "{}", "rejected"),
            (401, vec![("www-authenticate", "Basic")], "", "no effect: permission_denied"),
            (403, vec![jenkins, ("x-required-permission", "hudson.model.Item.Build")], "", "rejected"),
            (403, vec![html], "No valid crumb was included in the request", "no effect: permission_denied"),
            (403, vec![html], "blocked", "no effect: permission_denied"),
            (404, vec![jenkins, html], "", "rejected"),
            (404, vec![html], "", "no effect: unavailable"),
            (405, vec![jenkins], "", "no effect: invalid_config"),
            (407, vec![], "", "no effect: invalid_config"),
            (409, vec![], "{}", "rejected"),
            (413, vec![], "", "rejected"),
            (414, vec![], "", "rejected"),
            (431, vec![], "", "rejected"),
            (429, vec![], "", "no effect: rate_limited"),
            (500, vec![jenkins, html], "", "unknown"),
            (500, vec![html], "", "unknown"),
            (502, vec![html], "", "unknown"),
            (503, vec![html, no_store], "Starting Jenkins", "no effect: unavailable"),
            (503, vec![html], "Service Unavailable", "unknown"),
            (503, vec![], "", "unknown"),
            (504, vec![], "", "unknown"),
            (200, vec![html], "<form>", "unknown"),
            (200, vec![], "", "unknown"),
            (204, vec![], "", "unknown"),
            (599, vec![], "", "unknown"),
        ] {
            let verdict = of_trigger(Ok(reply(status, &headers, body)), &JobName::parse("a").unwrap());
            assert_eq!(short(&verdict), means, "{status} {headers:?}: {verdict:?}");
        }
    }

    #[test]
    fn a_server_that_starts_refuses_good_credentials() {
        for status in [401, 403] {
            let mut refusal = reply(status, &[], "No valid crumb");
            refusal.may_be_starting = true;
            match of_trigger(Ok(refusal), &JobName::parse("a").unwrap()) {
                Verdict::NoEffect(e) => assert!(matches!(e.retry(), Retry::After(_)), "{e:?}"),
                other => panic!("{status}: {other:?}"),
            }
        }
    }
}
