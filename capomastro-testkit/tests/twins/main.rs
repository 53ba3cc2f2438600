//! Broken twins: for each case of the suite for stores a store with one small flaw, on which the case goes red.
//!
//! Without them a case that asserts nothing would look like one that always holds. A case without a twin fails
//! [`every_case_has_a_twin`].

#![allow(clippy::unwrap_used, reason = "tests")]

mod bent;
mod claims;
mod commits;
mod due_changes;
mod events;
mod lists;
mod names;
mod nudges;
mod racing;
mod records;

use bent::{Bent, Mem};
use capomastro_core::{
    async_trait,
    store::{Batch, DueChange, StateStore},
    time::{Clock, SystemClock},
};
use capomastro_testkit::{
    conformance::{
        Case,
        state_store::{CASES, StoreHarness},
    },
    fakes::ManualClock,
};
use futures_util::future::{Either, select};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    panic::Location,
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// How long a twin may take to be found out.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a twin is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ground {
    pub(crate) clock: ManualClock,
    /// How often it was opened again.
    pub(crate) reopened: Arc<AtomicU64>,
}

impl Ground {
    pub(crate) fn mem(&self) -> Mem {
        Mem::new(&self.clock)
    }

    /// A store that is as it should be, to be bent.
    pub(crate) fn sound(&self) -> Bent {
        Bent::new(self.mem())
    }

    /// A store that changes the changes of due rows before it makes them.
    pub(crate) fn changing(
        &self,
        change: impl Fn(&Mem, &Batch, DueChange) -> Option<DueChange> + Send + Sync + 'static,
    ) -> Bent {
        self.sound().on_commit(move |mem, mut batch| {
            let due = batch.due.clone().into_iter().filter_map(|one| change(mem, &batch, one)).collect();
            batch.due = due;
            mem.commit(&batch)
        })
    }
}

/// A store with one flaw.
pub(crate) struct Twin {
    /// The case that must see it.
    case: &'static str,
    /// What it does wrong.
    flaw: &'static str,
    make: fn(&Ground) -> Arc<dyn StateStore>,
}

/// A table of twins, and a test for each.
macro_rules! twins {
    ($($case:ident, $flaw:literal: $make:expr;)+) => {
        pub(crate) const TWINS: &[$crate::Twin] = &[$($crate::Twin {
            case: stringify!($case),
            flaw: $flaw,
            make: |ground| std::sync::Arc::new(($make)(ground)),
        },)+];

        $(#[test]
        fn $case() {
            let twin = TWINS.iter().find(|twin| twin.case == stringify!($case)).unwrap();
            $crate::goes_red(twin);
        })+
    };
}
pub(crate) use twins;

struct Harness {
    ground: Ground,
    make: fn(&Ground) -> Arc<dyn StateStore>,
}

impl fmt::Debug for Harness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ground.fmt(f)
    }
}

#[async_trait]
impl StoreHarness for Harness {
    fn clock(&self) -> ManualClock {
        self.ground.clock.clone()
    }

    async fn fresh(&self) -> Arc<dyn StateStore> {
        (self.make)(&self.ground)
    }

    async fn reopen(&self, store: Arc<dyn StateStore>) -> Arc<dyn StateStore> {
        self.ground.reopened.fetch_add(1, Ordering::SeqCst);
        store
    }
}

/// Where threads of this name panicked. The names are those of the runs below.
static PANICS: Mutex<BTreeMap<String, Vec<String>>> = Mutex::new(BTreeMap::new());

/// Keeps where a twin was found out, without a word about it on the terminal.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| match std::thread::current().name() {
            Some(name) if name.starts_with("twin ") => {
                let at = panic.location().map(Location::file).unwrap_or_default();
                let text = panic.payload().downcast_ref::<String>().cloned().unwrap_or_default();
                let mut panics = PANICS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                panics.entry(name.to_owned()).or_default().push(format!("{at}: {text}"));
            }
            _ => others(panic),
        }));
    });
}

