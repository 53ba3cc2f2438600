//! Batches: all of it or nothing, once.

use super::{
    StoreHarness,
    desk::{Desk, HOUR, MINUTE, SECOND, create, me, nudge, other, set},
    samples,
};
use capomastro_core::{
    ErrorKind,
    events::{Event, EventKind, StoredEvent},
    model::{CommitId, DependencyId, DependencyState},
    store::{Batch, Draft, DueChange, DueRow, Key, ListKey, Put, Record, Task, Version, Versioned},
};

fn state(id: DependencyId, fence: u64) -> Record {
    let mut state = DependencyState::new(id);
    state.fence = fence;
    Record::State(state)
}

pub(super) async fn a_guard_of_a_changed_record_conflicts(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (read, written) = (desk.dependency_id(), desk.dependency_id());
    let first = desk.write(state(read, 1)).await;
    let guarded = |version: Version| {
        let mut batch = desk.batch();
        batch.guards = vec![(Key::State(read), Some(version))];
        batch.puts = vec![create(state(written, 1))];
        batch
    };
    let second = desk.write(state(read, 2)).await;
    desk.refuse(&guarded(first), ErrorKind::Conflict).await;
    desk.refuse(&guarded(second + 1), ErrorKind::Conflict).await;
    assert_eq!(desk.get(&Key::State(written)).await, None);
    desk.delete(Key::State(read)).await;
    desk.refuse(&guarded(second), ErrorKind::Conflict).await;
    let third = desk.write(state(read, 2)).await;
    // The same content in a new record is not what was read.
    desk.refuse(&guarded(second), ErrorKind::Conflict).await;
    desk.commit(&guarded(third)).await;
    assert_eq!(desk.version(&Key::State(read)).await, Some(third), "a guard writes nothing");
}

pub(super) async fn a_guard_of_absence_conflicts_once_there_is_a_record(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let absent = desk.dependency_id();
    let guarded = || {
        let mut batch = desk.batch();
        batch.guards = vec![(Key::State(absent), None)];
        batch.events = vec![Event::of_dependency(absent, EventKind::Deleted)];
        batch
    };
    desk.commit(&guarded()).await;
    desk.create([state(absent, 1)]).await;
    desk.refuse(&guarded(), ErrorKind::Conflict).await;
    desk.delete(Key::State(absent)).await;
    desk.commit(&guarded()).await;
    assert_eq!(desk.events().await.len(), 2);
}

pub(super) async fn two_decisions_that_read_each_other_conflict(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let ids = [desk.dependency_id(), desk.dependency_id()];
    let versions = [desk.write(state(ids[0], 1)).await, desk.write(state(ids[1], 1)).await];
    let decision = |mine: usize, its: usize| {
        let mut batch = desk.batch();
        batch.puts = vec![Put { record: state(ids[mine], 2), expect: Some(versions[mine]) }];
        batch.guards = vec![(Key::State(ids[its]), Some(versions[its]))];
        batch
    };
    let (one, two) = (decision(0, 1), decision(1, 0));
    desk.commit(&one).await;
    desk.refuse(&two, ErrorKind::Conflict).await;
}

/// All that a failed batch could have touched.
#[derive(Debug, PartialEq)]
struct Sight {
    records: Vec<Option<Versioned>>,
    lists: Vec<Vec<Key>>,
    events: Vec<StoredEvent>,
    due: Vec<Option<DueRow>>,
}

async fn sight(desk: &Desk, keys: &[Key], tasks: &[Task]) -> Sight {
    let mut due = Vec::new();
    for task in tasks {
        due.push(desk.due_row(*task).await);
    }
    Sight {
        records: desk.store.get(keys).await.expect("the records are read").records,
        lists: vec![
            desk.list(ListKey::dependencies()).await,
            desk.list(ListKey::projects()).await,
            desk.list(ListKey::open_builds()).await,
        ],
        events: desk.events().await,
        due,
    }
}

/// A batch that touches everything, and what it is about.
struct Everything {
    batch: Batch,
    keys: Vec<Key>,
    tasks: Vec<Task>,
}

