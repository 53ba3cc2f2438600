//! The svn probe is what a probe must be: on this machine, behind svnserve and Apache, and through the svn program.

use super::{
    apache::{self, Apache, PASSWORD},
    repo::{Repo, clean, is_there, run},
    runner::Remembering,
    serve,
};
use capomastro_core::{async_trait, model::Source, probe::RevisionProbe};
use capomastro_probes::svn::{SvnProbe, SvnSource};
use capomastro_testkit::conformance::{
    Time,
    probe::{Guarded, Happens, ProbeHarness},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fmt, fs,
    io::Write,
    net::{Shutdown, TcpStream},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// How the repository is reached.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum By {
    File,
    Svnserve,
    Apache,
}

/// What stands between us and the server does.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Mood {
    Well,
    Broken,
    Hangs,
}

struct Remote {
    repo: Repo,
    apache: Option<Apache>,
    url: String,
    mood: Arc<Mutex<Mood>>,
    hanging: Arc<AtomicUsize>,
    /// Copies of the repository before each change, oldest first.
    before: Vec<PathBuf>,
    count: u32,
}

impl Remote {
    fn new(by: By, is_guarded: bool) -> Self {
        let repo = Repo::empty().expect("Subversion is installed: apt-get install subversion");
        if is_guarded {
            let text = "[general]\nanon-access = none\nauth-access = read\npassword-db = passwd\n";
            repo.configure("svnserve.conf", text);
            repo.configure("passwd", &format!("[users]\nrobot = {PASSWORD}\n"));
        }
        let (mood, hanging) = (Arc::new(Mutex::new(Mood::Well)), Arc::new(AtomicUsize::new(0)));
        let apache = (by == By::Apache).then(|| Apache::serve(&repo).unwrap());
        let url = match &apache {
            None if by == By::File => repo.url(),
            None => {
                let port = between(serve::svnserve(repo.root.path().into()), &mood, &hanging);
                format!("svn://127.0.0.1:{port}/r")
            }
            Some(apache) => {
                let port = between(apache.port, &mood, &hanging);
                format!("http://127.0.0.1:{port}/{}", if is_guarded { "guarded" } else { "svn" })
            }
        };
        Self { repo, apache, url, mood, hanging, before: Vec::new(), count: 0 }
    }

    /// A new folder.
    fn folder(&mut self) -> SvnSource {
        let name = format!("b{}", self.repo.head());
        self.repo.commit(&["mkdir", &name]);
        SvnSource::new(&self.url).path(name)
    }

    /// A copy of the repository as it is now.
    fn save(&mut self) {
        self.count += 1;
        let copy = self.repo.root.path().join(format!("copy-{}", self.count));
        run(clean("cp").arg("-a").arg(self.repo.path()).arg(&copy));
        self.before.push(copy);
    }

    fn restore(&mut self) {
        fs::remove_dir_all(self.repo.path()).unwrap();
        fs::rename(self.before.pop().unwrap(), self.repo.path()).unwrap();
        if let Some(apache) = &mut self.apache {
            apache.restart(&self.repo);
        }
    }

    fn happens(&mut self, by: By, path: &str, what: Happens) -> bool {
        let away = self.repo.root.path().join("away");
        match what {
            Happens::Change => {
                self.save();
                self.count += 1;
                self.repo.put(&format!("{path}/f"), &self.count.to_string());
            }
            Happens::Diverge => {
                self.save();
                self.repo.commit(&["rm", path, "mkdir", path]);
            }
            Happens::Rewind => self.restore(),
            Happens::Vanish => {
                self.save();
                self.repo.commit(&["rm", path]);
            }
            Happens::Cut if by == By::File => fs::rename(self.repo.path(), away).unwrap(),
            Happens::Cut => *self.mood.lock().unwrap() = Mood::Broken,
            // A look at files ends.
            Happens::Hang if by == By::File => return false,
            Happens::Hang => *self.mood.lock().unwrap() = Mood::Hangs,
            Happens::Mend => {
                *self.mood.lock().unwrap() = Mood::Well;
                if away.exists() {
                    fs::rename(away, self.repo.path()).unwrap();
                } else if run(clean("svn").args(["ls"]).arg(format!("file://{}", self.repo.url())))
                    .lines()
                    .all(|l| l.trim_end_matches('/') != path)
                {
                    self.restore();
                }
            }
        }
        true
    }
}

