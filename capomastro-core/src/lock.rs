//! At most one build of a dependency.

use crate::{
    Error, ErrorKind, Result,
    model::{BuildId, DependencyId, DependencyName, Held},
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{fmt, time::Duration};

/// Who asks for a lock, and what the store says of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LockAsk {
    /// The dependency.
    pub dependency: DependencyId,
    /// Its name, for people.
    pub name: DependencyName,
    /// The build that would own it; drawn once per evaluation, so that a repeated ask is the same ask.
    pub owner: BuildId,
    /// What the store says: who holds it.
    pub stored: Option<Held>,
    /// The highest fence the store has seen; what is granted must be higher.
    pub highest_fence: u64,
}

impl LockAsk {
    /// An ask.
    pub const fn new(
        dependency: DependencyId,
        name: DependencyName,
        owner: BuildId,
        stored: Option<Held>,
        highest_fence: u64,
    ) -> Self {
        Self { dependency, name, owner, stored, highest_fence }
    }
}

/// That a build holds a dependency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The dependency.
    pub dependency: DependencyId,
    /// The build that owns it.
    pub owner: BuildId,
    /// Higher than any given out before.
    pub fence: u64,
    /// How long it holds without renewal; `None` for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<Duration>,
    /// The lock's own facts, such as a revision number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// The answer to an ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// The asker holds it.
    Granted(Lease),
    /// Another one does.
    Held {
        /// Who, for people.
        by: String,
    },
}

/// At most one build of a dependency. The store's dependency record is always the referee.
#[async_trait]
pub trait DependencyLock: fmt::Debug + Send + Sync + 'static {
    /// Asks for the lock. Called only when a build is about to be recorded.
    ///
    /// *Guarantees*: of two owners at most one is granted at a time; a granted fence is higher than
    /// [`LockAsk::highest_fence`] and than any granted before. *Idempotency*: the same owner gets the same lease again
    /// while it holds. *Cancellation*: a dropped future may hold the lock until it expires.
    ///
    /// # Errors
    /// When the lock cannot be asked.
    async fn acquire(&self, ask: &LockAsk) -> Result<Acquired>;

    /// Makes leases last longer; answers in order.
    ///
    /// # Errors
    /// [`LeaseLost`](ErrorKind::LeaseLost) per lease that is not held any more; the build goes on, since the store's
    /// record is the referee.
    async fn renew(&self, leases: &[Lease]) -> Vec<Result<Lease>>;

    /// Gives a lease back. *Idempotency*: giving back one that is not held any more is `Ok` and changes nothing.
    ///
    /// # Errors
    /// When the lock cannot be asked; it is asked again.
    async fn release(&self, lease: &Lease) -> Result<()>;

    /// Takes the lock from whoever holds it, because a person said so or its owner is known to have ended.
    ///
    /// # Errors
    /// When the lock cannot be asked.
    async fn take_over(&self, ask: &LockAsk, reason: &str) -> Result<Lease>;
}

/// The default lock: the store's own record. No I/O, no gap, no expiry; the owner is the build, not the process.
#[derive(Copy, Clone, Debug, Default)]
pub struct StoreLock;

impl StoreLock {
    fn grant(ask: &LockAsk) -> Lease {
        Lease {
            dependency: ask.dependency,
            owner: ask.owner,
            fence: ask.highest_fence + 1,
            expires_in: None,
            token: None,
        }
    }
}

#[async_trait]
impl DependencyLock for StoreLock {
    async fn acquire(&self, ask: &LockAsk) -> Result<Acquired> {
        Ok(match &ask.stored {
            Some(held) if held.owner == ask.owner => {
                Acquired::Granted(Lease { fence: held.fence, ..Self::grant(ask) })
            }
            Some(held) => Acquired::Held { by: held.owner.to_string() },
            None => Acquired::Granted(Self::grant(ask)),
        })
    }

    async fn renew(&self, leases: &[Lease]) -> Vec<Result<Lease>> {
        leases.iter().cloned().map(Ok).collect()
    }

    async fn release(&self, _lease: &Lease) -> Result<()> {
        Ok(())
    }

    async fn take_over(&self, ask: &LockAsk, _reason: &str) -> Result<Lease> {
        Ok(Self::grant(ask))
    }
}

/// The error of a lease that is not held any more.
pub fn lease_lost(lease: &Lease) -> Error {
    Error::new(ErrorKind::LeaseLost, "the lock's lease is not held any more")
        .with_context("owner", lease.owner)
}
