//! Breezy.

use crate::{REPOSITORIES, Vcs, clean, run, server::Server};
use capomastro_core::{model::Source, probe::RevisionProbe};
use capomastro_probes::bzr::{BzrProbe, BzrSource};
use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

/// Makes branches in one go: the program takes long to start.
const MAKE: &str = "
import sys, breezy
with breezy.initialize(setup_ui=False):
    import breezy.bzr
    from breezy.controldir import ControlDir, format_registry
    kind = format_registry.make_controldir('bzr')
    for n in range(int(sys.argv[2])):
        tree = ControlDir.create_standalone_workingtree(f'{sys.argv[1]}/{n}', format=kind)
        tree.commit('x', committer='A <a@example.org>', allow_pointless=True)
";

#[derive(Debug)]
pub(crate) struct Bzr;

impl Vcs for Bzr {
    const NAME: &'static str = "bzr";
    const GOAL: f64 = 0.1;

    fn make(folder: &Path) {
        for n in 0..REPOSITORIES {
            std::fs::create_dir(folder.join(n.to_string())).unwrap();
        }
        let count = REPOSITORIES.to_string();
        run(of_breezy("/usr/bin/python3").args(["-I", "-c", MAKE]).arg(folder).arg(count));
    }

    fn commit(repository: &Path) {
        run(of_breezy("brz").current_dir(repository).env("BRZ_EMAIL", "A <a@example.org>").args([
            "commit",
            "--quiet",
            "--unchanged",
            "-m",
            "x",
        ]));
    }

    fn serve(folder: &Path) -> (Server, String) {
        let mut command = of_breezy("brz");
        command.args(["serve", "--listen=127.0.0.1", "--port=0"]).arg("--directory").arg(folder);
        let mut server =
            Server::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()));
        let mut lines = BufReader::new(server.child().stderr.take().unwrap()).lines();
        let port: u16 = loop {
            if let Some(port) = lines.next().unwrap().unwrap().strip_prefix("listening on port: ") {
                break port.trim().parse().unwrap();
            }
        };
        // What it says further goes nowhere, without it being held up by a full pipe.
        std::thread::spawn(move || lines.count());
        (server, format!("bzr://127.0.0.1:{port}"))
    }

    fn probe() -> Arc<dyn RevisionProbe> {
        Arc::new(BzrProbe::new())
    }

    fn source(url: &str) -> Source {
        BzrSource::new(url).source("bzr").unwrap()
    }

    fn bare(url: &str) -> Command {
        let mut command = of_breezy("brz");
        // Without plugins it costs a fifth less.
        command.args(["--no-plugins", "revision-info", "-d", url]);
        command
    }

    /// It prints the revno and the revision-id.
    fn is_same(revision: &str, printed: &str, _: &Path) -> bool {
        printed.split_once(' ').is_some_and(|(_, id)| id == revision)
    }
}

fn of_breezy(program: &str) -> Command {
    let mut command = clean(program);
    command.envs([("BRZ_HOME", "/nonexistent"), ("BRZ_LOG", "/dev/null")]);
    command
}
