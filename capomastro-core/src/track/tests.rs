//! Every row of the rules: a situation, an answer, and in a few words what follows.

use super::{
    Step,
    imagined::{
        Owned, accepted, check, end, ended, error, external, inconclusive, queued, refuses, seen, words,
    },
};
use crate::{
    ErrorKind, Retry,
    launch::{Found, Launched, Outcome, Promise, Seen},
    model::{
        Phase::{self, Launching, Requested, Running, Submitted},
        StopReason, WhenBlind,
    },
    sample::at,
};
use std::time::Duration;

#[test]
fn resuming() {
    let launching = || Owned::of(Launching);
    let at_most = || launching().when_blind(WhenBlind::AtMostOnce);
    let at_least = || launching().when_blind(WhenBlind::AtLeastOnce);
    let idempotent = || launching().promise(Promise::IdempotentByKey);
    check([
        ("requested: send", Owned::of(Requested).resume(), "send 1"),
        ("requested, stop asked: nothing was sent", Owned::of(Requested).cancel(1).resume(), "end cancelled"),
        ("found in launching: wait the settle time", launching().now(30).resume(), "nothing, 60s"),
        ("settled: find", launching().now(90).resume(), "find"),
        ("stop asked while launching: find", launching().cancel(5).now(90).resume(), "find"),
        (
            "clock set back: wait no longer than the settle time",
            launching().now(-9_999).resume(),
            "nothing, 90s",
        ),
        ("no send left: send without a search", launching().sends(0).resume(), "send 1"),
        ("no send left, stop asked", launching().sends(0).cancel(5).resume(), "end cancelled"),
        ("idempotent: send again at once", idempotent().resume(), "send 2"),
        ("idempotent, stop asked: do not send", idempotent().cancel(5).resume(), "nothing, 90s"),
        ("idempotent, stop asked, settled", idempotent().cancel(5).now(120).resume(), "find"),
        ("idempotent, later send refused: settle", idempotent().sends(2).refused().resume(), "nothing, 90s"),
        ("idempotent, later send refused, settled", idempotent().refused().now(120).resume(), "find"),
        ("blind, at most once", at_most().resume(), "end lost, may still run"),
        ("blind, no choice", launching().promise(Promise::Blind).resume(), "end lost, may still run"),
        ("blind, at least once", at_least().resume(), "send 2"),
        ("blind, stop asked", at_least().cancel(5).resume(), "end cancelled, may still run"),
        ("submitted", Owned::of(Submitted).resume(), "observe"),
        ("running", Owned::of(Running).resume(), "observe"),
        ("running, stop asked", Owned::of(Running).cancel(25).resume(), "ask stop, observe"),
    ]);
}

#[test]
fn a_terminal_phase_stays_whatever_is_answered() {
    for phase in [
        Phase::Succeeded,
        Phase::Unstable,
        Phase::Failed,
        Phase::Cancelled,
        Phase::TimedOut,
        Phase::Lost,
        Phase::Refused,
    ] {
        let s = Owned::of(phase).with(|s| s.build.external = Some(external("q1")));
        check([
            ("resume", s.resume(), "done"),
            ("accepted", s.launched(accepted()), "done"),
            ("found", s.found(Ok(Found::Build(external("q9")))), "done"),
            ("absent", s.found(Ok(Found::Absent)), "done"),
            ("succeeded", s.observed(ended(Outcome::Succeeded)), "done"),
            ("unknown", s.observed(seen(Seen::Unknown)), "done"),
            ("cancel", words(&s.view().cancel("ann")), "done"),
            ("broken", words(&s.view().broken("ann", "why")), "done"),
        ]);
    }
}

