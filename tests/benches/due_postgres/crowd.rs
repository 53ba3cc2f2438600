//! Many looks in a database of their own, which become due together.

use capomastro_core::{
    model::{DependencyId, HolderId},
    store::{Claim, ClaimAsk, DueChange, Lane, LaneAsk, PutBack, StateStore, Task},
    time::{Clock, SystemClock},
};
use capomastro_store_postgres::PostgresStore;
use capomastro_testkit::ManualClock;
use capomastro_tests::{postgres::Cluster, samples};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// How many are taken at once.
const PAGE: usize = 100;
/// How many are written at once.
const BATCH: u128 = 1_000;
/// When they become due.
const SOME_TIME: Duration = Duration::from_secs(3_600);

pub(crate) struct Crowd {
    pub(crate) clock: ManualClock,
    pub(crate) store: Arc<PostgresStore>,
    pub(crate) database: String,
}

fn lane() -> Lane {
    Lane::Probe("standing".parse().unwrap())
}

fn holder() -> HolderId {
    samples::holder("bench")
}

impl Crowd {
    pub(crate) async fn of(cluster: &Cluster, count: u128) -> Self {
        let database = cluster.new_database();
        let clock = ManualClock::new();
        let builder = PostgresStore::builder(cluster.url(&database)).clock(Arc::new(clock.clone()));
        let store = builder.hints(false).open().await.unwrap();
        for from in (0..count).step_by(usize::try_from(BATCH).unwrap()) {
            let mut batch = samples::batch();
            for n in from..from + BATCH {
                // Ids have no order in time, as those of dependencies that come and go have none.
                let id = Uuid::from_u128(n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
                let task = Task::Look(DependencyId::from_uuid(id));
                batch.due.push(DueChange::Set { task, lane: lane(), after: SOME_TIME, note: None });
            }
            store.commit(&batch).await.unwrap();
        }
        cluster.sql(&database, "VACUUM ANALYZE");
        Self { clock, store: Arc::new(store), database }
    }

    pub(crate) fn becomes_due(&self) {
        self.clock.advance(2 * SOME_TIME);
    }

    /// Takes a page of what is due, and puts it back behind the others, so often. How long each taking took.
    pub(crate) async fn claims(&self, times: usize) -> Vec<Duration> {
        let lease = Duration::from_secs(90);
        let ask = ClaimAsk { lanes: vec![LaneAsk { lane: lane(), limit: PAGE, lease }], holder: holder() };
        let mut took = Vec::with_capacity(times);
        for _ in 0..times {
            self.clock.advance(Duration::from_millis(1));
            let began = SystemClock.monotonic().0;
            let claims = self.store.claim_due(&ask).await.unwrap().claims;
            took.push(SystemClock.monotonic().0 - began);
            assert_eq!(claims.len(), PAGE);
            let back = |claim: Claim| PutBack { note: claim.note.clone(), claim, after: Duration::ZERO };
            let back: Vec<_> = claims.into_iter().map(back).collect();
            self.store.put_back(&holder(), &back).await.unwrap();
        }
        took
    }
}

/// The one in the middle.
pub(crate) fn median(took: &mut [Duration]) -> Duration {
    took.sort_unstable();
    took[took.len() / 2]
}
