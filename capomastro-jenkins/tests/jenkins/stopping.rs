//! Stopping what waits, runs, or is just between the two.

use crate::desk::{Desk, JOB, seconds};
use capomastro_core::{
    ErrorKind,
    launch::{BuildLauncher, Outcome, Seen},
    secret::{FixedSecrets, Secrets},
};
use capomastro_jenkins::{Credentials, JenkinsJob};
use capomastro_testkit::jenkins::{Fault, JobSpec, Permission, Script, Stop, User};
use std::sync::Arc;

#[tokio::test]
async fn what_waits_is_taken_out_of_the_queue() {
    for old in [false, true] {
        let desk = Desk::with(|s| if old { s.old_cancel() } else { s }, |l| l).await;
        let mut build = desk.launch(desk.request()).await;
        desk.cancel(&build).await;
        assert_eq!(desk.ended(&mut build).await.outcome, Outcome::Cancelled);
        desk.clock.advance(seconds(60));
        assert!(desk.started(&build).is_empty());
    }
}

#[tokio::test]
async fn what_began_meanwhile_is_stopped() {
    let desk = Desk::new().await;
    let mut build = desk.launch(desk.request()).await;
    // The queue is told as it was before the item left it.
    desk.jenkins.fault(Fault::slow(seconds(20)).on("GET", "queue/api/json"));
    let stopping = desk.launcher.cancel(&build.request.key, &build.external);
    let clock = desk.clock.clone();
    let asked = async {
        while desk.jenkins.faults_met() == 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
            clock.advance(std::time::Duration::from_millis(250));
        }
    };
    let (stopped, ()) = futures_util::join!(stopping, asked);
    stopped.unwrap();
    assert_eq!(desk.started(&build).len(), 1, "it was not taken out of the queue");
    let posts: Vec<_> =
        desk.jenkins.served().into_iter().filter(|s| s.method == "POST").map(|s| s.path).collect();
    assert!(posts.iter().any(|path| path.ends_with("/stop")), "{posts:?}");
    assert_eq!(desk.ended(&mut build).await.outcome, Outcome::Cancelled);
}

#[tokio::test]
async fn a_pipeline_that_does_not_stop_is_ended_harder() {
    for (yields_to, after) in [(Stop::Stop, 0), (Stop::Term, 30), (Stop::Kill, 90)] {
        let desk = Desk::new().await;
        let spec = JobSpec::pipeline("pipe").string("CAPOMASTRO_BUILD_ID").string("CAPOMASTRO_REVISION");
        desk.jenkins.define_job(spec.runs(Script::held().yields_to(yields_to)));
        let mut build = desk.launch(desk.request_for(JenkinsJob::new("pipe"))).await;
        desk.clock.advance(seconds(20));
        assert_eq!(desk.see(&mut build).await, Seen::Running);
        // A scheduler asks again at each look.
        for passed in (0..).step_by(10) {
            desk.cancel(&build).await;
            if matches!(desk.see(&mut build).await, Seen::Ended(_)) {
                assert_eq!(passed, after, "{yields_to:?}");
                break;
            }
            assert!(passed < 200, "{yields_to:?}: it never ended");
            desk.clock.advance(seconds(10));
        }
        assert_eq!(desk.ended(&mut build).await.outcome, Outcome::Cancelled, "{yields_to:?}");
    }
}

#[tokio::test]
async fn who_may_not_stop_is_told() {
    let may = [Permission::OverallRead, Permission::JobRead, Permission::JobBuild];
    let builder = User::with_permissions("builder", may).token("t0");
    let desk = Desk::with(|s| s.user(builder), |l| l).await;
    let secrets = Secrets::new(Arc::new(FixedSecrets::default().with("t", "t0")));
    let launcher = crate::desk::builder_for(&desk.jenkins, &desk.clock)
        .credentials(Credentials::token("builder", "t"), secrets)
        .build()
        .unwrap();
    for is_running in [false, true] {
        let mut build = desk.launch(desk.request()).await;
        if is_running {
            desk.clock.advance(seconds(20));
        }
        let e = launcher.cancel(&build.request.key, &build.external).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e:?}");
        assert!(e.report().contains(JOB), "{e:?}");
        assert!(matches!(desk.see(&mut build).await, Seen::Queued { .. } | Seen::Running));
    }
}
