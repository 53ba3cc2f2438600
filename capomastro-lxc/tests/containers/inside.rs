//! What a command sees and may do inside.

use crate::support::{
    assert_clean, eventually, folder, prints, processes, run, runner, runner_with, sh, there_are_containers,
};
use capomastro_core::{
    ErrorKind,
    command::{Command, CommandRunner as _, Exit},
    secret::Secret,
};
use capomastro_lxc::{LxcRunner, Root};
use std::{ffi::OsString, fs, os::unix::ffi::OsStringExt as _, process};

#[tokio::test]
async fn output_status_and_input_pass() {
    let Some((lxc, state)) = runner() else { return };
    let o = run(&lxc, &sh("cat; echo err >&2; exit 3").stdin("in\n")).await;
    assert_eq!((o.exit, &o.stdout[..], &o.stderr[..]), (Exit::Code(3), &b"in\n"[..], &b"err\n"[..]));
    let input: Vec<u8> = (0..3_u32 << 20).map(|n| (n % 251) as u8).collect();
    let o = run(&lxc, &Command::new("cat").stdin(input.clone()).max_output(4 << 20)).await;
    assert!(o.stdout == input);
    let o = run(&lxc, &Command::new("true").stdin(input)).await;
    assert_eq!((o.exit, o.stdout.len(), o.stderr.len()), (Exit::Code(0), 0, 0));
    assert_clean(state.path());
}

#[tokio::test]
async fn every_status_of_a_command_is_its_own() {
    let Some((lxc, _state)) = runner() else { return };
    for (script, exit) in [
        ("exit 1", Exit::Code(1)),
        ("exit 2", Exit::Code(2)),
        ("exit 126", Exit::Code(126)),
        ("exit 127", Exit::Code(127)),
        ("exit 255", Exit::Code(255)),
        ("kill -TERM $$", Exit::Signal(15)),
        ("kill -9 $$", Exit::Signal(9)),
    ] {
        assert_eq!(run(&lxc, &sh(script)).await.exit, exit, "{script}");
    }
}

#[tokio::test]
async fn the_environment_is_what_the_command_says() {
    let Some((lxc, _state)) = runner() else { return };
    let value: Vec<u8> = (1..=255).collect();
    let command = Command::new("env")
        .arg("-0")
        .env("A", "b")
        .env("LINES", "one\ntwo\n")
        .env("QUOTES", "it's \"$HOME\" `date` \\")
        .env("BYTES", OsString::from_vec(value.clone()))
        .secret_env("S", Secret::new("hunter2"));
    let said = run(&lxc, &command).await.stdout;
    let mut seen: Vec<&[u8]> = said.split(|b| *b == 0).filter(|l| !l.is_empty()).collect();
    seen.sort_unstable();
    let mut bytes = b"BYTES=".to_vec();
    bytes.extend(&value);
    let path = b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let mut expected: Vec<&[u8]> =
        vec![b"A=b", &bytes, b"LINES=one\ntwo\n", path, b"QUOTES=it's \"$HOME\" `date` \\", b"S=hunter2"];
    expected.sort_unstable();
    let shown =
        |all: &[&[u8]]| all.iter().map(|l| String::from_utf8_lossy(l).into_owned()).collect::<Vec<_>>();
    assert_eq!(seen, expected, "{:?} {:?}", shown(&seen), shown(&expected));
}

