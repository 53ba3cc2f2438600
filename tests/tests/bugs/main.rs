//! Seeded bugs: parts that are wrong in one thing each, and what sees it.
//!
//! A bug is a wrapper around a sound part, so it can be put around any: what is wrong is never in production code. Each
//! must be caught, by a case of a conformance suite or by a scene; the table in `docs/testing.md` says by which, and is made
//! here. `CAPOMASTRO_BUGS=write` in the environment writes it anew.

#![allow(clippy::unwrap_used, reason = "tests")]

mod parts;
mod play;
mod scenes;
mod store;
mod words;

use async_trait::async_trait;
use capomastro_core::{
    InMemoryStore, launch::BuildLauncher, lock::DependencyLock, probe::RevisionProbe, store::StateStore,
};
use capomastro_testkit::{
    conformance::state_store::{CASES, StoreHarness},
    fakes::ManualClock,
};
use futures_util::future::LocalBoxFuture;
use play::Play;
use std::{
    fmt::Write,
    path::Path,
    sync::{Arc, Once, mpsc},
    time::Duration,
};

/// How long a case or a scene may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// The part that is wrong, and how it is made of a sound one.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Part {
    Store(fn(Arc<dyn StateStore>) -> Arc<dyn StateStore>),
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

/// What each bug is tried on, the quick ones first.
const SCENES: &[Scene] = scenes! {
    words: a_launcher_keeps_its_word a_probe_keeps_its_word a_lock_keeps_its_word;
    scenes:
        a_change_is_built_once_and_shown
        a_push_is_answered
        what_moves_during_a_build_is_built_after_it
        a_request_waits_for_its_turn
        a_failure_is_not_shown_and_is_tried_again
        a_pin_holds
        a_cancelled_build_is_stopped
        silence_says_nothing
        two_schedulers_share_the_work
        a_lock_elsewhere_is_respected
        a_crash_at_any_await_loses_nothing;
};

/// Stores of which something is wrong, for the suite.
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

/// By what a bug is caught, and at which try.
#[derive(Clone, Debug)]
struct Caught {
    by: String,
    tries: usize,
}

/// Whether a scene can see anything of a part.
fn concerns(scene: &str, part: Part) -> bool {
    match scene {
        "a_launcher_keeps_its_word" => matches!(part, Part::Launcher(_)),
        "a_probe_keeps_its_word" => matches!(part, Part::Probe(_)),
        "a_lock_keeps_its_word" | "a_lock_elsewhere_is_respected" => matches!(part, Part::Lock(_)),
        _ => !matches!(part, Part::Lock(_)),
    }
}

fn catch(bug: &'static Bug) -> Option<Caught> {
    let play = Play(Some(bug.part));
    if let Part::Store(_) = bug.part {
        for (tries, case) in (1..).zip(CASES) {
            let harness = Stores { clock: ManualClock::new(), play };
            if tried(QUIET, move || Box::pin(async move { case.run(&harness).await })) != Verdict::Green {
                return Some(Caught { by: format!("suite: `{}`", case.name), tries });
            }
        }
    }
    let scenes = SCENES.iter().filter(|(name, _)| concerns(name, bug.part));
    for (tries, (name, scene)) in (1..).zip(scenes) {
        if tried(QUIET, move || scene(play)) != Verdict::Green {
            return Some(Caught { by: format!("scene: `{name}`"), tries });
        }
    }
    None
}

#[test]
fn without_a_bug_every_scene_ends_well() {
    for (name, scene) in SCENES {
        assert_eq!(tried("of no bug", || scene(Play(None))), Verdict::Green, "{name}");
    }
}

const BEGIN: &str = "<!-- seeded bugs: begin -->";
const END: &str = "<!-- seeded bugs: end -->";

#[test]
fn every_bug_is_caught_and_the_table_says_by_what() {
    let bugs: Vec<&'static Bug> = bugs().collect();
    assert!(bugs.len() >= 30, "{} bugs", bugs.len());
    let mut table =
        String::from("| part | bug | what is wrong | caught by | after |\n|---|---|---|---|---|\n");
    let mut missed = Vec::new();
    for bug in bugs {
        match catch(bug) {
            Some(Caught { by, tries }) => {
                writeln!(table, "| {} | {} | {} | {by} | {tries} |", bug.part.name(), bug.name, bug.what)
                    .unwrap();
            }
            None => missed.push(bug.name),
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