async fn everything(desk: &Desk) -> Everything {
    let (task, claim) = desk.claimed_task(&me()).await;
    let tasks = vec![
        task,
        Task::Evaluate(desk.dependency_id()),
        Task::Drive(desk.build_id()),
        Task::Release(desk.build_id()),
        Task::Judge(desk.build_id()),
    ];
    desk.commit(&desk.due_batch(&[], [set(tasks[3], HOUR), set(tasks[4], HOUR)])).await;
    let kept = desk.dependency_id();
    let version = desk.write(state(kept, 1)).await;
    let gone: Vec<_> = (0..3).map(|_| desk.dependency_id()).collect();
    let mut batch = desk.batch();
    for id in &gone {
        batch.deletes.push((Key::State(*id), desk.write(state(*id, 1)).await));
    }
    let name = desk.dependency_id().to_string();
    batch.puts = vec![
        create(Record::Dependency(samples::dependency(desk.dependency_id(), &name))),
        Put { record: state(kept, 2), expect: Some(version) },
        create(Record::Project(samples::project(desk.project_id(), &name))),
    ];
    batch.guards = (0..3).map(|_| (Key::State(desk.dependency_id()), None)).collect();
    batch.claims = vec![claim];
    batch.due = vec![
        set(task, HOUR),
        set(tasks[1], SECOND),
        DueChange::Hold { task: tasks[2], lane: capomastro_core::store::Lane::House, lease: HOUR },
        nudge(tasks[3], SECOND),
        DueChange::Drop { task: tasks[4] },
    ];
    batch.events = samples::events(desk);
    let written = batch.puts.iter().map(|put| put.record.key());
    let keys = written.chain(batch.deletes.iter().map(|(key, _)| key.clone())).collect();
    Everything { batch, keys, tasks }
}

pub(super) async fn a_batch_that_fails_leaves_nothing(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (_, foreign) = desk.claimed_task(&other()).await;
    let taken = samples::dependency(desk.dependency_id(), "taken");
    desk.create([Record::Dependency(taken)]).await;

    // What is wrong stands first, in the middle and last among its like.
    for place in 0..=2 {
        for fault in 0..6 {
            let Everything { batch, keys, tasks } = everything(&desk).await;
            let mut broken = batch.clone();
            let kind = match fault {
                0 => {
                    broken.puts[place].expect = Some(u64::MAX >> 1);
                    ErrorKind::Conflict
                }
                1 => {
                    broken.deletes[place].1 += 1;
                    ErrorKind::Conflict
                }
                2 => {
                    broken.guards[place].1 = Some(1);
                    ErrorKind::Conflict
                }
                3 => {
                    broken.claims.insert(place.min(1), foreign.clone());
                    ErrorKind::ClaimLost
                }
                4 => {
                    let rival = samples::dependency(desk.dependency_id(), "taken");
                    broken.puts.insert(place, create(Record::Dependency(rival)));
                    ErrorKind::AlreadyExists
                }
                _ => {
                    broken.due.insert(place, nudge(tasks[2], SECOND));
                    ErrorKind::InvalidInput
                }
            };
            let before = sight(&desk, &keys, &tasks).await;
            desk.refuse(&broken, kind).await;
            assert_eq!(sight(&desk, &keys, &tasks).await, before, "fault {fault} at place {place}");
            // It was the fault alone that was in the way, and the same id may still be used.
            desk.commit(&batch).await;
            let after = sight(&desk, &keys, &tasks).await;
            assert_eq!(after.events.len(), before.events.len() + batch.events.len());
            assert!(after.records[3..].iter().all(Option::is_none), "what was deleted is gone");
            assert!(after.records[..3].iter().all(Option::is_some), "what was put is there");
            assert_eq!(after.due[4], None);
        }
    }
}

pub(super) async fn a_repeated_commit_changes_nothing(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let Everything { batch, keys, tasks } = everything(&desk).await;
    let committed = desk.commit(&batch).await;
    assert_eq!(committed.claims.len(), 1, "the claim that was born");
    let before = sight(&desk, &keys, &tasks).await;
    desk.clock.advance(MINUTE);
    for _ in 0..3 {
        let again = desk.store.commit(&batch).await.expect("a repeated commit is answered");
        assert!(again.repeated);
        assert_eq!(again.at, committed.at, "the time of the write");
        assert_eq!(again.claims, vec![], "claims are not repeated");
    }
    // It is the id that tells, not the content.
    let mut different = Batch::new(batch.id, other());
    different.puts = vec![create(state(desk.dependency_id(), 1))];
    assert!(desk.store.commit(&different).await.expect("a repeated commit is answered").repeated);
    assert_eq!(desk.get(&different.puts[0].record.key()).await, None);
    assert_eq!(sight(&desk, &keys, &tasks).await, before);

    let empty = desk.batch();
    desk.commit(&empty).await;
    assert!(desk.store.commit(&empty).await.expect("an empty commit is remembered").repeated);
}

pub(super) async fn a_repeated_commit_is_answered_whatever_changed_since(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (task, claim) = desk.claimed_task(&me()).await;
    let id = desk.dependency_id();
    let mut batch = desk.due_batch(&[&claim], [set(task, SECOND)]);
    batch.puts = vec![create(state(id, 1))];
    desk.commit(&batch).await;
    desk.write(state(id, 2)).await;
    desk.clock.advance(MINUTE);
    desk.claim_one(&other()).await;
    // Its claim is lost and its version stale by now; but it was written.
    assert!(desk.store.commit(&batch).await.expect("a repeated commit is answered").repeated);
    assert_eq!(desk.due_row(task).await.and_then(|row| row.claimed_by), Some(other().to_string()));
}

