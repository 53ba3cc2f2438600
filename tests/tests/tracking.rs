//! From the build system's yes to the end of a build.

use capomastro_core::{
    ErrorKind, Result, async_trait,
    events::EventKind,
    launch::{BuildLauncher, Ended, Found, Journal, LaunchRequest, Launched, Outcome, Promise, Report},
    model::{ExternalRef, LaunchKey, Phase, Policy, RetryOn, RetryPolicy, StopReason},
    scheduler::Cancelled,
    why::WhyNotBuilding,
};
use capomastro_testkit::{
    ControllableLauncher,
    fakes::{LaunchAnswer, Mode},
};
use capomastro_tests::{Stage, person, revision, spec, timeouts};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

const HOUR: u64 = 3_600;

async fn running(policy: Policy) -> Stage {
    let stage = Stage::new(ControllableLauncher::accepting());
    stage.begin("a", policy).await;
    stage.launcher.last_of("a").start();
    stage.pass(5).await;
    assert_eq!(stage.phases("a").await, [Phase::Running]);
    stage
}

fn is_loud(event: &EventKind) -> bool {
    matches!(event, EventKind::MayStillRun { .. })
}

fn stopped_for(event: &EventKind, why: &StopReason) -> bool {
    matches!(event, EventKind::BuildStopping { reason, .. } if reason == why)
}

#[tokio::test]
async fn each_end_is_recorded_as_it_was_told() {
    let ends = [
        (Outcome::Succeeded, Phase::Succeeded),
        (Outcome::Unstable, Phase::Unstable),
        (Outcome::Failed, Phase::Failed),
        (Outcome::Cancelled, Phase::Cancelled),
        (Outcome::Lost, Phase::Lost),
    ];
    for (outcome, phase) in ends {
        let stage = running(Policy::default()).await;
        let build = stage.launcher.last_of("a");
        build.artifact("lib.so", *b"bytes");
        let mut ended = Ended::new(outcome);
        ended.message = Some("said so".into());
        build.finish_with(ended);
        stage.pass(10).await;
        let build = stage.last_build("a").await;
        assert_eq!((build.phase, build.good), (phase, phase == Phase::Succeeded));
        assert_eq!(build.artifacts.len(), 1);
        assert_eq!(build.message.as_deref(), Some("said so"));
        assert_eq!(stage.state("a").await.linked.is_some(), build.good);
        stage.pass(HOUR).await;
        assert_eq!(
            stage.phases("a").await,
            [phase],
            "nothing is retried by default, and nothing built again"
        );
    }
}

