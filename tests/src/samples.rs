//! Records and batches for the tests of stores.

use capomastro_core::{
    Error, Result,
    model::{BuildId, CommitId, HolderId, LauncherName, Project, ProjectId, ProjectName},
    store::{
        Batch, DueChange, Key, Lane, LimitScope, LimitState, LimitWaiter, Put, Record, StateStore, Task,
        Version,
    },
    time::{Clock, SystemClock, SystemRandom},
};
use std::time::Duration;

/// Whoever claims and commits.
pub fn holder(name: &str) -> HolderId {
    name.parse().expect("a holder")
}

/// An empty batch with an id of its own.
pub fn batch() -> Batch {
    Batch::new(CommitId::draw(SystemClock.now(), &SystemRandom), holder("test"))
}

/// The key of [`limit`].
pub fn limit_key(name: &str) -> Key {
    Key::Limit(LimitScope::Launcher(launcher(name)))
}

/// The name of a launcher.
pub fn launcher(name: &str) -> LauncherName {
    name.parse().expect("a name")
}

/// A record with a number in it.
pub fn limit(name: &str, number: u64) -> Record {
    let mut state = LimitState::new(LimitScope::Launcher(launcher(name)));
    state.next_place = number;
    Record::Limit(state)
}

/// A record of about this many bytes.
pub fn large(name: &str, bytes: usize) -> Record {
    let mut state = LimitState::new(LimitScope::Launcher(launcher(name)));
    let waiter = LimitWaiter {
        build: BuildId::draw(SystemClock.now(), &SystemRandom),
        manual: true,
        place: 1,
        asked_at: SystemClock.now(),
    };
    state.waiting = vec![waiter; bytes / 70 + 1];
    Record::Limit(state)
}

/// A record with a unique name and a place in a list.
pub fn project(name: &str) -> Record {
    let now = SystemClock.now();
    let name: ProjectName = name.parse().expect("a name");
    Record::Project(Project::new(ProjectId::draw(now, &SystemRandom), name, now))
}

/// A batch that writes one record.
pub fn put(record: Record, expect: Option<Version>) -> Batch {
    let mut batch = batch();
    batch.puts.push(Put { record, expect });
    batch
}

/// A batch that makes a task due after so long.
pub fn due(task: Task, lane: Lane, after: Duration) -> Batch {
    let mut batch = batch();
    batch.due.push(DueChange::Set { task, lane, after, note: None });
    batch
}

/// The number in a record of [`limit`], and its version.
///
/// # Errors
/// What the store says.
///
/// # Panics
/// If it is another kind of record.
pub async fn number(store: &dyn StateStore, name: &str) -> Result<Option<(u64, Version)>> {
    let found = store.get(&[limit_key(name)]).await?.records.remove(0);
    Ok(found.map(|v| match v.record {
        Record::Limit(l) => (l.next_place, v.version),
        other => panic!("not a limit: {other:?}"),
    }))
}

/// Every message of an error says what to do.
///
/// # Panics
/// If it does not.
pub fn says_what_to_do(e: &Error) {
    assert!(e.message().contains(": "), "{e}");
    let verbs = [
        "give",
        "restore",
        "upgrade",
        "free",
        "put it back",
        "restart",
        "try",
        "read again",
        "close",
        "set ",
        "look in",
        "look for",
        "repeat",
        "check",
        "connect to",
        "correct",
        "create it",
        "grant",
        "name ",
        "open",
        "raise",
        "roll ",
        "turn",
        "write ",
    ];
    assert!(verbs.iter().any(|v| e.message().contains(v)), "{e}");
}
