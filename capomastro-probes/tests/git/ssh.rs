//! Repositories behind ssh: a stand-in that shows what it was given, and the real server where there is one.

use super::{
    asking::{answer, ask_for, failure, seen, until, with_secret},
    inetd,
    repo::{Repo, git},
    runner::Remembering,
};
use capomastro_core::{ErrorKind, probe::RevisionProbe};
use capomastro_probes::git::{GitProbe, GitSource};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

/// An ssh program that runs what is asked for on this machine, in a directory whose name needs quoting.
pub(crate) fn stand_in(dir: &Path) -> String {
    script(dir, "while [ $# -gt 1 ]; do shift; done\nexec sh -c \"$1\"\n")
}

fn script(dir: &Path, text: &str) -> String {
    let dir = dir.join("it's mine");
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join("ssh");
    fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_runner_it_is_not_supported() {
    let e = failure(&GitProbe::new(), ask_for(GitSource::new("git@host.invalid:a.git"))).await;
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.report().contains("runner"), "{e:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_git_program_it_is_not_supported() {
    let probe = GitProbe::builder().runner(Remembering::new()).git("/nonexistent/git").build();
    let e = failure(&probe, ask_for(GitSource::new("git@host.invalid:a.git"))).await;
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ssh_that_is_not_there_is_told() {
    let probe = GitProbe::builder().runner(Remembering::new()).ssh("/nonexistent/ssh").build();
    let e = failure(&probe, ask_for(GitSource::new("git@host.invalid:a.git"))).await;
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_there_is_unavailable() {
    let probe = GitProbe::builder().runner(Remembering::new()).build();
    let e = failure(&probe, ask_for(GitSource::new("ssh://git@127.0.0.1:1/a.git"))).await;
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_is_not_there_is_a_matter_of_configuration() {
    let repo = Repo::empty();
    let ssh = stand_in(repo.root.path());
    let probe = GitProbe::builder().runner(Remembering::new()).ssh(ssh).build();
    let e = failure(&probe, ask_for(GitSource::new("host.invalid:/nonexistent/a.git"))).await;
    assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{e:?}");
}

/// The key reaches ssh, and is in no argument and no environment of any process.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_reaches_ssh_and_nothing_else() {
    let repo = Repo::empty();
    let id = repo.advance("main");
    let dir = repo.root.path().display().to_string();
    let ssh = script(
        repo.root.path(),
        &format!(
            r#"echo "$@" > '{dir}/arguments'
cat /proc/[0-9]*/cmdline /proc/$$/environ /proc/$PPID/environ > '{dir}/processes' 2>/dev/null
for word; do
    case "$word" in
        IdentityFile=*) cat "${{word#*=}}" > '{dir}/key'; ls -lL "${{word#*=}}" > '{dir}/mode';;
        UserKnownHostsFile=*) cat "${{word#*=}}" > '{dir}/hosts';;
    esac
done
while [ $# -gt 1 ]; do shift; done
exec sh -c "$1"
"#
        ),
    );
    let runner = Remembering::new();
    let probe = GitProbe::builder().runner(Arc::<Remembering>::clone(&runner)).ssh(ssh).build();
    let source = GitSource::new(format!("ssh://host.invalid{}", repo.url()))
        .branch("main")
        .ssh_key("deploy")
        .known_hosts("host.invalid ssh-ed25519 AAAA");
    let ask = with_secret(ask_for(source), "deploy", "planted-key");
    assert_eq!(seen(&probe, ask).await.revision.as_str(), id);

    let read =
        |name: &str| String::from_utf8_lossy(&fs::read(repo.root.path().join(name)).unwrap()).into_owned();
    assert_eq!(read("key"), "planted-key\n");
    assert_eq!(read("hosts"), "host.invalid ssh-ed25519 AAAA\n");
    assert!(read("mode").starts_with("-rw-------"), "{}", read("mode"));
    for option in ["BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "IdentityAgent=none"] {
        assert!(read("arguments").contains(option), "{}", read("arguments"));
    }
    assert!(read("processes").contains("ls-remote"));
    assert!(!read("processes").contains("planted-key"));
    let command = &runner.commands()[0];
    assert!(!format!("{command:?} {:?}", command.env).contains("planted-key"));
}

/// The program's own configuration, prompts and helpers are out of play.
#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_said_in_full() {
    let repo = Repo::empty();
    repo.advance("main");
    let runner = Remembering::new();
    let ssh = stand_in(repo.root.path());
    let probe = GitProbe::builder()
        .runner(Arc::<Remembering>::clone(&runner))
        .ssh(ssh)
        .env("SSH_AUTH_SOCK", "/agent")
        .build();
    seen(&probe, ask_for(GitSource::new(format!("host.invalid:{}", repo.url())).branch("main"))).await;
    let command = &runner.commands()[0];
    for (name, value) in [
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_ALLOW_PROTOCOL", "ssh"),
        ("SSH_AUTH_SOCK", "/agent"),
    ] {
        assert_eq!(command.env.get(name.as_ref() as &std::ffi::OsStr).unwrap(), value);
    }
    assert_eq!(command.args[..3], ["ls-remote", "--symref", "--"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_look_ends_the_program() {
    let repo = Repo::empty();
    let pid_file = repo.root.path().join("pid");
    let ssh = script(repo.root.path(), &format!("echo $PPID > '{}'\nexec sleep 1000\n", pid_file.display()));
    let probe = GitProbe::builder().runner(Remembering::new()).ssh(ssh).build();
    let ask = ask_for(GitSource::new("host.invalid:a.git"));
    let looking = tokio::spawn(async move { probe.probe(&[ask]).await });
    until(|| fs::read_to_string(&pid_file).is_ok_and(|pid| pid.ends_with('\n'))).await;
    let process = PathBuf::from("/proc").join(fs::read_to_string(&pid_file).unwrap().trim());
    assert!(process.exists());
    looking.abort();
    until(|| !process.exists()).await;
}

/// The real server, started for each connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_with_a_key() {
    let sshd = Path::new("/usr/sbin/sshd");
    if !sshd.exists() {
        assert!(std::env::var_os("CI").is_none(), "openssh-server is needed: apt-get install openssh-server");
        eprintln!("SKIP: a_real_server_with_a_key needs openssh-server (apt-get install openssh-server)");
        return;
    }
    let repo = Repo::empty();
    let id = repo.advance("main");
    let dir = repo.root.path();
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    for name in ["host_key", "right_key", "wrong_key"] {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(dir.join(name))
            .status();
        assert!(made.unwrap().success());
    }
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    fs::write(dir.join("authorized"), read("right_key.pub")).unwrap();
    let config = format!(
        "HostKey {0}/host_key\nAuthorizedKeysFile {0}/authorized\nStrictModes no\nUsePAM no\n\
         PasswordAuthentication no\nPermitRootLogin yes\nAcceptEnv GIT_PROTOCOL\n",
        dir.display()
    );
    fs::write(dir.join("config"), config).unwrap();
    // Debian's server wants it even where no init system has made it.
    drop(fs::create_dir_all("/run/sshd"));
    let config = dir.join("config");
    let port = inetd::on_each(move |stream| {
        let mut command = Command::new(sshd);
        command.arg("-i").arg("-f").arg(&config);
        inetd::run(command, &stream);
    });

    let probe = GitProbe::builder().runner(Remembering::new()).build();
    let source =
        || GitSource::new(format!("ssh://{}@127.0.0.1:{port}{}", user.trim(), repo.url())).branch("main");
    let hosts = format!("[127.0.0.1]:{port} {}", read("host_key.pub"));
    let keyed = |source: GitSource, key: &str| with_secret(ask_for(source.ssh_key("key")), "key", &read(key));

    let ask = keyed(source().known_hosts(&hosts), "right_key");
    assert_eq!(seen(&probe, ask).await.revision.as_str(), id);
    let e = failure(&probe, keyed(source().known_hosts(&hosts), "wrong_key")).await;
    assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e:?}");
    assert!(e.report().contains("ssh_key"), "{e:?}");
    let others = format!("[127.0.0.1]:{port} {}", read("wrong_key.pub"));
    let e = failure(&probe, keyed(source().known_hosts(others), "right_key")).await;
    assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e:?}");
    assert!(e.report().contains("known_hosts"), "{e:?}");
    let mut not_a_key = ask_for(source().known_hosts(&hosts).ssh_key("key"));
    not_a_key = with_secret(not_a_key, "key", "planted-key");
    let e = failure(&probe, not_a_key).await;
    assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e:?}");
    assert!(!e.report().contains("planted-key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn refs_in_tables_are_left_to_the_git_program() {
    let repo = Repo::empty();
    let id = repo.advance("main");
    // What tells such a repository from others; the git program of this machine may be too old to make one.
    fs::create_dir(repo.path().join("reftable")).unwrap();
    let source = || ask_for(GitSource::new(repo.url()).branch("main"));
    assert_eq!(failure(&GitProbe::new(), source()).await.kind(), ErrorKind::Unsupported);
    let runner = Remembering::new();
    let probe = GitProbe::builder().runner(Arc::<Remembering>::clone(&runner)).build();
    assert_eq!(seen(&probe, source()).await.revision.as_str(), id);
    assert_eq!(runner.commands().len(), 1);
    let work_tree = repo.root.path().join("tree");
    git(&repo.path(), ["worktree", "add", "--quiet", "--detach", "../tree", "main"]);
    let tree = ask_for(GitSource::new(work_tree.display().to_string()));
    assert!(answer(&GitProbe::new(), tree).await.is_err());
}
