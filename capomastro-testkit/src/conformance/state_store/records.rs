//! Records: what is written is what is read.

use super::{
    StoreHarness,
    desk::{Desk, SECOND, create, me, set},
    samples,
};
use capomastro_core::{
    ErrorKind,
    model::{DependencyState, ExternalRef, Orphan, Paused},
    store::{EventFilter, FIRST_EVENT, Key, Lane, LimitScope, ListKey, Put, Query, Record, Task, UniqueKey},
    time::Timestamp,
};
use serde_json::json;
use std::collections::BTreeSet;

pub(super) async fn an_empty_store_has_nothing_and_is_well(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let info = desk.store.check().await.expect("an empty store is well");
    assert_eq!(info.now, desk.now());
    assert!(!info.description.is_empty());

    let keys: Vec<Key> =
        samples::records(&desk).iter().map(Record::key).chain([Key::Due(Task::Sweep)]).collect();
    let snapshot = desk.store.get(&keys).await.expect("absent records are read");
    assert_eq!(snapshot.records, vec![None; keys.len()]);
    assert_eq!(desk.store.get(&[]).await.expect("nothing is read").records, vec![]);

    let name = UniqueKey::dependency(&"a".parse().expect("a name"));
    for query in [
        Query::Unique(name),
        Query::List { list: ListKey::dependencies(), backwards: false },
        Query::List { list: ListKey::open_builds(), backwards: true },
    ] {
        let page = desk.store.list(&query, None, 10).await.expect("an empty list is read");
        assert_eq!((page.items, page.next), (vec![], None), "{query:?}");
    }
    let page = desk.store.events(EventFilter::All, FIRST_EVENT, 10).await.expect("no events are read");
    assert_eq!((page.items, page.upto), (vec![], FIRST_EVENT));
    let claimed = desk.claim(&Lane::House, &me(), 10).await;
    assert_eq!((claimed.claims, claimed.next_due), (vec![], None));
}

/// A word for each kind; a kind that is added does not compile until it is tested.
fn kind(record: &Record) -> &'static str {
    match record {
        Record::Dependency(_) => "dependency",
        Record::State(_) => "state",
        Record::Build(_) => "build",
        Record::Project(_) => "project",
        Record::ProjectBuild(_) => "project build",
        Record::Receipt(_) => "receipt",
        Record::Orphan(_) => "orphan",
        Record::Limit(_) => "limit",
        Record::Due(_) => "due row",
    }
}

pub(super) async fn each_kind_of_record_returns_as_it_was_written(harness: &dyn StoreHarness) {
    let mut desk = Desk::fresh(harness).await;
    let records = samples::records(&desk);
    let kinds: BTreeSet<_> = records.iter().map(kind).collect();
    assert_eq!(kinds.len(), 8, "each kind that can be put has a sample: {kinds:?}");

    desk.create(records.clone()).await;
    for _ in 0..2 {
        for record in &records {
            let stored = desk.get(&record.key()).await.expect("what was written is there");
            assert_eq!(&stored.record, record);
            assert!(stored.version > 0, "no version is 0");
        }
        desk = desk.reopened(harness).await;
    }
}

pub(super) async fn answers_come_in_the_order_of_the_keys(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let records = samples::records(&desk);
    desk.create(records.clone()).await;
    let absent = Key::Build(desk.build_id());
    let mut keys: Vec<Key> = records.iter().rev().map(Record::key).collect();
    keys.insert(3, absent.clone());
    keys.push(keys[0].clone());
    let snapshot = desk.store.get(&keys).await.expect("the records are read");
    let found: Vec<Option<Key>> =
        snapshot.records.iter().map(|r| r.as_ref().map(|stored| stored.record.key())).collect();
    let asked: Vec<Option<Key>> =
        keys.into_iter().map(|key| Some(key).filter(|key| *key != absent)).collect();
    assert_eq!(found, asked);
}

pub(super) async fn a_record_is_created_once(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    for record in samples::records(&desk) {
        let mut batch = desk.batch();
        batch.puts = vec![create(record.clone())];
        desk.commit(&batch).await;
        let stored = desk.get(&record.key()).await;
        let mut again = desk.batch();
        again.puts = batch.puts;
        // A name that is taken too: the version is what tells the writer that it read too early.
        desk.refuse(&again, ErrorKind::Conflict).await;
        assert_eq!(desk.get(&record.key()).await, stored);
    }
}

