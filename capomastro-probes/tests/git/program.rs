//! Everything through the git program, with the same answers as in process.

use super::{
    asking::{answer, ask_for, with_secret},
    inetd,
    repo::Repo,
    runner::Remembering,
    web::{Answer, Got, Web},
};
use capomastro_core::{Error, ErrorKind, Retry, probe::Probed};
use capomastro_probes::git::{GitProbe, GitSource};
use std::{path::Path, sync::Arc};

const PASSWORD: &str = "planted hunter2: ü\"'$x";

fn by_program(runner: &Arc<Remembering>) -> GitProbe {
    GitProbe::builder().always_program(true).runner(Arc::<Remembering>::clone(runner)).build()
}

/// What both ways must say alike.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Revision(String, Option<String>),
    NotFound,
    Failed(ErrorKind, Retry),
}

fn said(answer: Result<Probed, Error>) -> Said {
    match answer {
        Ok(Probed::Observed(o)) => Said::Revision(o.revision.as_str().into(), o.display),
        Ok(Probed::NotFound) => Said::NotFound,
        Err(e) => {
            assert!(!format!("{e:?} {}", e.report()).contains("hunter2"), "{e:?}");
            Said::Failed(e.kind(), e.retry())
        }
        other => panic!("what is {other:?}?"),
    }
}

/// The one answer of both ways.
async fn both(source: &GitSource, password: &str) -> Said {
    let runner = Remembering::new();
    let asked = || with_secret(ask_for(source.clone()), "forge", password);
    let in_process = said(answer(&GitProbe::new(), asked()).await);
    let by_program = said(answer(&by_program(&runner), asked()).await);
    assert_eq!(in_process, by_program, "{source:?}");
    assert_eq!(runner.commands().len(), 1, "{source:?}");
    in_process
}