#[tokio::test]
async fn a_hint_makes_the_look_at_a_build_come_at_once() {
    let stage = running(Policy::default()).await;
    stage.pass(HOUR).await;
    let key = stage.last_build("a").await.key;
    stage.launcher.last_of("a").finish(Outcome::Succeeded);
    stage.settle().await;
    assert_eq!(stage.phases("a").await, [Phase::Running], "nobody has looked yet");
    let of_nothing = LaunchKey::from_uuid(uuid::Uuid::from_u128(7));
    assert_eq!(stage.scheduler.look_sooner(&[of_nothing]).await.unwrap(), 0);
    stage.settle().await;
    assert_eq!(stage.phases("a").await, [Phase::Running], "a hint about something else is none");
    assert_eq!(stage.scheduler.look_sooner(&[of_nothing, key, key]).await.unwrap(), 1);
    stage.settle().await;
    assert_eq!(stage.phases("a").await, [Phase::Succeeded]);
    assert_eq!(stage.scheduler.look_sooner(&[key]).await.unwrap(), 0, "of a build that has ended");
    let many = vec![key; 1_001];
    assert_eq!(stage.scheduler.look_sooner(&many).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// Counts how many builds it is asked about in each call.
#[derive(Debug)]
struct Counting {
    inner: ControllableLauncher,
    calls: Mutex<Vec<usize>>,
}

#[async_trait]
impl BuildLauncher for Counting {
    fn promise(&self) -> Promise {
        self.inner.promise()
    }
    fn check_job(&self, job: &serde_json::Value) -> Result<()> {
        self.inner.check_job(job)
    }
    async fn launch(&self, request: &LaunchRequest, journal: &dyn Journal) -> Result<Launched> {
        self.inner.launch(request, journal).await
    }
    async fn find(&self, request: &LaunchRequest) -> Result<Found> {
        self.inner.find(request).await
    }
    async fn observe(&self, builds: &[(LaunchKey, ExternalRef)]) -> Vec<Result<Report>> {
        self.calls.lock().expect("nobody panicked").push(builds.len());
        self.inner.observe(builds).await
    }
    async fn cancel(&self, key: &LaunchKey, build: &ExternalRef) -> Result<()> {
        self.inner.cancel(key, build).await
    }
}

/// However many run: what a look costs a build system does not grow with them.
#[tokio::test]
async fn all_builds_of_a_launcher_that_are_due_are_looked_at_in_one_call() {
    for (builds_at_once, calls) in [(100, 1), (20, 3)] {
        let counting =
            Arc::new(Counting { inner: ControllableLauncher::accepting(), calls: Mutex::default() });
        let stage = Stage::with(ControllableLauncher::accepting(), |b| {
            let launcher = Arc::<Counting>::clone(&counting);
            b.at_once(7).builds_at_once(builds_at_once).launcher("counting", launcher)
        });
        for n in 0..60 {
            let name = format!("d{n}");
            stage.probe.set(&name, "r1");
            let mut spec = spec(&name, &[], Policy::default());
            spec.launcher = "counting".parse().unwrap();
            stage.apply(&spec).await;
        }
        stage.settle().await;
        stage.clock.advance(Duration::from_secs(HOUR));
        counting.calls.lock().unwrap().clear();
        stage.settle().await;
        let asked = counting.calls.lock().unwrap().clone();
        assert_eq!((asked.len(), asked.iter().sum::<usize>()), (calls, 60), "{asked:?}");
    }
}

/// Launches that are due together wait for room, and none is sent late.
#[tokio::test]
async fn launches_are_sent_as_many_at_a_time_as_there_is_room_for() {
    let stage = Stage::with(ControllableLauncher::accepting(), |b| b.at_once(4));
    stage.launcher.outage(true);
    for n in 0..20 {
        stage.begin(&format!("d{n}"), Policy::default()).await;
    }
    stage.launcher.outage(false);
    stage.clock.advance(Duration::from_secs(60));
    stage.launcher.hold_sends(true);
    let before = stage.launcher.launch_calls();
    {
        let mut tick = std::pin::pin!(stage.scheduler.tick());
        for _ in 0..50 {
            assert!(futures_util::poll!(&mut tick).is_pending());
        }
        assert_eq!(stage.launcher.launch_calls() - before, 4);
    }
    stage.launcher.hold_sends(false);
    stage.pass(600).await;
    assert_eq!(stage.launcher.builds().len(), 20);
    assert!(stage.launcher.duplicates().is_empty());
}

#[tokio::test]
async fn a_waiting_build_says_why() {
    let stage = Stage::new(ControllableLauncher::accepting());
    stage.begin("a", Policy::default()).await;
    stage.launcher.last_of("a").queued_because("no agent is free");
    stage.pass(30).await;
    let why = stage.status("a").await.why;
    let WhyNotBuilding::Building { waits_for: Some(waits_for), .. } = why else { panic!("{why:?}") };
    assert_eq!(waits_for, "no agent is free");
}

#[tokio::test]
async fn a_build_that_the_build_system_does_not_know_for_long_is_lost() {
    let stage = running(timeouts(|t| t.lost_after = Duration::from_secs(300))).await;
    let build = stage.launcher.last_of("a");
    build.vanish();
    stage.pass(280).await;
    assert_eq!(stage.phases("a").await, [Phase::Running]);
    build.reappear();
    stage.pass(60).await;
    build.vanish();
    stage.pass(280).await;
    assert_eq!(stage.phases("a").await, [Phase::Running], "the count began anew");
    stage.pass(100).await;
    assert_eq!(stage.phases("a").await, [Phase::Lost]);
    assert!(stage.state("a").await.held.is_none());
    assert_eq!(stage.count_events("a", is_loud).await, 1);
}

#[tokio::test]
async fn an_outage_is_never_evidence_of_loss() {
    let stage = running(timeouts(|t| t.lost_after = Duration::from_secs(300))).await;
    let build = stage.launcher.last_of("a");
    build.vanish();
    stage.pass(60).await;
    // Neither the outage itself nor the time during it counts.
    stage.launcher.outage(true);
    stage.pass(2 * HOUR).await;
    stage.launcher.outage(false);
    stage.pass(100).await;
    assert_eq!(stage.phases("a").await, [Phase::Running]);
    build.reappear();
    build.finish(Outcome::Succeeded);
    stage.pass(60).await;
    assert_eq!(stage.phases("a").await, [Phase::Succeeded]);
}

#[tokio::test]
async fn a_scheduler_that_stood_still_has_no_evidence_either() {
    let stage = running(timeouts(|t| t.lost_after = Duration::from_secs(300))).await;
    let build = stage.launcher.last_of("a");
    build.vanish();
    stage.pass(60).await;
    stage.clock.advance(Duration::from_secs(2 * HOUR));
    stage.settle().await;
    stage.pass(60).await;
    assert_eq!(stage.phases("a").await, [Phase::Running]);
    build.reappear();
    build.finish(Outcome::Succeeded);
    stage.pass(60).await;
    assert_eq!(stage.phases("a").await, [Phase::Succeeded]);
}

#[tokio::test]
async fn an_intermittent_build_system_that_does_not_know_the_build_loses_it_in_the_end() {
    let stage = running(timeouts(|t| t.lost_after = Duration::from_secs(300))).await;
    stage.launcher.last_of("a").vanish();
    for _ in 0..100 {
        stage.launcher.outage(false);
        stage.pass(40).await;
        stage.launcher.outage(true);
        stage.pass(10).await;
    }
    assert_eq!(stage.phases("a").await, [Phase::Lost]);
}

#[tokio::test]
async fn the_queue_deadline_stops_a_build_that_never_ran() {
    let stage = Stage::new(ControllableLauncher::accepting());
    stage.begin("a", timeouts(|t| t.queue = Duration::from_secs(600))).await;
    stage.pass(590).await;
    assert_eq!(stage.launcher.cancels().len(), 0);
    stage.pass(60).await;
    assert_eq!(stage.phases("a").await, [Phase::TimedOut]);
    assert_eq!(stage.launcher.cancels().len(), 1);
    assert_eq!(stage.count_events("a", |e| stopped_for(e, &StopReason::QueueDeadline)).await, 1);
    assert_eq!(stage.count_events("a", is_loud).await, 0, "the build system has confirmed it");
}

#[tokio::test]
async fn a_build_that_began_to_run_during_an_outage_is_not_stopped_for_waiting() {
    let stage = Stage::new(ControllableLauncher::accepting());
    stage.begin("a", timeouts(|t| t.queue = Duration::from_secs(600))).await;
    stage.pass(60).await;
    stage.launcher.outage(true);
    stage.launcher.last_of("a").start();
    stage.pass(HOUR).await;
    stage.launcher.outage(false);
    stage.pass(60).await;
    assert_eq!(stage.phases("a").await, [Phase::Running]);
    assert_eq!(stage.launcher.cancels().len(), 0);
}

#[tokio::test]
async fn a_build_that_was_last_seen_waiting_is_not_given_up_while_nobody_can_ask_but_a_person_may_free_it() {
    let stage = Stage::new(ControllableLauncher::accepting());
    let policy = timeouts(|t| {
        t.queue = Duration::from_secs(600);
        t.run = Duration::from_secs(1_200);
        t.stop = Duration::from_secs(300);
    });
    stage.begin("a", policy).await;
    stage.launcher.outage(true);
    stage.pass(HOUR).await;
    assert_eq!(stage.phases("a").await, [Phase::Submitted], "it may run, and silence is no evidence");
    stage.scheduler.cancel(stage.last_build("a").await.id, &person()).await.unwrap();
    stage.pass(400).await;
    assert_eq!(stage.phases("a").await, [Phase::Cancelled]);
    assert_eq!(stage.count_events("a", is_loud).await, 1);
}

#[tokio::test]
async fn the_run_deadline_stops_a_build() {
    let stage = running(timeouts(|t| t.run = Duration::from_secs(600))).await;
    stage.pass(580).await;
    assert_eq!(stage.launcher.cancels().len(), 0);
    stage.pass(60).await;
    assert_eq!(stage.phases("a").await, [Phase::TimedOut]);
    assert_eq!(stage.count_events("a", |e| stopped_for(e, &StopReason::RunDeadline)).await, 1);
}

#[tokio::test]
async fn a_running_build_that_is_cancelled_ends_when_the_build_system_confirms_it() {
    let stage = running(Policy::default()).await;
    let id = stage.last_build("a").await.id;
    assert_eq!(stage.scheduler.cancel(id, &person()).await.unwrap(), Cancelled::Asked);
    assert_eq!(stage.scheduler.cancel(id, &person()).await.unwrap(), Cancelled::Asked);
    stage.pass(10).await;
    assert_eq!(stage.phases("a").await, [Phase::Cancelled]);
    assert_eq!(stage.count_events("a", |e| matches!(e, EventKind::BuildStopping { .. })).await, 1);
    let again = stage.scheduler.cancel(id, &person()).await.unwrap();
    assert_eq!(again, Cancelled::TooLate(Phase::Cancelled));
    stage.pass(HOUR).await;
    assert_eq!(stage.phases("a").await, [Phase::Cancelled], "a cancelled build is not retried");
}

#[tokio::test]
async fn a_cancel_that_is_ignored_gives_the_build_up_loudly_after_the_grace() {
    let stage = running(timeouts(|t| t.stop = Duration::from_secs(120))).await;
    stage.launcher.ignore_cancels(true);
    stage.scheduler.cancel(stage.last_build("a").await.id, &person()).await.unwrap();
    stage.pass(115).await;
    assert_eq!(stage.phases("a").await, [Phase::Running], "it is looked at all the while");
    stage.pass(10).await;
    assert_eq!(stage.phases("a").await, [Phase::Cancelled]);
    assert_eq!(stage.count_events("a", is_loud).await, 1);
    // What it reports later changes nothing: the first end stays.
    stage.launcher.last_of("a").finish(Outcome::Succeeded);
    stage.pass(HOUR).await;
    assert_eq!(stage.phases("a").await, [Phase::Cancelled]);
    assert!(stage.state("a").await.linked.is_none());
}

#[tokio::test]
async fn a_cancel_that_loses_to_success_leaves_a_success() {
    let stage = running(Policy::default()).await;
    stage.launcher.ignore_cancels(true);
    stage.scheduler.cancel(stage.last_build("a").await.id, &person()).await.unwrap();
    stage.pass(5).await;
    stage.launcher.last_of("a").finish(Outcome::Succeeded);
    stage.pass(10).await;
    let build = stage.last_build("a").await;
    assert_eq!(build.phase, Phase::Succeeded);
    assert_eq!(stage.state("a").await.linked.unwrap().build, build.id);
}

#[tokio::test]
async fn a_cancel_while_the_build_system_is_away_is_asked_when_it_is_back() {
    let stage = running(Policy::default()).await;
    stage.launcher.outage(true);
    stage.scheduler.cancel(stage.last_build("a").await.id, &person()).await.unwrap();
    stage.pass(120).await;
    assert_eq!(stage.phases("a").await, [Phase::Running]);
    stage.launcher.outage(false);
    stage.pass(90).await;
    assert_eq!(stage.phases("a").await, [Phase::Cancelled]);
}

#[tokio::test]
async fn after_a_cancel_was_asked_a_trigger_of_the_same_revision_leads_to_a_new_build() {
    let stage = running(Policy::default()).await;
    stage.launcher.ignore_cancels(true);
    stage.scheduler.cancel(stage.last_build("a").await.id, &person()).await.unwrap();
    stage.pass(5).await;
    stage.build_now("a", "r1").await;
    assert_eq!(stage.state("a").await.waiting.len(), 1, "it does not join what is being stopped");
    stage.launcher.ignore_cancels(false);
    stage.pass(10).await;
    assert_eq!(stage.phases("a").await, [Phase::Cancelled, Phase::Submitted]);
    assert_eq!(stage.built("a"), ["r1", "r1"]);
}

#[tokio::test]
async fn a_build_that_is_cancelled_in_the_queue_never_runs_and_stays_accounted_for() {
    let stage = Stage::new(ControllableLauncher::accepting());
    stage.begin("a", Policy::default()).await;
    stage.scheduler.cancel(stage.last_build("a").await.id, &person()).await.unwrap();
    stage.pass(600).await;
    assert_eq!(stage.phases("a").await, [Phase::Cancelled], "accounted for, though it never ran");
    stage.probe.set("a", "r2");
    stage.pass(60).await;
    assert_eq!(stage.built("a"), ["r1", "r2"], "another change builds");
}

fn retries(max: u32, on: RetryOn) -> Policy {
    let mut retry = RetryPolicy::default();
    retry.max = max;
    retry.on = on;
    Policy::default().with_retry(retry)
}

#[tokio::test]
async fn failures_are_retried_only_where_the_policy_says_any_later_each_time_and_so_often() {
    let stage = Stage::new(ControllableLauncher::new(Mode::Auto(Outcome::Failed)));
    stage.begin("infrastructure", retries(2, RetryOn::Infrastructure)).await;
    stage.begin("any", retries(2, RetryOn::Any)).await;
    stage.pass(HOUR).await;
    assert_eq!(stage.phases("infrastructure").await, [Phase::Failed]);
    assert_eq!(stage.phases("any").await, [Phase::Failed; 3]);
    let builds = stage.builds("any").await;
    let keys: std::collections::BTreeSet<_> = builds.iter().map(|b| b.key).collect();
    assert_eq!(keys.len(), 3, "each is a new build");
    assert_eq!(builds.iter().map(|b| b.attempt).collect::<Vec<_>>(), [0, 1, 2]);
    for (before, after, wait) in [(0, 1, 60), (1, 2, 120)] {
        let gap = builds[after].requested_at - builds[before].ended_at.unwrap();
        assert_eq!(gap.num_seconds(), wait);
    }
    assert!(matches!(stage.status("any").await.why, WhyNotBuilding::LastBuildFailed { .. }));
}

#[tokio::test]
async fn a_lost_or_timed_out_build_is_infrastructure() {
    let policy = retries(1, RetryOn::Infrastructure).with_timeouts({
        let mut timeouts = capomastro_core::model::Timeouts::default();
        timeouts.lost_after = Duration::from_secs(60);
        timeouts.run = Duration::from_secs(600);
        timeouts
    });
    let stage = running(policy).await;
    stage.launcher.last_of("a").vanish();
    stage.pass_until_phase(300, "a", Phase::Lost).await;
    stage.pass(65).await;
    stage.launcher.last_of("a").start();
    stage.pass(700).await;
    assert_eq!(stage.phases("a").await, [Phase::Lost, Phase::TimedOut]);
    stage.pass(HOUR).await;
    assert_eq!(stage.builds("a").await.len(), 2, "one retry was allowed");
}

#[tokio::test]
async fn what_the_build_system_calls_lost_is_infrastructure_and_runs_no_more() {
    let stage = running(retries(1, RetryOn::Infrastructure)).await;
    stage.launcher.last_of("a").finish(Outcome::Lost);
    stage.pass(65).await;
    stage.launcher.last_of("a").finish(Outcome::Succeeded);
    stage.pass(60).await;
    assert_eq!(stage.phases("a").await, [Phase::Lost, Phase::Succeeded]);
    assert_eq!(stage.count_events("a", |e| matches!(e, EventKind::MayStillRun { .. })).await, 0);
}

#[tokio::test]
async fn a_retry_gives_way_to_a_newer_revision() {
    let stage = Stage::new(ControllableLauncher::new(Mode::Auto(Outcome::Failed)));
    let mut policy = retries(5, RetryOn::Any);
    policy.retry.backoff = Duration::from_secs(600);
    stage.begin("a", policy).await;
    stage.pass(10).await;
    assert!(matches!(stage.status("a").await.why, WhyNotBuilding::RetryOwed { .. }));
    stage.probe.set("a", "r2");
    stage.launcher.set_mode(Mode::Auto(Outcome::Succeeded));
    stage.pass(HOUR).await;
    assert_eq!(stage.built("a"), ["r1", "r2"]);
}

#[tokio::test]
async fn a_build_of_another_revision_than_the_pinned_one_is_told_of() {
    let stage = running(Policy::default()).await;
    let mut ended = Ended::new(Outcome::Succeeded);
    ended.built = Some(revision("r9"));
    stage.launcher.last_of("a").finish_with(ended);
    stage.pass(10).await;
    let build = stage.last_build("a").await;
    assert_eq!((build.revision, build.built), (revision("r1"), Some(revision("r9"))));
    let drift = EventKind::RevisionDrift { build: build.id, pinned: revision("r1"), built: revision("r9") };
    assert_eq!(stage.count_events("a", |e| *e == drift).await, 1);
}

#[tokio::test]
async fn a_wall_clock_that_jumps_neither_loses_nor_stops_a_build_early() {
    let stage = running(timeouts(|t| t.lost_after = Duration::from_secs(300))).await;
    let build = stage.launcher.last_of("a");
    build.vanish();
    stage.pass(60).await;
    stage.clock.skew(chrono::TimeDelta::hours(-2));
    stage.clock.advance(Duration::from_secs(2 * HOUR));
    stage.settle().await;
    build.reappear();
    stage.pass(60).await;
    assert_eq!(stage.phases("a").await, [Phase::Running]);
}

#[tokio::test]
async fn what_becomes_of_one_build_touches_no_other() {
    let stage = Stage::new(ControllableLauncher::auto_succeed());
    let names: Vec<String> = (0..50).map(|n| format!("d{n}")).collect();
    for name in &names {
        stage.probe.set(name, "r1");
        stage.define(name, &[], Policy::default()).await;
    }
    stage.launcher.answer_next(LaunchAnswer::Refuse { permanent: true });
    stage.pass(60).await;
    let mut ends = std::collections::BTreeMap::new();
    for name in &names {
        *ends.entry(stage.last_build(name).await.phase.to_string()).or_insert(0) += 1;
    }
    assert_eq!(
        ends.into_iter().collect::<Vec<_>>(),
        [("refused".to_owned(), 1), ("succeeded".to_owned(), 49)]
    );
}
