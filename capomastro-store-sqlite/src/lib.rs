//! The embedded state store of Capomastro, on one SQLite file.
//!
//! ```
//! use capomastro_core::store::StateStore;
//! use capomastro_store_sqlite::SqliteStore;
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("capomastro.db");
//! let store = SqliteStore::builder(path).open()?;
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! assert!(store.check().await?.description.contains("capomastro.db"));
//! store.close().await;
//! # Ok::<(), capomastro_core::Error>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it works
//!
//! One thread writes, on the only connection that does. It gathers what came while the disk was busy, at most 256
//! operations, into one transaction, and answers after its COMMIT, when the disk has it (`synchronous = FULL`). A few
//! threads read, each on a connection of its own, and see every commit that was answered before. No runtime is needed: the
//! futures can be polled by anything.
//!
//! Claims and what is put back wait for no disk of their own. A power cut may take back the last of them, but never one
//! after which a commit was answered.
//!
//! # Several processes on one file
//!
//! Any number of processes of one machine may open the same file; each may write. What keeps them apart is in the file
//! itself: versions, claims and tickets. Their clocks are one, since the machine is one. Network file systems are refused.
//!
//! # Moving
//!
//! A whole installation can be moved into another store, and into this one:
//! [`open_source`](SqliteStoreBuilder::open_source), [`open_target`](SqliteStoreBuilder::open_target) and
//! [`transfer`](capomastro_core::store::transfer::transfer).
//!
//! # Tables of one's own
//!
//! An embedder may keep tables in the same file, and write to both in one transaction: see [`SqliteStore::commit_in`].
//! `application_id`, `user_version` and all names that start with `capomastro_` belong to Capomastro.

mod apply;
mod builder;
mod claims;
mod connect;
mod copy;
mod error;
mod fill;
mod log;
mod migrate;
mod moves;
mod read;
mod store;
mod transfer;
mod writer;

pub use builder::SqliteStoreBuilder;
/// The SQLite binding whose `Transaction` [`SqliteStore::commit_in`] takes.
pub use rusqlite;
pub use store::SqliteStore;
pub use transfer::SqliteTransfer;

/// What the README shows is compiled, and run where it can be.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;
