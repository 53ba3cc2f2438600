//! What is not launched, and why; what cannot be asked, and what is said of it.

use crate::desk::{Desk, ID, JOB, Memos, builder_for, seconds, spec};
use capomastro_core::{
    ErrorKind, Retry,
    launch::{BuildLauncher, Launched},
    secret::{FixedSecrets, Secrets},
    time::{Clock as _, SystemClock},
};
use capomastro_jenkins::{Credentials, JenkinsJob};
use capomastro_testkit::jenkins::{Fault, JobSpec, Parameter, Permission, User};
use std::sync::Arc;

#[tokio::test]
async fn a_job_that_cannot_take_it_is_refused_with_what_to_do() {
    let desk = Desk::new().await;
    let define = |spec| desk.jenkins.define_job(spec);
    define(JobSpec::freestyle("bare"));
    define(JobSpec::freestyle("no-id").string("CAPOMASTRO_REVISION"));
    define(JobSpec::freestyle("no-revision").string(ID));
    define(spec("off").disabled());
    define(spec("chosen").parameter(Parameter::choice("KIND", ["a", "b"])));
    define(spec("picky").refusing());
    for (job, permanent, says) in [
        (JenkinsJob::new("missing"), true, "no job"),
        (JenkinsJob::new("team"), true, "declares no parameters"),
        (JenkinsJob::new("bare"), true, "declares no parameters"),
        (JenkinsJob::new("no-id"), true, ID),
        (JenkinsJob::new("no-revision"), true, "CAPOMASTRO_REVISION"),
        (JenkinsJob::new("off"), true, "disabled"),
        (JenkinsJob::new(JOB).parameter("TARGET", "x"), true, "TARGET"),
        (JenkinsJob::new("chosen").parameter("KIND", "c"), true, "KIND"),
        (JenkinsJob::new("picky"), false, "did not take"),
    ] {
        match desk.try_launch(&mut desk.request_for(job.clone())).await {
            Ok(Launched::Refused(refusal)) => {
                assert_eq!(refusal.permanent, permanent, "{refusal:?}");
                assert!(refusal.reason.contains(says), "{refusal:?}");
            }
            other => panic!("{job:?}: {other:?}"),
        }
    }
    assert!(desk.jenkins.accepted().is_empty(), "nothing was started");
    desk.launch(desk.request_for(JenkinsJob::new("chosen").parameter("KIND", "b"))).await;
}

#[tokio::test]
async fn who_may_not_build_is_told_what_is_missing() {
    let reader = User::with_permissions("reader", [Permission::OverallRead, Permission::JobRead]).token("t0");
    let desk = Desk::with(|s| s.user(reader), |l| l).await;
    let secrets = Secrets::new(Arc::new(FixedSecrets::default().with("t", "t0")));
    let launcher =
        builder_for(&desk.jenkins, &desk.clock).credentials(Credentials::token("reader", "t"), secrets);
    let launched = launcher.build().unwrap().launch(&desk.request(), &Memos::default()).await;
    match launched {
        Ok(Launched::Refused(refusal)) => {
            assert!(refusal.permanent && refusal.reason.contains("hudson.model.Item.Build"), "{refusal:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn wrong_credentials_are_named_and_not_shown() {
    let desk = Desk::new().await;
    for credentials in [
        Credentials::token("admin", "wrong"),
        Credentials::password("admin", "wrong"),
        Credentials::Anonymous,
    ] {
        let secrets = Secrets::new(Arc::new(FixedSecrets::default().with("wrong", "hunter2")));
        let launcher =
            builder_for(&desk.jenkins, &desk.clock).credentials(credentials, secrets).build().unwrap();
        let e = launcher.launch(&desk.request(), &Memos::default()).await.unwrap_err();
        assert_eq!((e.kind(), e.retry()), (ErrorKind::PermissionDenied, Retry::Never), "{e:?}");
        assert!(e.report().contains(&desk.jenkins.url()), "{e:?}");
        assert!(!format!("{e:?} {launcher:?}").contains("hunter2"));
    }
    assert!(desk.jenkins.accepted().is_empty());
}

#[tokio::test]
async fn a_hostile_answer_is_an_error_and_no_evidence() {
    for (fault, kind) in [
        (Fault::broken_json(40), ErrorKind::Unavailable),
        (Fault::broken_json(0), ErrorKind::Unavailable),
        (Fault::cut_after(10), ErrorKind::Unavailable),
        (Fault::huge(2 * 1024 * 1024), ErrorKind::Corrupt),
        (Fault::login_page(), ErrorKind::InvalidConfig),
        (Fault::proxy(404), ErrorKind::Unavailable),
        (Fault::proxy(502), ErrorKind::Unavailable),
        (Fault::proxy(504), ErrorKind::TimedOut),
        (Fault::moved(302, "https://sso/login"), ErrorKind::InvalidConfig),
    ] {
        for path in ["queue/api/json", "lib/api/json"] {
            let desk = Desk::with(|s| s, |l| l.max_answer_bytes(1024 * 1024)).await;
            let mut build = desk.running().await;
            desk.jenkins.fault(fault.clone().on("GET", path).always());
            let e = desk.look(&mut build).await.unwrap_err();
            assert_eq!(e.kind(), kind, "{fault:?} {path}: {e:?}");
            assert!(e.report().contains(&desk.jenkins.url()), "{e:?}");
            if path.starts_with("lib") {
                assert!(e.report().contains(JOB), "{e:?}");
            }
            let e = desk.launcher.find(&build.request).await.unwrap_err();
            assert_eq!(e.kind(), kind, "{fault:?} {path}: {e:?}");
            // And nothing has come of it.
            desk.jenkins.heal();
            desk.clock.advance(seconds(100));
            assert_eq!(desk.see(&mut build).await, capomastro_core::launch::Seen::Running);
        }
    }
}

/// A server that takes requests and answers none is left alone, though whoever asks gives up long before the client does.
#[tokio::test]
async fn a_silent_server_is_left_alone_by_those_who_give_up() {
    let desk = Desk::new().await;
    let build = desk.running().await;
    let asked = [(build.request.key, build.external.clone())];
    desk.jenkins.fault(Fault::silence().always());
    for round in 1..=5 {
        let before = desk.jenkins.faults_met();
        let look = desk.launcher.observe(&asked);
        let met = async {
            while desk.jenkins.faults_met() == before {
                SystemClock.sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        tokio::select! {
            biased;
            _ = look => panic!("nobody answers, in round {round}"),
            () = met => {}
        }
    }
    // All of them gave up at once, which says nothing.
    let before = desk.jenkins.faults_met();
    for _ in 0..5 {
        let look = desk.launcher.observe(&asked);
        let patience = async {
            let at = desk.jenkins.faults_met();
            while desk.jenkins.faults_met() == at {
                SystemClock.sleep(std::time::Duration::from_millis(2)).await;
            }
            desk.clock.advance(seconds(5));
        };
        tokio::select! {
            biased;
            _ = look => panic!("nobody answers"),
            () = patience => {}
        }
    }
    assert_eq!(desk.jenkins.faults_met(), before + 5);
    let reports = desk.launcher.observe(&asked).await;
    let e = reports[0].as_ref().unwrap_err();
    assert!(e.report().contains("left alone"), "{}", e.report());
    assert_eq!(desk.jenkins.faults_met(), before + 5, "nothing was sent");
}
