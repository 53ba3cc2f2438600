//! Two projects, a shared dependency, on the machine's clock: a change is built once, and what it left can be read.

use super::{
    jobs::{Does, Jobs},
    played::{Doubled, Player, Shell},
    server::Server,
};
use capomastro_core::{
    InMemoryStore, Scheduler,
    launch::BuildOutput as _,
    model::{Build, Phase, Policy, ProjectOutcome, SlotKind},
    scheduler::DependencySpec,
    time::{Clock as _, SystemClock},
};
use capomastro_jenkins::{JenkinsJob, JenkinsLauncher};
use capomastro_testkit::{ScriptedProbe, jenkins::Jenkins};
use capomastro_tests::within;
use std::{sync::Arc, time::Duration};

/// How long a change may take from the source to its project.
const PATIENCE: Duration = Duration::from_secs(180);
const NAMES: [&str; 3] = ["lib", "app-main", "tool-main"];

struct World {
    probe: ScriptedProbe,
    launcher: JenkinsLauncher,
    scheduler: Scheduler,
}

fn revision(number: u64) -> String {
    format!("{number:040x}")
}

impl World {
    fn new(server: &Server) -> Self {
        let launcher = server.launcher(&server.url).build().unwrap();
        let probe = ScriptedProbe::new();
        let scheduler = Scheduler::builder(Arc::new(InMemoryStore::new(Arc::new(SystemClock))))
            .probe("scripted", Arc::new(probe.clone()))
            .launcher("jenkins", Arc::new(launcher.clone()))
            .build()
            .unwrap();
        Self { probe, launcher, scheduler }
    }

    async fn define(&self, name: &str, job: String, projects: &[&str]) {
        self.probe.set(name, &revision(1));
        let policy = Policy::default().with_look_every(Duration::from_secs(2));
        let mut spec = DependencySpec::new(name, ScriptedProbe::source(name), "jenkins")
            .unwrap()
            .with_job(JenkinsJob::new(job))
            .with_policy(policy);
        for project in projects {
            spec = spec.in_project(project).unwrap();
        }
        self.scheduler.apply(&spec).await.unwrap();
    }

    /// The builds of a dependency, oldest first.
    async fn builds(&self, name: &str) -> Vec<Build> {
        let (mut builds, _) = self.scheduler.history(name, None, 100).await.unwrap();
        builds.reverse();
        builds
    }

    /// Works until the dependency is linked at this revision.
    async fn until_linked(&self, name: &str, number: u64) {
        within(PATIENCE, async {
            loop {
                self.scheduler.tick().await.unwrap();
                let linked = self.scheduler.status(name).await.unwrap().state.linked;
                if linked.is_some_and(|linked| linked.revision.as_str() == revision(number)) {
                    return;
                }
                SystemClock.sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
    }
}

async fn a_change_is_built_once(jobs: &Jobs, player: &dyn Player) {
    let world = World::new(jobs.server());
    for (name, projects) in NAMES.into_iter().zip([&["app", "tool"][..], &["app"], &["tool"]]) {
        player.make(jobs, name, Does::Build).await;
        world.define(name, jobs.name(name), projects).await;
    }
    for name in NAMES {
        world.until_linked(name, 1).await;
    }
    world.probe.set("lib", &revision(2));
    world.until_linked("lib", 2).await;
    for (name, count) in NAMES.into_iter().zip([2, 1, 1]) {
        let builds = world.builds(name).await;
        assert_eq!(builds.len(), count, "{name}: {builds:?}");
        for (build, number) in builds.iter().zip(1..) {
            assert_eq!(build.phase, Phase::Succeeded, "{build:?}");
            let names: Vec<&str> = build.artifacts.iter().map(|a| a.name.as_str()).collect();
            assert_eq!(names, ["out/it.txt"], "{name}");
            let external = build.external.clone().unwrap();
            let file = world.launcher.artifact(&external, "out/it.txt", 0, 1_000).await.unwrap();
            assert_eq!(file.bytes, revision(number).as_bytes(), "{name}");
            let log = world.launcher.log(&external, 0, 100_000).await.unwrap();
            let text = String::from_utf8_lossy(&log.bytes).into_owned();
            assert!(text.contains(&format!("building {}\n", revision(number))), "{name}: {text}");
        }
    }
    for project in ["app", "tool"] {
        let current = world.scheduler.project_status(project).await.unwrap().current.unwrap();
        assert_eq!(current.seal.as_ref().unwrap().outcome, ProjectOutcome::Succeeded, "{project}");
        let fresh = current.slots.values().filter(|s| matches!(s.kind, SlotKind::Fresh { .. })).count();
        assert_eq!((fresh, current.slots.len()), (1, 2), "{project}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_built_once_on_a_real_server() {
    if !Server::is_named("a scheduler whose builds run on a real Jenkins server") {
        return;
    }
    let jobs = Jobs::new(Server::named().unwrap());
    a_change_is_built_once(&jobs, &Shell).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scenario_can_be_played_on_the_double() {
    let jenkins = Jenkins::builder().executors(4).context_path("/ci").start().await.unwrap();
    let player = Doubled::new(jenkins);
    let jobs = Jobs::new(Server::double(&player.jenkins));
    a_change_is_built_once(&jobs, &player).await;
    let made = player.jenkins.jobs();
    assert_eq!(made.len(), 3, "{made:?}");
    drop(jobs);
    assert!(player.jenkins.jobs().is_empty(), "what was made is deleted: {:?}", player.jenkins.jobs());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_that_fails_leaves_no_job_and_touches_no_other() {
    let jenkins = Jenkins::builder().context_path("/ci").start().await.unwrap();
    jenkins.define_job(capomastro_testkit::jenkins::JobSpec::freestyle("of somebody else"));
    let player = Doubled::new(jenkins.clone());
    let failed = tokio::spawn(async move {
        let jobs = Jobs::new(Server::double(&player.jenkins));
        let name = jobs.name("it");
        player.make(&jobs, "it", Does::Hold).await;
        player.jenkins.trigger(&name, &[("CAPOMASTRO_BUILD_ID", "1")], "somebody").unwrap();
        assert_eq!(player.jenkins.jobs().len(), 1, "it fails here");
    });
    assert!(failed.await.unwrap_err().is_panic());
    assert_eq!(jenkins.jobs(), ["of somebody else"]);
    assert!(jenkins.queue().is_empty());
}
