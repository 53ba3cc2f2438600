//! The files of a revision are the branch's, of whatever kind it is.

use crate::{
    branches::{Branch, KINDS, Kind, run},
    support::{LONG, Place, get},
};
use capomastro_core::{ErrorKind, secret::Secrets};
use capomastro_probes::{git::GitSource, job_type::JobType};
use std::{fs, os::unix::fs::PermissionsExt as _};

#[tokio::test]
async fn each_revision_has_its_files() {
    for kind in KINDS {
        let Some(branch) = Branch::new(kind) else { continue };
        let place = Place::new();
        let checkouts = place.checkouts();
        branch.commit(&[("probe", "one"), ("lib/notes.txt", "a")]);
        let first = branch.tip().await;
        branch.commit(&[("probe", "two"), ("new", "x")]);
        let second = branch.tip().await;
        assert_ne!(first, second);
        assert_eq!(checkouts.latest(&branch.job_type(), None, &Secrets::none(), LONG).await.unwrap(), second);
        for (revision, probe, has_new) in [(&first, "one", false), (&second, "two", true)] {
            let checkout = get(&checkouts, &branch.job_type(), revision).await.unwrap();
            assert_eq!(fs::read_to_string(checkout.dir().join("probe")).unwrap(), probe, "{kind:?}");
            assert_eq!(checkout.dir().join("new").exists(), has_new, "{kind:?}");
            let mode = |name: &str| fs::metadata(checkout.dir().join(name)).unwrap().permissions().mode();
            assert_eq!(mode("probe") & 0o777, 0o555, "{kind:?}");
            assert_eq!(mode("lib/notes.txt") & 0o777, 0o444, "{kind:?}");
            assert_eq!(mode("lib") & 0o777, 0o555, "{kind:?}");
            // Nothing of the version control system, and nothing else.
            let mut names: Vec<_> = fs::read_dir(checkout.dir())
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            names.retain(|name| name != "count.txt");
            names.sort();
            let want: &[&str] = if has_new { &["lib", "new", "probe"] } else { &["lib", "probe"] };
            assert_eq!(names, want, "{kind:?}");
        }
        assert_eq!((place.kept(), place.making()), (2, 0));
    }
}

#[tokio::test]
async fn what_was_overwritten_is_used_as_long_as_it_is_here_and_then_gone() {
    for kind in [Kind::Git, Kind::Bzr, Kind::Hg] {
        let Some(branch) = Branch::new(kind) else { continue };
        let place = Place::new();
        let checkouts = place.checkouts();
        branch.commit(&[("probe", "one")]);
        branch.commit(&[("probe", "two")]);
        let overwritten = branch.tip().await;
        get(&checkouts, &branch.job_type(), &overwritten).await.unwrap();
        branch.take_back();
        branch.commit(&[("probe", "three")]);
        let now = branch.tip().await;
        assert_ne!(now, overwritten);
        let text =
            |c: &capomastro_probes::job_type::Checkout| fs::read_to_string(c.dir().join("probe")).unwrap();
        assert_eq!(text(&get(&checkouts, &branch.job_type(), &overwritten).await.unwrap()), "two");
        assert_eq!(text(&get(&checkouts, &branch.job_type(), &now).await.unwrap()), "three");
        // Elsewhere it was never checked out, and the repository has it no more. Breezy's keeps what nobody names.
        let elsewhere = Place::new();
        let got = get(&elsewhere.checkouts(), &branch.job_type(), &overwritten).await;
        if kind != Kind::Bzr {
            let e = got.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::NotFound, "{e}");
            assert_eq!((elsewhere.kept(), elsewhere.making()), (0, 0));
        } else {
            assert_eq!(text(&got.unwrap()), "two");
        }
    }
}

#[tokio::test]
async fn a_revision_that_is_none_of_this_branch_is_not_found() {
    for kind in KINDS {
        let Some(branch) = Branch::new(kind) else { continue };
        let Some(other) = Branch::new(kind) else { continue };
        branch.commit(&[("probe", "one")]);
        other.commit(&[("probe", "other")]);
        let place = Place::new();
        let e = get(&place.checkouts(), &branch.job_type(), &other.tip().await).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotFound, "{kind:?}: {}", e.report());
        assert_eq!((place.kept(), place.making()), (0, 0));
        let nonsense = "-x --help".parse().unwrap();
        let e = get(&place.checkouts(), &branch.job_type(), &nonsense).await.unwrap_err();
        assert!(
            matches!(e.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput),
            "{kind:?}: {}",
            e.report()
        );
    }
}

#[tokio::test]
async fn a_branch_that_is_not_there_is_said() {
    for kind in KINDS {
        let Some(branch) = Branch::new(kind) else { continue };
        if kind != Kind::Svn {
            fs::remove_dir_all(branch.work()).unwrap();
            fs::create_dir(branch.work()).unwrap();
        } else {
            run(
                &branch.work(),
                "svn",
                &[
                    "rm",
                    "--quiet",
                    "--non-interactive",
                    "-m",
                    "x",
                    &format!("file://{}/r/trunk", branch.root.path().display()),
                ],
            );
        }
        let checkouts = Place::new().checkouts();
        let e = checkouts.latest(&branch.job_type(), None, &Secrets::none(), LONG).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{kind:?}: {}", e.report());
    }
}

/// Servers that hand out what a branch holds and nothing by its id: the whole branch is fetched.
#[tokio::test]
async fn a_server_that_knows_no_ids_hands_out_its_branch() {
    let branch = Branch::git();
    branch.commit(&[("probe", "one")]);
    let old = branch.tip().await;
    branch.commit(&[("probe", "two")]);
    let place = Place::new();
    let runner = std::sync::Arc::<crate::support::Remembering>::clone(&place.runner);
    // The protocol of old, in which a server refuses what no branch is at.
    let probe = capomastro_probes::git::GitProbe::builder()
        .runner(runner)
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "protocol.version")
        .env("GIT_CONFIG_VALUE_0", "0")
        .build();
    let checkouts = place.builder().git(probe).build().unwrap();
    let checkout = get(&checkouts, &branch.job_type(), &old).await.unwrap();
    assert_eq!(fs::read_to_string(checkout.dir().join("probe")).unwrap(), "one");
    assert_eq!(place.runner.count("fetch"), 2);
}

#[tokio::test]
async fn hooks_filters_and_line_ends_of_the_branch_have_no_say() {
    let branch = Branch::git();
    branch.commit(&[
        (".gitattributes", "* text eol=crlf filter=evil\nprobe -text -filter\n"),
        ("probe", "a\nb\n"),
    ]);
    let place = Place::new();
    let checkout = get(&place.checkouts(), &branch.job_type(), &branch.tip().await).await.unwrap();
    assert_eq!(fs::read_to_string(checkout.dir().join("probe")).unwrap(), "a\nb\n");
    // A source that looks like an option is a path to git.
    let odd = JobType::Git(GitSource::new("/--upload-pack=touch").branch("main"));
    assert!(place.checkouts().latest(&odd, None, &Secrets::none(), LONG).await.is_err());
}