#[test]
fn answers_to_a_launch() {
    let first = || Owned::of(Launching);
    let unknown = || Err(error(ErrorKind::OutcomeUnknown));
    let idempotent = || first().promise(Promise::IdempotentByKey);
    let at_least = || first().when_blind(WhenBlind::AtLeastOnce);
    let rest = || Err(error(ErrorKind::RateLimited).with_retry(Retry::After(Duration::from_secs(77))));
    check([
        ("accepted", first().launched(accepted()), "submitted, 2s"),
        ("accepted, stop asked meanwhile", first().cancel(20).launched(accepted()), "submitted, 0s"),
        ("accepted on a later send", first().sends(2).launched(accepted()), "submitted, 2s"),
        ("refused on the first send", first().launched(refuses()), "end refused"),
        ("refused on a later send", first().sends(2).launched(refuses()), "nothing, 90s"),
        ("refused on a later send, idempotent", idempotent().sends(2).launched(refuses()), "nothing, 120s"),
        (
            "refused on a later send, blind",
            at_least().sends(2).launched(refuses()),
            "end refused, may still run",
        ),
        ("unknown, findable: settle", first().launched(unknown()), "nothing, 90s"),
        ("unknown, idempotent: at once", idempotent().launched(unknown()), "nothing, 0s"),
        ("unknown again, idempotent: back off", idempotent().stalls(3).launched(unknown()), "nothing, 8s"),
        ("unknown, idempotent, stop asked", idempotent().cancel(5).launched(unknown()), "nothing, 120s"),
        (
            "unknown, blind, at most once",
            first().when_blind(WhenBlind::AtMostOnce).launched(unknown()),
            "end lost, may still run",
        ),
        ("unknown, blind, at least once", at_least().launched(unknown()), "nothing, 0s"),
        (
            "not sent: again after a back-off",
            first().launched(Err(error(ErrorKind::Unavailable))),
            "launching, 2s",
        ),
        (
            "not sent, again and again",
            first().stalls(4).launched(Err(error(ErrorKind::Unavailable))),
            "launching, 32s",
        ),
        (
            "not sent, useless soon",
            first().launched(Err(error(ErrorKind::PermissionDenied))),
            "launching, 3600s",
        ),
        ("not sent, told when", first().launched(rest()), "launching, 77s"),
        ("not sent, claim lost", first().launched(Err(error(ErrorKind::ClaimLost))), "launching, 0s"),
        (
            "not sent, stop asked",
            first().cancel(5).launched(Err(error(ErrorKind::Unavailable))),
            "end cancelled",
        ),
        (
            "not sent, an earlier one may have been, stop asked",
            first().sends(2).cancel(5).launched(Err(error(ErrorKind::Unavailable))),
            "launching, 2s",
        ),
        (
            "a name too long to keep",
            first().launched(Ok(Launched::Accepted(external(&"x".repeat(4_097))))),
            "end lost, may still run",
        ),
        ("adopted by another driver meanwhile", Owned::of(Submitted).launched(accepted()), "observe"),
    ]);
}

#[test]
fn a_send_that_never_left_does_not_count() {
    let s = Owned::of(Launching).view().launched(Err(error(ErrorKind::Unavailable)));
    let Step::Advance { build, note, .. } = s else { panic!("{s:?}") };
    assert_eq!((build.sends, note.stalls), (0, 1));
    assert_eq!(note.waits_for.as_deref(), Some("trouble"));
    let again = Owned { build: *build, ..Owned::of(Launching) };
    assert_eq!(again.resume(), "send 1", "so that a refusal of the next one is one of the first");
    assert_eq!(again.sends(1).launched(refuses()), "end refused");
}