#[tokio::test]
async fn a_secret_file_is_read_inside_and_nowhere_on_a_disk() {
    let Some((lxc, state)) = runner() else { return };
    let script = r#"cat "$KEY"; stat -c %a "$KEY"; stat -f -c %T "$KEY"; tr '\0' ' ' </proc/1/cmdline /proc/2/cmdline"#;
    let command = sh(script).secret_file("KEY", Secret::new("hunter2 'x'\n\n"));
    let said = String::from_utf8(run(&lxc, &command).await.stdout).unwrap();
    assert!(said.starts_with("hunter2 'x'\n\n600\ntmpfs\n"), "{said}");
    assert_eq!(said.matches("hunter2").count(), 1, "{said}");

    // While it runs, no file of the runner holds it.
    let mark = "capomastro-held-1893";
    let held = sh(&format!("sh -c 'sleep 1000; : {mark}'")).secret_file("KEY", Secret::new("hunter3"));
    let running = tokio::spawn({
        let lxc = lxc.clone();
        async move { lxc.run(&held).await }
    });
    eventually("it runs", || (processes(mark) > 0).then_some(())).await;
    let found = process::Command::new("grep").args(["-r", "hunter3"]).arg(state.path()).output().unwrap();
    assert!(found.stdout.is_empty(), "{found:?}");
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn nothing_of_this_machine_is_seen_but_its_programs() {
    let Some((lxc, _state)) = runner() else { return };
    let outside = folder();
    fs::write(outside.path().join("x"), "x").unwrap();
    let at = outside.path().display();
    let said = prints(
        &lxc,
        &format!("ls -d {at} /etc/shadow /etc/ssh /root/.* /work /home/* 2>/dev/null; whoami; hostname; ls /tmp /run"),
    )
    .await;
    let lines: Vec<&str> = said.lines().filter(|l| !matches!(*l, "/root/." | "/root/..")).collect();
    assert_eq!(lines, ["root", "capomastro", "/run:", "", "/tmp:"]);
    let said = prints(&lxc, "git --version; python3 -c 'print(1)'").await;
    assert!(said.starts_with("git version") && said.ends_with("1\n"), "{said}");
}

#[tokio::test]
async fn the_root_is_not_written_to() {
    let Some((lxc, _state)) = runner() else { return };
    for place in ["/", "/usr", "/etc", "/usr/local/bin", "/opt", "/var", "/sys"] {
        let o = run(&lxc, &sh(&format!("touch {place}/capomastro-test"))).await;
        assert_ne!(o.exit, Exit::Code(0), "{place}");
    }
    assert_eq!(
        prints(&lxc, "pwd; ls -A; touch /tmp/a /run/a /dev/shm/a && touch b && echo ok").await,
        "/tmp\nok\n"
    );
    let o = run(&lxc, &sh("mount -t tmpfs tmpfs /mnt; mknod /tmp/sda b 8 0 && cat /tmp/sda")).await;
    assert_ne!(o.exit, Exit::Code(0));
}

#[tokio::test]
async fn what_a_command_reads_is_shown_and_not_written_to() {
    let outside = folder();
    let deep = outside.path().join("a folder/with 'names'#");
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "text\n").unwrap();
    let Some((lxc, _state)) =
        runner_with(|b| b.share(outside.path(), "/srv/shared").show("/proc/version", "/var/v"))
    else {
        return;
    };
    let command = sh(r#"cat "$1/file" /var/v; touch "$1/new"; echo $?; echo shared >/srv/shared/new"#)
        .args(["x".into(), deep.clone().into_os_string()])
        .reads(&deep);
    let o = run(&lxc, &command).await;
    let said = String::from_utf8(o.stdout).unwrap();
    assert!(said.starts_with("text\nLinux version") && said.ends_with("1\n"), "{said}");
    assert!(!deep.join("new").exists());
    assert_eq!(fs::read_to_string(outside.path().join("new")).unwrap(), "shared\n");

    // A single file, below /tmp and elsewhere, and one that is not there.
    let one = deep.join("file");
    let command = Command::new("cat").arg(&one).reads(&one).reads("/nonexistent/x");
    assert_eq!(run(&lxc, &command).await.stdout, b"text\n");
    let e = lxc.run(&Command::new("true").reads("/tmp/../etc")).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidInput, "{e:?}");
}

#[tokio::test]
async fn the_working_directory_is_the_one_inside() {
    let outside = folder();
    let Some((lxc, _state)) = runner() else { return };
    let command = Command::new("pwd").dir(outside.path());
    let e = lxc.run(&command).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidInput, "{e:?}");
    let o = run(&lxc, &command.reads(outside.path())).await;
    assert_eq!(String::from_utf8(o.stdout).unwrap().trim_end(), outside.path().to_str().unwrap());
}

