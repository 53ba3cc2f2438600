//! Who may what, and how it is said that somebody may not.

use crate::{
    ID,
    client::{basic, get, get_as, post, post_as, send, token},
    manual, started,
};
use capomastro_testkit::jenkins::{Jenkins, JobSpec, Script};

const BUILD: &str = "/job/a/buildWithParameters";

#[tokio::test(flavor = "multi_thread")]
async fn row_06_each_error_has_its_own_shape() {
    let (jenkins, _) = started().await;
    jenkins.define_job(JobSpec::freestyle("a").string(ID));
    jenkins.define_job(JobSpec::freestyle("plain"));
    jenkins.define_job(JobSpec::freestyle("off").string(ID).disabled());
    let message = |reply: crate::client::Reply| {
        let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert!(reply.header("X-Jenkins").is_none());
        (reply.status, body["message"].as_str().unwrap().to_owned())
    };
    let not = |what: &str| format!("{what} is not parameterized");
    assert_eq!(message(post(&jenkins, "/job/plain/buildWithParameters", "")), (400, not("plain")));
    assert_eq!(message(post(&jenkins, "/job/a/build", "")), (400, "Nothing is submitted".to_owned()));
    assert_eq!(
        message(post(&jenkins, "/job/off/buildWithParameters", "")),
        (409, "off is not buildable".to_owned())
    );
    assert_eq!(post(&jenkins, "/job/gone/buildWithParameters", "").status, 404);
    let wrong = get(&jenkins, BUILD);
    assert_eq!((wrong.status, wrong.header("Allow").as_deref()), (405, Some("POST")));
    let refused = post_as(&jenkins, "reader", BUILD, "");
    assert_eq!(refused.status, 403);
    assert_eq!(refused.header("X-Required-Permission").as_deref(), Some("hudson.model.Item.Build"));
    assert_eq!(refused.header("X-You-Are-Authenticated-As").as_deref(), Some("reader"));
    let unknown = send(&jenkins, "POST", BUILD, &[("Authorization", &basic("admin", "wrong"))], b"");
    assert!(unknown.header("WWW-Authenticate").is_some());
    assert_eq!(message(unknown), (401, "Unauthorized".to_owned()));
    let crumb = send(&jenkins, "POST", BUILD, &[], b"");
    assert_eq!(message(crumb), (403, "No valid crumb was included in the request".to_owned()));
    let anonymous = send(&jenkins, "GET", "/api/json", &[], b"");
    assert_eq!(anonymous.status, 403);
    assert!(anonymous.text().contains("login?from="));
    assert_eq!(post(&jenkins, BUILD, "CAPOMASTRO_BUILD_ID=1&CAPOMASTRO_BUILD_ID=2").status, 500);
    assert_eq!(
        (
            get_as(&jenkins, "discover", "/job/a/api/json").status,
            get_as(&jenkins, "nothing", "/job/a/api/json").status
        ),
        (403, 404)
    );
    assert!(jenkins.accepted().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn row_07_crumbs_and_cookies() {
    let (jenkins, _) = started().await;
    jenkins.define_job(JobSpec::freestyle("a").string(ID).runs(Script::held()));
    let password = basic(Jenkins::ADMIN, Jenkins::PASSWORD);
    let crumb = |authorization: &str, cookie: Option<&str>| {
        let mut headers = vec![("Authorization", authorization)];
        headers.extend(cookie.map(|cookie| ("Cookie", cookie)));
        let reply = send(&jenkins, "GET", "/crumbIssuer/api/json", &headers, b"");
        let cookie = reply.cookie();
        assert_eq!(reply.json()["crumbRequestField"], "Jenkins-Crumb");
        (reply.json()["crumb"].as_str().unwrap().to_owned(), cookie)
    };
    let try_it = |headers: &[(&str, &str)]| send(&jenkins, "POST", BUILD, headers, b"").status;
    let (good, cookie) = crumb(&password, None);
    let cookie = cookie.unwrap();
    let (other, other_cookie) = crumb(&password, None);
    assert_ne!(good, other);
    let auth = ("Authorization", password.as_str());
    assert_eq!(try_it(&[auth]), 403);
    assert_eq!(try_it(&[auth, ("Jenkins-Crumb", &good)]), 403);
    assert_eq!(try_it(&[auth, ("Cookie", &cookie)]), 403);
    assert_eq!(try_it(&[auth, ("Cookie", &other_cookie.unwrap()), ("Jenkins-Crumb", &good)]), 403);
    assert_eq!(try_it(&[auth, ("Cookie", &cookie), ("Jenkins-Crumb", &good)]), 201);
    let token = token();
    let by_token = ("Authorization", token.as_str());
    assert_eq!(try_it(&[by_token]), 303);
    assert_eq!(
        try_it(&[by_token, ("Cookie", &cookie)]),
        303,
        "a cookie that nobody logged in with does no harm"
    );
    // Somebody logs in through the form, which needs a crumb itself.
    let (anonymous, session) = crumb(&token, None);
    let session = session.unwrap();
    let form = format!("j_username={}&j_password={}", Jenkins::ADMIN, Jenkins::PASSWORD.replace(' ', "+"));
    let log_in = |crumb: &str| {
        let headers = [
            ("Cookie", session.as_str()),
            ("Jenkins-Crumb", crumb),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];
        send(&jenkins, "POST", "/j_spring_security_check", &headers, form.as_bytes())
    };
    assert_eq!(log_in(&anonymous).status, 403, "the crumb was somebody's, and nobody asks yet");
    let (builder, _) = manual();
    let open = builder.without_crumbs().start().await.unwrap();
    assert_eq!(get(&open, "/crumbIssuer/api/json").status, 404);
    let logged_in = send(
        &open,
        "POST",
        "/j_spring_security_check",
        &[("Content-Type", "application/x-www-form-urlencoded")],
        form.as_bytes(),
    );
    let session = logged_in.cookie().unwrap();
    let wrong = basic(Jenkins::ADMIN, "wrong");
    let by_session = [("Authorization", wrong.as_str()), ("Cookie", session.as_str())];
    assert_eq!(send(&open, "GET", "/api/json?tree=mode", &by_session, b"").status, 200, "the session wins");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_07_a_token_beside_a_login_of_the_same_user_needs_a_crumb() {
    let (jenkins, _) = started().await;
    jenkins.define_job(JobSpec::freestyle("a").string(ID).runs(Script::held()));
    let session = jenkins.log_in(Jenkins::ADMIN);
    let cookie = format!("JSESSIONID={session}");
    let headers = [("Authorization", &*token()), ("Cookie", cookie.as_str())];
    assert_eq!(send(&jenkins, "POST", BUILD, &headers, b"").status, 403);
    assert_eq!(send(&jenkins, "GET", "/api/json?tree=mode", &headers, b"").status, 200);
    let other = [("Authorization", &*basic("builder", "t")), ("Cookie", cookie.as_str())];
    assert_eq!(send(&jenkins, "POST", BUILD, &other, b"").status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_45_errors_come_as_json_or_html() {
    let (jenkins, _) = started().await;
    jenkins.define_job(JobSpec::freestyle("a").string(ID).disabled());
    let with = |accept: &str| {
        let headers = [("Authorization", &*token()), ("Accept", accept)];
        send(&jenkins, "POST", BUILD, &headers, b"").header("Content-Type").unwrap()
    };
    assert_eq!(with("application/json"), "application/json");
    assert_eq!(with("*/*"), "text/html;charset=iso-8859-1");
    let missing = get(&jenkins, "/job/gone/api/json");
    assert!(
        missing.header("Content-Type").unwrap().starts_with("text/html")
            && missing.header("X-Jenkins").is_some()
    );
    let headers = [("Authorization", &*token()), ("Content-Type", "application/xml")];
    let accented = send(&jenkins, "POST", "/createItem?name=caf%C3%A9.", &headers, b"<project/>");
    assert!(accented.header("X-Error").is_some());
    let taken = send(&jenkins, "POST", "/createItem?name=caf%C3%A9", &headers, b"<project/>");
    assert_eq!(taken.status, 200);
    let again = send(&jenkins, "POST", "/createItem?name=caf%C3%A9", &headers, b"<project/>");
    let raw = &again.headers.iter().find(|(name, _)| name == "X-Error").unwrap().1;
    assert!(raw.contains(&0xE9) && std::str::from_utf8(raw).is_err());
    let long = format!("/api/json?tree={}", "x".repeat(9_000));
    assert_eq!(get(&jenkins, &long).status, 414);
    let header = "x".repeat(9_000);
    let headers = [("Authorization", &*token()), ("X-Long", header.as_str())];
    assert_eq!(send(&jenkins, "GET", "/api/json", &headers, b"").status, 431);
}
