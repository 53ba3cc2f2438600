//! What the steps keep: records, notes, messages, and the verdicts on orphans.

use super::{
    Judgement, Step,
    imagined::{Owned, accepted, end, ended, error, external, note, queued, refusal, refuses, seen, words},
    judge,
};
use crate::{
    ErrorKind, Result,
    events::EventKind,
    launch::{Ended, Outcome, Report, Seen},
    model::{
        Artifact, Build, Orphan, OrphanVerdict,
        Phase::{self, Launching, Requested, Running, Submitted},
    },
    sample::{self, at},
};
use std::time::Duration;

#[test]
fn the_record_of_an_accepted_build() {
    let s = Owned::of(Launching).unknown(0, 5).refused().stalls(3);
    let step = s.view().launched(accepted());
    let Step::Advance { build, note, events, .. } = step else { panic!("{step:?}") };
    assert_eq!((build.external, build.submitted_at), (Some(external("q1")), Some(at(30))));
    assert_eq!((note.unknown_since, note.refused, note.stalls), (None, None, 0));
    assert_eq!(events[0].kind, EventKind::BuildSubmitted { build: s.build.id });
}

#[test]
fn the_record_of_a_send() {
    let s = Owned::of(Requested);
    let Step::Send { build } = s.view().resume() else { panic!() };
    assert_eq!((build.phase, build.sends, build.launching_at), (Launching, 1, Some(at(30))));
}

#[test]
fn a_first_refusal_is_handed_on() {
    let end = end(Owned::of(Launching).view().launched(refuses()));
    assert_eq!(end.refusal, Some(refusal()));
    assert_eq!(end.build.message.as_deref(), Some("the build system refused it: no such job"));
}

#[test]
fn a_step_from_queued_to_running_is_bookkeeping_until_something_else_is_written() {
    let s = Owned::of(Submitted);
    let first = note(s.look(seen(Seen::Running)));
    assert_eq!(first.running_at, Some(at(30)));
    let s = s.with(|s| s.note = first).now(60);
    assert_eq!(note(s.look(seen(Seen::Running))).running_at, Some(at(30)), "the first time counts");
    assert_eq!(note(s.look(queued())).waits_for, None, "what runs waits for nothing");
    let waits = note(Owned::of(Submitted).look(queued())).waits_for;
    assert_eq!(waits.as_deref(), Some("no executor"));
    let step = s.look(Ok(Report { external: Some(external("b7")), seen: Seen::Running }));
    let Step::Advance { build, .. } = step else { panic!("{step:?}") };
    assert_eq!((build.phase, build.running_at), (Running, Some(at(30))));
    let end = end(s.look(ended(Outcome::Succeeded)));
    assert_eq!(end.build.running_at, Some(at(30)));
}

#[test]
fn a_new_reference_is_kept_and_reports_about_the_old_one_change_nothing() {
    let s = Owned::of(Submitted);
    let step = s.look(Ok(Report { external: Some(external("b7")), seen: Seen::Running }));
    let Step::Advance { build, .. } = step else { panic!("{step:?}") };
    assert_eq!(build.external, Some(external("b7")));
    let moved = Owned { build: *build, ..s };
    for old in [seen(Seen::Unknown), queued(), ended(Outcome::Cancelled)] {
        assert_eq!(words(&moved.view().observed(&external("q1"), old)), "nothing, 0s");
    }
    let same = moved.look(Ok(Report { external: Some(external("b7")), seen: Seen::Running }));
    assert_eq!(words(&same), "nothing, 2s", "a repeated report changes nothing");
    let long = moved.look(Ok(Report { external: Some(external(&"x".repeat(5_000))), seen: Seen::Running }));
    assert_eq!(words(&long), "nothing, 2s", "one that cannot be kept neither");
}

#[test]
fn only_contact_counts_towards_lost() {
    // Unknown at 100; unreachable from then on; back at 2,000.
    let mut s = Owned::of(Submitted).now(100);
    s.note = note(s.look(seen(Seen::Unknown)));
    assert_eq!(s.note.unknown_since, Some(at(100)));
    for now in (160..2_000).step_by(60) {
        s.now = now;
        s.note = note(s.look(Err(error(ErrorKind::Unavailable))));
    }
    s.now = 2_000;
    let step = s.look(seen(Seen::Unknown));
    s.note = note(step);
    assert_eq!(s.note.unknown_since, Some(at(2_000)), "nothing of the time without contact counts");
    for now in (2_030..=2_900).step_by(30) {
        s.now = now;
        s.note = note(s.look(seen(Seen::Unknown)));
    }
    s.now = 2_901;
    assert_eq!(s.observed(seen(Seen::Unknown)), "end lost, may still run");
    assert_eq!(note(s.look(seen(Seen::Running))).unknown_since, None, "one good report resets it");
}

