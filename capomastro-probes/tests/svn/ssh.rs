//! Repositories behind ssh: a stand-in that shows what it was given, and the real server where there is one.

use super::{
    asking::{ask_for, failure, seen, until, with_secret},
    repo::{Repo, is_there},
    runner::Remembering,
    serve,
};
use capomastro_core::{ErrorKind, probe::RevisionProbe};
use capomastro_probes::svn::{SvnProbe, SvnSource};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

/// Finds the command among the arguments of ssh.
const COMMAND: &str = r#"
while [ $# -gt 0 ]; do
    case "$1" in -o|-p) shift 2;; --) shift; break;; -*) shift;; *) break;; esac
done
shift
"#;

/// An ssh program that runs what is asked for on this machine, in a directory whose name needs quoting.
pub(crate) fn stand_in(dir: &Path) -> String {
    script(dir, &format!("{COMMAND}exec sh -c \"$*\"\n"))
}

fn script(dir: &Path, text: &str) -> String {
    let dir = dir.join("it's mine");
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join("ssh");
    fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// The probes of both ways.
fn both(ssh: &str) -> [SvnProbe; 2] {
    [false, true]
        .map(|always| SvnProbe::builder().runner(Remembering::new()).ssh(ssh).always_program(always).build())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_runner_it_is_not_supported() {
    let ask = || ask_for(SvnSource::new("svn+ssh://host.invalid/r"));
    for probe in [SvnProbe::new(), SvnProbe::builder().always_program(true).build()] {
        let e = failure(&probe, ask()).await;
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(e.report().contains("runner"), "{e:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_are_not_there_are_told() {
    let Some(repo) = Repo::new() else { return };
    for probe in both("/nonexistent/ssh") {
        let e = failure(&probe, ask_for(SvnSource::new("svn+ssh://host.invalid/r"))).await;
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e:?}");
    }
    let ssh = script(repo.root.path(), "echo 'sh: 1: svnserve: not found' >&2\nexit 127\n");
    for probe in both(&ssh) {
        let e = failure(&probe, ask_for(SvnSource::new("svn+ssh://host.invalid/r"))).await;
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e:?}");
    }
    for probe in [
        SvnProbe::builder().runner(Remembering::new()).svnserve("/nonexistent/svnserve").build(),
        SvnProbe::builder().runner(Remembering::new()).svn("/nonexistent/svn").always_program(true).build(),
    ] {
        let e = failure(&probe, ask_for(SvnSource::new(repo.url()))).await;
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_and_repositories_that_are_not_there_are_told() {
    let Some(repo) = Repo::new() else { return };
    for probe in both("ssh") {
        let e = failure(&probe, ask_for(SvnSource::new("svn+ssh://me@127.0.0.1:1/r"))).await;
        assert_eq!(e.kind(), ErrorKind::Unavailable, "{e:?}");
    }
    for probe in both(&stand_in(repo.root.path())) {
        let e = failure(&probe, ask_for(SvnSource::new("svn+ssh://host.invalid/nonexistent/r"))).await;
        assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{e:?}");
    }
}

/// The key reaches ssh, and is in no argument and no environment of any process.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_reaches_ssh_and_nothing_else() {
    let Some(repo) = Repo::new() else { return };
    let dir = repo.root.path().display().to_string();
    let text = format!(
        r#"echo "$@" > '{dir}/arguments'
cat /proc/[0-9]*/cmdline /proc/$$/environ /proc/$PPID/environ > '{dir}/processes' 2>/dev/null
for word; do
    case "$word" in
        IdentityFile=*) cat "${{word#*=}}" > '{dir}/key';;
        UserKnownHostsFile=*) cat "${{word#*=}}" > '{dir}/hosts';;
    esac
done
{COMMAND}
exec sh -c "$*"
"#
    );
    let ssh = script(repo.root.path(), &text);
    let source = SvnSource::new(format!("svn+ssh://me@host.invalid:2222{}", repo.url()))
        .path("trunk")
        .ssh_key("deploy")
        .known_hosts("host.invalid ssh-ed25519 AAAA");
    let read =
        |name: &str| String::from_utf8_lossy(&fs::read(repo.root.path().join(name)).unwrap()).into_owned();
    for probe in both(&ssh) {
        let ask = with_secret(ask_for(source.clone()), "deploy", "planted-key");
        assert_eq!(seen(&probe, ask).await.display.as_deref(), Some("r1"));
        assert_eq!(read("key"), "planted-key\n");
        assert_eq!(read("hosts"), "host.invalid ssh-ed25519 AAAA\n");
        for option in ["BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "-p 2222"] {
            assert!(read("arguments").contains(option), "{}", read("arguments"));
        }
        assert!(read("arguments").contains("me@host.invalid svnserve -t"), "{}", read("arguments"));
        assert!(!read("processes").contains("planted-key"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_look_ends_the_programs() {
    let Some(repo) = Repo::new() else { return };
    for always in [false, true] {
        let pid_file = repo.root.path().join(format!("pid-{always}"));
        let ssh = script(repo.root.path(), &format!("echo $$ > '{}'\nexec sleep 1000\n", pid_file.display()));
        let probe = SvnProbe::builder().runner(Remembering::new()).ssh(ssh).always_program(always).build();
        let ask = ask_for(SvnSource::new("svn+ssh://host.invalid/r"));
        let looking = tokio::spawn(async move { probe.probe(&[ask]).await });
        until(|| fs::read_to_string(&pid_file).is_ok_and(|pid| pid.ends_with('\n'))).await;
        let process = PathBuf::from("/proc").join(fs::read_to_string(&pid_file).unwrap().trim());
        assert!(process.exists());
        looking.abort();
        until(|| !process.exists()).await;
    }
}

/// The real server, started for each connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_with_a_key() {
    let Some(repo) = Repo::new() else { return };
    if !is_there("/usr/sbin/sshd", "openssh-server") {
        return;
    }
    let dir = repo.root.path();
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    for name in ["host_key", "right_key", "wrong_key"] {
        let mut keygen = Command::new("ssh-keygen");
        let made = keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(dir.join(name)).status();
        assert!(made.unwrap().success());
    }
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    fs::write(dir.join("authorized"), read("right_key.pub")).unwrap();
    let config = format!(
        "HostKey {0}/host_key\nAuthorizedKeysFile {0}/authorized\nStrictModes no\nUsePAM no\n\
         PasswordAuthentication no\nPermitRootLogin yes\n",
        dir.display()
    );
    fs::write(dir.join("config"), config).unwrap();
    // Debian's server wants it even where no init system has made it.
    drop(fs::create_dir_all("/run/sshd"));
    let config = dir.join("config");
    let port = serve::on_each(move |stream| {
        let mut command = Command::new("/usr/sbin/sshd");
        command.arg("-i").arg("-f").arg(&config);
        serve::run(command, &stream);
    });

    let url = format!("svn+ssh://{}@127.0.0.1:{port}{}", user.trim(), repo.url());
    let source = || SvnSource::new(&url).path("trunk");
    let hosts = format!("[127.0.0.1]:{port} {}", read("host_key.pub"));
    let others = format!("[127.0.0.1]:{port} {}", read("wrong_key.pub"));
    let keyed = |source: SvnSource, key: &str| with_secret(ask_for(source.ssh_key("key")), "key", &read(key));
    for always in [false, true] {
        let runner = Remembering::new();
        let build = || SvnProbe::builder().runner(Arc::<Remembering>::clone(&runner));
        let probe = build().always_program(always).build();
        let ask = keyed(source().known_hosts(&hosts), "right_key");
        assert_eq!(seen(&probe, ask).await.revision.as_str(), repo.at(1, None).to_string());
        assert_eq!(runner.commands().len(), 1);
        for (hosts, key, said) in [(&hosts, "wrong_key", "ssh_key"), (&others, "right_key", "known_hosts")] {
            let e = failure(&probe, keyed(source().known_hosts(hosts), key)).await;
            assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e:?}");
            assert!(e.report().contains(said), "{e:?}");
        }
    }
}
