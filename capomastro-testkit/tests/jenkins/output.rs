//! Logs and artifacts.

use crate::{
    client::{get, send, token},
    started,
};
use capomastro_testkit::jenkins::{Artifact, Jenkins, JobSpec, Script};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn poll(jenkins: &Jenkins, start: usize) -> (Vec<u8>, usize, bool) {
    let reply = get(jenkins, &format!("/job/a/1/logText/progressiveText?start={start}"));
    assert_eq!(reply.status, 200);
    let size = reply.header("X-Text-Size").unwrap().parse().unwrap();
    let more = reply.header("X-More-Data").is_some();
    (reply.body, size, more)
}

#[tokio::test(flavor = "multi_thread")]
async fn row_18_progressive_text_loses_what_the_header_counts() {
    let (jenkins, clock) = started().await;
    let burst: String = (1..=12_000).map(|line| format!("line {line}\n")).collect();
    let script = Script::held()
        .log_late(SECOND)
        .log_after(SECOND, "whole\npart")
        .log_after(2 * SECOND, "ial \u{17e}\n")
        .log_after(3 * SECOND, burst);
    jenkins.define_job(JobSpec::freestyle("a").runs(script));
    assert!(jenkins.trigger("a", &[], "x").is_some());
    assert_eq!(poll(&jenkins, 0), (Vec::new(), 0, true), "there is no log yet");
    clock.advance(SECOND);
    let (body, size, _) = poll(&jenkins, 0);
    let text = String::from_utf8(body).unwrap();
    assert!(text.contains("\u{1b}[8mha:") && text.ends_with("whole\r\n"), "notes stay, partial lines do not");
    clock.advance(SECOND);
    let (body, after, _) = poll(&jenkins, size);
    assert_eq!(String::from_utf8(body).unwrap(), "ial \u{17e}\r\n", "the first part of the line is lost");
    clock.advance(SECOND);
    let (body, size, more) = poll(&jenkins, after);
    assert_eq!(body.iter().filter(|byte| **byte == b'\n').count(), 10_000);
    assert!(more);
    assert!(size > after + body.len(), "2,000 lines are lost to whoever follows the header");
    let (middle, ..) = poll(&jenkins, after - 2);
    assert_eq!(middle[0], 0xBE, "an offset may split a character");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_19_artifacts_and_the_whole_console() {
    let (jenkins, store) = (Jenkins::start().await.unwrap(), Jenkins::start().await.unwrap());
    let url = store.keep_elsewhere("big.bin", b"kept");
    let script = Script::default()
        .artifact(Artifact::file("out/a.txt", "one"))
        .artifact(Artifact::file("out/sub/a.txt", "two"))
        .artifact(Artifact::file("out/f #1?.txt", "three"))
        .artifact(Artifact::symlink("out/link"))
        .artifact(Artifact::elsewhere("out/big.bin", url.clone()))
        .artifact(Artifact::cut_after("out/cut.bin", "0123456789", 4));
    jenkins.define_job(JobSpec::freestyle("a").runs(script));
    assert!(jenkins.trigger("a", &[], "somebody").is_some());
    let console = get(&jenkins, "/job/a/1/consoleText").text();
    assert_eq!(console, "Started by user somebody\nRunning as SYSTEM\nFinished: SUCCESS\n");
    let fetch = |path: &str| get(&jenkins, &format!("/job/a/1/artifact/{path}"));
    assert_eq!(fetch("out/f%20%231%3F.txt").text(), "three");
    assert_eq!((fetch("out/link").status, fetch("out/none").status), (404, 404));
    let listed = crate::client::json(&jenkins, "/job/a/1/api/json?tree=artifacts[fileName,relativePath]");
    let same = listed["artifacts"].as_array().unwrap().iter().filter(|a| a["fileName"] == "a.txt").count();
    assert_eq!(same, 2);
    let range = |range: &str| {
        send(
            &jenkins,
            "GET",
            "/job/a/1/artifact/out/f%20%231%3F.txt",
            &[("Authorization", &token()), ("Range", range)],
            b"",
        )
    };
    assert_eq!((range("bytes=1-2").status, range("bytes=1-2").text().as_str()), (206, "hr"));
    assert_eq!(range("bytes=99-").status, 500);
    let elsewhere = fetch("out/big.bin");
    assert_eq!((elsewhere.status, elsewhere.header("Location")), (302, Some(url)));
    assert_eq!(send(&store, "GET", "/elsewhere/big.bin", &[], b"").text(), "kept");
    assert_eq!(get(&store, "/elsewhere/big.bin").status, 400, "credentials do not belong there");
    let cut = fetch("out/cut.bin");
    assert_eq!((cut.header("Content-Length").as_deref(), cut.body.len()), (Some("10"), 4));
    let zip = fetch("*zip*/archive.zip");
    assert!(zip.body.starts_with(b"PK\x03\x04"));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_36_the_lossless_rule_yields_every_byte() {
    let (jenkins, clock) = started().await;
    let mut script = Script::succeeds_after(40 * SECOND);
    for second in 0..30_u32 {
        let lines: String = (0..1_000).map(|line| format!("{second} {line} \u{65e5}\n")).collect();
        script = script.log_after(second * SECOND, lines).log_after(second * SECOND, "partial");
    }
    jenkins.define_job(JobSpec::freestyle("a").runs(script));
    assert!(jenkins.trigger("a", &[], "x").is_some());
    let (mut start, mut all) = (0, Vec::new());
    for _ in 0..60 {
        clock.advance(3 * SECOND);
        let (body, size, more) = poll(&jenkins, start);
        let pairs = body.windows(2).filter(|two| two == b"\r\n").count();
        start += body.len() - pairs;
        all.extend(String::from_utf8(body).unwrap().replace("\r\n", "\n").into_bytes());
        if !more && start == size {
            break;
        }
    }
    let raw = String::from_utf8(poll(&jenkins, 0).0).unwrap().replace("\r\n", "\n");
    assert!(raw.ends_with("Finished: SUCCESS\n"));
    assert_eq!(String::from_utf8(all).unwrap(), raw);
    let console = get(&jenkins, "/job/a/1/consoleText").text();
    assert!(!console.contains('\r') && !console.contains('\u{1b}'));
    let size = poll(&jenkins, 0).1;
    assert_eq!(poll(&jenkins, size), (Vec::new(), size, false));
    assert_eq!(poll(&jenkins, size + 1).0.len(), poll(&jenkins, 0).0.len(), "beyond the end it starts again");
    let odd = |start: &str| get(&jenkins, &format!("/job/a/1/logText/progressiveText?start={start}"));
    assert_eq!((odd("-5").body.len(), odd("abc").status), (0, 500));
}
