//! Moves between stores that are lists of items, and the numbers by which stores are compared.

use super::*;
use crate::{
    Error, ErrorKind,
    events::{Event, EventKind, StoredEvent},
    model::{CommitId, LauncherName, Note},
    sample,
    store::{DueRow, Lane, LimitScope, LimitState, Record, Task, Versioned},
};
use futures_util::FutureExt;
use std::sync::{Mutex, MutexGuard};
use uuid::Uuid;

fn limit(n: u64) -> Item {
    let name: LauncherName = format!("l{n}").parse().unwrap();
    let record = Record::Limit(LimitState::new(LimitScope::Launcher(name)));
    Item::Record(Versioned { version: n, record })
}

fn due(n: u64) -> Item {
    let row = DueRow {
        task: Task::Look(sample::dependency(n.into())),
        lane: Lane::House,
        due_at: sample::at(1),
        claimed_by: None,
        ticket: n,
        note: Note::default(),
    };
    Item::Due(DueItem { row, nudge_at: None })
}

fn event(n: u64) -> Item {
    let event = Event::of_dependency(sample::dependency(1), EventKind::Deleted);
    Item::Event(StoredEvent { seq: n, at: sample::at(1), event })
}

fn commit(n: u64) -> Item {
    Item::Commit(CommitId::from_uuid(Uuid::from_u128(n.into())), sample::at(1))
}

fn all() -> Vec<Item> {
    let mut items: Vec<Item> = (1..=1_100).map(limit).collect();
    items.extend((1..=5).map(due));
    items.extend((1..=501).map(event));
    items.extend((1..=500).map(commit));
    items
}

fn contents(items: &[Item]) -> Contents {
    let mut contents = Contents::default();
    items.iter().for_each(|item| contents.add(item).unwrap());
    contents
}

/// What a store keeps, and how it was to behave.
#[derive(Debug, Default)]
struct Kept {
    id: &'static str,
    items: Vec<Item>,
    last_number: u64,
    last_event: u64,
    from: Option<(Place, bool)>,
    moved_to: Option<Place>,
    /// After so many reads, this item is gone.
    loses_after: Option<usize>,
    reads: usize,
    stands_still: bool,
    shows_others: bool,
    does_not_count: bool,
}

#[derive(Debug)]
struct Lists(Mutex<Kept>);

impl Lists {
    fn new(kept: Kept) -> Self {
        Self(Mutex::new(kept))
    }

    fn full() -> Kept {
        Kept { id: "old", items: all(), last_number: 2_000, last_event: 3_000, ..Kept::default() }
    }

    fn empty() -> Kept {
        Kept { id: "new", ..Kept::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap()
    }
}

#[async_trait]
impl TransferReader for Lists {
    async fn survey(&self) -> Result<Survey> {
        let kept = self.kept();
        let mut survey = Survey::new(Place::new(kept.id, kept.id), kept.last_number, kept.last_event);
        survey.moved_to = kept.moved_to.clone();
        Ok(survey)
    }

    async fn read(&self, kind: ItemKind, after: Option<&str>, limit: PartLimit) -> Result<Part> {
        let mut kept = self.kept();
        kept.reads += 1;
        if kept.loses_after.is_some_and(|n| kept.reads > n) {
            kept.loses_after = None;
            kept.items.remove(700);
        }
        let kind = if kept.shows_others { ItemKind::Due } else { kind };
        let from: usize = after.map_or(0, |a| a.parse().unwrap());
        let of_kind: Vec<_> = kept.items.iter().filter(|i| i.kind() == kind).cloned().collect();
        let items: Vec<_> = of_kind.iter().skip(from).take(limit.items).cloned().collect();
        let next = from + items.len();
        let next = if kept.stands_still { after.map_or(0, |a| a.parse().unwrap()) } else { next };
        Ok(Part { items, next: (next < of_kind.len()).then(|| next.to_string()) })
    }
}

#[async_trait]
impl TransferSource for Lists {
    async fn retire(&self, to: &Place) -> Result<()> {
        self.kept().moved_to = Some(to.clone());
        Ok(())
    }

