//! A whole installation is moved into another file.

mod bent;
mod refused;
mod rich;
pub(crate) mod stopped;

use crate::samples::{batch, limit, limit_key, open, says_what_to_do, wait};
use capomastro_core::{
    ErrorKind, Result,
    events::{Event, EventKind},
    model::DependencyId,
    store::{
        DueChange, EventFilter, ListKey, Put, StateStore,
        transfer::{Afterwards, TransferReport, TransferSource, transfer},
    },
};
use capomastro_store_sqlite::SqliteStore;
use rich::{all_of, ask, clock, last_batch, list, look, open_at, rich};
use std::{path::Path, time::Duration};

/// The whole move, as whoever makes it writes it.
pub(crate) fn moved(from: &Path, to: &Path, afterwards: Afterwards) -> Result<TransferReport> {
    wait(async {
        let source = SqliteStore::builder(from).open_source()?;
        let target = SqliteStore::builder(to).open_target()?;
        let report = transfer(&source, &target, afterwards).await;
        source.close().await;
        target.close().await;
        report
    })
}

fn reinstate(path: &Path) {
    let source = SqliteStore::builder(path).open_source().unwrap();
    wait(source.reinstate()).unwrap();
    wait(source.close());
}

#[test]
fn everything_is_in_the_new_file_as_it_was_in_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (rich(dir.path()), dir.path().join("new.db"));
    let before = all_of(&old);
    let report = moved(&old, &new, Afterwards::KeepSource).unwrap();
    assert_eq!(all_of(&old), before);
    assert_eq!(all_of(&new), before);
    assert!(!report.repeated && !report.source_retired);
    for (tally, table) in [
        (report.contents.records, "records"),
        (report.contents.due, "due"),
        (report.contents.events, "events"),
        (report.contents.commits, "commits"),
    ] {
        assert_eq!(
            i64::try_from(tally.count).unwrap(),
            rich::count(&new, &format!("FROM capomastro_{table}"))
        );
    }
    let shown = report.to_string();
    assert!(shown.contains("new.db") && shown.contains(&report.contents.due.to_string()), "{shown}");
}

#[test]
fn the_new_file_answers_as_the_old_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (rich(dir.path()), dir.path().join("new.db"));
    moved(&old, &new, Afterwards::KeepSource).unwrap();
    let clock = clock();
    clock.advance(Duration::from_secs(120));
    let (old, new) = (open_at(&old, &clock), open_at(&new, &clock));
    for of in [
        ListKey::dependencies(),
        ListKey::projects(),
        ListKey::ended_builds(),
        ListKey::open_builds(),
        ListKey::settled_receipts(),
        ListKey::deleted_projects(),
        ListKey::deleted_dependencies(),
        ListKey::sealed_project_builds(),
    ] {
        assert_eq!(list(&old, &of), list(&new, &of), "{of:?}");
    }
    let about = EventFilter::Dependency(DependencyId::from_uuid(uuid::Uuid::from_u128(3)));
    for filter in [EventFilter::All, about] {
        let read = |s: &SqliteStore| wait(s.events(filter, 0, 1_000)).unwrap();
        assert_eq!(read(&old), read(&new));
        assert!(!read(&new).items.is_empty());
    }
    // Who holds a claim still holds it until its lease ends; then all is taken in the same order, under the same tickets.
    let claims = wait(old.claim_due(&ask("next", 5_000))).unwrap();
    assert!(claims.claims.len() > 1_000);
    assert_eq!(claims, wait(new.claim_due(&ask("next", 5_000))).unwrap());
}

#[test]
fn nothing_that_was_given_is_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (rich(dir.path()), dir.path().join("new.db"));
    let report = moved(&old, &new, Afterwards::RetireSource).unwrap();
    assert!(report.contents.highest_number < report.last_number, "the last record was deleted");
    let store = open_at(&new, &clock());
    let mut next = batch();
    next.puts.push(Put { record: limit("next", 1), expect: None });
    next.events.push(Event::of_dependency(DependencyId::from_uuid(uuid::Uuid::nil()), EventKind::Deleted));
    wait(store.commit(&next)).unwrap();
    let version = wait(store.get(&[limit_key("next")])).unwrap().records[0].as_ref().unwrap().version;
    assert!(version > report.last_number);
    let page = wait(store.events(EventFilter::All, report.last_event, 10)).unwrap();
    assert_eq!(page.items.len(), 1);
    assert!(page.items[0].seq > report.last_event);
    assert!(wait(store.commit(last_batch())).unwrap().repeated, "its id came along");
    let tickets: Vec<u64> =
        wait(store.claim_due(&ask("next", 10))).unwrap().claims.iter().map(|c| c.ticket).collect();
    assert!(!tickets.is_empty() && tickets.iter().all(|t| *t > version), "{tickets:?}");
}

#[test]
fn nobody_goes_on_with_the_old_file_by_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (rich(dir.path()), dir.path().join("new.db"));
    assert!(moved(&old, &new, Afterwards::RetireSource).unwrap().source_retired);
    let e = SqliteStore::builder(&old).open().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::ReadOnly, "{e}");
    assert!(e.to_string().contains("new.db") && e.to_string().contains("rich.db"), "{e}");
    says_what_to_do(&e);
    // Nor is it moved to yet another place.
    let e = moved(&old, &dir.path().join("third.db"), Afterwards::RetireSource).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::ReadOnly, "{e}");
    // Until somebody says so.
    reinstate(&old);
    reinstate(&old);
    wait(open(&old).check()).unwrap();
}

#[test]
fn a_move_that_had_ended_is_found_to_be_done_until_the_new_file_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (rich(dir.path()), dir.path().join("new.db"));
    let first = moved(&old, &new, Afterwards::KeepSource).unwrap();
    let again = moved(&old, &new, Afterwards::RetireSource).unwrap();
    assert!(again.repeated && again.source_retired);
    assert_eq!(again.contents, first.contents);
    let store = open_at(&new, &clock());
    let mut nudge = batch();
    nudge.due.push(DueChange::Drop { task: look(1) });
    wait(store.commit(&nudge)).unwrap();
    wait(store.close());
    let used = all_of(&new);
    let e = moved(&old, &new, Afterwards::RetireSource).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::AlreadyExists, "{e}");
    says_what_to_do(&e);
    assert_eq!(all_of(&new), used);
}
