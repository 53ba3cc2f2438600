//! What it costs to poll many repositories of bzr, hg and svn at once through their probes, beside the cheapest command of the
//! same system that tells the revision, run for each of them in the same run.
//!
//! Figures are of the processor: of this process and all it started, kept workers included and servers left out. Each answer
//! is compared with what the command printed, and what a probe gives back (revision and cursor) is handed to the next look.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

mod bzr;
mod hg;
mod processor;
mod server;
mod svn;

use capomastro_core::{
    budget::Budget,
    model::{Revision, Source},
    probe::{Ask, Probed, RevisionProbe},
    secret::Secrets,
};
use capomastro_tests::figure_for;
use futures_util::{StreamExt as _, stream};
use processor::spent;
use server::Server;
use std::{
    fmt::Debug,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// How many repositories there are, numbered from 0.
pub(crate) const REPOSITORIES: usize = 200;
/// How often all are polled, which must be long enough for ticks to count it.
const ROUNDS: usize = 25;
/// How many the scheduler looks at at a time, unless told otherwise. Of one server: what its budget allows.
const AT_ONCE: usize = 256;
/// Every such repository gets a commit in the end.
const CHANGED: usize = 10;

/// A version control system.
pub(crate) trait Vcs: Debug + Sync {
    /// As figures name it.
    const NAME: &'static str;
    /// What a poll by the probe may cost, over the bare command.
    const GOAL: f64;

    /// Makes all repositories: `0`, `1` and so on in this folder.
    fn make(folder: &Path);
    /// Changes what one is at.
    fn commit(repository: &Path);
    /// Serves the folder; the URL of it.
    fn serve(folder: &Path) -> (Server, String);
    /// The probe as an embedder has it who asks for nothing special.
    fn probe() -> Arc<dyn RevisionProbe>;
    /// What is looked at.
    fn source(url: &str) -> Source;
    /// The cheapest command that tells the revision.
    fn bare(url: &str) -> Command;
    /// Whether the revision is the one that the command printed for this repository.
    fn is_same(revision: &str, printed: &str, repository: &Path) -> bool;
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        measure::<bzr::Bzr>().await;
        measure::<hg::Hg>().await;
        measure::<svn::Svn>().await;
    });
}

/// Both ways of one system: repositories of this machine, and through its server. If arguments name systems, only of those.
async fn measure<V: Vcs>() {
    let named: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    if !named.is_empty() && !named.iter().any(|name| name == V::NAME) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    V::make(folder.path());
    let local = Polled::<V>::new(folder.path(), folder.path().to_str().unwrap(), None);
    local.figures(V::NAME).await;
    let (server, url) = V::serve(folder.path());
    let remote = Polled::<V>::new(folder.path(), &url, Some(&server));
    remote.figures(&format!("{}_net", V::NAME)).await;
}

/// All repositories of a folder, by one way.
struct Polled<'a, V> {
    folder: &'a Path,
    urls: Vec<String>,
    server: Option<&'a Server>,
    vcs: std::marker::PhantomData<V>,
}

impl<'a, V: Vcs> Polled<'a, V> {
    fn new(folder: &'a Path, base: &str, server: Option<&'a Server>) -> Self {
        let urls = (0..REPOSITORIES).map(|n| format!("{base}/{n}")).collect();
        Self { folder, urls, server, vcs: std::marker::PhantomData }
    }

    async fn figures(&self, name: &str) {
        let (before, printed) = self.by_hand();
        let begun = self.spent();
        let probe = V::probe();
        let mut asks: Vec<Ask> = self.urls.iter().map(|url| ask(V::source(url))).collect();
        let seen = self.look(probe.as_ref(), &mut asks, &printed).await;
        assert_eq!(seen, REPOSITORIES);
        let first = self.spent() - begun;

        let begun = self.spent();
        for _ in 0..ROUNDS {
            self.look(probe.as_ref(), &mut asks, &printed).await;
        }
        let ours = (self.spent() - begun) / f64::from(u32::try_from(ROUNDS).unwrap());

        // Whatever else the machine does weighs on both alike, also if it comes or goes meanwhile.
        let (after, again) = self.by_hand();
        assert_eq!(printed, again);
        let by_hand = f64::midpoint(before, after);
        let a_look = |all: f64| all / f64::from(u32::try_from(REPOSITORIES).unwrap());
        let unit = "ms of processor time a repository";
        figure_for(V::GOAL, &format!("{name}_cpu"), a_look(ours), a_look(by_hand), unit);
        figure_for(V::GOAL, &format!("{name}_first_cpu"), a_look(first), a_look(by_hand), unit);

        // What stood still all the time would also be reported by a probe that looks at nothing.
        for n in (0..REPOSITORIES).step_by(CHANGED) {
            V::commit(&self.folder.join(n.to_string()));
        }
        let (_, changed) = self.by_hand();
        let differing = printed.iter().zip(&changed).filter(|(a, b)| a != b).count();
        assert_eq!(differing, REPOSITORIES.div_ceil(CHANGED));
        let seen = self.look(probe.as_ref(), &mut asks, &changed).await;
        assert!(seen >= differing, "{seen}");
    }

    /// Looks at all of them, and checks that each is at what was printed for it; how many answers were observations.
    async fn look(&self, probe: &dyn RevisionProbe, asks: &mut [Ask], printed: &[String]) -> usize {
        let look = async |ask: &Ask| probe.probe(std::slice::from_ref(ask)).await.remove(0).unwrap();
        let of_one_server = usize::try_from(Budget::default().concurrent).unwrap();
        let at_once = if self.server.is_some() { of_one_server } else { AT_ONCE };
        let answers: Vec<(usize, Probed)> = stream::iter(asks.iter().enumerate())
            .map(async |(n, ask)| (n, look(ask).await))
            .buffer_unordered(at_once)
            .collect()
            .await;
        assert_eq!(answers.len(), REPOSITORIES);
        let mut observed = 0;
        for (n, answer) in answers {
            match answer {
                Probed::Observed(seen) => {
                    observed += 1;
                    (asks[n].seen, asks[n].cursor) = (Some(seen.revision), seen.cursor);
                }
                Probed::SameAsSeen => {}
                other => panic!("{}: {other:?}", self.urls[n]),
            }
            let at = asks[n].seen.as_ref().map(Revision::as_str).expect("it was seen");
            let is_same = V::is_same(at, &printed[n], &self.folder.join(n.to_string()));
            assert!(is_same, "{}: {at} is not {}", self.urls[n], printed[n]);
        }
        observed
    }

    /// Runs the bare command for all of them, one for each processor at a time: what it cost, and what was printed.
    fn by_hand(&self) -> (f64, Vec<String>) {
        let begun = self.spent();
        let (next, printed) = (Mutex::new(0..REPOSITORIES), Mutex::new(vec![String::new(); REPOSITORIES]));
        let lane = || {
            loop {
                let Some(n) = next.lock().unwrap().next() else { break };
                printed.lock().unwrap()[n] = run(&mut V::bare(&self.urls[n]));
            }
        };
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().unwrap().get() {
                scope.spawn(lane);
            }
        });
        (self.spent() - begun, printed.into_inner().unwrap())
    }

    fn spent(&self) -> f64 {
        spent(self.server.map(Server::id))
    }
}

fn ask(source: Source) -> Ask {
    Ask::new("a".parse().unwrap(), source, Duration::from_secs(60), Secrets::none())
}

/// A program with an environment of its own.
pub(crate) fn clean(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs([
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("HOME", "/nonexistent"),
        ("LC_ALL", "C.UTF-8"),
    ]);
    command
}

/// Runs it, which must succeed; what it prints.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
