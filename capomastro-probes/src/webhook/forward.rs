//! From hooks to looks: which dependencies follow what changed, and how often they are asked for.

use super::{
    WAITING, Webhooks,
    place::{Changed, Place},
};
use capomastro_core::{
    ErrorKind, Result, Scheduler, model::DependencyName, scheduler::TriggerRequest, time::Monotonic,
};
use futures_util::future::{Either, select};
use std::{collections::BTreeMap, future::Future, pin::pin, time::Duration};

/// How old the list of dependencies may be for a repository that it knows, and how often it is read at the most.
const MAX_AGE: Duration = Duration::from_secs(30);
const READ_AT_MOST: Duration = Duration::from_secs(2);
/// How many dependencies are listed at a time, and how many at the most.
const PAGE: usize = 1_000;
const MAX_DEPENDENCIES: usize = 200_000;
/// When a trigger that failed is given again, and how often.
const AGAIN: Duration = Duration::from_secs(5);
const ATTEMPTS: u8 = 5;
/// How long nothing to do is waited for; then it is looked again whether there is.
const IDLE: Duration = Duration::from_secs(3_600);

/// A dependency to be triggered.
#[derive(Debug)]
struct Due {
    at: Monotonic,
    attempts: u8,
}

/// What is known while hooks are handed on.
#[derive(Debug, Default)]
struct Forwarding {
    /// Who follows what, by repository.
    followers: BTreeMap<Place, Vec<(DependencyName, Option<String>)>>,
    /// When that was read.
    read: Option<Monotonic>,
    /// Whether a repository was not known, so that it is read again as soon as it may be.
    is_stale: bool,
    /// Changes of repositories that nobody seemed to follow when they came, until the list is read again.
    parked: BTreeMap<Place, Changed>,
    due: BTreeMap<DependencyName, Due>,
    last: BTreeMap<DependencyName, Monotonic>,
}

impl Webhooks {
    /// Hands what comes on to the scheduler, until `shutdown` is ready. Dependencies are found by their sources; a new
    /// one is known within seconds. What the scheduler cannot take after several attempts is logged and lost: those
    /// dependencies are looked at when their turn comes.
    ///
    /// *Cancellation*: a dropped future loses at most the hints that it was handing on.
    pub async fn forward(&self, scheduler: &Scheduler, shutdown: impl Future<Output = ()> + Send) {
        let clock = &self.shared.clock;
        let mut shutdown = pin!(shutdown);
        let mut state = Forwarding::default();
        loop {
            let step = pin!(self.step(scheduler, &mut state));
            let Either::Right((wait, _)) = select(shutdown.as_mut(), step).await else { return };
            let came = pin!(self.shared.came.notified());
            let woken = select(came, clock.sleep(wait));
            if let Either::Left(_) = select(shutdown.as_mut(), pin!(woken)).await {
                return;
            }
        }
    }

    /// Does what can be done now; how long to wait for more.
    async fn step(&self, scheduler: &Scheduler, state: &mut Forwarding) -> Duration {
        let clock = &self.shared.clock;
        // While the dependencies cannot be listed, what comes is left where it is counted and turned away at last.
        if state.parked.len() < WAITING {
            let came = std::mem::take(&mut self.state().waiting);
            for (place, changed) in came {
                state.parked.entry(place).or_insert_with(Changed::nothing).merge(changed);
            }
        }
        let mut wait = IDLE;
        if !state.parked.is_empty() {
            wait = wait.min(self.resolve(scheduler, state).await);
        }
        loop {
            let now = clock.monotonic();
            let next =
                state.due.iter().min_by_key(|(_, due)| due.at).map(|(name, due)| (name.clone(), due.at));
            let Some((name, at)) = next else { break };
            if now < at {
                wait = wait.min(at.since(now));
                break;
            }
            let Some(due) = state.due.remove(&name) else { break };
            self.trigger(scheduler, state, name, due).await;
        }
        let now = clock.monotonic();
        state.last.retain(|_, last| now < last.plus(self.shared.every));
        wait
    }

    /// Finds who follows what changed. Those who are known are found at once; the rest when the list may be read again.
    async fn resolve(&self, scheduler: &Scheduler, state: &mut Forwarding) -> Duration {
        let clock = &self.shared.clock;
        let now = clock.monotonic();
        state.is_stale |= state.parked.keys().any(|place| !state.followers.contains_key(place));
        let age = if state.is_stale { READ_AT_MOST } else { MAX_AGE };
        let may_read = state.read.is_none_or(|read| now >= read.plus(age));
        if may_read {
            match self.followers(scheduler).await {
                Ok(followers) => (state.followers, state.is_stale) = (followers, false),
                Err(error) => {
                    tracing::warn!(error = %error.report(), "the dependencies could not be listed for webhooks");
                }
            }
            state.read = Some(now);
        }
        let is_known = !state.is_stale;
        let parked = std::mem::take(&mut state.parked);
        for (place, changed) in parked {
            match state.followers.get(&place) {
                Some(followers) => {
                    for (name, _) in followers.iter().filter(|(_, of)| changed.concerns(of.as_deref())) {
                        let last = state.last.get(name);
                        let at = last.map_or(now, |last| last.plus(self.shared.every).max(now));
                        let due = state.due.entry(name.clone()).or_insert(Due { at, attempts: 0 });
                        due.attempts = 0;
                    }
                }
                None if is_known => {
                    tracing::debug!(%place, "a webhook is about a repository that nobody follows")
                }
                None => drop(state.parked.insert(place, changed)),
            }
        }
        match state.read {
            Some(read) if !state.parked.is_empty() => read.plus(READ_AT_MOST).since(now),
            _ => IDLE,
        }
    }

    async fn followers(
        &self,
        scheduler: &Scheduler,
    ) -> Result<BTreeMap<Place, Vec<(DependencyName, Option<String>)>>> {
        let mut followers: BTreeMap<Place, Vec<_>> = BTreeMap::new();
        let (mut after, mut count) = (None, 0);
        loop {
            let (page, next) = scheduler.dependencies(after.as_deref(), PAGE).await?;
            count += page.len();
            for dependency in page {
                if let Some(watched) = (self.shared.follows)(&dependency.source) {
                    followers.entry(watched.place).or_default().push((dependency.name, watched.name));
                }
            }
            match next {
                Some(next) if count < MAX_DEPENDENCIES => after = Some(next),
                Some(_) => {
                    tracing::warn!(count, "webhooks reach the first dependencies only: there are too many");
                    return Ok(followers);
                }
                None => return Ok(followers),
            }
        }
    }

    async fn trigger(&self, scheduler: &Scheduler, state: &mut Forwarding, name: DependencyName, due: Due) {
        let clock = &self.shared.clock;
        state.last.insert(name.clone(), clock.monotonic());
        let Err(error) = scheduler.trigger(name.as_str(), TriggerRequest::push()).await else { return };
        match error.kind() {
            // Deleted, or it has another name now; then its next hook finds it.
            ErrorKind::NotFound => state.read = None,
            _ if due.attempts < ATTEMPTS => {
                let at = clock.monotonic().plus(AGAIN);
                state.due.insert(name, Due { at, attempts: due.attempts + 1 });
            }
            _ => {
                tracing::warn!(dependency = %name, error = %error.report(), "a webhook could not be handed on");
            }
        }
    }
}
