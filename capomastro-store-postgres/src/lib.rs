//! The state store of Capomastro for many schedulers, on PostgreSQL.
//!
//! ```no_run
//! use capomastro_core::store::StateStore;
//! use capomastro_store_postgres::PostgresStore;
//!
//! # async fn example() -> Result<(), capomastro_core::Error> {
//! let store = PostgresStore::builder("postgres://builds@db.example.org/builds").open().await?;
//! println!("{}", store.check().await?.description);
//! store.close();
//! # Ok(()) }
//! ```
//!
//! # How it works
//!
//! A commit, a claim, a return of claims is one statement: one round trip, its own transaction, with nothing kept in the
//! session. So it works behind a pooler in transaction mode, and a scheduler that dies leaves nothing behind but its claims,
//! which end by the database's clock. The rules of a commit are a function in the database: rows are locked in the order of
//! their keys, then everything is checked, then written.
//!
//! Each call runs as a task of its own on the Tokio runtime in which the store was opened. A dropped future of a call does not
//! cut it in half, and any executor may poll it.
//!
//! A commit whose answer was lost is repeated with its id, which is harmless; only if the database stays away does it end
//! as [`OutcomeUnknown`](capomastro_core::ErrorKind::OutcomeUnknown).
//!
//! # Many schedulers
//!
//! Any number of processes on any machines may use one database. What keeps them apart is in it: versions, claims with
//! tickets, and its clock; theirs may differ. [`PostgresStore`] also sends and hears [hints](capomastro_core::store::Hints),
//! so that work which one process makes due is taken by another at once; without them it looks each second.
//!
//! # Tables of one's own
//!
//! An embedder writes to its own tables and to the store in one transaction with [`PostgresStore::commit_in`]. The store
//! keeps its tables in a schema of its own, `capomastro` unless another one is chosen.

mod apply;
mod builder;
mod calls;
mod claims;
mod connect;
mod error;
mod fill;
mod floors;
mod hints;
mod migrate;
mod read;
mod store;
mod text;
mod tls;
mod transfer;

pub use builder::PostgresStoreBuilder;
/// The pool that [`PostgresStore::with_pool`] takes.
pub use deadpool_postgres;
pub use store::PostgresStore;
/// The client whose `Transaction` [`PostgresStore::commit_in`] takes.
pub use tokio_postgres;
pub use transfer::PostgresTransfer;

/// What the README shows is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;