#[test]
fn answers_to_a_search() {
    let s = || Owned::of(Launching).now(90);
    let idempotent = || Owned::of(Launching).promise(Promise::IdempotentByKey);
    check([
        ("there", s().found(Ok(Found::Build(external("b7")))), "submitted, 2s"),
        ("there, stop asked", s().cancel(5).found(Ok(Found::Build(external("b7")))), "submitted, 0s"),
        ("proven absent: the same key again", s().found(Ok(Found::Absent)), "send 2"),
        ("absent before the settle time is over", s().now(89).found(Ok(Found::Absent)), "nothing, 1s"),
        ("absent, later send refused", s().sends(2).refused().found(Ok(Found::Absent)), "end refused"),
        ("absent, stop asked", s().cancel(5).found(Ok(Found::Absent)), "end cancelled"),
        (
            "absent, stop asked, idempotent, early",
            idempotent().cancel(5).found(Ok(Found::Absent)),
            "nothing, 90s",
        ),
        (
            "absent, stop asked, idempotent, settled",
            idempotent().cancel(5).now(120).found(Ok(Found::Absent)),
            "end cancelled",
        ),
        ("inconclusive", s().found(inconclusive(7)), "nothing, 7s"),
        ("inconclusive, asks for no wait", s().found(inconclusive(0)), "nothing, 1s"),
        ("inconclusive, asks for too long a wait", s().found(inconclusive(9_999)), "nothing, 60s"),
        ("inconclusive for lost_after", s().unknown(0, 890).now(900).found(inconclusive(7)), "nothing, 7s"),
        (
            "inconclusive beyond it",
            s().unknown(0, 890).now(901).found(inconclusive(7)),
            "end lost, may still run",
        ),
        (
            "inconclusive, but nobody asked meanwhile",
            s().unknown(0, 10).now(9_999).found(inconclusive(7)),
            "nothing, 7s",
        ),
        ("inconclusive, stop asked, in grace", s().cancel(5).found(inconclusive(7)), "nothing, 7s"),
        (
            "inconclusive, stop asked, grace over",
            s().cancel(5).now(605).found(inconclusive(7)),
            "end cancelled, may still run",
        ),
        ("error", s().found(Err(error(ErrorKind::Unavailable))), "nothing, 2s"),
        ("many errors", s().stalls(9).found(Err(error(ErrorKind::Unavailable))), "nothing, 60s"),
        (
            "error beyond lost_after",
            s().unknown(0, 9).now(9_999).found(Err(error(ErrorKind::TimedOut))),
            "nothing, 2s",
        ),
        (
            "error, stop asked, grace over",
            s().cancel(5).now(605).found(Err(error(ErrorKind::Unavailable))),
            "end cancelled, may still run",
        ),
        (
            "absent, says a blind launcher: no proof",
            s().when_blind(WhenBlind::AtMostOnce).found(Ok(Found::Absent)),
            "end lost, may still run",
        ),
        ("no longer launching", Owned::of(Submitted).found(Ok(Found::Absent)), "observe"),
    ]);
}

#[test]
fn answers_to_a_look() {
    let s = || Owned::of(Submitted);
    let running = || Owned::of(Running).now(100);
    let noted = || Owned::of(Submitted).with(|s| s.note.running_at = Some(at(20)));
    let gone = || seen(Seen::Unknown);
    check([
        ("queued", s().observed(queued()), "nothing, 2s"),
        ("running", s().observed(seen(Seen::Running)), "nothing, 2s"),
        ("later the looks are slower", running().now(160).observed(seen(Seen::Running)), "nothing, 15s"),
        ("much later", running().now(4_000).observed(seen(Seen::Running)), "nothing, 30s"),
        ("queued after running: an older report", noted().now(4_000).observed(queued()), "nothing, 30s"),
        ("succeeded", s().observed(ended(Outcome::Succeeded)), "end succeeded, good"),
        ("unstable", s().observed(ended(Outcome::Unstable)), "end unstable"),
        (
            "unstable, which the policy calls good",
            s().with(|s| s.policy.unstable_is_good = true).observed(ended(Outcome::Unstable)),
            "end unstable, good",
        ),
        ("failed", s().observed(ended(Outcome::Failed)), "end failed"),
        ("cancelled over there", s().observed(ended(Outcome::Cancelled)), "end cancelled"),
        ("lost over there, by its own word: it runs no more", s().observed(ended(Outcome::Lost)), "end lost"),
        ("unknown", s().observed(gone()), "nothing, 2s"),
        ("unknown for lost_after", running().unknown(100, 990).now(1_000).observed(gone()), "nothing, 30s"),
        (
            "unknown beyond it",
            running().unknown(100, 990).now(1_001).observed(gone()),
            "end lost, may still run",
        ),
        ("error", s().observed(Err(error(ErrorKind::Unavailable))), "nothing, 2s"),
        ("many errors", s().stalls(20).observed(Err(error(ErrorKind::Unavailable))), "nothing, 60s"),
        ("error, useless soon", s().observed(Err(error(ErrorKind::PermissionDenied))), "nothing, 60s"),
        (
            "error while unknown",
            s().unknown(0, 9).now(900).observed(Err(error(ErrorKind::TimedOut))),
            "nothing, 2s",
        ),
    ]);
}

