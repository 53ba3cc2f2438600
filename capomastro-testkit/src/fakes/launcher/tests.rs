use super::*;
use crate::fakes::{ManualClock, SeededRandom};
use capomastro_core::{
    launch::{Ended, Refusal, Seen, SendBefore},
    model::BuildId,
    secret::Secrets,
};
use futures_util::{FutureExt, poll};
use std::sync::Mutex;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Kept(Mutex<Vec<Value>>, bool);

#[async_trait]
impl Journal for Kept {
    async fn keep(&self, memo: Value) -> Result<()> {
        if self.1 {
            return Err(Error::new(ErrorKind::Unavailable, "no store"));
        }
        self.0.lock().unwrap().push(memo);
        Ok(())
    }
}

fn request(seed: u64) -> LaunchRequest {
    let clock = ManualClock::new();
    let build = BuildId::draw(clock.now(), &SeededRandom::new(seed));
    LaunchRequest::new(
        build,
        LaunchKey::of(build),
        format!("d{seed}").parse().unwrap(),
        1,
        "r1".parse().unwrap(),
        1,
        json!({}),
        30 * SECOND,
        SendBefore(clock.monotonic().plus(60 * SECOND)),
        Secrets::none(),
    )
}

fn launch(launcher: &ControllableLauncher, request: &LaunchRequest) -> Result<Launched> {
    launcher.launch(request, &Kept::default()).now_or_never().expect("it is answered at once")
}

fn accepted(launched: Result<Launched>) -> ExternalRef {
    match launched.unwrap() {
        Launched::Accepted(reference) => reference,
        Launched::Refused(refusal) => panic!("{refusal:?}"),
    }
}

fn look(launcher: &ControllableLauncher, key: LaunchKey, reference: &ExternalRef) -> Result<Report> {
    launcher.observe(&[(key, reference.clone())]).now_or_never().unwrap().remove(0)
}

fn find(launcher: &ControllableLauncher, request: &LaunchRequest) -> Result<Found> {
    launcher.find(request).now_or_never().unwrap()
}

#[test]
fn an_automatic_build_runs_and_succeeds_and_tells_its_new_name() {
    let (launcher, r) = (ControllableLauncher::default(), request(1));
    launcher.leave_artifact("out/lib.tar", "bytes");
    let queued = accepted(launch(&launcher, &r));
    assert_eq!(queued.0, "queue/1");
    let report = look(&launcher, r.key, &queued).unwrap();
    assert_eq!(report, Report { external: Some(ExternalRef("build/1".into())), seen: Seen::Running });
    let Report { external: None, seen: Seen::Ended(ended) } =
        look(&launcher, r.key, &ExternalRef("build/1".into())).unwrap()
    else {
        panic!("it has not ended under its new name")
    };
    assert_eq!((ended.outcome, ended.built), (Outcome::Succeeded, Some(r.revision.clone())));
    assert_eq!(ended.artifacts[0].name, "out/lib.tar");
    // The digest of "bytes" as sha256sum prints it.
    assert_eq!(
        ended.artifacts[0].digest.as_deref(),
        Some("sha256:277089d91c0bdf4f2e6862ba7e4a07605119431f5d13f726dd352b06f1b206a9")
    );
    assert_eq!(look(&launcher, r.key, &queued).unwrap().external, Some(ExternalRef("build/1".into())));
}

#[test]
fn the_memo_is_kept_before_the_send_or_nothing_is_sent() {
    let (launcher, r) = (ControllableLauncher::accepting(), request(1));
    let failing = Kept(Mutex::default(), true);
    assert!(launcher.launch(&r, &failing).now_or_never().unwrap().is_err());
    assert_eq!(launcher.external_builds(r.key), 0);
    let kept = Kept::default();
    accepted(launcher.launch(&r, &kept).now_or_never().unwrap());
    assert_eq!(*kept.0.lock().unwrap(), [json!({"next_build": 1})]);
}

#[test]
fn launching_a_key_again_is_a_duplicate_unless_launching_is_idempotent() {
    let r = request(1);
    for (promise, builds) in
        [(Promise::IdempotentByKey, 1), (Promise::FindableByKey { settle: SECOND }, 2), (Promise::Blind, 2)]
    {
        let launcher = ControllableLauncher::accepting().with_promise(promise);
        assert_eq!(launcher.promise(), promise);
        let first = accepted(launch(&launcher, &r));
        let second = accepted(launch(&launcher, &r));
        assert_eq!(first == second, builds == 1, "{promise:?}");
        assert_eq!(launcher.external_builds(r.key), builds, "{promise:?}");
        assert_eq!(launcher.duplicates().contains(&r.key), builds == 2, "{promise:?}");
    }
}

