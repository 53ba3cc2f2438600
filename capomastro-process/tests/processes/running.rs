//! The command runner.

use crate::support::{eventually, lives, pid_in};
use capomastro_core::{
    ErrorKind,
    command::{Command, CommandRunner as _, Exit},
    secret::Secret,
    time::{Clock as _, SystemClock},
};
use capomastro_process::ProcessRunner;
use std::{ffi::OsString, os::unix::ffi::OsStringExt as _, path::Path, time::Duration};

fn sh(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}

async fn kind(command: Command) -> ErrorKind {
    ProcessRunner::new().run(&command).await.unwrap_err().kind()
}

#[tokio::test]
async fn output_status_and_signal_are_told() {
    let run = ProcessRunner::new();
    let o = run.run(&sh("echo out; echo err >&2; exit 3")).await.unwrap();
    assert_eq!((o.exit, &o.stdout[..], &o.stderr[..]), (Exit::Code(3), &b"out\n"[..], &b"err\n"[..]));
    assert_eq!(run.run(&sh("kill -9 $$")).await.unwrap().exit, Exit::Signal(9));
    let o = run.run(&Command::new("true")).await.unwrap();
    assert_eq!((o.exit, o.stdout.len(), o.stderr.len()), (Exit::Code(0), 0, 0));
}

#[tokio::test]
async fn bytes_that_are_no_text_pass_both_ways() {
    let bytes = vec![0xff, 0xfe, 0, b'\n'];
    let o = ProcessRunner::new().run(&Command::new("cat").stdin(bytes.clone())).await.unwrap();
    assert_eq!(o.stdout, bytes);
    let o = ProcessRunner::new()
        .run(&Command::new("printf").args([OsString::from("%s"), OsString::from_vec(vec![0xff, b'x'])]))
        .await
        .unwrap();
    assert_eq!(o.stdout, [0xff, b'x']);
}

#[tokio::test]
async fn input_larger_than_a_pipe_passes_and_need_not_be_read() {
    let input = vec![b'x'; 3 << 20];
    let run = ProcessRunner::new();
    let o = run.run(&Command::new("cat").stdin(input.clone()).max_output(4 << 20)).await.unwrap();
    assert!(o.stdout == input);
    assert_eq!(run.run(&Command::new("true").stdin(input.clone())).await.unwrap().exit, Exit::Code(0));
    // Nobody reads, and one who could lives on.
    let o = run.run(&sh("setsid sleep 5 & exit 4").stdin(input)).await.unwrap();
    assert_eq!(o.exit, Exit::Code(4));
}

#[tokio::test]
async fn nothing_is_inherited_but_what_the_command_says() {
    let o = ProcessRunner::new()
        .run(&Command::new("env").env("A", "b").secret_env("S", Secret::new("t")))
        .await
        .unwrap();
    let text = String::from_utf8(o.stdout).unwrap();
    let mut names: Vec<&str> = text.lines().filter_map(|l| l.split_once('=')).map(|(n, _)| n).collect();
    names.sort_unstable();
    assert_eq!(names, ["A", "PATH", "S"]);
}

#[tokio::test]
async fn without_a_folder_there_is_an_empty_one_that_goes_away() {
    let scratch = tempfile::tempdir().unwrap();
    let run = ProcessRunner::new().with_scratch(scratch.path());
    let o = run.run(&sh("ls -A; touch x; pwd")).await.unwrap();
    let dir = String::from_utf8(o.stdout).unwrap();
    assert!(Path::new(dir.trim()).starts_with(scratch.path().canonicalize().unwrap()), "{dir}");
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    let o = run.run(&sh("pwd").dir("/")).await.unwrap();
    assert_eq!(o.stdout, b"/\n");
}

