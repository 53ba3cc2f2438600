use super::*;
use crate::{
    launch::Refusal,
    model::ExternalRef,
    sample::{at, build as sample_build, dependency, revision},
};

const SECOND: Duration = Duration::from_secs(1);
const SETTLE: Promise = Promise::FindableByKey { settle: Duration::from_secs(120) };
const BY_KEY: Promise = Promise::IdempotentByKey;

/// What a step says, in words.
fn words(step: &Step) -> String {
    match step {
        Step::Again { after, .. } => format!("again in {after:?}"),
        Step::Advance { build, after, .. } => format!("{} in {after:?}", build.phase),
        Step::Send => "send".into(),
        Step::End(ending) => words_of_end(ending),
    }
}

fn words_of_end(ending: &Ending) -> String {
    let permanent = if ending.end.permanent { ", permanent" } else { "" };
    let still = if ending.may_still_run { ", may still run" } else { "" };
    format!("ends {}{permanent}{still}", ending.end.phase)
}

fn words_of_next(next: &Next) -> String {
    match next {
        Next::Admit => "admit".into(),
        Next::Send => "send".into(),
        Next::Find => "find".into(),
        Next::Observe => "observe".into(),
        Next::Wait(after) => format!("wait {after:?}"),
        Next::End(ending) => words_of_end(ending),
    }
}

fn note_of(step: &Step) -> Note {
    match step {
        Step::Again { note, .. } | Step::Advance { note, .. } => note.clone(),
        _ => panic!("{} leaves no note", words(step)),
    }
}

fn advanced(step: &Step) -> Build {
    match step {
        Step::Advance { build, .. } => (**build).clone(),
        _ => panic!("{} records nothing", words(step)),
    }
}

fn in_phase(phase: Phase) -> Build {
    Build { phase, ..sample_build(1, dependency(1)) }
}

/// Sent once, at second 0.
fn launching_build() -> Build {
    Build { launching_at: Some(at(0)), sends: 1, ..in_phase(Phase::Launching) }
}

/// Accepted at second 0.
fn submitted_build() -> Build {
    let external = Some(ExternalRef("queue/1".into()));
    Build { external, submitted_at: Some(at(0)), phase: Phase::Submitted, ..launching_build() }
}

fn running_build() -> Build {
    let external = Some(ExternalRef("build/1".into()));
    Build { external, phase: Phase::Running, running_at: Some(at(0)), ..submitted_build() }
}

fn stopping(build: Build, reason: StopReason) -> Build {
    Build { stop: Some(Stop { reason, asked_at: at(0) }), ..build }
}

fn cancelled(build: Build) -> Build {
    stopping(build, StopReason::Cancel { by: "ada".into() })
}

fn refused_before(build: Build, permanent: bool) -> Build {
    Build { refusal: Some(StoredRefusal { reason: "no".into(), permanent }), sends: 2, ..build }
}

fn blind(choice: WhenBlind) -> Policy {
    Policy::default().with_when_blind(Some(choice))
}

/// Queue 600 s, run 1,200 s, stop 60 s, lost after 300 s.
fn short() -> Policy {
    let timeouts = Timeouts {
        queue: 600 * SECOND,
        run: 1_200 * SECOND,
        stop: 60 * SECOND,
        lost_after: 300 * SECOND,
        ..Timeouts::default()
    };
    Policy::default().with_timeouts(timeouts)
}

fn error(kind: ErrorKind) -> Error {
    Error::new(kind, "the test says so")
}

fn report(seen: Seen) -> Result<Report> {
    Ok(Report { external: None, seen })
}

fn queued() -> Seen {
    Seen::Queued { why: Some("no agent is free".into()) }
}

