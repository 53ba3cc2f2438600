//! Repositories on this machine, most of which have not changed since the last look.

use super::{
    asking::{answer, ask_for, failure, seen},
    repo::{Repo, clean, run},
    runner::Remembering,
};
use capomastro_core::{
    ErrorKind,
    model::Observation,
    probe::{Ask, Probed, RevisionProbe},
};
use capomastro_probes::svn::{SvnProbe, SvnSource};
use std::{fs, sync::Arc};

fn probe(runner: &Arc<Remembering>) -> SvnProbe {
    SvnProbe::builder().runner(Arc::<Remembering>::clone(runner)).build()
}

/// The ask of somebody who has seen that.
fn again(source: SvnSource, observation: &Observation) -> Ask {
    let mut ask = ask_for(source);
    (ask.seen, ask.cursor) = (Some(observation.revision.clone()), observation.cursor.clone());
    ask
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_committed_to_needs_no_program() {
    let Some(repo) = Repo::new() else { return };
    let (runner, source) = (Remembering::new(), || SvnSource::new(repo.url()).path("trunk"));
    let probe = probe(&runner);
    let mut first = seen(&probe, ask_for(source())).await;
    assert_eq!(runner.commands().len(), 1);
    assert_eq!(runner.commands()[0].reads, [repo.path()]);
    for _ in 0..3 {
        assert_eq!(answer(&probe, again(source(), &first)).await.unwrap(), Probed::SameAsSeen);
    }
    assert_eq!(runner.commands().len(), 1);
    // No runner is needed to see that.
    assert_eq!(answer(&SvnProbe::new(), again(source(), &first)).await.unwrap(), Probed::SameAsSeen);
    let e = failure(&SvnProbe::new(), ask_for(source())).await;
    assert_eq!(e.kind(), ErrorKind::Unsupported);

    // A commit elsewhere: the same revision, and another cursor.
    repo.commit(&["mkdir", "other"]);
    let second = seen(&probe, again(source(), &first)).await;
    assert_eq!(second.revision, first.revision);
    assert_ne!(second.cursor, first.cursor);
    assert_eq!(answer(&probe, again(source(), &second)).await.unwrap(), Probed::SameAsSeen);
    assert_eq!(runner.commands().len(), 2);

    // Another path is another matter, and the cursor of one way says nothing in another.
    let other = seen(&probe, again(source().path("other"), &second)).await;
    assert_eq!(other.display.as_deref(), Some("r2"));
    let always = SvnProbe::builder().runner(Remembering::new()).always_program(true).build();
    assert_eq!(seen(&always, again(source(), &second)).await.revision, first.revision);

    // Whatever replaces the repository is looked at, even if all numbers are the same.
    for change in ["commit", "setuuid", "copy", "restore"] {
        first = seen(&probe, ask_for(source())).await;
        let before = runner.commands().len();
        match change {
            "commit" => drop(repo.put("trunk/f", "two")),
            "setuuid" => drop(repo.admin(&["setuuid"], &[])),
            "copy" => {
                let copy = repo.root.path().join("copy");
                run(clean("svnadmin").arg("hotcopy").arg(repo.path()).arg(&copy));
                fs::remove_dir_all(repo.path()).unwrap();
                fs::rename(copy, repo.path()).unwrap();
            }
            _ => repo.restore(&repo.dump(repo.head())),
        }
        seen(&probe, again(source(), &first)).await;
        assert_eq!(runner.commands().len(), before + 1, "{change}");
    }
}

/// The way through the svn program saves its second run.
#[tokio::test(flavor = "multi_thread")]
async fn the_program_is_run_once_where_nothing_was_committed() {
    let Some(repo) = Repo::new() else { return };
    repo.commit(&["mkdir", "other"]);
    let (runner, source) = (Remembering::new(), || SvnSource::new(repo.url()).path("trunk"));
    let probe = SvnProbe::builder().runner(Arc::<Remembering>::clone(&runner)).always_program(true).build();
    let first = seen(&probe, ask_for(source())).await;
    assert_eq!(runner.commands().len(), 2);
    assert_eq!(answer(&probe, again(source(), &first)).await.unwrap(), Probed::SameAsSeen);
    assert_eq!(runner.commands().len(), 3);
    let command = &runner.commands()[2];
    assert_eq!(command.reads, [repo.path()]);
    assert!(command.args.iter().any(|a| a == "--non-interactive"));
    // Another date, another content under the same number.
    let mut other = first.clone();
    other.revision = first.revision.to_string().replace('Z', "1Z").parse().unwrap();
    assert_eq!(seen(&probe, again(source(), &other)).await.revision, first.revision);
}

/// Rules of access are for those who come from elsewhere; who may read the files reads them.
#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_of_the_server_has_no_say() {
    let Some(repo) = Repo::new() else { return };
    repo.configure("svnserve.conf", "[general]\nanon-access = none\nauth-access = none\nauthz-db = authz\n");
    repo.configure("authz", "[/]\n* =\n");
    for always in [false, true] {
        let probe = SvnProbe::builder().runner(Remembering::new()).always_program(always).build();
        let seen = seen(&probe, ask_for(SvnSource::new(repo.url()).path("trunk"))).await;
        assert_eq!(seen.display.as_deref(), Some("r1"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_repository_is_told() {
    let Some(repo) = Repo::new() else { return };
    let copy = repo.root.path().join("copy");
    run(clean("svn").args(["checkout", "-q"]).arg(format!("file://{}/trunk", repo.url())).arg(&copy));
    let cases = [
        (copy.display().to_string(), "working copy"),
        (repo.root.path().display().to_string(), "no Subversion repository"),
        (format!("{}/nothing", repo.root.path().display()), "no such repository"),
    ];
    for always in [false, true] {
        let probe = SvnProbe::builder().runner(Remembering::new()).always_program(always).build();
        for (url, said) in &cases {
            let e = failure(&probe, ask_for(SvnSource::new(url).path("trunk"))).await;
            assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{e:?}");
            assert!(e.report().contains(said), "{e:?}");
        }
    }
    // A repository that is damaged, or is being replaced, is not one without the path.
    fs::remove_file(repo.path().join("db/current")).unwrap();
    for always in [false, true] {
        let probe = SvnProbe::builder().runner(Remembering::new()).always_program(always).build();
        let e = failure(&probe, ask_for(SvnSource::new(repo.url()).path("trunk"))).await;
        assert_ne!(e.kind(), ErrorKind::NotFound, "{e:?}");
    }
}

/// A commit between the questions of one look: they are asked again.
#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_changes_meanwhile_is_looked_at_as_a_whole() {
    let Some(repo) = Repo::new() else { return };
    let dir = repo.root.path();
    // An svnserve during whose first run something is committed.
    let mucc = format!("svnmucc --non-interactive -m x -U file://{} mkdir branch >/dev/null", repo.url());
    let script = format!(
        "#!/bin/sh\nif [ ! -e {0}/ran ]; then : >{0}/ran; svnserve \"$@\" >{0}/said; {mucc}\n\
         sed 's/\\(.*( success ( \\)1 ) ) $/\\12 ) ) /' {0}/said; else exec svnserve \"$@\"; fi\n",
        dir.display()
    );
    let program = dir.join("svnserve");
    fs::write(&program, script).unwrap();
    run(clean("chmod").arg("755").arg(&program));
    let runner = Remembering::new();
    let probe = SvnProbe::builder().runner(Arc::<Remembering>::clone(&runner)).svnserve(&program).build();
    let asks: Vec<Ask> = ["trunk", "branch"].map(|p| ask_for(SvnSource::new(repo.url()).path(p))).into();
    let answers = probe.probe(&asks).await;
    let at: Vec<Option<String>> = answers
        .into_iter()
        .map(|a| match a.unwrap() {
            Probed::Observed(o) => o.display,
            _ => None,
        })
        .collect();
    assert_eq!(at, [Some("r1".to_owned()), Some("r2".to_owned())]);
    assert_eq!(runner.commands().len(), 2);
}
