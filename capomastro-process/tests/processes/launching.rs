//! From a request to a running build.

use crate::support::{
    Memos, build, end, eventually, launch, launcher, lives, log, look, new_build, pid_in, processes, request,
    request_of,
};
use capomastro_core::{
    Error, ErrorKind, Result,
    launch::{BuildLauncher as _, Found, Journal, Launched, Outcome, Promise, Seen, SendBefore},
    secret::{FixedSecrets, SecretRef, Secrets},
    time::{Clock as _, Monotonic, SystemClock},
};
use capomastro_process::{CommandJob, CommandLauncher};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

#[tokio::test]
async fn a_build_is_told_what_it_is_and_nothing_else() {
    let d = tempfile::tempdir().unwrap();
    let l = launcher(d.path());
    let job = CommandJob::script("env; ls -l /proc/$$/fd >&2; pwd; ls -A")
        .env("OWN", "own $HOME `id`")
        .env("TOKEN", SecretRef::new("upload"));
    let mut r = request(&job);
    r.parameters = BTreeMap::from([("fast".into(), "a b\nc".into())]);
    r.build_key = Some("nightly".parse().unwrap());
    r.secrets = Secrets::new(Arc::new(FixedSecrets::default().with("upload", "hunter2")));
    let reference = launch(&l, &r).await;
    assert_eq!(end(&l, &reference).await.outcome, Outcome::Succeeded);
    let text = log(&l, &reference).await;
    let env: BTreeMap<&str, &str> = text.lines().filter_map(|l| l.split_once('=')).collect();
    let here = d.path().join("builds").join(r.key.to_string());
    let place = |name: &str| here.join(name).to_str().unwrap().to_owned();
    for (name, value) in [
        ("OWN", "own $HOME `id`".to_owned()),
        ("TOKEN", "hunter2".into()),
        ("CAPOMASTRO_BUILD_ID", r.key.to_string()),
        ("CAPOMASTRO_DEPENDENCY", "lib foo/🦀".into()),
        ("CAPOMASTRO_REVISION", r.revision.to_string()),
        ("CAPOMASTRO_BUILD_NUMBER", "7".into()),
        ("CAPOMASTRO_BUILD_KEY", "nightly".into()),
        ("CAPOMASTRO_PARAM_fast", "a b".into()),
        ("CAPOMASTRO_ARTIFACTS", place("drop")),
        ("CAPOMASTRO_BUILT_REVISION_FILE", place("says/built-revision")),
        ("PWD", place("workspace")),
    ] {
        assert_eq!(env.get(name), Some(&&*value), "{name} in {text}");
    }
    assert_eq!(env.len(), 12, "and PATH: {text}");
    for fd in 3..10 {
        assert!(!text.contains(&format!(" {fd} -> /tmp")), "only standard descriptors: {text}");
    }
    for entry in fs::read_dir(&here).unwrap().flatten().filter(|e| e.file_name() != "log") {
        if entry.file_type().unwrap().is_file() {
            let content = fs::read(entry.path()).unwrap();
            assert!(!String::from_utf8_lossy(&content).contains("hunter2"), "{entry:?}");
        }
    }
    assert!(!d.path().join("pwned").exists() && !here.join("workspace/pwned").exists());
}

#[tokio::test]
async fn arguments_are_arguments() {
    let d = tempfile::tempdir().unwrap();
    let l = launcher(d.path());
    let nasty = ["a b", "$(touch x)", "`id`", "'", "\"", "", "-n", "*", "a\nb", "ö"];
    let job = CommandJob::new(["printf", "[%s]"].into_iter().chain(nasty));
    let (reference, ended) = build(&l, &job).await;
    assert_eq!(ended.outcome, Outcome::Succeeded);
    assert_eq!(log(&l, &reference).await, nasty.map(|n| format!("[{n}]")).concat());
    let mut job = CommandJob::script("printf '%s|' \"$0\" \"$@\"");
    job.command.extend(["a b".into(), "c".into()]);
    let (reference, _) = build(&l, &job).await;
    assert_eq!(log(&l, &reference).await, "sh|a b|c|");
}