#[test]
fn what_is_claimed_is_gone_on_with_by_its_phase() {
    let unsent = Build { launching_at: None, sends: 0, ..launching_build() };
    let (once, least) = (blind(WhenBlind::AtMostOnce), blind(WhenBlind::AtLeastOnce));
    let plain = Policy::default();
    let lost = "ends lost, may still run";
    let cases: &[(&str, Build, Promise, &Policy, i64, &str)] = &[
        ("recorded", in_phase(Phase::Requested), SETTLE, &plain, 0, "admit"),
        ("recorded, stopped", cancelled(in_phase(Phase::Requested)), SETTLE, &plain, 0, "ends cancelled"),
        ("never sent", unsent.clone(), SETTLE, &plain, 0, "send"),
        ("never sent, blind", unsent.clone(), Promise::Blind, &once, 0, "send"),
        ("never sent, stopped", cancelled(unsent), SETTLE, &plain, 0, "ends cancelled"),
        ("sent now", launching_build(), SETTLE, &plain, 0, "wait 120s"),
        ("settling", launching_build(), SETTLE, &plain, 119, "wait 1s"),
        ("settled", launching_build(), SETTLE, &plain, 120, "find"),
        ("clock set back", launching_build(), SETTLE, &plain, -3_600, "wait 120s"),
        ("stopped while settling", cancelled(launching_build()), SETTLE, &plain, 60, "wait 60s"),
        ("by key", launching_build(), BY_KEY, &plain, 0, "send"),
        ("by key, stopped", cancelled(launching_build()), BY_KEY, &plain, 0, "find"),
        ("by key, refused", refused_before(launching_build(), false), BY_KEY, &plain, 0, "find"),
        ("blind, at most once", launching_build(), Promise::Blind, &once, 0, lost),
        ("blind, no choice", launching_build(), Promise::Blind, &plain, 0, lost),
        ("blind, at least once", launching_build(), Promise::Blind, &least, 0, "send"),
        ("blind, stopped", cancelled(launching_build()), Promise::Blind, &least, 0, lost),
        ("blind, refused", refused_before(launching_build(), true), Promise::Blind, &least, 0, lost),
        ("submitted", submitted_build(), SETTLE, &plain, 0, "observe"),
        ("running", running_build(), SETTLE, &plain, 0, "observe"),
    ];
    for (name, build, promise, policy, now, expected) in cases {
        assert_eq!(words_of_next(&next(build, *promise, policy, at(*now))), *expected, "{name}");
    }
}

#[test]
fn each_answer_to_a_send_has_one_meaning() {
    let accepted = || Ok(Launched::Accepted(ExternalRef("queue/1".into())));
    let refused = |permanent| Ok(Launched::Refused(Refusal { reason: "no".into(), permanent }));
    let unknown = || Err(error(ErrorKind::OutcomeUnknown));
    let twice = || Build { sends: 2, ..launching_build() };
    let (once, least) = (blind(WhenBlind::AtMostOnce), blind(WhenBlind::AtLeastOnce));
    let plain = Policy::default();
    type Answer = Result<Launched>;
    let cases: Vec<(&str, Build, Answer, Promise, &Policy, &str)> = vec![
        ("accepted", launching_build(), accepted(), SETTLE, &plain, "submitted in 2s"),
        ("accepted, stopping", cancelled(launching_build()), accepted(), SETTLE, &plain, "submitted in 2s"),
        ("refused at first", launching_build(), refused(false), SETTLE, &plain, "ends refused"),
        ("for good", launching_build(), refused(true), SETTLE, &plain, "ends refused, permanent"),
        ("refused, stopping", cancelled(launching_build()), refused(true), SETTLE, &plain, "ends cancelled"),
        ("refused later", twice(), refused(false), SETTLE, &plain, "launching in 120s"),
        ("refused later, by key", twice(), refused(false), BY_KEY, &plain, "launching in 1s"),
        ("refused later, blind", twice(), refused(false), Promise::Blind, &least, "ends lost, may still run"),
        ("unknown", launching_build(), unknown(), SETTLE, &plain, "launching in 120s"),
        ("unknown, by key", launching_build(), unknown(), BY_KEY, &plain, "launching in 1s"),
        ("unknown, once", launching_build(), unknown(), Promise::Blind, &once, "ends lost, may still run"),
        ("unknown, at least once", launching_build(), unknown(), Promise::Blind, &least, "launching in 1s"),
        (
            "not sent",
            launching_build(),
            Err(error(ErrorKind::Unavailable)),
            SETTLE,
            &plain,
            "launching in 1s",
        ),
        ("too late", launching_build(), Err(error(ErrorKind::ClaimLost)), SETTLE, &plain, "launching in 0ns"),
        ("found meanwhile", submitted_build(), accepted(), SETTLE, &plain, "again in 0ns"),
        ("found, unknown", submitted_build(), unknown(), Promise::Blind, &once, "again in 0ns"),
        ("found, refused", running_build(), refused(true), SETTLE, &plain, "again in 0ns"),
    ];
    for (name, build, answer, promise, policy, expected) in cases {
        let step = launched(&build, &answer, promise, policy, &Note::default(), at(0));
        assert_eq!(words(&step), expected, "{name}");
    }
}