#[tokio::test]
async fn a_launch_by_hand_waits_for_the_test() {
    let (launcher, r) = (ControllableLauncher::by_hand(), request(1));
    let kept = Kept::default();
    let mut launching = launcher.launch(&r, &kept);
    assert!(poll!(&mut launching).is_pending());
    let pending = launcher.next_launch().await;
    assert_eq!((pending.key(), pending.request().fence), (r.key, 1));
    assert!(launcher.waiting_launch().is_none());
    let build = pending.accept();
    let reference = accepted(launching.await);
    assert_eq!(reference, build.reference());
    assert_eq!(look(&launcher, r.key, &reference).unwrap().seen, Seen::Queued { why: None });
    build.queued_because("no executor");
    assert_eq!(build.seen(), Seen::Queued { why: Some("no executor".into()) });
    build.start();
    assert_eq!(look(&launcher, r.key, &reference).unwrap().seen, Seen::Running);
    build.finish(Outcome::Failed);
    build.finish(Outcome::Succeeded);
    let Seen::Ended(ended) = look(&launcher, r.key, &reference).unwrap().seen else { panic!() };
    assert_eq!(ended.outcome, Outcome::Failed);
}

#[tokio::test]
async fn a_crash_of_the_launcher_after_the_send_does_not_stop_the_build() {
    let (launcher, r) = (ControllableLauncher::by_hand(), request(1));
    assert!(launcher.launch(&r, &Kept::default()).now_or_never().is_none());
    launcher.next_launch().await.accept();
    assert_eq!(find(&launcher, &r).unwrap(), Found::Build(ExternalRef("queue/1".into())));
}

#[tokio::test]
async fn a_pending_launch_that_is_dropped_is_a_lost_request() {
    let (launcher, r) = (ControllableLauncher::by_hand(), request(1));
    let kept = Kept::default();
    let mut launching = launcher.launch(&r, &kept);
    assert!(poll!(&mut launching).is_pending());
    drop(launcher.next_launch().await);
    assert_eq!(launching.await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(find(&launcher, &r).unwrap(), Found::Absent);
}

#[test]
fn each_answer_does_what_it_says() {
    let cases = [
        (LaunchAnswer::Accept, Ok(true), 1),
        (LaunchAnswer::Refuse { permanent: true }, Ok(false), 0),
        (LaunchAnswer::LoseAnswer, Err(ErrorKind::OutcomeUnknown), 1),
        (LaunchAnswer::Delay(SECOND), Err(ErrorKind::OutcomeUnknown), 1),
        (LaunchAnswer::LoseRequest, Err(ErrorKind::OutcomeUnknown), 0),
        (LaunchAnswer::Fail(ErrorKind::RateLimited), Err(ErrorKind::RateLimited), 0),
    ];
    for (answer, expected, builds) in cases {
        let (launcher, r) = (ControllableLauncher::accepting(), request(1));
        launcher.answer_next(answer);
        let launched = launch(&launcher, &r);
        if let Ok(Launched::Refused(Refusal { permanent, .. })) = &launched {
            assert!(permanent);
        }
        let got = launched.map(|l| matches!(l, Launched::Accepted(_))).map_err(|e| e.kind());
        assert_eq!((got, launcher.external_builds(r.key)), (expected, builds), "{answer:?}");
        accepted(launch(&launcher, &request(2)));
    }
}

#[test]
fn a_delayed_request_arrives_in_its_time() {
    let clock = ManualClock::new();
    let launcher = ControllableLauncher::accepting().with_clock(Arc::new(clock.clone()));
    let r = request(1);
    launcher.answer_next(LaunchAnswer::Delay(20 * SECOND));
    assert!(launch(&launcher, &r).is_err());
    clock.advance(19 * SECOND);
    assert_eq!(find(&launcher, &r).unwrap(), Found::Absent);
    clock.advance(SECOND);
    assert!(matches!(find(&launcher, &r).unwrap(), Found::Build(_)));
}

#[tokio::test]
async fn nothing_is_sent_after_a_freeze_that_outlived_the_claim() {
    let clock = ManualClock::new();
    let launcher = ControllableLauncher::accepting().with_clock(Arc::new(clock.clone()));
    for (frozen_for, builds) in [(60 * SECOND, 0), (59 * SECOND, 1)] {
        let mut r = request(1);
        r.send_before = SendBefore(clock.monotonic().plus(60 * SECOND));
        launcher.hold_sends(true);
        let kept = Kept::default();
        let mut launching = launcher.launch(&r, &kept);
        assert!(poll!(&mut launching).is_pending());
        launcher.until_held(1).await;
        clock.advance(frozen_for);
        launcher.hold_sends(false);
        let launched = launching.await;
        assert_eq!(launched.is_ok(), builds == 1);
        assert_eq!(launched.err().map(|e| e.kind()), (builds == 0).then_some(ErrorKind::ClaimLost));
        assert_eq!(launcher.external_builds(r.key), builds);
    }
}

#[test]
fn an_outage_is_an_error_everywhere_and_loses_nothing() {
    let (launcher, r) = (ControllableLauncher::accepting(), request(1));
    let reference = accepted(launch(&launcher, &r));
    launcher.outage(true);
    let kinds = [
        launch(&launcher, &r).unwrap_err().kind(),
        find(&launcher, &r).unwrap_err().kind(),
        look(&launcher, r.key, &reference).unwrap_err().kind(),
        launcher.cancel(&r.key, &reference).now_or_never().unwrap().unwrap_err().kind(),
        launcher.log(&reference, 0, 10).now_or_never().unwrap().unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::Unavailable; 5]);
    launcher.outage(false);
    assert_eq!(look(&launcher, r.key, &reference).unwrap().seen, Seen::Queued { why: None });
    assert_eq!((launcher.external_builds(r.key), launcher.cancels().len()), (1, 0));
}

