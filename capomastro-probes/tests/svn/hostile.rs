//! Servers that lie, flood, or are none of Subversion.

use super::{
    asking::{ask_for, failure, seen},
    repo::Repo,
    runner::Remembering,
    serve,
};
use capomastro_core::ErrorKind::{
    self, Corrupt, InvalidConfig, PermissionDenied, RateLimited, TimedOut, Unavailable,
};
use capomastro_probes::svn::{SvnProbe, SvnSource};
use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::fs::PermissionsExt as _,
};

const GREETING: &str = "( success ( 2 2 ( ) ( edit-pipeline ) ) ) ";
const WELCOME: &str =
    "( success ( ( ANONYMOUS EXTERNAL ) 1:x ) ) ( success ( ) ) ( success ( 3:u-1 9:svn://h/r ( ) ) ) ";
const ALLOWED: &str = "( success ( ( ) 0: ) ) ";

/// What an svnserve says, and what it is an error of.
fn cases() -> Vec<(Vec<u8>, ErrorKind)> {
    let well = format!("{GREETING}{WELCOME}{ALLOWED}( success ( 5 ) ) {ALLOWED}");
    let entry = "( success ( ( ( dir 0 false 3 ( ) ( ) ) ) ) ) ";
    let texts = [
        (String::new(), Unavailable),
        (GREETING.into(), Unavailable),
        (well.clone(), Unavailable),
        (format!("{well}{entry}{ALLOWED}( 1 5 ( 5:trunk ) ) "), Unavailable),
        ("<!DOCTYPE html><html>Log in</html>".into(), Corrupt),
        ("SSH-2.0-OpenSSH_9.2\r\n".into(), Corrupt),
        ("HTTP/1.1 400 Bad Request\r\n\r\n".into(), Corrupt),
        ("( success ( 1 1 ( ) ( ) ) ) ".into(), ErrorKind::Unsupported),
        ("( success ( 3 4 ( ) ( ) ) ) ".into(), ErrorKind::Unsupported),
        ("( failure ( ( 210005 22:No repository found in 0: 0 ) ) ) ".into(), InvalidConfig),
        ("( failure ( ) ) ".into(), Unavailable),
        ("( failure 7 ) ".into(), Unavailable),
        ("( maybe ( ) ) ".into(), Corrupt),
        (format!("{GREETING}( failure ( 2:no ) ) "), PermissionDenied),
        (format!("{GREETING}( success ( 7 ) ) "), Corrupt),
        (
            format!("{GREETING}( success ( ( EXTERNAL ANONYMOUS ) 1:x ) ) ( failure ( 2:no ) ) "),
            PermissionDenied,
        ),
        (format!("{GREETING}{}", WELCOME.replace("3:u-1", "3:u 1")), Corrupt),
        (format!("{GREETING}{}", WELCOME.replace("3:u-1", "0:")), Corrupt),
        (format!("{GREETING}{WELCOME}{ALLOWED}( success ( 18446744073709551616 ) ) "), Corrupt),
        (format!("{GREETING}{WELCOME}{ALLOWED}( success ( -5 ) ) "), Corrupt),
        (
            format!(
                "{well}( success ( ( ( dir ) ) ) ) {ALLOWED}done ( success ( ) ) {ALLOWED}( success ( 5 ) ) "
            ),
            Corrupt,
        ),
        (format!("{well}{entry}{ALLOWED}( 1 5 ) {ALLOWED}( success ( 5 ) ) "), Corrupt),
        (format!("{well}( success ( ) ) {ALLOWED}done ( success ( ) ) {ALLOWED}( success ( 5 ) ) "), Corrupt),
        (format!("{GREETING}{}", "( ".repeat(10_000)), Corrupt),
        (format!("{GREETING}99999999:x"), Corrupt),
    ];
    let mut cases: Vec<(Vec<u8>, ErrorKind)> = texts.map(|(text, kind)| (text.into_bytes(), kind)).into();
    cases.push((vec![0xff; 100_000], Corrupt));
    cases.push((
        format!("{well}{entry}{ALLOWED}{}", "( 1 5 ( 5:trunk ) ) ".repeat(20_000)).into_bytes(),
        Corrupt,
    ));
    cases
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bytes_of_svnserve_are_errors() {
    for (said, kind) in cases() {
        let shown = String::from_utf8_lossy(&said[..said.len().min(200)]).into_owned();
        let port = serve::on_each(move |mut stream| {
            // A client that has seen enough hangs up.
            drop(stream.write_all(&said));
            drop(stream.shutdown(Shutdown::Write));
            drop(std::io::copy(&mut stream, &mut std::io::sink()));
        });
        let source = SvnSource::new(format!("svn://127.0.0.1:{port}/r")).path("trunk");
        let e = failure(&SvnProbe::new(), ask_for(source)).await;
        assert_eq!(e.kind(), kind, "{shown}: {e:?}");
    }
}

/// The same bytes out of a program.
#[tokio::test(flavor = "multi_thread")]
async fn bad_bytes_of_tunnels_are_errors() {
    let Some(repo) = Repo::new() else { return };
    let (program, said) = (repo.root.path().join("svnserve"), repo.root.path().join("said"));
    std::fs::write(&program, format!("#!/bin/sh\ncat '{}'\n", said.display())).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let probe =
        SvnProbe::builder().runner(Remembering::new()).svnserve(&program).svn("/nonexistent/svn").build();
    for (bytes, kind) in cases() {
        std::fs::write(&said, &bytes).unwrap();
        let e = failure(&probe, ask_for(SvnSource::new(repo.url()).path("trunk"))).await;
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        assert_eq!(e.kind(), kind, "{shown}: {e:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_end_are_cut_off() {
    let repo = Repo::new();
    let probe = || SvnProbe::builder().runner(Remembering::new()).max_answer_bytes(100_000);
    let port = serve::on_each(|mut stream| {
        drop(stream.write_all(format!("{GREETING}{WELCOME}{ALLOWED}").as_bytes()));
        while stream.write_all(ALLOWED.as_bytes()).is_ok() {}
    });
    let e = failure(&probe().build(), ask_for(SvnSource::new(format!("svn://127.0.0.1:{port}/r")))).await;
    assert_eq!(e.kind(), Corrupt, "{e:?}");

    // Bytes without end, and a small answer that unpacks to a large one.
    let flood = serve::on_each(|mut stream| {
        // Not before it was asked.
        drop(stream.read(&mut [0; 4096]));
        drop(stream.write_all(
            b"HTTP/1.1 207 Multi-Status\r\nContent-Type: text/xml\r\n\r\n<multistatus xmlns='DAV:'>",
        ));
        while stream.write_all(b"<response></response>").is_ok() {}
    });
    let zeros = std::process::Command::new("sh")
        .args(["-c", "head -c 50000000 /dev/zero | gzip -c"])
        .output()
        .unwrap()
        .stdout;
    assert!(zeros.len() < 100_000);
    let bomb = serve::web(move |_| {
        serve::answer(
            "207 Multi-Status",
            &[("Content-Type", "text/xml"), ("Content-Encoding", "gzip")],
            &zeros,
        )
    });
    for port in [flood, bomb] {
        let e =
            failure(&probe().build(), ask_for(SvnSource::new(format!("http://127.0.0.1:{port}/r")))).await;
        assert_eq!(e.kind(), Corrupt, "{e:?}");
        assert!(e.report().contains("max_answer_bytes"), "{e:?}");
    }

    let Some(repo) = repo else { return };
    let program = repo.root.path().join("svnserve");
    std::fs::write(&program, "#!/bin/sh\nexec yes '( success ( ( ) 0: ) )'\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    for always in [false, true] {
        let probe = probe().svnserve(&program).svn(&program).always_program(always).build();
        let e = failure(&probe, ask_for(SvnSource::new(repo.url()))).await;
        assert_eq!(e.kind(), Corrupt, "{e:?}");
    }
}

const PROPERTIES: &str = "<D:multistatus xmlns:D='DAV:' xmlns:t='http://subversion.tigris.org/xmlns/dav/'><D:response>\
    <D:propstat><D:prop><D:version-name>3</D:version-name>\
    <D:checked-in><D:href>/r/!svn/ver/3/trunk</D:href></D:checked-in>\
    <t:baseline-relative-path>trunk</t:baseline-relative-path><t:repository-uuid>u-1</t:repository-uuid>\
    </D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>";

#[tokio::test(flavor = "multi_thread")]
async fn bad_answers_of_web_servers_are_errors() {
    let bomb = "<!DOCTYPE a [<!ENTITY b 'bbbbbbbb'><!ENTITY c '&b;&b;&b;&b;'>]><multistatus xmlns='DAV:'>&c;</multistatus>";
    let other = |from: &str, to: &str| PROPERTIES.replace(from, to);
    for (body, is_good) in [
        (PROPERTIES.to_owned(), true),
        (String::new(), false),
        ("<!DOCTYPE html><html><body>Log in</body></html>".into(), false),
        (bomb.into(), false),
        (PROPERTIES[..PROPERTIES.len() - 20].into(), false),
        (other("<D:version-name>3", "<D:version-name>x"), false),
        (other("<D:version-name>3", "<D:version-name>99999999999999999999999"), false),
        (other("u-1", ""), false),
        (other("u-1", "u 1"), false),
        (other("200 OK", "404 Not Found"), false),
        (other("/ver/3/", "/ver/2/"), false),
        (other("/r/!svn/ver/3/trunk", "http://elsewhere.invalid/!svn/ver/9/trunk"), false),
        ("<a>".repeat(100_000), false),
    ] {
        let shown = body.chars().take(300).collect::<String>();
        let port = serve::web(move |_| {
            serve::answer("207 Multi-Status", &[("Content-Type", "text/xml")], body.as_bytes())
        });
        let ask = ask_for(SvnSource::new(format!("http://127.0.0.1:{port}/r")).path("trunk"));
        if is_good {
            assert_eq!(seen(&SvnProbe::new(), ask).await.revision.as_str(), "u-1@3");
        } else {
            let e = failure(&SvnProbe::new(), ask).await;
            assert_eq!(e.kind(), Corrupt, "{shown}: {e:?}");
        }
    }
}

/// A server that does not say where content was is not asked elsewhere, and is not believed everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_answer_is_read_as_carefully() {
    let first = PROPERTIES.replace("/ver/3/", "/ver/9/");
    let report = |path: &str| format!("<get-locations-report xmlns='svn:'>{path}</get-locations-report>");
    for (status, body, revision) in [
        ("200 OK", report("<location rev='3' path='/a b'/>"), Some("u-1@3/a%20b")),
        ("200 OK", report("<location rev='3' path='/trunk'/>"), Some("u-1@3")),
        ("200 OK", report("<location rev='4' path='/a'/>"), Some("u-1@3")),
        ("200 OK", report(""), Some("u-1@3")),
        ("200 OK", "<html/>".into(), None),
        ("200 OK", String::new(), None),
        ("302 Found", String::new(), None),
        ("404 Not Found", String::new(), None),
        ("500 Broken", String::new(), None),
    ] {
        let first = first.clone();
        let port = serve::web(move |request| match request.split(' ').next() {
            Some("REPORT") => serve::answer(status, &[("Content-Type", "text/xml")], body.as_bytes()),
            _ => serve::answer("207 Multi-Status", &[("Content-Type", "text/xml")], first.as_bytes()),
        });
        let ask = ask_for(SvnSource::new(format!("http://127.0.0.1:{port}/r")).path("trunk"));
        match revision {
            Some(revision) => assert_eq!(seen(&SvnProbe::new(), ask).await.revision.as_str(), revision),
            None => drop(failure(&SvnProbe::new(), ask).await),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_are_told_apart() {
    for (status, kind) in [
        ("200 OK", Corrupt),
        ("403 No", PermissionDenied),
        ("401 No", PermissionDenied),
        ("404 No", InvalidConfig),
        ("405 No", Corrupt),
        ("410 No", InvalidConfig),
        ("429 No", RateLimited),
        ("500 No", Unavailable),
        ("503 No", Unavailable),
        ("504 No", TimedOut),
        ("302 There", InvalidConfig),
    ] {
        let port = serve::web(move |_| {
            serve::answer(status, &[("Location", "http://elsewhere.invalid/r")], b"<html>secret</html>")
        });
        let ask = ask_for(SvnSource::new(format!("http://127.0.0.1:{port}/r")));
        let e = failure(&SvnProbe::new(), ask).await;
        assert_eq!(e.kind(), kind, "{status}: {e:?}");
        assert!(!e.report().contains("secret"), "{e:?}");
    }
}

/// Only a server of Subversion can say that a path is not there.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_subversion_server_is_never_an_empty_repository() {
    for (abilities, options) in
        [("1,2", "200 OK"), ("", "200 OK"), ("http://subversion.tigris.org/xmlns/dav/svn/depth", "404 No")]
    {
        let port = serve::web(move |request| match request.split(' ').next() {
            Some("OPTIONS") => serve::answer(options, &[("DAV", abilities)], b""),
            _ => serve::answer("404 Not Found", &[], b""),
        });
        let e =
            failure(&SvnProbe::new(), ask_for(SvnSource::new(format!("http://127.0.0.1:{port}/r")))).await;
        assert_eq!(e.kind(), InvalidConfig, "{e:?}");
    }
}

/// A redirect within the server is followed, with the path behind it; one to elsewhere is not.
#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_followed_where_it_is_safe() {
    let port = serve::web(move |request| {
        let path = request.split(' ').nth(1).unwrap_or_default();
        match path.strip_prefix("/old/") {
            Some(rest) => serve::answer("301 Moved", &[("Location", &format!("/r/{rest}"))], b""),
            None => serve::answer("207 Multi-Status", &[("Content-Type", "text/xml")], PROPERTIES.as_bytes()),
        }
    });
    let source = SvnSource::new(format!("http://127.0.0.1:{port}/old")).path("trunk");
    assert_eq!(seen(&SvnProbe::new(), ask_for(source)).await.revision.as_str(), "u-1@3");
    let port = serve::web(|_| serve::answer("301 Moved", &[("Location", "/again")], b""));
    let e = failure(&SvnProbe::new(), ask_for(SvnSource::new(format!("http://127.0.0.1:{port}/r")))).await;
    assert_eq!(e.kind(), InvalidConfig, "{e:?}");
}

/// What the svn program would take for an option, or for more than one line.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_never_an_option() {
    let Some(repo) = Repo::new() else { return };
    for path in ["--version", "-rHEAD", "@HEAD", "--config-option=x"] {
        for always in [false, true] {
            let probe = SvnProbe::builder().runner(Remembering::new()).always_program(always).build();
            let answer = super::asking::answer(&probe, ask_for(SvnSource::new(repo.url()).path(path))).await;
            assert_eq!(answer.unwrap(), capomastro_core::probe::Probed::NotFound, "{path}");
        }
    }
}
