//! Forgetting old events and commit ids.

use super::{
    StoreHarness,
    desk::{Desk, HOUR, MINUTE, SECOND},
};
use capomastro_core::{
    events::{Event, EventKind},
    store::{Batch, EventFilter, FIRST_EVENT, Forget},
    time::Timestamp,
};

/// Commits this many batches with an event each, a minute apart.
async fn told(desk: &Desk, count: usize) -> Vec<Batch> {
    let mut batches = Vec::new();
    for n in 0..count {
        let mut batch = desk.batch();
        let kind = EventKind::Changed { what: n.to_string() };
        batch.events = vec![Event::of_dependency(desk.dependency_id(), kind)];
        desk.commit(&batch).await;
        desk.clock.advance(MINUTE);
        batches.push(batch);
    }
    batches
}

async fn forget(
    desk: &Desk,
    events_before: Timestamp,
    keep: u64,
    commits_before: Timestamp,
    at_most: u32,
) -> Batch {
    forget_and_count(desk, events_before, keep, commits_before, at_most).await.0
}

/// Also how many the store says that it forgot.
async fn forget_and_count(
    desk: &Desk,
    events_before: Timestamp,
    keep: u64,
    commits_before: Timestamp,
    at_most: u32,
) -> (Batch, u64) {
    let mut batch = desk.batch();
    batch.forget = Some(Forget::new(events_before, keep, commits_before, at_most));
    let forgotten = desk.commit(&batch).await.forgotten;
    (batch, forgotten)
}

/// What the events that are left say.
async fn left(desk: &Desk) -> Vec<usize> {
    let events = desk.events().await;
    assert!(events.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    events
        .into_iter()
        .map(|stored| match stored.event.kind {
            EventKind::Changed { what } => what.parse().expect("a number"),
            kind => panic!("an event that nobody wrote: {kind:?}"),
        })
        .collect()
}

/// How many of these commits are remembered. Tries the forgotten ones again, so it tells only once.
async fn remembered(desk: &Desk, batches: &[Batch]) -> Vec<bool> {
    let mut found = Vec::new();
    for batch in batches {
        found.push(desk.store.commit(batch).await.expect("the batch is committed").repeated);
    }
    found
}

pub(super) async fn old_events_are_forgotten_oldest_first(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let start = desk.now();
    told(&desk, 10).await;
    // The third was committed exactly then, and is not older.
    forget(&desk, start + 2 * MINUTE, 0, start, 1_000).await;
    assert_eq!(left(&desk).await, (2..10).collect::<Vec<_>>());
    forget(&desk, start, 0, start, 1_000).await;
    assert_eq!(left(&desk).await, (2..10).collect::<Vec<_>>(), "none is that old");
}

pub(super) async fn the_newest_events_are_kept(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let start = desk.now();
    told(&desk, 10).await;
    for (keep, expected) in [(u64::MAX >> 1, 0), (100, 0), (10, 0), (9, 1), (3, 7), (3, 7)] {
        forget(&desk, start + HOUR, keep, start, 1_000).await;
        assert_eq!(left(&desk).await, (expected..10).collect::<Vec<_>>(), "{keep} are kept");
    }
    forget(&desk, start + HOUR, 0, start, 1_000).await;
    assert_eq!(left(&desk).await, Vec::<usize>::new());
}

pub(super) async fn forgetting_is_bounded(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let start = desk.now();
    let batches = told(&desk, 10).await;
    let none = forget_and_count(&desk, start + HOUR, 0, start + HOUR, 0).await.1;
    assert_eq!((left(&desk).await.len(), none), (10, 0));
    let four = forget_and_count(&desk, start + HOUR, 0, start + 10 * MINUTE, 4).await.1;
    assert_eq!(four, 4, "a store tells how much it forgot");
    assert_eq!(left(&desk).await, (4..10).collect::<Vec<_>>());
    assert_eq!(remembered(&desk, &batches[4..]).await, [true; 6], "no more ids than events");
    assert_eq!(remembered(&desk, &batches[..4]).await, [false; 4]);
    // Now there are more ids than events that may go, and the other way round.
    let ids = forget_and_count(&desk, start, 0, start + 10 * MINUTE, 1_000).await.1;
    assert_eq!(ids, 6, "ids count as well");
    let events = forget_and_count(&desk, desk.after(HOUR), 0, start, 1_000).await.1;
    assert_eq!(events, 10, "so do events");
    let nothing = forget_and_count(&desk, desk.after(HOUR), 0, start, 1_000).await.1;
    assert_eq!(nothing, 0);
}

pub(super) async fn old_commit_ids_are_forgotten(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let start = desk.now();
    let batches = told(&desk, 6).await;
    let last = forget(&desk, start, 0, start + 2 * MINUTE, 1_000).await;
    assert_eq!(remembered(&desk, &batches[2..]).await, [true; 4], "what is not older is remembered");
    assert_eq!(remembered(&desk, &batches[..2]).await, [false; 2]);
    assert_eq!(remembered(&desk, &[last]).await, [true]);
    // A batch that forgets is itself remembered, whatever its clock says.
    let all = forget(&desk, start, 0, desk.after(HOUR), 1_000).await;
    assert_eq!(remembered(&desk, &[all]).await, [true]);
    assert_eq!(remembered(&desk, &batches).await, [false; 6]);
}

pub(super) async fn places_are_never_given_out_again(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let start = desk.now();
    told(&desk, 5).await;
    let last = desk.events().await[4].seq;
    forget(&desk, start + HOUR, 0, start, 1_000).await;
    let empty = desk.store.events(EventFilter::All, FIRST_EVENT, 10).await.expect("events are read");
    assert_eq!(empty.items, vec![]);
    let desk = desk.reopened(harness).await;
    desk.clock.advance(SECOND);
    told(&desk, 1).await;
    let events = desk.events().await;
    assert_eq!(events.len(), 1);
    assert!(events[0].seq > last, "place {} comes after {last}", events[0].seq);
    for after in [last, empty.upto] {
        let page = desk.store.events(EventFilter::All, after, 10).await.expect("events are read");
        assert_eq!(page.items, events, "whoever had read up to {after} finds what is new");
    }
}
