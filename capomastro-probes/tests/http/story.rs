//! What becomes of a file, and of what servers say.

use super::server::{Answer, Got, Server, say};
use capomastro_core::{
    Error, ErrorKind, Retry,
    probe::{Ask, Probed, RevisionProbe},
    secret::{FixedSecrets, Secrets},
};
use capomastro_probes::http::{By, HttpProbe, HttpSource, Redirects};
use std::{sync::Arc, time::Duration};

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const OLDER: &str = "Sat, 05 Nov 1994 08:49:37 GMT";
const PASSWORD: &str = "correct horse battery";

fn ask(source: HttpSource) -> Ask {
    let secrets = FixedSecrets::default().with("forge", PASSWORD).with("token", "hunter2");
    let secrets = Secrets::new(Arc::new(secrets));
    Ask::new("lib".try_into().unwrap(), source.source("http").unwrap(), Duration::from_secs(30), secrets)
}

async fn look(ask: &Ask) -> Result<Probed, Error> {
    HttpProbe::new().probe(std::slice::from_ref(ask)).await.remove(0)
}

/// The revision; the ask remembers it as a scheduler does.
async fn seen(ask: &mut Ask) -> String {
    match look(ask).await.unwrap() {
        Probed::Observed(o) => {
            (ask.seen, ask.cursor) = (Some(o.revision.clone()), o.cursor);
            o.revision.to_string()
        }
        other => panic!("not observed: {other:?}"),
    }
}

fn methods(server: &Server) -> Vec<String> {
    server.got().iter().map(|g| g.method.to_string()).collect()
}

/// A server that keeps to the rules for tags.
fn tagged(tag: &'static str) -> impl Fn(&Got) -> Answer {
    move |got| match got.header("if-none-match") {
        Some(asked) if asked == tag => say(304, &[("etag", tag)], ""),
        _ => say(200, &[("etag", tag), ("last-modified", DATE)], "body"),
    }
}

#[tokio::test]
async fn a_tag_is_asked_for_by_its_headers_alone() {
    let server = Server::that(tagged("\"a\"")).await;
    let mut ask = ask(HttpSource::new(server.url()));
    assert_eq!(seen(&mut ask).await, "etag:\"a\"");
    assert_eq!(look(&ask).await.unwrap(), Probed::SameAsSeen);
    let got = server.got();
    assert!(got.iter().all(|g| g.method == "HEAD" && g.header("accept-encoding") == Some("identity")));
    assert_eq!(got[1].header("if-none-match"), Some("\"a\""));
    server.does(tagged("\"b\""));
    assert_eq!(seen(&mut ask).await, "etag:\"b\"");
    // Without the cursor it is asked as at first, and says the same.
    ask.cursor = None;
    assert_eq!(seen(&mut ask).await, "etag:\"b\"");
}

#[tokio::test]
async fn a_file_that_is_set_back_is_a_change() {
    let server = Server::that(|_| say(200, &[("last-modified", DATE)], "new")).await;
    let mut ask = ask(HttpSource::new(server.url()));
    assert_eq!(seen(&mut ask).await, format!("modified:{DATE}"));
    // A server that answers "not newer" to those who ask.
    server.does(|got| match got.header("if-modified-since") {
        Some(_) => say(304, &[], ""),
        None => say(200, &[("last-modified", OLDER)], "old"),
    });
    assert_eq!(seen(&mut ask).await, format!("modified:{OLDER}"));
    assert_eq!(methods(&server), ["HEAD", "HEAD"]);
}

