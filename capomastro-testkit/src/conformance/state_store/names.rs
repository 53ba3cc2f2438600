//! Unique names.

use super::{
    StoreHarness,
    desk::{Desk, create},
    samples,
};
use capomastro_core::{
    ErrorKind,
    model::{Dependency, Phase},
    store::{Key, Put, Query, Record, UniqueKey},
};

async fn owner(desk: &Desk, name: UniqueKey) -> Option<Key> {
    let found = desk.pages(&Query::Unique(name), 10).await;
    assert!(found.len() <= 1, "a unique name has one owner: {found:?}");
    found.first().map(|stored| stored.record.key())
}

fn name_of(dependency: &Dependency) -> UniqueKey {
    UniqueKey::dependency(&dependency.name)
}

fn renamed(dependency: &Dependency, name: &str) -> Dependency {
    let mut dependency = dependency.clone();
    dependency.name = name.parse().expect("a name");
    dependency
}

async fn overwrite(desk: &Desk, records: impl IntoIterator<Item = Record>) -> capomastro_core::store::Batch {
    let mut batch = desk.batch();
    for record in records {
        batch.puts.push(Put { expect: desk.version(&record.key()).await, record });
    }
    batch
}

pub(super) async fn a_unique_name_belongs_to_one_record(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let id = desk.dependency_id();
    let owners = [
        Record::Dependency(samples::dependency(id, "same")),
        // A project may be called like a dependency.
        Record::Project(samples::project(desk.project_id(), "same")),
        Record::Build(samples::build(desk.build_id(), id, 1)),
    ];
    desk.create(owners.clone()).await;
    let rivals = [
        Record::Dependency(samples::dependency(desk.dependency_id(), "same")),
        Record::Project(samples::project(desk.project_id(), "same")),
        Record::Build(samples::build(desk.build_id(), id, 2)),
    ];
    for (rival, owned_by) in rivals.iter().zip(&owners) {
        let mut batch = desk.batch();
        batch.puts = vec![create(rival.clone())];
        desk.refuse(&batch, ErrorKind::AlreadyExists).await;
        assert_eq!(desk.get(&rival.key()).await, None);
        let name = owned_by.unique().expect("a sample with a name");
        assert_eq!(owner(&desk, name).await, Some(owned_by.key()));
    }
    // Two of one batch.
    let mut both = desk.batch();
    both.puts = ["new", "new"]
        .map(|name| create(Record::Dependency(samples::dependency(desk.dependency_id(), name))))
        .into();
    desk.refuse(&both, ErrorKind::AlreadyExists).await;
    // By renaming.
    let late = samples::dependency(desk.dependency_id(), "late");
    desk.create([Record::Dependency(late.clone())]).await;
    let rename = overwrite(&desk, [Record::Dependency(renamed(&late, "same"))]).await;
    desk.refuse(&rename, ErrorKind::AlreadyExists).await;
    // An owner that is written again keeps its name.
    for record in owners {
        desk.write(record).await;
    }
}

pub(super) async fn a_name_that_was_freed_may_be_taken(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let taken_anew = async |what: &str| {
        let dependency = samples::dependency(desk.dependency_id(), "name");
        desk.create([Record::Dependency(dependency.clone())]).await;
        assert_eq!(owner(&desk, name_of(&dependency)).await, Some(Key::Dependency(dependency.id)), "{what}");
        dependency
    };
    let first = taken_anew("never taken before").await;
    desk.write(Record::Dependency(renamed(&first, "renamed"))).await;
    assert_eq!(owner(&desk, name_of(&first)).await, None);

    let mut second = taken_anew("freed by a new name").await;
    second.deleted_at = Some(desk.now());
    desk.write(Record::Dependency(second.clone())).await;

    let third = taken_anew("freed by a record that says it is deleted").await;
    desk.delete(Key::Dependency(third.id)).await;
    taken_anew("freed by a delete").await;

    // What is deleted does not come back under a name that is taken.
    second.deleted_at = None;
    let revived = overwrite(&desk, [Record::Dependency(second)]).await;
    desk.refuse(&revived, ErrorKind::AlreadyExists).await;
}

pub(super) async fn a_batch_may_hand_a_name_over(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let dependency = desk.dependency_id();
    let mut running = samples::build(desk.build_id(), dependency, 1);
    desk.create([Record::Build(running.clone())]).await;
    for number in 2..6 {
        let next = samples::build(desk.build_id(), dependency, number);
        let ended = Record::Build(samples::ended(running, Phase::Failed, desk.now()));
        let mut records = vec![ended, Record::Build(next.clone())];
        if number % 2 == 0 {
            // The order in which a batch names its records means nothing.
            records.reverse();
        }
        let batch = overwrite(&desk, records).await;
        desk.commit(&batch).await;
        assert_eq!(owner(&desk, UniqueKey::open_build(dependency)).await, Some(Key::Build(next.id)));
        running = next;
    }
    // A delete frees a name within the batch too.
    let next = samples::build(desk.build_id(), dependency, 6);
    let mut batch = overwrite(&desk, [Record::Build(next.clone())]).await;
    let key = Key::Build(running.id);
    batch.deletes = vec![(key.clone(), desk.version(&key).await.expect("the build is there"))];
    desk.commit(&batch).await;
    assert_eq!(owner(&desk, UniqueKey::open_build(dependency)).await, Some(Key::Build(next.id)));
}

pub(super) async fn two_records_may_swap_their_names(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let a = samples::dependency(desk.dependency_id(), "a");
    let b = samples::dependency(desk.dependency_id(), "b");
    desk.create([Record::Dependency(a.clone()), Record::Dependency(b.clone())]).await;
    let swap = overwrite(&desk, [renamed(&a, "b"), renamed(&b, "a")].map(Record::Dependency)).await;
    desk.commit(&swap).await;
    assert_eq!(owner(&desk, name_of(&a)).await, Some(Key::Dependency(b.id)));
    assert_eq!(owner(&desk, name_of(&b)).await, Some(Key::Dependency(a.id)));
    let list = desk.list(capomastro_core::store::ListKey::dependencies()).await;
    assert_eq!(list, [Key::Dependency(b.id), Key::Dependency(a.id)]);
}

pub(super) async fn names_are_compared_byte_for_byte(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let names =
        ["a", "A", "ä", "a\u{308}", "Ä", "ß", "ss", "a b", "a  b", "a/b", "a\\b", "a%", "a_", "a'", "🦀"];
    let dependencies = names.map(|name| samples::dependency(desk.dependency_id(), name));
    desk.create(dependencies.iter().cloned().map(Record::Dependency)).await;
    for dependency in &dependencies {
        assert_eq!(
            owner(&desk, name_of(dependency)).await,
            Some(Key::Dependency(dependency.id)),
            "{:?}",
            dependency.name
        );
    }
}
