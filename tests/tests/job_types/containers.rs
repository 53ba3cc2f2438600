//! Job types whose scripts run inside containers.

use crate::repository::{Branch, folder};
use capomastro_core::{
    async_trait,
    launch::{
        BuildLauncher as _, BuildOutput as _, Journal, LaunchRequest, Launched, Outcome, Seen, SendBefore,
    },
    model::{BuildId, LaunchKey},
    probe::{Ask, Probed, RevisionProbe as _},
    secret::Secrets,
    time::{Clock as _, Monotonic, SystemClock, SystemRandom},
};
use capomastro_lxc::{LxcLauncher, LxcRunner, Root};
use capomastro_probes::job_type::{
    Checkouts, JobTypeJob, JobTypeLauncher, JobTypeProbe, JobTypeSource, lxc_job,
};
use capomastro_process::ProcessRunner;
use std::{path::Path, process::Command, sync::Arc, time::Duration};

/// Whether there are containers on this machine. Loud where not, and a failure where all tests must run.
fn there_are_containers() -> bool {
    let there = Command::new("lxc-execute").arg("--version").output().is_ok_and(|o| o.status.success())
        && rustix::process::geteuid().is_root();
    if !there {
        assert!(std::env::var_os("CI").is_none(), "tests of containers need root, and the package lxc");
        eprintln!("SKIPPED: job types inside LXC containers (needs root and the package lxc)");
    }
    there
}

/// Tells the pid namespace, and whether the files of the branch may be written.
const SCRIPT: &str = "#!/bin/sh\n\
    touch \"$JOB_TYPE_DIR/x\" 2>/dev/null && echo written && exit\n\
    [ -e \"$HIDDEN\" ] && echo sees && exit\n\
    . \"$JOB_TYPE_DIR/lib\"\n";

fn checkouts(at: &Path) -> Checkouts {
    let runner = Arc::new(ProcessRunner::new());
    Checkouts::builder(at.join("job-types"), runner).build().unwrap()
}

fn runner(at: &Path) -> LxcRunner {
    LxcRunner::builder(at.join("containers"), Root::Host).build().unwrap()
}

fn branch() -> Branch {
    let branch = Branch::new();
    branch.commit(&[
        ("probe", SCRIPT),
        ("build", SCRIPT),
        ("lib", "echo \"from inside $(readlink /proc/self/ns/pid | tr -dc 0-9)\"\n"),
    ]);
    branch
}

/// The namespace of process ids in which this test runs.
fn outside() -> String {
    let link = std::fs::read_link("/proc/self/ns/pid").unwrap();
    link.to_str().unwrap().chars().filter(char::is_ascii_digit).collect()
}

#[tokio::test]
async fn a_probe_script_runs_inside_with_the_branch_beside_it() {
    if !there_are_containers() {
        return;
    }
    let (at, branch) = (folder(), branch());
    let probe = JobTypeProbe::new(checkouts(at.path()), Arc::new(runner(at.path())));
    let hidden = at.path().join("hidden");
    std::fs::write(&hidden, "").unwrap();
    let source = JobTypeSource::token(branch.job_type()).env("HIDDEN", hidden.to_str().unwrap());
    let source = source.into_source("job-type").unwrap();
    let ask = Ask::new("lib".parse().unwrap(), source, Duration::from_secs(60), Secrets::none());
    let Probed::Observed(seen) = probe.probe(&[ask]).await.remove(0).unwrap() else { panic!("nothing seen") };
    let revision = seen.revision.to_string();
    assert!(revision.starts_with("from inside ") && !revision.contains(&outside()), "{revision}");
}

#[derive(Debug)]
struct Forgets;

#[async_trait]
impl Journal for Forgets {
    async fn keep(&self, _: serde_json::Value) -> capomastro_core::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_build_script_runs_inside_with_the_branch_beside_it() {
    if !there_are_containers() {
        return;
    }
    let (at, branch) = (folder(), branch());
    let launcher = LxcLauncher::builder(at.path().join("builds"), &runner(at.path()))
        .allow_reads(at.path().join("job-types"))
        .build()
        .unwrap();
    let by_type = JobTypeLauncher::new(checkouts(at.path()), Arc::new(launcher.clone()), lxc_job);
    let job = JobTypeJob::new(branch.job_type());
    by_type.check_job(&job.clone().into()).unwrap();
    let build = BuildId::draw(SystemClock.now(), &SystemRandom);
    let request = LaunchRequest::new(
        build,
        LaunchKey::of(build),
        "lib".parse().unwrap(),
        1,
        "r1".parse().unwrap(),
        1,
        job.into(),
        Duration::from_secs(60),
        SendBefore(Monotonic(Duration::MAX)),
        Secrets::none(),
    );
    let Launched::Accepted(external) = by_type.launch(&request, &Forgets).await.unwrap() else {
        panic!("refused")
    };
    let ended = loop {
        let report = by_type.observe(&[(request.key, external.clone())]).await.remove(0).unwrap();
        if let Seen::Ended(ended) = report.seen {
            break ended;
        }
        SystemClock.sleep(Duration::from_millis(20)).await;
    };
    let log = String::from_utf8(launcher.log(&external, 0, 10_000).await.unwrap().bytes).unwrap();
    assert_eq!(ended.outcome, Outcome::Succeeded, "{ended:?}: {log}");
    assert!(log.starts_with("from inside ") && !log.contains(&outside()), "{log}");
}
