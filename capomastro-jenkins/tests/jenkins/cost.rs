//! How many requests a look takes.

use crate::desk::{Desk, builder_for, seconds, spec};
use capomastro_core::launch::{BuildLauncher, Seen};
use capomastro_jenkins::JenkinsJob;

#[tokio::test]
async fn a_look_at_many_builds_takes_few_requests() {
    let desk = Desk::with(|s| s.executors(1_000), |l| l).await;
    let jobs = ["team/a", "team/b", "team/c", "team/d"];
    let mut asks = Vec::new();
    for job in jobs {
        desk.jenkins.define_job(spec(job));
        for _ in 0..60 {
            let build = desk.launch(desk.request_for(JenkinsJob::new(job))).await;
            asks.push((build.request.key, build.external));
        }
    }
    desk.clock.advance(seconds(30));
    // One that knows nothing yet.
    let launcher = builder_for(&desk.jenkins, &desk.clock).save_records(false).build().unwrap();
    for round in 0..3 {
        desk.jenkins.forget_traffic();
        let reports = launcher.observe(&asks).await;
        assert!(reports.iter().all(|r| r.as_ref().unwrap().seen == Seen::Running));
        let served = desk.jenkins.served();
        assert_eq!(served.len(), jobs.len() + 1, "one for the queue and one for each job: {served:?}");
        if round == 0 {
            for (ask, report) in asks.iter_mut().zip(reports) {
                ask.1 = report.unwrap().external.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn records_are_saved_once() {
    let desk = Desk::new().await;
    let mut builds = vec![desk.running().await, desk.running().await];
    let posts = || desk.jenkins.served().iter().filter(|s| s.path.ends_with("submitDescription")).count();
    assert_eq!(posts(), 2);
    for build in &mut builds {
        desk.see(build).await;
    }
    assert_eq!(posts(), 2, "and not at each look");
    let described = desk.jenkins.builds(crate::desk::JOB);
    assert!(
        described.iter().all(|b| b.description.as_deref().unwrap_or_default().starts_with("Capomastro "))
    );
}

#[tokio::test]
async fn a_look_at_some_old_builds_takes_no_request_for_each() {
    let desk = Desk::with(|s| s.executors(1_000), |l| l).await;
    let mut asks = Vec::new();
    for _ in 0..260 {
        let build = desk.launch(desk.request()).await;
        asks.push((build.request.key, build.external));
    }
    desk.clock.advance(seconds(30));
    asks.truncate(13);
    for round in 0..2 {
        desk.jenkins.forget_traffic();
        let reports = desk.launcher.observe(&asks).await;
        let served = desk.jenkins.served();
        // How far the job has come is known from the second look on.
        assert!(round == 0 || served.len() == 2, "one for the queue and one for the job: {served:?}");
        for (ask, report) in asks.iter_mut().zip(reports) {
            let report = report.unwrap();
            assert_eq!(report.seen, Seen::Running);
            ask.1 = report.external.unwrap_or_else(|| ask.1.clone());
        }
    }
    let described = desk.jenkins.builds(crate::desk::JOB);
    let saved = described.iter().filter(|b| b.description.is_some()).count();
    assert_eq!(saved, 13, "of what was looked at, and nothing else");
}
