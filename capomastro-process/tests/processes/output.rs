//! Logs, artifacts, built revisions, retention.

use crate::support::{build, end, eventually, launch, launcher, look, pid_in, request};
use capomastro_core::{
    ErrorKind,
    launch::{BuildLauncher as _, BuildOutput as _, Outcome, Seen},
    model::ExternalRef,
    time::{Clock, Monotonic, SystemClock, Timestamp, later},
};
use capomastro_process::{CommandJob, CommandLauncher};
use std::{sync::Arc, time::Duration};

#[tokio::test]
async fn a_log_is_read_in_pieces_while_it_grows() {
    let d = tempfile::tempdir().unwrap();
    let l = launcher(d.path());
    let (go, said) = (d.path().join("go"), d.path().join("said"));
    let script = format!(
        "printf 0123; mkfifo {go}; : >{said}; read x <{go}; printf 4567 >&2",
        go = go.display(),
        said = said.display()
    );
    let reference = launch(&l, &request(&CommandJob::script(script))).await;
    eventually("the build to wait", || said.exists().then_some(())).await;
    let until = SystemClock.monotonic().plus(Duration::from_secs(30));
    loop {
        let chunk = l.log(&reference, 0, 100).await.unwrap();
        assert!(!chunk.is_last);
        if chunk.bytes == b"0123" {
            break;
        }
        assert!(SystemClock.monotonic() < until, "the log is not live: {chunk:?}");
        SystemClock.sleep(Duration::from_millis(5)).await;
    }
    let chunk = l.log(&reference, 4, 100).await.unwrap();
    assert!(chunk.bytes.is_empty() && !chunk.is_last);
    std::fs::write(&go, "go\n").unwrap();
    assert_eq!(end(&l, &reference).await.outcome, Outcome::Succeeded);
    for (offset, max, bytes, last) in [
        (0, 3, "012", false),
        (3, 5, "34567", true),
        (3, 4, "3456", false),
        (8, 9, "", true),
        (99, 9, "", true),
    ] {
        let chunk = l.log(&reference, offset, max).await.unwrap();
        assert_eq!((&chunk.bytes[..], chunk.is_last), (bytes.as_bytes(), last), "{offset} {max}");
    }
}

#[tokio::test]
async fn a_flood_is_cut_and_the_build_goes_on() {
    let d = tempfile::tempdir().unwrap();
    let l = launcher(d.path());
    let mut job = CommandJob::script("yes | head -c 5000000; echo done");
    job.max_log_bytes = 10_000;
    let (reference, ended) = build(&l, &job).await;
    assert_eq!(ended.outcome, Outcome::Succeeded);
    assert!(ended.message.unwrap().contains("log"));
    let chunk = l.log(&reference, 0, usize::MAX).await.unwrap();
    assert_eq!((chunk.bytes.len(), chunk.is_last), (10_240, true), "rounded up to 512");
    job.command = vec!["yes | head -c 10240".into()];
    let (_, ended) = build(&l, &job).await;
    assert_eq!(ended.message, None, "exactly what is allowed is not cut");
}