/// A port that leads to another one, unless it is in a bad mood.
fn between(port: u16, mood: &Arc<Mutex<Mood>>, hanging: &Arc<AtomicUsize>) -> u16 {
    let (mood, hanging) = (Arc::clone(mood), Arc::clone(hanging));
    serve::on_each(move |mut stream| {
        let mood_now = *mood.lock().unwrap();
        match mood_now {
            Mood::Broken => {
                drop(stream.write_all(format!("no: {PASSWORD}\r\n\r\n").as_bytes()));
                drop(stream.shutdown(Shutdown::Both));
            }
            Mood::Hangs => {
                hanging.fetch_add(1, Ordering::SeqCst);
                drop(std::io::copy(&mut stream, &mut std::io::sink()));
                hanging.fetch_sub(1, Ordering::SeqCst);
            }
            Mood::Well => {
                let Ok(mut onward) = TcpStream::connect(("127.0.0.1", port)) else { return };
                let (mut from, mut to) = (stream.try_clone().unwrap(), onward.try_clone().unwrap());
                let sending = thread::spawn(move || {
                    drop(std::io::copy(&mut from, &mut to));
                    drop(to.shutdown(Shutdown::Write));
                });
                drop(std::io::copy(&mut onward, &mut stream));
                drop(stream.shutdown(Shutdown::Both));
                drop(sending.join());
            }
        }
    })
}

struct Svn {
    by: By,
    always_program: bool,
    /// By URL.
    remotes: Mutex<BTreeMap<String, Remote>>,
}

impl Svn {
    fn by(by: By, always_program: bool) -> Self {
        // Said loudly, and a failure where CI is set.
        let by = if by == By::Apache && !apache::is_installed() { By::Svnserve } else { by };
        Self { by, always_program, remotes: Mutex::default() }
    }

    fn made(&self, is_guarded: bool) -> SvnSource {
        let mut remote = Remote::new(self.by, is_guarded);
        let source = remote.folder();
        self.remotes.lock().unwrap().insert(remote.url.clone(), remote);
        source
    }
}

impl fmt::Debug for Svn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svn").field("by", &self.by).finish_non_exhaustive()
    }
}

#[async_trait]
impl ProbeHarness for Svn {
    fn time(&self) -> Time {
        Time::Machine
    }

    fn open(&self) -> Arc<dyn RevisionProbe> {
        Arc::new(SvnProbe::builder().runner(Remembering::new()).always_program(self.always_program).build())
    }

    fn refused(&self) -> Vec<Source> {
        [
            json!({}),
            json!({"url": "relative/path"}),
            json!({"url": "gopher://example.org/r"}),
            json!({"url": "/r", "path": "a/../b"}),
            json!({"url": "/r", "pfad": "trunk"}),
        ]
        .map(|config| Source::new("svn", config).unwrap())
        .into()
    }

    async fn source(&self) -> Source {
        self.made(false).source("svn").unwrap()
    }

    async fn beside(&self, source: &Source) -> Option<Source> {
        let mut remotes = self.remotes.lock().unwrap();
        let remote = remotes.get_mut(source.config["url"].as_str().unwrap()).unwrap();
        Some(remote.folder().source("svn").unwrap())
    }

    async fn cause(&self, source: &Source, what: Happens) -> bool {
        let mut remotes = self.remotes.lock().unwrap();
        let remote = remotes.get_mut(source.config["url"].as_str().unwrap()).unwrap();
        remote.happens(self.by, source.config["path"].as_str().unwrap(), what)
    }

    async fn guarded(&self) -> Option<Guarded> {
        if self.by == By::File {
            return None;
        }
        let source = self.made(true).login("robot", "svn").source("svn").unwrap();
        Some(Guarded { source, secret: "svn".into(), value: PASSWORD.into() })
    }

    async fn left(&self) -> usize {
        let remotes = self.remotes.lock().unwrap();
        remotes.values().map(|remote| remote.hanging.load(Ordering::SeqCst)).sum()
    }
}

fn has_subversion() -> bool {
    is_there("/usr/bin/svnadmin", "subversion")
}

capomastro_testkit::revision_probe_conformance!(files, Svn::by(By::File, false), if has_subversion());
capomastro_testkit::revision_probe_conformance!(svnserve, Svn::by(By::Svnserve, false), if has_subversion());
capomastro_testkit::revision_probe_conformance!(svnserve_by_program, Svn::by(By::Svnserve, true), if has_subversion());
capomastro_testkit::revision_probe_conformance!(http, Svn::by(By::Apache, false), if has_subversion() && apache::is_installed());
