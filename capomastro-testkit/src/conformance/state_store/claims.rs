//! Taking due work and giving it back.

use super::{
    StoreHarness,
    desk::{Desk, HOUR, MINUTE, SECOND, hold, holder, me, other, set, tasks},
};
use capomastro_core::{
    ErrorKind,
    model::Note,
    store::{Claim, ClaimAsk, DueChange, Lane, LaneAsk, PutBack, Task},
    time::{Timestamp, later},
};
use std::{collections::BTreeSet, time::Duration};

fn probe(name: &str) -> Lane {
    Lane::Probe(name.parse().expect("a name"))
}

fn launcher(name: &str) -> Lane {
    Lane::Launcher(name.parse().expect("a name"))
}

fn in_lane(task: Task, lane: &Lane, after: Duration) -> DueChange {
    DueChange::Set { task, lane: lane.clone(), after, note: None }
}

fn given_back(claim: &Claim, after: Duration) -> PutBack {
    PutBack { claim: claim.clone(), after, note: claim.note.clone() }
}

fn asked(lane: &Lane, limit: usize) -> LaneAsk {
    LaneAsk { lane: lane.clone(), limit, lease: MINUTE }
}

/// Makes rows of the house, due after these many seconds.
async fn due_after(desk: &Desk, seconds: &[u64]) -> Vec<Task> {
    let made: Vec<Task> = seconds.iter().map(|_| Task::Look(desk.dependency_id())).collect();
    let changes =
        made.iter().zip(seconds).map(|(task, s)| set(*task, SECOND * u32::try_from(*s).expect("few")));
    desk.commit(&desk.due_batch(&[], changes)).await;
    made
}

pub(super) async fn nothing_is_taken_before_it_is_due(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let task = due_after(&desk, &[10]).await[0];
    let due_at = desk.after(10 * SECOND);
    for step in [Duration::ZERO, 9 * SECOND, SECOND - Duration::from_micros(1)] {
        desk.clock.advance(step);
        let claimed = desk.claim(&Lane::House, &me(), 10).await;
        assert_eq!((claimed.claims, claimed.next_due), (vec![], Some(due_at)));
    }
    desk.clock.advance(Duration::from_micros(1));
    let claim = desk.claim_one(&me()).await;
    assert_eq!((claim.task, claim.due_at, claim.note), (task, due_at, Note::default()));
    assert!(claim.ticket > 0);
}

pub(super) async fn work_is_taken_in_due_order(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let made = due_after(&desk, &[5, 1, 4, 2, 3]).await;
    let in_order: Vec<Task> = [1, 3, 4, 2, 0].map(|i: usize| made[i]).into();
    desk.clock.advance(MINUTE);
    let mut found = Vec::new();
    for limit in [2, 2, 2] {
        found.extend(tasks(&desk.claim(&Lane::House, &me(), limit).await.claims));
    }
    assert_eq!(found, in_order);
}

pub(super) async fn lanes_and_their_limits_are_kept_apart(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    // A probe and a launcher may have the same name, and names may hold what separates elsewhere.
    let lanes = [Lane::House, probe("a"), launcher("a"), probe("a/b"), probe("A")];
    let mut made: Vec<Vec<Task>> = vec![Vec::new(); lanes.len()];
    for n in 0..4_u32 {
        for (lane, made) in lanes.iter().zip(&mut made) {
            let task = Task::Drive(desk.build_id());
            desk.commit(&desk.due_batch(&[], [in_lane(task, lane, n * SECOND)])).await;
            made.push(task);
        }
    }
    desk.clock.advance(MINUTE);
    let claimed = desk.ask([asked(&lanes[2], 2), asked(&lanes[0], 3), asked(&lanes[1], 0)], &me()).await;
    let expected: Vec<Task> = made[2][..2].iter().chain(&made[0][..3]).copied().collect();
    assert_eq!(tasks(&claimed.claims), expected, "by lane in the order of the ask, each in due order");
    assert_eq!(claimed.next_due, Some(desk.after(Duration::ZERO) - MINUTE), "more is due than was taken");
    let rest = desk.ask(lanes.iter().map(|lane| asked(lane, 100)), &me()).await;
    let expected: Vec<Task> = [&made[0][3..], &made[1], &made[2][2..], &made[3], &made[4]].concat();
    assert_eq!(tasks(&rest.claims), expected);
    assert_eq!(desk.claim(&probe("b"), &me(), 10).await.next_due, None, "a lane of which nobody knows");

    let twice = ClaimAsk { lanes: vec![asked(&lanes[0], 1), asked(&lanes[0], 1)], holder: me() };
    let e = desk.store.claim_due(&twice).await.expect_err("a lane that is asked for twice");
    assert_eq!(e.kind(), ErrorKind::InvalidInput);
    let none = desk.ask([], &me()).await;
    assert_eq!((none.claims, none.next_due), (vec![], None));
}

