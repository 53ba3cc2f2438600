//! What one remote host and one probe may be asked for, in this process.

use crate::{
    budget::{Bucket, Budget, Grant},
    model::{ProbeKey, ProbeName},
    time::Monotonic,
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// The most remotes whose use is remembered; unused ones are forgotten first.
const MOST_REMOTES: usize = 10_000;

#[derive(Debug)]
pub(super) struct Budgets {
    remote: Budget,
    kinds: BTreeMap<ProbeName, Budget>,
    buckets: Mutex<BTreeMap<String, Bucket>>,
}

/// What was taken for one look; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    budgets: &'a Budgets,
    names: Vec<String>,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut buckets = self.budgets.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        for name in &self.names {
            if let Some(bucket) = buckets.get_mut(name) {
                bucket.give_back();
            }
        }
    }
}

/// Why a look has to wait, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) of: String,
    pub(super) wait: Duration,
}

impl Budgets {
    pub(super) const fn new(remote: Budget, kinds: BTreeMap<ProbeName, Budget>) -> Self {
        Self { remote, kinds, buckets: Mutex::new(BTreeMap::new()) }
    }

    /// Takes what one look needs, all of it or nothing.
    pub(super) fn take(&self, probe: &ProbeName, key: &ProbeKey, now: Monotonic) -> Result<Permit<'_>, Wait> {
        let mut permit = Permit { budgets: self, names: Vec::new() };
        let kind = self.kinds.get(probe).map(|b| (format!("probe {probe}"), *b));
        let remote = key.remote().map(|r| (format!("remote {r}"), self.remote));
        for (name, budget) in kind.into_iter().chain(remote) {
            let grant = {
                let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
                if buckets.len() >= MOST_REMOTES {
                    buckets.retain(|_, b| !b.is_idle(now));
                }
                buckets.entry(name.clone()).or_insert_with(|| Bucket::new(budget, now)).take(now)
            };
            match grant {
                Grant::Granted => permit.names.push(name),
                Grant::Wait(wait) => return Err(Wait { of: name, wait }),
            }
        }
        Ok(permit)
    }
}
