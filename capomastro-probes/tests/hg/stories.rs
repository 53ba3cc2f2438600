//! What happens to branches and bookmarks, seen the same in process, by hg's library, and over the network.

use super::{
    asking::{Remembering, answer, by_program, failure, seen, with_programs},
    repo::{Repo, Server},
};
use capomastro_core::{
    ErrorKind, InMemoryStore, Scheduler, model::Policy, probe::Probed, scheduler::DependencySpec,
};
use capomastro_probes::hg::{HgProbe, HgSource};
use capomastro_testkit::{ControllableLauncher, ManualClock};
use std::{sync::Arc, time::Duration};

/// A repository, its server, and all ways to look at it.
struct World {
    repo: Repo,
    server: Server,
}

#[derive(Copy, Clone)]
enum What {
    Default,
    Branch(&'static str),
    Bookmark(&'static str),
}

impl World {
    fn new() -> Self {
        let repo = Repo::new();
        let server = Server::over(&repo);
        Self { repo, server }
    }

    /// Each way of looking, with what it is called.
    fn ways(&self, what: What) -> Vec<(&'static str, HgProbe, HgSource)> {
        let of = |source: HgSource| match what {
            What::Default => source,
            What::Branch(name) => source.branch(name),
            What::Bookmark(name) => source.bookmark(name),
        };
        let (here, there) = (of(self.repo.source()), of(HgSource::new(self.server.url())));
        let runner = || Arc::<Remembering>::default();
        vec![
            ("here", with_programs(), here.clone()),
            ("here by program", by_program(&runner()), here),
            ("there", with_programs(), there.clone()),
            ("there by program", by_program(&runner()), there),
        ]
    }

    async fn is_at(&self, what: What, node: &str) {
        for (way, probe, source) in self.ways(what) {
            assert_eq!(seen(&probe, source).await.0, node, "{way}");
        }
    }

    async fn is_not_there(&self, what: What) {
        for (way, probe, source) in self.ways(what) {
            assert_eq!(answer(&probe, source).await.unwrap(), Probed::NotFound, "{way}");
        }
    }

    async fn has_several_heads(&self, what: What, heads: [&str; 2]) {
        for (way, probe, source) in self.ways(what) {
            let e = failure(&probe, source).await;
            assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{way}: {}", e.report());
            for head in heads {
                assert!(e.report().contains(&head[..12]), "{way}: {}", e.report());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_rewrites_and_strips_are_seen() {
    if !crate::repo::hg_is_there() {
        return;
    }
    let world = World::new();
    world.is_not_there(What::Default).await;
    let first = world.repo.commit();
    world.is_at(What::Default, &first).await;
    let second = world.repo.commit();
    world.is_at(What::Default, &second).await;
    let rewritten = world.repo.amend();
    assert_ne!(rewritten, second);
    world.is_at(What::Default, &rewritten).await;
    world.repo.strip("tip");
    world.is_at(What::Default, &first).await;
    // Another repository in the place of the first.
    std::fs::remove_dir_all(world.repo.path()).unwrap();
    let other = Repo::new();
    let foreign = other.commit();
    std::fs::rename(other.path(), world.repo.path()).unwrap();
    assert_eq!(seen(&with_programs(), world.repo.source()).await.0, foreign);
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_are_told_apart_closed_and_opened_again() {
    if !crate::repo::hg_is_there() {
        return;
    }
    let world = World::new();
    let repo = &world.repo;
    let first = repo.commit();
    repo.hg(&["branch", "--quiet", "odd näme/% x"]);
    let odd = What::Branch("odd näme/% x");
    world.is_not_there(odd).await;
    let side = repo.commit();
    world.is_at(odd, &side).await;
    world.is_at(What::Default, &first).await;
    let closed = repo.commit_with(&["--close-branch"]);
    world.is_at(odd, &closed).await;
    let open = repo.commit();
    world.is_at(odd, &open).await;
    repo.strip("1");
    world.is_not_there(odd).await;
    world.is_at(What::Default, &first).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_open_heads_are_an_error_and_closed_ones_do_not_count() {
    if !crate::repo::hg_is_there() {
        return;
    }
    let world = World::new();
    let repo = &world.repo;
    let first = repo.commit();
    let one = repo.commit();
    repo.update(&first);
    let two = repo.commit();
    world.has_several_heads(What::Default, [&one, &two]).await;
    // One head is closed: the other one is the branch's.
    repo.commit_with(&["--close-branch"]);
    world.is_at(What::Default, &one).await;
    repo.update(&one);
    let three = repo.commit();
    world.is_at(What::Default, &three).await;
    // And that one too.
    repo.commit_with(&["--close-branch"]);
    world.is_not_there(What::Default).await;
    // Merged.
    repo.update(&first);
    let four = repo.commit();
    world.is_at(What::Default, &four).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bookmarks_move_and_go() {
    if !crate::repo::hg_is_there() {
        return;
    }
    let world = World::new();
    let repo = &world.repo;
    let next = What::Bookmark("next ü");
    let first = repo.commit();
    world.is_not_there(next).await;
    repo.hg(&["bookmark", "-r", &first, "next ü"]);
    world.is_at(next, &first).await;
    repo.hg(&["bookmark", "-i", "-r", &first, "other"]);
    let second = repo.commit();
    world.is_at(next, &first).await;
    repo.hg(&["bookmark", "-f", "-r", &second, "next ü"]);
    world.is_at(next, &second).await;
    repo.hg(&["bookmark", "-f", "-r", &first, "next ü"]);
    world.is_at(next, &first).await;
    repo.hg(&["bookmark", "-d", "next ü"]);
    world.is_not_there(next).await;
    // A branch of several heads can be followed by a bookmark.
    repo.update(&first);
    let third = repo.commit();
    repo.hg(&["bookmark", "-i", "-r", &third, "next ü"]);
    world.is_at(next, &third).await;
}

/// What is not shown to those who ask over a network is not seen on this machine.
#[tokio::test(flavor = "multi_thread")]
async fn secret_and_obsolete_changesets_are_not_seen() {
    if !crate::repo::hg_is_there() {
        return;
    }
    let world = World::new();
    let repo = &world.repo;
    let first = repo.commit();
    let second = repo.commit();
    world.is_at(What::Default, &second).await;
    repo.hg(&["phase", "--secret", "--force", "-r", &second]);
    world.is_at(What::Default, &first).await;
    repo.hg(&["phase", "--draft", "--force", "-r", &second]);
    world.is_at(What::Default, &second).await;
    let obsolete = ["--config", "experimental.evolution=createmarkers,allowunstable"];
    repo.update(&first);
    repo.hg(&[&obsolete[..], &["debugobsolete", &second]].concat());
    world.is_at(What::Default, &first).await;
}

/// hg writes what its branches are at when it gets to it; what is old is not believed.
#[tokio::test(flavor = "multi_thread")]
async fn what_hg_has_kept_is_believed_only_if_it_is_of_now() {
    if !crate::repo::hg_is_there() {
        return;
    }
    let repo = Repo::new();
    repo.commit();
    let cache = repo.path().join(".hg/cache/branch2-served");
    let runner = Arc::<Remembering>::default();
    let probe = HgProbe::builder().runner(Arc::<Remembering>::clone(&runner)).build();
    let in_process = async |node: &str| {
        let before = runner.commands().len();
        assert_eq!(seen(&probe, repo.source()).await.0, node);
        runner.commands().len() == before
    };
    let first = repo.log("tip");
    assert!(in_process(&first).await);
    let old = std::fs::read(&cache).unwrap();
    let second = repo.commit();
    assert!(in_process(&second).await);
    std::fs::write(&cache, &old).unwrap();
    assert!(!in_process(&second).await, "of the commit before");
    for damaged in [&b""[..], b"x", b"\xff\xff", &old[..old.len() / 2]] {
        std::fs::write(&cache, damaged).unwrap();
        in_process(&second).await;
    }
    drop(std::fs::remove_file(&cache));
    in_process(&second).await;
    // Large enough for an index without the content in between.
    for _ in 0..3 {
        repo.commit_with(&["-m", &"long ".repeat(20_000)]);
    }
    let last = repo.log("tip");
    assert!(in_process(&last).await);
    // A repository that needs something unknown.
    let requires = repo.path().join(".hg/requires");
    let text = std::fs::read_to_string(&requires).unwrap();
    std::fs::write(&requires, format!("{text}of-the-future\n")).unwrap();
    let e = failure(&probe, repo.source()).await;
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{}", e.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_is_built_once() {
    if !crate::repo::hg_is_there() {
        return;
    }
    const EVERY: Duration = Duration::from_secs(60);
    let repo = Repo::new();
    let (clock, launcher) = (ManualClock::new(), ControllableLauncher::auto_succeed());
    let scheduler = Scheduler::builder(Arc::new(InMemoryStore::new(Arc::new(clock.clone()))))
        .clock(Arc::new(clock.clone()))
        .probe("hg", Arc::new(with_programs()))
        .launcher("fake", Arc::new(launcher.clone()))
        .build()
        .unwrap();
    let mut want = vec![repo.commit()];
    let spec = DependencySpec::new("lib", repo.source().source("hg").unwrap(), "fake").unwrap();
    scheduler.apply(&spec.with_policy(Policy::default().with_look_every(EVERY))).await.unwrap();
    let built = async || {
        for _ in 0..40 {
            clock.advance(EVERY);
            while scheduler.tick().await.unwrap().taken > 0 {}
        }
        launcher.launched().iter().map(|request| request.revision.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(built().await, want);
    want.push(repo.commit());
    assert_eq!(built().await, want);
    want.push(repo.amend());
    assert_eq!(built().await, want);
    // A second head is no revision, and merging it is one.
    repo.update("0");
    repo.commit();
    assert_eq!(built().await, want);
    repo.hg(&["merge", "--quiet", "--tool", ":local"]);
    want.push(repo.commit());
    assert_eq!(built().await, want);
    // What was built before is a change again when it is back.
    repo.strip("tip");
    repo.strip("2");
    want.push(want[2].clone());
    let all = built().await;
    assert_eq!(all.len(), want.len(), "{all:?} {want:?}");
}
