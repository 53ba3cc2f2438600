//! Many looks in a database of their own, most of them due.

use capomastro_core::{
    model::{DependencyId, HolderId},
    store::{Claim, ClaimAsk, DueChange, Lane, LaneAsk, PutBack, StateStore, Task},
    time::{Clock, SystemClock},
};
use capomastro_store_postgres::PostgresStore;
use capomastro_tests::{postgres::Cluster, samples};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// How many are taken at once.
const PAGE: usize = 100;
/// How many are written at once.
const BATCH: u128 = 1_000;
/// When those are due that are not due yet.
const LATER: Duration = Duration::from_secs(86_400);

pub(crate) struct Crowd {
    pub(crate) store: Arc<PostgresStore>,
    pub(crate) database: String,
}

fn lane() -> Lane {
    Lane::Probe("crowded".parse().unwrap())
}

fn later() -> Lane {
    Lane::Probe("standing".parse().unwrap())
}

fn holder() -> HolderId {
    samples::holder("bench")
}

impl Crowd {
    pub(crate) async fn of(cluster: &Cluster, count: u128) -> Self {
        let database = cluster.new_database();
        let store = PostgresStore::builder(cluster.url(&database)).hints(false).open().await.unwrap();
        for from in (0..count).step_by(usize::try_from(BATCH).unwrap()) {
            let mut batch = samples::batch();
            for n in from..from + BATCH {
                // Ids have no order in time, as those of dependencies that come and go have none.
                let id = Uuid::from_u128(n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
                let task = Task::Look(DependencyId::from_uuid(id));
                // Some are of another lane, and not due yet.
                let (lane, after) = if n % 10 == 9 { (later(), LATER) } else { (lane(), Duration::ZERO) };
                batch.due.push(DueChange::Set { task, lane, after, note: None });
            }
            store.commit(&batch).await.unwrap();
        }
        cluster.sql(&database, "VACUUM ANALYZE");
        Self { store: Arc::new(store), database }
    }

    /// Takes a page of what is due, and puts it back behind the others, so often. How long each taking took.
    pub(crate) async fn claims(&self, times: usize) -> Vec<Duration> {
        let lease = Duration::from_secs(90);
        let ask = ClaimAsk { lanes: vec![LaneAsk { lane: lane(), limit: PAGE, lease }], holder: holder() };
        let mut took = Vec::with_capacity(times);
        for _ in 0..times {
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
