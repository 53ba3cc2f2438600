//! Credentials go where they belong, and are seen nowhere.

use super::{
    asking::{answer, ask_for, failure, seen, with_secret},
    repo::Repo,
    web::{Answer, Got, Web},
};
use capomastro_core::{ErrorKind, Retry, probe::Probed, probe::RevisionProbe};
use capomastro_probes::git::{GitProbe, GitSource};
use std::{
    io::{self, Write},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

const PASSWORD: &str = "planted-hunter2";
/// `robot:planted-hunter2` as it is sent.
const SENT: &str = "cm9ib3Q6cGxhbnRlZC1odW50ZXIy";

fn login(url: &str) -> GitSource {
    GitSource::new(url).branch("main").login("robot", "forge")
}

fn authorized(got: &Got) -> bool {
    got.headers.get("authorization").is_some_and(|v| v == format!("Basic {SENT}").as_str())
}

fn guarded(got: &Got) -> Answer {
    if authorized(got) {
        Answer::Git
    } else {
        Answer::Say(401, vec![("www-authenticate", "Basic realm=x".into())], Vec::new())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_is_answered() {
    let repo = Repo::empty();
    let id = repo.advance("main");
    let web = Web::serve(repo.root.path().into(), guarded).await;
    let ask = with_secret(ask_for(login(&web.url())), "forge", PASSWORD);
    assert_eq!(seen(&GitProbe::new(), ask).await.revision.as_str(), id);
    // In clear text only when asked: it may have been there only to send us to an encrypted server.
    let got = web.got();
    assert_eq!(got.iter().map(authorized).collect::<Vec<_>>(), [false, true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_credentials_is_told() {
    let repo = Repo::empty();
    repo.advance("main");
    let web = Web::serve(repo.root.path().into(), guarded).await;
    let probe = GitProbe::new();
    let e = failure(&probe, with_secret(ask_for(login(&web.url())), "forge", "wrong")).await;
    assert_eq!((e.kind(), e.retry()), (ErrorKind::PermissionDenied, Retry::Never));
    let e = failure(&probe, ask_for(GitSource::new(web.url()))).await;
    assert_eq!(e.kind(), ErrorKind::PermissionDenied);
    assert!(e.report().contains("give username and password"), "{e:?}");
    let before = web.got().len();
    let e = failure(&probe, with_secret(ask_for(login(&web.url())), "other", PASSWORD)).await;
    assert_eq!(e.kind(), ErrorKind::NotFound);
    assert!(e.report().contains("forge"), "{e:?}");
    assert_eq!(web.got().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_credentials_are_another_key() {
    let probe = GitProbe::new();
    let keys: Vec<_> = [
        GitSource::new("https://h/a"),
        GitSource::new("https://h/a").login("robot", "forge"),
        GitSource::new("https://h/a").login("other", "forge"),
        GitSource::new("https://h/a").login("robot", "other"),
        GitSource::new("ssh://h/a"),
        GitSource::new("ssh://h/a").ssh_key("k"),
        GitSource::new("ssh://h/a").known_hosts("h x y"),
        GitSource::new("ssh://h/a").known_hosts(format!("h {}", "x".repeat(16_000))),
    ]
    .map(|s| probe.key(&s.source("git").unwrap()).unwrap())
    .into();
    for (i, key) in keys.iter().enumerate() {
        assert_eq!(keys.iter().filter(|k| *k == key).count(), 1, "{i}");
        assert!(key.as_str().len() <= 2_000);
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Everything that anybody in this process logs, from now on.
fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone())
            .init();
        log
    })
}

/// A server that repeats everything it was sent wherever it can, and fails in every way.
#[tokio::test(flavor = "multi_thread")]
async fn no_error_and_no_log_shows_them() {
    let log = log();
    let repo = Repo::empty();
    repo.advance("main");
    let packet = |text: &str| format!("{:04x}{text}", text.len() + 4).into_bytes();
    let advertisement = || vec![("content-type", "application/x-git-upload-pack-advertisement".to_owned())];
    let echo = format!("{PASSWORD} {SENT}");
    let failures = [
        Answer::Say(400, vec![("x-echo", echo.clone())], echo.clone().into()),
        Answer::Say(401, vec![("www-authenticate", format!("Basic realm=\"{echo}\""))], echo.clone().into()),
        Answer::Say(403, Vec::new(), echo.clone().into()),
        Answer::Say(500, Vec::new(), echo.clone().into()),
        Answer::Say(
            302,
            vec![("location", format!("http://{PASSWORD}@elsewhere.invalid/{PASSWORD}"))],
            Vec::new(),
        ),
        Answer::Say(302, vec![("location", format!("/{SENT}"))], Vec::new()),
        Answer::Say(
            302,
            vec![("location", format!("http://robot:{PASSWORD}@127.0.0.1:1/info/refs"))],
            Vec::new(),
        ),
        Answer::Say(200, vec![("content-type", echo.clone())], echo.clone().into()),
        Answer::Say(200, vec![("content-type", "text/html".into())], echo.clone().into()),
        Answer::Say(200, advertisement(), packet(&format!("ERR {PASSWORD} is wrong"))),
        Answer::Say(200, advertisement(), packet(&format!("ERR {SENT} is wrong"))),
        Answer::Say(200, advertisement(), packet(&echo)),
        Answer::Say(200, advertisement(), echo.clone().into()),
    ];
    for failing in failures {
        let how = format!("{failing:?}");
        let web =
            Web::serve(
                repo.root.path().into(),
                move |got| {
                    if authorized(got) { failing.clone() } else { guarded(got) }
                },
            )
            .await;
        let ask = with_secret(ask_for(login(&web.url())), "forge", PASSWORD);
        let probe = GitProbe::new();
        let key = probe.key(&ask.source).unwrap();
        let asked = format!("{ask:?}");
        let e = failure(&probe, ask).await;
        assert!(web.got().iter().any(authorized), "{how}");
        for text in [e.report(), format!("{e:?}"), format!("{probe:?}"), format!("{key:?}"), asked] {
            assert!(!text.contains(PASSWORD) && !text.contains(SENT), "{how}: {text}");
        }
    }
    let web = Web::serve(repo.root.path().into(), guarded).await;
    let ask = with_secret(ask_for(login(&web.url())), "forge", PASSWORD);
    assert!(matches!(answer(&GitProbe::new(), ask).await, Ok(Probed::Observed(_))));

    let text = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(text.contains("listed the refs of a git remote"), "nothing was logged");
    assert!(!text.contains(PASSWORD) && !text.contains(SENT));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_within_the_server_is_followed() {
    let repo = Repo::empty();
    let id = repo.advance("main");
    let moved = |got: &Got| match got.path.strip_prefix("/old.git/info/refs") {
        Some(query) => Answer::Say(301, vec![("location", format!("/a.git/info/refs{query}"))], Vec::new()),
        None => guarded(got),
    };
    let web = Web::serve(repo.root.path().into(), moved).await;
    let url = web.url().replace("a.git", "old.git");
    let ask = with_secret(ask_for(login(&url)), "forge", PASSWORD);
    assert_eq!(seen(&GitProbe::new(), ask).await.revision.as_str(), id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_elsewhere_is_not() {
    let repo = Repo::empty();
    repo.advance("main");
    let other = Web::serve(repo.root.path().into(), |_| Answer::Git).await;
    let to = format!("{}/info/refs?service=git-upload-pack", other.url());
    let web = Web::serve(repo.root.path().into(), move |_| {
        Answer::Say(302, vec![("location", to.clone())], Vec::new())
    })
    .await;
    let e = failure(&GitProbe::new(), with_secret(ask_for(login(&web.url())), "forge", PASSWORD)).await;
    assert_eq!(e.kind(), ErrorKind::InvalidConfig);
    assert!(e.report().contains(&other.url()), "{e:?}");
    assert_eq!(other.got().len(), 0);

    let web = Web::serve(repo.root.path().into(), move |got| {
        Answer::Say(302, vec![("location", got.path.clone())], Vec::new())
    })
    .await;
    let e = failure(&GitProbe::new(), ask_for(GitSource::new(web.url()))).await;
    assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{e:?}");
    assert!(web.got().len() < 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_are_told_apart() {
    let repo = Repo::empty();
    for (status, kind) in [
        (403, ErrorKind::PermissionDenied),
        (404, ErrorKind::InvalidConfig),
        (410, ErrorKind::InvalidConfig),
        (418, ErrorKind::Corrupt),
        (429, ErrorKind::RateLimited),
        (500, ErrorKind::Unavailable),
        (503, ErrorKind::Unavailable),
        (504, ErrorKind::TimedOut),
    ] {
        let web = Web::serve(repo.root.path().into(), move |_| {
            Answer::Say(status, vec![("retry-after", "7".into())], b"secret".to_vec())
        })
        .await;
        let e = failure(&GitProbe::new(), ask_for(GitSource::new(web.url()))).await;
        assert_eq!(e.kind(), kind, "{status}: {e:?}");
        let waits = matches!(kind, ErrorKind::RateLimited | ErrorKind::Unavailable);
        assert_eq!(e.retry() == Retry::After(Duration::from_secs(7)), waits, "{status}");
    }
}
