//! Histories of schedulers under attack, and that the attack would find what is broken.

mod broken;

use broken::{Careless, Forgets, Tardy};
use capomastro_testkit::{SeededRandom, simulator::Simulation};
use std::sync::Arc;

/// Seeds that ever failed, each with why.
const KEPT: &str = include_str!("../seeds.txt");

fn holds(seed: u64) {
    let verdict = Simulation::new(seed).run();
    if verdict.violations.is_empty() {
        return;
    }
    let shortest = Simulation::new(seed).shrink();
    panic!("seed {seed}: {:#?}\n{shortest:#?}", verdict.violations);
}

#[test]
fn kept_seeds_hold() {
    for line in KEPT.lines() {
        let seed = line.split('#').next().unwrap_or_default().trim();
        if !seed.is_empty() {
            holds(seed.parse().expect("a number"));
        }
    }
}

#[test]
fn some_hundred_histories_hold() {
    (1..=300).for_each(holds);
}

/// After how many histories a defect is found, and as what.
fn found_after(most: u64, broken: impl Fn(Simulation) -> Simulation) -> (u64, &'static str) {
    for seed in 1..=most {
        if let Some(violation) = broken(Simulation::new(seed)).run().violations.first() {
            return (seed, violation.invariant);
        }
    }
    panic!("not found in {most} histories");
}

#[test]
fn what_a_commit_forgets_is_found() {
    for (forgets, most, named) in [
        (Forgets::Nudges, 100, ["due", "due"]),
        (Forgets::Guards, 20, ["guard", "guard"]),
        (Forgets::Claims, 20, ["claim", "claim"]),
        (Forgets::CommitId, 200, ["commit id", "I9"]),
    ] {
        let (after, invariant) = found_after(most, |simulation| {
            simulation
                .wrap_store(move |inner| Arc::new(Careless { inner, forgets, random: SeededRandom::new(9) }))
        });
        println!("{forgets:?} forgotten: found after {after} histories as {invariant}");
        assert!(named.contains(&invariant), "{forgets:?} was found as {invariant}");
    }
}

#[test]
fn a_send_after_a_freeze_is_found() {
    let (after, invariant) = found_after(3_000, |s| s.wrap_launcher(|inner| Arc::new(Tardy(inner))));
    println!("a late send: found after {after} histories as {invariant}");
    assert_eq!(invariant, "I2");
}
