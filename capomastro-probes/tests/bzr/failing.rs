//! Places that are wrong, servers that misbehave, and credentials.

use super::{
    asking::{Remembering, answer, by_program, failure, seen, within},
    branch::Branches,
    web::{Answer, Got, Web},
};
use capomastro_core::{ErrorKind, Retry, probe::Probed, probe::RevisionProbe as _};
use capomastro_probes::bzr::{BzrProbe, BzrSource};
use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _, sync::Arc};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// `robot` and the password of the secret `forge`, as they are sent.
const AUTHORIZATION: &str = "Basic cm9ib3Q6cGxhbnRlZCBodW50ZXIyOiDDvEAv";

#[tokio::test(flavor = "multi_thread")]
async fn wrong_places_are_told_by_both_ways() {
    if !crate::branch::brz_is_there() {
        return;
    }
    let branches = Branches::new();
    fs::create_dir(branches.path("plain")).unwrap();
    let runner = Arc::<Remembering>::default();
    for probe in [BzrProbe::new(), by_program(&runner)] {
        for (url, kind) in [
            (branches.url("plain"), ErrorKind::InvalidConfig),
            ("/nonexistent/a/b".into(), ErrorKind::InvalidConfig),
            ("http://127.0.0.1:1/a".into(), ErrorKind::Unavailable),
            ("bzr://127.0.0.1:1/a".into(), ErrorKind::Unavailable),
        ] {
            let e = failure(&probe, BzrSource::new(&url)).await;
            assert_eq!(e.kind(), kind, "{url}: {}", e.report());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_web_server_says_is_told() {
    if !crate::branch::brz_is_there() {
        return;
    }
    let branches = Branches::new();
    let web = Web::serve(branches.root.path().into(), |got| {
        let say = |status, headers| Answer::Say(status, headers, b"<html>".into());
        match got.path.split('/').nth(1).unwrap() {
            "forbidden" => say(403, vec![]),
            "closed" => say(401, vec![("www-authenticate", "Basic realm=\"x\"".into())]),
            "busy" => say(429, vec![("retry-after", "7".into())]),
            "broken" => say(503, vec![]),
            "page" => say(200, vec![]),
            "elsewhere" => say(302, vec![("location", "http://192.0.2.1/x".into())]),
            "endless" => Answer::Say(200, vec![], vec![b'1'; 100_000]),
            _ => Answer::File,
        }
    })
    .await;
    for (path, kind) in [
        ("forbidden/a", ErrorKind::PermissionDenied),
        ("closed/a", ErrorKind::PermissionDenied),
        ("busy/a", ErrorKind::RateLimited),
        ("broken/a", ErrorKind::Unavailable),
        ("page/a", ErrorKind::Corrupt),
        ("elsewhere/a", ErrorKind::InvalidConfig),
        ("endless/a", ErrorKind::Corrupt),
    ] {
        let e = failure(&BzrProbe::new(), BzrSource::new(web.url(path))).await;
        assert_eq!(e.kind(), kind, "{path}: {}", e.report());
        if matches!(kind, ErrorKind::PermissionDenied | ErrorKind::RateLimited | ErrorKind::Unavailable) {
            let runner = Arc::<Remembering>::default();
            let e = failure(&by_program(&runner), BzrSource::new(web.url(path))).await;
            assert_eq!(e.kind(), kind, "{path}: {}", e.report());
        }
        if path == "busy/a" {
            let e = failure(&BzrProbe::new(), BzrSource::new(web.url(path))).await;
            assert_eq!(e.retry(), Retry::After(std::time::Duration::from_secs(7)));
        }
    }
    assert_eq!(answer(&BzrProbe::new(), BzrSource::new(web.url("none"))).await.unwrap(), Probed::NotFound);
}

fn guarded(got: &Got) -> Answer {
    if got.headers.get("authorization").is_some_and(|v| v == AUTHORIZATION) {
        Answer::File
    } else {
        Answer::Say(401, vec![("www-authenticate", "Basic realm=\"x\"".into())], Vec::new())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_reach_the_server_of_the_source_only() {
    if !crate::branch::brz_is_there() {
        return;
    }
    let branches = Branches::new();
    branches.init("trunk", &[]);
    let id = branches.commit("trunk");
    let web = Web::serve(branches.root.path().into(), guarded).await;
    let source = || BzrSource::new(web.url("trunk"));
    let runner = Arc::<Remembering>::default();
    for probe in [BzrProbe::new(), by_program(&runner)] {
        assert_eq!(seen(&probe, source().login("robot", "forge")).await.0, id);
        let e = failure(&probe, source().login("robot", "wrong")).await;
        assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{}", e.report());
        let e = failure(&probe, source()).await;
        assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{}", e.report());
    }
    for command in runner.commands() {
        let shown = format!("{command:?} {:?} {:?}", command.args, command.env);
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let elsewhere = Web::serve(branches.root.path().into(), |_| Answer::File).await;
    let there = elsewhere.url("trunk/.bzr/branch/last-revision");
    let sending = Web::serve(branches.root.path().into(), move |_| {
        Answer::Say(302, vec![("location", there.clone())], Vec::new())
    })
    .await;
    let source = BzrSource::new(sending.url("trunk")).login("robot", "forge");
    assert_eq!(failure(&BzrProbe::new(), source).await.kind(), ErrorKind::InvalidConfig);
    assert!(elsewhere.got().is_empty());
}

/// One who says what it is given, whatever is asked, and hangs up.
fn saying(text: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut question = [0; 20];
                drop(stream.read_exact(&mut question).await);
                drop(stream.write_all(text).await);
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_bzr_that_lie() {
    if !crate::branch::brz_is_there() {
        return;
    }
    for (text, kind) in [
        (&b""[..], ErrorKind::Unavailable),
        (b"bzr response 2\nsucc", ErrorKind::Unavailable),
        (b"HTTP/1.1 400 no\r\n\r\n", ErrorKind::Corrupt),
        (b"bzr response 2\nsuccess\nok\x011\x01<b>a b</b>\n", ErrorKind::Corrupt),
        (b"bzr response 2\nfailed\nerror\x01Oops\x01\x1b[31mhunter\n", ErrorKind::Unavailable),
    ] {
        let port = saying(text);
        let e = failure(&BzrProbe::new(), BzrSource::new(format!("bzr://127.0.0.1:{port}/a"))).await;
        assert_eq!(e.kind(), kind, "{text:?}: {}", e.report());
        assert!(!e.report().contains('\x1b'));
    }
}

/// Whoever asks keeps the deadline by dropping the question; nothing of it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_is_left_with_the_question() {
    if !crate::branch::brz_is_there() {
        return;
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let web = Web::serve("/nonexistent".into(), |_| Answer::Hang).await;
    for url in [format!("bzr://127.0.0.1:{port}/a"), web.url("a")] {
        let is_bzr = url.starts_with("bzr");
        let probe = BzrProbe::new();
        let asking =
            tokio::spawn(async move { probe.probe(&[super::asking::ask_for(BzrSource::new(url))]).await });
        if is_bzr {
            let (mut stream, _) = within(listener.accept()).await.unwrap();
            let mut question = [0; 16];
            within(stream.read_exact(&mut question)).await.unwrap();
            assert_eq!(&question, b"bzr request 2\nBr");
            asking.abort();
            assert!(asking.await.unwrap_err().is_cancelled());
            // The connection ends with it.
            within(stream.read_to_end(&mut Vec::new())).await.unwrap();
        } else {
            within(async {
                while web.got().is_empty() {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            asking.abort();
            assert!(asking.await.unwrap_err().is_cancelled());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_none_of_a_branch() {
    if !crate::branch::brz_is_there() {
        return;
    }
    let branches = Branches::new();
    for (name, text) in
        [("a", &b"<html>"[..]), ("b", b""), ("c", &[b'1'; 9_000]), ("d", b"1 a b\n"), ("e", b"1 \xff\n")]
    {
        let folder = branches.path(name).join(".bzr/branch");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("last-revision"), text).unwrap();
        let e = failure(&BzrProbe::new(), BzrSource::new(branches.url(name))).await;
        assert_eq!(e.kind(), ErrorKind::Corrupt, "{name}: {}", e.report());
    }
    // A pipe is not waited for, a reference that leads in circles ends, one to another machine is told.
    for (name, location, said) in
        [("x", "file:///dev/../x", "reference"), ("y", "http://example.org/a", "checkout")]
    {
        let folder = branches.path(name).join(".bzr/branch");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("format"), "Bazaar-NG Branch Reference Format 1\n").unwrap();
        fs::write(folder.join("location"), location).unwrap();
        let e = failure(&BzrProbe::new(), BzrSource::new(branches.url(name))).await;
        assert!(e.report().contains(said), "{}", e.report());
    }
    let folder = branches.path("z").join(".bzr/branch");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("format"), "Bazaar-NG Branch Reference Format 1\n").unwrap();
    fs::write(folder.join("location"), format!("file://{}", branches.url("z"))).unwrap();
    let e = failure(&BzrProbe::new(), BzrSource::new(branches.url("z"))).await;
    assert!(e.report().contains("without end"), "{}", e.report());
    let pipe = branches.path("p").join(".bzr/branch");
    fs::create_dir_all(&pipe).unwrap();
    let made = std::process::Command::new("mkfifo").arg(pipe.join("last-revision")).status().unwrap();
    assert!(made.success());
    let e = failure(&BzrProbe::new(), BzrSource::new(branches.url("p"))).await;
    assert_eq!(e.kind(), ErrorKind::Corrupt);
    // A format that nobody knows is a matter for Breezy.
    let folder = branches.path("n").join(".bzr/branch");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("format"), "Bazaar Branch Format 99 (of the future)\n").unwrap();
    let e = failure(&BzrProbe::new(), BzrSource::new(branches.url("n"))).await;
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{}", e.report());
    fs::set_permissions(branches.path("n"), fs::Permissions::from_mode(0o755)).unwrap();
}
