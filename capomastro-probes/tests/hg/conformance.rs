//! The hg probe is what a probe must be, on this machine and over HTTP.

use super::{
    repo::{Repo, Server},
    web::{Answer, Web},
};
use capomastro_core::{async_trait, model::Source, probe::RevisionProbe};
use capomastro_probes::hg::{HgProbe, HgSource};
use capomastro_testkit::conformance::{
    Time,
    probe::{Guarded, Happens, ProbeHarness},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fmt, fs,
    sync::{Arc, Mutex},
};

const PASSWORD: &str = "correct horse battery";
/// `robot` and the password.
const AUTHORIZATION: &str = "Basic cm9ib3Q6Y29ycmVjdCBob3JzZSBiYXR0ZXJ5";

/// What a web server does.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Mood {
    Well,
    Broken,
    Hangs,
}

struct Remote {
    repo: Repo,
    web: Option<(Web, Arc<Server>)>,
    mood: Arc<Mutex<Mood>>,
    /// Where the bookmark was.
    was: Mutex<String>,
}

impl Remote {
    async fn new(is_http: bool, is_guarded: bool) -> Self {
        let repo = Repo::new();
        repo.commit();
        repo.hg(&["bookmark", "next"]);
        repo.commit();
        let mood = Arc::new(Mutex::new(Mood::Well));
        let web = if is_http {
            let server = Arc::new(Server::over(&repo));
            let (mood, behind) = (Arc::clone(&mood), Arc::clone(&server));
            let web = Web::serve(repo.root.path().to_owned(), move |got| {
                let authorization = got.headers.get("authorization").and_then(|value| value.to_str().ok());
                match *mood.lock().unwrap() {
                    // A server that repeats what it was told.
                    Mood::Broken => {
                        let said = format!("no: {authorization:?} {PASSWORD}");
                        Answer::Say(500, Vec::new(), said.into_bytes())
                    }
                    Mood::Hangs => Answer::Hang,
                    Mood::Well if is_guarded && authorization != Some(AUTHORIZATION) => {
                        let realm = ("www-authenticate", "Basic realm=\"x\"".to_owned());
                        Answer::Say(401, vec![realm], Vec::new())
                    }
                    Mood::Well => behind.ask(&got.path),
                }
            });
            Some((web.await, server))
        } else {
            None
        };
        Self { repo, web, mood, was: Mutex::default() }
    }

    fn url(&self) -> String {
        self.web.as_ref().map_or_else(|| self.repo.url(), |(web, _)| web.url(""))
    }

    fn happens(&self, what: Happens) -> bool {
        let (repo, away) = (&self.repo, self.repo.root.path().join("away"));
        match what {
            Happens::Change => drop(repo.commit()),
            Happens::Diverge => {
                repo.hg(&["update", "--quiet", "null"]);
                repo.commit();
                repo.hg(&["bookmark", "-f", "next"]);
            }
            Happens::Rewind => drop(repo.hg(&["bookmark", "-f", "-r", "next^", "next"])),
            Happens::Vanish => {
                *self.was.lock().unwrap() = repo.hg(&["log", "-r", "next", "-T", "{node}"]);
                repo.hg(&["bookmark", "-d", "next"]);
            }
            Happens::Cut if self.web.is_some() => *self.mood.lock().unwrap() = Mood::Broken,
            Happens::Cut => {
                fs::rename(repo.path(), &away).unwrap();
                fs::create_dir(repo.path()).unwrap();
            }
            Happens::Hang if self.web.is_some() => *self.mood.lock().unwrap() = Mood::Hangs,
            // A look at files ends.
            Happens::Hang => return false,
            Happens::Mend => {
                if away.exists() {
                    fs::remove_dir(repo.path()).unwrap();
                    fs::rename(away, repo.path()).unwrap();
                }
                let was = std::mem::take(&mut *self.was.lock().unwrap());
                if !was.is_empty() {
                    repo.hg(&["bookmark", "-f", "-r", &was, "next"]);
                }
                *self.mood.lock().unwrap() = Mood::Well;
            }
        }
        true
    }
}

struct Hg {
    is_http: bool,
    /// By URL.
    remotes: Mutex<BTreeMap<String, Remote>>,
}

impl Hg {
    fn over(is_http: bool) -> Self {
        Self { is_http, remotes: Mutex::default() }
    }

    fn made(&self, remote: Remote) -> HgSource {
        let url = remote.url();
        self.remotes.lock().unwrap().insert(url.clone(), remote);
        HgSource::new(url).bookmark("next")
    }
}

impl fmt::Debug for Hg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bzr").field("is_http", &self.is_http).finish_non_exhaustive()
    }
}

#[async_trait]
impl ProbeHarness for Hg {
    fn time(&self) -> Time {
        Time::Machine
    }

    fn open(&self) -> Arc<dyn RevisionProbe> {
        Arc::new(HgProbe::new())
    }

    fn refused(&self) -> Vec<Source> {
        [
            json!({}),
            json!({"url": "relative/path"}),
            json!({"url": "gopher://example.org/a"}),
            json!({"url": "/r", "branch": "a:b"}),
            json!({"url": "/r", "revision": "main"}),
        ]
        .map(|config| Source::new("hg", config).unwrap())
        .into()
    }

    async fn source(&self) -> Source {
        self.made(Remote::new(self.is_http, false).await).source("hg").unwrap()
    }

    /// Another name of the same repository does not stand still where this one moves.
    async fn beside(&self, _source: &Source) -> Option<Source> {
        None
    }

    async fn cause(&self, source: &Source, what: Happens) -> bool {
        let remotes = self.remotes.lock().unwrap();
        remotes[source.config["url"].as_str().unwrap()].happens(what)
    }

    async fn guarded(&self) -> Option<Guarded> {
        if !self.is_http {
            return None;
        }
        let source = self.made(Remote::new(true, true).await).login("robot", "forge");
        let source = source.source("hg").unwrap();
        Some(Guarded { source, secret: "forge".into(), value: PASSWORD.into() })
    }

    async fn left(&self) -> usize {
        let remotes = self.remotes.lock().unwrap();
        remotes.values().filter_map(|r| r.web.as_ref()).map(|(web, _)| web.hanging()).sum()
    }
}

capomastro_testkit::revision_probe_conformance!(files, Hg::over(false), if crate::repo::hg_is_there());
capomastro_testkit::revision_probe_conformance!(http, Hg::over(true), if crate::repo::hg_is_there());