/// How a case went.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Green,
    /// Where it panicked, and what it said.
    Red(Vec<String>),
    /// It did not end.
    Endless,
}

fn runtime(name: &str) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .thread_name(name)
        .enable_all()
        .build()
        .unwrap()
}

fn tried(
    case: &'static Case<dyn StoreHarness>,
    make: fn(&Ground) -> Arc<dyn StateStore>,
    within: Duration,
) -> Verdict {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    listen();
    let name = format!("twin {}", RUNS.fetch_add(1, Ordering::SeqCst));
    let runtime = runtime(&name);
    let harness = Harness { ground: Ground::default(), make };
    let run = runtime.spawn(async move { case.run(&harness).await });
    let verdict = match runtime.block_on(async { select(run, SystemClock.sleep(within)).await }) {
        Either::Left((Ok(()), _)) => Verdict::Green,
        Either::Left((Err(_), _)) => Verdict::Red(PANICS.lock().unwrap().remove(&name).unwrap_or_default()),
        Either::Right(_) => Verdict::Endless,
    };
    runtime.shutdown_background();
    verdict
}

fn goes_red(twin: &'static Twin) {
    let case = CASES.iter().find(|case| case.name == twin.case).expect("a case of this name");
    match tried(case, twin.make, DEADLINE) {
        Verdict::Red(panics) => assert!(
            !panics.is_empty() && panics.iter().all(|at| at.contains("conformance/state_store/")),
            "the case itself must say what is wrong, not: {panics:?}"
        ),
        verdict => panic!("{} does not see a store of which {}: {verdict:?}", twin.case, twin.flaw),
    }
}

fn all() -> impl Iterator<Item = &'static Twin> {
    [
        records::TWINS,
        commits::TWINS,
        names::TWINS,
        lists::TWINS,
        events::TWINS,
        claims::TWINS,
        due_changes::TWINS,
        nudges::TWINS,
        racing::TWINS,
    ]
    .into_iter()
    .flatten()
}

#[test]
fn every_case_has_a_twin() {
    let cases: BTreeSet<&str> = CASES.iter().map(|case| case.name).collect();
    let twins: BTreeSet<&str> = all().map(|twin| twin.case).collect();
    assert_eq!(cases.difference(&twins).collect::<Vec<_>>(), Vec::<&&str>::new(), "cases without a twin");
    assert_eq!(twins.difference(&cases).collect::<Vec<_>>(), Vec::<&&str>::new(), "twins without a case");
}

#[test]
fn without_a_flaw_every_case_is_green() {
    for case in CASES {
        assert_eq!(tried(case, |ground| Arc::new(ground.sound()), DEADLINE), Verdict::Green, "{}", case.name);
    }
}

/// A store that every case refuses would prove nothing about any of them. With `CAPOMASTRO_TWINS=show` in the environment
/// this also prints, for each twin, all cases that see its flaw.
#[test]
fn a_flaw_is_small() {
    listen();
    let runtime = runtime("twin of all");
    for twin in all() {
        let runs: Vec<_> = CASES
            .iter()
            .map(|case| {
                let harness = Harness { ground: Ground::default(), make: twin.make };
                (case.name, runtime.spawn(async move { case.run(&harness).await }))
            })
            .collect();
        let mut seen_by = Vec::new();
        for (name, run) in runs {
            match runtime.block_on(async { select(run, SystemClock.sleep(DEADLINE)).await }) {
                Either::Left((Ok(()), _)) => {}
                Either::Left((Err(_), _)) => seen_by.push(name),
                Either::Right(_) => panic!("{name} does not end on the twin of {}", twin.case),
            }
        }
        assert!(seen_by.len() <= 5, "{}, a twin of {}, is seen by {seen_by:?}", twin.flaw, twin.case);
        if std::env::var("CAPOMASTRO_TWINS").as_deref() == Ok("show") {
            println!("{}: {}: {}", twin.case, twin.flaw, seen_by.join(", "));
        }
    }
}
