//! The bzr probe is what a probe must be, on this machine and over HTTP.

use super::{
    branch::{Branches, brz},
    web::{Answer, Web},
};
use capomastro_core::{async_trait, model::Source, probe::RevisionProbe};
use capomastro_probes::bzr::{BzrProbe, BzrSource};
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
    branches: Branches,
    web: Option<Web>,
    mood: Arc<Mutex<Mood>>,
}

impl Remote {
    async fn new(is_http: bool, is_guarded: bool) -> Self {
        let branches = Branches::new();
        fs::create_dir(branches.path("place")).unwrap();
        branches.init("place/trunk", &[]);
        branches.commit("place/trunk");
        let mood = Arc::new(Mutex::new(Mood::Well));
        let web = if is_http {
            let mood = Arc::clone(&mood);
            let web = Web::serve(branches.path("place"), move |got| {
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
                    Mood::Well => Answer::File,
                }
            });
            Some(web.await)
        } else {
            None
        };
        Self { branches, web, mood }
    }

    fn url(&self) -> String {
        self.web.as_ref().map_or_else(|| self.branches.url("place/trunk"), |web| web.url("trunk"))
    }

    fn happens(&self, what: Happens) -> bool {
        let (trunk, away, gone) =
            ("place/trunk", self.branches.path("away"), self.branches.path("place/gone"));
        match what {
            Happens::Change => drop(self.branches.commit(trunk)),
            Happens::Diverge => {
                fs::remove_dir_all(self.branches.path(trunk)).unwrap();
                self.branches.init(trunk, &[]);
                self.branches.commit(trunk);
            }
            Happens::Rewind => drop(brz(&self.branches.path(trunk), &["uncommit", "--quiet", "--force"])),
            Happens::Vanish => fs::rename(self.branches.path(trunk), gone).unwrap(),
            Happens::Cut if self.web.is_some() => *self.mood.lock().unwrap() = Mood::Broken,
            Happens::Cut => fs::rename(self.branches.path("place"), away).unwrap(),
            Happens::Hang if self.web.is_some() => *self.mood.lock().unwrap() = Mood::Hangs,
            // A look at files ends.
            Happens::Hang => return false,
            Happens::Mend => {
                if away.exists() {
                    fs::rename(away, self.branches.path("place")).unwrap();
                }
                if gone.exists() {
                    fs::rename(gone, self.branches.path(trunk)).unwrap();
                }
                *self.mood.lock().unwrap() = Mood::Well;
            }
        }
        true
    }
}

struct Bzr {
    is_http: bool,
    /// By URL.
    remotes: Mutex<BTreeMap<String, Remote>>,
}

impl Bzr {
    fn over(is_http: bool) -> Self {
        Self { is_http, remotes: Mutex::default() }
    }

    fn made(&self, remote: Remote) -> BzrSource {
        let url = remote.url();
        self.remotes.lock().unwrap().insert(url.clone(), remote);
        BzrSource::new(url)
    }
}

impl fmt::Debug for Bzr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bzr").field("is_http", &self.is_http).finish_non_exhaustive()
    }
}

#[async_trait]
impl ProbeHarness for Bzr {
    fn time(&self) -> Time {
        Time::Machine
    }

    fn open(&self) -> Arc<dyn RevisionProbe> {
        Arc::new(BzrProbe::new())
    }

    fn refused(&self) -> Vec<Source> {
        [
            json!({}),
            json!({"url": "relative/path"}),
            json!({"url": "gopher://example.org/a"}),
            json!({"url": "/r", "branch": "a//b"}),
            json!({"url": "/r", "revision": "main"}),
        ]
        .map(|config| Source::new("bzr", config).unwrap())
        .into()
    }

    async fn source(&self) -> Source {
        self.made(Remote::new(self.is_http, false).await).source("bzr").unwrap()
    }

    /// Each branch is asked alone.
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
        let source = source.source("bzr").unwrap();
        Some(Guarded { source, secret: "forge".into(), value: PASSWORD.into() })
    }

    async fn left(&self) -> usize {
        let remotes = self.remotes.lock().unwrap();
        remotes.values().filter_map(|r| r.web.as_ref()).map(Web::hanging).sum()
    }
}

capomastro_testkit::revision_probe_conformance!(files, Bzr::over(false), if crate::branch::brz_is_there());
capomastro_testkit::revision_probe_conformance!(http, Bzr::over(true), if crate::branch::brz_is_there());