#[test]
fn an_accepted_build_is_recorded_with_its_reference_and_no_refusal() {
    let note = Note { stalls: 3, waits_for: Some("x".into()), unknown_since: Some(at(0)), ..Note::default() };
    let answer = Ok(Launched::Accepted(ExternalRef("queue/1".into())));
    let build = refused_before(launching_build(), true);
    let step = launched(&build, &answer, SETTLE, &Policy::default(), &note, at(5));
    let next = advanced(&step);
    assert_eq!(next.external, Some(ExternalRef("queue/1".into())));
    assert_eq!((next.submitted_at, next.refusal), (Some(at(5)), None));
    let note = note_of(&step);
    assert_eq!((note.stalls, note.waits_for, note.unknown_since), (0, None, None));
    assert!(matches!(&step, Step::Advance { events, .. } if events.len() == 1));
}

#[test]
fn a_send_that_did_not_happen_is_taken_back_and_repeated_later_each_time() {
    let answer = Err(error(ErrorKind::Unavailable));
    let policy = Policy::default();
    let first = advanced(&launched(&launching_build(), &answer, SETTLE, &policy, &Note::default(), at(0)));
    assert_eq!((first.sends, first.launching_at), (0, None));
    let twice = Build { sends: 2, ..launching_build() };
    let second = advanced(&launched(&twice, &answer, SETTLE, &policy, &Note::default(), at(0)));
    assert_eq!((second.sends, second.launching_at), (1, Some(at(0))), "the first one may have arrived");
    for (stalls, wait) in [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (u32::MAX, 60)] {
        let note = Note { stalls, ..Note::default() };
        let step = launched(&launching_build(), &answer, SETTLE, &policy, &note, at(0));
        assert_eq!(words(&step), format!("launching in {:?}", wait * SECOND));
        let note = note_of(&step);
        assert_eq!(note.stalls, stalls.saturating_add(1));
        assert!(note.waits_for.unwrap().contains("the test says so"));
    }
}

#[test]
fn a_later_refusal_is_kept_until_absence_is_proven() {
    let twice = Build { sends: 2, ..launching_build() };
    let answer = Ok(Launched::Refused(Refusal { reason: "x".repeat(10_000), permanent: true }));
    let next = advanced(&launched(&twice, &answer, SETTLE, &Policy::default(), &Note::default(), at(0)));
    let refusal = next.refusal.unwrap();
    assert!(refusal.permanent && refusal.reason.len() <= MAX_MESSAGE);
}

