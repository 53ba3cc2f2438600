//! The conformance suites over the fakes, each with one thing wrong, if anything is.

use crate::{
    Part, QUIET, Verdict,
    play::{LASTS, Play},
    tried,
};
use async_trait::async_trait;
use capomastro_core::{
    ErrorKind, InMemoryStore,
    launch::{BuildLauncher, Ended, Promise},
    lock::DependencyLock,
    model::{LaunchKey, Relation, Source},
    probe::RevisionProbe,
    store::StateStore,
};
use capomastro_testkit::{
    conformance::{
        Case, Time,
        launcher::{self, End, LauncherHarness, NextAnswer, Told},
        lock::{self, Leases, LockHarness},
        probe::{self, Guarded, Happens, ProbeHarness},
        state_store::{self, StoreHarness},
    },
    fakes::{ControllableLauncher, ExpiringLock, LaunchAnswer, ManualClock, ScriptedProbe},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

#[derive(Debug)]
struct Stores {
    clock: ManualClock,
    play: Play,
}

#[async_trait]
impl StoreHarness for Stores {
    fn clock(&self) -> ManualClock {
        self.clock.clone()
    }

    async fn fresh(&self) -> Arc<dyn StateStore> {
        self.play.store(Arc::new(InMemoryStore::new(Arc::new(self.clock()))))
    }

    async fn reopen(&self, store: Arc<dyn StateStore>) -> Arc<dyn StateStore> {
        store
    }
}

#[derive(Debug)]
struct Launchers {
    clock: ManualClock,
    system: ControllableLauncher,
    play: Play,
}

impl Launchers {
    /// One that would start a second build if it were asked for one.
    fn new(play: Play) -> Self {
        let clock = ManualClock::new();
        let promise = Promise::FindableByKey { settle: Duration::from_secs(120) };
        let system = ControllableLauncher::accepting().with_promise(promise);
        Self { system: system.with_clock(Arc::new(clock.clone())), clock, play }
    }
}

#[async_trait]
impl LauncherHarness for Launchers {
    fn time(&self) -> Time {
        Time::Manual(self.clock.clone())
    }

    async fn open(&self) -> Arc<dyn BuildLauncher> {
        self.play.launcher(Arc::new(self.system.clone()))
    }

    fn job(&self) -> Value {
        json!({})
    }

    fn bad_jobs(&self) -> Vec<Value> {
        vec![json!({"invalid": "no"})]
    }

    fn refused_job(&self) -> Option<Value> {
        None
    }

    /// What is there runs: there is no queue.
    async fn builds(&self, key: LaunchKey) -> Vec<Told> {
        let of_key = self.system.builds().into_iter().filter(|build| build.key() == key);
        of_key.inspect(|build| build.start()).map(|build| Told::all_of(&build.request())).collect()
    }

    async fn end(&self, key: LaunchKey, end: &End) -> bool {
        let build = self.system.build(key).expect("a build of this key");
        for (name, bytes) in &end.artifacts {
            build.artifact(name, bytes.clone());
        }
        let mut ended = Ended::new(end.outcome);
        ended.built = end.built.clone().or_else(|| Some(build.request().revision));
        build.finish_with(ended);
        true
    }

    async fn forget(&self, key: LaunchKey) -> bool {
        self.system.build(key).expect("a build of this key").vanish();
        true
    }

    async fn cut(&self, cut: bool) -> bool {
        self.system.outage(cut);
        true
    }

    async fn lose_answer(&self) -> NextAnswer {
        self.system.answer_next(LaunchAnswer::LoseAnswer);
        NextAnswer::IsLost
    }
}

/// Sources by name, each with what it has been at.
#[derive(Debug)]
struct Probes {
    world: ScriptedProbe,
    histories: Mutex<BTreeMap<String, Vec<String>>>,
    play: Play,
}

impl Probes {
    fn make(&self, remote: Option<&str>) -> Source {
        let mut histories = self.histories.lock().unwrap();
        let name = format!("s{}", histories.len());
        histories.insert(name.clone(), vec![format!("{name}-0")]);
        self.world.set(&name, &format!("{name}-0"));
        ScriptedProbe::source_at(remote.unwrap_or(&name), &name)
    }
}

#[async_trait]
impl ProbeHarness for Probes {
    fn time(&self) -> Time {
        Time::Manual(ManualClock::new())
    }

    fn open(&self) -> Arc<dyn RevisionProbe> {
        self.play.probe(Arc::new(self.world.clone()))
    }

    fn refused(&self) -> Vec<Source> {
        vec![Source::new(ScriptedProbe::NAME, json!({"nam": "a"})).unwrap()]
    }

    async fn source(&self) -> Source {
        self.make(None)
    }

    async fn beside(&self, source: &Source) -> Option<Source> {
        Some(self.make(source.config["remote"].as_str()))
    }

    async fn cause(&self, source: &Source, what: Happens) -> bool {
        let name = source.config["name"].as_str().expect("a source of this harness");
        let mut histories = self.histories.lock().unwrap();
        let history = histories.get_mut(name).expect("a source of this harness");
        let now = history.last().expect("it began somewhere").clone();
        match what {
            Happens::Change | Happens::Diverge => {
                let new = format!("{now}.{}", history.len());
                let relation = match what {
                    Happens::Diverge => Relation::Diverged,
                    _ => Relation::Forward { by: None },
                };
                for old in &*history {
                    self.world.relate(name, old, &new, relation);
                    self.world.relate(name, &new, old, Relation::Rewound);
                }
                self.world.set(name, &new);
                history.push(new);
            }
            Happens::Rewind => {
                history.pop();
                self.world.set(name, history.last().expect("it was changed before"));
            }
            Happens::Vanish => self.world.gone(name),
            Happens::Cut => self.world.fail(name, ErrorKind::Unavailable),
            Happens::Hang => self.world.hang(name),
            Happens::Mend => {
                self.world.heal(name);
                self.world.release(name);
                self.world.set(name, &now);
            }
        }
        true
    }

    async fn guarded(&self) -> Option<Guarded> {
        None
    }

    async fn left(&self) -> usize {
        0
    }
}

#[derive(Debug)]
struct Locks {
    clock: ManualClock,
    server: ExpiringLock,
    play: Play,
}

impl Locks {
    fn new(play: Play) -> Self {
        let clock = ManualClock::new();
        let server = ExpiringLock::new(Arc::new(clock.clone()), Duration::from_secs(LASTS));
        Self { clock, server, play }
    }
}

#[async_trait]
impl LockHarness for Locks {
    fn time(&self) -> Time {
        Time::Manual(self.clock.clone())
    }

    fn leases(&self) -> Leases {
        Leases::Expire(Duration::from_secs(LASTS))
    }

    async fn open(&self) -> Arc<dyn DependencyLock> {
        self.play.lock(Arc::new(self.server.clone()))
    }

    async fn cut(&self, cut: bool) -> bool {
        self.server.unreachable(cut);
        true
    }
}

/// The first case of a suite that goes red.
fn seen_by<H: ?Sized + Send + Sync>(
    cases: &'static [Case<H>],
    harness: impl Fn() -> Box<H>,
) -> Option<&'static str> {
    let is_red = |case: &&'static Case<H>| {
        let (case, harness) = (*case, harness());
        tried(QUIET, move || Box::pin(async move { case.run(&*harness).await })) != Verdict::Green
    };
    cases.iter().find(is_red).map(|case| case.name)
}

