//! Many histories of schedulers under attack: `--seed N --histories M [--store memory|sqlite] [--compare yes] [--replay SEED]`.
//!
//! Prints, last, one line of JSON. Ends with 1 if something was violated.

use capomastro_core::store::StateStore;
use capomastro_store_sqlite::SqliteStore;
use capomastro_testkit::{
    fakes::ManualClock,
    simulator::{Counters, Simulation, Verdict},
};
use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

type Failure = Box<dyn std::error::Error>;

#[derive(Clone, Debug)]
struct Choices {
    seed: u64,
    histories: u64,
    sqlite: bool,
    replay: Option<u64>,
    /// Compare each history with the same one on the other store.
    compare: bool,
}

fn choices(mut words: impl Iterator<Item = String>) -> Result<Choices, Failure> {
    let mut choices = Choices { seed: 1, histories: 200, sqlite: false, replay: None, compare: false };
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("give a value behind {word}"))?;
        match word.as_str() {
            "--seed" => choices.seed = value.parse()?,
            "--histories" => choices.histories = value.parse()?,
            "--replay" => choices.replay = Some(value.parse()?),
            "--store" => match value.as_str() {
                "memory" => choices.sqlite = false,
                "sqlite" => choices.sqlite = true,
                _ => return Err("--store is memory or sqlite".into()),
            },
            "--compare" => choices.compare = value == "yes",
            _ => {
                return Err(
                    format!("{word} is none of --seed, --histories, --store, --compare, --replay").into()
                );
            }
        }
    }
    Ok(choices)
}

/// The history of a seed; on a file of its own in a folder that goes with it.
fn simulation(seed: u64, sqlite: bool) -> Result<Simulation, Failure> {
    let simulation = Simulation::new(seed);
    if !sqlite {
        return Ok(simulation);
    }
    // It is run several times where its shortest story is looked for.
    let (folder, runs) = (tempfile::tempdir()?, AtomicU64::new(0));
    Ok(simulation.over(move |clock: ManualClock| -> Arc<dyn StateStore> {
        let path = folder.path().join(format!("{}.db", runs.fetch_add(1, Ordering::Relaxed)));
        let store = SqliteStore::builder(path).clock(Arc::new(clock)).readers(1).open();
        Arc::new(store.expect("a store on a new file"))
    }))
}

/// What all histories together came to. The digest does not depend on the order in which they ended.
#[derive(Default)]
struct Total {
    counters: Counters,
    digest: u64,
    histories: u64,
    violations: BTreeMap<u64, Verdict>,
}

fn main() -> Result<ExitCode, Failure> {
    let choices = choices(std::env::args().skip(1))?;
    if let Some(seed) = choices.replay {
        return replay(&simulation(seed, choices.sqlite)?, seed);
    }
    let next = AtomicU64::new(0);
    let total = Mutex::new(Total::default());
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let (next, total, choices) = (&next, &total, &choices);
            scope.spawn(move || {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= choices.histories {
                        return;
                    }
                    let seed = choices.seed.wrapping_add(n);
                    let run = |sqlite| simulation(seed, sqlite).expect("a folder for the history").run();
                    let verdict = run(choices.sqlite);
                    let other = choices.compare.then(|| run(!choices.sqlite));
                    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                    total.counters.add(&verdict.counters);
                    total.digest = total.digest.wrapping_add(verdict.digest.wrapping_mul(2 * seed + 1));
                    total.histories += 1;
                    let differs = other.is_some_and(|other| other.digest != verdict.digest);
                    if differs {
                        println!("seed {seed}: the two stores went different ways");
                    }
                    if differs || !verdict.violations.is_empty() {
                        total.violations.insert(seed, verdict);
                    }
                }
            });
        }
    });
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (seed, verdict) in total.violations.iter().take(10) {
        println!("seed {seed}: {:?}", verdict.violations.first());
    }
    if let Some(seed) = total.violations.keys().next()
        && let Some(shortest) = simulation(*seed, choices.sqlite)?.shrink()
    {
        println!("the shortest story of seed {seed} (all of it: --replay {seed}):");
        for line in shortest.plan.iter().chain(&shortest.verdict.story) {
            println!("  {line}");
        }
    }
    let store = if choices.sqlite { "sqlite" } else { "memory" };
    let line = serde_json::json!({ "histories": total.histories, "store": store });
    say(line, total.violations.len(), total.digest, total.counters)?;
    Ok(if total.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tells one history step by step.
fn replay(simulation: &Simulation, seed: u64) -> Result<ExitCode, Failure> {
    for line in simulation.plan() {
        println!("{line}");
    }
    let verdict = simulation.clone().telling().run();
    for line in &verdict.story {
        println!("{line}");
    }
    for violation in &verdict.violations {
        println!("violated {}: {}", violation.invariant, violation.what);
    }
    let line = serde_json::json!({ "histories": 1, "seed": seed });
    say(line, verdict.violations.len(), verdict.digest, verdict.counters)?;
    Ok(if verdict.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the last line: what was run, what came of it, and what happened in it.
fn say(
    mut line: serde_json::Value,
    violations: usize,
    digest: u64,
    counters: Counters,
) -> Result<(), Failure> {
    line["violations"] = violations.into();
    line["digest"] = format!("{digest:016x}").into();
    if let serde_json::Value::Object(happened) = serde_json::to_value(counters)? {
        for (what, times) in happened {
            line[what] = times;
        }
    }
    println!("{line}");
    Ok(())
}
