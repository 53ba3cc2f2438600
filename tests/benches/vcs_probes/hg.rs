//! Mercurial.

use crate::{REPOSITORIES, Vcs, clean, run, server::Server};
use capomastro_core::{model::Source, probe::RevisionProbe};
use capomastro_probes::hg::{HgProbe, HgSource};
use capomastro_process::ProcessRunner;
use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

/// Makes repositories in one go: the program takes long to start.
const MAKE: &str = "
import os, sys
from mercurial import commands, hg, ui
ui = ui.ui.load()
for n in range(int(sys.argv[2])):
    path = os.fsencode(f'{sys.argv[1]}/{n}')
    repository = hg.repository(ui, path, create=True)
    with open(os.path.join(path, b'f'), 'w') as file:
        file.write(str(n))
    commands.commit(ui, repository, addremove=True, message=b'x', user=b'a')
";

#[derive(Debug)]
pub(crate) struct Hg;

impl Vcs for Hg {
    const NAME: &'static str = "hg";
    const GOAL: f64 = 0.1;

    fn make(folder: &Path) {
        run(of_hg("/usr/bin/python3").args(["-I", "-c", MAKE]).arg(folder).arg(REPOSITORIES.to_string()));
    }

    fn commit(repository: &Path) {
        let text = fs::read_to_string(repository.join("f")).unwrap();
        fs::write(repository.join("f"), text + "x").unwrap();
        run(of_hg("hg").current_dir(repository).args(["commit", "--quiet", "-u", "a", "-m", "x"]));
    }

    fn serve(folder: &Path) -> (Server, String) {
        let paths = folder.join("paths");
        fs::write(&paths, format!("[paths]\n/ = {}/*\n", folder.display())).unwrap();
        let mut command = of_hg("hg");
        command.args(["serve", "-a", "127.0.0.1", "-p", "0", "-A", "/dev/null", "-E", "/dev/null"]);
        command.arg("--print-url").arg("--web-conf").arg(paths);
        let mut server =
            Server::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()));
        let mut lines = BufReader::new(server.child().stdout.take().unwrap()).lines();
        let line = lines.next().unwrap().unwrap();
        std::thread::spawn(move || lines.count());
        let port: u16 = line.trim().trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
        let url = format!("http://127.0.0.1:{port}");
        // It loads its parts at the first request, and fails if two come at the same time then.
        run(&mut Self::bare(&format!("{url}/0")));
        (server, url)
    }

    fn probe() -> Arc<dyn RevisionProbe> {
        Arc::new(HgProbe::builder().runner(Arc::new(ProcessRunner::new())).build())
    }

    fn source(url: &str) -> Source {
        HgSource::new(url).source("hg").unwrap()
    }

    fn bare(url: &str) -> Command {
        let mut command = of_hg("hg");
        command.args(["identify", "-i", "-r", "default", url]);
        command
    }

    /// It prints the first twelve digits.
    fn is_same(revision: &str, printed: &str, _: &Path) -> bool {
        printed.len() == 12 && revision.starts_with(printed)
    }
}

fn of_hg(program: &str) -> Command {
    let mut command = clean(program);
    command.envs([("HGRCPATH", ""), ("HGPLAIN", "1")]);
    command
}