fn state_with_fence(id: capomastro_core::model::DependencyId, fence: u64) -> Record {
    let mut state = DependencyState::new(id);
    state.fence = fence;
    Record::State(state)
}

pub(super) async fn a_stale_version_conflicts(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let id = desk.dependency_id();
    let first = desk.write(state_with_fence(id, 1)).await;
    let second = desk.write(state_with_fence(id, 2)).await;
    for wrong in [first, second + 1, second + 1_000, u64::MAX >> 1] {
        let mut batch = desk.batch();
        batch.puts = vec![Put { record: state_with_fence(id, 3), expect: Some(wrong) }];
        desk.refuse(&batch, ErrorKind::Conflict).await;
    }
    let mut absent = desk.batch();
    absent.puts = vec![Put { record: state_with_fence(desk.dependency_id(), 1), expect: Some(first) }];
    desk.refuse(&absent, ErrorKind::Conflict).await;

    let stored = desk.get(&Key::State(id)).await.expect("the record is there");
    assert_eq!((stored.version, stored.record), (second, state_with_fence(id, 2)));
}

pub(super) async fn versions_grow_and_never_repeat(harness: &dyn StoreHarness) {
    let mut desk = Desk::fresh(harness).await;
    let id = desk.dependency_id();
    let mut last = 0;
    for fence in 0..12 {
        let version = desk.write(state_with_fence(id, fence)).await;
        assert!(version > last, "version {version} comes after {last}");
        last = version;
        if fence % 3 == 2 {
            desk.delete(Key::State(id)).await;
            assert_eq!(desk.get(&Key::State(id)).await, None);
            // Not even a store that was opened again starts anew.
            desk = desk.reopened(harness).await;
        }
    }
    // An unchanged record that is written is a write.
    let same = desk.write(state_with_fence(id, 100)).await;
    assert!(desk.write(state_with_fence(id, 100)).await > same);
}

pub(super) async fn a_delete_needs_the_stored_version(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let id = desk.dependency_id();
    let first = desk.write(state_with_fence(id, 1)).await;
    let second = desk.write(state_with_fence(id, 2)).await;
    let delete = |key: Key, version| {
        let mut batch = desk.batch();
        batch.deletes = vec![(key, version)];
        batch
    };
    desk.refuse(&delete(Key::State(id), first), ErrorKind::Conflict).await;
    desk.refuse(&delete(Key::State(desk.dependency_id()), second), ErrorKind::Conflict).await;
    assert_eq!(desk.version(&Key::State(id)).await, Some(second));
    desk.commit(&delete(Key::State(id), second)).await;
    assert_eq!(desk.get(&Key::State(id)).await, None);
    desk.refuse(&delete(Key::State(id), second), ErrorKind::Conflict).await;
}

pub(super) async fn kinds_and_ids_are_kept_apart(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (one, two) = (desk.dependency_id(), desk.dependency_id());
    let records = [
        Record::Dependency(samples::dependency(one, "one")),
        Record::State(DependencyState::new(one)),
        Record::Dependency(samples::dependency(two, "two")),
        Record::State(DependencyState::new(two)),
    ];
    desk.create(records.clone()).await;
    desk.delete(Key::State(one)).await;
    assert_eq!(desk.get(&Key::State(one)).await, None);
    for record in [&records[0], &records[2], &records[3]] {
        assert_eq!(desk.get(&record.key()).await.map(|stored| stored.record).as_ref(), Some(record));
    }
}

pub(super) async fn references_of_orphans_may_be_any_text(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let build = desk.build_id();
    let long = "x".repeat(4_096);
    let references = ["", "a", "a/b", "a%2Fb", "A", "ä", "a\u{308}", "'; --", "%", "_", "a ", "\u{0}", &long];
    let orphan = |external: &str| {
        Record::Orphan(Orphan {
            build,
            external: ExternalRef(external.to_owned()),
            seen_by: format!("saw {}", external.len()),
            seen_at: desk.now(),
            verdict: Some(capomastro_core::model::OrphanVerdict::Ignored),
        })
    };
    desk.create(references.iter().map(|r| orphan(r))).await;
    for reference in references {
        let key = Key::Orphan(build, reference.to_owned());
        assert_eq!(
            desk.get(&key).await.map(|stored| stored.record),
            Some(orphan(reference)),
            "{reference:?}"
        );
    }
    // The same texts are their places in a list.
    let mut in_order = references;
    in_order.sort_unstable();
    let query = Query::List { list: ListKey::orphans_of(build), backwards: false };
    let found: Vec<Record> = desk.pages(&query, 1).await.into_iter().map(|stored| stored.record).collect();
    assert_eq!(found, in_order.map(orphan));
}

