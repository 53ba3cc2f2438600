//! Credentials go where they belong, and are seen nowhere.

use super::{
    apache::{Apache, PASSWORD},
    asking::{answer, ask_for, failure, seen, with_secret},
    repo::Repo,
    runner::Remembering,
    serve,
};
use capomastro_core::{
    ErrorKind, Retry,
    probe::{Ask, Probed, RevisionProbe},
};
use capomastro_probes::svn::{SvnProbe, SvnSource};
use std::{
    io::{self, Write},
    sync::{Arc, Mutex, OnceLock},
};

/// The probes of both ways.
fn both() -> [(SvnProbe, Arc<Remembering>); 2] {
    [false, true].map(|always| {
        let runner = Remembering::new();
        let builder = SvnProbe::builder().runner(Arc::<Remembering>::clone(&runner));
        (builder.always_program(always).build(), runner)
    })
}

fn login(url: &str, path: &str, password: &str) -> Ask {
    with_secret(ask_for(SvnSource::new(url).path(path).login("robot", "svn")), "svn", password)
}

fn anonymous(url: &str, path: &str) -> Ask {
    ask_for(SvnSource::new(url).path(path))
}

/// A repository with `/secret`, which only `robot` may read.
fn with_secrets() -> Option<Repo> {
    let repo = Repo::new()?;
    repo.commit(&["mkdir", "secret"]);
    repo.configure("passwd", &format!("[users]\nrobot = {PASSWORD}\nother = {PASSWORD}-other\n"));
    repo.configure("authz", "[/]\n* = r\n[/secret]\n* =\nrobot = r\n");
    Some(repo)
}

