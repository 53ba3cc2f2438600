//! Several at once, and calls that are given up.

use super::{
    StoreHarness,
    desk::{Desk, HOUR, MINUTE, create, me, other, set},
    samples,
};
use capomastro_core::{
    ErrorKind, Result,
    events::{Event, EventKind},
    model::{DependencyId, DependencyState},
    store::{Batch, ClaimAsk, Committed, Key, Lane, LaneAsk, Put, Record, Task},
};
use futures_util::poll;
use std::{pin::pin, sync::Arc};
use tokio::{sync::Barrier, task::JoinSet};

const RACERS: usize = 8;

fn state(id: DependencyId, fence: u64) -> Record {
    let mut state = DependencyState::new(id);
    state.fence = fence;
    Record::State(state)
}

/// Commits these batches at once.
async fn race(desk: &Desk, batches: impl IntoIterator<Item = Batch>) -> Vec<Result<Committed>> {
    let batches: Vec<Batch> = batches.into_iter().collect();
    let start = Arc::new(Barrier::new(batches.len()));
    let mut racers = JoinSet::new();
    for batch in batches {
        let (store, start) = (Arc::clone(&desk.store), Arc::clone(&start));
        racers.spawn(async move {
            start.wait().await;
            store.commit(&batch).await
        });
    }
    racers.join_all().await
}

/// Checks that exactly one has won, and the others failed like this.
fn one_won(answers: Vec<Result<Committed>>, kind: ErrorKind) {
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1, "exactly one wins; the others: {lost:?}");
    assert!(lost.iter().all(|answer| answer.as_ref().is_err_and(|e| e.kind() == kind)), "{lost:?}");
}

pub(super) async fn one_committer_wins_each_version(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let id = desk.dependency_id();
    let mut version = desk.write(state(id, 0)).await;
    for _ in 0..10 {
        let answers = race(
            &desk,
            (0..RACERS).map(|n| {
                let mut batch = desk.batch();
                batch.puts = vec![Put { record: state(id, n as u64), expect: Some(version) }];
                batch.events = vec![Event::of_dependency(id, EventKind::Changed { what: n.to_string() })];
                batch
            }),
        )
        .await;
        one_won(answers, ErrorKind::Conflict);
        let stored = desk.get(&Key::State(id)).await.expect("the record is there");
        assert!(stored.version > version);
        version = stored.version;
        let Record::State(stored) = stored.record else { panic!("a state is stored") };
        let told = desk.events().await.pop().expect("an event").event.kind;
        assert_eq!(told, EventKind::Changed { what: stored.fence.to_string() }, "the winner's own event");
    }
    assert_eq!(desk.events().await.len(), 10);
}

pub(super) async fn one_creator_wins(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    for _ in 0..5 {
        let id = desk.dependency_id();
        let batches = (0..RACERS).map(|n| {
            let mut batch = desk.batch();
            batch.puts = vec![create(state(id, n as u64))];
            batch
        });
        one_won(race(&desk, batches).await, ErrorKind::Conflict);
    }
}

pub(super) async fn one_owner_wins_a_name(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    for round in 0..5 {
        let batches = (0..RACERS).map(|_| {
            let rival = samples::dependency(desk.dependency_id(), &format!("name {round}"));
            let mut batch = desk.batch();
            batch.puts = vec![create(Record::Dependency(rival))];
            batch
        });
        one_won(race(&desk, batches).await, ErrorKind::AlreadyExists);
        assert_eq!(desk.list(capomastro_core::store::ListKey::dependencies()).await.len(), round + 1);
    }
}

pub(super) async fn one_of_the_same_commit_writes(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    for round in 1..=5 {
        let mut batch = desk.batch();
        batch.puts = vec![create(state(desk.dependency_id(), 1))];
        batch.events = vec![Event::of_dependency(desk.dependency_id(), EventKind::Deleted)];
        let answers = race(&desk, vec![batch; RACERS]).await;
        let first = answers.iter().filter(|a| a.as_ref().is_ok_and(|c| !c.repeated)).count();
        let again = answers.iter().filter(|a| a.as_ref().is_ok_and(|c| c.repeated)).count();
        assert_eq!((first, again), (1, RACERS - 1), "{answers:?}");
        assert_eq!(desk.events().await.len(), round);
    }
}