#[tokio::test]
async fn a_program_that_is_not_there_is_told() {
    let outside = folder();
    fs::write(outside.path().join("plain"), "#!/bin/sh\n").unwrap();
    let Some((lxc, _state)) = runner() else { return };
    let plain = outside.path().join("plain");
    for (command, kind) in [
        (Command::new("capomastro-no-such-program"), ErrorKind::NotFound),
        (Command::new("/usr/bin/capomastro-no-such-program"), ErrorKind::NotFound),
        (Command::new(&plain), ErrorKind::NotFound),
        (Command::new(&plain).reads(outside.path()), ErrorKind::PermissionDenied),
        (Command::new("echo").env("PATH", "/nonexistent"), ErrorKind::NotFound),
        (Command::new("").env("PATH", "/bin"), ErrorKind::NotFound),
    ] {
        let e = lxc.run(&command).await.unwrap_err();
        assert_eq!(e.kind(), kind, "{command:?}: {}", e.report());
    }
    // A name that the shell knows by itself is looked up like any other.
    let o = run(&lxc, &Command::new("echo").args(["-n", "a"])).await;
    assert_eq!(o.stdout, b"a");
}

/// A root of its own, made by Debian's busybox: other programs, nothing of this machine's.
fn small_root(folder: &std::path::Path) {
    for dir in ["bin", "etc", "srv", "var"] {
        fs::create_dir(folder.join(dir)).unwrap();
    }
    fs::copy("/bin/busybox", folder.join("bin/busybox")).unwrap();
    for name in ["sh", "ls", "cat", "touch", "env", "sleep"] {
        std::os::unix::fs::symlink("busybox", folder.join("bin").join(name)).unwrap();
    }
    fs::write(folder.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
    fs::write(folder.join("var/kept"), "kept\n").unwrap();
}

#[tokio::test]
async fn a_root_of_ones_own() {
    if !there_are_containers() {
        return;
    }
    let (root, outside) = (folder(), folder());
    small_root(root.path());
    fs::write(outside.path().join("seen"), "seen\n").unwrap();
    for (kind, is_written) in
        [(Root::Folder(root.path().into()), false), (Root::Ephemeral(root.path().into()), true)]
    {
        let state = folder();
        let lxc = LxcRunner::builder(state.path(), kind).show(outside.path(), "/srv/o").build().unwrap();
        assert!(lxc.health().await.unwrap().is_well(), "{}", lxc.health().await.unwrap());
        assert_eq!(
            prints(&lxc, "cat /var/kept /srv/o/seen; ls /usr 2>/dev/null || echo no usr").await,
            "kept\nseen\nno usr\n"
        );
        let written = run(&lxc, &sh("touch /var/new && touch /new && ls /new")).await.exit == Exit::Code(0);
        assert_eq!(written, is_written);
        // What one wrote, the next does not see.
        assert_eq!(prints(&lxc, "ls /var").await, "kept\n");
        assert_eq!(fs::read_dir(root.path().join("var")).unwrap().count(), 1);
        assert_clean(state.path());
    }
}

#[tokio::test]
async fn somebody_else_inside() {
    let Some((lxc, _state)) = runner_with(|b| b.user(65534, 65534)) else { return };
    let command = sh("id -u; id -g; touch x && cat \"$KEY\"").secret_file("KEY", Secret::new("k"));
    assert_eq!(run(&lxc, &command).await.stdout, b"65534\n65534\nk");
}

#[tokio::test]
async fn many_at_once() {
    let Some((lxc, state)) = runner() else { return };
    let all = (0..24).map(|n| {
        let lxc = lxc.clone();
        tokio::spawn(async move { prints(&lxc, &format!("echo {n}")).await })
    });
    for (n, one) in all.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(one.await.unwrap(), format!("{n}\n"));
    }
    assert_clean(state.path());
}
