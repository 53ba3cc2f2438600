//! Requests and bytes, counted.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// What went over the wire since the server started, or since `Jenkins::forget_traffic`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections accepted.
    pub connections: u64,
    /// Requests of which at least the head arrived.
    pub requests: u64,
    /// Bytes received, heads included.
    pub bytes_received: u64,
    /// Bytes sent, heads included.
    pub bytes_sent: u64,
}

/// A request that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Its method.
    pub method: String,
    /// Its path, as it was sent, without the query.
    pub path: String,
    /// The status of the answer.
    pub status: u16,
}

/// Answered requests beyond this are only counted.
const MOST_SERVED: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct Counters {
    connections: AtomicU64,
    requests: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    served: Mutex<Vec<Served>>,
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl Counters {
    pub(super) fn connection(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub(super) fn request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received.fetch_add(wide(bytes), Relaxed);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(wide(bytes), Relaxed);
    }

    pub(super) fn answered(&self, method: &str, path: &str, status: u16) {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if served.len() < MOST_SERVED {
            served.push(Served { method: method.to_owned(), path: path.to_owned(), status });
        }
    }

    pub(super) fn look(&self) -> Traffic {
        Traffic {
            connections: self.connections.load(Relaxed),
            requests: self.requests.load(Relaxed),
            bytes_received: self.received.load(Relaxed),
            bytes_sent: self.sent.load(Relaxed),
        }
    }

    pub(super) fn served(&self) -> Vec<Served> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn forget(&self) {
        for counter in [&self.connections, &self.requests, &self.received, &self.sent] {
            counter.store(0, Relaxed);
        }
        self.served.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
