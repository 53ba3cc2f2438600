//! State that a test changes while code under test waits for it.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// A state and the news that it changed.
#[derive(Default)]
pub(crate) struct World<T> {
    state: Mutex<T>,
    changed: Notify,
}

impl<T> World<T> {
    pub(crate) fn new(state: T) -> Self {
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// A failed assertion in a test must not hide behind a poisoned lock.
    fn lock(&self) -> MutexGuard<'_, T> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.lock())
    }

    /// Changes the state and tells everyone who waits, in the order in which they began to.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let answer = change(&mut self.lock());
        self.changed.notify_waiters();
        answer
    }

    /// Waits until `take` gives something. Cancel-safe.
    pub(crate) async fn until<R>(&self, mut take: impl FnMut(&mut T) -> Option<R>) -> R {
        loop {
            // Made before the look, so that no change between the look and the wait is missed.
            let changed = self.changed.notified();
            if let Some(found) = take(&mut self.lock()) {
                return found;
            }
            changed.await;
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for World<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock().fmt(f)
    }
}
