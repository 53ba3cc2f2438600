//! Many at once, about one thing.

use capomastro_core::{
    InMemoryStore, Result,
    model::{OnHeld, Policy},
    scheduler::TriggerRequest,
    store::StateStore,
};
use capomastro_testkit::{ControllableLauncher, ManualClock, ScriptedProbe};
use capomastro_tests::{Awaits, Stage, each_minute, revision, somebody, spec};
use futures_util::future::join_all;
use std::{future::Future, sync::Arc};

/// A stage over a store at which everybody waits, so that all have read before the first one writes.
fn stage(launcher: ControllableLauncher) -> Stage {
    let clock = ManualClock::new();
    let store: Arc<dyn StateStore> = Arc::new(Awaits(InMemoryStore::new(Arc::new(clock.clone()))));
    Stage::over(store, clock, ScriptedProbe::new(), launcher, |b| b)
}

async fn all<T>(callers: impl Iterator<Item = impl Future<Output = Result<T>>>) -> Vec<T> {
    join_all(callers).await.into_iter().map(|answer| answer.expect("nobody is turned away")).collect()
}

#[tokio::test]
async fn each_of_many_callers_gets_its_receipt() {
    let s = stage(ControllableLauncher::accepting());
    s.begin("lib", each_minute().with_on_held(OnHeld::Coalesce)).await;
    let pushes = all((0..300).map(|_| s.scheduler.trigger("lib", TriggerRequest::push()))).await;
    assert_eq!(pushes.len(), 300);
    let policy = each_minute().with_on_held(OnHeld::Queue { max: 1_000 });
    s.define("lib", &[], policy).await;
    let pinned = |n: u32| TriggerRequest::manual().by(somebody()).at(revision(&format!("r{n}")));
    all((1_000..1_300).map(|n| s.scheduler.trigger("lib", pinned(n)))).await;
    assert_eq!(s.state("lib").await.waiting.len(), 300);
}

#[tokio::test]
async fn many_may_join_one_project_at_once_and_settle_in_it() {
    let s = stage(ControllableLauncher::auto_succeed());
    let names: Vec<String> = (0..60).map(|n| format!("d{n}")).collect();
    let specs: Vec<_> = names.iter().map(|name| spec(name, &["site"], Policy::default())).collect();
    for name in &names {
        s.probe.set(name, "r1");
    }
    all(specs.iter().map(|spec| s.scheduler.apply(spec))).await;
    assert_eq!(s.scheduler.project_status("site").await.unwrap().project.members.len(), 60);
    s.settle().await;
    s.pass(10).await;
    let current = s.scheduler.project_status("site").await.unwrap().current.expect("all are built");
    assert_eq!(current.slots.len(), 60);
}
