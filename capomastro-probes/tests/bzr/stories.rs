//! One history of a branch, seen through every place and by both ways.

use super::{
    asking::{Remembering, answer, by_program, seen, with_programs},
    branch::{Branches, Server, brz},
    web::{Answer, Web},
};
use capomastro_core::{InMemoryStore, Scheduler, model::Policy, probe::Probed, scheduler::DependencySpec};
use capomastro_probes::bzr::{BzrProbe, BzrSource};
use capomastro_testkit::{ControllableLauncher, ManualClock};
use std::{fs, sync::Arc, time::Duration};

struct Told {
    branches: Branches,
    ways: Vec<(BzrProbe, String)>,
}

impl Told {
    async fn at(&self, name: &str, id: &str, revno: u64) {
        for (probe, base) in &self.ways {
            let (seen, shown) = seen(probe, BzrSource::new(format!("{base}/{name}"))).await;
            assert_eq!((seen.as_str(), shown), (id, format!("revno {revno}")), "{base}");
        }
    }

    async fn nowhere(&self, name: &str) {
        for (probe, base) in &self.ways {
            let answer = answer(probe, BzrSource::new(format!("{base}/{name}"))).await;
            assert_eq!(
                answer.unwrap_or_else(|e| panic!("{base}: {}", e.report())),
                Probed::NotFound,
                "{base}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_history_by_every_way() {
    if !crate::branch::brz_is_there() {
        return;
    }
    let branches = Branches::new();
    let root = branches.root.path().to_owned();
    let web = Web::serve(root.clone(), |_| Answer::File).await;
    let server = Server::over(&root);
    let runner = Arc::<Remembering>::default();
    let places = [
        root.display().to_string(),
        format!("file://{}", root.display()),
        web.url("").trim_end_matches('/').to_owned(),
        format!("bzr://127.0.0.1:{}", server.port),
    ];
    let mut ways = Vec::new();
    for place in places {
        ways.push((BzrProbe::new(), place.clone()));
        ways.push((with_programs(), place.clone()));
        ways.push((by_program(&runner), place));
    }
    let told = Told { branches, ways };
    let all = &told.branches;

    // Nothing was ever committed.
    all.init("trunk", &[]);
    told.nowhere("trunk").await;
    let first = all.commit("trunk");
    told.at("trunk", &first, 1).await;
    let second = all.commit("trunk");
    told.at("trunk", &second, 2).await;
    told.at("trunk/", &second, 2).await;

    // Overwritten by another branch of the same length.
    brz(&root, &["branch", "--quiet", "-r1", "trunk", "side"]);
    let other = all.commit("side");
    assert_ne!(other, second);
    brz(&all.path("side"), &["push", "--quiet", "--overwrite", "../trunk"]);
    told.at("trunk", &other, 2).await;

    // Rewound.
    brz(&all.path("trunk"), &["uncommit", "--quiet", "--force"]);
    told.at("trunk", &first, 1).await;

    // Removed, and made anew from a history of its own.
    fs::remove_dir_all(all.path("trunk")).unwrap();
    told.nowhere("trunk").await;
    all.init("trunk", &[]);
    let anew = all.commit("trunk");
    assert_ne!(anew, first);
    told.at("trunk", &anew, 1).await;
    // The branch is taken away, its place stays.
    brz(&root, &["remove-branch", "--quiet", "--force", "side"]);
    told.nowhere("side").await;

    // A branch below another one that is removed is not answered for by that one.
    all.init("trunk/below", &[]);
    let below = all.commit("trunk/below");
    told.at("trunk/below", &below, 1).await;
    fs::remove_dir_all(all.path("trunk/below")).unwrap();
    told.nowhere("trunk/below").await;

    // A branch of old, and one in a shared repository.
    all.init("old", &["--format=dirstate"]);
    told.nowhere("old").await;
    all.commit("old");
    let old = all.commit("old");
    told.at("old", &old, 2).await;
    brz(&root, &["init-shared-repository", "--quiet", "shared"]);
    all.init("shared/a b", &[]);
    let shared = all.commit("shared/a b");
    for (probe, base) in &told.ways {
        let name = if base.starts_with('/') { "shared/a b" } else { "shared/a%20b" };
        assert_eq!(seen(probe, BzrSource::new(format!("{base}/{name}"))).await.0, shared, "{base}");
    }
    // On every way but the program's, no program had to help.
    assert!(runner.commands().iter().all(|c| c.args.iter().any(|a| a == "-I")));
}

#[tokio::test(flavor = "multi_thread")]
async fn colocated_branches_and_checkouts() {
    if !crate::branch::brz_is_there() {
        return;
    }
    let branches = Branches::new();
    let root = branches.root.path().to_owned();
    let web = Web::serve(root.clone(), |_| Answer::File).await;
    let runner = Arc::<Remembering>::default();
    branches.init("colo", &["--format=development-colo"]);
    branches.commit("colo");
    brz(&branches.path("colo"), &["switch", "--quiet", "-b", "side"]);
    let side = branches.commit("colo");
    branches.init("trunk", &[]);
    let trunk = branches.commit("trunk");
    brz(&root, &["checkout", "--quiet", "--lightweight", "trunk", "light"]);
    brz(&root, &["checkout", "--quiet", "trunk", "heavy"]);
    for probe in [BzrProbe::new(), by_program(&runner)] {
        for base in [root.display().to_string(), web.url("").trim_end_matches('/').to_owned()] {
            let colo = BzrSource::new(format!("{base}/colo"));
            assert_eq!(seen(&probe, colo.clone().branch("side")).await.0, side);
            assert_eq!(answer(&probe, colo.clone().branch("gone")).await.unwrap(), Probed::NotFound);
            assert_eq!(seen(&probe, BzrSource::new(format!("{base}/heavy"))).await.0, trunk);
        }
        let here = |name: &str| BzrSource::new(branches.url(name));
        assert_eq!(seen(&probe, here("light")).await.0, trunk);
        // What the place is a checkout of.
        assert_eq!(seen(&probe, here("colo")).await.0, side);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_is_built_once() {
    if !crate::branch::brz_is_there() {
        return;
    }
    const EVERY: Duration = Duration::from_secs(60);
    let branches = Branches::new();
    branches.init("trunk", &[]);
    let (clock, launcher) = (ManualClock::new(), ControllableLauncher::auto_succeed());
    let scheduler = Scheduler::builder(Arc::new(InMemoryStore::new(Arc::new(clock.clone()))))
        .clock(Arc::new(clock.clone()))
        .probe("bzr", Arc::new(with_programs()))
        .launcher("fake", Arc::new(launcher.clone()))
        .build()
        .unwrap();
    let mut want = vec![branches.commit("trunk")];
    let source = BzrSource::new(branches.url("trunk")).source("bzr").unwrap();
    let spec = DependencySpec::new("lib", source, "fake").unwrap();
    scheduler.apply(&spec.with_policy(Policy::default().with_look_every(EVERY))).await.unwrap();
    let built = async || {
        for _ in 0..10 {
            clock.advance(EVERY);
            while scheduler.tick().await.unwrap().taken > 0 {}
        }
        launcher.launched().iter().map(|request| request.revision.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(built().await, want);
    want.push(branches.commit("trunk"));
    assert_eq!(built().await, want);
    assert_eq!(built().await, want);
    // Overwritten by a branch of the same length, and back.
    brz(branches.root.path(), &["branch", "--quiet", "trunk", "kept"]);
    brz(branches.root.path(), &["branch", "--quiet", "-r1", "trunk", "side"]);
    want.push(branches.commit("side"));
    brz(&branches.path("side"), &["push", "--quiet", "--overwrite", "../trunk"]);
    assert_eq!(built().await, want);
    brz(&branches.path("kept"), &["push", "--quiet", "--overwrite", "../trunk"]);
    want.push(want[1].clone());
    assert_eq!(built().await, want);
}
