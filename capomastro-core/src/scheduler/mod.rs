//! The only place that performs: claim, probe, commit, launch, track, seal. It decides nothing itself.
//!
//! [`Scheduler::tick`] does what is due once; it is one future that needs no runtime of its own, and dropping it is a
//! crash, from which another tick, here or elsewhere, goes on. [`Scheduler::run`] ticks until it is told to stop.
//! Everything else on [`Scheduler`] is the handle by which people and services define, ask and read.

mod apply;
mod around;
mod budgets;
mod builder;
mod commit;
mod drive;
mod finish;
mod handle;
mod house;
mod launching;
mod limits;
mod look;
mod projects;
mod run;
mod set_back;
mod stage;
mod sweep;
mod tick;

pub use builder::{Retention, SchedulerBuilder};
pub use handle::*;
pub use stage::Staged;
pub use tick::TickReport;

use crate::{
    launch::{BuildLauncher, BuildOutput},
    lock::DependencyLock,
    model::{HolderId, LauncherName, ProbeName},
    probe::RevisionProbe,
    secret::Secrets,
    store::{Hints, PutBack, StateStore},
    time::{Clock, Random, Timestamp},
};
use budgets::SharedBudgets;
use builder::Config;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::{Notify, Semaphore};

/// Looks at sources, decides, builds and links. A cheap handle: clones are the same scheduler.
#[derive(Clone, Debug)]
pub struct Scheduler {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<dyn StateStore>,
    probes: BTreeMap<ProbeName, Arc<dyn RevisionProbe>>,
    launchers: BTreeMap<LauncherName, Arc<dyn BuildLauncher>>,
    outputs: BTreeMap<LauncherName, Arc<dyn BuildOutput>>,
    /// Room for builds that are sent or found, one by one.
    sending: Arc<BTreeMap<LauncherName, Semaphore>>,
    lock: Arc<dyn DependencyLock>,
    secrets: Secrets,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    holder: HolderId,
    budgets: Arc<SharedBudgets>,
    turns: commit::Turns,
    config: Config,
    /// Somebody in this process made work due.
    wake: Notify,
    /// Somebody elsewhere may have made work due.
    hints: Option<Arc<dyn Hints>>,
    /// Claims to be given back with the next flush.
    returns: std::sync::Mutex<Vec<PutBack>>,
    /// Up to where the last sweep has read.
    swept: std::sync::Mutex<sweep::Swept>,
    /// Whether the house's own work was seen to be due.
    housed: std::sync::atomic::AtomicBool,
    /// What the store's clock showed last.
    shown: std::sync::Mutex<Option<Timestamp>>,
}

impl Scheduler {
    /// Puts a scheduler together over a store, or over one that is shared (`Arc<SqliteStore>`, `Arc<dyn StateStore>`).
    pub fn builder(store: impl StateStore) -> SchedulerBuilder {
        SchedulerBuilder::new(Arc::new(store))
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn StateStore> {
        &self.inner.store
    }

    /// By what name this process run holds claims.
    pub fn holder(&self) -> &HolderId {
        &self.inner.holder
    }
}
