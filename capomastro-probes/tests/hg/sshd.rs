//! Repositories behind a real SSH server.

use super::{asking::answer_with, repo::Repo};
use capomastro_core::{ErrorKind, probe::Probed};
use capomastro_probes::hg::{HgProbe, HgSource};
use capomastro_process::ProcessRunner;
use std::{
    fs,
    net::TcpListener,
    os::fd::OwnedFd,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
};

const SSHD: &str = "/usr/sbin/sshd";

/// The server, started for each connection; its port.
fn serve(dir: &Path) -> u16 {
    for name in ["host_key", "right_key", "wrong_key"] {
        let mut making = Command::new("ssh-keygen");
        making.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(dir.join(name));
        assert!(making.status().unwrap().success());
    }
    fs::copy(dir.join("right_key.pub"), dir.join("authorized")).unwrap();
    let config = dir.join("config");
    let text = format!(
        "HostKey {0}/host_key\nAuthorizedKeysFile {0}/authorized\nStrictModes no\nUsePAM no\n\
         PasswordAuthentication no\nPermitRootLogin yes\n",
        dir.display()
    );
    fs::write(&config, text).unwrap();
    // Debian's server wants it even where no init system has made it.
    drop(fs::create_dir_all("/run/sshd"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, config) = (stream.unwrap(), config.clone());
            thread::spawn(move || {
                let end = || Stdio::from(OwnedFd::from(stream.try_clone().unwrap()));
                let mut server = Command::new(SSHD);
                server.arg("-i").arg("-f").arg(config).stdin(end()).stdout(end()).stderr(Stdio::null());
                drop(server.status());
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_with_a_key() {
    if !crate::repo::hg_is_there() {
        return;
    }
    if !Path::new(SSHD).exists() {
        assert!(std::env::var_os("CI").is_none(), "openssh-server is needed: apt-get install openssh-server");
        eprintln!("SKIP: a_real_server_with_a_key needs openssh-server (apt-get install openssh-server)");
        return;
    }
    let repo = Repo::new();
    let dir = repo.root.path().to_owned();
    repo.commit();
    let second = repo.commit();
    let port = serve(&dir);
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    let base = format!("ssh://{}@127.0.0.1:{port}/", user.trim());
    let hosts = format!("[127.0.0.1]:{port} {}", read("host_key.pub"));
    let source = |name: &str| {
        HgSource::new(format!("{base}{}/{name}", dir.display())).ssh_key("key").known_hosts(&hosts)
    };
    let (right, wrong) = (read("right_key"), read("wrong_key"));
    let probe = HgProbe::builder().runner(Arc::new(ProcessRunner::new())).build();
    let at = |id: String| {
        let (probe, source, right) = (&probe, source("r"), right.as_str());
        async move {
            match answer_with(probe, source, ("key", right)).await {
                Ok(Probed::Observed(o)) => assert_eq!(o.revision.as_str(), id),
                other => panic!("{other:?}"),
            }
        }
    };
    at(second.clone()).await;
    // Rewritten, with the same number.
    let other = repo.amend();
    assert_ne!(other, second);
    at(other).await;
    let none = answer_with(&probe, source("r").branch("gone"), ("key", &right)).await;
    assert_eq!(none.unwrap(), Probed::NotFound);
    let e = answer_with(&probe, source("gone"), ("key", &right)).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{}", e.report());
    let others = format!("[127.0.0.1]:{port} {}", read("wrong_key.pub"));
    for (source, key, said) in [
        (source("r"), wrong.as_str(), "ssh_key"),
        (source("r").known_hosts(others), right.as_str(), "known_hosts"),
        (source("r"), "planted-key", "private key"),
    ] {
        let e = answer_with(&probe, source, ("key", key)).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{}", e.report());
        assert!(e.report().contains(said), "{said}: {}", e.report());
        assert!(!e.report().contains("planted-key"));
    }
    // A server without an hg of that name.
    let probe = HgProbe::builder().runner(Arc::new(ProcessRunner::new())).remote_hg("/no/such/hg").build();
    let e = answer_with(&probe, source("r"), ("key", &right)).await.unwrap_err();
    assert!(matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::InvalidConfig), "{}", e.report());
}
