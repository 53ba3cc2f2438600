//! Scripts as real processes.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use capomastro_core::{
    Error, ErrorKind, Result, Retry,
    model::Revision,
    probe::{Ask, Probed, RevisionProbe},
    secret::{FixedSecrets, Secrets},
    time::Timestamp,
};
use capomastro_probes::script::{Language, ScriptProbe, ScriptSource};
use capomastro_process::ProcessRunner;
use rustix::process::{Pid, test_kill_process};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;

const SECOND: Duration = Duration::from_secs(1);

/// A folder with a script in it.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn with(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("script"), script).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn source(&self, language: Language) -> ScriptSource {
        // Through the interpreter: a file that was just written cannot be run while a child that another test forks
        // still has it open for writing.
        let command = ["/bin/sh", "./script"];
        let source = match language {
            Language::Token => ScriptSource::token(command),
            Language::Changed => ScriptSource::changed(command),
        };
        source.dir(self.folder.path())
    }

    async fn look(&self, language: Language) -> Result<Probed> {
        look(ask(self.source(language))).await
    }

    async fn token(&self) -> Result<Probed> {
        self.look(Language::Token).await
    }
}

fn ask(source: ScriptSource) -> Ask {
    let secrets = Secrets::new(Arc::new(FixedSecrets::default().with("forge", "hunter2")));
    let source = source.into_source("script").unwrap();
    Ask::new("lib".parse().unwrap(), source, 60 * SECOND, secrets)
}

async fn look(ask: Ask) -> Result<Probed> {
    ScriptProbe::new(Arc::new(ProcessRunner::new())).probe(&[ask]).await.remove(0)
}

fn revision(text: &str) -> Probed {
    Probed::revision(text).unwrap()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Waits until the process of this id, which a script wrote into a file, is gone.
async fn until_gone(file: &Path) {
    let id: i32 = read(file).trim().parse().unwrap();
    until(|| {
        let is_zombie = read(Path::new(&format!("/proc/{id}/stat"))).contains(") Z ");
        is_zombie || test_kill_process(Pid::from_raw(id).unwrap()).is_err()
    })
    .await;
}

#[expect(clippy::disallowed_methods, reason = "other processes tell nobody when they are ready")]
async fn until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come about within 20 s");
}

#[tokio::test]
async fn a_script_prints_a_revision() {
    assert_eq!(Bench::with("echo r1").token().await.unwrap(), revision("r1"));
    assert_eq!(Bench::with("printf r1; echo noise >&2").token().await.unwrap(), revision("r1"));
    let longest = Bench::with("head -c 1024 /dev/zero | tr '\\0' x; echo");
    assert_eq!(longest.token().await.unwrap(), revision(&"x".repeat(1_024)));
}

#[tokio::test]
async fn what_is_no_revision_is_corrupt() {
    let cases = [
        ("true", "nothing"),
        ("echo", "nothing"),
        ("echo r1; echo r2", "several lines"),
        ("printf 'r1\\n\\n'", "several lines"),
        ("printf '\\377\\376\\n'", "not UTF-8"),
        ("printf 'a\\0b\\n'", "NUL"),
        ("printf 'r1\\r\\n'", "carriage return"),
        ("head -c 1025 /dev/zero | tr '\\0' x", "1,024 bytes"),
        ("head -c 66000 /dev/zero | tr '\\0' x", "more than is allowed"),
    ];
    for (script, expected) in cases {
        let error = Bench::with(script).token().await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Corrupt, Retry::Never), "{script}: {error}");
        assert!(error.to_string().contains(expected), "{script}: {error}");
        assert!(error.to_string().contains("dependency=lib"), "{error}");
    }
}

#[tokio::test]
async fn exit_statuses_say_what_they_say() {
    let kind = |e: Error| e.kind();
    for (status, token, changed) in [
        (0, Ok(revision("7")), Ok(revision("1"))),
        (1, Err(ErrorKind::Unavailable), Ok(Probed::Nothing)),
        (2, Err(ErrorKind::Unavailable), Err(ErrorKind::Unavailable)),
        (126, Err(ErrorKind::InvalidConfig), Err(ErrorKind::InvalidConfig)),
        (127, Err(ErrorKind::InvalidConfig), Err(ErrorKind::InvalidConfig)),
        (255, Err(ErrorKind::Unavailable), Err(ErrorKind::Unavailable)),
    ] {
        let bench = Bench::with(&format!("echo 7; exit {status}"));
        assert_eq!(bench.look(Language::Token).await.map_err(kind), token, "{status}");
        assert_eq!(bench.look(Language::Changed).await.map_err(kind), changed, "{status}");
    }
}

#[tokio::test]
async fn a_failure_is_told_with_the_scripts_own_words() {
    let error = Bench::with("echo 'no route to host' >&2; exit 3").token().await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("exit_status=3") && text.contains("stderr=no route to host"), "{text}");
    let loud = Bench::with("head -c 300000 /dev/zero | tr '\\0' y >&2; exit 3").token().await.unwrap_err();
    assert!(loud.report().len() < 1_500, "{} bytes", loud.report().len());
    let killed = Bench::with("kill -9 $$").token().await.unwrap_err();
    assert_eq!(killed.kind(), ErrorKind::Unavailable);
    assert!(killed.to_string().contains("signal=9"), "{killed}");
}

#[tokio::test]
async fn what_cannot_be_run_is_a_fault_of_the_source() {
    let bench = Bench::with("missing-program-of-capomastro");
    assert_eq!(bench.token().await.unwrap_err().kind(), ErrorKind::InvalidConfig);
    fs::write(bench.path("plain"), "echo r1").unwrap();
    for program in ["./plain", "./missing", "missing-program-of-capomastro", "./."] {
        let source = ScriptSource::token([program]).dir(bench.folder.path());
        let error = look(ask(source)).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::InvalidConfig, Retry::Never), "{error}");
        assert!(error.to_string().contains(program), "{error}");
    }
    let nowhere = ScriptSource::token(["/bin/true"]).dir(bench.path("missing"));
    assert_eq!(look(ask(nowhere)).await.unwrap_err().kind(), ErrorKind::InvalidConfig);
}