#[test]
fn each_answer_to_a_search_has_one_meaning() {
    let there = || Ok(Found::Build(ExternalRef("build/1".into())));
    let cannot_tell = |s: u32| Ok(Found::Inconclusive { look_again: s * SECOND });
    let away = || Err(error(ErrorKind::Unavailable));
    let refused = |permanent| refused_before(launching_build(), permanent);
    let since = |s: i64| Note { unknown_since: Some(at(s)), last_run: Some(at(s)), ..Note::default() };
    let none = Note::default;
    let both = || cancelled(refused(true));
    type Answer = Result<Found>;
    let cases: Vec<(&str, Build, Answer, Note, i64, &str)> = vec![
        ("there", launching_build(), there(), none(), 0, "submitted in 2s"),
        ("there, refused", refused(true), there(), none(), 0, "submitted in 2s"),
        ("there, stopping", cancelled(launching_build()), there(), none(), 0, "submitted in 2s"),
        ("absent", launching_build(), Ok(Found::Absent), none(), 0, "send"),
        ("absent, refused", refused(false), Ok(Found::Absent), none(), 0, "ends refused"),
        ("absent, refused for good", refused(true), Ok(Found::Absent), none(), 0, "ends refused, permanent"),
        ("absent, stopping", cancelled(launching_build()), Ok(Found::Absent), none(), 0, "ends cancelled"),
        ("absent, refused, stopping", both(), Ok(Found::Absent), none(), 0, "ends cancelled"),
        ("cannot tell", launching_build(), cannot_tell(20), none(), 0, "again in 20s"),
        ("cannot tell, hot", launching_build(), cannot_tell(0), none(), 0, "again in 100ms"),
        ("cannot tell, slow", launching_build(), cannot_tell(9_999), none(), 0, "again in 60s"),
        ("sent long ago, asked first now", launching_build(), cannot_tell(20), none(), 9_999, "again in 20s"),
        ("away", launching_build(), away(), none(), 99_999, "again in 1s"),
        ("away, stopping", cancelled(launching_build()), away(), none(), 60, "again in 1s"),
        ("given up", cancelled(launching_build()), away(), none(), 61, "ends cancelled, may still run"),
        ("given up, asked", both(), cannot_tell(1), none(), 61, "ends cancelled, may still run"),
        (
            "since 300 s",
            launching_build(),
            cannot_tell(20),
            Note { last_run: Some(at(280)), ..since(0) },
            300,
            "again in 20s",
        ),
        (
            "for longer",
            launching_build(),
            cannot_tell(20),
            Note { last_run: Some(at(281)), ..since(0) },
            301,
            "ends lost, may still run",
        ),
    ];
    for (name, build, answer, note, now, expected) in cases {
        let step = found(&build, &answer, &short(), &note, at(now));
        assert_eq!(words(&step), expected, "{name}");
    }
}

#[test]
fn each_report_has_one_meaning() {
    let ended = |outcome| report(Seen::Ended(Ended::new(outcome)));
    let away = || Err(error(ErrorKind::Unavailable));
    let deadline = |build| stopping(build, StopReason::RunDeadline);
    let none = Note::default;
    let ran = |s: i64| Note { running_at: Some(at(s)), ..Note::default() };
    let gone =
        |since: i64, last: i64| Note { unknown_since: Some(at(since)), last_run: Some(at(last)), ..none() };
    type Answer = Result<Report>;
    let cases: Vec<(&str, Build, Answer, Note, i64, &str)> = vec![
        ("succeeded", running_build(), ended(Outcome::Succeeded), none(), 5, "ends succeeded"),
        ("unstable", running_build(), ended(Outcome::Unstable), none(), 5, "ends unstable"),
        ("failed", running_build(), ended(Outcome::Failed), none(), 5, "ends failed"),
        ("stopped there", running_build(), ended(Outcome::Cancelled), none(), 5, "ends cancelled"),
        (
            "stop confirmed",
            cancelled(running_build()),
            ended(Outcome::Cancelled),
            none(),
            5,
            "ends cancelled",
        ),
        (
            "deadline confirmed",
            deadline(running_build()),
            ended(Outcome::Cancelled),
            none(),
            5,
            "ends timed out",
        ),
        (
            "stop lost to success",
            cancelled(running_build()),
            ended(Outcome::Succeeded),
            none(),
            999,
            "ends succeeded",
        ),
        ("ended in the queue", submitted_build(), ended(Outcome::Failed), none(), 9_999, "ends failed"),
        ("already ended", in_phase(Phase::Failed), ended(Outcome::Succeeded), none(), 5, "again in 0ns"),
        ("queued", submitted_build(), report(queued()), none(), 5, "again in 2s"),
        ("queued for long", submitted_build(), report(queued()), none(), 600, "again in 30s"),
        ("queued for too long", submitted_build(), report(queued()), none(), 601, "submitted in 0ns"),
        ("runs", submitted_build(), report(Seen::Running), none(), 100, "again in 10s"),
        ("runs, queued long before", submitted_build(), report(Seen::Running), none(), 601, "again in 30s"),
        ("runs for long", running_build(), report(Seen::Running), none(), 1_200, "again in 30s"),
        ("runs for too long", running_build(), report(Seen::Running), none(), 1_201, "running in 0ns"),
        (
            "noted as running too long",
            submitted_build(),
            report(Seen::Running),
            ran(0),
            1_201,
            "submitted in 0ns",
        ),
        ("stopping", cancelled(running_build()), report(Seen::Running), none(), 60, "again in 2s"),
        (
            "stop ignored",
            cancelled(running_build()),
            report(Seen::Running),
            none(),
            61,
            "ends cancelled, may still run",
        ),
        (
            "deadline ignored",
            deadline(running_build()),
            report(Seen::Running),
            none(),
            61,
            "ends timed out, may still run",
        ),
        ("unknown", running_build(), report(Seen::Unknown), none(), 5, "again in 2s"),
        ("unknown, still", running_build(), report(Seen::Unknown), gone(0, 270), 300, "again in 30s"),
        (
            "unknown for too long",
            running_build(),
            report(Seen::Unknown),
            gone(0, 271),
            301,
            "ends lost, may still run",
        ),
        (
            "unknown, stopping",
            cancelled(running_build()),
            report(Seen::Unknown),
            gone(-300, 0),
            30,
            "ends cancelled",
        ),
        ("away", running_build(), away(), none(), 5, "again in 1s"),
        ("away, queued for long", submitted_build(), away(), none(), 1_800, "again in 1s"),
        ("away for both deadlines", submitted_build(), away(), none(), 1_801, "submitted in 0ns"),
        ("away, ran too long", running_build(), away(), none(), 1_201, "running in 0ns"),
        ("away, stopping", cancelled(running_build()), away(), none(), 60, "again in 1s"),
        ("away, given up", cancelled(running_build()), away(), none(), 61, "ends cancelled, may still run"),
    ];
    for (name, build, answer, note, now, expected) in cases {
        let step = reported(&build, &answer, &short(), &note, at(now));
        assert_eq!(words(&step), expected, "{name}");
    }
}

