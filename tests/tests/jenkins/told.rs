//! What Jenkins tells of its own accord, from the server through the receiver to a scheduler that looks sooner.

use crate::farm::{Farm, ID, Kept, revision};
use capomastro_core::{
    model::{Build, Phase, Policy},
    scheduler::DependencySpec,
    time::{Clock as _, SystemClock, SystemRandom},
};
use capomastro_jenkins::{
    JenkinsJob,
    notify::{Notifications, draw_segment},
};
use capomastro_testkit::{
    ScriptedProbe,
    jenkins::{Endpoint, JobSpec, Script},
};
use std::time::Duration;

const JOB: &str = "farm/long";

/// A build that would run for a day, on a server that tells the receiver of what happens.
async fn running(farm: &Farm, receiver: &Notifications, segment: &str) -> Build {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks/{segment}", listener.local_addr().unwrap());
    let app = axum::Router::new().nest("/hooks", receiver.routes());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let spec = JobSpec::freestyle(JOB).string(ID).string("CAPOMASTRO_REVISION").notifies(Endpoint::all(url));
    farm.jenkins.define_job(spec.runs_with(|_| Script::succeeds_after(Duration::from_secs(86_400))));
    farm.probe.set("long", &revision(1));
    let spec = DependencySpec::new("long", ScriptedProbe::source("long"), "jenkins").unwrap();
    let policy = Policy::default().with_look_every(Duration::from_secs(86_400));
    farm.scheduler.apply(&spec.with_job(JenkinsJob::new(JOB)).with_policy(policy)).await.unwrap();
    farm.pass_until(60, async |f| f.builds("long").await.last().is_some_and(|b| b.phase == Phase::Running))
        .await;
    // Looks are far apart by now.
    farm.pass(600).await;
    farm.builds("long").await.pop().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_the_server_tells_of_is_seen_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let farm = Farm::new(Kept::Memory, folder.path()).await.unwrap();
    let segment = draw_segment(&SystemRandom);
    let receiver = Notifications::new(segment.clone()).unwrap();
    let build = running(&farm, &receiver, segment.expose()).await;
    // What came of its start says nothing of its end.
    for message in farm.jenkins.messages() {
        assert_eq!(message.send().await.unwrap(), 204);
    }
    let forwarding = tokio::spawn({
        let (receiver, scheduler) = (receiver.clone(), farm.scheduler.clone());
        async move { receiver.forward(&scheduler, std::future::pending()).await }
    });
    // Until what was told of the start has been looked at, and nothing more comes of it.
    let (mut seen, mut quiet) = (0, 0);
    while quiet < 40 {
        farm.settle().await;
        SystemClock.sleep(Duration::from_millis(5)).await;
        let served = farm.jenkins.served().len();
        quiet = if served == seen { quiet + 1 } else { 0 };
        seen = served;
    }
    let number = farm.jenkins.builds(JOB)[0].number;
    assert!(farm.jenkins.finish(JOB, number, "SUCCESS"));
    farm.settle().await;
    assert_eq!(farm.builds("long").await[0].phase, Phase::Running, "nobody has looked yet");

    let messages = farm.jenkins.messages();
    let phases: Vec<&str> = messages.iter().map(|m| m.phase.as_str()).collect();
    assert!(phases.contains(&"FINALIZED"), "{phases:?}");
    for message in &messages {
        assert_eq!(message.send().await.unwrap(), 204);
    }
    // No time passes for the scheduler: a look comes because of what was told, or not at all.
    let began = SystemClock.monotonic();
    while farm.builds("long").await[0].phase == Phase::Running {
        assert!(SystemClock.monotonic().since(began) < Duration::from_secs(30), "nobody looks");
        SystemClock.sleep(Duration::from_millis(5)).await;
        farm.scheduler.tick().await.unwrap();
    }
    assert_eq!(farm.builds("long").await[0].phase, Phase::Succeeded);
    assert_eq!(farm.started(&build), 1);
    forwarding.abort();

    // All of it once more, in another order: nothing comes of it.
    for message in messages.iter().rev() {
        assert_eq!(message.send().await.unwrap(), 204);
    }
    farm.settle().await;
    assert_eq!(farm.builds("long").await.len(), 1);
}