#[tokio::test]
async fn a_script_that_hangs_is_ended_with_all_that_it_started() {
    let bench = Bench::with("sleep 1000 & echo $! >child; echo $$ >self; wait");
    let source = bench.source(Language::Token).timeout(3 * SECOND);
    let error = look(ask(source)).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::TimedOut, Retry::Backoff), "{error}");
    until_gone(&bench.path("self")).await;
    until_gone(&bench.path("child")).await;
}

#[tokio::test]
async fn a_dropped_probe_ends_its_script() {
    let bench = Bench::with("sleep 1000 & echo $! >child; echo $$ >self.new; mv self.new self; wait");
    let probing = tokio::spawn(look(ask(bench.source(Language::Token))));
    until(|| bench.path("self").exists()).await;
    probing.abort();
    until_gone(&bench.path("self")).await;
    until_gone(&bench.path("child")).await;
}

#[tokio::test]
async fn a_child_that_keeps_the_pipe_open_holds_nobody_up() {
    let bench = Bench::with("sleep 1000 & echo $! >child; echo r1");
    assert_eq!(bench.token().await.unwrap(), revision("r1"));
    until_gone(&bench.path("child")).await;
}

#[tokio::test]
async fn an_endless_flood_is_stopped() {
    for language in [Language::Token, Language::Changed] {
        let error = Bench::with("exec yes").look(language).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
    let to_stderr = Bench::with("yes >&2");
    let error = look(ask(to_stderr.source(Language::Token).timeout(SECOND))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
}

#[tokio::test]
async fn a_script_gets_what_it_is_promised_and_nothing_else() {
    let bench = Bench::with("env >seen; cat >>seen; pwd >dir; echo r1");
    let mut ask = ask(bench.source(Language::Token).env("BRANCH", "main").secret_env("TOKEN", "forge"));
    ask.seen = Some("r9".parse::<Revision>().unwrap());
    ask.last_start = Timestamp::from_timestamp_micros(1_772_366_400_000_001);
    look(ask).await.unwrap();
    let seen = read(&bench.path("seen"));
    // What the shell itself adds is not inherited.
    let mut lines: Vec<&str> = seen
        .lines()
        .filter(|line| !["PWD=", "OLDPWD=", "SHLVL=", "_="].iter().any(|own| line.starts_with(own)))
        .map(|line| if line.starts_with("PATH=/") { "PATH" } else { line })
        .collect();
    lines.sort_unstable();
    let expected = [
        "BRANCH=main",
        "CAPOMASTRO_ACCOUNTED=",
        "CAPOMASTRO_DEPENDENCY=lib",
        "CAPOMASTRO_LAST_BUILD=2026-03-01T12:00:00.000001Z",
        "CAPOMASTRO_LAST_BUILD_UNIX=1772366400",
        "CAPOMASTRO_OBSERVED=r9",
        "PATH",
        "TOKEN=hunter2",
    ];
    assert_eq!(lines, expected);
    assert_eq!(Path::new(read(&bench.path("dir")).trim()), bench.folder.path().canonicalize().unwrap());
}

#[tokio::test]
async fn no_error_repeats_a_secret() {
    let scripts = [
        "set -x; : $TOKEN; exit 3",
        "echo $TOKEN; echo $TOKEN",
        "echo $TOKEN >&2; kill -9 $$",
        "echo $TOKEN >&2; exit 127",
        "head -c 66000 /dev/zero | tr '\\0' y >&2; printf 'x%sx' \"$TOKEN\" >&2; exit 3",
        "echo $TOKEN; exec yes $TOKEN",
    ];
    for script in scripts {
        let bench = Bench::with(script);
        let error = look(ask(bench.source(Language::Token).secret_env("TOKEN", "forge"))).await.unwrap_err();
        let text = format!("{error} {error:?} {}", error.report());
        assert!(!text.contains("hunter2"), "{script}: {text}");
    }
}

/// A source that changes while its builds run, looked at by a script that compares times.
#[tokio::test]
async fn a_true_false_script_counts_each_change_once() {
    let bench = Bench::with("[ \"$(cat changed)\" -ge \"${CAPOMASTRO_LAST_BUILD_UNIX:-0}\" ]");
    let changed_at = |seconds: u64| fs::write(bench.path("changed"), seconds.to_string()).unwrap();
    let mut ask = ask(bench.source(Language::Changed));
    let at = |seconds| Timestamp::from_timestamp(seconds, 0);
    let known = |n: &str| Some(n.parse::<Revision>().unwrap());

    changed_at(100);
    assert_eq!(look(ask.clone()).await.unwrap(), revision("1"));
    // Seen, and waiting to be built.
    ask.seen = known("1");
    assert_eq!(look(ask.clone()).await.unwrap(), Probed::SameAsSeen);
    // Its build runs, and the source changes again.
    (ask.accounted, ask.last_start, ask.building) = (known("1"), at(200), true);
    changed_at(250);
    assert_eq!(look(ask.clone()).await.unwrap(), Probed::SameAsSeen);
    // The build has ended.
    ask.building = false;
    assert_eq!(look(ask.clone()).await.unwrap(), revision("2"));
    // It is built, too.
    (ask.seen, ask.accounted, ask.last_start) = (known("2"), known("2"), at(300));
    assert_eq!(look(ask.clone()).await.unwrap(), Probed::SameAsSeen);
}
