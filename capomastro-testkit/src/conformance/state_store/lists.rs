//! Lists and their pages.

use super::{
    StoreHarness,
    desk::{Desk, create},
    samples,
};
use capomastro_core::{
    ErrorKind,
    model::DependencyId,
    store::{EventFilter, FIRST_EVENT, Key, ListKey, MAX_PAGE, Query, Record, Version},
};
use std::collections::BTreeMap;

fn by_name(backwards: bool) -> Query {
    Query::List { list: ListKey::dependencies(), backwards }
}

fn named(desk: &Desk, name: &str) -> Record {
    Record::Dependency(samples::dependency(desk.dependency_id(), name))
}

fn name(record: &Record) -> String {
    match record {
        Record::Dependency(dependency) => dependency.name.to_string(),
        record => panic!("a dependency is listed, but: {record:?}"),
    }
}

pub(super) async fn each_record_is_found_in_its_lists_and_leaves_them(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let records = samples::records(&desk);
    desk.create(records.clone()).await;
    let mut expected: BTreeMap<ListKey, BTreeMap<String, Key>> = BTreeMap::new();
    for record in &records {
        for (list, place) in record.lists() {
            expected.entry(list).or_default().insert(place, record.key());
        }
    }
    assert_eq!(expected.len(), 14, "each list has a sample: {expected:?}");
    for (list, entries) in &expected {
        assert_eq!(
            &desk.list(list.clone()).await,
            &entries.values().cloned().collect::<Vec<_>>(),
            "{list:?}"
        );
    }
    // A change moves a record to other lists.
    for record in &records {
        let mut moved = record.clone();
        match &mut moved {
            Record::Dependency(r) => {
                r.deleted_at = if r.deleted_at.is_some() { None } else { Some(desk.now()) }
            }
            Record::Project(r) => r.deleted_at = if r.deleted_at.is_some() { None } else { Some(desk.now()) },
            Record::Receipt(r) => r.settled_at = None,
            Record::Orphan(r) => r.verdict = Some(capomastro_core::model::OrphanVerdict::Ignored),
            Record::Build(r) => {
                *r = samples::ended(r.clone(), capomastro_core::model::Phase::Failed, desk.now())
            }
            _ => continue,
        }
        desk.write(moved.clone()).await;
        let stays_in: Vec<ListKey> = moved.lists().into_iter().map(|(list, _)| list).collect();
        for (list, _) in record.lists() {
            assert_eq!(
                desk.list(list.clone()).await.contains(&record.key()),
                stays_in.contains(&list),
                "{list:?}"
            );
        }
        for (list, _) in moved.lists() {
            assert!(desk.list(list.clone()).await.contains(&record.key()), "{list:?}");
        }
    }
    // A delete takes it from all of them.
    for record in &records {
        desk.delete(record.key()).await;
    }
    for list in expected.into_keys() {
        assert_eq!(desk.list(list.clone()).await, vec![], "{list:?}");
    }
}

pub(super) async fn lists_are_sorted_by_bytes_both_ways(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    // In the order of their bytes, which is neither that of a dictionary nor that of UTF-16.
    let names = ["!", "10", "9", "A", "Z", "a", "a b", "a/b", "aa", "z", "Ä", "é", "я", "\u{ff5a}", "🦀"];
    let mut shuffled = names;
    shuffled.rotate_left(5);
    shuffled.swap(0, 9);
    for name in shuffled {
        desk.create([named(&desk, name)]).await;
    }
    let mut found: Vec<String> =
        desk.pages(&by_name(false), 100).await.iter().map(|v| name(&v.record)).collect();
    assert_eq!(found, names);
    found.reverse();
    let backwards: Vec<String> =
        desk.pages(&by_name(true), 100).await.iter().map(|v| name(&v.record)).collect();
    assert_eq!(backwards, found);
}

pub(super) async fn pages_make_up_the_whole_list(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let count = 12;
    let mut batch = desk.batch();
    batch.puts = (0..count).map(|i| create(named(&desk, &format!("dependency {i:02}")))).collect();
    desk.commit(&batch).await;
    // Another list and living names elsewhere must not shine through.
    desk.create(samples::records(&desk).into_iter().filter(|r| !matches!(r, Record::Dependency(_)))).await;
    for backwards in [false, true] {
        let mut whole: Vec<(Key, Version)> = Vec::new();
        for put in &batch.puts {
            let key = put.record.key();
            whole.push((key.clone(), desk.version(&key).await.expect("the record is there")));
        }
        if backwards {
            whole.reverse();
        }
        for limit in 1..=count + 1 {
            let found: Vec<(Key, Version)> = desk
                .pages(&by_name(backwards), limit)
                .await
                .into_iter()
                .map(|stored| (stored.record.key(), stored.version))
                .collect();
            assert_eq!(found, whole, "pages of {limit}");
        }
        // The last full page says that it is the last.
        let first = desk.store.list(&by_name(backwards), None, count / 2).await.expect("a page");
        let second =
            desk.store.list(&by_name(backwards), first.next.as_deref(), count / 2).await.expect("a page");
        assert_eq!((second.items.len(), second.next), (count / 2, None));
    }
}

