//! The server restarts and crashes, the network between fails before and after each effect, schedulers end: each revision is
//! built once, and what is newest is linked in the end.

use crate::farm::{Farm, Kept, revision};
use capomastro_core::model::{Build, Phase, Policy};
use capomastro_testkit::jenkins::{Chaos, Fault};
use std::{collections::BTreeSet, time::Duration};

const NAMES: [&str; 3] = ["a", "b", "c"];
/// Within which time all is well when nothing fails any more: longer than what Jenkins may hold back, and some retries.
const HEALED: u64 = 3_600;

async fn farm(kept: Kept, folder: &std::path::Path) -> Option<Farm> {
    let farm = Farm::new(kept, folder).await?;
    for name in NAMES {
        farm.define(name, &["all"], Policy::default()).await;
    }
    Some(farm)
}

/// When nothing fails any more, the newest of all is linked, and no open build is left.
async fn ends_well(farm: &Farm, newest: u64) {
    farm.jenkins.heal();
    for name in NAMES {
        let done = async |f: &Farm| {
            f.is_linked(name, newest).await && f.builds(name).await.iter().all(|b| b.phase.is_terminal())
        };
        farm.pass_until(HEALED, done).await;
    }
}

/// Each key has started at most one build, and no revision has been built well twice.
async fn nothing_is_built_twice(farm: &Farm) -> Vec<Build> {
    let mut all = Vec::new();
    for name in NAMES {
        let mut good = BTreeSet::new();
        for build in farm.builds(name).await {
            assert!(farm.started(&build) <= 1, "{name}: {build:?}");
            if build.phase == Phase::Succeeded {
                assert!(good.insert(build.revision.to_string()), "{name}: {build:?}");
            }
            all.push(build);
        }
    }
    all
}

/// Changes come while requests that start builds break, before their effect, after it, and long before it.
async fn requests_that_start_builds_break(kept: Kept, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut farm) = farm(kept, folder.path()).await else { return };
    let newest = 5;
    for number in 1..=newest {
        farm.jenkins.chaos(Some(Chaos::of_triggers(seed * 100 + number, 600)));
        for name in NAMES {
            farm.probe.set(name, &revision(number));
        }
        farm.pass(70 + number * 13).await;
        if number % 2 == 0 {
            farm.begin_again(seed + number);
        }
    }
    let met = farm.jenkins.faults_met();
    ends_well(&farm, newest).await;
    nothing_is_built_twice(&farm).await;
    assert!(met >= 3, "{met} requests broke");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_requests_start_no_build_twice() {
    for seed in 1..=4 {
        requests_that_start_builds_break(Kept::Memory, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_requests_start_no_build_twice_over_a_file() {
    requests_that_start_builds_break(Kept::File, 11).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_requests_start_no_build_twice_over_a_database() {
    requests_that_start_builds_break(Kept::Database, 12).await;
}

/// Whatever is asked, a third of it meets a broken connection, a proxy, a page to log in, half an answer or none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_every_bad_kind_change_nothing() {
    for seed in 1..=3 {
        let folder = tempfile::tempdir().unwrap();
        let farm = farm(Kept::Memory, folder.path()).await.unwrap();
        let faults = [
            Fault::reset(),
            Fault::reset().after_effect(),
            Fault::silence(),
            Fault::proxy(502),
            Fault::proxy(503),
            Fault::proxy(504).after_effect(),
            Fault::login_page(),
            Fault::cut_after(40),
            Fault::broken_json(30),
            Fault::huge(20 * 1024 * 1024),
            Fault::slow(Duration::from_secs(12)),
        ];
        farm.jenkins.chaos(Some(Chaos::new(seed, 330, faults)));
        for number in 1..=3 {
            for name in NAMES {
                farm.probe.set(name, &revision(number));
            }
            farm.pass(120).await;
        }
        let met = farm.jenkins.faults_met();
        ends_well(&farm, 3).await;
        let builds = nothing_is_built_twice(&farm).await;
        assert!(met >= 8, "{met} requests broke");
        let odd = builds.iter().find(|b| b.phase != Phase::Succeeded);
        assert!(odd.is_none(), "a bad answer has ended a build: {odd:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_restarted_and_crashes_loses_no_change() {
    for seed in 1..=3 {
        let folder = tempfile::tempdir().unwrap();
        let mut farm = farm(Kept::Memory, folder.path()).await.unwrap();
        let mut newest = 1;
        for round in 0..6 {
            for name in NAMES {
                farm.probe.set(name, &revision(newest));
            }
            // In the quiet period, in the queue, while it runs, after its end.
            farm.pass(5 + (round * 17 + seed * 7) % 90).await;
            match (round + seed) % 3 {
                0 => farm.jenkins.crash(),
                1 => farm.jenkins.restart(),
                _ => {
                    farm.jenkins.crash();
                    farm.begin_again(seed + round);
                }
            }
            farm.pass(30).await;
            newest += 1;
        }
        ends_well(&farm, newest - 1).await;
        for name in NAMES {
            for build in farm.builds(name).await {
                // Jenkins itself runs an item again that it had started before a crash; nobody else does.
                let accepted = farm.jenkins.accepted().len();
                assert!(farm.started(&build) <= 2, "{name}, of {accepted}: {build:?}");
            }
            let mut good = BTreeSet::new();
            let builds = farm.builds(name).await;
            let again =
                builds.iter().find(|b| b.phase == Phase::Succeeded && !good.insert(b.revision.to_string()));
            assert!(again.is_none(), "{name}: {again:?}");
        }
    }
}