#[test]
fn a_deadline_asks_for_a_stop_and_says_so() {
    let cases = [
        (submitted_build(), queued(), 601, StopReason::QueueDeadline),
        (running_build(), Seen::Running, 1_201, StopReason::RunDeadline),
    ];
    for (build, seen, now, reason) in cases {
        let step = reported(&build, &report(seen), &short(), &Note::default(), at(now));
        assert_eq!(advanced(&step).stop, Some(Stop { reason: reason.clone(), asked_at: at(now) }));
        let stopping = EventKind::BuildStopping { build: build.id, reason };
        assert!(matches!(&step, Step::Advance { events, .. } if *events == [stopping]));
    }
}

#[test]
fn a_queue_item_that_became_a_build_is_recorded() {
    let answer = Ok(Report { external: Some(ExternalRef("build/1".into())), seen: Seen::Running });
    let next = advanced(&reported(&submitted_build(), &answer, &short(), &Note::default(), at(7)));
    assert_eq!(next.external, Some(ExternalRef("build/1".into())));
    assert_eq!((next.phase, next.running_at), (Phase::Running, Some(at(7))));
    // The same report again changes nothing (I6).
    let again = reported(&next, &answer, &short(), &Note::default(), at(8));
    assert!(matches!(again, Step::Again { .. }));
    // A new name in the queue is kept, and is not a start.
    let moved = Ok(Report { external: Some(ExternalRef("queue/2".into())), seen: queued() });
    let next = advanced(&reported(&submitted_build(), &moved, &short(), &Note::default(), at(7)));
    assert_eq!((next.phase, next.running_at), (Phase::Submitted, None));
    // Nothing moves back: an older report of a queue item leaves the build running.
    let late = reported(&running_build(), &report(queued()), &short(), &Note::default(), at(9));
    assert!(matches!(late, Step::Again { .. }));
}

#[test]
fn the_first_sight_of_a_run_is_kept_in_the_note() {
    let first = reported(&submitted_build(), &report(Seen::Running), &short(), &Note::default(), at(7));
    let note = note_of(&first);
    assert_eq!(note.running_at, Some(at(7)));
    let second = reported(&submitted_build(), &report(Seen::Running), &short(), &note, at(9));
    assert_eq!(note_of(&second).running_at, Some(at(7)));
}

