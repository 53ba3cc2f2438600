//! Hints: one process wakes another, seldom and outside of commits, and nothing depends on it.

use crate::samples::{Base, SOON, batch, due, eventually, limit, put, within};
use capomastro_core::{
    Scheduler,
    model::{DependencyId, Policy},
    scheduler::TriggerRequest,
    store::{DueChange, Hints, Lane, StateStore, Task},
    time::{Clock, SystemClock},
};
use capomastro_store_postgres::{
    PostgresStore,
    tokio_postgres::{AsyncMessage, Config, NoTls},
};
use capomastro_testkit::{ControllableLauncher, ScriptedProbe};
use capomastro_tests::{
    plain_spec,
    postgres::{Bouncer, Proxy, shared},
    somebody,
};
use std::{sync::Arc, time::Duration};

/// How long nothing must happen for it to count as nothing: longer than hints are apart.
const NOTHING: Duration = Duration::from_millis(600);

async fn hinted(url: &str) -> PostgresStore {
    within(SOON, PostgresStore::builder(url).open()).await.unwrap()
}

fn listeners(base: &Base) -> String {
    base.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
         AND (query LIKE 'LISTEN%' OR query LIKE '%pg_notify%') AND pid <> pg_backend_pid()",
    )
}

async fn until_listening(base: &Base, many: &str) {
    eventually(SOON, async || listeners(base) == many).await;
}

fn soon() -> capomastro_core::store::Batch {
    due(Task::Sweep, Lane::House, Duration::ZERO)
}

/// Whether a hint comes within a while; the number of hints then.
async fn next(store: &PostgresStore, seen: u64) -> Option<u64> {
    tokio::select! {
        count = store.after(seen) => Some(count),
        () = SystemClock.sleep(NOTHING) => None,
    }
}

#[tokio::test]
async fn a_commit_wakes_the_others_and_not_oneself() {
    let Some(base) = Base::new() else { return };
    let (one, two) = (hinted(&base.url()).await, hinted(&base.url()).await);
    until_listening(&base, "2").await;
    for n in 1..4 {
        one.commit(&soon()).await.unwrap();
        assert_eq!(within(SOON, two.after(n - 1)).await, n);
        assert_eq!(next(&one, 0).await, None, "one's own");
        assert_eq!(next(&two, n).await, None, "one hint for one commit");
    }
    // What makes nothing due soon is worth none: a record, something later, an end.
    one.commit(&put(limit("a", 1), None)).await.unwrap();
    one.commit(&due(Task::Sweep, Lane::House, Duration::from_secs(60))).await.unwrap();
    let mut end = batch();
    end.due.push(DueChange::Drop { task: Task::Sweep });
    one.commit(&end).await.unwrap();
    assert_eq!(next(&two, 3).await, None);
    // Another store in another schema is not woken.
    let other = PostgresStore::builder(base.url()).schema("other").open().await.unwrap();
    until_listening(&base, "3").await;
    other.commit(&soon()).await.unwrap();
    assert_eq!(next(&two, 3).await, None);
}

#[tokio::test]
async fn a_line_of_hints_that_was_cut_comes_back() {
    let Some(base) = Base::new() else { return };
    let proxy = Proxy::before(base.cluster.endpoint());
    let one = hinted(&base.url()).await;
    let two = hinted(&proxy.url(&base.name)).await;
    until_listening(&base, "2").await;
    one.commit(&soon()).await.unwrap();
    let mut seen = within(SOON, two.after(0)).await;
    for _ in 0..2 {
        proxy.cut();
        // Once it listens again: something may have been missed.
        seen = within(SOON, two.after(seen)).await;
        one.commit(&soon()).await.unwrap();
        seen = within(SOON, two.after(seen)).await;
    }
    proxy.refuse();
    until_listening(&base, "1").await;
    one.commit(&soon()).await.unwrap();
    assert_eq!(next(&two, seen).await, None);
    proxy.pass();
    within(SOON, two.after(seen)).await;
    until_listening(&base, "2").await;
    drop((one, two));
    until_listening(&base, "0").await;
}

