//! Servers that do not speak git, speak it badly, or never stop.

use super::{
    asking::{ask_for, failure, within},
    inetd,
    repo::Repo,
    web::{Answer, Web},
};
use capomastro_core::{ErrorKind, probe::RevisionProbe};
use capomastro_probes::git::{GitProbe, GitSource};
use std::{
    io::{Read, Write},
    process::{Command, Stdio},
};

const ID: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn packet(text: &str) -> Vec<u8> {
    format!("{:04x}{text}", text.len() + 4).into_bytes()
}

/// Bytes and what they are an error of.
fn cases() -> Vec<(Vec<u8>, ErrorKind)> {
    let refs = [packet(&format!("{ID} HEAD\0caps\n")), packet(&format!("{ID} refs/heads/main\n"))].concat();
    vec![
        (Vec::new(), ErrorKind::Unavailable),
        (refs.clone(), ErrorKind::Unavailable),
        (refs[..refs.len() - 10].to_vec(), ErrorKind::Unavailable),
        (b"<!DOCTYPE html><html>Log in</html>".to_vec(), ErrorKind::Corrupt),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), ErrorKind::Corrupt),
        (vec![0; 100_000], ErrorKind::Corrupt),
        (vec![0xff; 100_000], ErrorKind::Corrupt),
        ([&b"fff4"[..], &[b'x'; 0xfff4]].concat(), ErrorKind::Corrupt),
        ([packet("\0\0\0\0"), b"0000".to_vec()].concat(), ErrorKind::Corrupt),
        (packet("ERR no such repository\n"), ErrorKind::InvalidConfig),
        ([packet("version 2\n"), b"0000".to_vec()].concat(), ErrorKind::Unsupported),
        ([packet("version 7\n"), b"0000".to_vec()].concat(), ErrorKind::Corrupt),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bytes_over_http_are_errors() {
    let repo = Repo::empty();
    for (bytes, kind) in cases() {
        let said = bytes.clone();
        let web = Web::serve(repo.root.path().into(), move |_| {
            let headers = vec![("content-type", "application/x-git-upload-pack-advertisement".into())];
            Answer::Say(200, headers, said.clone())
        })
        .await;
        let e = failure(&GitProbe::new(), ask_for(GitSource::new(web.url()))).await;
        assert_eq!(e.kind(), kind, "{:?}: {e:?}", &bytes[..bytes.len().min(40)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bytes_of_daemons_are_errors() {
    for (bytes, kind) in cases() {
        let said = bytes.clone();
        let port = inetd::on_each(move |mut stream| {
            let mut request = [0; 4];
            stream.read_exact(&mut request).unwrap();
            // A client that has seen enough hangs up.
            drop(stream.write_all(&said));
            drop(stream.shutdown(std::net::Shutdown::Write));
            drop(std::io::copy(&mut stream, &mut std::io::sink()));
        });
        let e = failure(&GitProbe::new(), ask_for(GitSource::new(format!("git://127.0.0.1:{port}/a")))).await;
        assert_eq!(e.kind(), kind, "{:?}: {e:?}", &bytes[..bytes.len().min(40)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_answer_is_read_as_carefully() {
    let repo = Repo::empty();
    repo.advance("main");
    let result = || vec![("content-type", "application/x-git-upload-pack-result".to_owned())];
    for (answer, kind) in [
        (Answer::Say(200, result(), b"<html>".to_vec()), ErrorKind::Corrupt),
        (Answer::Say(200, result(), Vec::new()), ErrorKind::Unavailable),
        (Answer::Say(200, Vec::new(), b"0000".to_vec()), ErrorKind::Corrupt),
        (Answer::Say(302, vec![("location", "/b".into())], Vec::new()), ErrorKind::Corrupt),
        (Answer::Say(404, Vec::new(), Vec::new()), ErrorKind::InvalidConfig),
    ] {
        let web = Web::serve(repo.root.path().into(), move |got| match got.method.as_str() {
            "POST" => answer.clone(),
            _ => Answer::Git,
        })
        .await;
        let e = failure(&GitProbe::new(), ask_for(GitSource::new(web.url()))).await;
        assert_eq!(e.kind(), kind, "{e:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_git_server_is_never_an_empty_repository() {
    let repo = Repo::empty();
    for (kind, body) in [
        ("text/html; charset=utf-8", "<html>"),
        ("text/plain", ""),
        ("text/plain", "welcome\n"),
        ("application/json", "{}"),
        ("", ""),
    ] {
        let web = Web::serve(repo.root.path().into(), move |_| {
            Answer::Say(200, vec![("content-type", kind.into())], body.into())
        })
        .await;
        let e = failure(&GitProbe::new(), ask_for(GitSource::new(web.url()))).await;
        assert_eq!(e.kind(), ErrorKind::Corrupt, "{kind} {body}: {e:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_end_are_cut_off() {
    let probe = GitProbe::builder().max_listing_bytes(100_000).build();
    let port = inetd::on_each(|mut stream| {
        let line = packet(&format!("{ID} refs/heads/main\n"));
        while stream.write_all(&line).is_ok() {}
    });
    let e = failure(&probe, ask_for(GitSource::new(format!("git://127.0.0.1:{port}/a")))).await;
    assert_eq!(e.kind(), ErrorKind::Corrupt, "{e:?}");
    assert!(e.report().contains("max_listing_bytes"), "{e:?}");

    // A small answer that unpacks to a large one.
    let repo = Repo::empty();
    let mut gzip =
        Command::new("gzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = gzip.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || {
        let line = packet(&format!("{ID} refs/heads/main\n")).repeat(1_000);
        (0..200).for_each(|_| input.write_all(&line).unwrap());
    });
    let packed = gzip.wait_with_output().unwrap().stdout;
    feeding.join().unwrap();
    assert!(packed.len() < 100_000);
    for content in ["application/x-git-upload-pack-advertisement", "text/plain"] {
        let packed = packed.clone();
        let web = Web::serve(repo.root.path().into(), move |_| {
            let headers = vec![("content-type", content.into()), ("content-encoding", "gzip".into())];
            Answer::Say(200, headers, packed.clone())
        })
        .await;
        let e = failure(&probe, ask_for(GitSource::new(web.url()))).await;
        assert_eq!(e.kind(), ErrorKind::Corrupt, "{e:?}");
        assert!(e.report().contains("max_listing_bytes"), "{e:?}");
    }
}

/// A port that speaks nothing, and hangs up at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_hangs_up_is_unavailable() {
    let port = inetd::on_each(drop);
    for scheme in ["git", "http", "https"] {
        let ask = ask_for(GitSource::new(format!("{scheme}://127.0.0.1:{port}/a")));
        let answers = within(GitProbe::new().probe(&[ask])).await;
        let e = answers[0].as_ref().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unavailable, "{scheme}: {e:?}");
    }
}
