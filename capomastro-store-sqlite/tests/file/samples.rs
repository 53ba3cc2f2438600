//! A store, and a way to wait for a future without a runtime.

use capomastro_store_sqlite::SqliteStore;
pub(crate) use capomastro_tests::samples::{
    batch, holder, large, limit, limit_key, number, project, put, says_what_to_do,
};
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
