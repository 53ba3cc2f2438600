//! Moving a whole installation from one store to another, offline: everything is copied, read back, compared, and only
//! then may the new store be used.
//!
//! ```no_run
//! # use capomastro_core::store::transfer::{Afterwards, TransferSource, TransferTarget, transfer};
//! # async fn example(old: &dyn TransferSource, new: &dyn TransferTarget) -> capomastro_core::Result<()> {
//! let report = transfer(old, new, Afterwards::RetireSource).await?;
//! println!("{report}");
//! # Ok(()) }
//! ```
//!
//! Stop every scheduler of both stores first. Versions, tickets, numbers of events, ids of commits, notes and claims are
//! kept, so that whatever runs on the new store goes on where it stopped on the old one; claims of processes that are gone
//! end with their leases.
//!
//! # When it is stopped in the middle
//!
//! At any point: call it again. What an unfinished move had written is thrown away and copied anew; until the end no
//! ordinary use of the new store is possible. A move that had ended just then is found to be done.
//!
//! # For implementors
//!
//! A store that can be moved from or to has handles of their own for that, which are no
//! [`StateStore`](super::StateStore): nobody can start a scheduler on one. [`TransferReader`] shows everything that is
//! kept, [`TransferSource`] can be closed for good, [`TransferTarget`] is filled. [`ItemRow`] and its like do the coding for
//! stores on tables. All futures may be dropped at any await; what a dropped call has done is found by the next.

mod carry;
mod contents;
mod item;
#[cfg(test)]
mod tests;

pub use carry::{Afterwards, TransferReport, transfer};
pub use contents::{Contents, Tally};
pub use item::{DueItem, Item, ItemKind, ItemRow, commit_of_row, due_of_row};

use crate::{Result, model::EventSeq};
use async_trait::async_trait;
use std::fmt::Debug;

/// Which store it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Place {
    /// Tells it from every other store; drawn once, when the store was made or first moved.
    pub id: String,
    /// For people: what it is and, without secrets, where.
    pub description: String,
}

impl Place {
    /// A store of this id.
    pub fn new(id: impl Into<String>, description: impl Into<String>) -> Self {
        Self { id: id.into(), description: description.into() }
    }
}

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Survey {
    /// Which store it is.
    pub place: Place,
    /// No version or ticket above this was given.
    pub last_number: u64,
    /// No event got a higher number.
    pub last_event: EventSeq,
    /// Where everything was moved from here, if it was.
    pub moved_to: Option<Place>,
}

impl Survey {
    /// What a store says that was not moved from.
    pub const fn new(place: Place, last_number: u64, last_event: EventSeq) -> Self {
        Self { place, last_number, last_event, moved_to: None }
    }
}

/// How much one part may be.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct PartLimit {
    /// At most this many items.
    pub items: usize,
    /// No further item once there are this many bytes of what is stored of them.
    pub bytes: usize,
}

/// The limit of each part of a move.
pub const PART: PartLimit = PartLimit { items: 500, bytes: 4 << 20 };

/// A part of all items of a kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// The items.
    pub items: Vec<Item>,
    /// Where the next part begins: give it as `after`. `None` at the end.
    pub next: Option<String>,
}

/// Shows everything that a store keeps.
#[async_trait]
pub trait TransferReader: Debug + Send + Sync {
    /// Which store it is, and how far it has counted. Draws its id if it has none.
    ///
    /// # Errors
    /// What the storage says.
    async fn survey(&self) -> Result<Survey>;

    /// A part of all items of a kind.
    ///
    /// *Guarantees*: as long as nobody writes, the parts together have each item once, in an order that does not change.
    ///
    /// # Errors
    /// [`NewerFormat`](crate::ErrorKind::NewerFormat) or [`Corrupt`](crate::ErrorKind::Corrupt), naming the key, for an item
    /// that this version of the library cannot read; nothing is left out. Besides, what the storage says.
    async fn read(&self, kind: ItemKind, after: Option<&str>, limit: PartLimit) -> Result<Part>;
}

/// A store from which everything can be moved.
#[async_trait]
pub trait TransferSource: TransferReader {
    /// Closes the store for good, as [`refusals::moved_away`](super::refusals::moved_away): it cannot be opened for use any
    /// more, and who has it open cannot write. Durable when answered. Repeating it for the same place changes nothing.
    ///
    /// # Errors
    /// The same refusal if everything was moved to another place, and what the storage says.
    async fn retire(&self, to: &Place) -> Result<()>;

    /// Takes [`retire`](Self::retire) back. Durable when answered; nothing happens where there is nothing to take back.
    ///
    /// # Errors
    /// What the storage says.
    async fn reinstate(&self) -> Result<()>;
}

/// What was found where a move is to go.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Nothing is there now.
    Empty,
    /// A move from the same store was finished here before; nothing was changed.
    Finished,
}

/// A store into which everything can be moved.
#[async_trait]
pub trait TransferTarget: TransferReader {
    /// Begins a move.
    ///
    /// In one durable step: if nothing is kept here, marks the store as one into which `from` is being moved and raises its
    /// counters, so that no version, ticket or event number that it gives is at or below those of `from`. If such a move was
    /// begun before and not finished, throws away what it had written, and goes on as if it were empty. From then on until
    /// [`finish`](Self::finish) the store cannot be opened for use, and who has it open can neither claim nor commit:
    /// [`refusals::move_unfinished`](super::refusals::move_unfinished). Two moves must not write at once: a later `begin`
    /// either fails while an earlier one is under way, or ends its rights.
    ///
    /// # Errors
    /// [`refusals::target_in_use`](super::refusals::target_in_use) if anything else is kept here, or another store is being
    /// or was moved here. Besides, what the storage says.
    async fn begin(&self, from: &Survey) -> Result<Begun>;

    /// Writes items of one kind, all with their own versions, tickets, numbers and times; records with their unique names
    /// and lists. All of them or none; an item that is there already is not changed. Need not be durable before `finish`.
    ///
    /// # Errors
    /// The refusal of [`begin`](Self::begin) unless a move is under way.
    /// [`Corrupt`](crate::ErrorKind::Corrupt) if two records have the same name or place in a list. Besides, what the
    /// storage says.
    async fn write(&self, items: &[Item]) -> Result<()>;

    /// Ends the move: one durable step, after which the store can be opened for use. Repeating it changes nothing.
    ///
    /// # Errors
    /// The refusal of [`begin`](Self::begin) if no move is or was under way; what the storage says.
    async fn finish(&self) -> Result<()>;
}