#[tokio::test]
async fn there_are_none_where_they_are_off_or_cannot_be() {
    let Some(base) = Base::new() else { return };
    let Some(bouncer) = Bouncer::before(&shared().unwrap(), 2) else { return };
    let one = hinted(&base.url()).await;
    until_listening(&base, "1").await;
    let off = PostgresStore::builder(base.url()).hints(false).open().await.unwrap();
    let pooled = PostgresStore::builder(bouncer.url(&base.name)).behind_pooler(true).open().await.unwrap();
    for store in [&off, &pooled] {
        store.commit(&soon()).await.unwrap();
        one.commit(&soon()).await.unwrap();
        assert_eq!(next(store, 0).await, None);
        assert_eq!(listeners(&base), "1");
    }
    assert_eq!(next(&one, 0).await, None, "they send none either");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_commits_sends_few_hints() {
    const COMMITS: usize = 1_000;
    let Some(base) = Base::new() else { return };
    let store = Arc::new(hinted(&base.url()).await);
    until_listening(&base, "1").await;
    // Somebody who counts what is said.
    let config: Config = base.url().parse().unwrap();
    let (client, mut connection) = config.connect(NoTls).await.unwrap();
    let counted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&counted);
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if matches!(message, AsyncMessage::Notification(_)) {
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
    });
    client.batch_execute("LISTEN capomastro_capomastro").await.unwrap();
    let from = SystemClock.monotonic();
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..8_u128 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            for n in 0..COMMITS / 8 {
                let id = DependencyId::from_uuid(uuid::Uuid::from_u128(worker * 1_000_000 + n as u128));
                store.commit(&due(Task::Look(id), Lane::House, Duration::ZERO)).await.unwrap();
            }
        });
    }
    within(SOON * 2, async {
        while let Some(done) = tasks.join_next().await {
            done.unwrap()
        }
    })
    .await;
    let took = SystemClock.monotonic().since(from);
    SystemClock.sleep(NOTHING).await;
    let said = counted.load(std::sync::atomic::Ordering::Relaxed);
    let most = usize::try_from(took.as_millis() / 100).unwrap() + 2;
    assert!(said >= 1 && said <= most, "{said} hints in {took:?}");
}

fn scheduler(
    store: &Arc<PostgresStore>,
    launcher: &ControllableLauncher,
    probe: &ScriptedProbe,
) -> capomastro_core::scheduler::SchedulerBuilder {
    Scheduler::builder(Arc::clone(store))
        .probe("scripted", Arc::new(probe.clone()))
        .launcher("fake", Arc::new(launcher.clone()))
        .idle(Duration::from_secs(30))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_triggered_through_one_store_is_started_by_the_scheduler_over_another() {
    let Some(base) = Base::new() else { return };
    let (launcher, probe) = (ControllableLauncher::auto_succeed(), ScriptedProbe::new());
    probe.set("a", "r1");
    let stores = [Arc::new(hinted(&base.url()).await), Arc::new(hinted(&base.url()).await)];
    until_listening(&base, "2").await;
    let runs = scheduler(&stores[0], &launcher, &probe)
        .hints(Arc::<PostgresStore>::clone(&stores[0]))
        .build()
        .unwrap();
    let asks = scheduler(&stores[1], &launcher, &probe).build().unwrap();
    asks.apply(&plain_spec("a", Policy::default())).await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(async move { runs.run(async { drop(stopped.await) }).await });
    let launched = async |count: usize, limit: Duration| {
        eventually(limit, async || launcher.launch_calls() >= count).await;
    };
    launched(1, SOON).await;
    let ended = async || {
        let (builds, _) = asks.history("a", None, 10).await.unwrap();
        builds.iter().all(|b| b.phase == capomastro_core::model::Phase::Succeeded)
    };
    for n in 0..3 {
        eventually(SOON * 2, ended).await;
        // Now it sleeps until its next look, in half a minute.
        SystemClock.sleep(NOTHING).await;
        asks.trigger("a", TriggerRequest::manual().by(somebody())).await.unwrap();
        launched(2 + n, Duration::from_secs(5)).await;
    }
    stop.send(()).unwrap();
    within(SOON, running).await.unwrap().unwrap();
}