#[tokio::test]
async fn what_cannot_be_started_is_told_apart() {
    let d = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = d.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        Command::new(path)
    };
    assert_eq!(kind(Command::new("no-such-program-anywhere")).await, ErrorKind::NotFound);
    assert_eq!(kind(Command::new("/no/such/program")).await, ErrorKind::NotFound);
    assert_eq!(kind(Command::new("")).await, ErrorKind::NotFound);
    assert_eq!(kind(Command::new("ls").env("PATH", "/nowhere")).await, ErrorKind::NotFound);
    assert_eq!(kind(file("a", "#!/no/such/interpreter\n", 0o755)).await, ErrorKind::NotFound);
    assert_eq!(kind(file("b", "", 0o644)).await, ErrorKind::PermissionDenied);
    assert_eq!(kind(file("c", "\x7fnot really ELF", 0o755)).await, ErrorKind::InvalidInput);
    assert_eq!(kind(Command::new("ls").arg("a\0b")).await, ErrorKind::InvalidInput);
    assert_eq!(kind(Command::new("ls").arg("x".repeat(4 << 20))).await, ErrorKind::InvalidInput);
    assert_eq!(kind(Command::new("ls").dir("/no/such/dir")).await, ErrorKind::InvalidInput);
    let e = ProcessRunner::new().with_scratch("/no/such/dir").run(&Command::new("ls")).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_deadline_ends_the_whole_group() {
    let d = tempfile::tempdir().unwrap();
    let command =
        sh("echo $$ >a; (sh -c 'echo $$ >b; sleep 600') & trap '' TERM; while :; do sleep 600; done")
            .dir(d.path())
            .deadline(Duration::from_millis(400));
    assert_eq!(kind(command).await, ErrorKind::TimedOut);
    for file in ["a", "b"] {
        let pid = pid_in(&d.path().join(file)).await;
        eventually("the group to be gone", || (!lives(pid)).then_some(())).await;
    }
}

#[tokio::test]
async fn a_dropped_future_ends_the_whole_group() {
    let d = tempfile::tempdir().unwrap();
    let command = sh("echo $$ >a; (sh -c 'echo $$ >b; sleep 600') & wait").dir(d.path());
    let running = tokio::spawn(async move { ProcessRunner::new().run(&command).await });
    let pids = [pid_in(&d.path().join("a")).await, pid_in(&d.path().join("b")).await];
    assert!(pids.into_iter().all(lives));
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    for pid in pids {
        eventually("the group to be gone", || (!lives(pid)).then_some(())).await;
    }
}

#[tokio::test]
async fn a_flood_is_stopped_and_what_is_allowed_passes() {
    let started = SystemClock.monotonic();
    assert_eq!(kind(Command::new("yes").max_output(100_000)).await, ErrorKind::Corrupt);
    assert!(SystemClock.monotonic() < started.plus(Duration::from_secs(20)), "not by the deadline");
    let run = ProcessRunner::new();
    let exact = sh("printf 12345678").max_output(8);
    assert_eq!(run.run(&exact).await.unwrap().stdout, b"12345678");
    assert_eq!(kind(exact.max_output(7)).await, ErrorKind::Corrupt);
    let o = run.run(&sh("yes x | head -c 1000000 >&2; printf end >&2").max_output(9)).await.unwrap();
    assert_eq!(o.stderr, b"x\nx\nx\nend", "the end of standard error is kept");
}

#[tokio::test]
async fn whoever_keeps_the_pipes_holds_nobody_up() {
    let started = SystemClock.monotonic();
    let d = tempfile::tempdir().unwrap();
    let run = ProcessRunner::new();
    // In the group: ended with it.
    let o = run.run(&sh("sleep 600 & echo $! >a; echo said").dir(d.path())).await.unwrap();
    assert_eq!(o.stdout, b"said\n");
    let pid = pid_in(&d.path().join("a")).await;
    eventually("what was left to be gone", || (!lives(pid)).then_some(())).await;
    // Out of the group: left alone, and not waited for.
    let o = run.run(&sh("setsid sleep 20 & echo said; exit 5")).await.unwrap();
    assert_eq!((o.exit, &o.stdout[..]), (Exit::Code(5), &b"said\n"[..]));
    assert!(SystemClock.monotonic() < started.plus(Duration::from_secs(15)));
}

#[tokio::test]
async fn a_secret_file_is_there_for_the_command_and_gone_after_it() {
    let script = r#"cat "$KEY"; cat "$KEY"; stat -L -c %a "$KEY"; echo "$KEY""#;
    let command = sh(script).secret_file("KEY", Secret::new("hunter2\n"));
    let o = ProcessRunner::new().run(&command).await.unwrap();
    assert_eq!(o.exit, Exit::Code(0), "{}", o.complaint());
    let said = String::from_utf8(o.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(&lines[..3], ["hunter2", "hunter2", "600"]);
    // Another thread's file may have got the number since; it does not hold the text.
    assert_ne!(std::fs::read(lines[3]).unwrap_or_default(), b"hunter2\n");
}