pub(super) async fn what_stays_is_paged_exactly_once(harness: &dyn StoreHarness) {
    for backwards in [false, true] {
        let desk = Desk::fresh(harness).await;
        let ids: BTreeMap<usize, DependencyId> = (0..40).map(|i| (i, desk.dependency_id())).collect();
        let record = |i: usize| Record::Dependency(samples::dependency(ids[&i], &format!("n{i:02}")));
        let stays: Vec<usize> = (0..40).filter(|i| i % 4 == 0).collect();
        let goes: Vec<usize> = (0..40).filter(|i| i % 4 == 2).collect();
        desk.create(stays.iter().chain(&goes).map(|i| record(*i))).await;
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut after: Option<String> = None;
        let mut come = (0..40).filter(|i| i % 2 == 1);
        let mut go = goes.iter().rev();
        let mut pages = 0;
        loop {
            pages += 1;
            assert!(pages <= 40, "paging comes to an end: {seen:?}");
            let page = desk.store.list(&by_name(backwards), after.as_deref(), 3).await.expect("a page");
            for item in &page.items {
                *seen.entry(name(&item.record)).or_default() += 1;
            }
            let Some(next) = page.next else { break };
            after = Some(next);
            // Meanwhile some come, some go, some are only written.
            desk.create(come.by_ref().take(2).map(record)).await;
            if let Some(i) = go.next() {
                desk.delete(Key::Dependency(ids[i])).await;
            }
            desk.write(record(0)).await;
        }
        for i in stays {
            assert_eq!(seen.get(&format!("n{i:02}")), Some(&1), "{seen:?}");
        }
        assert!(seen.values().all(|times| *times == 1), "nothing twice: {seen:?}");
    }
}

pub(super) async fn a_place_may_outlive_its_record(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let records: Vec<Record> = ["a", "b", "c", "d"].map(|n| named(&desk, n)).into();
    desk.create(records.clone()).await;
    for (backwards, last) in [(false, "d"), (true, "a")] {
        let page = desk.store.list(&by_name(backwards), None, 2).await.expect("a page");
        let at = page.items[1].record.clone();
        desk.delete(at.key()).await;
        let rest = desk.store.list(&by_name(backwards), page.next.as_deref(), 10).await.expect("a page");
        assert_eq!(rest.items.last().map(|v| name(&v.record)).as_deref(), Some(last));
        assert_eq!(rest.items.len(), 2);
        desk.create([at]).await;
    }
}

pub(super) async fn a_page_has_at_most_a_thousand(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let mut batch = desk.batch();
    batch.puts = (0..1_050).map(|i| create(named(&desk, &format!("{i:05}")))).collect();
    desk.commit(&batch).await;
    let page = desk.store.list(&by_name(false), None, MAX_PAGE).await.expect("a page");
    assert_eq!(page.items.len(), MAX_PAGE);
    let rest = desk.store.list(&by_name(false), page.next.as_deref(), MAX_PAGE).await.expect("a page");
    assert_eq!((rest.items.len(), rest.next), (50, None));
    assert_eq!(name(&rest.items[0].record), "01000");
    let keys: Vec<Key> = batch.puts.iter().map(|put| put.record.key()).collect();
    let snapshot = desk.store.get(&keys).await.expect("many records are read");
    assert!(snapshot.records.iter().all(Option::is_some));
}

pub(super) async fn limits_out_of_range_are_refused(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    for limit in [0, MAX_PAGE + 1, usize::MAX] {
        let list = desk.store.list(&by_name(false), None, limit).await.expect_err("a limit out of range");
        let events =
            desk.store.events(EventFilter::All, FIRST_EVENT, limit).await.expect_err("a limit out of range");
        assert_eq!((list.kind(), events.kind()), (ErrorKind::InvalidInput, ErrorKind::InvalidInput));
    }
    for limit in [1, MAX_PAGE] {
        desk.store.list(&by_name(false), None, limit).await.expect("a limit within range");
        desk.store.events(EventFilter::All, FIRST_EVENT, limit).await.expect("a limit within range");
    }
}