#[tokio::test]
async fn signals_of_a_build_are_as_usual() {
    let d = tempfile::tempdir().unwrap();
    let l = launcher(d.path());
    let (reference, _) = build(&l, &CommandJob::new(["cat", "/proc/self/status"])).await;
    let ignored = |status: &str| {
        let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:\t")).unwrap();
        u64::from_str_radix(mask, 16).unwrap()
    };
    let ours = ignored(&fs::read_to_string("/proc/self/status").unwrap());
    let theirs = ignored(&log(&l, &reference).await);
    // A shell cannot take back that whoever started all of this ignores some (`nohup`); Rust ignores the pipe's for itself.
    let inherited = ours & !(1 << (13 - 1));
    for signal in [1, 2, 3, 13, 14, 15, 25] {
        assert_eq!(theirs & !inherited & (1 << (signal - 1)), 0, "signal {signal} is not ignored");
    }
}

#[tokio::test]
async fn launching_again_adopts_and_the_memo_names_the_folder() {
    let d = tempfile::tempdir().unwrap();
    let l = launcher(d.path());
    assert_eq!(l.promise(), Promise::IdempotentByKey);
    let marks = d.path().join("marks");
    let job = CommandJob::script(format!("echo x >>{}; read x <go", marks.display()));
    let mut r = request(&job);
    assert_eq!(l.find(&r).await.unwrap(), Found::Absent);
    let memos = Memos::default();
    let Launched::Accepted(first) = l.launch(&r, &memos).await.unwrap() else { panic!() };
    let memo = memos.0.lock().unwrap().pop().unwrap();
    r.memo = Some(memo);
    let other = launcher(d.path());
    for l in [&l, &other] {
        assert_eq!(launch(l, &r).await, first);
        assert_eq!(l.find(&r).await.unwrap(), Found::Build(first.clone()));
    }
    assert_eq!(end(&other, &first).await.outcome, Outcome::Failed, "there is no go");
    assert_eq!(launch(&l, &r).await, first, "after the end too");
    assert_eq!(fs::read_to_string(&marks).unwrap(), "x\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_launches_at_once_one_starts() {
    let d = tempfile::tempdir().unwrap();
    let marks = d.path().join("marks");
    let job = CommandJob::script(format!("echo x >>{}", marks.display()));
    let id = new_build();
    let all: Vec<_> = (0..12)
        .map(|_| {
            let (l, r) = (launcher(d.path()), request_of(id, &job));
            tokio::spawn(async move { launch(&l, &r).await })
        })
        .collect();
    let mut references = Vec::new();
    for one in all {
        references.push(one.await.unwrap());
    }
    references.dedup();
    assert_eq!(references.len(), 1);
    let l = launcher(d.path());
    assert_eq!(end(&l, &references[0]).await.outcome, Outcome::Succeeded);
    assert_eq!(fs::read_to_string(&marks).unwrap(), "x\n");
}

#[tokio::test]
async fn what_can_never_work_is_refused_and_leaves_nothing() {
    let d = tempfile::tempdir().unwrap();
    let l = launcher(d.path());
    let plain = d.path().join("plain");
    fs::write(&plain, "").unwrap();
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
    let ok = CommandJob::new(["true"]);
    let mut with_parameter = request(&ok);
    with_parameter.parameters = BTreeMap::from([("a-b".into(), String::new())]);
    let mut with_nul = request(&ok);
    with_nul.parameters = BTreeMap::from([("a".into(), "\0".into())]);
    let mut with_much = request(&ok);
    with_much.parameters = BTreeMap::from([("a".into(), "x".repeat(1 << 20))]);
    let mut bad_job = request(&ok);
    bad_job.job = json!({"command": []});
    for (r, says) in [
        (request(&CommandJob::new(["no-such-program"])), "does not exist"),
        (request(&CommandJob::new(["./no-such-program"])), "does not exist"),
        (request(&CommandJob::new([plain.to_str().unwrap()])), "may not be run"),
        (request(&CommandJob::new(["ls"]).env("PATH", "/nowhere")), "does not exist"),
        (request(&ok.clone().dir("/no/such/dir")), "create it"),
        (with_parameter, "letters"),
        (with_nul, "NUL"),
        (with_much, "too large"),
        (bad_job, "empty"),
    ] {
        let Launched::Refused(why) = l.launch(&r, &Memos::default()).await.unwrap() else { panic!("{says}") };
        assert!(why.permanent && why.reason.contains(says), "{why:?}");
        assert_eq!(l.find(&r).await.unwrap(), Found::Absent);
    }
    let e = l.check_job(&json!({"command": []})).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidConfig);
    l.check_job(&serde_json::to_value(ok).unwrap()).unwrap();
}