#[test]
fn what_a_build_waits_for_is_said_while_it_waits() {
    let cases: [(Result<Report>, Option<&str>); 4] = [
        (report(queued()), Some("no agent is free")),
        (report(Seen::Unknown), Some("the build system to know the build again")),
        (Err(error(ErrorKind::Unavailable)), Some("the test says so")),
        (report(Seen::Running), None),
    ];
    for (answer, expected) in cases {
        let before = Note { waits_for: Some("before".into()), ..Note::default() };
        let note = note_of(&reported(&submitted_build(), &answer, &short(), &before, at(1)));
        match expected {
            Some(text) => assert!(note.waits_for.unwrap().contains(text)),
            None => assert_eq!(note.waits_for, None),
        }
    }
}

#[test]
fn only_time_in_contact_counts_as_unknown() {
    let after = |note: Note, now: i64| {
        let step = reported(&running_build(), &report(Seen::Unknown), &short(), &note, at(now));
        note_of(&step).unknown_since.unwrap()
    };
    let note = |since: i64, last: i64, stalls| Note {
        unknown_since: Some(at(since)),
        last_run: Some(at(last)),
        stalls,
        ..Note::default()
    };
    assert_eq!(after(Note::default(), 50), at(50), "it begins with the first such answer");
    assert_eq!(after(note(0, 30, 0), 60), at(0), "all of it counts");
    assert_eq!(after(note(0, 30, 1), 60), at(30), "what an outage took does not");
    assert_eq!(after(note(0, 30, 0), 1_090), at(1_000), "nor what a scheduler that stood still did not see");
    assert_eq!(after(note(100, 100, 0), 50), at(50), "a clock that was set back starts it anew");
    let known = reported(&running_build(), &report(Seen::Running), &short(), &note(0, 30, 0), at(60));
    assert_eq!(note_of(&known).unknown_since, None, "an answer that knows it ends the count");
    let away =
        reported(&running_build(), &Err(error(ErrorKind::TimedOut)), &short(), &note(0, 30, 0), at(60));
    let away = note_of(&away);
    assert_eq!((away.unknown_since, away.last_run, away.stalls), (Some(at(0)), Some(at(30)), 1));
}

#[test]
fn an_end_keeps_what_was_told_within_bounds() {
    let artifact = |name: &str| Artifact { name: name.into(), digest: None, size: None, location: None };
    let mut ended = Ended::new(Outcome::Succeeded);
    ended.built = Some(revision("r9"));
    ended.message = Some("m".repeat(10_000));
    ended.artifacts = vec![artifact("lib/a.so")];
    let ending_of = |ended: &Ended| match reported(
        &running_build(),
        &report(Seen::Ended(ended.clone())),
        &short(),
        &Note::default(),
        at(1),
    ) {
        Step::End(ending) => ending,
        other => panic!("{}", words(&other)),
    };
    let kept = ending_of(&ended);
    assert_eq!((kept.built, kept.artifacts), (Some(revision("r9")), vec![artifact("lib/a.so")]));
    assert!(kept.message.unwrap().len() <= MAX_MESSAGE);

    let bad = ["", "/etc/passwd", "a//b", "a/../b", "..", ".", "a\\b", "a\nb", "a/"];
    ended.message = None;
    ended.artifacts = bad.iter().map(|n| artifact(n)).collect();
    ended.artifacts.push(artifact(&"n".repeat(1_025)));
    ended.artifacts.push(Artifact { digest: Some("d".repeat(257)), ..artifact("digest") });
    ended.artifacts.push(Artifact { location: Some("l".repeat(4_097)), ..artifact("location") });
    ended.artifacts.push(artifact(&"n".repeat(1_024)));
    let kept = ending_of(&ended);
    assert_eq!(kept.artifacts.len(), 1);
    assert!(kept.message.unwrap().starts_with("12 artifacts were not kept"));

    ended.artifacts = (0..=MAX_ARTIFACTS).map(|n| artifact(&n.to_string())).collect();
    ended.message = Some("said so".into());
    let kept = ending_of(&ended);
    assert_eq!(kept.artifacts.len(), MAX_ARTIFACTS);
    assert_eq!(
        kept.message.unwrap(),
        "said so; 1 artifacts were not kept: too many, or names that lead outside"
    );
}