#[test]
fn a_scheduler_that_slept_proves_nothing() {
    let mut s = Owned::of(Submitted).now(100);
    s.note = note(s.look(seen(Seen::Unknown)));
    s.now = 100_000;
    assert_eq!(s.observed(seen(Seen::Unknown)), "nothing, 30s");
    assert_eq!(note(s.look(seen(Seen::Unknown))).unknown_since, Some(at(100_000 - 120)));
}

#[test]
fn a_revision_other_than_the_pinned_one_is_kept_and_told() {
    let report = |built: &str| {
        let mut ended = Ended::new(Outcome::Succeeded);
        ended.built = Some(sample::revision(built));
        seen(Seen::Ended(ended))
    };
    let s = Owned::of(Running);
    assert_eq!(s.observed(report("r1")), "end succeeded, good");
    assert_eq!(s.observed(report("other")), "end succeeded, drift, good");
    let end = end(s.look(report("other")));
    assert_eq!(end.build.stands_for(), &sample::revision("other"));
    assert_eq!(end.build.revision, sample::revision("r1"));
}

#[test]
fn hostile_artifacts_are_dropped_with_a_word_in_the_message() {
    let artifact = |name: &str| Artifact { name: name.into(), digest: None, size: None, location: None };
    let mut ended = Ended::new(Outcome::Succeeded);
    ended.artifacts = vec![artifact("a"), artifact("../../etc/passwd"), artifact("/b")];
    ended.message = Some("fine\u{1b}[31m".into());
    let end = end(Owned::of(Running).look(seen(Seen::Ended(ended))));
    assert_eq!(end.build.artifacts, [artifact("a")]);
    let message = end.build.message.unwrap();
    assert!(
        message.starts_with("2 artifacts were not kept") && message.ends_with("; fine [31m"),
        "{message}"
    );
}

#[test]
fn a_message_is_bounded() {
    let mut ended = Ended::new(Outcome::Failed);
    ended.message = Some("ä".repeat(100_000));
    let end = end(Owned::of(Running).look(seen(Seen::Ended(ended))));
    assert_eq!(end.build.message.unwrap().len(), 2_000);
}

#[test]
fn judging_orphans() {
    use Judgement::{Adopt, Later, Stop as StopIt, Verdict};
    let orphan = Orphan {
        build: sample::build_id(1),
        external: external("q1"),
        seen_by: "h".into(),
        seen_at: at(0),
        verdict: None,
    };
    let later = Later(Duration::from_secs(60));
    let launching = Owned::of(Launching).build;
    let same = Owned::of(Submitted).build;
    let moved = Owned::of(Submitted).with(|s| s.build.external = Some(external("b7"))).build;
    let ended_build = Owned::of(Phase::Lost).build;
    let to = |name: &str| Ok(Report { external: Some(external(name)), seen: Seen::Running });
    let runs = || seen(Seen::Running);
    let down = || Err(error(ErrorKind::Unavailable));
    type Row<'a> = (&'a str, Option<&'a Build>, Result<Report>, Option<Result<Report>>, i64, Judgement);
    let rows: [Row<'_>; 13] = [
        ("unreachable", Some(&launching), down(), None, 9_999, later.clone()),
        ("the build has none: it is the one", Some(&launching), runs(), None, 1, Adopt(external("q1"))),
        ("the newest name is adopted", Some(&launching), to("b7"), None, 1, Adopt(external("b7"))),
        ("it is the build's own", Some(&same), runs(), None, 1, Verdict(OrphanVerdict::Adopted)),
        ("it became the build's own", Some(&moved), to("b7"), None, 1, Verdict(OrphanVerdict::Adopted)),
        ("both became the same", Some(&moved), to("b8"), Some(to("b8")), 1, Verdict(OrphanVerdict::Adopted)),
        ("the own one cannot be asked", Some(&moved), runs(), Some(down()), 1, later.clone()),
        ("a second one", Some(&moved), runs(), Some(runs()), 1, StopIt(external("q1"))),
        ("the build has ended", Some(&ended_build), runs(), None, 1, StopIt(external("q1"))),
        ("the record is gone", None, runs(), None, 1, StopIt(external("q1"))),
        ("it has ended", None, ended(Outcome::Failed), None, 1, Verdict(OrphanVerdict::Ignored)),
        ("unknown", Some(&launching), seen(Seen::Unknown), None, 899, later.clone()),
        (
            "unknown for long",
            Some(&launching),
            seen(Seen::Unknown),
            None,
            900,
            Verdict(OrphanVerdict::Ignored),
        ),
    ];
    for (name, build, seen, own, now, want) in rows {
        assert_eq!(judge(&orphan, build, &seen, own.as_ref(), at(now)), want, "{name}");
    }
}
