//! A call whose commit is kept back, so that it can join a transaction of the embedder's own.

use super::{Inner, Scheduler, commit::Turns};
use crate::{
    Error, Result,
    error::ErrorKind,
    model::{EventSeq, HolderId},
    store::{
        Batch, ClaimAsk, Claimed, Committed, EventFilter, EventPage, Key, Page, PutBack, Query, Snapshot,
        StateStore, StoreInfo,
    },
};
use async_trait::async_trait;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

impl Scheduler {
    /// A handle whose one commit is kept back instead of written: for a trigger or a change of configuration that is to be
    /// stored together with what the embedder writes itself, by the `commit_in` of its store.
    ///
    /// ```
    /// # use capomastro_core::{InMemoryStore, Scheduler, store::StateStore, time::SystemClock};
    /// # use std::sync::Arc;
    /// # async fn example() -> capomastro_core::Result<()> {
    /// # let store = Arc::new(InMemoryStore::new(Arc::new(SystemClock)));
    /// # let scheduler = Scheduler::builder(Arc::clone(&store)).build()?;
    /// let staged = scheduler.stage();
    /// staged.handle().ensure_project("website").await?;
    /// let batch = staged.into_batch()?.expect("the project is new");
    /// store.commit(&batch).await?; // or, with a store that has it: store.commit_in(&transaction, &batch)
    /// # Ok(()) }
    /// # futures_util::FutureExt::now_or_never(example()).unwrap().unwrap();
    /// ```
    ///
    /// The batch says what it has read. If that changes before it is written, `commit_in` fails with
    /// [`Conflict`](ErrorKind::Conflict): stage the call anew. A running scheduler finds the work at its next look.
    #[must_use]
    pub fn stage(&self) -> Staged {
        let inner = &self.inner;
        let kept = Arc::new(Kept { base: Arc::clone(&inner.store), batch: Mutex::default() });
        let scheduler = Self {
            inner: Arc::new(Inner {
                store: Arc::<Kept>::clone(&kept),
                probes: inner.probes.clone(),
                launchers: inner.launchers.clone(),
                outputs: inner.outputs.clone(),
                sending: Arc::clone(&inner.sending),
                lock: Arc::clone(&inner.lock),
                secrets: inner.secrets.clone(),
                clock: Arc::clone(&inner.clock),
                random: Arc::clone(&inner.random),
                holder: inner.holder.clone(),
                budgets: Arc::clone(&inner.budgets),
                turns: Turns::default(),
                config: inner.config.clone(),
                wake: Notify::new(),
                hints: None,
                returns: Mutex::default(),
                swept: Mutex::default(),
                housed: std::sync::atomic::AtomicBool::new(false),
                shown: Mutex::default(),
            }),
        };
        Staged { scheduler, kept }
    }
}

/// A call whose commit is kept back; made by [`Scheduler::stage`].
#[derive(Debug)]
pub struct Staged {
    scheduler: Scheduler,
    kept: Arc<Kept>,
}

impl Staged {
    /// What the one call is made of. It reads what is stored. A second one that would write fails with
    /// [`Unsupported`](ErrorKind::Unsupported), and so does a scheduler's own work.
    pub const fn handle(&self) -> &Scheduler {
        &self.scheduler
    }

    /// What the call would have written; `None` if there was nothing to write.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) if more than one commit was to be written: what was kept is only a part.
    pub fn into_batch(self) -> Result<Option<Batch>> {
        match std::mem::take(&mut *self.kept.lock()) {
            Stage::Empty => Ok(None),
            Stage::One(batch) => Ok(Some(*batch)),
            Stage::More => Err(more()),
        }
    }
}

fn more() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "only one commit can be staged: make one call on a staged handle, and stage the next one by itself",
    )
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Empty,
    One(Box<Batch>),
    More,
}

/// The store of a staged handle.
#[derive(Debug)]
struct Kept {
    base: Arc<dyn StateStore>,
    batch: Mutex<Stage>,
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl StateStore for Kept {
    async fn check(&self) -> Result<StoreInfo> {
        self.base.check().await
    }

    async fn get(&self, keys: &[Key]) -> Result<Snapshot> {
        self.base.get(keys).await
    }

    async fn list(&self, query: &Query, after: Option<&str>, limit: usize) -> Result<Page> {
        self.base.list(query, after, limit).await
    }

    async fn events(&self, filter: EventFilter, after: EventSeq, limit: usize) -> Result<EventPage> {
        self.base.events(filter, after, limit).await
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed> {
        batch.check_form()?;
        let at = self.base.get(&[]).await?.at;
        let mut stage = self.lock();
        *stage = match *stage {
            Stage::Empty => Stage::One(Box::new(batch.clone())),
            Stage::One(_) | Stage::More => Stage::More,
        };
        match *stage {
            Stage::One(_) => Ok(Committed { at, repeated: false, claims: Vec::new(), forgotten: 0 }),
            _ => Err(more()),
        }
    }

    async fn claim_due(&self, _: &ClaimAsk) -> Result<Claimed> {
        Err(Error::new(
            ErrorKind::Unsupported,
            "a staged handle does no work of its own: run the scheduler that it was made of",
        ))
    }

    async fn put_back(&self, _: &HolderId, _: &[PutBack]) -> Result<()> {
        Ok(())
    }
}
