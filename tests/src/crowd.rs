//! Very many dependencies whose sources stand still, for benchmarks.

use async_trait::async_trait;
use capomastro_core::{
    Result, Scheduler,
    model::{
        Accounted, CommitId, Dependency, DependencyId, DependencyState, Observed, Policy, ProbeKey,
        RelationTo, Revision, Settled, Source,
    },
    probe::{Ask, Probed, RevisionProbe},
    schedule::next_due,
    store::{Batch, DueChange, Lane, Put, Record, StateStore, Task},
    time::{Clock, until},
};
use capomastro_testkit::{ControllableLauncher, ManualClock, SeededRandom};
use std::{sync::Arc, time::Duration};

/// How often each dependency of a crowd is looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(300);

/// How many are registered by one commit.
const AT_ONCE: usize = 2_000;

/// A probe that asks nobody: the source is where it was. Each source has a key of its own, so each look is a run.
#[derive(Debug)]
pub struct Standing;

impl Standing {
    /// The source of this name.
    pub fn source(name: &str) -> Source {
        Source::new("standing", name).expect("a name")
    }
}

#[async_trait]
impl RevisionProbe for Standing {
    fn key(&self, source: &Source) -> Result<ProbeKey> {
        Ok(ProbeKey::of(&[source.config.as_str().unwrap_or_default()]))
    }

    async fn probe(&self, asks: &[Ask]) -> Vec<Result<Probed>> {
        asks.iter().map(|_| Ok(Probed::SameAsSeen)).collect()
    }
}

/// A scheduler for a crowd, by a clock that stands still until told to go on.
pub fn crowd_scheduler(store: Arc<dyn StateStore>, clock: &ManualClock, at_once: usize) -> Scheduler {
    Scheduler::builder(store)
        .clock(Arc::new(clock.clone()))
        .random(Arc::new(SeededRandom::new(7)))
        .probe("standing", Arc::new(Standing))
        .launcher("fake", Arc::new(ControllableLauncher::by_hand()))
        .at_once(at_once)
        .build()
        .expect("choices within their ranges")
}

/// Registers `count` dependencies, each seen once, with nothing to build, and due at its own next time.
pub async fn register(store: &dyn StateStore, clock: &ManualClock, count: usize) {
    let random = SeededRandom::new(11);
    let mut left = count;
    while left > 0 {
        let now = clock.now();
        let id = CommitId::draw(now, &random);
        let mut batch = Batch::new(id, "registration".parse().expect("a name"));
        for number in 0..AT_ONCE.min(left) {
            let name = format!("dependency-{:07}", left - number);
            let id = DependencyId::draw(now, &random);
            let dependency = Dependency::new(
                id,
                name.parse().expect("a name"),
                Standing::source(&name),
                "fake".parse().expect("a name"),
                serde_json::json!({ "job": name }),
                Policy::default().with_look_every(LOOK_EVERY),
                now,
            );
            let at = next_due(&dependency.policy.look, now, id, now).expect("an interval");
            batch.due.push(DueChange::Set {
                task: Task::Look(id),
                lane: Lane::Probe(dependency.source.probe.clone()),
                after: until(now, at),
                note: None,
            });
            let state = standing(id, number, clock);
            batch.puts.push(Put { record: Record::Dependency(dependency), expect: None });
            batch.puts.push(Put { record: Record::State(state), expect: None });
        }
        store.commit(&batch).await.expect("the store takes the batch");
        left -= AT_ONCE.min(left);
    }
}

fn standing(id: DependencyId, number: usize, clock: &ManualClock) -> DependencyState {
    let revision: Revision = format!("{number:040x}").parse().expect("a revision");
    let mut state = DependencyState::new(id);
    state.observed = Some(Observed {
        revision: revision.clone(),
        cursor: None,
        display: None,
        relation: RelationTo { accounted: None, relation: None },
        metadata: std::collections::BTreeMap::new(),
        moved_at: clock.now(),
    });
    state.accounted = Some(Accounted { revision, by: Settled::Baseline });
    state
}

/// Lets a whole interval pass and does all the looks that are due then. How many there were.
pub async fn look_at_all(scheduler: &Scheduler, clock: &ManualClock) -> usize {
    clock.advance(LOOK_EVERY);
    let mut looks = 0;
    loop {
        let taken = scheduler.tick().await.expect("the store answers").taken;
        if taken == 0 {
            return looks;
        }
        looks += taken;
    }
}
