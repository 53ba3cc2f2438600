//! Changes of due rows, but for nudges.

use super::{
    StoreHarness,
    desk::{Desk, HOUR, MINUTE, SECOND, hold, me, other, set},
    samples,
};
use capomastro_core::{
    ErrorKind,
    model::Note,
    store::{DueChange, DueRow, Key, Lane, PutBack, Record, Task},
};
use std::time::Duration;

fn elsewhere() -> Lane {
    Lane::Launcher("elsewhere".parse().expect("a name"))
}

async fn row(desk: &Desk, task: Task) -> DueRow {
    desk.due_row(task).await.expect("there is a row")
}

pub(super) async fn set_makes_and_moves_a_row(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let task = Task::Look(desk.dependency_id());
    // Also to a later time: it is no nudge.
    for after in [MINUTE, SECOND, HOUR, Duration::from_micros(1)] {
        desk.commit(&desk.due_batch(&[], [set(task, after)])).await;
        let made = row(&desk, task).await;
        assert_eq!((made.due_at, made.lane, made.claimed_by), (desk.after(after), Lane::House, None));
    }
    let moved = DueChange::Set { task, lane: elsewhere(), after: Duration::ZERO, note: None };
    desk.commit(&desk.due_batch(&[], [moved])).await;
    assert_eq!(desk.claim(&Lane::House, &me(), 9).await.claims, vec![]);
    assert_eq!(desk.claim(&elsewhere(), &me(), 9).await.claims.len(), 1);
}

pub(super) async fn set_by_its_holder_ends_the_claim(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (task, claim) = desk.claimed_task(&me()).await;
    let change = DueChange::Set { task, lane: elsewhere(), after: SECOND, note: None };
    desk.commit(&desk.due_batch(&[&claim], [change])).await;
    let ended = row(&desk, task).await;
    assert_eq!((ended.due_at, ended.claimed_by, ended.ticket), (desk.after(SECOND), None, claim.ticket));
    desk.clock.advance(SECOND);
    let next = desk.claim(&elsewhere(), &other(), 9).await.claims;
    assert!(next[0].ticket > claim.ticket);
}

pub(super) async fn set_by_another_moves_the_lane_and_nudges(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    for by in [me(), other()] {
        let (task, claim) = desk.claimed_task(&me()).await;
        let lapses = row(&desk, task).await.due_at;
        // A batch without the claim, even of the same holder, does not speak for the work that is being done.
        let change = DueChange::Set { task, lane: elsewhere(), after: SECOND, note: None };
        let mut batch = desk.due_batch(&[], [change]);
        batch.holder = by;
        desk.commit(&batch).await;
        let held = row(&desk, task).await;
        assert_eq!((held.due_at, held.claimed_by), (lapses, Some(me().to_string())));
        assert_eq!(held.lane, elsewhere());
        desk.put_back(&me(), &[PutBack { claim, after: HOUR, note: Note::default() }]).await;
        assert_eq!(row(&desk, task).await.due_at, desk.after(SECOND));
        desk.clock.advance(SECOND);
        assert_eq!(desk.claim(&Lane::House, &me(), 9).await.claims, vec![]);
        assert_eq!(desk.claim(&elsewhere(), &me(), 9).await.claims.len(), 1);
    }
}

pub(super) async fn hold_claims_at_birth(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let made = [Task::Drive(desk.build_id()), Task::Release(desk.build_id()), Task::Sweep];
    let batch = desk.due_batch(&[], made.map(|task| hold(task, MINUTE)));
    let claims = desk.commit(&batch).await.claims;
    assert_eq!(super::desk::tasks(&claims), made, "in the order of the batch");
    for claim in &claims {
        let born = row(&desk, claim.task).await;
        assert_eq!((born.due_at, born.claimed_by), (desk.after(MINUTE), Some(me().to_string())));
        assert_eq!((born.ticket, claim.due_at, &claim.note), (claim.ticket, desk.now(), &Note::default()));
        assert!(claim.ticket > 0);
    }
    assert_eq!(desk.claim(&Lane::House, &other(), 9).await.claims, vec![]);
    desk.commit(&desk.due_batch(&[&claims[0]], [DueChange::Done { task: made[0] }])).await;
    desk.clock.advance(MINUTE);
    assert_eq!(desk.claim(&Lane::House, &other(), 9).await.claims.len(), 2);
    desk.refuse(&desk.due_batch(&[&claims[1]], []), ErrorKind::ClaimLost).await;
}

