//! Somebody who looks at records again and again: what may only grow does.

use crate::world::World;
use capomastro_core::{
    model::DependencyState,
    store::{Key, Record, StateStore as _, Version},
    time::{Clock as _, SystemClock},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::task::JoinHandle;

/// What was seen of a dependency.
#[derive(Debug, Default)]
struct Seen {
    version: Version,
    state: Option<DependencyState>,
}

/// Looks until it is dropped; ends by itself only when something has shrunk.
#[derive(Debug)]
pub(crate) struct Watcher(JoinHandle<()>);

impl Watcher {
    pub(crate) async fn start(world: &World) -> Self {
        let mut keys = Vec::new();
        for name in world.names() {
            keys.push(Key::State(world.scheduler.status(name).await.unwrap().state.id));
        }
        let store = Arc::clone(&world.store);
        Self(tokio::spawn(async move {
            let mut seen = BTreeMap::<_, Seen>::new();
            loop {
                SystemClock.sleep(Duration::from_millis(40)).await;
                // The server may be away.
                let Ok(snapshot) = store.get(&keys).await else { continue };
                for versioned in snapshot.records {
                    let versioned = versioned.expect("no dependency is deleted");
                    let Record::State(state) = versioned.record else { panic!("asked for states") };
                    seen.entry(state.id).or_default().grow(versioned.version, state);
                }
            }
        }))
    }

    /// Nothing has shrunk.
    pub(crate) async fn check(self) {
        if self.0.is_finished() {
            self.0.await.unwrap();
            unreachable!("it looks for ever");
        }
        self.0.abort();
    }
}

impl Seen {
    fn grow(&mut self, version: Version, state: DependencyState) {
        assert!(version >= self.version, "{self:?}, then {version}: {state:?}");
        if let Some(before) = &self.state {
            assert!(
                version > self.version || *before == state,
                "two states of one version: {self:?}, {state:?}"
            );
            let growing = |s: &DependencyState| [s.fence, s.builds, s.applied_ticket, u64::from(s.epoch)];
            let shrunk = growing(before).into_iter().zip(growing(&state)).any(|(b, n)| n < b);
            assert!(!shrunk, "{before:?}, then {state:?}");
            let fence = |s: &DependencyState| s.held.as_ref().map(|h| h.fence);
            if let (Some(was), Some(is)) = (fence(before), fence(&state)) {
                assert!(is >= was, "{before:?}, then {state:?}");
            }
        }
        *self = Self { version, state: Some(state) };
    }
}
