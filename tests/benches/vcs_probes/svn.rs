//! Subversion.

use crate::{REPOSITORIES, Vcs, clean, run, server::Server};
use capomastro_core::{model::Source, probe::RevisionProbe};
use capomastro_probes::svn::{SvnProbe, SvnRevision, SvnSource};
use capomastro_process::ProcessRunner;
use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
};

/// What is looked at in a repository.
const LOOKED_AT: &str = "trunk";

#[derive(Debug)]
pub(crate) struct Svn;

impl Vcs for Svn {
    const NAME: &'static str = "svn";
    const GOAL: f64 = 0.2;

    /// The folder that is looked at is at an older revision than the repository is.
    fn make(folder: &Path) {
        for n in 0..REPOSITORIES {
            let path = folder.join(n.to_string());
            run(clean("svnadmin").arg("create").arg(&path));
            mkdir(&path, &[LOOKED_AT]);
            for n in 0..n % 3 {
                mkdir(&path, &[&format!("{LOOKED_AT}/{n}")]);
            }
            mkdir(&path, &["elsewhere"]);
        }
    }

    fn commit(repository: &Path) {
        let number = run(clean("svnlook").arg("youngest").arg(repository));
        mkdir(repository, &[&format!("{LOOKED_AT}/after-{number}")]);
    }

    fn serve(folder: &Path) -> (Server, String) {
        // It does not tell which port it got.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = clean("svnserve");
        command.args(["--daemon", "--foreground", "--listen-host=127.0.0.1"]);
        command.arg(format!("--listen-port={port}")).arg("--root").arg(folder);
        let mut server =
            Server::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(server.child().try_wait().unwrap().is_none(), "svnserve has ended");
            thread::yield_now();
        }
        (server, format!("svn://127.0.0.1:{port}"))
    }

    fn probe() -> Arc<dyn RevisionProbe> {
        Arc::new(SvnProbe::builder().runner(Arc::new(ProcessRunner::new())).build())
    }

    fn source(url: &str) -> Source {
        SvnSource::new(url).path(LOOKED_AT).source("svn").unwrap()
    }

    fn bare(url: &str) -> Command {
        let mut command = clean("svn");
        let scheme = if url.starts_with('/') { "file://" } else { "" };
        command.args(["info", "--non-interactive", "--show-item", "last-changed-revision"]);
        command.arg(format!("{scheme}{url}/{LOOKED_AT}"));
        command
    }

    /// It prints the number alone. The identity of the repository is in a file.
    fn is_same(revision: &str, printed: &str, repository: &Path) -> bool {
        let revision: SvnRevision = revision.parse().unwrap();
        let uuid = fs::read_to_string(repository.join("db/uuid")).unwrap();
        revision.number.to_string() == printed && Some(revision.uuid.as_str()) == uuid.lines().next()
    }
}

fn mkdir(repository: &Path, folders: &[&str]) {
    let url = format!("file://{}", repository.display());
    let actions = folders.iter().flat_map(|folder| ["mkdir", folder]);
    run(clean("svnmucc").args(["--non-interactive", "-m", "x", "-U", &url, "--"]).args(actions));
}