#[tokio::test]
async fn without_validators_the_bytes_tell() {
    let server = Server::that(|_| say(200, &[("etag", "W/\"weak\"")], "abc")).await;
    let mut auto = ask(HttpSource::new(server.url()));
    let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(seen(&mut auto).await, abc);
    assert_eq!(methods(&server), ["HEAD", "GET"]);
    let mut weak = ask(HttpSource::new(server.url()).by(By::Etag));
    assert_eq!(seen(&mut weak).await, "etag:W/\"weak\"");
    // Same length, same tag: who asks for the digest sees it.
    server.does(|_| say(200, &[("etag", "\"same\"")], "abd"));
    let mut digest = ask(HttpSource::new(server.url()).by(By::Digest));
    (digest.seen, digest.cursor) = (auto.seen.clone(), auto.cursor.clone());
    assert_ne!(seen(&mut digest).await, abc);
    for by in [By::LastModified, By::Etag] {
        server.does(|_| say(200, &[], "x"));
        let e = look(&ask(HttpSource::new(server.url()).by(by))).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
    }
}

#[tokio::test]
async fn a_server_that_changes_its_kind_is_never_unchanged() {
    let server = Server::that(|_| say(200, &[], "abc")).await;
    let mut ask = ask(HttpSource::new(server.url()));
    let digest = seen(&mut ask).await;
    server.does(|_| say(200, &[("last-modified", DATE)], "abc"));
    let date = seen(&mut ask).await;
    server.does(tagged("\"a\""));
    let tag = seen(&mut ask).await;
    server.does(|_| say(200, &[], "abc"));
    assert_eq!(seen(&mut ask).await, digest);
    assert!(digest.starts_with("sha256:") && date.starts_with("modified:") && tag.starts_with("etag:"));
}

#[tokio::test]
async fn a_server_that_answers_no_head_is_asked_otherwise() {
    for status in [405, 501, 404, 403, 500] {
        let server = Server::that(move |got| match got.method.as_str() {
            "HEAD" => say(status, &[], ""),
            _ => tagged("\"a\"")(got),
        });
        let server = server.await;
        let mut ask = ask(HttpSource::new(server.url()));
        assert_eq!(seen(&mut ask).await, "etag:\"a\"");
        assert_eq!(look(&ask).await.unwrap(), Probed::SameAsSeen);
        assert_eq!(methods(&server), ["HEAD", "GET", "HEAD", "GET"]);
    }
}