/// All who may look see; all others are told what to do.
async fn doors(guarded: &str, authz: &str) {
    for (probe, runner) in both() {
        let seen = seen(&probe, login(guarded, "trunk", PASSWORD)).await;
        assert_eq!(seen.display.as_deref(), Some("r1"));
        for command in runner.commands() {
            let shown = format!("{command:?} {:?} {:?}", command.args, command.env);
            assert!(!shown.contains(PASSWORD), "{shown}");
        }
        let e = failure(&probe, login(guarded, "trunk", "wrong-password")).await;
        assert_eq!((e.kind(), e.retry()), (ErrorKind::PermissionDenied, Retry::Never), "{e:?}");
        assert!(!e.report().contains("wrong-password"), "{e:?}");
        let e = failure(&probe, anonymous(guarded, "trunk")).await;
        assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e:?}");
        let mut unknown = login(guarded, "trunk", PASSWORD);
        unknown = with_secret(unknown, "other", PASSWORD);
        assert_eq!(failure(&probe, unknown).await.kind(), ErrorKind::NotFound);

        // Rules of access, path by path: what is hidden is not what is not there, and spoils nothing else.
        let asks = [anonymous(authz, "trunk"), anonymous(authz, "secret"), anonymous(authz, "gone")];
        let answers = probe.probe(&asks).await;
        assert!(matches!(answers[0], Ok(Probed::Observed(_))), "{answers:?}");
        assert_eq!(answers[1].as_ref().unwrap_err().kind(), ErrorKind::PermissionDenied, "{answers:?}");
        assert_eq!(*answers[2].as_ref().unwrap(), Probed::NotFound, "{answers:?}");
        let secret = answer(&probe, login(authz, "secret", PASSWORD)).await;
        assert!(matches!(secret, Ok(Probed::Observed(_))), "{secret:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn svnserve_is_answered() {
    let (Some(guarded), Some(authz)) = (with_secrets(), with_secrets()) else { return };
    let general = "[general]\npassword-db = passwd\nauth-access = read\n";
    guarded.configure("svnserve.conf", &format!("{general}anon-access = none\n"));
    authz.configure("svnserve.conf", &format!("{general}anon-access = read\nauthz-db = authz\n"));
    let [guarded_url, authz_url] = [&guarded, &authz]
        .map(|repo| format!("svn://127.0.0.1:{}/r", serve::svnserve(repo.root.path().into())));
    doors(&guarded_url, &authz_url).await;

    // Who has logged in and may not read is told so.
    for (probe, _) in both() {
        let source = SvnSource::new(&authz_url).path("secret").login("other", "svn");
        let ask = with_secret(ask_for(source), "svn", &format!("{PASSWORD}-other"));
        assert_eq!(failure(&probe, ask).await.kind(), ErrorKind::PermissionDenied);
    }
    // A wrong password is tried once, however many paths there are.
    for (probe, runner) in both() {
        let asks: Vec<Ask> = (0..20).map(|n| login(&guarded_url, &format!("p{n}"), "wrong")).collect();
        let answers = probe.probe(&asks).await;
        assert!(answers.iter().all(|a| a.as_ref().is_err_and(|e| e.kind() == ErrorKind::PermissionDenied)));
        assert!(runner.commands().len() <= 1, "{} {answers:?}", runner.commands().len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn apache_is_answered() {
    let Some(repo) = with_secrets() else { return };
    let Some(apache) = Apache::serve(&repo) else { return };
    doors(&apache.url("guarded"), &apache.url("authz")).await;
    // Who stops it waits until all is in its log.
    let mut apache = apache;
    apache.restart(&repo);
    let before = apache.requests(1).await.len();
    let asks: Vec<Ask> = (0..20).map(|n| login(&apache.url("guarded"), &format!("p{n}"), "wrong")).collect();
    let answers = SvnProbe::new().probe(&asks).await;
    assert!(answers.iter().all(|a| a.as_ref().is_err_and(|e| e.kind() == ErrorKind::PermissionDenied)));
    // Once without the password, which is not sent unasked in clear text, and once with it.
    assert_eq!(apache.requests(before + 2).await.len(), before + 2);
}

/// What needs more than a password in clear text is left to the svn program.
#[tokio::test(flavor = "multi_thread")]
async fn other_ways_to_log_in_are_left_to_the_program() {
    let Some(repo) = with_secrets() else { return };
    if let Some(apache) = Apache::serve(&repo) {
        for (probe, runner) in both() {
            let seen = seen(&probe, login(&apache.url("digest"), "trunk", PASSWORD)).await;
            assert_eq!(seen.display.as_deref(), Some("r1"));
            assert!(!runner.commands().is_empty());
        }
        let e = failure(&SvnProbe::new(), login(&apache.url("digest"), "trunk", PASSWORD)).await;
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e:?}");
    }
    // A server that knows people only by what this probe does not speak.
    let port = serve::on_each(|mut stream| {
        let greeting = b"( success ( 2 2 ( ) ( edit-pipeline ) ) ) ( success ( ( DIGEST-MD5 ) 1:x ) ) ";
        drop(stream.write_all(greeting));
        drop(io::copy(&mut stream, &mut io::sink()));
    });
    let e = failure(&SvnProbe::new(), login(&format!("svn://127.0.0.1:{port}/r"), "trunk", PASSWORD)).await;
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_credentials_are_another_key() {
    let probe = SvnProbe::new();
    let keys: Vec<_> = [
        SvnSource::new("https://h/a"),
        SvnSource::new("https://h/a").login("robot", "svn"),
        SvnSource::new("https://h/a").login("other", "svn"),
        SvnSource::new("https://h/a").login("robot", "other"),
        SvnSource::new("svn://h/a").login("robot", "svn"),
        SvnSource::new("svn+ssh://h/a"),
        SvnSource::new("svn+ssh://h/a").ssh_key("k"),
        SvnSource::new("svn+ssh://h/a").known_hosts("h x y"),
        SvnSource::new("svn+ssh://h/a").known_hosts(format!("h {}", "x".repeat(16_000))),
    ]
    .map(|s| probe.key(&s.source("svn").unwrap()).unwrap())
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
    // `robot:planted-hunter2` as it is sent.
    const SENT: &str = "cm9ib3Q6cGxhbnRlZC1odW50ZXIy";
    let echo = format!("{PASSWORD} {SENT}");
    let basic = format!("Basic realm=\"{echo}\"");
    let xml = format!("<?xml version=\"1.0\"?><{PASSWORD}>{SENT}</{PASSWORD}>");
    let location = format!("http://robot:{PASSWORD}@elsewhere.invalid/{SENT}");
    let failures = [
        ("400 Bad", "x-echo", echo.clone(), echo.clone()),
        ("401 No", "www-authenticate", basic, echo.clone()),
        ("403 No", "x-echo", echo.clone(), echo.clone()),
        ("404 No", "x-echo", echo.clone(), echo.clone()),
        ("500 No", "x-echo", echo.clone(), xml.clone()),
        ("302 There", "location", location, echo.clone()),
        ("302 There", "location", format!("/{SENT}"), echo.clone()),
        ("207 Multi-Status", "content-type", "text/xml".into(), xml),
        ("207 Multi-Status", "content-type", echo.clone(), echo.clone()),
    ];
    for (status, name, value, body) in failures {
        let port = serve::web(move |request| {
            if request.to_ascii_lowercase().contains("authorization: basic") {
                serve::answer(status, &[(name, &value)], body.as_bytes())
            } else {
                serve::answer("401 No", &[("www-authenticate", "Basic realm=x")], b"")
            }
        });
        let probe = SvnProbe::new();
        let ask = login(&format!("http://127.0.0.1:{port}/r"), "trunk", PASSWORD);
        let key = probe.key(&ask.source).unwrap();
        let asked = format!("{ask:?}");
        let e = failure(&probe, ask).await;
        for text in [e.report(), format!("{e:?}"), format!("{probe:?}"), format!("{key:?}"), asked] {
            assert!(!text.contains(PASSWORD) && !text.contains(SENT), "{status}: {text}");
        }
    }
    let text = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(text.contains("could not look at a Subversion repository"), "nothing was logged");
    assert!(!text.contains(PASSWORD) && !text.contains(SENT));
}

/// The program gets the password on its standard input: no argument and no environment of any process shows it.
#[tokio::test(flavor = "multi_thread")]
async fn no_process_shows_the_password() {
    let Some(repo) = with_secrets() else { return };
    let dir = repo.root.path().display().to_string();
    let program = repo.root.path().join("svn");
    let script = format!(
        "#!/bin/sh\ncat /proc/[0-9]*/cmdline /proc/$$/environ > {dir}/processes 2>/dev/null\nexec svn \"$@\"\n"
    );
    std::fs::write(&program, script).unwrap();
    super::repo::run(super::repo::clean("chmod").arg("755").arg(&program));
    repo.configure(
        "svnserve.conf",
        "[general]\npassword-db = passwd\nanon-access = none\nauth-access = read\n",
    );
    let url = format!("svn://127.0.0.1:{}/r", serve::svnserve(repo.root.path().into()));
    let probe = SvnProbe::builder().runner(Remembering::new()).svn(&program).always_program(true).build();
    seen(&probe, login(&url, "trunk", PASSWORD)).await;
    let processes = std::fs::read(repo.root.path().join("processes")).unwrap();
    let processes = String::from_utf8_lossy(&processes);
    assert!(processes.contains("--password-from-stdin"));
    assert!(!processes.contains(PASSWORD));
}