#[derive(Debug)]
struct Broken;

#[capomastro_core::async_trait]
impl Journal for Broken {
    async fn keep(&self, _: Value) -> Result<()> {
        Err(Error::new(ErrorKind::ClaimLost, "no"))
    }
}

#[tokio::test]
async fn nothing_starts_too_late_or_unkept_or_without_its_secret() {
    let d = tempfile::tempdir().unwrap();
    let l = launcher(d.path());
    let marks = d.path().join("marks");
    let job = CommandJob::script(format!("echo x >>{}", marks.display()));
    let mut r = request(&job);
    assert_eq!(l.launch(&r, &Broken).await.unwrap_err().kind(), ErrorKind::ClaimLost);
    r.send_before = SendBefore(Monotonic(Duration::ZERO));
    assert_eq!(l.launch(&r, &Memos::default()).await.unwrap_err().kind(), ErrorKind::ClaimLost);
    let mut without = r.clone();
    without.job = serde_json::to_value(job.clone().env("A", SecretRef::new("none"))).unwrap();
    assert_eq!(l.launch(&without, &Memos::default()).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(l.find(&r).await.unwrap(), Found::Absent);
    assert!(!marks.exists());
    // And the same key still works.
    r.send_before = SendBefore(Monotonic(Duration::MAX));
    let reference = launch(&l, &r).await;
    assert_eq!(end(&l, &reference).await.outcome, Outcome::Succeeded);
    assert_eq!(fs::read_to_string(&marks).unwrap(), "x\n");
}

#[tokio::test]
async fn another_folder_in_its_place_is_no_evidence() {
    let d = tempfile::tempdir().unwrap();
    let l = launcher(d.path());
    let memos = Memos::default();
    let mut r = request(&CommandJob::new(["true"]));
    let Launched::Accepted(reference) = l.launch(&r, &memos).await.unwrap() else { panic!() };
    end(&l, &reference).await;
    r.memo = memos.0.lock().unwrap().pop();
    let away = d.path().join("away");
    fs::rename(d.path().join("builds"), &away).unwrap();
    for there in [false, true] {
        if there {
            build(&l, &CommandJob::new(["true"])).await;
            eventually("nothing to be left", || processes(away.parent()?.to_str()?).is_empty().then_some(()))
                .await;
        }
        assert_eq!(look(&l, &reference).await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(l.find(&r).await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(l.launch(&r, &Memos::default()).await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(l.cancel(&r.key, &reference).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    fs::remove_dir_all(d.path().join("builds")).unwrap();
    fs::rename(&away, d.path().join("builds")).unwrap();
    assert!(matches!(look(&l, &reference).await.unwrap(), Seen::Ended(_)));
    fs::remove_dir_all(d.path().join("builds").join(r.key.to_string())).unwrap();
    assert_eq!(look(&l, &reference).await.unwrap(), Seen::Unknown);
    l.cancel(&r.key, &reference).await.unwrap();
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_an_error_that_says_so() {
    let d = tempfile::tempdir().unwrap();
    fs::write(d.path().join("builds"), "a file").unwrap();
    let l = launcher(d.path());
    let r = request(&CommandJob::new(["true"]));
    let e = l.launch(&r, &Memos::default()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e:?}");
    let e = CommandLauncher::builder("relative").build().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidConfig);
    let e = CommandLauncher::builder("/x").tools_path("/nowhere").build().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn wherever_a_launch_is_dropped_the_next_one_finds_or_starts_the_build() {
    for round in 0..15_u32 {
        let d = tempfile::tempdir().unwrap();
        let l = launcher(d.path());
        let marks = d.path().join("marks");
        let r = request(&CommandJob::script(format!("echo $$ >>{}; sleep 600", marks.display())));
        let launching = {
            let (l, r) = (l.clone(), r.clone());
            tokio::spawn(async move { l.launch(&r, &Memos::default()).await })
        };
        SystemClock.sleep(Duration::from_micros(700) * round).await;
        launching.abort();
        let reference = launch(&l, &r).await;
        let pid = pid_in(&marks).await;
        assert!(lives(pid));
        l.cancel(&r.key, &reference).await.unwrap();
        assert_eq!(end(&l, &reference).await.outcome, Outcome::Cancelled);
        assert_eq!(fs::read_to_string(&marks).unwrap().lines().count(), 1, "round {round}");
    }
}