pub(super) async fn hold_makes_a_claim_last_longer(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (task, claim) = desk.claimed_task(&me()).await;
    for _ in 0..3 {
        desk.clock.advance(50 * SECOND);
        let change = DueChange::Hold { task, lane: elsewhere(), lease: MINUTE };
        let longer = desk.commit(&desk.due_batch(&[&claim], [change])).await.claims;
        assert_eq!(longer, vec![claim.clone()], "it is the same claim");
        assert_eq!(row(&desk, task).await.due_at, desk.after(MINUTE));
        assert_eq!(desk.claim(&elsewhere(), &other(), 9).await.claims, vec![]);
    }
    // After its lease, as long as nobody took it.
    desk.clock.advance(HOUR);
    desk.commit(&desk.due_batch(&[&claim], [hold(task, MINUTE)])).await;
    assert_eq!(desk.claim(&Lane::House, &other(), 9).await.claims, vec![]);
    desk.clock.advance(MINUTE);
    assert!(desk.claim_one(&other()).await.ticket > claim.ticket);
}

pub(super) async fn hold_takes_what_nobody_holds(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let task = Task::Drive(desk.build_id());
    desk.commit(&desk.due_batch(&[], [set(task, HOUR)])).await;
    let first = desk.commit(&desk.due_batch(&[], [hold(task, MINUTE)])).await.claims.remove(0);
    assert_eq!(row(&desk, task).await.claimed_by, Some(me().to_string()));
    desk.clock.advance(MINUTE);
    let mut batch = desk.due_batch(&[], [hold(task, MINUTE)]);
    batch.holder = other();
    let second = desk.commit(&batch).await.claims.remove(0);
    assert!(second.ticket > first.ticket, "a lapsed claim is taken over");
    desk.refuse(&desk.due_batch(&[&first], [set(task, SECOND)]), ErrorKind::ClaimLost).await;
}

pub(super) async fn hold_of_what_another_holds_is_lost(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (task, claim) = desk.claimed_task(&me()).await;
    let before = row(&desk, task).await;
    for by in [other(), me()] {
        let mut batch = desk.due_batch(&[], [hold(task, HOUR)]);
        batch.holder = by;
        desk.refuse(&batch, ErrorKind::ClaimLost).await;
    }
    assert_eq!(row(&desk, task).await, before);
    desk.commit(&desk.due_batch(&[&claim], [set(task, SECOND)])).await;
}

pub(super) async fn done_removes_the_row(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (held, claim) = desk.claimed_task(&me()).await;
    let (free, absent) = (Task::Look(desk.dependency_id()), Task::Look(desk.dependency_id()));
    desk.commit(&desk.due_batch(&[], [set(free, SECOND)])).await;
    let changes = [held, free, absent].map(|task| DueChange::Done { task });
    let committed = desk.commit(&desk.due_batch(&[&claim], changes)).await;
    assert_eq!(committed.claims, vec![]);
    for task in [held, free, absent] {
        assert_eq!(desk.due_row(task).await, None);
    }
    desk.clock.advance(HOUR);
    let claimed = desk.claim(&Lane::House, &me(), 9).await;
    assert_eq!((claimed.claims, claimed.next_due), (vec![], None));
}

pub(super) async fn drop_removes_the_row_whoever_holds_it(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (held, claim) = desk.claimed_task(&other()).await;
    let (free, absent) = (Task::Look(desk.dependency_id()), Task::Look(desk.dependency_id()));
    desk.commit(&desk.due_batch(&[], [set(free, SECOND), super::desk::nudge(held, SECOND)])).await;
    desk.commit(&desk.due_batch(&[], [held, free, absent].map(|task| DueChange::Drop { task }))).await;
    for task in [held, free, absent] {
        assert_eq!(desk.due_row(task).await, None);
    }
    let mut late = desk.due_batch(&[&claim], [set(held, SECOND)]);
    late.holder = other();
    desk.refuse(&late, ErrorKind::ClaimLost).await;
    desk.put_back(&other(), &[PutBack { claim, after: SECOND, note: Note::default() }]).await;
    desk.clock.advance(HOUR);
    assert_eq!(desk.claim(&Lane::House, &me(), 9).await.next_due, None);
}

