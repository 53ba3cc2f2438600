//! What must not get through: names that are configuration, configuration that cannot be.

use crate::support::{folder, run, runner, sh};
use capomastro_core::{
    ErrorKind,
    command::{Command, CommandRunner as _, Exit},
};
use capomastro_lxc::{Limits, LxcRunner, Root};

#[tokio::test]
async fn a_folders_name_is_no_configuration() {
    let outside = folder();
    let evil = outside.path().join("x\nlxc.cap.keep = sys_admin\n# \\040 y");
    std::fs::create_dir(&evil).unwrap();
    std::fs::write(evil.join("f"), "f\n").unwrap();
    let Some((lxc, _state)) = runner() else { return };
    let command = sh("cat f; mount -t tmpfs tmpfs /mnt").dir(&evil).reads(&evil);
    let o = run(&lxc, &command).await;
    assert_eq!(o.stdout, b"f\n");
    assert_ne!(o.exit, Exit::Code(0));
}

#[tokio::test]
async fn arguments_are_arguments() {
    let Some((lxc, _state)) = runner() else { return };
    let words = ["-n", "--", "a b", "$HOME", "`date`", "'; exit 9; '", "new\nline", "", "*"];
    let o = run(&lxc, &Command::new("printf").arg("[%s]").args(words)).await;
    let expected: String = words.iter().map(|w| format!("[{w}]")).collect();
    assert_eq!(String::from_utf8(o.stdout).unwrap(), expected);
    for command in [Command::new("a\0"), Command::new("a").arg("b\0"), Command::new("a").env("B", "\0")] {
        assert_eq!(lxc.run(&command).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

/// A command that takes the wrapper away with it ends as a failure of the container, never as a good end.
#[tokio::test]
async fn a_command_cannot_end_well_by_killing_its_wrapper() {
    let Some((lxc, _state)) = runner() else { return };
    let e = lxc.run(&sh("kill -9 -1; kill -9 $PPID; exit 0")).await;
    match e {
        Err(e) => assert_eq!(e.kind(), ErrorKind::Unavailable, "{e:?}"),
        Ok(o) => assert_ne!(o.exit, Exit::Code(0)),
    }
}

#[test]
fn what_cannot_be_is_refused_when_the_runner_is_built() {
    let of = |state: &str| LxcRunner::builder(state, Root::Host);
    for (builder, said) in [
        (of("relative"), "state folder"),
        (of("/a/../b"), "state folder"),
        (of("/a,b"), "state folder"),
        (of("/a").show("b", "/c"), "absolute paths"),
        (of("/a").show("/b", "/"), "absolute paths"),
        (of("/a").share("/b", "/c/../d"), "absolute paths"),
        (of("/a").id_map(0, 10), "map of ids"),
        (of("/a").limits(Limits::default().processes(1)), "too low"),
        (of("/a").limits(Limits::default().memory(Some(1))), "too low"),
        (of("/a").limits(Limits::default().scratch(0)), "scratch"),
        (LxcRunner::builder("/a", Root::Folder("b".into())), "absolute path"),
        (LxcRunner::builder("/a", Root::Ephemeral("/b:c".into())), "overlays"),
    ] {
        let e = builder.build().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidConfig);
        assert!(e.report().contains(said), "{said}: {}", e.report());
    }
}
