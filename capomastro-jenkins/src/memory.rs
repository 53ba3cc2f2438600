//! What a launcher remembers of builds between calls. Nothing here is needed: who forgets it asks once more.

use capomastro_core::{
    model::LaunchKey,
    time::{Monotonic, Timestamp},
};
use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How many facts of one kind are remembered.
const MAX: usize = 50_000;

/// Facts by key; the oldest go when there are too many.
#[derive(Debug)]
pub(crate) struct Facts<K, V>(Mutex<HashMap<K, (Monotonic, V)>>);

impl<K, V> Default for Facts<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Facts<K, V> {
    fn all(&self) -> MutexGuard<'_, HashMap<K, (Monotonic, V)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.all().get(key).map(|(_, v)| v.clone())
    }

    pub(crate) fn set(&self, key: K, value: V, now: Monotonic) {
        let mut all = self.all();
        if all.len() >= MAX && !all.contains_key(&key) {
            let mut ages: Vec<Monotonic> = all.values().map(|(at, _)| *at).collect();
            ages.sort_unstable();
            let middle = ages[ages.len() / 2];
            all.retain(|_, (at, _)| *at > middle);
        }
        all.insert(key, (now, value));
    }

    /// What is remembered, or else `value` from now on.
    pub(crate) fn first(&self, key: K, value: V, now: Monotonic) -> V {
        if let Some(known) = self.get(&key) {
            return known;
        }
        self.set(key, value.clone(), now);
        value
    }

    pub(crate) fn forget(&self, key: &K) {
        self.all().remove(key);
    }
}

/// All that is remembered of builds and jobs.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// When a sweep found nothing of a key, in which session, and of the request that was sent when.
    pub(crate) nothing: Facts<LaunchKey, (Monotonic, String, Option<Timestamp>)>,
    /// When a queue item was first seen to have left the queue without a build.
    pub(crate) left: Facts<(u64, String), Monotonic>,
    /// The number of a job's next build, as told last.
    pub(crate) next: Facts<String, u64>,
    /// Builds whose records were saved, or could not be.
    pub(crate) saved: Facts<LaunchKey, ()>,
    /// Builds that were stopped since another one stands for their key.
    pub(crate) extras: Facts<(String, u64), ()>,
    /// When a build was first asked to stop.
    pub(crate) stops: Facts<(String, u64), Monotonic>,
    /// Where readers of logs stand.
    pub(crate) logs: Facts<String, crate::console::Cursor>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_forgets_the_oldest() {
        let facts = Facts::default();
        for n in 0..u64::try_from(MAX).unwrap() + 1 {
            facts.set(n, n, Monotonic(Duration::from_secs(n)));
        }
        assert_eq!((facts.get(&0), facts.get(&50_000)), (None, Some(50_000)));
        assert_eq!(facts.first(0, 7, Monotonic::default()), 7);
        assert_eq!(facts.first(0, 8, Monotonic::default()), 7);
        facts.forget(&0);
        assert_eq!(facts.get(&0), None);
    }
}
