//! What only repositories on this machine have.

use super::{
    asking::{answer, ask_for, failure, seen, within},
    repo::{Repo, git},
};
use capomastro_core::{
    ErrorKind,
    model::Relation,
    probe::{Probed, RevisionProbe},
};
use capomastro_probes::git::{GitProbe, GitSource};
use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_is_found_where_git_finds_it() {
    let repo = Repo::empty();
    let id = repo.advance("main");
    let root = repo.root.path();
    git(root, ["clone", "--quiet", "a.git", "clone"]);
    git(&root.join("clone"), ["worktree", "add", "--quiet", "--detach", "../tree"]);
    git(&root.join("tree"), ["commit", "--quiet", "--allow-empty", "-m", "in the tree"]);
    let in_tree = git(&root.join("tree"), ["rev-parse", "HEAD"]);
    let probe = GitProbe::new();
    for (path, id) in [
        ("a", &id),
        ("a.git", &id),
        ("clone", &id),
        ("clone/.git", &id),
        ("tree", &in_tree),
        ("tree/.git", &in_tree),
    ] {
        let source = GitSource::new(root.join(path).display().to_string());
        assert_eq!(seen(&probe, ask_for(source)).await.revision.as_str(), id, "{path}");
    }
    let source = GitSource::new(root.join("tree").display().to_string()).branch("main");
    assert_eq!(seen(&probe, ask_for(source)).await.revision.as_str(), id);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_repository_is_an_error() {
    let repo = Repo::empty();
    let root = repo.root.path();
    fs::create_dir(root.join("empty")).unwrap();
    fs::write(root.join("text"), "x").unwrap();
    let probe = GitProbe::new();
    for (path, kind) in [
        ("gone", ErrorKind::InvalidConfig),
        ("empty", ErrorKind::InvalidConfig),
        ("a.git/refs", ErrorKind::InvalidConfig),
        ("text", ErrorKind::Corrupt),
    ] {
        let e = failure(&probe, ask_for(GitSource::new(root.join(path).display().to_string()))).await;
        assert_eq!(e.kind(), kind, "{path}: {e:?}");
    }
    fs::write(root.join("a.git/HEAD"), "nonsense\n").unwrap();
    let e = failure(&probe, ask_for(GitSource::new(repo.url()))).await;
    assert_eq!(e.kind(), ErrorKind::Corrupt, "{e:?}");
    fs::remove_file(root.join("a.git/HEAD")).unwrap();
    let e = failure(&probe, ask_for(GitSource::new(repo.url()))).await;
    assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{e:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_damaged_ref_hurts_no_other() {
    let repo = Repo::empty();
    let id = repo.advance("main");
    for (name, content) in [
        ("empty", ""),
        ("nonsense", "nonsense\n"),
        ("missing", "0123456789012345678901234567890123456789\n"),
        ("circle", "ref: refs/heads/circle\n"),
    ] {
        fs::write(repo.path().join("refs/heads").join(name), content).unwrap();
    }
    let names = ["empty", "main", "nonsense", "missing", "circle", "gone"];
    let asks = names.map(|n| ask_for(GitSource::new(repo.url()).branch(n)));
    let answers = within(GitProbe::new().probe(&asks)).await;
    for (name, answer) in names.iter().zip(answers) {
        match (*name, answer) {
            ("main", Ok(Probed::Observed(o))) => assert_eq!(o.revision.as_str(), id),
            ("gone", Ok(Probed::NotFound)) => {}
            (_, Err(e)) => {
                assert_eq!(e.kind(), ErrorKind::Corrupt, "{name}: {e:?}");
                assert!(e.report().contains(&format!("refs/heads/{name}")), "{e:?}");
            }
            (_, other) => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_sha256_are_ids() {
    let repo = Repo::with(&["--initial-branch=main", "--object-format=sha256"]);
    let first = repo.advance("main");
    let second = repo.advance("main");
    assert_eq!(second.len(), 64);
    let mut ask = ask_for(GitSource::new(repo.url()));
    ask.accounted = Some(first.parse().unwrap());
    let seen = seen(&GitProbe::new(), ask).await;
    assert_eq!(seen.revision.as_str(), second);
    assert_eq!(seen.relation, Some(Relation::Forward { by: Some(1) }));
}

#[tokio::test(flavor = "multi_thread")]
async fn history_that_is_not_there_proves_nothing() {
    let repo = Repo::empty();
    let first = repo.advance("main");
    let second = repo.advance("main");
    let third = repo.advance("main");
    let shallow = repo.root.path().join("shallow");
    let url = format!("file://{}", repo.path().display());
    git(repo.root.path(), ["clone", "--quiet", "--depth=1", &url, "shallow"]);
    let mut ask = ask_for(GitSource::new(shallow.display().to_string()));
    ask.accounted = Some(first.parse().unwrap());
    assert_eq!(seen(&GitProbe::new(), ask.clone()).await.relation, None);
    // Nor does history that would take too long.
    ask.source = GitSource::new(repo.url()).source("git").unwrap();
    for (limit, relation) in [(0, None), (1, None), (100, Some(Relation::Forward { by: Some(2) }))] {
        let probe = GitProbe::builder().relation_limit(limit).build();
        let seen = seen(&probe, ask.clone()).await;
        assert_eq!((seen.revision.as_str(), seen.relation), (third.as_str(), relation));
    }
    assert_ne!(first, second);
}

/// A ref that is there all the time is seen at each look, while others pack and move it.
#[tokio::test(flavor = "multi_thread")]
async fn packing_meanwhile_hides_nothing() {
    let repo = Repo::empty();
    let (first, second) = (repo.advance("main"), repo.advance("main"));
    let done = AtomicBool::new(false);
    let probe = GitProbe::builder().relation_limit(0).build();
    let asks: Vec<_> = (0..8).map(|_| ask_for(GitSource::new(repo.url()).branch("main"))).collect();
    let looks = std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..100 {
                repo.git("pack-refs --all --prune");
                repo.git(&format!("update-ref refs/heads/main {first}"));
                repo.git("pack-refs --all --prune");
                repo.git(&format!("update-ref refs/heads/main {second}"));
            }
            done.store(true, Ordering::SeqCst);
        });
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let mut looks = 0;
                while !done.load(Ordering::SeqCst) {
                    for answer in within(probe.probe(&asks)).await {
                        let Ok(Probed::Observed(o)) = answer else { panic!("look {looks}: {answer:?}") };
                        assert!([&first, &second].contains(&&o.revision.to_string()));
                    }
                    looks += 1;
                }
                looks
            })
        })
    });
    assert!(looks > 100, "{looks}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let repo = Repo::empty();
    repo.advance("main");
    fs::set_permissions(repo.root.path(), fs::Permissions::from_mode(0)).unwrap();
    let readable = fs::metadata(repo.path()).is_ok();
    let answer = answer(&GitProbe::new(), ask_for(GitSource::new(repo.url()))).await;
    fs::set_permissions(repo.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if readable {
        // The superuser reads everything.
        assert!(answer.is_ok());
    } else {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
}