pub(super) async fn the_note_stays_until_one_is_given(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let task = Task::Look(desk.dependency_id());
    let noted = |after, note| DueChange::Set { task, lane: Lane::House, after, note };
    let full = samples::note();
    desk.commit(&desk.due_batch(&[], [noted(HOUR, Some(full.clone()))])).await;
    desk.commit(&desk.due_batch(&[], [noted(HOUR, None)])).await;
    desk.commit(&desk.due_batch(&[], [super::desk::nudge(task, Duration::ZERO)])).await;
    let claim = desk.claim_one(&me()).await;
    assert_eq!(claim.note, full, "a claim tells it");
    let longer = desk.commit(&desk.due_batch(&[&claim], [hold(task, MINUTE)])).await.claims.remove(0);
    assert_eq!(longer.note, full);
    desk.clock.advance(MINUTE);
    let claim = desk.claim_one(&other()).await;
    assert_eq!(claim.note, full, "whoever takes over learns it");

    let mut next = full;
    next.stalls += 1;
    desk.put_back(&other(), &[PutBack { claim, after: Duration::ZERO, note: next.clone() }]).await;
    let claim = desk.claim_one(&me()).await;
    assert_eq!(claim.note, next);
    desk.commit(&desk.due_batch(&[&claim], [noted(Duration::ZERO, None)])).await;
    let claim = desk.claim_one(&me()).await;
    assert_eq!(claim.note, next);
    desk.commit(&desk.due_batch(&[&claim], [noted(HOUR, Some(Note::default()))])).await;
    assert_eq!(row(&desk, task).await.note, Note::default(), "an empty note is one, too");
}

pub(super) async fn a_due_row_can_be_read(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let made = [
        Task::Look(desk.dependency_id()),
        Task::Evaluate(desk.dependency_id()),
        Task::Drive(desk.build_id()),
        Task::Release(desk.build_id()),
        Task::Judge(desk.build_id()),
        Task::Trim(desk.dependency_id()),
        Task::Sweep,
    ];
    let lanes = [
        Lane::Probe("git «ä»".parse().expect("a name")),
        Lane::House,
        elsewhere(),
        Lane::Launcher("a/b".parse().expect("a name")),
        Lane::House,
        Lane::House,
        Lane::House,
    ];
    let changes = made.iter().zip(&lanes).map(|(task, lane)| DueChange::Set {
        task: *task,
        lane: lane.clone(),
        after: SECOND,
        note: Some(samples::note()),
    });
    desk.commit(&desk.due_batch(&[], changes)).await;
    let desk = desk.reopened(harness).await;
    for (task, lane) in made.iter().zip(&lanes) {
        let stored = desk.get(&Key::Due(*task)).await.expect("there is a row");
        assert!(stored.version > 0, "no version is 0");
        let expected = DueRow {
            task: *task,
            lane: lane.clone(),
            due_at: desk.after(SECOND),
            claimed_by: None,
            ticket: 0,
            note: samples::note(),
        };
        assert_eq!(stored.record, Record::Due(expected));
    }
    desk.clock.advance(SECOND);
    for (task, lane) in made[..3].iter().zip(&lanes) {
        let claims = desk.claim(lane, &other(), 1).await.claims;
        let held = row(&desk, *task).await;
        assert_eq!((claims[0].task, held.ticket), (*task, claims[0].ticket));
        assert_eq!((held.due_at, held.claimed_by), (desk.after(MINUTE), Some(other().to_string())));
    }
}

pub(super) async fn delays_without_bounds_do_no_harm(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let [never, nudged, kept] = [(); 3].map(|()| Task::Look(desk.dependency_id()));
    let for_ever = [set(never, Duration::MAX), set(nudged, Duration::MAX), hold(kept, Duration::MAX)];
    let claims = desk.commit(&desk.due_batch(&[], for_ever)).await.claims;
    desk.commit(&desk.due_batch(&[], [super::desk::nudge(never, Duration::MAX)])).await;
    desk.commit(&desk.due_batch(&[], [super::desk::nudge(kept, Duration::MAX)])).await;
    let before = desk.claim(&Lane::House, &me(), 9).await;
    assert_eq!(before.claims, vec![]);
    assert!(before.next_due > Some(desk.after(1_000_000 * HOUR)), "{:?}", before.next_due);
    desk.clock.advance(1_000_000 * HOUR);
    desk.commit(&desk.due_batch(&[], [super::desk::nudge(nudged, Duration::ZERO)])).await;
    assert_eq!(desk.claim_one(&me()).await.task, nudged);
    desk.put_back(&me(), &[PutBack { claim: claims[0].clone(), after: SECOND, note: Note::default() }]).await;
    desk.clock.advance(SECOND);
    assert_eq!(desk.claim_one(&me()).await.task, kept);
}
