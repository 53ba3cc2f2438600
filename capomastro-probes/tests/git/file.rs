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
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
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
    // The library also looks for refs in folders beside refs/.
    fs::create_dir_all(repo.path().join("tags/refs/heads")).unwrap();
    fs::write(repo.path().join("tags/refs/heads/gone"), format!("{id}\n")).unwrap();
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

/// A ref is seen at each look after it was made, while git packs it: it is in `packed-refs` before it stops being loose.
#[tokio::test(flavor = "multi_thread")]
async fn packing_meanwhile_hides_nothing() {
    const ROUNDS: usize = 2_000;
    let repo = Repo::empty();
    let id = repo.advance("main");
    let (made, looked) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let probe = GitProbe::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let replace = |path: &Path, text: &str| {
                let new = repo.path().join("new");
                fs::write(&new, text).unwrap();
                fs::rename(&new, path).unwrap();
            };
            for round in 1..=ROUNDS {
                let name = format!("refs/heads/b{round}");
                let loose = repo.path().join(&name);
                replace(&loose, &format!("{id}\n"));
                made.store(round, Ordering::SeqCst);
                if round % 100 == 0 {
                    repo.git("pack-refs --all --prune");
                } else {
                    // The steps of git pack-refs, at another moment of the look each time.
                    (0..round * 10).for_each(|_| std::hint::spin_loop());
                    replace(
                        &repo.path().join("packed-refs"),
                        &format!("# pack-refs with: peeled fully-peeled sorted \n{id} {name}\n"),
                    );
                    fs::remove_file(&loose).unwrap();
                }
                while looked.load(Ordering::SeqCst) < round {
                    std::thread::yield_now();
                }
            }
        });
        tokio::task::block_in_place(|| {
            for round in 1..=ROUNDS {
                while made.load(Ordering::SeqCst) < round {
                    std::thread::yield_now();
                }
                let ask = ask_for(GitSource::new(repo.url()).branch(format!("b{round}")));
                let answer = tokio::runtime::Handle::current().block_on(answer(&probe, ask));
                let seen = matches!(&answer, Ok(Probed::Observed(o)) if o.revision.as_str() == id);
                // A failure lets the other thread go on to its end.
                looked.store(if seen { round } else { usize::MAX }, Ordering::SeqCst);
                assert!(seen, "round {round}: {answer:?}");
            }
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let repo = Repo::empty();
    repo.advance("main");
    fs::set_permissions(repo.root.path(), fs::Permissions::from_mode(0o000)).unwrap();
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
