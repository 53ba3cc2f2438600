//! How a case goes on what it is tried on.

use capomastro_core::time::{Clock, SystemClock};
use capomastro_testkit::conformance::Case;
use futures_util::future::{Either, select};
use std::{
    collections::BTreeMap,
    panic::Location,
    sync::{
        Mutex, Once, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// How long a twin may take to be found out.
const DEADLINE: Duration = Duration::from_secs(60);

/// Where threads of this name panicked. The names are those of the runs below.
static PANICS: Mutex<BTreeMap<String, Vec<String>>> = Mutex::new(BTreeMap::new());

/// Keeps where a twin was found out, without a word about it on the terminal.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| match std::thread::current().name() {
            Some(name) if name.starts_with("twin ") => {
                let at = panic.location().map(Location::to_string).unwrap_or_default();
                let text = panic.payload().downcast_ref::<String>().cloned().unwrap_or_default();
                let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
                panics.entry(name.to_owned()).or_default().push(format!("{at}: {text}"));
            }
            _ => others(panic),
        }));
    });
}

/// How a case went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Green,
    /// Where it panicked, and what it said.
    Red(Vec<String>),
    /// It did not end.
    Endless,
}

pub(crate) fn tried<H: ?Sized + Send + Sync>(case: &'static Case<H>, harness: Box<H>) -> Verdict {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    listen();
    let name = format!("twin {}", RUNS.fetch_add(1, Ordering::SeqCst));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .thread_name(&name)
        .enable_all()
        .build()
        .unwrap();
    let run = runtime.spawn(async move { case.run(&*harness).await });
    let verdict = match runtime.block_on(async { select(run, SystemClock.sleep(DEADLINE)).await }) {
        Either::Left((Ok(()), _)) => Verdict::Green,
        Either::Left((Err(_), _)) => {
            let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
            Verdict::Red(panics.remove(&name).unwrap_or_default())
        }
        Either::Right(_) => Verdict::Endless,
    };
    runtime.shutdown_background();
    verdict
}

/// Each case goes red on its twin, and says itself what is wrong.
pub(crate) fn every_case_sees_its_twin<H: ?Sized + Send + Sync>(
    cases: &'static [Case<H>],
    suite: &str,
    twin: impl Fn(&'static str) -> Box<H>,
) {
    let is_own = |at: &String| at.contains(suite) || at.contains("conformance/time.rs");
    let mut failed = Vec::new();
    for case in cases {
        match tried(case, twin(case.name)) {
            Verdict::Red(panics) if !panics.is_empty() && panics.iter().all(is_own) => {}
            verdict => failed.push(format!("{}: {verdict:?}", case.name)),
        }
    }
    assert!(failed.is_empty(), "cases that do not see their twins:\n{}", failed.join("\n"));
}

/// All cases are green on what has no flaw.
pub(crate) fn without_a_flaw_all_is_green<H: ?Sized + Send + Sync>(
    cases: &'static [Case<H>],
    sound: impl Fn() -> Box<H>,
) {
    for case in cases {
        assert_eq!(tried(case, sound()), Verdict::Green, "{}", case.name);
    }
}

/// A twin that every case refuses would prove nothing about any of them: each is seen by a third of the cases at most.
/// With `CAPOMASTRO_TWINS=show` in the environment this also prints, for each twin, all cases that see it.
pub(crate) fn flaws_are_small<H: ?Sized + Send + Sync>(
    cases: &'static [Case<H>],
    twin: impl Fn(&'static str) -> Box<H>,
) {
    let mut large = Vec::new();
    for of in cases {
        let seen = |case: &&Case<H>| tried(find(cases, case.name), twin(of.name)) != Verdict::Green;
        let seen_by: Vec<&str> = cases.iter().filter(seen).map(|case| case.name).collect();
        let line = format!("{}: {}", of.name, seen_by.join(", "));
        if std::env::var("CAPOMASTRO_TWINS").as_deref() == Ok("show") {
            println!("{line}");
        }
        if seen_by.len() * 3 > cases.len() {
            large.push(line);
        }
    }
    assert!(large.is_empty(), "flaws that are seen by too many:\n{}", large.join("\n"));
}

fn find<H: ?Sized>(cases: &'static [Case<H>], name: &str) -> &'static Case<H> {
    cases.iter().find(|case| case.name == name).unwrap()
}