    async fn reinstate(&self) -> Result<()> {
        self.kept().moved_to = None;
        Ok(())
    }
}

#[async_trait]
impl TransferTarget for Lists {
    async fn begin(&self, from: &Survey) -> Result<Begun> {
        let mut kept = self.kept();
        match &kept.from {
            Some((place, true)) if *place == from.place => return Ok(Begun::Finished),
            Some((place, false)) if *place == from.place => kept.items.clear(),
            None if kept.items.is_empty() => {}
            _ => return Err(super::super::refusals::target_in_use(kept.id)),
        }
        kept.from = Some((from.place.clone(), false));
        if !kept.does_not_count {
            (kept.last_number, kept.last_event) = (from.last_number, from.last_event);
        }
        Ok(Begun::Empty)
    }

    async fn write(&self, items: &[Item]) -> Result<()> {
        assert!(items.len() <= PART.items && items.iter().all(|i| i.kind() == items[0].kind()));
        self.kept().items.extend_from_slice(items);
        Ok(())
    }

    async fn finish(&self) -> Result<()> {
        if let Some((_, done)) = &mut self.kept().from {
            *done = true;
        }
        Ok(())
    }
}

fn moved(source: &Lists, target: &Lists, afterwards: Afterwards) -> Result<TransferReport> {
    transfer(source, target, afterwards).now_or_never().expect("lists never wait")
}

fn refused(source: Kept, target: Kept) -> (Error, Lists, Lists) {
    let (source, target) = (Lists::new(source), Lists::new(target));
    let e = moved(&source, &target, Afterwards::RetireSource).unwrap_err();
    assert!(e.message().contains(": "), "says what to do: {e}");
    (e, source, target)
}

#[test]
fn everything_is_moved_and_told_of() {
    let (source, target) = (Lists::new(Lists::full()), Lists::new(Lists::empty()));
    let report = moved(&source, &target, Afterwards::RetireSource).unwrap();
    assert_eq!(target.kept().items, all());
    assert_eq!(report.contents, contents(&all()));
    assert_eq!((report.contents.records.count, report.contents.events.count), (1_100, 501));
    assert_eq!((report.contents.highest_number, report.contents.highest_event), (1_100, 501));
    assert_eq!((report.last_number, report.last_event), (2_000, 3_000));
    assert_eq!(source.kept().moved_to, Some(Place::new("new", "new")));
    assert!(report.to_string().contains("old was moved to new\nrecords: 1100 ("), "{report}");
    let again = moved(&source, &target, Afterwards::RetireSource).unwrap();
    assert!(again.repeated && again.source_retired);
    assert_eq!(again.contents, report.contents);
    target.kept().items.pop();
    assert_eq!(
        moved(&source, &target, Afterwards::RetireSource).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
}

#[test]
fn a_source_that_is_kept_is_left_alone() {
    let (source, target) = (Lists::new(Lists::full()), Lists::new(Lists::empty()));
    assert!(!moved(&source, &target, Afterwards::KeepSource).unwrap().source_retired);
    assert_eq!(source.kept().moved_to, None);
}

#[test]
fn a_source_that_changes_is_seen_and_given_back_and_the_next_try_is_good() {
    // Read 3 copies what is lost then or later, and read 10 looks for it again.
    for reads in 3..10 {
        let source = Kept { loses_after: Some(reads), ..Lists::full() };
        let (e, source, target) = refused(source, Lists::empty());
        assert_eq!(e.kind(), ErrorKind::Conflict, "after {reads}: {e}");
        assert_eq!(source.kept().moved_to, None, "it can be used");
        assert!(matches!(target.kept().from, Some((_, false))), "and this cannot");
        moved(&source, &target, Afterwards::RetireSource).unwrap();
        assert_eq!(target.kept().items, source.kept().items);
    }
}

#[test]
fn a_target_that_loses_something_is_not_finished() {
    let (e, source, target) = refused(Lists::full(), Kept { loses_after: Some(0), ..Lists::empty() });
    assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}");
    assert!(
        e.to_string().contains("kind=Record, copied=1100 (") && e.to_string().contains("found=1099 ("),
        "{e}"
    );
    assert_eq!(source.kept().moved_to, None);
    assert!(matches!(target.kept().from, Some((_, false))));
}

#[test]
fn stores_that_do_not_do_as_they_say_are_found_out() {
    use ErrorKind as K;
    for (what, source, target, kind) in [
        ("the same store", Lists::full(), Kept { id: "old", ..Lists::empty() }, K::InvalidInput),
        ("nothing in it", Kept { items: vec![], ..Lists::full() }, Lists::empty(), K::InvalidInput),
        ("in use", Lists::full(), Kept { items: vec![limit(1)], ..Lists::empty() }, K::AlreadyExists),
        (
            "moved elsewhere",
            Kept { moved_to: Some(Place::new("third", "third")), ..Lists::full() },
            Lists::empty(),
            K::ReadOnly,
        ),
        ("numbers behind", Kept { last_number: 1_099, ..Lists::full() }, Lists::empty(), K::Corrupt),
        ("events behind", Kept { last_event: 500, ..Lists::full() }, Lists::empty(), K::Corrupt),
        ("counts anew", Lists::full(), Kept { does_not_count: true, ..Lists::empty() }, K::Internal),
        ("stands still", Kept { stands_still: true, ..Lists::full() }, Lists::empty(), K::Internal),
        ("shows others", Kept { shows_others: true, ..Lists::full() }, Lists::empty(), K::Internal),
    ] {
        let (e, source, target) = refused(source, target);
        assert_eq!(e.kind(), kind, "{what}: {e}");
        assert!(source.kept().moved_to.as_ref().is_none_or(|to| to.id == "third"), "{what}");
        assert!(!matches!(target.kept().from, Some((_, true))), "{what}");
    }
}

#[test]
fn the_order_does_not_count_and_each_item_does() {
    let items = all();
    let whole = contents(&items);
    let backwards: Vec<_> = items.iter().rev().cloned().collect();
    assert_eq!(contents(&backwards), whole);
    for place in [0, 600, 1_099, 1_100, 1_105, 1_700, items.len() - 1] {
        let mut less = items.clone();
        let lost = less.remove(place);
        assert_ne!(contents(&less), whole, "without {lost:?}");
        // As many, but one of them twice.
        less.push(less[if place == 0 { 1 } else { 0 }].clone());
        assert_ne!(contents(&less), whole, "another one for {lost:?}");
    }
    assert_ne!(contents(&[limit(1), limit(1)]).records.digest, [0; 32], "a pair does not vanish");
}

#[test]
fn a_sum_carries() {
    let mut tally = Tally { count: 0, digest: [0xff; 32] };
    let mut one = [0; 32];
    one[31] = 1;
    tally.count = 1;
    assert_eq!(tally.plus(one), Tally { count: 2, digest: [0; 32] });
}

/// Stores may keep the fields of what people give as they like.
#[test]
fn the_order_of_fields_does_not_count_and_their_bounds_do() {
    let digest = |text: &str| contents::digest_of(&serde_json::from_str(text).unwrap());
    assert_eq!(digest(r#"{"a":1,"b":[{"c":2,"d":null}]}"#), digest(r#"{"b":[{"d":null,"c":2}],"a":1}"#));
    let different = [
        "null",
        "false",
        "true",
        "0",
        "1",
        "1.0",
        "\"1\"",
        "[]",
        "{}",
        "[[]]",
        "[1,2]",
        "[12]",
        "\"\"",
        "[\"ab\"]",
        "[\"a\",\"b\"]",
        r#"{"a":"b"}"#,
        r#"{"ab":""}"#,
        r#"{"a":{"b":1}}"#,
        r#"{"a":1,"b":1}"#,
        "[\"a\",[\"b\"]]",
        "[[\"a\"],\"b\"]",
        "-1",
        "\"null\"",
    ];
    let digests: std::collections::BTreeSet<_> = different.iter().map(|text| digest(text)).collect();
    assert_eq!(digests.len(), different.len());
}

#[test]
fn rows_say_all_of_an_item() {
    for item in [limit(3), due(4), event(5), commit(6)] {
        let back = match ItemRow::of(&item).unwrap() {
            ItemRow::Record(put, version) => {
                let row = super::super::rows::RecordRow { key: put.key, version, format: 1, data: put.data };
                Item::Record(super::super::rows::decode(&row).unwrap())
            }
            ItemRow::Due(task, 10, row) => due_of_row(&task, &row).unwrap(),
            ItemRow::Event(seq, at, row) => {
                Item::Event(super::super::rows::decode_event(seq, at, 1, &row.data).unwrap())
            }
            ItemRow::Commit(id, at) => commit_of_row(&id, at).unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(back, item);
    }
    let Item::Due(DueItem { row, .. }) = due(1) else { panic!("a due row") };
    let as_record = Item::Record(Versioned { version: 1, record: Record::Due(row) });
    assert_eq!(ItemRow::of(&as_record).unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(ItemRow::of(&limit(u64::MAX)).unwrap_err().kind(), ErrorKind::InvalidInput);
}
