//! Answers that do not tell whether a build was taken.

use crate::desk::{Desk, JOB, builder_for, seconds};
use capomastro_core::{
    ErrorKind, Retry,
    launch::{BuildLauncher, Launched, Seen},
    secret::{FixedSecrets, Secrets},
};
use capomastro_jenkins::Credentials;
use capomastro_testkit::jenkins::{Chaos, Fault, Jenkins, StartPhase, Startup};
use std::{sync::Arc, time::Duration};

const TRIGGER: &str = "buildWithParameters";

#[tokio::test]
async fn an_answer_that_tells_nothing_leads_to_one_build() {
    let late = seconds(20);
    let faults = [
        Fault::reset(),
        Fault::reset().after_effect(),
        Fault::reset().late_effect(late),
        Fault::proxy(500).after_effect(),
        Fault::proxy(502),
        Fault::proxy(502).after_effect(),
        Fault::proxy(502).late_effect(late),
        Fault::proxy(503),
        Fault::proxy(504).after_effect(),
        Fault::proxy(504).late_effect(late),
        Fault::login_page(),
        Fault::login_page().after_effect(),
        Fault::moved(302, "https://sso.example.org/login").after_effect(),
        Fault::no_location(),
        Fault::location("http://inner:8080/ci/queue/item/1/"),
        Fault::location("http://inner:8080/ci/job/team/job/lib/"),
        Fault::location("nonsense"),
        Fault::silence(),
        Fault::silence().after_effect(),
    ];
    for fault in faults {
        let short = Duration::from_millis(200);
        let desk = Desk::with(|s| s, |l| l.launch_timeout(short).proxy_timeout(seconds(120))).await;
        desk.jenkins.fault(fault.clone().on("POST", TRIGGER));
        let mut build = desk.settled(desk.request()).await;
        desk.clock.advance(seconds(200));
        assert_eq!(desk.see(&mut build).await, Seen::Running, "{fault:?}");
        assert_eq!(desk.started(&build).len(), 1, "{fault:?}");
        assert_eq!(desk.jenkins.faults_met(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn many_launches_through_a_bad_proxy_build_once_each() {
    let desk = Desk::new().await;
    desk.jenkins.chaos(Some(Chaos::of_triggers(7, 500)));
    for _ in 0..40 {
        let build = desk.settled(desk.request()).await;
        desk.clock.advance(seconds(60));
        assert_eq!(desk.started(&build).len(), 1);
    }
    assert!(desk.jenkins.faults_met() > 5, "some were met");
}

#[tokio::test]
async fn a_broken_connection_is_followed_by_the_same_request_where_that_is_wanted() {
    for fault in [Fault::reset(), Fault::reset().after_effect()] {
        let desk = Desk::with(|s| s, |l| l.resend(true)).await;
        desk.jenkins.fault(fault.on("POST", TRIGGER));
        // At once, without a search.
        let build = desk.launch(desk.request()).await;
        desk.clock.advance(seconds(60));
        assert_eq!(desk.started(&build).len(), 1);
    }
}

#[tokio::test]
async fn a_redirect_to_elsewhere_is_a_wrong_url() {
    for status in [301, 307, 308] {
        let desk = Desk::new().await;
        desk.jenkins
            .fault(Fault::moved(status, "https://ci.example.org/x?token=hunter2").on("POST", TRIGGER));
        let e = desk.try_launch(&mut desk.request()).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{e:?}");
        assert!(e.report().contains("https://ci.example.org/x") && !e.report().contains("hunter2"), "{e:?}");
        assert!(desk.jenkins.accepted().is_empty());
    }
}

#[tokio::test]
async fn a_server_that_starts_takes_it_later_and_once() {
    let desk = Desk::with(
        |s| s.startup(Startup::as_seen()),
        |l| {
            l.read_timeout(Duration::from_millis(200))
                .launch_timeout(Duration::from_millis(200))
                .proxy_timeout(seconds(120))
        },
    )
    .await;
    // Its credentials have worked.
    desk.launch(desk.request()).await;
    desk.jenkins.restart();
    let mut request = desk.request();
    let mut waits = 0;
    let external = loop {
        match desk.try_launch(&mut request).await {
            Ok(Launched::Accepted(external)) => break external,
            Ok(refused) => panic!("nothing is wrong with it: {refused:?}"),
            Err(e) => {
                assert!(
                    matches!(
                        e.kind(),
                        ErrorKind::Unavailable | ErrorKind::TimedOut | ErrorKind::OutcomeUnknown
                    ),
                    "nobody has to mend anything: {e:?}"
                );
                assert_ne!(e.retry(), Retry::Never, "{e:?}");
            }
        }
        waits += 1;
        assert!(waits < 1_000, "it starts at last");
        desk.clock.advance(Duration::from_millis(500));
    };
    assert!(waits > 0, "it took time to start");
    let build = crate::desk::Build { request, external };
    desk.clock.advance(seconds(60));
    assert_eq!(desk.started(&build).len(), 1);
}

#[tokio::test]
async fn no_phase_of_a_start_is_anybodys_fault() {
    use StartPhase::{
        Away, EarlyError, LateError, NoCrumb, Restarting, Silent, Starting, StartingPostFails, Unauthorized,
    };
    for phase in
        [Away, Silent, Restarting, Starting, EarlyError, StartingPostFails, NoCrumb, Unauthorized, LateError]
    {
        let short = Duration::from_millis(200);
        let desk = Desk::with(
            |s| s.startup(Startup::instant().then(seconds(20), phase)),
            |l| l.read_timeout(short).launch_timeout(short).proxy_timeout(seconds(120)),
        )
        .await;
        // Its credentials have worked.
        let mut waiting = desk.launch(desk.request()).await;
        desk.jenkins.restart();
        let mut request = desk.request();
        let e = desk.try_launch(&mut request).await.unwrap_err();
        assert!(matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::TimedOut), "{phase:?}: {e:?}");
        assert_ne!(e.retry(), Retry::Never, "{phase:?}: {e:?}");
        let e = desk.look(&mut waiting).await.unwrap_err();
        assert_ne!(e.retry(), Retry::Never, "{phase:?}: {e:?}");
        desk.clock.advance(seconds(40));
        let build = desk.launch(request).await;
        desk.clock.advance(seconds(40));
        assert_eq!(desk.started(&build).len(), 1, "{phase:?}");
        assert_eq!(desk.see(&mut waiting).await, Seen::Running, "{phase:?}");
    }
}

#[tokio::test]
async fn nothing_is_sent_to_a_server_that_is_about_to_stop() {
    let desk = Desk::new().await;
    desk.jenkins.quiet_down(Some("maintenance"));
    let e = desk.try_launch(&mut desk.request()).await.unwrap_err();
    assert_eq!((e.kind(), e.retry()), (ErrorKind::Unavailable, Retry::After(seconds(30))));
    assert!(desk.jenkins.accepted().is_empty());
    desk.jenkins.cancel_quiet_down();
    desk.launch(desk.request()).await;
}

#[tokio::test]
async fn a_password_works_with_crumbs_across_restarts() {
    let desk = Desk::new().await;
    let secrets = FixedSecrets::default().with("password", Jenkins::PASSWORD);
    let launcher = builder_for(&desk.jenkins, &desk.clock)
        .credentials(Credentials::password(Jenkins::ADMIN, "password"), Secrets::new(Arc::new(secrets)))
        .build()
        .unwrap();
    for _ in 0..2 {
        let request = desk.request();
        let launched = launcher.launch(&request, &crate::desk::Memos::default()).await;
        assert!(matches!(launched, Ok(Launched::Accepted(_))), "{launched:?}");
        // Sessions, and crumbs with them, end here.
        desk.jenkins.restart();
    }
    assert_eq!(desk.jenkins.queue().iter().filter(|i| i.job == JOB).count(), 2);
}
