//! A process that is killed in the middle of a checkout.

use crate::{
    branches::Branch,
    support::{Place, get},
};
use capomastro_core::time::{Clock as _, SystemClock};
use capomastro_probes::{
    git::{GitProbe, GitSource},
    job_type::{Checkouts, JobType},
};
use capomastro_process::ProcessRunner;
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

const ROOT: &str = "CAPOMASTRO_TEST_JOB_TYPES";
const BRANCH: &str = "CAPOMASTRO_TEST_JOB_TYPE";

/// A git that says when it has begun to write files, writes half of them, and stays.
const SLOW: &str = r#"#!/bin/sh
PATH=/usr/local/bin:/usr/bin:/bin
export PATH
case " $* " in
*" checkout "*)
  echo half >"$GIT_WORK_TREE/probe"
  : >"${0%/*}/writing"
  while [ -e "${0%/*}/wait" ]; do sleep 0.02; done
  exit 1;;
esac
exec git "$@"
"#;

/// Checks out. As the process that the other test kills, it is given a folder and never gets to the end.
#[tokio::test]
async fn a_process_checks_out() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let runner = Arc::new(ProcessRunner::new());
    let git = Path::new(&root).join("git");
    let probe = GitProbe::builder().runner(Arc::<ProcessRunner>::clone(&runner)).git(git).build();
    let folder = Path::new(&root).join("job-types");
    let checkouts = Checkouts::builder(folder, runner).git(probe).build().unwrap();
    let job_type = JobType::Git(GitSource::new(std::env::var(BRANCH).unwrap()).branch("main"));
    let at = checkouts
        .latest(&job_type, None, &capomastro_core::secret::Secrets::none(), Duration::from_secs(60))
        .await
        .unwrap();
    drop(get(&checkouts, &job_type, &at).await);
}

fn start(place: &Place, branch: &Branch) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::a_process_checks_out", "--nocapture"])
        .env(ROOT, place.root.path())
        .env(BRANCH, branch.work())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if is_so() {
            return;
        }
        SystemClock.sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain: {what}");
}

#[tokio::test]
async fn what_a_killed_process_left_half_done_is_never_used() {
    let branch = Branch::git();
    branch.commit(&[("probe", "whole")]);
    let place = Place::new();
    let git = place.root.path().join("git");
    fs::write(&git, SLOW).unwrap();
    fs::set_permissions(&git, fs::Permissions::from_mode(0o755)).unwrap();
    let (writing, wait) = (place.root.path().join("writing"), place.root.path().join("wait"));
    fs::write(&wait, "").unwrap();
    let mut victim = start(&place, &branch);
    until("the checkout has begun", || writing.exists()).await;
    assert_eq!((place.kept(), place.making()), (0, 1));

    // As long as it lives, what it does is its own.
    let checkouts = place.checkouts();
    checkouts.sweep().await.unwrap();
    assert_eq!(place.making(), 1);

    victim.kill().unwrap();
    victim.wait().unwrap();
    let checkout = get(&checkouts, &branch.job_type(), &branch.tip().await).await.unwrap();
    assert_eq!(fs::read_to_string(checkout.dir().join("probe")).unwrap(), "whole");
    fs::remove_file(&wait).unwrap();
    checkouts.sweep().await.unwrap();
    assert_eq!((place.kept(), place.making()), (1, 0));
}