#[tokio::test]
async fn a_lying_not_modified_is_not_believed() {
    let server = Server::that(tagged("\"a\"")).await;
    let mut ask = ask(HttpSource::new(server.url()));
    seen(&mut ask).await;
    // It says "not modified" of another tag than it was asked for.
    server.does(|got| match got.header("if-none-match") {
        Some(_) => say(304, &[("etag", "\"b\"")], ""),
        None => say(200, &[("etag", "\"b\"")], "new"),
    });
    assert_eq!(seen(&mut ask).await, "etag:\"b\"");
    server.does(|_| say(304, &[], ""));
    (ask.seen, ask.cursor) = (None, None);
    assert_eq!(look(&ask).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn what_is_not_there_and_what_cannot_be_had() {
    let server = Server::that(|_| say(404, &[], "")).await;
    let ask = ask(HttpSource::new(server.url()));
    for status in [404, 410] {
        server.does(move |_| say(status, &[], ""));
        assert_eq!(look(&ask).await.unwrap(), Probed::NotFound);
    }
    for (status, kind) in [
        (401, ErrorKind::PermissionDenied),
        (403, ErrorKind::PermissionDenied),
        (429, ErrorKind::RateLimited),
        (500, ErrorKind::Unavailable),
        (503, ErrorKind::Unavailable),
        (504, ErrorKind::TimedOut),
        (418, ErrorKind::Corrupt),
    ] {
        server.does(move |_| say(status, &[("retry-after", "7")], ""));
        let e = look(&ask).await.unwrap_err();
        assert_eq!(e.kind(), kind, "{status}");
        if matches!(status, 429 | 503) {
            assert_eq!(e.retry(), Retry::After(Duration::from_secs(7)));
        }
    }
    let nobody = HttpSource::new("http://127.0.0.1:1/file");
    assert_eq!(look(&super::story::ask(nobody)).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_body_has_bounds() {
    let server = Server::that(|_| say(200, &[], "12345")).await;
    let fits = ask(HttpSource::new(server.url()).max_bytes(5));
    assert!(look(&fits).await.is_ok());
    let e = look(&ask(HttpSource::new(server.url()).max_bytes(4))).await.unwrap_err();
    assert!(e.message().contains("max_bytes"), "{e}");
}

#[tokio::test]
async fn credentials_stay_at_home() {
    let away = Server::that(|got| {
        say(200, &[("etag", got.header("authorization").map_or("\"clean\"", |_| "\"leak\""))], "")
    });
    let away = away.await;
    let target = away.url();
    let home = Server::that(move |got| match (got.path.as_str(), got.header("authorization")) {
        ("/file", None) => say(401, &[("www-authenticate", "Basic realm=\"x\"")], ""),
        ("/file", Some(_)) => say(302, &[("location", "/next")], ""),
        ("/next", Some(_)) => say(200, &[("etag", "\"next\"")], ""),
        _ => say(302, &[("location", &target)], ""),
    });
    let home = home.await;
    let source = || HttpSource::new(home.url()).login("robot", "forge").header("x-token", "token");
    let revision = seen(&mut ask(source())).await;
    assert!(revision.starts_with("etag:\"next\" at "), "{revision}");
    assert!(home.got().iter().all(|g| g.header("x-token") == Some("hunter2")));

    // To another origin: refused, unless its host is listed; and then without what is ours.
    let target = away.url();
    home.does(move |_| say(302, &[("location", &format!("{target}?hunter2"))], ""));
    for policy in [Redirects::None, Redirects::SameOrigin, Redirects::Hosts(vec!["127.0.0.1".into()])] {
        let e = look(&ask(source().redirects(policy))).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidConfig);
        assert!(!e.report().contains("hunter2"), "{}", e.report());
    }
    assert!(away.got().is_empty(), "an unusual port is not followed, nor is another origin");

    let home_path = Server::that(|_| say(302, &[("location", "/file")], "")).await;
    let e = look(&ask(HttpSource::new(home_path.url()))).await.unwrap_err();
    assert!(e.message().contains("without end"), "{e}");
    assert!(home_path.got().len() < 20);
}

#[tokio::test]
async fn another_target_with_the_same_tag_is_a_change() {
    let to = |target: &'static str| {
        move |got: &Got| match (got.path.as_str(), got.header("if-none-match")) {
            ("/file", _) => say(302, &[("location", target)], ""),
            (_, Some("\"1\"")) => say(304, &[("etag", "\"1\"")], ""),
            _ => say(200, &[("etag", "\"1\"")], ""),
        }
    };
    let server = Server::that(to("/v1")).await;
    let mut ask = ask(HttpSource::new(server.url()));
    let first = seen(&mut ask).await;
    assert_eq!(look(&ask).await.unwrap(), Probed::SameAsSeen);
    server.does(to("/v2"));
    assert_ne!(seen(&mut ask).await, first);
    assert_eq!(look(&ask).await.unwrap(), Probed::SameAsSeen);
}

#[tokio::test]
async fn asks_of_one_file_are_one_look_and_each_gets_its_answer() {
    let server = Server::that(tagged("\"a\"")).await;
    let mut old = ask(HttpSource::new(server.url()));
    seen(&mut old).await;
    server.got();
    let new = ask(HttpSource::new(server.url()));
    let probe = HttpProbe::new();
    let same = probe.probe(&[old.clone(), old.clone()]).await;
    assert!(same.iter().all(|a| matches!(a, Ok(Probed::SameAsSeen))));
    let mixed = probe.probe(&[old, new]).await;
    assert!(mixed.iter().all(|a| matches!(a, Ok(Probed::Observed(_)))), "{mixed:?}");
    assert_eq!(server.got().len(), 2);
}
