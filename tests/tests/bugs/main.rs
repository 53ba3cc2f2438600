//! Seeded bugs: parts that are wrong in one thing each, and what sees it.
//!
//! A bug is a wrapper around a sound part, so it can be put around any: what is wrong is never in production code. Each
//! must be caught, by a case of a conformance suite or by a scene; the table in `docs/testing.md` says by which, and is made
//! here. `CAPOMASTRO_BUGS=write` in the environment writes it anew.

#![allow(clippy::unwrap_used, reason = "tests")]

mod parts;
mod patience;
mod play;
mod scenes;
mod store;
mod suites;

use capomastro_core::{launch::BuildLauncher, lock::DependencyLock, probe::RevisionProbe, store::StateStore};
use capomastro_testkit::simulator::Simulation;
use futures_util::future::LocalBoxFuture;
use patience::Patient;
use play::Play;
use std::{
    collections::BTreeMap,
    fmt::Write,
    path::Path,
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

/// How long a case or a scene may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// The part that is wrong, and how it is made of a sound one.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Part {
    Store(fn(Arc<dyn StateStore>) -> Arc<dyn StateStore>),
    /// Not the store, but a rule of core that writes to it: what it would forget is taken from its batches.
    Rule(fn(Arc<dyn StateStore>) -> Arc<dyn StateStore>),
    Launcher(fn(Arc<dyn BuildLauncher>) -> Arc<dyn BuildLauncher>),
    Probe(fn(Arc<dyn RevisionProbe>) -> Arc<dyn RevisionProbe>),
    Lock(fn(Arc<dyn DependencyLock>) -> Arc<dyn DependencyLock>),
}

/// One thing that is wrong.
#[derive(Debug)]
pub(crate) struct Bug {
    pub(crate) name: &'static str,
    /// In one line.
    pub(crate) what: &'static str,
    pub(crate) part: Part,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Store(_) => "store",
            Self::Rule(_) => "rule",
            Self::Launcher(_) => "launcher",
            Self::Probe(_) => "probe",
            Self::Lock(_) => "lock",
        }
    }
}

fn bugs() -> impl Iterator<Item = &'static Bug> {
    [store::PLAIN, store::ANSWERS, store::STEPS, parts::LAUNCHERS, parts::PROBES, parts::LOCKS]
        .into_iter()
        .flatten()
}

/// A scene, by its name.
type Scene = (&'static str, fn(Play) -> LocalBoxFuture<'static, ()>);

macro_rules! scenes {
    ($($module:ident: $($scene:ident)+;)+) => {
        &[$($((stringify!($scene), |play| Box::pin($module::$scene(play))),)+)+]
    };
}

/// What is played with a whole scheduler, the quick ones first.
const SCENES: &[Scene] = scenes! {
    scenes:
        a_change_is_built_once_and_shown
        a_push_is_answered
        what_moves_during_a_build_is_built_after_it
        a_request_waits_for_its_turn
        a_failure_is_not_shown_and_is_tried_again
        a_pin_holds
        a_cancelled_build_is_stopped
        silence_says_nothing
        a_lock_elsewhere_is_respected
        two_schedulers_share_the_work
        a_crash_at_any_await_loses_nothing;
};

/// How a case or a scene went.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Green,
    Red,
    Endless,
}

/// The name of the threads on which a failure is what is wanted, and is not shown.
const QUIET: &str = "of a bug";

/// Plays on a thread of its own, which is left behind if it does not end.
fn tried(name: &'static str, play: impl FnOnce() -> LocalBoxFuture<'static, ()> + Send + 'static) -> Verdict {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| match std::thread::current().name() {
            Some(QUIET) => {}
            _ => others(panic),
        }));
    });
    let (ended, end) = mpsc::channel();
    let thread = std::thread::Builder::new().name(name.to_owned());
    let run = thread.spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(name)
            .enable_all()
            .build()
            .unwrap();
        // Sent by its drop, too: a panic is an end.
        let _ended = ended;
        runtime.block_on(play());
    });
    let run = run.unwrap();
    if end.recv_timeout(DEADLINE) == Err::<(), _>(mpsc::RecvTimeoutError::Timeout) {
        return Verdict::Endless;
    }
    if run.join().is_ok() { Verdict::Green } else { Verdict::Red }
}

/// By what a bug is caught: where its part is asked alone, and where a whole scheduler works with it.
#[derive(Clone, Debug)]
struct Caught {
    alone: Option<&'static str>,
    whole: Option<&'static str>,
    history: Option<u64>,
}

