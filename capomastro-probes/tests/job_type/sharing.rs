//! One checkout for all who need it, and room for all of them.

use crate::{
    branches::{Branch, Kind},
    support::{LONG, Place, Remembering, get},
};
use capomastro_core::{
    ErrorKind, async_trait,
    command::{Command, CommandOutput, CommandRunner},
    secret::Secrets,
};
use capomastro_probes::job_type::{Checkout, Checkouts};
use capomastro_testkit::ManualClock;
use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_at_once_get_one_checkout() {
    let branch = Branch::git();
    branch.commit(&[("probe", "one")]);
    let (place, at) = (Place::new(), branch.tip().await);
    let checkouts = place.checkouts();
    let asks = (0..20).map(|_| {
        let (checkouts, job_type, at) = (checkouts.clone(), branch.job_type(), at.clone());
        tokio::spawn(async move { get(&checkouts, &job_type, &at).await.unwrap().dir().to_owned() })
    });
    let mut dirs = Vec::new();
    for ask in asks.collect::<Vec<_>>() {
        dirs.push(ask.await.unwrap());
    }
    dirs.dedup();
    assert_eq!(dirs.len(), 1);
    assert_eq!(place.runner.count("fetch"), 1);
    assert_eq!((place.kept(), place.making()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_share_a_folder_and_nothing_else_agree() {
    let branch = Branch::git();
    branch.commit(&[("probe", "one")]);
    let (place, at) = (Place::new(), branch.tip().await);
    for _ in 0..10 {
        let both = [place.checkouts(), place.checkouts()].map(|checkouts| {
            let (job_type, at) = (branch.job_type(), at.clone());
            tokio::spawn(async move {
                let checkout = get(&checkouts, &job_type, &at).await.unwrap();
                fs::read_to_string(checkout.dir().join("probe")).unwrap()
            })
        });
        for one in both {
            assert_eq!(one.await.unwrap(), "one");
        }
        assert_eq!(place.kept(), 1);
        let emptied = place.builder().keep_unused(Duration::ZERO).build().unwrap().sweep().await.unwrap();
        assert_eq!((emptied.removed, place.kept(), place.making()), (1, 0, 0));
    }
}

#[tokio::test]
async fn looks_are_shared_for_a_while_but_not_across_a_trigger() {
    let branch = Branch::git();
    branch.commit(&[("probe", "one")]);
    let clock = ManualClock::new();
    let place = Place::new();
    let fresh = Duration::from_secs(10);
    let checkouts = place.builder().fresh(fresh).clock(Arc::new(clock.clone())).build().unwrap();
    let latest = async |age| checkouts.latest(&branch.job_type(), age, &Secrets::none(), LONG).await.unwrap();
    let old = branch.tip().await;
    assert_eq!(latest(None).await, old);
    branch.commit(&[("probe", "two")]);
    let new = branch.tip().await;
    clock.advance(Duration::from_secs(9));
    assert_eq!(latest(None).await, old, "nine seconds later");
    assert_eq!(latest(Some(Duration::from_secs(9))).await, old, "what happened before that look began");
    assert_eq!(latest(Some(Duration::from_secs(8))).await, new, "something happened since");
    branch.commit(&[("probe", "three")]);
    clock.advance(Duration::from_secs(11));
    assert_eq!(latest(None).await, branch.tip().await, "eleven seconds later");
}

/// Commits as many revisions, checks each out, and lets go of it.
async fn fill(checkouts: &Checkouts, branch: &Branch, clock: &ManualClock, count: usize) -> Vec<Checkout> {
    let mut all = Vec::new();
    for n in 0..count {
        branch.commit(&[("probe", &format!("{n} {}", "x".repeat(1_000)))]);
        clock.advance(Duration::from_secs(60));
        all.push(get(checkouts, &branch.job_type(), &branch.tip().await).await.unwrap());
    }
    all
}

#[tokio::test]
async fn the_least_recently_used_make_room() {
    let branch = Branch::git();
    let (place, clock) = (Place::new(), ManualClock::new());
    let checkouts = place.builder().max_count(3).clock(Arc::new(clock.clone())).build().unwrap();
    let all = fill(&checkouts, &branch, &clock, 3).await;
    let (first, revisions) =
        (all[0].dir().to_owned(), all.iter().map(|c| c.revision().clone()).collect::<Vec<_>>());
    drop(all);
    // Used again, so that the second is the oldest now.
    clock.advance(Duration::from_secs(60));
    drop(get(&checkouts, &branch.job_type(), &revisions[0]).await.unwrap());
    drop(fill(&checkouts, &branch, &clock, 1).await);
    assert_eq!((place.kept(), place.making()), (3, 0));
    assert!(first.exists());
    let fetched = place.runner.count("fetch");
    drop(get(&checkouts, &branch.job_type(), &revisions[1]).await.unwrap());
    assert_eq!(place.runner.count("fetch"), fetched + 1, "the second one had gone");
}

#[tokio::test]
async fn what_is_in_use_stays_and_leaves_no_room() {
    let branch = Branch::git();
    let (place, clock) = (Place::new(), ManualClock::new());
    let checkouts = place.builder().max_count(2).clock(Arc::new(clock.clone())).build().unwrap();
    let mut held = fill(&checkouts, &branch, &clock, 2).await;
    branch.commit(&[("probe", "one more")]);
    let e = get(&checkouts, &branch.job_type(), &branch.tip().await).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
    assert!(e.to_string().contains("leave no room"), "{e}");
    assert!(held.iter().all(|c| c.dir().join("probe").exists()));
    assert_eq!((place.kept(), place.making()), (2, 0));
    // Whoever else has the folder does not take it away either.
    let other = place.builder().keep_unused(Duration::ZERO).build().unwrap();
    assert_eq!(other.sweep().await.unwrap().removed, 0);
    drop(held.pop());
    get(&checkouts, &branch.job_type(), &branch.tip().await).await.unwrap();
    assert_eq!(place.kept(), 2);
}

#[tokio::test]
async fn what_nobody_used_for_long_goes() {
    let branch = Branch::git();
    let (place, clock) = (Place::new(), ManualClock::new());
    let day = Duration::from_secs(24 * 3_600);
    let checkouts = place.builder().keep_unused(day).clock(Arc::new(clock.clone())).build().unwrap();
    drop(fill(&checkouts, &branch, &clock, 2).await);
    let swept = checkouts.sweep().await.unwrap();
    assert_eq!((swept.removed, swept.kept), (0, 2));
    assert!(swept.bytes > 2 * 1_000, "{swept:?}");
    clock.advance(day + Duration::from_secs(1));
    let swept = checkouts.sweep().await.unwrap();
    assert_eq!((swept.removed, swept.kept, swept.bytes), (2, 0, 0));
    assert_eq!((place.kept(), place.making()), (0, 0));
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_leaves_nothing() {
    let branch = Branch::git();
    branch.commit(&[("a", &"x".repeat(100_000)), ("b", "y")]);
    let at = branch.tip().await;
    let place = Place::new();
    for builder in [place.builder().max_checkout_bytes(50_000), place.builder().max_checkout_files(1)] {
        let e = get(&builder.build().unwrap(), &branch.job_type(), &at).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{e}");
        assert!(e.to_string().contains("too large"), "{e}");
        assert_eq!((place.kept(), place.making()), (0, 0));
    }
}

/// Writes without end where a checkout is to be made.
#[derive(Debug)]
struct Endless;

#[async_trait]
impl CommandRunner for Endless {
    async fn run(&self, command: &Command) -> capomastro_core::Result<CommandOutput> {
        let tree = command.env.get(std::ffi::OsStr::new("GIT_WORK_TREE")).unwrap();
        for n in 0_u64.. {
            fs::write(std::path::Path::new(tree).join(n.to_string()), "x".repeat(10_000)).unwrap();
            tokio::task::yield_now().await;
        }
        unreachable!()
    }
}

#[tokio::test]
async fn a_program_that_writes_without_end_is_stopped() {
    let branch = Branch::git();
    branch.commit(&[("probe", "one")]);
    let (place, at) = (Place::new(), branch.tip().await);
    let checkouts =
        Checkouts::builder(place.folder(), Arc::new(Endless)).max_checkout_bytes(1_000_000).build().unwrap();
    let e = get(&checkouts, &branch.job_type(), &at).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{e}");
    assert_eq!((place.kept(), place.making()), (0, 0));
}

/// Never answers.
#[derive(Debug)]
struct Silent;

#[async_trait]
impl CommandRunner for Silent {
    async fn run(&self, _: &Command) -> capomastro_core::Result<CommandOutput> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn whoever_has_no_more_time_goes_and_the_next_one_cleans_up() {
    let branch = Branch::git();
    branch.commit(&[("probe", "one")]);
    let (place, at) = (Place::new(), branch.tip().await);
    let silent = Checkouts::builder(place.folder(), Arc::new(Silent)).build().unwrap();
    let short = Duration::from_millis(50);
    let e = silent.get(&branch.job_type(), &at, &Secrets::none(), short).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::TimedOut, "{e}");
    assert_eq!((place.kept(), place.making()), (0, 1));
    get(&place.checkouts(), &branch.job_type(), &at).await.unwrap();
    assert_eq!((place.kept(), place.making()), (1, 0));
    // A bound of its own, for those with much time.
    let silent = Checkouts::builder(place.folder(), Arc::new(Silent)).timeout(short).build().unwrap();
    branch.commit(&[("probe", "two")]);
    let e = get(&silent, &branch.job_type(), &branch.tip().await).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::TimedOut, "{e}");
    assert_eq!((place.kept(), place.making()), (1, 0));
}

#[tokio::test]
async fn scripts_are_files_of_the_branch_that_may_be_run() {
    let branch = Branch::git();
    branch.commit(&[("bin/probe", "x"), ("notes.txt", "x")]);
    std::os::unix::fs::symlink("/bin/sh", branch.work().join("out")).unwrap();
    std::os::unix::fs::symlink("bin/probe", branch.work().join("in")).unwrap();
    std::os::unix::fs::symlink("../about.json", branch.work().join("up")).unwrap();
    branch.commit(&[]);
    let place = Place::new();
    let checkout = get(&place.checkouts(), &branch.job_type(), &branch.tip().await).await.unwrap();
    for good in ["bin/probe", "in"] {
        assert_eq!(checkout.script(good).unwrap(), checkout.dir().join(good));
    }
    for (bad, says) in [
        ("nowhere", "not in the branch"),
        ("bin", "is a folder"),
        ("notes.txt", "chmod +x"),
        ("out", "leads out"),
        ("up", "leads out"),
        ("../tree/in", "path inside"),
        ("/bin/sh", "path inside"),
        ("", "path inside"),
    ] {
        let e = checkout.script(bad).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{bad}");
        assert!(e.to_string().contains(says), "{bad}: {e}");
    }
}

#[tokio::test]
async fn what_cannot_be_a_checkout_is_refused() {
    let branch = Branch::git();
    branch.commit(&[("probe", "x")]);
    // A device node needs root; a fifo comes from nowhere in git, so it is put there by the program that writes.
    #[derive(Debug)]
    struct Fifo;
    #[async_trait]
    impl CommandRunner for Fifo {
        async fn run(&self, command: &Command) -> capomastro_core::Result<CommandOutput> {
            let tree = command.env.get(std::ffi::OsStr::new("GIT_WORK_TREE")).unwrap();
            let fifo = std::path::Path::new(tree).join("f");
            if !fifo.exists() {
                std::process::Command::new("mkfifo").arg(fifo).status().unwrap();
            }
            Ok(CommandOutput::new(capomastro_core::command::Exit::Code(0), Vec::new(), Vec::new()))
        }
    }
    let place = Place::new();
    let checkouts = Checkouts::builder(place.folder(), Arc::new(Fifo)).build().unwrap();
    let e = get(&checkouts, &branch.job_type(), &branch.tip().await).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}");
    assert_eq!((place.kept(), place.making()), (0, 0));
}

#[tokio::test]
async fn without_the_program_it_is_said() {
    for (kind, says) in
        [(Kind::Git, "git"), (Kind::Bzr, "brz"), (Kind::Hg, "mercurial"), (Kind::Svn, "Subversion")]
    {
        let Some(branch) = Branch::new(kind) else { continue };
        branch.commit(&[("probe", "x")]);
        let place = Place::new();
        let runner = Arc::<Remembering>::clone(&place.runner);
        let (git, bzr, hg, svn) = (
            capomastro_probes::git::GitProbe::builder()
                .runner(Arc::<Remembering>::clone(&runner))
                .env("PATH", "/nonexistent")
                .build(),
            capomastro_probes::bzr::BzrProbe::builder()
                .runner(Arc::<Remembering>::clone(&runner))
                .env("PATH", "/nonexistent")
                .build(),
            capomastro_probes::hg::HgProbe::builder()
                .runner(Arc::<Remembering>::clone(&runner))
                .env("PATH", "/nonexistent")
                .build(),
            capomastro_probes::svn::SvnProbe::builder().runner(runner).env("PATH", "/nonexistent").build(),
        );
        let checkouts = place.builder().git(git).bzr(bzr).hg(hg).svn(svn).build().unwrap();
        let e = get(&checkouts, &branch.job_type(), &branch.tip().await).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{kind:?}: {e}");
        assert!(e.report().contains(says), "{kind:?}: {e}");
    }
}

#[test]
fn bounds_and_folders_that_cannot_be_are_refused() {
    let runner = || Arc::new(Remembering::default());
    for folder in ["relative", "/", "/a/../b"] {
        assert_eq!(
            Checkouts::builder(folder, runner()).build().unwrap_err().kind(),
            ErrorKind::InvalidConfig
        );
    }
    let builder = || Checkouts::builder("/x", runner());
    for bad in [
        builder().max_count(0),
        builder().max_bytes(0),
        builder().max_checkout_bytes(0),
        builder().max_checkout_files(0),
        builder().timeout(Duration::ZERO),
        builder().at_once(0),
    ] {
        assert_eq!(bad.build().unwrap_err().kind(), ErrorKind::InvalidConfig);
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_said() {
    let branch = Branch::git();
    branch.commit(&[("probe", "x")]);
    let place = Place::new();
    fs::write(place.folder(), "a file").unwrap();
    let e = get(&place.checkouts(), &branch.job_type(), &branch.tip().await).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
    assert!(e.report().contains("folder of checkouts"), "{}", e.report());
}

#[tokio::test]
async fn what_a_crash_left_of_a_checkout_is_removed() {
    let branch = Branch::git();
    branch.commit(&[("probe", "x")]);
    let place = Place::new();
    // Such as from a disk that lost what was not synced.
    let torn = place.folder().join("checkouts/0123");
    fs::create_dir_all(torn.join("tree/locked")).unwrap();
    fs::set_permissions(torn.join("tree/locked"), fs::Permissions::from_mode(0o555)).unwrap();
    let left = place.folder().join("making/half");
    fs::create_dir_all(left.join("tree")).unwrap();
    get(&place.checkouts(), &branch.job_type(), &branch.tip().await).await.unwrap();
    assert!(!torn.exists() && !left.exists());
    assert_eq!((place.kept(), place.making()), (1, 0));
}