#[test]
fn deadlines() {
    let s = || Owned::of(Submitted);
    let running = || Owned::of(Running);
    let unreachable = || Err(error(ErrorKind::Unavailable));
    check([
        ("in the queue", s().now(1_009).observed(queued()), "nothing, 1s"),
        ("too long in the queue", s().now(1_010).observed(queued()), "submitted, 0s, stopping: queue"),
        ("too long, but it runs", s().now(1_010).observed(seen(Seen::Running)), "nothing, 30s"),
        ("too long, but nobody could ask", s().now(9_999).observed(unreachable()), "nothing, 2s"),
        ("too long, but unknown", s().now(9_999).observed(seen(Seen::Unknown)), "nothing, 30s"),
        ("the look comes with the deadline", s().now(1_000).observed(queued()), "nothing, 10s"),
        ("running", running().now(5_019).observed(seen(Seen::Running)), "nothing, 1s"),
        ("too long", running().now(5_020).observed(seen(Seen::Running)), "running, 0s, stopping: run"),
        ("too long, unreachable", running().now(5_020).observed(unreachable()), "running, 0s, stopping: run"),
        (
            "too long, but it had ended",
            running().now(9_999).observed(ended(Outcome::Succeeded)),
            "end succeeded, good",
        ),
    ]);
    let run = || running().stop(StopReason::RunDeadline, 5_020);
    let queue = || s().stop(StopReason::QueueDeadline, 1_010);
    check([
        ("asked to stop: keep looking", run().now(5_030).observed(seen(Seen::Running)), "nothing, 2s"),
        ("confirmed", run().now(5_030).observed(ended(Outcome::Cancelled)), "end timed out"),
        ("lost meanwhile", run().now(5_030).observed(ended(Outcome::Lost)), "end timed out"),
        ("confirmed in the queue", queue().now(1_020).observed(ended(Outcome::Cancelled)), "end timed out"),
        ("what it reports wins", run().now(5_030).observed(ended(Outcome::Succeeded)), "end succeeded, good"),
        ("a failure too", run().now(5_030).observed(ended(Outcome::Failed)), "end failed"),
        (
            "it started meanwhile: stop all the same",
            queue().now(1_020).observed(seen(Seen::Running)),
            "nothing, 2s",
        ),
        ("grace", run().now(5_619).observed(seen(Seen::Running)), "nothing, 1s"),
        ("grace over", run().now(5_620).observed(seen(Seen::Running)), "end timed out, may still run"),
        ("grace over, unreachable", run().now(5_620).observed(unreachable()), "end timed out, may still run"),
        (
            "grace over, but it ended",
            run().now(9_999).observed(ended(Outcome::Succeeded)),
            "end succeeded, good",
        ),
    ]);
}

#[test]
fn cancelling() {
    let cancel = |s: &Owned| words(&s.view().cancel("ann"));
    let s = || Owned::of(Submitted);
    check([
        ("before a send: at once", cancel(&Owned::of(Requested)), "end cancelled"),
        ("no send left: at once", cancel(&Owned::of(Launching).sends(0)), "end cancelled"),
        ("while launching", cancel(&Owned::of(Launching)), "launching, 0s, stopping: cancel"),
        ("submitted", cancel(&s()), "submitted, 0s, stopping: cancel"),
        ("running", cancel(&Owned::of(Running)), "running, 0s, stopping: cancel"),
        ("twice: the first reason stays", cancel(&s().cancel(5)), "nothing, 0s"),
        (
            "after a deadline: the first reason stays",
            cancel(&s().stop(StopReason::QueueDeadline, 5)),
            "nothing, 0s",
        ),
        ("confirmed", s().cancel(20).observed(ended(Outcome::Cancelled)), "end cancelled"),
        ("lost meanwhile", s().cancel(20).observed(ended(Outcome::Lost)), "end cancelled"),
        (
            "loses to success: success stands",
            s().cancel(20).observed(ended(Outcome::Succeeded)),
            "end succeeded, good",
        ),
        ("keep looking", s().cancel(20).observed(seen(Seen::Running)), "nothing, 2s"),
        ("in grace", s().cancel(20).now(619).observed(seen(Seen::Running)), "nothing, 1s"),
        ("grace over", s().cancel(20).now(620).observed(seen(Seen::Running)), "end cancelled, may still run"),
        ("no deadline asks again", s().cancel(1_005).now(1_100).observed(queued()), "nothing, 9s"),
    ]);
    let end = end(Owned::of(Requested).view().cancel("ann"));
    assert_eq!(end.build.message.as_deref(), Some("cancelled by ann"));
    assert!(end.build.stop.is_some() && end.build.ended_at == Some(at(30)));
}

#[test]
fn breaking_a_lock() {
    check([
        (
            "running",
            words(&Owned::of(Running).view().broken("ann", "stuck")),
            "end lost, lock broken, may still run",
        ),
        ("not sent", words(&Owned::of(Requested).view().broken("ann", "stuck")), "end lost, lock broken"),
    ]);
}