pub(super) async fn a_claim_is_exclusive(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (task, claim) = desk.claimed_task(&me()).await;
    let lapses = desk.after(MINUTE);
    for by in [other(), me()] {
        let claimed = desk.claim(&Lane::House, &by, 10).await;
        assert_eq!((claimed.claims, claimed.next_due), (vec![], Some(lapses)));
    }
    desk.clock.advance(MINUTE - Duration::from_micros(1));
    assert_eq!(desk.claim(&Lane::House, &other(), 10).await.claims, vec![]);
    desk.commit(&desk.due_batch(&[&claim], [set(task, HOUR)])).await;
}

pub(super) async fn racing_claimers_never_share_a_task(harness: &dyn StoreHarness) {
    const TASKS: usize = 120;
    let desk = Desk::fresh(harness).await;
    let made = due_after(&desk, &[0; TASKS]).await;
    let mut claimers = tokio::task::JoinSet::new();
    for n in 0..8 {
        let desk = desk.clone();
        claimers.spawn(async move {
            let by = holder(&format!("claimer-{n}"));
            let mut own = Vec::new();
            loop {
                let claimed = desk.claim(&Lane::House, &by, 4).await.claims;
                if claimed.is_empty() {
                    return own;
                }
                own.extend(tasks(&claimed));
                tokio::task::yield_now().await;
            }
        });
    }
    let all: Vec<Task> = claimers.join_all().await.concat();
    assert_eq!(all.len(), TASKS, "each task once");
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), made.into_iter().collect());
}

pub(super) async fn a_lapsed_claim_is_taken_over_with_a_higher_ticket(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (task, first) = desk.claimed_task(&me()).await;
    let mut last = first.ticket;
    for by in [other(), me(), me()] {
        let lapsed_at = desk.after(MINUTE);
        desk.clock.advance(2 * MINUTE);
        let claim = desk.claim_one(&by).await;
        assert_eq!((claim.task, claim.due_at), (task, lapsed_at));
        assert!(claim.ticket > last, "ticket {} comes after {last}", claim.ticket);
        last = claim.ticket;
        assert_eq!(desk.due_row(task).await.and_then(|row| row.claimed_by), Some(by.to_string()));
    }
}

pub(super) async fn a_lapsed_claim_holds_until_it_is_taken_over(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (task, claim) = desk.claimed_task(&me()).await;
    desk.clock.advance(HOUR);
    let mut batch = desk.batch();
    batch.claims = vec![claim.clone()];
    desk.commit(&batch).await;
    desk.put_back(&me(), &[given_back(&claim, SECOND)]).await;
    let row = desk.due_row(task).await.expect("the row stays");
    assert_eq!((row.due_at, row.claimed_by), (desk.after(SECOND), None));
}

