//! Servers and places that fail, and credentials.

use super::{
    asking::{Remembering, answer, by_program, failure, seen, with_programs, within},
    repo::{Repo, Server},
    web::{Answer, Web},
};
use capomastro_core::{
    ErrorKind,
    probe::{Probed, RevisionProbe as _},
};
use capomastro_probes::hg::{HgProbe, HgSource};
use std::{fs, path::PathBuf, sync::Arc};

/// `robot` with the secret `forge`, and with the secret `wrong`.
const FORGE: &str = "Basic cm9ib3Q6cGxhbnRlZCBodW50ZXIyOiDDvEAv";
const WRONG: &str = "Basic cm9ib3Q6d3JvbmctaHVudGVyMg==";

fn probes() -> [(&'static str, HgProbe); 2] {
    [("in process", with_programs()), ("by program", by_program(&Arc::<Remembering>::default()))]
}

#[tokio::test(flavor = "multi_thread")]
async fn places_that_are_no_repository() {
    if !crate::repo::hg_is_there() {
        return;
    }
    let repo = Repo::new();
    fs::create_dir(repo.root.path().join("empty")).unwrap();
    let at = |name: &str| HgSource::new(repo.root.path().join(name).display().to_string());
    for (way, probe) in probes() {
        let e = failure(&probe, at("empty")).await;
        assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{way}: {}", e.report());
        let e = failure(&probe, at("no/such/place")).await;
        assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{way}: {}", e.report());
        // It was there, or will be.
        assert_eq!(answer(&probe, at("gone")).await.unwrap(), Probed::NotFound, "{way}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_do_not_do_what_they_should() {
    if !crate::repo::hg_is_there() {
        return;
    }
    let say = |status, kind: &'static str, body: &[u8]| {
        Answer::Say(status, vec![("content-type", kind.to_owned())], body.to_vec())
    };
    let hg = "application/mercurial-0.1";
    for (answer, kind) in [
        (say(404, "text/html", b"<html>"), ErrorKind::InvalidConfig),
        (say(403, "text/html", b"<html>"), ErrorKind::PermissionDenied),
        (say(401, "text/html", b"<html>"), ErrorKind::PermissionDenied),
        (say(429, "text/html", b"<html>"), ErrorKind::RateLimited),
        (say(503, "text/html", b"<html>"), ErrorKind::Unavailable),
        (say(200, "text/html", b"<html>"), ErrorKind::Corrupt),
        (say(200, hg, b"default \x1b[31m"), ErrorKind::Corrupt),
        (say(200, hg, b"default -r"), ErrorKind::Corrupt),
        (say(200, hg, &[b'x'; 100_000]), ErrorKind::InvalidConfig),
        (say(200, "application/hg-error", b"hunter2"), ErrorKind::Unavailable),
    ] {
        let said = format!("{answer:?}");
        let web = Web::serve(PathBuf::new(), move |_| answer.clone()).await;
        let source = HgSource::new(web.url("r"));
        let got = within(HgProbe::new().probe(&[super::asking::ask_for(source)])).await.remove(0);
        match got {
            Err(e) => assert_eq!(e.kind(), kind, "{said:.200}: {}", e.report()),
            // A name without heads, however long, is none of ours.
            Ok(probed) => {
                assert_eq!((probed, kind), (Probed::NotFound, ErrorKind::InvalidConfig), "{said:.200}")
            }
        }
    }
    let e = failure(&with_programs(), HgSource::new("http://127.0.0.1:1/r")).await;
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{}", e.report());
    let e = failure(&by_program(&Arc::<Remembering>::default()), HgSource::new("http://127.0.0.1:1/r")).await;
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{}", e.report());
}

/// A server that wants to know who asks, before the real one.
async fn guarded(repo: &Repo, right: &'static str) -> (Web, Arc<Server>) {
    let server = Arc::new(Server::over(repo));
    let behind = Arc::clone(&server);
    let web = Web::serve(PathBuf::new(), move |got| {
        let authorization = got.headers.get("authorization").and_then(|value| value.to_str().ok());
        if authorization == Some(right) {
            return behind.ask(&got.path);
        }
        let realm = ("www-authenticate", "Basic realm=\"x\"".to_owned());
        Answer::Say(401, vec![realm], format!("{authorization:?} hunter2").into_bytes())
    });
    (web.await, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_sent_and_never_shown() {
    if !crate::repo::hg_is_there() {
        return;
    }
    let repo = Repo::new();
    let tip = repo.commit();
    let runner = Arc::<Remembering>::default();
    // What is right for one is wrong for the other.
    for (way, probe, authorization, right, wrong) in [
        ("in process", with_programs(), FORGE, "forge", "wrong"),
        ("by program", by_program(&runner), WRONG, "wrong", "forge"),
    ] {
        let (web, _server) = guarded(&repo, authorization).await;
        let url = web.url("");
        assert_eq!(seen(&probe, HgSource::new(&url).login("robot", right)).await.0, tip, "{way}");
        let e = failure(&probe, HgSource::new(&url)).await;
        assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{way}: {}", e.report());
        let e = failure(&probe, HgSource::new(&url).login("somebody", "wrong")).await;
        assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{way}: {}", e.report());
        let e = failure(&probe, HgSource::new(&url).login("robot", wrong)).await;
        // The library takes no password that is not ASCII.
        let expected = if wrong == "forge" { ErrorKind::Unsupported } else { ErrorKind::PermissionDenied };
        assert_eq!(e.kind(), expected, "{way}: {}", e.report());
    }
    assert!(!runner.commands().is_empty());
    for command in runner.commands() {
        let env = format!("{:?} {:?}", command.args, command.env);
        assert!(!env.contains("hunter2"), "{env}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_library_it_is_said() {
    if !crate::repo::hg_is_there() {
        return;
    }
    let repo = Repo::new();
    let first = repo.commit();
    repo.commit();
    repo.update(&first);
    repo.commit();
    let server = Server::over(&repo);
    // Whether heads are closed cannot be told without it.
    let e = failure(&HgProbe::new(), HgSource::new(server.url())).await;
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{}", e.report());
    let runner = || Arc::<Remembering>::default();
    for python in ["/nonexistent/python", "/bin/false"] {
        let probe = HgProbe::builder().always_program(true).runner(runner()).python(python).build();
        let e = failure(&probe, repo.source()).await;
        assert!(matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::Unavailable), "{}", e.report());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_asked_of_one_repository_is_one_look() {
    if !crate::repo::hg_is_there() {
        return;
    }
    let repo = Repo::new();
    let first = repo.commit();
    repo.hg(&["bookmark", "-i", "mark"]);
    repo.hg(&["branch", "--quiet", "side"]);
    let second = repo.commit();
    let runner = Arc::<Remembering>::default();
    let probe = by_program(&runner);
    let asks = [
        repo.source(),
        repo.source().branch("side"),
        repo.source().bookmark("mark"),
        repo.source().branch("no"),
    ];
    let asks = asks.map(super::asking::ask_for);
    let keys: Vec<_> = asks.iter().map(|a| probe.key(&a.source).unwrap()).collect();
    assert!(keys.windows(2).all(|k| k[0] == k[1]));
    let answers = within(probe.probe(&asks)).await;
    let nodes: Vec<String> = answers
        .into_iter()
        .map(|a| match a.unwrap() {
            Probed::Observed(o) => o.revision.to_string(),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(nodes, [first.clone(), second, first, "NotFound".to_owned()]);
    assert_eq!(runner.commands().len(), 1);
}