pub(super) async fn values_may_be_of_any_script_and_large(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let name: String = "🦀".repeat(50);
    let mut dependency = samples::dependency(desk.dependency_id(), &name);
    let long = "ä\"\\\u{1}\u{2028}🦀".repeat(1024 * 1024 / 16 + 1);
    dependency.job = json!({ "script": long, "\u{0}": "\u{ffff}", "n": [u64::MAX, i64::MIN, 0.1, -0.5] });
    let mut build = samples::build(desk.build_id(), dependency.id, 1);
    build.revision = "é".repeat(512).parse().expect("a revision of 1,024 bytes");
    let open = samples::ended(build, capomastro_core::model::Phase::Succeeded, desk.now());
    let list = ListKey::good_builds(dependency.id, open.epoch, &open.revision);
    let records = [Record::Dependency(dependency), Record::Build(open)];
    desk.create(records.clone()).await;
    for record in &records {
        let stored = desk.get(&record.key()).await.expect("what was written is there");
        assert!(&stored.record == record, "a large value returns as it was written");
    }
    assert_eq!(desk.list(list).await, vec![records[1].key()]);
    let query = Query::Unique(UniqueKey::dependency(&name.parse().expect("a name")));
    assert_eq!(desk.pages(&query, 1).await.len(), 1);
}

pub(super) async fn times_return_to_the_microsecond(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let times = [
        "0001-01-01T00:00:00Z",
        "1969-12-31T23:59:59.999999Z",
        "1970-01-01T00:00:00Z",
        "1970-01-01T00:00:00.000001Z",
        "2026-06-30T23:59:59.999999Z",
        "2038-01-19T03:14:08Z",
        "9999-12-31T23:59:59.999999Z",
    ];
    for (number, at) in (1..).zip(times.map(samples::time)) {
        let mut state = DependencyState::new(desk.dependency_id());
        state.debt_since = Some(at);
        state.paused = Some(Paused { by: "Ann".parse().expect("a name"), reason: String::new(), at });
        let build = samples::build(desk.build_id(), state.id, number);
        let build = samples::ended(build, capomastro_core::model::Phase::Lost, at);
        for record in [Record::State(state), Record::Build(build)] {
            desk.create([record.clone()]).await;
            assert_eq!(desk.get(&record.key()).await.map(|stored| stored.record), Some(record));
        }
    }
    let ended = desk.pages(&Query::List { list: ListKey::ended_builds(), backwards: false }, 3).await;
    let since_1970: Vec<Timestamp> = ended
        .iter()
        .filter_map(|stored| match &stored.record {
            Record::Build(build) => build.ended_at,
            _ => None,
        })
        .filter(|at| at.timestamp_micros() >= 0)
        .collect();
    assert_eq!(since_1970, times[2..].iter().map(|t| samples::time(t)).collect::<Vec<_>>());
}

pub(super) async fn what_was_answered_survives_reopening(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (task, claim) = desk.claimed_task(&me()).await;
    let mut batch = desk.batch();
    batch.puts = samples::records(&desk).into_iter().map(create).collect();
    batch.events = samples::events(&desk);
    batch.due = vec![
        set(Task::Sweep, SECOND),
        capomastro_core::store::DueChange::Hold {
            task: Task::Judge(desk.build_id()),
            lane: Lane::House,
            lease: SECOND,
        },
    ];
    let committed = desk.commit(&batch).await;
    let limit = Key::Limit(LimitScope::Overall);
    let before = (desk.get(&limit).await, desk.events().await, desk.due_row(task).await);

    let desk = desk.reopened(harness).await;
    assert_eq!((desk.get(&limit).await, desk.events().await, desk.due_row(task).await), before);
    let repeated = desk.store.commit(&batch).await.expect("a commit is remembered");
    assert!(repeated.repeated);
    assert_eq!(repeated.at, committed.at);
    let mut under_claims = desk.due_batch(&[&claim, &committed.claims[0]], [set(task, SECOND)]);
    under_claims.events = samples::events(&desk);
    desk.commit(&under_claims).await;
    let events = desk.events().await;
    assert!(events.windows(2).all(|pair| pair[0].seq < pair[1].seq), "places grow beyond the reopening");
    assert_eq!(desk.due_row(Task::Sweep).await.map(|row| row.due_at), Some(desk.after(SECOND)));
}