pub(super) async fn a_late_commit_of_an_old_claim_is_lost(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    for by in [other(), me()] {
        let (task, old) = desk.claimed_task(&me()).await;
        desk.clock.advance(2 * MINUTE);
        let new = desk.claim_one(&by).await;
        let row = desk.due_row(task).await;
        for change in [set(task, SECOND), hold(task, HOUR), DueChange::Done { task }] {
            desk.refuse(&desk.due_batch(&[&old], [change]), ErrorKind::ClaimLost).await;
        }
        // Where the batch changes something else, too.
        let elsewhere = Task::Evaluate(desk.dependency_id());
        desk.refuse(&desk.due_batch(&[&old], [set(elsewhere, SECOND)]), ErrorKind::ClaimLost).await;
        assert_eq!((desk.due_row(task).await, desk.due_row(elsewhere).await), (row, None));
        let mut done = desk.due_batch(&[&new], [DueChange::Done { task }]);
        done.holder = by;
        desk.commit(&done).await;
        desk.refuse(&desk.due_batch(&[&old], [set(task, SECOND)]), ErrorKind::ClaimLost).await;
        assert_eq!(desk.due_row(task).await, None);
    }
}

pub(super) async fn a_claim_is_its_holders_own(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (task, claim) = desk.claimed_task(&me()).await;
    let row = desk.due_row(task).await;
    let mut stolen = desk.due_batch(&[&claim], [set(task, HOUR)]);
    stolen.holder = other();
    desk.refuse(&stolen, ErrorKind::ClaimLost).await;
    desk.put_back(&other(), &[given_back(&claim, HOUR)]).await;
    let mut invented = claim.clone();
    for ticket in [0, claim.ticket - 1, claim.ticket + 1] {
        invented.ticket = ticket;
        desk.refuse(&desk.due_batch(&[&invented], [set(task, HOUR)]), ErrorKind::ClaimLost).await;
    }
    let nothing = Claim { task: Task::Drive(desk.build_id()), ..claim };
    desk.refuse(&desk.due_batch(&[&nothing], []), ErrorKind::ClaimLost).await;
    assert_eq!(desk.due_row(task).await, row);
}

pub(super) async fn a_claim_that_was_given_back_is_lost(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (task, claim) = desk.claimed_task(&me()).await;
    desk.put_back(&me(), &[given_back(&claim, HOUR)]).await;
    desk.refuse(&desk.due_batch(&[&claim], [set(task, SECOND)]), ErrorKind::ClaimLost).await;

    let (task, claim) = desk.claimed_task(&me()).await;
    desk.commit(&desk.due_batch(&[&claim], [set(task, HOUR)])).await;
    desk.refuse(&desk.due_batch(&[&claim], [set(task, SECOND)]), ErrorKind::ClaimLost).await;
    assert_eq!(desk.due_row(task).await.map(|row| row.due_at), Some(desk.after(HOUR)));
}

pub(super) async fn a_late_put_back_is_passed_over(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (lost, old) = desk.claimed_task(&me()).await;
    desk.clock.advance(2 * MINUTE);
    desk.claim_one(&other()).await;
    let (kept, good) = desk.claimed_task(&me()).await;
    let (dropped, gone) = desk.claimed_task(&me()).await;
    desk.commit(&desk.due_batch(&[], [DueChange::Drop { task: dropped }])).await;
    let row = desk.due_row(lost).await;
    let mut note = Note::default();
    note.stalls = 7;
    let items = [&old, &gone, &good, &good].map(|claim| PutBack {
        claim: claim.clone(),
        after: SECOND,
        note: note.clone(),
    });
    desk.put_back(&me(), &items).await;
    desk.put_back(&me(), &[]).await;
    assert_eq!(desk.due_row(lost).await, row, "the new holder is not disturbed");
    assert_eq!(desk.due_row(dropped).await, None);
    let kept = desk.due_row(kept).await.expect("the row stays");
    assert_eq!((kept.due_at, kept.claimed_by, kept.note), (desk.after(SECOND), None, note));
}

pub(super) async fn tickets_grow_even_when_the_row_is_made_anew(harness: &dyn StoreHarness) {
    let mut desk = Desk::fresh(harness).await;
    let task = Task::Look(desk.dependency_id());
    let mut last: Option<Claim> = None;
    for round in 0..6 {
        desk.commit(&desk.due_batch(&[], [set(task, Duration::ZERO)])).await;
        let claim = desk.claim_one(&me()).await;
        if let Some(last) = &last {
            assert!(claim.ticket > last.ticket, "ticket {} comes after {}", claim.ticket, last.ticket);
            // The claim of a row that is gone is not that of the new one.
            desk.refuse(&desk.due_batch(&[last], [set(task, HOUR)]), ErrorKind::ClaimLost).await;
        }
        let gone = if round % 2 == 0 { DueChange::Done { task } } else { DueChange::Drop { task } };
        desk.commit(&desk.due_batch(&[&claim], [gone])).await;
        last = Some(claim);
        desk = desk.reopened(harness).await;
    }
    let born = desk.commit(&desk.due_batch(&[], [hold(task, MINUTE)])).await.claims.remove(0);
    assert!(born.ticket > last.expect("six rounds").ticket);
}

