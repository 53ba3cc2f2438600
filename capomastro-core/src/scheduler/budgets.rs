//! The budgets of this process, shared by all looks that are under way.

use crate::{
    budget::{Answer, Budget, BudgetReason, Budgets, Permit},
    model::{ProbeKey, ProbeName},
    time::Monotonic,
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How soon a look asks again while others use all that may be under way.
const ASK_AGAIN: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct SharedBudgets {
    kinds: BTreeMap<ProbeName, Budget>,
    budgets: Mutex<Budgets>,
}

/// What was taken for one look; given back when dropped.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    budgets: &'a SharedBudgets,
    permit: Option<Permit>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.budgets.lock().release(permit);
        }
    }
}

/// Why a look has to wait, in words, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) why: String,
    pub(super) wait: Duration,
}

fn kind(probe: &ProbeName) -> String {
    format!("probe {probe}")
}

impl SharedBudgets {
    pub(super) fn new(remote: Budget, kinds: BTreeMap<ProbeName, Budget>) -> Self {
        let budgets = kinds.iter().fold(Budgets::new(remote), |all, (name, own)| all.with(kind(name), *own));
        Self { kinds, budgets: Mutex::new(budgets) }
    }

    fn lock(&self) -> MutexGuard<'_, Budgets> {
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what one look of at most this long needs, all of it or nothing.
    pub(super) fn take(
        &self,
        probe: &ProbeName,
        key: &ProbeKey,
        now: Monotonic,
        at_most: Duration,
    ) -> Result<Taken<'_>, Wait> {
        let own = self.kinds.contains_key(probe).then(|| kind(probe));
        let names: Vec<&str> = own.as_deref().into_iter().chain(key.remote()).collect();
        if names.is_empty() {
            return Ok(Taken { budgets: self, permit: None });
        }
        match self.lock().ask(&names, now, at_most) {
            Answer::Granted(permit) => Ok(Taken { budgets: self, permit: Some(permit) }),
            Answer::WaitUntil { until, why } => {
                let wait = until.0.saturating_sub(now.0);
                let wait = match why {
                    BudgetReason::Concurrent { .. } => wait.min(ASK_AGAIN),
                    _ => wait,
                };
                Err(Wait { why: why.to_string(), wait })
            }
        }
    }
}
