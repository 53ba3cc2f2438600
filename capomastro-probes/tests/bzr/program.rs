//! What needs programs: ssh, Launchpad, and what happens without them.

use super::{
    asking::{Remembering, answer, failure, seen},
    branch::Branches,
};
use capomastro_core::{ErrorKind, probe::Probed};
use capomastro_probes::bzr::{BzrProbe, BzrSource};
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

fn script(dir: &Path, text: &str) -> String {
    let dir = dir.join("it's mine");
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join("ssh");
    fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// Runs what is asked for on this machine.
const STAND_IN: &str = "while [ $# -gt 1 ]; do shift; done\nexec sh -c \"$1\"\n";

/// An ssh that runs what is asked for on this machine.
pub(crate) fn stand_in(dir: &Path) -> String {
    script(dir, STAND_IN)
}

#[tokio::test(flavor = "multi_thread")]
async fn over_ssh_the_servers_own_bzr_answers() {
    if !crate::branch::brz_is_there() {
        return;
    }
    let branches = Branches::new();
    branches.init("a b", &[]);
    let id = branches.commit("a b");
    let runner = Arc::<Remembering>::default();
    let ssh = stand_in(branches.root.path());
    let probe = BzrProbe::builder()
        .runner(Arc::<Remembering>::clone(&runner))
        .ssh(ssh)
        .remote_bzr("BRZ_LOG=/dev/null brz")
        .build();
    let url = format!("bzr+ssh://bzr@host.invalid:2222{}", branches.url("a%20b"));
    assert_eq!(seen(&probe, BzrSource::new(&url)).await, (id, "revno 1".into()));
    let gone = format!("bzr+ssh://host.invalid{}", branches.url("gone"));
    assert_eq!(answer(&probe, BzrSource::new(gone)).await.unwrap(), Probed::NotFound);
    let command = &runner.commands()[0];
    let args: Vec<_> = command.args.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    assert_eq!(&args[3..7], ["-p", "2222", "--", "bzr@host.invalid"]);
    assert!(args[1].contains("StrictHostKeyChecking=yes"), "{}", args[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_reaches_ssh_in_a_file() {
    if !crate::branch::brz_is_there() {
        return;
    }
    let branches = Branches::new();
    branches.init("a", &[]);
    let id = branches.commit("a");
    let dir = branches.root.path().display().to_string();
    let keeping = format!(
        "for word; do case \"$word\" in IdentityFile=*) cat \"${{word#*=}}\" >'{dir}/key';; \
         UserKnownHostsFile=*) cat \"${{word#*=}}\" >'{dir}/hosts';; esac; done\n{STAND_IN}"
    );
    let runner = Arc::<Remembering>::default();
    let probe = BzrProbe::builder()
        .runner(Arc::<Remembering>::clone(&runner))
        .ssh(script(branches.root.path(), &keeping))
        .remote_bzr("BRZ_LOG=/dev/null brz")
        .build();
    let source = BzrSource::new(format!("bzr+ssh://host.invalid{}", branches.url("a")))
        .ssh_key("forge")
        .known_hosts("host.invalid ssh-ed25519 AAAA");
    assert_eq!(seen(&probe, source).await.0, id);
    assert_eq!(fs::read_to_string(branches.path("key")).unwrap(), "planted hunter2: ü@/\n");
    assert_eq!(fs::read_to_string(branches.path("hosts")).unwrap(), "host.invalid ssh-ed25519 AAAA\n");
    let command = &runner.commands()[0];
    assert!(!format!("{command:?} {:?} {:?}", command.args, command.env).contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ssh_complains_about_is_told() {
    if !crate::branch::brz_is_there() {
        return;
    }
    let branches = Branches::new();
    for (complaint, kind) in [
        ("echo 'Host key verification failed.' >&2; exit 255", ErrorKind::PermissionDenied),
        ("echo 'bzr@h: Permission denied (publickey).' >&2; exit 255", ErrorKind::PermissionDenied),
        ("echo 'ssh: connect to host h port 22: Connection refused' >&2; exit 255", ErrorKind::Unavailable),
        ("echo 'ssh: connect to host h port 22: Connection timed out' >&2; exit 255", ErrorKind::TimedOut),
        ("echo 'sh: 1: bzr: not found' >&2; exit 127", ErrorKind::InvalidConfig),
        ("exit 1", ErrorKind::Unavailable),
        ("echo 'Welcome to this machine!'", ErrorKind::Corrupt),
        ("printf 'bzr resp'", ErrorKind::Unavailable),
    ] {
        let ssh = script(branches.root.path(), complaint);
        let probe = BzrProbe::builder().runner(Arc::<Remembering>::default()).ssh(ssh).build();
        let e = failure(&probe, BzrSource::new("bzr+ssh://host.invalid/a")).await;
        assert_eq!(e.kind(), kind, "{complaint}: {}", e.report());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_runner_or_a_program_it_is_not_supported() {
    if !crate::branch::brz_is_there() {
        return;
    }
    let branches = Branches::new();
    for probe in [
        BzrProbe::new(),
        BzrProbe::builder().always_program(true).build(),
        BzrProbe::builder().runner(Arc::<Remembering>::default()).python("/nonexistent/python").build(),
        // A Python without Breezy.
        BzrProbe::builder().runner(Arc::<Remembering>::default()).python(no_breezy(&branches)).build(),
    ] {
        let e = failure(&probe, BzrSource::new("lp:lib")).await;
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{}", e.report());
    }
}

fn no_breezy(branches: &Branches) -> String {
    script(branches.root.path(), "exec python3 -I -S -c \"$3\" \"$4\" \"$5\"\n")
}
