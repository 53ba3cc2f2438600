//! Logs, artifacts and revisions of builds.

use crate::desk::{Build, Desk, seconds};
use capomastro_core::{
    ErrorKind,
    launch::{BuildOutput, Outcome},
    time::{Clock as _, SystemClock},
};
use capomastro_jenkins::{Artifacts, Built, JenkinsJob};
use capomastro_testkit::jenkins::{Artifact, Fault, JobSpec, Revision, Script};
use futures_util::future::{Either, select};
use std::{pin::pin, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

fn job(script: Script) -> JobSpec {
    crate::desk::spec("out").runs(script)
}

async fn ended(desk: &Desk, script: Script, job_of: JenkinsJob) -> Build {
    desk.jenkins.define_job(job(script));
    let build = desk.launch(desk.request_for(job_of)).await;
    desk.clock.advance(seconds(100));
    build
}

async fn read_log(desk: &Desk, build: &Build, max: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..100_000 {
        let chunk = desk.launcher.log(&build.external, text.len() as u64, max).await.unwrap();
        assert!(chunk.bytes.len() <= max);
        text.extend(chunk.bytes);
        if chunk.is_last {
            return text;
        }
    }
    panic!("a log ends");
}

#[tokio::test]
async fn a_log_is_read_whole_in_pieces_while_it_grows() {
    let desk = Desk::new().await;
    let burst: String = (0..25_000).map(|n| format!("line {n} ä🦀\n")).collect();
    let script = Script::succeeds_after(seconds(60))
        .log("\u{1b}[31mbegin\u{1b}[0m\n")
        .log_after(seconds(5), burst.clone())
        .log_after(seconds(6), "half ")
        .log_after(seconds(20), "a line\n");
    desk.jenkins.define_job(job(script));
    let build = desk.launch(desk.request_for(JenkinsJob::new("out"))).await;
    let (mut text, mut ended) = (Vec::new(), false);
    for _ in 0..400 {
        let chunk = desk.launcher.log(&build.external, text.len() as u64, 10_000).await.unwrap();
        text.extend(chunk.bytes);
        if chunk.is_last {
            ended = true;
            break;
        }
        desk.clock.advance(Duration::from_millis(250));
    }
    assert!(ended, "it ends with the build");
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains(&format!("begin\n{burst}half a line\n")), "every byte, once, and plain");
    assert!(!text.contains(['\u{1b}', '\r']), "nothing but text");
    // Whoever begins anywhere, and remembers nothing, reads the same.
    let other = desk.another();
    let piece = other.log(&build.external, 1_000, 500).await.unwrap();
    assert_eq!(piece.bytes, &text.as_bytes()[1_000..1_500]);
    assert_eq!(read_log(&desk, &build, 77_777).await, text.as_bytes());
    let kept = String::from_utf8(desk.launcher.console(&build.external, 2_000).await.unwrap()).unwrap();
    assert!(
        kept.contains("bytes left out") && kept.contains("begin\n") && kept.contains("half a line\n"),
        "{kept}"
    );
}

#[tokio::test]
async fn artifacts_are_listed_and_read_in_pieces() {
    let desk = Desk::new().await;
    let script = Script::succeeds_after(seconds(1))
        .artifact(Artifact::file("a/x 🦀#?%.bin", [0, 1, 2, 255, 10, 13]))
        .artifact(Artifact::file("b/x 🦀#?%.bin", b"other"))
        .artifact(Artifact::symlink("link"))
        .artifact(Artifact::file("empty", b""));
    let mut build = ended(&desk, script, JenkinsJob::new("out").artifacts(Artifacts::Digest)).await;
    let told = desk.ended(&mut build).await.artifacts;
    let names: Vec<&str> = told.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(names, ["a/x 🦀#?%.bin", "b/x 🦀#?%.bin", "empty"], "a link is not there");
    assert_eq!(told[0].size, Some(6));
    for (offset, max, bytes, is_last) in [
        (0, 100, &[0, 1, 2, 255, 10, 13][..], true),
        (0, 3, &[0, 1, 2], false),
        (3, 2, &[255, 10], false),
        (3, 3, &[255, 10, 13], true),
        (6, 5, &[], true),
        (600, 5, &[], true),
    ] {
        let chunk = desk.launcher.artifact(&build.external, "a/x 🦀#?%.bin", offset, max).await.unwrap();
        assert_eq!((&chunk.bytes[..], chunk.is_last), (bytes, is_last), "{offset} {max}");
    }
    let mut copy = Vec::new();
    let copied = desk.launcher.copy_artifact(&build.external, "a/x 🦀#?%.bin", &mut copy).await.unwrap();
    assert_eq!((copied, copy), (told[0].clone(), vec![0, 1, 2, 255, 10, 13]));
    for (name, kind) in [
        ("../../config.xml", ErrorKind::InvalidInput),
        ("/etc/passwd", ErrorKind::InvalidInput),
        ("a/../../x", ErrorKind::InvalidInput),
        ("missing", ErrorKind::NotFound),
        ("link", ErrorKind::NotFound),
        ("a", ErrorKind::NotFound),
    ] {
        let e = desk.launcher.artifact(&build.external, name, 0, 10).await.unwrap_err();
        assert_eq!(e.kind(), kind, "{name}: {e:?}");
        let e = desk.launcher.copy_artifact(&build.external, name, &mut Vec::new()).await.unwrap_err();
        assert_eq!(e.kind(), kind, "{name}: {e:?}");
    }
}

