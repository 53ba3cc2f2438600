//! Drivers that freeze, answers that come too late, and schedulers that share the work.

use capomastro_core::{
    events::EventKind,
    launch::Outcome,
    model::{OrphanVerdict, Phase, Policy},
};
use capomastro_testkit::{ControllableLauncher, fakes::Mode};
use capomastro_tests::{Stage, person};
use std::time::Duration;

/// Driver 1 is frozen directly before it sends; its claim lapses and driver 2 takes over.
#[tokio::test]
async fn a_driver_that_was_frozen_before_its_send_sends_nothing_when_it_wakes_up() {
    let stage = Stage::new(ControllableLauncher::auto_succeed());
    stage.probe.set("a", "r1");
    stage.define("a", &[], Policy::default()).await;
    let frozen = stage.another(1, |b| b.request_timeout(Duration::from_secs(10)));
    stage.launcher.hold_sends(true);
    let driver = frozen.scheduler.clone();
    let tick = async { drop(driver.tick().await) };
    let mut tick = std::pin::pin!(tick);
    assert!(futures_util::poll!(&mut tick).is_pending());
    stage.launcher.until_held(1).await;
    stage.launcher.hold_sends(false);
    // A process that is stopped does not notice its own time-outs either: nobody polls it meanwhile.
    stage.pass_until_phase(600, "a", Phase::Succeeded).await;
    tick.await;
    stage.pass(60).await;
    assert_eq!(stage.launcher.builds().len(), 1);
    assert_eq!(stage.phases("a").await, [Phase::Succeeded]);
    assert!(stage.orphans(&stage.last_build("a").await).await.is_empty());
}

#[tokio::test]
async fn a_driver_that_was_frozen_for_a_moment_before_its_send_still_sends() {
    let stage = Stage::new(ControllableLauncher::auto_succeed());
    stage.probe.set("a", "r1");
    stage.define("a", &[], Policy::default()).await;
    stage.launcher.hold_sends(true);
    let driver = stage.scheduler.clone();
    let tick = async { drop(driver.tick().await) };
    let mut tick = std::pin::pin!(tick);
    assert!(futures_util::poll!(&mut tick).is_pending());
    stage.clock.advance(Duration::from_secs(4));
    stage.launcher.hold_sends(false);
    tick.await;
    assert_eq!(stage.phases("a").await, [Phase::Submitted]);
}

/// Two drivers, of which the first has its answer but no claim any more.
async fn late_answer(launcher: ControllableLauncher, meanwhile: impl AsyncFnOnce(&Stage)) -> Stage {
    let stage = Stage::new(launcher);
    stage.probe.set("a", "r1");
    stage.define("a", &[], Policy::default()).await;
    let late = stage.another(1, |b| b);
    let driver = late.scheduler.clone();
    let tick = async { drop(driver.tick().await) };
    let mut tick = std::pin::pin!(tick);
    assert!(futures_util::poll!(&mut tick).is_pending());
    let launch = stage.launcher.waiting_launch().expect("the launch was sent");
    stage.launcher.set_mode(Mode::Accept);
    let build = launch.accept();
    meanwhile(&stage).await;
    drop(build);
    tick.await;
    stage
}

#[tokio::test]
async fn a_late_reference_to_the_build_that_was_found_meanwhile_is_its_own_under_whatever_name() {
    for started in [false, true] {
        let stage = late_answer(ControllableLauncher::by_hand(), async |stage| {
            stage.pass_until_phase(200, "a", Phase::Submitted).await;
            if started {
                // The queue item that the late answer names has become a build.
                stage.launcher.last_of("a").start();
                stage.pass(5).await;
            }
        })
        .await;
        let build = stage.last_build("a").await;
        let orphans = stage.orphans(&build).await;
        // By its recorded name it tells nothing new; by any other it is kept until it is judged.
        assert_eq!(orphans.len(), usize::from(started), "the evidence is kept");
        let seen = stage.count_events("a", |e| matches!(e, EventKind::OrphanSeen { .. })).await;
        assert_eq!(seen, usize::from(started));
        stage.pass(60).await;
        let judged = stage.orphans(&build).await;
        assert!(judged.iter().all(|o| o.verdict == Some(OrphanVerdict::Adopted)), "{judged:?}");
        assert!(stage.launcher.cancels().is_empty(), "the own build is not stopped");
        stage.launcher.last_of("a").finish(Outcome::Succeeded);
        stage.pass(60).await;
        assert_eq!(stage.phases("a").await, [Phase::Succeeded]);
    }
}

#[tokio::test]
async fn a_late_reference_is_adopted_where_no_build_is_known_yet() {
    let stage = late_answer(ControllableLauncher::by_hand(), async |stage| stage.pass(60).await).await;
    assert_eq!(stage.phases("a").await, [Phase::Launching], "driver 2 waits for the settle time");
    stage.pass(10).await;
    let build = stage.last_build("a").await;
    assert_eq!(stage.orphans(&build).await[0].verdict, Some(OrphanVerdict::Adopted));
    assert_eq!(build.phase, Phase::Submitted, "evidence is as good as a search");
    stage.launcher.last_of("a").finish(Outcome::Succeeded);
    stage.pass(60).await;
    assert_eq!(stage.phases("a").await, [Phase::Succeeded]);
    assert_eq!(stage.launcher.launch_calls(), 1);
}

#[tokio::test]
async fn a_late_reference_to_a_build_that_was_given_up_is_stopped() {
    let stage = late_answer(ControllableLauncher::by_hand(), async |stage| {
        stage.scheduler.break_lock("a", &person(), "it hangs").await.unwrap();
    })
    .await;
    let build = stage.last_build("a").await;
    assert_eq!(build.phase, Phase::Lost);
    stage.launcher.outage(true);
    stage.pass(120).await;
    assert_eq!(stage.orphans(&build).await[0].verdict, None, "it is kept until it can be judged");
    stage.launcher.outage(false);
    stage.pass(120).await;
    assert_eq!(stage.orphans(&build).await[0].verdict, Some(OrphanVerdict::Cancelled));
    assert!(stage.launcher.builds()[0].is_ended());
}

#[tokio::test]
async fn schedulers_share_the_work_and_what_a_dead_one_held_is_taken_over() {
    let stage = Stage::with(ControllableLauncher::auto_succeed(), |b| b.at_once(7));
    let other = stage.another(1, |b| b.at_once(7));
    let names: Vec<String> = (0..40).map(|n| format!("d{n}")).collect();
    for name in &names {
        stage.probe.set(name, "r1");
        stage.define(name, &["all"], Policy::default()).await;
    }
    // Both take looks; one dies in the middle of its tick.
    stage.launcher.hold_sends(true);
    {
        let mut dying = std::pin::pin!(other.scheduler.tick());
        assert!(futures_util::poll!(&mut dying).is_pending());
    }
    stage.launcher.hold_sends(false);
    drop(other);
    let third = stage.another(2, |b| b.at_once(7));
    for _ in 0..400 {
        stage.clock.advance(Duration::from_secs(1));
        let (a, b) = futures_util::future::join(stage.scheduler.tick(), third.scheduler.tick()).await;
        a.unwrap();
        b.unwrap();
    }
    for name in &names {
        assert_eq!(stage.phases(name).await, [Phase::Succeeded], "{name}");
        assert_eq!(stage.built(name), ["r1"]);
    }
    assert!(stage.launcher.duplicates().is_empty());
    let project = stage.scheduler.project_status("all").await.unwrap();
    assert_eq!(project.current.unwrap().slots.len(), 40);
    assert!(project.open.is_empty());
}
