//! Two projects, a shared dependency, and builds on Jenkins.

use crate::farm::{Farm, Kept, revision};
use capomastro_core::{
    ErrorKind,
    launch::BuildOutput,
    model::{Phase, Policy, ProjectOutcome, SlotKind},
    scheduler::TriggerRequest,
};
use capomastro_tests::person;

/// Defines them, and lets their first builds come.
async fn shared_dependency(kept: Kept, folder: &std::path::Path) -> Option<Farm> {
    let farm = Farm::new(kept, folder).await?;
    farm.define("lib", &["app", "tool"], Policy::default()).await;
    farm.define("app-main", &["app"], Policy::default()).await;
    farm.define("tool-main", &["tool"], Policy::default()).await;
    for name in ["lib", "app-main", "tool-main"] {
        farm.pass_until(300, async |f| f.is_linked(name, 1).await).await;
    }
    Some(farm)
}

async fn a_change_is_built_once_and_shown_in_both_projects(kept: Kept) {
    let folder = tempfile::tempdir().unwrap();
    let Some(farm) = shared_dependency(kept, folder.path()).await else { return };
    farm.probe.set("lib", &revision(2));
    farm.pass_until(300, async |f| f.is_linked("lib", 2).await).await;
    farm.pass(120).await;
    for (name, count) in [("lib", 2), ("app-main", 1), ("tool-main", 1)] {
        let builds = farm.builds(name).await;
        assert_eq!(builds.len(), count, "{name}");
        for (build, number) in builds.iter().zip(1..) {
            assert_eq!(build.phase, Phase::Succeeded, "{build:?}");
            assert_eq!(farm.started(build), 1, "{name} {number}");
            assert_eq!(build.built.as_ref().map(|b| b.as_str()), Some(revision(number).as_str()));
            assert_eq!(build.artifacts.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["out/it.txt"]);
            let external = build.external.clone().unwrap();
            let file = farm.launcher.artifact(&external, "out/it.txt", 0, 1_000).await.unwrap();
            assert_eq!(file.bytes, revision(number).as_bytes());
            let log = farm.launcher.log(&external, 0, 10_000).await.unwrap();
            let text = String::from_utf8_lossy(&log.bytes).into_owned();
            assert!(text.contains(&format!("building {}\n", revision(number))), "{text}");
        }
    }
    for project in ["app", "tool"] {
        let current = farm.scheduler.project_status(project).await.unwrap().current.unwrap();
        assert_eq!(current.seal.as_ref().unwrap().outcome, ProjectOutcome::Succeeded);
        let fresh = current.slots.values().filter(|s| matches!(s.kind, SlotKind::Fresh { .. })).count();
        assert_eq!((fresh, current.slots.len()), (1, 2), "{project}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_built_once_over_a_file() {
    a_change_is_built_once_and_shown_in_both_projects(Kept::File).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_built_once_over_a_database() {
    a_change_is_built_once_and_shown_in_both_projects(Kept::Database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_build_is_stopped_on_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let farm = shared_dependency(Kept::Memory, folder.path()).await.unwrap();
    farm.probe.set("lib", &revision(2));
    farm.pass_until(300, async |f| f.builds("lib").await.last().unwrap().phase == Phase::Running).await;
    let build = farm.builds("lib").await.pop().unwrap();
    farm.scheduler.cancel(build.id, &person()).await.unwrap();
    farm.pass_until(120, async |f| f.builds("lib").await[1].phase.is_terminal()).await;
    assert_eq!(farm.builds("lib").await[1].phase, Phase::Cancelled);
    let there = farm.jenkins.builds("farm/lib ö");
    assert_eq!(there.last().unwrap().result.as_deref(), Some("ABORTED"), "{there:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_lacks_a_parameter_says_so_and_builds_when_it_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let farm = shared_dependency(Kept::Memory, folder.path()).await.unwrap();
    let parameter = capomastro_testkit::jenkins::Parameter::string;
    farm.jenkins.set_parameters("farm/lib ö", [parameter("CAPOMASTRO_REVISION")]);
    farm.probe.set("lib", &revision(2));
    farm.pass(200).await;
    assert!(!farm.is_linked("lib", 2).await);
    let why = format!("{:?}", farm.scheduler.why_not_building("lib").await.unwrap());
    let last = farm.builds("lib").await.pop().unwrap();
    let told = format!("{why} {last:?}");
    assert!(told.contains("CAPOMASTRO_BUILD_ID"), "{told}");
    assert_eq!(farm.started(&last), 0);
    let parameters = ["CAPOMASTRO_BUILD_ID", "CAPOMASTRO_REVISION"];
    farm.jenkins.set_parameters("farm/lib ö", parameters.map(parameter));
    farm.scheduler.trigger("lib", TriggerRequest::manual().by(person())).await.unwrap();
    farm.pass_until(300, async |f| f.is_linked("lib", 2).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_secret_is_kept_or_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut farm = shared_dependency(Kept::Memory, folder.path()).await.unwrap();
    farm.jenkins.fault(capomastro_testkit::jenkins::Fault::proxy(502).always());
    farm.probe.set("lib", &revision(2));
    farm.pass(120).await;
    let builds = farm.builds("lib").await;
    let all =
        format!("{:?} {builds:?} {:?}", farm.launcher, farm.scheduler.why_not_building("lib").await.unwrap());
    assert!(!all.contains(capomastro_testkit::jenkins::Jenkins::TOKEN), "{all}");
    farm.jenkins.heal();
    farm.begin_again(8);
    farm.pass_until(900, async |f| f.is_linked("lib", 2).await).await;
    let gone = farm.launcher.artifact(&builds[0].external.clone().unwrap(), "../x", 0, 10).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::InvalidInput, "{gone:?}");
}