#[test]
fn a_build_that_vanished_is_unknown_until_it_is_back() {
    let (launcher, r) = (ControllableLauncher::accepting(), request(1));
    let reference = accepted(launch(&launcher, &r));
    let build = launcher.build(r.key).unwrap();
    build.vanish();
    assert_eq!(look(&launcher, r.key, &reference).unwrap().seen, Seen::Unknown);
    assert_eq!(find(&launcher, &r).unwrap(), Found::Absent);
    build.reappear();
    assert!(matches!(find(&launcher, &r).unwrap(), Found::Build(_)));
}

#[test]
fn a_search_can_be_inconclusive_and_a_blind_one_always_is() {
    let (launcher, r) = (ControllableLauncher::accepting(), request(1));
    launcher.inconclusive(Some(SECOND));
    assert_eq!(find(&launcher, &r).unwrap(), Found::Inconclusive { look_again: SECOND });
    launcher.inconclusive(None);
    assert_eq!(find(&launcher, &r).unwrap(), Found::Absent);
    let blind = ControllableLauncher::accepting().with_promise(Promise::Blind);
    assert!(matches!(find(&blind, &r).unwrap(), Found::Inconclusive { .. }));
    assert_eq!((launcher.finds(), blind.finds()), (2, 1));
}

#[test]
fn a_cancel_is_recorded_and_confirmed_or_ignored_or_too_late() {
    let launcher = ControllableLauncher::accepting();
    let cancel = |r: &LaunchRequest| {
        let reference = accepted(launch(&launcher, r));
        let build = launcher.last_of(r.dependency.as_str());
        build.start();
        if r.number == 2 {
            build.finish(Outcome::Succeeded);
        }
        launcher.cancel(&r.key, &reference).now_or_never().unwrap().unwrap();
        assert_eq!(build.cancels(), 1);
        look(&launcher, r.key, &reference).unwrap().seen
    };
    assert_eq!(cancel(&request(1)), Seen::Ended(Ended::new(Outcome::Cancelled)));
    let mut late = request(2);
    late.number = 2;
    assert!(matches!(cancel(&late), Seen::Ended(e) if e.outcome == Outcome::Succeeded));
    launcher.ignore_cancels(true);
    assert_eq!(cancel(&request(3)), Seen::Running);
    assert_eq!(launcher.cancels().len(), 3);
    let unknown = ExternalRef("build/99".into());
    assert!(launcher.cancel(&late.key, &unknown).now_or_never().unwrap().is_ok());
}

#[test]
fn logs_and_artifacts_are_given_in_ranges() {
    let (launcher, r) = (ControllableLauncher::accepting(), request(1));
    let reference = accepted(launch(&launcher, &r));
    let build = launcher.build(r.key).unwrap();
    build.log("hello");
    build.artifact("out/a", *b"0123456789");
    let log = |offset| launcher.log(&reference, offset, 3).now_or_never().unwrap().unwrap();
    assert_eq!(log(0), Chunk { bytes: b"hel".to_vec(), is_last: false });
    assert_eq!(log(5), Chunk { bytes: vec![], is_last: false });
    build.finish(Outcome::Succeeded);
    assert_eq!(log(3), Chunk { bytes: b"lo".to_vec(), is_last: true });
    let artifact = |name| launcher.artifact(&reference, name, 8, 100).now_or_never().unwrap();
    assert_eq!(artifact("out/a").unwrap(), Chunk { bytes: b"89".to_vec(), is_last: true });
    assert_eq!(artifact("out/b").unwrap_err().kind(), ErrorKind::NotFound);
    for outside in ["../a", "/a", "out//a", "out/../../a", ""] {
        assert_eq!(artifact(outside).unwrap_err().kind(), ErrorKind::InvalidInput, "{outside}");
    }
}

#[test]
fn a_job_can_be_invalid() {
    let launcher = ControllableLauncher::default();
    assert!(launcher.check_job(&json!({"any": "thing"})).is_ok());
    assert_eq!(
        launcher.check_job(&json!({"invalid": "no recipe"})).unwrap_err().kind(),
        ErrorKind::InvalidConfig
    );
}

#[test]
fn looking_at_a_build_under_another_key_is_the_callers_defect() {
    let (launcher, r) = (ControllableLauncher::default(), request(1));
    let reference = accepted(launch(&launcher, &r));
    assert_eq!(look(&launcher, request(2).key, &reference).unwrap_err().kind(), ErrorKind::Internal);
}