#[tokio::test]
async fn artifacts_and_the_built_revision_are_reported() {
    let d = tempfile::tempdir().unwrap();
    let l = launcher(d.path());
    let script = "mkdir out && printf abc >out/a.txt && printf dropped >\"$CAPOMASTRO_ARTIFACTS/b\" && \
                  ln -s /etc/passwd \"$CAPOMASTRO_ARTIFACTS/evil\" && \
                  printf 'r-2\\n' >\"$CAPOMASTRO_BUILT_REVISION_FILE\"";
    let (reference, ended) = build(&l, &CommandJob::script(script).artifact("out/*.txt")).await;
    assert_eq!((ended.outcome, ended.message), (Outcome::Succeeded, None));
    assert_eq!(ended.built.unwrap().as_str(), "r-2");
    let [b, a] = &ended.artifacts[..] else { panic!("{:?}", ended.artifacts) };
    assert_eq!((a.name.as_str(), a.size), ("out/a.txt", Some(3)));
    assert_eq!(
        a.digest.as_deref(),
        Some("sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    );
    assert_eq!((b.name.as_str(), b.size), ("b", Some(7)));
    assert_eq!(std::fs::read_to_string(a.location.as_ref().unwrap()).unwrap(), "abc");

    let chunk = l.artifact(&reference, "b", 2, 3).await.unwrap();
    assert_eq!((&chunk.bytes[..], chunk.is_last), (&b"opp"[..], false));
    let chunk = l.artifact(&reference, "out/a.txt", 0, 3).await.unwrap();
    assert_eq!((&chunk.bytes[..], chunk.is_last), (&b"abc"[..], true));
    for (name, kind) in [
        ("c", ErrorKind::NotFound),
        ("out", ErrorKind::NotFound),
        ("evil", ErrorKind::NotFound),
        ("../log", ErrorKind::InvalidInput),
        ("/etc/passwd", ErrorKind::InvalidInput),
        ("", ErrorKind::InvalidInput),
        ("a\0b", ErrorKind::InvalidInput),
    ] {
        assert_eq!(l.artifact(&reference, name, 0, 9).await.unwrap_err().kind(), kind, "{name:?}");
    }
    assert_eq!(l.log(&ExternalRef("x".into()), 0, 9).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn missing_or_too_large_artifacts_fail_a_build_that_ended_well() {
    let d = tempfile::tempdir().unwrap();
    let l = launcher(d.path());
    let (_, ended) = build(&l, &CommandJob::new(["true"]).artifact("*.deb")).await;
    assert_eq!(ended.outcome, Outcome::Failed);
    assert!(ended.message.unwrap().contains("*.deb"));
    let mut job = CommandJob::script("head -c 2000 /dev/zero >\"$CAPOMASTRO_ARTIFACTS/a\"");
    job.max_artifact_bytes = 1_999;
    let (_, ended) = build(&l, &job).await;
    assert_eq!((ended.outcome, ended.artifacts.len()), (Outcome::Failed, 0));
    let job = CommandJob::script("printf 'a\\nb' >\"$CAPOMASTRO_BUILT_REVISION_FILE\"");
    let (_, ended) = build(&l, &job).await;
    assert_eq!((ended.outcome, ended.built), (Outcome::Succeeded, None));
    assert!(ended.message.unwrap().contains("built revision"));
}

/// The system's clock, some time ahead.
#[derive(Debug)]
struct Ahead(Duration);

#[capomastro_core::async_trait]
impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        later(SystemClock.now(), self.0)
    }
    fn monotonic(&self) -> Monotonic {
        SystemClock.monotonic()
    }
    async fn sleep(&self, duration: Duration) {
        SystemClock.sleep(duration).await;
    }
}

#[tokio::test]
async fn old_builds_are_swept_and_running_or_unseen_ones_never() {
    const DAY: Duration = Duration::from_secs(86_400);
    let d = tempfile::tempdir().unwrap();
    let l = launcher(d.path());
    let pid = d.path().join("pid");
    let running = request(&CommandJob::script(format!("echo $$ >{}; sleep 600", pid.display())));
    let running_ref = launch(&l, &running).await;
    pid_in(&pid).await;
    let seen = request(&CommandJob::new(["true"]));
    let seen_ref = launch(&l, &seen).await;
    end(&l, &seen_ref).await;
    let unseen = request(&CommandJob::new(["true"]));
    let unseen_ref = launch(&l, &unseen).await;
    let status = d.path().join("builds").join(unseen.key.to_string()).join("status.json");
    eventually("the unseen build to end", || status.exists().then_some(())).await;

    assert_eq!(l.sweep(DAY).await.unwrap(), []);
    let tomorrow = CommandLauncher::builder(d.path().join("builds"))
        .clock(Arc::new(Ahead(DAY + Duration::from_secs(60))))
        .build()
        .unwrap();
    assert_eq!(tomorrow.sweep(DAY).await.unwrap(), [seen.key]);
    assert_eq!(look(&l, &seen_ref).await.unwrap(), Seen::Unknown);
    assert_eq!(l.log(&seen_ref, 0, 1).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(look(&l, &running_ref).await.unwrap(), Seen::Running);
    assert_eq!(end(&l, &unseen_ref).await.outcome, Outcome::Succeeded);

    assert_eq!(l.forget(&[running.key, seen.key, unseen.key]).await.unwrap(), [running.key]);
    assert_eq!(look(&l, &unseen_ref).await.unwrap(), Seen::Unknown);
    l.cancel(&running.key, &running_ref).await.unwrap();
    assert_eq!(end(&l, &running_ref).await.outcome, Outcome::Cancelled);
}
