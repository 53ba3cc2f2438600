//! From the probe's answer to the launcher's call, one change at a time.

use super::instant::{Changing, Instant, source};
use capomastro_core::{Scheduler, model::Policy, scheduler::DependencySpec, store::StateStore};
use capomastro_tests::figure;
use std::{sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot};

/// How many changes are measured.
pub(crate) const CHANGES: usize = 400;

/// Prints how long it took, beside as many durable commits of one row on the same storage.
pub(crate) fn report(ours: &[Duration], bare: &[Duration]) {
    for (name, part) in [("observation_to_launch_p50", 50), ("observation_to_launch_p99", 99)] {
        figure(name, percentile(ours, part), percentile(bare, part), "ms");
    }
}

fn percentile(took: &[Duration], part: usize) -> f64 {
    let mut took = took.to_vec();
    took.sort();
    took[(took.len() * part / 100).min(took.len() - 1)].as_secs_f64() * 1e3
}

/// Each dependency is new, so that it is looked at at once and its first revision built.
pub(crate) async fn launches(store: Arc<dyn StateStore>) -> Vec<Duration> {
    let (sender, mut launched) = mpsc::unbounded_channel();
    let probe = Arc::new(Changing::default());
    let scheduler = Scheduler::builder(store)
        .probe("changing", Arc::<Changing>::clone(&probe))
        .launcher("instant", Arc::new(Instant::telling(sender)))
        .build()
        .unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn({
        let scheduler = scheduler.clone();
        async move { scheduler.run(async { drop(stopped.await) }).await }
    });
    let policy = Policy::default().with_look_every(Duration::from_secs(86_400));
    let mut took = Vec::with_capacity(CHANGES);
    for n in 0..CHANGES {
        let name = format!("dependency-{n}");
        let spec = DependencySpec::new(&name, source(&name), "instant").unwrap();
        scheduler.apply(&spec.with_policy(policy.clone())).await.unwrap();
        let at = launched.recv().await.unwrap();
        took.push(at.0 - probe.answered.lock().unwrap().0);
    }
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    took
}
