//! What scripts of job types are told, and what their answers mean.

use crate::{
    branches::{Branch, KINDS},
    support::Place,
};
use capomastro_core::{
    Error, ErrorKind,
    model::{Revision, Source},
    probe::{Ask, Probed, RevisionProbe as _},
    secret::Secrets,
};
use capomastro_probes::job_type::{JobTypeProbe, JobTypeSource};
use capomastro_process::ProcessRunner;
use std::{fs, sync::Arc, time::Duration};

const TELLS: &str = r#"#!/bin/sh
{
  echo "args $*"
  echo "dependency $CAPOMASTRO_DEPENDENCY"
  echo "source $CAPOMASTRO_SOURCE"
  echo "observed $CAPOMASTRO_OBSERVED"
  echo "accounted $CAPOMASTRO_ACCOUNTED"
  echo "last $CAPOMASTRO_LAST_BUILD_UNIX"
  echo "dir $JOB_TYPE_DIR"
  echo "revision $JOB_TYPE_REVISION"
  echo "beside $(cat "${0%/*}/beside.txt")"
  echo "own $OWN"
} >"$CAPOMASTRO_SOURCE"
echo r1
"#;

fn probe(place: &Place) -> JobTypeProbe {
    JobTypeProbe::new(place.checkouts(), Arc::new(ProcessRunner::new()))
}

async fn look(probe: &JobTypeProbe, ask: Ask) -> Result<Probed, Error> {
    probe.probe(&[ask]).await.remove(0)
}

fn ask(source: &Source) -> Ask {
    Ask::new("lib foo".parse().unwrap(), source.clone(), Duration::from_secs(60), Secrets::none())
}

fn revision(text: &str) -> Option<Revision> {
    Some(text.parse().unwrap())
}

#[tokio::test]
async fn a_script_is_told_the_facts_of_its_dependency() {
    for kind in KINDS {
        let Some(branch) = Branch::new(kind) else { continue };
        branch.commit(&[("bin/tell", TELLS), ("bin/beside.txt", "a neighbour")]);
        let place = Place::new();
        let told = place.root.path().join("told");
        let source = JobTypeSource::token(branch.job_type())
            .probe(["bin/tell", "a b", "$HOME"])
            .source(told.to_str().unwrap())
            .env("OWN", "mine")
            .into_source("job-type")
            .unwrap();
        let mut ask = ask(&source);
        ask.seen = revision("r0");
        ask.accounted = revision("r-1");
        ask.last_start = Some("2026-03-01T12:00:00.5Z".parse().unwrap());
        let probe = probe(&place);
        assert_eq!(look(&probe, ask).await.unwrap(), Probed::revision("r1").unwrap());
        let (tip, folder) = (branch.tip().await, place.folder());
        let text = fs::read_to_string(&told).unwrap();
        let of = |what: &str| text.lines().find_map(|l| l.strip_prefix(what)).unwrap().trim().to_owned();
        assert_eq!(of("args "), "a b $HOME");
        assert_eq!(of("dependency "), "lib foo");
        assert_eq!(of("source "), told.to_str().unwrap());
        assert_eq!((of("observed "), of("accounted ")), ("r0".into(), "r-1".into()));
        assert_eq!(of("last "), "1772366400");
        assert!(of("dir ").starts_with(folder.to_str().unwrap()), "{text}");
        assert_eq!(of("revision "), tip.as_str());
        assert_eq!((of("beside "), of("own ")), ("a neighbour".into(), "mine".into()));
    }
}

/// True or false, by whether a file is there; and the revision that stands in one.
const CHANGED: &str = "#!/bin/sh\ntest -e \"$CAPOMASTRO_SOURCE\"\n";
const TOKEN: &str = "#!/bin/sh\ncat \"$CAPOMASTRO_SOURCE\"\n";

#[tokio::test]
async fn dependencies_share_a_branch_each_in_its_language() {
    let branch = Branch::git();
    branch.commit(&[("changed", CHANGED), ("probe", TOKEN)]);
    let place = Place::new();
    let (file, other) = (place.root.path().join("there"), place.root.path().join("revision"));
    let changed = JobTypeSource::changed(branch.job_type()).probe(["changed"]).source(file.to_str().unwrap());
    let changed = changed.into_source("job-type").unwrap();
    let token = JobTypeSource::token(branch.job_type()).source(other.to_str().unwrap());
    let token = token.into_source("job-type").unwrap();
    let probe = probe(&place);
    assert_eq!(look(&probe, ask(&changed)).await.unwrap(), Probed::Nothing);
    fs::write(&file, "").unwrap();
    assert_eq!(look(&probe, ask(&changed)).await.unwrap(), Probed::revision("1").unwrap());
    let mut seen = ask(&changed);
    (seen.seen, seen.accounted) = (revision("1"), revision("1"));
    assert_eq!(look(&probe, seen.clone()).await.unwrap(), Probed::revision("2").unwrap());
    fs::remove_file(&file).unwrap();
    assert_eq!(look(&probe, seen).await.unwrap(), Probed::SameAsSeen);
    fs::write(&other, "v7\n").unwrap();
    assert_eq!(look(&probe, ask(&token)).await.unwrap(), Probed::revision("v7").unwrap());
    assert_eq!(place.kept(), 1, "one checkout for both");
    assert_eq!(place.runner.count("checkout"), 1);
}

#[tokio::test]
async fn a_change_of_the_branch_counts_where_it_is_to_count() {
    let branch = Branch::git();
    branch.commit(&[("probe", "#!/bin/sh\necho r1\n")]);
    let place = Place::new();
    let probe = probe(&place);
    for rebuild in [false, true] {
        let source = JobTypeSource::token(branch.job_type()).rebuild_on_type_change(rebuild);
        let source = source.into_source("job-type").unwrap();
        let Probed::Observed(first) = look(&probe, ask(&source)).await.unwrap() else { panic!() };
        branch.commit(&[("unused.txt", if rebuild { "a" } else { "b" })]);
        let Probed::Observed(second) = look(&probe, ask(&source)).await.unwrap() else { panic!() };
        assert_eq!(first.revision != second.revision, rebuild);
        assert!(second.revision.as_str().ends_with("r1"));
        assert_eq!(second.revision.as_str().contains(branch.tip().await.as_str()), rebuild);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_script_is_said() {
    let branch = Branch::git();
    branch.commit(&[
        ("fails", "#!/bin/sh\necho oh no >&2; exit 4\n"),
        ("lies", "#!/bin/sh\necho job-type:abc:r1\n"),
        ("many", "#!/bin/sh\nseq 10\n"),
        ("no-program", "#!/no/such/interpreter\n"),
        ("plain.txt", "#!/bin/sh\necho r1\n"),
    ]);
    let place = Place::new();
    let probe = probe(&place);
    for (script, kind, says) in [
        ("fails", ErrorKind::Unavailable, "oh no"),
        ("lies", ErrorKind::Corrupt, "job-type:"),
        ("many", ErrorKind::Corrupt, "several lines"),
        ("no-program", ErrorKind::InvalidConfig, ""),
        ("plain.txt", ErrorKind::InvalidConfig, "chmod +x"),
        ("nowhere", ErrorKind::InvalidConfig, "not in the branch"),
    ] {
        let source = JobTypeSource::token(branch.job_type()).probe([script]).into_source("job-type").unwrap();
        let e = look(&probe, ask(&source)).await.unwrap_err();
        assert_eq!(e.kind(), kind, "{script}: {}", e.report());
        let report = e.report();
        assert!(report.contains(says) && report.contains(script), "{script}: {report}");
        assert!(report.contains(branch.tip().await.as_str()), "{script}: {report}");
    }
}

/// A script cannot leave anything where the next look, or another dependency, would find it.
#[tokio::test]
async fn a_script_runs_in_an_empty_folder_of_its_own() {
    let branch = Branch::git();
    branch.commit(&[("probe", "#!/bin/sh\n: >left; ls -A | wc -l\n")]);
    let place = Place::new();
    let source = JobTypeSource::token(branch.job_type()).into_source("job-type").unwrap();
    let probe = probe(&place);
    for _ in 0..2 {
        assert_eq!(look(&probe, ask(&source)).await.unwrap(), Probed::revision("1").unwrap());
    }
}