fn is_seen_by(scene: &'static Scene, play: Play) -> Option<&'static str> {
    (tried(QUIET, move || going_on(scene.1(play))) != Verdict::Green).then_some(scene.0)
}

/// Whether anybody woke a scene up.
#[derive(Debug, Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A scene that fails as soon as it waits for what will never come: there is nobody but itself to wake it up.
fn going_on(mut scene: LocalBoxFuture<'static, ()>) -> LocalBoxFuture<'static, ()> {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    // Tokio would have it make way for others, again and again, of whom there are none.
    Box::pin(tokio::task::unconstrained(async move {
        while scene.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            assert!(woken.0.swap(false, Ordering::SeqCst), "it waits for ever");
        }
    }))
}

/// How many histories a bug may hide in.
const HISTORIES: u64 = 60;

/// The first history, counted from 1, in which the simulator sees a bug.
fn simulated(bug: &'static Bug) -> Option<u64> {
    (1..=HISTORIES).find(|history| {
        let (sound, history) = (Simulation::new(history - 1), *history);
        let wrong = match bug.part {
            Part::Store(wrong) | Part::Rule(wrong) => sound.wrap_store(move |s| wrong(Patient::over(s))),
            Part::Launcher(wrong) => sound.wrap_store(Patient::over).wrap_launcher(wrong),
            Part::Probe(wrong) => sound.wrap_store(Patient::over).wrap_probe(wrong),
            Part::Lock(wrong) => sound.wrap_store(Patient::over).wrap_lock(wrong),
        };
        let play = move || -> LocalBoxFuture<'static, ()> {
            Box::pin(async move { assert_eq!(wrong.run().violations, [], "history {history}") })
        };
        tried(QUIET, play) != Verdict::Green
    })
}

fn catch(bug: &'static Bug) -> Caught {
    let whole = SCENES.iter().find_map(|scene| is_seen_by(scene, Play(Some(bug.part))));
    Caught { alone: suites::by_its_suite(bug.part), whole, history: simulated(bug) }
}

/// What catches each bug. Several are tried at once.
fn caught(bugs: &[&'static Bug]) -> Vec<Caught> {
    let next = AtomicUsize::new(0);
    let all = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some(bug) = bugs.get(n) else { return };
                    let caught = catch(bug);
                    all.lock().unwrap().insert(n, caught);
                }
            });
        }
    });
    all.into_inner().unwrap().into_values().collect()
}

#[test]
fn without_a_bug_every_scene_ends_well() {
    for (name, scene) in SCENES {
        assert_eq!(tried("of no bug", || going_on(scene(Play(None)))), Verdict::Green, "{name}");
    }
}

const HEAD: &str = "| wrong in | bug | that is | seen in the part alone by | seen in the whole by | seen by the simulator in history |\n\
    |---|---|---|---|---|---|\n";
const BEGIN: &str = "<!-- seeded bugs: begin -->";
const END: &str = "<!-- seeded bugs: end -->";

#[test]
fn every_bug_is_caught_and_the_table_says_by_what() {
    let bugs: Vec<&'static Bug> = bugs().collect();
    assert!(bugs.len() >= 30, "{} bugs", bugs.len());
    let mut table = String::from(HEAD);
    let mut missed = Vec::new();
    for (bug, caught) in bugs.iter().zip(caught(&bugs)) {
        let show = |by: Option<&str>| by.map_or_else(|| "–".to_owned(), |by| format!("`{by}`"));
        let (alone, whole) = (show(caught.alone), show(caught.whole));
        let history = caught.history.map_or_else(|| "–".to_owned(), |n| n.to_string());
        writeln!(
            table,
            "| {} | {} | {} | {alone} | {whole} | {history} |",
            bug.part.name(),
            bug.name,
            bug.what
        )
        .unwrap();
        if caught.alone.is_none() && caught.whole.is_none() && caught.history.is_none() {
            missed.push(bug.name);
        }
    }
    assert_eq!(missed, Vec::<&str>::new(), "bugs that nothing sees");

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/testing.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the table begins somewhere");
    let (_, after) = rest.split_once(END).expect("the table ends somewhere");
    let renewed = format!("{before}{BEGIN}\n\n{table}\n{END}{after}");
    if std::env::var("CAPOMASTRO_BUGS").as_deref() == Ok("write") {
        std::fs::write(&file, renewed).unwrap();
    } else {
        assert!(
            text == renewed,
            "the table in docs/testing.md is out of date: \
             run `CAPOMASTRO_BUGS=write cargo test -p capomastro-tests --test bugs` and commit it"
        );
    }
}