pub(super) async fn a_commit_that_failed_may_be_tried_again_under_its_id(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let id = desk.dependency_id();
    let mut batch = desk.batch();
    batch.puts = vec![Put { record: state(id, 1), expect: Some(1) }];
    desk.refuse(&batch, ErrorKind::Conflict).await;
    desk.refuse(&batch, ErrorKind::Conflict).await;
    batch.puts[0].expect = None;
    desk.commit(&batch).await;
    assert!(desk.version(&Key::State(id)).await.is_some());
}

pub(super) async fn the_gravest_error_is_told_first(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (_, foreign) = desk.claimed_task(&other()).await;
    desk.create([Record::Dependency(samples::dependency(desk.dependency_id(), "taken"))]).await;
    let mut batch = desk.batch();
    batch.puts = vec![create(Record::Dependency(samples::dependency(desk.dependency_id(), "taken")))];
    desk.refuse(&batch, ErrorKind::AlreadyExists).await;
    batch.guards = vec![(Key::State(desk.dependency_id()), Some(1))];
    desk.refuse(&batch, ErrorKind::Conflict).await;
    batch.claims = vec![foreign];
    desk.refuse(&batch, ErrorKind::ClaimLost).await;
    batch.puts.push(batch.puts[0].clone());
    desk.refuse(&batch, ErrorKind::InvalidInput).await;
    let done = desk.batch();
    desk.commit(&done).await;
    batch.id = done.id;
    assert!(desk.store.commit(&batch).await.expect("a repeated commit is answered").repeated);
}

pub(super) async fn a_batch_must_not_contradict_itself(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (id, task) = (desk.dependency_id(), Task::Look(desk.dependency_id()));
    let version = desk.write(state(id, 1)).await;
    let put = |fence| Put { record: state(id, fence), expect: Some(version) };

    let mut put_twice = desk.batch();
    put_twice.puts = vec![put(2), put(3)];
    let mut put_and_deleted = desk.batch();
    put_and_deleted.puts = vec![put(2)];
    put_and_deleted.deletes = vec![(Key::State(id), version)];
    let mut deleted_twice = desk.batch();
    deleted_twice.deletes = vec![(Key::State(id), version); 2];
    let changed_twice = desk.due_batch(&[], [set(task, SECOND), nudge(task, SECOND)]);
    for batch in [put_twice, put_and_deleted, deleted_twice, changed_twice] {
        desk.refuse(&batch, ErrorKind::InvalidInput).await;
    }
    assert_eq!(desk.version(&Key::State(id)).await, Some(version));
    assert_eq!(desk.due_row(task).await, None);
}

pub(super) async fn due_rows_are_neither_put_nor_deleted_nor_guarded(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let task = Task::Look(desk.dependency_id());
    desk.commit(&desk.due_batch(&[], [set(task, SECOND)])).await;
    let stored = desk.get(&Key::Due(task)).await.expect("the due row is there");

    let mut puts = desk.batch();
    puts.puts = vec![Put { record: stored.record.clone(), expect: Some(stored.version) }];
    let mut deletes = desk.batch();
    deletes.deletes = vec![(Key::Due(task), stored.version)];
    let mut guards = desk.batch();
    guards.guards = vec![(Key::Due(task), Some(stored.version))];
    for batch in [puts, deletes, guards] {
        desk.refuse(&batch, ErrorKind::InvalidInput).await;
    }
    assert_eq!(desk.get(&Key::Due(task)).await, Some(stored));
}

pub(super) async fn a_draft_guards_what_it_read(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (read, written) = (desk.dependency_id(), desk.dependency_id());
    desk.create([state(read, 1), state(written, 1)]).await;
    let decide = async || {
        let id = CommitId::from_uuid(desk.any_uuid());
        let mut draft = Draft::new(&*desk.store, id, me());
        let seen = draft.state(read).await.expect("a read").expect("a state");
        let mut changed = draft.state(written).await.expect("a read").expect("a state");
        changed.fence += seen.fence;
        draft.put(Record::State(changed));
        draft.finish()
    };
    let (early, late) = (decide().await, decide().await);
    desk.commit(&early).await;
    desk.refuse(&late, ErrorKind::Conflict).await;
    let stale = decide().await;
    desk.write(state(read, 5)).await;
    desk.refuse(&stale, ErrorKind::Conflict).await;
    desk.commit(&decide().await).await;
    assert_eq!(desk.get(&Key::State(written)).await.map(|v| v.record), Some(state(written, 7)));
}
