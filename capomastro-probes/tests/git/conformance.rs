//! The git probe is what a probe must be, on this machine and over HTTP.

use super::{
    repo::Repo,
    web::{Answer, Web},
};
use capomastro_core::{async_trait, model::Source, probe::RevisionProbe};
use capomastro_probes::git::{GitProbe, GitSource};
use capomastro_testkit::conformance::{
    Time,
    probe::{Guarded, Happens, ProbeHarness},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fmt, fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
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
    web: Option<Web>,
    mood: Arc<Mutex<Mood>>,
    /// How many requests were never answered.
    hanging: Arc<AtomicUsize>,
    /// The tips that each branch had, oldest first.
    tips: BTreeMap<String, Vec<String>>,
}

impl Remote {
    async fn new(is_http: bool, is_guarded: bool) -> Self {
        let repo = Repo::empty();
        let (mood, hanging) = (Arc::new(Mutex::new(Mood::Well)), Arc::new(AtomicUsize::new(0)));
        let web = if is_http {
            let (mood, hanging) = (Arc::clone(&mood), Arc::clone(&hanging));
            let web = Web::serve(repo.root.path().into(), move |got| {
                let authorization = got.headers.get("authorization").and_then(|value| value.to_str().ok());
                match *mood.lock().unwrap() {
                    // A server that repeats what it was told.
                    Mood::Broken => {
                        let said = format!("no: {authorization:?} {PASSWORD}");
                        Answer::Say(500, Vec::new(), said.into_bytes())
                    }
                    Mood::Hangs => {
                        hanging.fetch_add(1, Ordering::SeqCst);
                        Answer::Hang
                    }
                    Mood::Well if is_guarded && authorization != Some(AUTHORIZATION) => {
                        let realm = ("www-authenticate", "Basic realm=\"x\"".to_owned());
                        Answer::Say(401, vec![realm], Vec::new())
                    }
                    Mood::Well => Answer::Git,
                }
            });
            Some(web.await)
        } else {
            None
        };
        Self { repo, web, mood, hanging, tips: BTreeMap::new() }
    }

    fn url(&self) -> String {
        self.web.as_ref().map_or_else(|| self.repo.url(), Web::url)
    }

    /// A new branch.
    fn branch(&mut self) -> GitSource {
        let name = format!("b/{}", self.tips.len());
        self.tips.insert(name.clone(), vec![self.repo.advance(&name)]);
        GitSource::new(self.url()).branch(name)
    }

    fn happens(&mut self, branch: &str, what: Happens) -> bool {
        let tips = self.tips.get_mut(branch).unwrap();
        let name = format!("refs/heads/{branch}");
        let away = self.repo.root.path().join("away");
        match what {
            Happens::Change => tips.push(self.repo.advance(branch)),
            Happens::Diverge => {
                let root = self.repo.commit(&[]);
                self.repo.git(&format!("update-ref {name} {root}"));
                tips.push(root);
            }
            Happens::Rewind => {
                tips.pop();
                self.repo.git(&format!("update-ref {name} {}", tips.last().unwrap()));
            }
            Happens::Vanish => drop(self.repo.git(&format!("update-ref -d {name}"))),
            Happens::Cut if self.web.is_some() => *self.mood.lock().unwrap() = Mood::Broken,
            Happens::Cut => fs::rename(self.repo.path(), away).unwrap(),
            Happens::Hang if self.web.is_some() => *self.mood.lock().unwrap() = Mood::Hangs,
            // A look at files ends.
            Happens::Hang => return false,
            Happens::Mend => {
                if away.exists() {
                    fs::rename(away, self.repo.path()).unwrap();
                }
                *self.mood.lock().unwrap() = Mood::Well;
                self.repo.git(&format!("update-ref {name} {}", tips.last().unwrap()));
            }
        }
        true
    }
}

struct Git {
    is_http: bool,
    /// By URL.
    remotes: Mutex<BTreeMap<String, Remote>>,
}

impl Git {
    fn over(is_http: bool) -> Self {
        Self { is_http, remotes: Mutex::default() }
    }

    fn made(&self, mut remote: Remote) -> GitSource {
        let source = remote.branch();
        self.remotes.lock().unwrap().insert(remote.url(), remote);
        source
    }
}

impl fmt::Debug for Git {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Git").field("is_http", &self.is_http).finish_non_exhaustive()
    }
}

#[async_trait]
impl ProbeHarness for Git {
    fn time(&self) -> Time {
        Time::Machine
    }

    fn open(&self) -> Arc<dyn RevisionProbe> {
        Arc::new(GitProbe::new())
    }

    fn refused(&self) -> Vec<Source> {
        [
            json!({}),
            json!({"url": "relative/path"}),
            json!({"url": "gopher://example.org/a.git"}),
            json!({"url": "/r", "branch": "a..b"}),
            json!({"url": "/r", "branche": "main"}),
        ]
        .map(|config| Source::new("git", config).unwrap())
        .into()
    }

    async fn source(&self) -> Source {
        self.made(Remote::new(self.is_http, false).await).source("git").unwrap()
    }

    async fn beside(&self, source: &Source) -> Option<Source> {
        let mut remotes = self.remotes.lock().unwrap();
        let remote = remotes.get_mut(source.config["url"].as_str().unwrap()).unwrap();
        Some(remote.branch().source("git").unwrap())
    }

    async fn cause(&self, source: &Source, what: Happens) -> bool {
        let mut remotes = self.remotes.lock().unwrap();
        let remote = remotes.get_mut(source.config["url"].as_str().unwrap()).unwrap();
        remote.happens(source.config["branch"].as_str().unwrap(), what)
    }

    async fn guarded(&self) -> Option<Guarded> {
        if !self.is_http {
            return None;
        }
        let source = self.made(Remote::new(true, true).await).login("robot", "forge");
        let source = source.source("git").unwrap();
        Some(Guarded { source, secret: "forge".into(), value: PASSWORD.into() })
    }

    async fn left(&self) -> usize {
        let remotes = self.remotes.lock().unwrap();
        let of = |remote: &Remote| {
            let hung_up = remote.web.as_ref().map_or(0, Web::hung_up);
            remote.hanging.load(Ordering::SeqCst).saturating_sub(hung_up)
        };
        remotes.values().map(of).sum()
    }
}

capomastro_testkit::revision_probe_conformance!(files, Git::over(false));
capomastro_testkit::revision_probe_conformance!(http, Git::over(true));
