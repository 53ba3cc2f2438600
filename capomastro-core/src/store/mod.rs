//! The only durable truth: typed records with versions, due rows and events. A store knows no rules.

mod batch;
mod draft;
pub mod due;
mod record;
pub mod refusals;
pub mod rows;
pub mod transfer;

pub use batch::*;
pub use draft::Draft;
pub use record::*;

use crate::{
    Result,
    events::StoredEvent,
    model::{EventSeq, HolderId},
    time::Timestamp,
};
use async_trait::async_trait;
use std::{fmt, sync::Arc};

/// The most records or events that one page may have.
pub const MAX_PAGE: usize = 1_000;

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreInfo {
    /// Its own time.
    pub now: Timestamp,
    /// For people: what it is and, without secrets, where.
    pub description: String,
}

/// A record and its version, which grows with each write of that record and never repeats, not even after a delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The version.
    pub version: Version,
    /// The record.
    pub record: Record,
}

/// Records as they stood at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The store's time.
    pub at: Timestamp,
    /// For each key that was asked for, in that order: the record, or `None`.
    pub records: Vec<Option<Versioned>>,
}

/// What to list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Query {
    /// The records of a list, in the order of their sort texts.
    List {
        /// Which list.
        list: ListKey,
        /// The last first.
        backwards: bool,
    },
    /// The record that has a unique name; at most one.
    Unique(UniqueKey),
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The store's time.
    pub at: Timestamp,
    /// The records.
    pub items: Vec<Versioned>,
    /// Where the next part begins: give it as `after`. `None` at the end.
    pub next: Option<String>,
}

/// A part of the event stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPage {
    /// The events, in order.
    pub items: Vec<StoredEvent>,
    /// The place up to which the stream has been read: give it as `after` next time. Never before `after`. No event
    /// becomes visible at or before it later.
    pub upto: EventSeq,
}

/// Keeps everything that Capomastro knows.
///
/// A store of one's own implements these seven methods; what a record's unique names and lists are is said by
/// [`Record::unique`] and [`Record::lists`], so that no store has rules of its own.
#[async_trait]
pub trait StateStore: fmt::Debug + Send + Sync + 'static {
    /// Is the store reachable, writable and of a known format?
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable), [`ReadOnly`](crate::ErrorKind::ReadOnly),
    /// [`NewerFormat`](crate::ErrorKind::NewerFormat) or [`Corrupt`](crate::ErrorKind::Corrupt).
    async fn check(&self) -> Result<StoreInfo>;

    /// The records of these keys, as they stood at one moment.
    ///
    /// *Guarantees*: one consistent snapshot; sees every commit that was answered before the call.
    /// *Cancellation*: leaves nothing behind.
    ///
    /// # Errors
    /// [`NewerFormat`](crate::ErrorKind::NewerFormat) if one was written by a newer version,
    /// [`Corrupt`](crate::ErrorKind::Corrupt) if one cannot be read, and what the storage says.
    async fn get(&self, keys: &[Key]) -> Result<Snapshot>;

    /// A part of a list: at most `limit` (1 to 1,000) records behind `after`.
    ///
    /// *Guarantees*: each page is one consistent snapshot; a record that stays in the list during the paging is returned
    /// exactly once unless its place in the list changes.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the limit is out of range, else as [`get`](StateStore::get).
    async fn list(&self, query: &Query, after: Option<&str>, limit: usize) -> Result<Page>;

    /// At most `limit` (1 to 1,000) events behind `after`, optionally of one dependency or project only.
    ///
    /// *Guarantees*: no event becomes visible behind a place that was returned.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the limit is out of range, else as [`get`](StateStore::get).
    async fn events(&self, filter: EventFilter, after: EventSeq, limit: usize) -> Result<EventPage>;

    /// Writes a batch: all of it or nothing.
    ///
    /// *Guarantees*: every expected version, guard and claim holds at the moment of the write. Once answered it survives a
    /// crash. *Idempotency*: a batch whose id was committed before changes nothing and is answered with
    /// [`Committed::repeated`]. *Cancellation*: a dropped future has written all or nothing.
    ///
    /// # Errors
    /// In the order in which they are checked, after the id of the batch:
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if a record is written twice, a task changed twice, or a due row
    /// put, deleted or guarded,
    /// [`ClaimLost`](crate::ErrorKind::ClaimLost) if a claim is not held any more, since another one has taken the task,
    /// it was given back, or its row is gone; or if a task is to be held whose lease another one has,
    /// [`Conflict`](crate::ErrorKind::Conflict) if a version or guard does not hold,
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if another record has a unique name after the whole batch.
    /// Besides these,
    /// [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) if it is not known whether it was written: repeat the same
    /// batch. [`StorageFull`](crate::ErrorKind::StorageFull), [`ReadOnly`](crate::ErrorKind::ReadOnly) and others mean
    /// that nothing was written.
    async fn commit(&self, batch: &Batch) -> Result<Committed>;

    /// Takes due work, in due order, skipping what others hold.
    ///
    /// *Guarantees*: a task is held by at most one holder until its lease ends; each claim of a task has a higher ticket.
    /// The cost grows with what is due, never with what is registered. Rows written by a newer version are left alone.
    /// *Cancellation*: a dropped future may have claimed; the leases end by themselves.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if a lane is named twice, and what the storage says.
    async fn claim_due(&self, ask: &ClaimAsk) -> Result<Claimed>;

    /// Gives claims back, with lossy bookkeeping: a crash may lose it, and then the tasks are due again when their leases
    /// end. A claim that is not held any more is passed over. A nudge that came during the claim makes the task due no later
    /// than it said.
    ///
    /// # Errors
    /// What the storage says; nothing needs to be done about it.
    async fn put_back(&self, holder: &HolderId, items: &[PutBack]) -> Result<()>;
}

/// Says that due work may have come from elsewhere, so that a scheduler looks at once instead of at its next turn.
///
/// A hint is never needed: whoever misses one looks a little later.
#[async_trait]
pub trait Hints: fmt::Debug + Send + Sync + 'static {
    /// How many hints there were, as soon as it is another number than `seen`; 0 is the number at the start. May wait for
    /// ever.
    ///
    /// *Cancellation*: leaves nothing behind, and misses nothing.
    async fn after(&self, seen: u64) -> u64;
}

/// A store that is shared is a store.
#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: StateStore + ?Sized> StateStore for Arc<S> {
    async fn check(&self) -> Result<StoreInfo> {
        (**self).check().await
    }

    async fn get(&self, keys: &[Key]) -> Result<Snapshot> {
        (**self).get(keys).await
    }

    async fn list(&self, query: &Query, after: Option<&str>, limit: usize) -> Result<Page> {
        (**self).list(query, after, limit).await
    }

    async fn events(&self, filter: EventFilter, after: EventSeq, limit: usize) -> Result<EventPage> {
        (**self).events(filter, after, limit).await
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed> {
        (**self).commit(batch).await
    }

    async fn claim_due(&self, ask: &ClaimAsk) -> Result<Claimed> {
        (**self).claim_due(ask).await
    }

    async fn put_back(&self, holder: &HolderId, items: &[PutBack]) -> Result<()> {
        (**self).put_back(holder, items).await
    }
}