pub(super) async fn the_next_due_time_is_that_of_the_lanes_asked_for(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (a, b) = (probe("a"), launcher("b"));
    let start = desk.now();
    let at = |seconds: u64| Some(later(start, Duration::from_secs(seconds)));
    let changes = [(&a, 30), (&a, 20), (&b, 10), (&b, 40)]
        .map(|(lane, seconds)| in_lane(Task::Look(desk.dependency_id()), lane, Duration::from_secs(seconds)));
    desk.commit(&desk.due_batch(&[], changes)).await;
    let next = async |lanes: &[&Lane], limit: usize| -> Option<Timestamp> {
        desk.ask(lanes.iter().map(|lane| asked(lane, limit)), &me()).await.next_due
    };
    assert_eq!(next(&[&a], 9).await, at(20));
    assert_eq!(next(&[&b], 9).await, at(10));
    assert_eq!(next(&[&a, &b], 9).await, at(10));
    assert_eq!(next(&[&Lane::House], 9).await, None);
    desk.clock.advance(25 * SECOND);
    assert_eq!(next(&[&a, &b], 0).await, at(10), "what is due and was not taken");
    // Takes one of each lane, until second 85. What this ask took is not next.
    assert_eq!(next(&[&a, &b], 9).await, at(30));
    desk.clock.advance(25 * SECOND);
    assert_eq!(next(&[&a, &b], 9).await, at(85), "what is held will be due when its lease ends");
    let only = probe("only");
    desk.commit(&desk.due_batch(&[], [in_lane(Task::Sweep, &only, Duration::ZERO)])).await;
    assert_eq!(next(&[&only], 9).await, None, "what this ask took is not next");
    assert_eq!(next(&[&only], 9).await, at(110));
}

pub(super) async fn a_clock_that_jumps_loses_nothing(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let start = desk.now();
    let day = 24 * HOUR;
    let (claimed_early, early) = desk.claimed_task(&me()).await;
    let made = due_after(&desk, &[1, 2, 3]).await;
    // Forward: everything is due at once.
    desk.clock.set(later(start, day));
    let claims = desk.claim(&Lane::House, &other(), 2).await.claims;
    assert_eq!(tasks(&claims), made[..2]);
    // Back again: what nobody has taken still belongs to whom it did, and what is made now is due by the new time.
    desk.clock.set(start);
    assert_eq!(desk.claim(&Lane::House, &other(), 9).await.claims, vec![]);
    desk.commit(&desk.due_batch(&[&early], [set(claimed_early, SECOND)])).await;
    desk.put_back(&other(), &[given_back(&claims[0], 2 * SECOND)]).await;
    let mut batch = desk.due_batch(&[&claims[1]], [hold(claims[1].task, 3 * SECOND)]);
    batch.holder = other();
    let held = desk.commit(&batch).await.claims;
    assert_eq!(held[0].ticket, claims[1].ticket);
    assert_eq!(desk.due_row(claims[1].task).await.map(|row| row.due_at), Some(desk.after(3 * SECOND)));
    desk.clock.advance(MINUTE);
    let found = tasks(&desk.claim(&Lane::House, &me(), 9).await.claims);
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), [claimed_early, made[0], made[1], made[2]].into());
    // Back beyond the beginning: all of it comes due once that time has passed again.
    desk.clock.set(start - day);
    assert_eq!(desk.claim(&Lane::House, &other(), 9).await.claims, vec![]);
    desk.clock.advance(day + HOUR);
    assert_eq!(desk.claim(&Lane::House, &other(), 9).await.claims.len(), 4);
}