fn by_the_suite_for_stores(play: Play) -> Option<&'static str> {
    seen_by(state_store::CASES, || Box::new(Stores { clock: ManualClock::new(), play }))
}

fn by_the_suite_for_launchers(play: Play) -> Option<&'static str> {
    seen_by(launcher::CASES, || Box::new(Launchers::new(play)))
}

fn by_the_suite_for_probes(play: Play) -> Option<&'static str> {
    seen_by(probe::CASES, || {
        Box::new(Probes { world: ScriptedProbe::new(), histories: Mutex::default(), play })
    })
}

fn by_the_suite_for_locks(play: Play) -> Option<&'static str> {
    seen_by(lock::CASES, || Box::new(Locks::new(play)))
}

/// The first case that goes red of the suite for what is wrong. There is none for rules.
pub(crate) fn by_its_suite(part: Part) -> Option<&'static str> {
    let play = Play(Some(part));
    match part {
        Part::Store(_) => by_the_suite_for_stores(play),
        Part::Rule(_) => None,
        Part::Launcher(_) => by_the_suite_for_launchers(play),
        Part::Probe(_) => by_the_suite_for_probes(play),
        Part::Lock(_) => by_the_suite_for_locks(play),
    }
}

#[test]
fn without_a_bug_every_suite_is_green() {
    let suites = [
        by_the_suite_for_stores,
        by_the_suite_for_launchers,
        by_the_suite_for_probes,
        by_the_suite_for_locks,
    ];
    assert_eq!(suites.map(|suite| suite(Play(None))), [None; 4]);
}