pub(super) async fn snapshots_are_never_torn(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let ids = [desk.dependency_id(), desk.dependency_id(), desk.dependency_id()];
    desk.create(ids.map(|id| state(id, 0))).await;
    let writer = tokio::spawn({
        let desk = desk.clone();
        async move {
            for fence in 1..=60 {
                let mut batch = desk.batch();
                for id in ids {
                    let expect = desk.version(&Key::State(id)).await;
                    batch.puts.push(Put { record: state(id, fence), expect });
                }
                desk.commit(&batch).await;
            }
        }
    });
    let keys = ids.map(Key::State);
    let mut last = 0;
    loop {
        let ended = writer.is_finished();
        let snapshot = desk.store.get(&keys).await.expect("the records are read");
        let fences: Vec<u64> = snapshot
            .records
            .into_iter()
            .flatten()
            .map(|stored| match stored.record {
                Record::State(state) => state.fence,
                record => panic!("a state is stored, but: {record:?}"),
            })
            .collect();
        assert_eq!(fences, vec![fences[0]; 3], "what was written together is read together");
        assert!(fences[0] >= last, "what was seen is not unseen");
        last = fences[0];
        if ended {
            break;
        }
        tokio::task::yield_now().await;
    }
    writer.await.expect("the writer ends well");
    assert_eq!(last, 60);
}

/// Polls a call this often, and gives it up. Whether it was answered before.
async fn given_up_after(polls: usize, call: impl Future) -> bool {
    let mut call = pin!(call);
    for _ in 0..polls {
        if poll!(&mut call).is_ready() {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

pub(super) async fn a_dropped_commit_is_written_whole_or_not_at_all(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    for polls in 0..40 {
        let (one, two, task) = (desk.dependency_id(), desk.dependency_id(), Task::Look(desk.dependency_id()));
        let mut batch = desk.due_batch(&[], [set(task, HOUR)]);
        batch.puts = vec![create(state(one, 1)), create(state(two, 1))];
        let before = desk.events().await.len();
        batch.events = samples::events(&desk);
        let answered = given_up_after(polls, desk.store.commit(&batch)).await;

        let keys = [Key::State(one), Key::Due(task), Key::State(two)];
        let seen = desk.store.get(&keys).await.expect("the records are read").records;
        let written = seen.iter().flatten().count();
        assert!(written == 3 || (written == 0 && !answered), "all of it or nothing: {seen:?}");
        // Whoever does not know repeats the batch.
        desk.store.commit(&batch).await.expect("a repetition is harmless");
        let seen = desk.store.get(&keys).await.expect("the records are read").records;
        assert!(seen.iter().all(Option::is_some), "{seen:?}");
        assert_eq!(desk.events().await.len(), before + batch.events.len(), "written once");
    }
}

pub(super) async fn a_dropped_claim_ends_by_itself(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let task = Task::Look(desk.dependency_id());
    desk.commit(&desk.due_batch(&[], [set(task, std::time::Duration::ZERO)])).await;
    for polls in 0..20 {
        let lane = LaneAsk { lane: Lane::House, limit: 1, lease: MINUTE };
        let ask = ClaimAsk { lanes: vec![lane], holder: me() };
        given_up_after(polls, desk.store.claim_due(&ask)).await;
        // An ask that was given up may still be on its way, so this one may come before it.
        let taken = desk.claim(&Lane::House, &other(), 1).await;
        if taken.claims.is_empty() {
            let next = taken.next_due.expect("a row that is held");
            assert!(next <= desk.after(MINUTE), "the lease ends: {next}");
        }
        desk.clock.advance(2 * MINUTE);
    }
    let mut taken = desk.claim(&Lane::House, &other(), 1).await;
    while taken.claims.is_empty() {
        desk.clock.advance(2 * MINUTE);
        taken = desk.claim(&Lane::House, &other(), 1).await;
    }
    assert_eq!(taken.claims[0].task, task);
}