#[tokio::test]
async fn hostile_names_of_artifacts_are_left_out() {
    let desk = Desk::new().await;
    let mut build = ended(&desk, Script::succeeds_after(seconds(1)), JenkinsJob::new("out")).await;
    let body = r#"{"number": 1, "building": false, "inProgress": false, "result": "SUCCESS", "artifacts": [
        {"relativePath": "../../x"}, {"relativePath": "/etc/passwd"}, {"relativePath": "a\\b"},
        {"relativePath": "good/one"}, {"relativePath": ""}, {}, {"relativePath": 7}], "artifacts_": []}"#;
    desk.jenkins.fault(Fault::json(body).on("GET", "out/1/api/json"));
    let told = desk.ended(&mut build).await.artifacts;
    assert_eq!(told.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["good/one"]);
}

#[tokio::test]
async fn the_revision_is_read_where_the_job_says() {
    let of = |sha1: &str, remote: &str| Revision {
        sha1: sha1.into(),
        branch: "refs/remotes/origin/main".into(),
        remote: remote.into(),
    };
    let script = || {
        Script::ends_after(seconds(1), "UNSTABLE")
            .revision(of("aaaa", "https://git/lib.git"))
            .revision(of("bbbb", "https://git/tools.git"))
            .artifact(Artifact::file("out/REVISION", b"bzr-77\r\nmore\n"))
    };
    let git = |remote: &str| Built::Git { remote: Some(remote.into()) };
    for (built, says) in [
        (Built::Unknown, None),
        (git("https://git/tools"), Some("bbbb")),
        (Built::Git { remote: None }, None),
        (Built::Artifact { path: "out/REVISION".into() }, Some("bzr-77")),
        (Built::Artifact { path: "missing".into() }, None),
    ] {
        let desk = Desk::new().await;
        let mut build = ended(&desk, script(), JenkinsJob::new("out").built(built.clone())).await;
        let ended = desk.ended(&mut build).await;
        assert_eq!(ended.built.map(String::from).as_deref(), says, "{built:?}");
        assert_eq!(ended.outcome, Outcome::Unstable);
    }
}

#[tokio::test]
async fn an_artifact_that_is_kept_elsewhere_is_read_without_our_credentials() {
    let desk = Desk::new().await;
    // Another origin, where a stranger listens.
    let stranger = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/far", stranger.local_addr().unwrap());
    let script = Script::succeeds_after(seconds(1)).artifact(Artifact::elsewhere("far", url));
    let build = ended(&desk, script, JenkinsJob::new("out")).await;
    let (read, asked) = futures_util::join!(desk.launcher.artifact(&build.external, "far", 0, 10), async {
        let (mut stream, _) = stranger.accept().await.unwrap();
        let mut asked = vec![0; 10_000];
        let n = stream.read(&mut asked).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nfar").await.unwrap();
        String::from_utf8_lossy(&asked[..n]).to_ascii_lowercase()
    });
    assert_eq!(read.unwrap().bytes, b"far");
    assert!(asked.starts_with("get /far") && !asked.contains("authorization"), "{asked}");
}

#[tokio::test]
async fn artifacts_that_cannot_be_read_or_take_long_do_not_hold_up_the_end() {
    for fault in [Fault::proxy(500), Fault::reset(), Fault::silence()] {
        let desk = Desk::new().await;
        let script = Script::succeeds_after(seconds(1))
            .artifact(Artifact::file("a.txt", "a"))
            .artifact(Artifact::file("b.txt", "b"));
        let mut build = ended(&desk, script, JenkinsJob::new("out").artifacts(Artifacts::Digest)).await;
        desk.jenkins.fault(fault.clone().on("GET", "artifact").always());
        let mut look = pin!(desk.ended(&mut build));
        let end = loop {
            match select(look.as_mut(), SystemClock.sleep(Duration::from_millis(200))).await {
                Either::Left((end, _)) => break end,
                // It waits for nothing else.
                Either::Right(_) => desk.clock.advance(seconds(1)),
            }
        };
        assert_eq!(end.outcome, Outcome::Succeeded, "{fault:?}");
        let told: Vec<_> = end.artifacts.iter().map(|a| (a.name.as_str(), a.digest.is_some())).collect();
        assert_eq!(told, [("a.txt", false), ("b.txt", false)], "{fault:?}");
    }
}
