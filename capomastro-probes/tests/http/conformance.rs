//! The URL probe is what a probe must be, whatever its revision is.

use super::server::{Got, NEVER, Server, say};
use capomastro_core::{async_trait, model::Source, probe::RevisionProbe};
use capomastro_probes::http::{By, HttpProbe, HttpSource};
use capomastro_testkit::conformance::{
    Time,
    probe::{Guarded, Happens, ProbeHarness},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

const PASSWORD: &str = "correct horse battery";
/// `robot` and the password.
const AUTHORIZATION: &str = "Basic cm9ib3Q6Y29ycmVjdCBob3JzZSBiYXR0ZXJ5";

#[derive(Copy, Clone, PartialEq, Eq)]
enum Mood {
    Well,
    Gone,
    Broken,
    Hangs,
}

struct File {
    mood: Mood,
    is_guarded: bool,
    /// The states that it had.
    states: Vec<usize>,
}

#[derive(Default)]
struct Files {
    /// By path.
    by_path: BTreeMap<String, File>,
    states: usize,
}

struct Web {
    by: By,
    files: Arc<Mutex<Files>>,
    server: tokio::sync::OnceCell<Server>,
}

impl Web {
    fn by(by: By) -> Self {
        Self { by, files: Arc::default(), server: tokio::sync::OnceCell::new() }
    }

    async fn made(&self, is_guarded: bool) -> HttpSource {
        let (by, all) = (self.by, Arc::clone(&self.files));
        let server = self.server.get_or_init(|| {
            Server::that(move |got| {
                let files = all.lock().unwrap();
                let Some(file) = files.by_path.get(&got.path) else { return say(404, &[], "") };
                answer(by, file, got)
            })
        });
        let port = server.await.port;
        let mut files = self.files.lock().unwrap();
        files.states += 1;
        let (path, state) = (format!("/{}", files.by_path.len()), files.states);
        files.by_path.insert(path.clone(), File { mood: Mood::Well, is_guarded, states: vec![state] });
        HttpSource::new(format!("http://127.0.0.1:{port}{path}")).by(self.by)
    }
}

fn answer(by: By, file: &File, got: &Got) -> super::server::Answer {
    let authorization = got.header("authorization");
    match file.mood {
        // A server that repeats what it was told.
        Mood::Broken => return say(500, &[], &format!("no: {authorization:?} {PASSWORD}")),
        Mood::Hangs => return say(NEVER, &[], ""),
        Mood::Well | Mood::Gone if file.is_guarded && authorization != Some(AUTHORIZATION) => {
            return say(401, &[("www-authenticate", "Basic realm=\"x\"")], "");
        }
        Mood::Gone => return say(404, &[], ""),
        Mood::Well => {}
    }
    let state = file.states.last().unwrap();
    let tag = format!("\"{state}\"");
    let date = format!("Sun, 06 Nov 1994 08:{:02}:{:02} GMT", state / 60 % 60, state % 60);
    match by {
        By::Digest => say(200, &[], &tag),
        By::LastModified => say(200, &[("last-modified", &date)], ""),
        _ if got.header("if-none-match") == Some(&tag) => say(304, &[("etag", &tag)], ""),
        _ => say(200, &[("etag", &tag)], ""),
    }
}

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Web").field("by", &self.by).finish_non_exhaustive()
    }
}

#[async_trait]
impl ProbeHarness for Web {
    fn time(&self) -> Time {
        Time::Machine
    }

    fn open(&self) -> Arc<dyn RevisionProbe> {
        Arc::new(HttpProbe::new())
    }

    fn refused(&self) -> Vec<Source> {
        [
            json!({}),
            json!({"url": "relative"}),
            json!({"url": "ftp://h/a"}),
            json!({"url": "https://h", "x": 1}),
        ]
        .map(|config| Source::new("http", config).unwrap())
        .into()
    }

    async fn source(&self) -> Source {
        self.made(false).await.source("http").unwrap()
    }

    async fn beside(&self, _: &Source) -> Option<Source> {
        None
    }

    async fn cause(&self, source: &Source, what: Happens) -> bool {
        let mut files = self.files.lock().unwrap();
        files.states += 1;
        let state = files.states;
        let path = format!("/{}", source.config["url"].as_str().unwrap().rsplit_once('/').unwrap().1);
        let file = files.by_path.get_mut(&path).unwrap();
        match what {
            Happens::Change => file.states.push(state),
            Happens::Rewind => drop(file.states.pop()),
            Happens::Diverge => return false,
            Happens::Vanish => file.mood = Mood::Gone,
            Happens::Cut => file.mood = Mood::Broken,
            Happens::Hang => file.mood = Mood::Hangs,
            Happens::Mend => file.mood = Mood::Well,
        }
        true
    }

    async fn guarded(&self) -> Option<Guarded> {
        let source = self.made(true).await.login("robot", "forge").source("http").unwrap();
        Some(Guarded { source, secret: "forge".into(), value: PASSWORD.into() })
    }

    async fn left(&self) -> usize {
        self.server.get().map_or(0, Server::hanging)
    }
}

capomastro_testkit::revision_probe_conformance!(tags, Web::by(By::Auto));
capomastro_testkit::revision_probe_conformance!(dates, Web::by(By::LastModified));
capomastro_testkit::revision_probe_conformance!(digests, Web::by(By::Digest));
