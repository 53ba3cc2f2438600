//! Records and batches for the tests, and a way to wait for a future without a runtime.

use capomastro_core::{
    Error,
    model::{BuildId, CommitId, HolderId, LauncherName, Project, ProjectId, ProjectName},
    store::{Batch, Key, LimitScope, LimitState, LimitWaiter, Put, Record, StateStore, Version},
    time::{Clock, SystemClock, SystemRandom},
};
use capomastro_store_sqlite::SqliteStore;
use std::{
    path::Path,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls on this thread: no runtime is there.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

pub(crate) fn open(path: &Path) -> SqliteStore {
    SqliteStore::builder(path).open().expect("a store")
}

pub(crate) fn holder(name: &str) -> HolderId {
    name.parse().expect("a holder")
}

pub(crate) fn batch() -> Batch {
    Batch::new(CommitId::draw(SystemClock.now(), &SystemRandom), holder("test"))
}

pub(crate) fn limit_key(name: &str) -> Key {
    Key::Limit(LimitScope::Launcher(launcher(name)))
}

pub(crate) fn launcher(name: &str) -> LauncherName {
    name.parse().expect("a name")
}

/// A record with a number in it.
pub(crate) fn limit(name: &str, number: u64) -> Record {
    let mut state = LimitState::new(LimitScope::Launcher(launcher(name)));
    state.next_place = number;
    Record::Limit(state)
}

/// A record of about this many bytes.
pub(crate) fn large(name: &str, bytes: usize) -> Record {
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

pub(crate) fn project(name: &str) -> Record {
    let now = SystemClock.now();
    let name: ProjectName = name.parse().expect("a name");
    Record::Project(Project::new(ProjectId::draw(now, &SystemRandom), name, now))
}

pub(crate) fn put(record: Record, expect: Option<Version>) -> Batch {
    let mut batch = batch();
    batch.puts.push(Put { record, expect });
    batch
}

/// The number in a record of [`limit`], and its version.
pub(crate) async fn number(store: &dyn StateStore, name: &str) -> Result<Option<(u64, Version)>, Error> {
    let found = store.get(&[limit_key(name)]).await?.records.remove(0);
    Ok(found.map(|v| match v.record {
        Record::Limit(l) => (l.next_place, v.version),
        other => panic!("not a limit: {other:?}"),
    }))
}

/// Every message of an error says what to do.
pub(crate) fn says_what_to_do(e: &Error) {
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
        "repeat",
    ];
    assert!(verbs.iter().any(|v| e.message().contains(v)), "{e}");
}