fn guarded(got: &Got) -> Answer {
    match got.path.split('/').nth(1) {
        Some("moved") => Answer::Say(302, vec![("location", got.path.replacen("moved/", "", 1))], Vec::new()),
        Some("broken") => Answer::Say(503, Vec::new(), Vec::new()),
        Some("busy") => Answer::Say(429, Vec::new(), Vec::new()),
        Some("forbidden") => Answer::Say(403, Vec::new(), Vec::new()),
        Some("page") => {
            Answer::Say(200, vec![("content-type", "text/html".into())], b"<html>\n<p>Log in</p>\n".into())
        }
        Some("nothing") => Answer::Say(404, Vec::new(), Vec::new()),
        Some("guarded") if !got.headers.contains_key("authorization") => {
            Answer::Say(401, vec![("www-authenticate", "Basic realm=x".into())], Vec::new())
        }
        Some("closed") => Answer::Say(401, vec![("www-authenticate", "Basic realm=x".into())], Vec::new()),
        _ => Answer::Git,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ways_see_the_same() {
    let repo = Repo::empty();
    let main = repo.advance("main");
    let v1 = repo.advance("release");
    repo.git("tag -a v1 -m v1 release");
    let web = Web::serve(repo.root.path().into(), guarded).await;
    let daemon = inetd::git_daemon(repo.root.path().into());
    for url in [
        repo.url(),
        format!("file://{}", repo.url()),
        web.url(),
        web.url().replace("/a.git", "/moved/a.git"),
        format!("git://127.0.0.1:{daemon}/a.git"),
    ] {
        let source = GitSource::new(&url);
        for (source, revision) in [
            (source.clone(), Some(&main)),
            (source.clone().branch("main"), Some(&main)),
            (source.clone().tag("v1"), Some(&v1)),
            (source.clone().reference("refs/heads/release"), Some(&v1)),
            (source.clone().branch("gone"), None),
        ] {
            match (both(&source, PASSWORD).await, revision) {
                (Said::Revision(seen, _), Some(revision)) => assert_eq!(&seen, revision, "{source:?}"),
                (Said::NotFound, None) => {}
                (other, _) => panic!("{source:?}: {other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ways_fail_alike() {
    let repo = Repo::empty();
    repo.advance("main");
    let web = Web::serve(repo.root.path().into(), guarded).await;
    let daemon = inetd::git_daemon(repo.root.path().into());
    let at = |path: &str| web.url().replace("/a.git", path);
    for (url, kind) in [
        (repo.root.path().join("b.git").display().to_string(), ErrorKind::InvalidConfig),
        (at("/nothing/a.git"), ErrorKind::InvalidConfig),
        (at("/forbidden/a.git"), ErrorKind::PermissionDenied),
        (at("/guarded/a.git"), ErrorKind::PermissionDenied),
        (at("/broken/a.git"), ErrorKind::Unavailable),
        (at("/busy/a.git"), ErrorKind::RateLimited),
        (at("/page/a.git"), ErrorKind::Corrupt),
        ("http://127.0.0.1:1/a.git".into(), ErrorKind::Unavailable),
        ("http://host.invalid/a.git".into(), ErrorKind::Unavailable),
        ("git://127.0.0.1:1/a.git".into(), ErrorKind::Unavailable),
        (format!("git://127.0.0.1:{daemon}/b.git"), ErrorKind::PermissionDenied),
    ] {
        match both(&GitSource::new(&url).branch("main"), PASSWORD).await {
            Said::Failed(seen, _) => assert_eq!(seen, kind, "{url}"),
            other => panic!("{url}: {other:?}"),
        }
    }
    let wrong = GitSource::new(at("/closed/a.git")).login("robot", "forge");
    assert_eq!(both(&wrong, PASSWORD).await, Said::Failed(ErrorKind::PermissionDenied, Retry::Never));
}

/// The program gets the password in a file, asks the server of the source with it, and nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn the_program_logs_in_at_the_server_of_the_source_only() {
    let repo = Repo::empty();
    let id = repo.advance("main");
    let web = Web::serve(repo.root.path().join("none"), guarded).await;
    let other = Web::serve(repo.root.path().into(), guarded).await;
    let right = Web::serve(repo.root.path().into(), |got| {
        let robot = "Basic cm9ib3Q6cGxhbnRlZCBodW50ZXIyOiDDvCInJHg=";
        if got.headers.get("authorization").is_some_and(|v| v == robot) {
            Answer::Git
        } else {
            Answer::Say(401, vec![("www-authenticate", "Basic realm=x".into())], Vec::new())
        }
    })
    .await;
    let runner = Remembering::new();
    let source = GitSource::new(right.url()).branch("main").login("robot", "forge");
    let ask = with_secret(ask_for(source), "forge", PASSWORD);
    match said(answer(&by_program(&runner), ask).await) {
        Said::Revision(seen, _) => assert_eq!(seen, id),
        other => panic!("{other:?}"),
    }
    let command = &runner.commands()[0];
    let shown = format!("{:?} {:?} {:?}", command.args, command.env, command);
    assert!(!shown.contains("hunter2"), "{shown}");

    // A server that sends us to another one, which asks who we are.
    let elsewhere = format!("http://127.0.0.1:{}/guarded", other.port);
    let sending = Web::serve(repo.root.path().into(), move |got| {
        Answer::Say(302, vec![("location", format!("{elsewhere}{}", got.path))], Vec::new())
    })
    .await;
    let source = GitSource::new(sending.url()).branch("main").login("robot", "forge");
    let ask = with_secret(ask_for(source), "forge", PASSWORD);
    assert!(matches!(said(answer(&by_program(&runner), ask).await), Said::Failed(..)));
    assert!(!other.got().is_empty());
    assert!(other.got().iter().all(|got| !got.headers.contains_key("authorization")));
    drop(web);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_git_cannot_send_is_refused() {
    let source = GitSource::new("http://127.0.0.1:1/a.git").login("robot", "forge");
    let ask = with_secret(ask_for(source), "forge", "hunter2\nhost=evil");
    let failed = said(answer(&by_program(&Remembering::new()), ask).await);
    assert_eq!(failed, Said::Failed(ErrorKind::PermissionDenied, Retry::Never));
}

/// What is on this machine is shown to the runner, so that it can show it to the program.
#[tokio::test(flavor = "multi_thread")]
async fn a_local_repository_is_named_to_the_runner() {
    let repo = Repo::empty();
    repo.advance("main");
    let runner = Remembering::new();
    drop(answer(&by_program(&runner), ask_for(GitSource::new(repo.url()))).await.unwrap());
    assert_eq!(runner.commands()[0].reads, [Path::new(&repo.url())]);
    let without = GitProbe::builder().always_program(true).build();
    let failed = said(answer(&without, ask_for(GitSource::new(repo.url()))).await);
    assert_eq!(failed, Said::Failed(ErrorKind::Unsupported, Retry::Never));
}
