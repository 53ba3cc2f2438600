//! Plans: on large tables every statement of the store reads only the rows that it is about, whatever the planner knows of
//! the tables.
//!
//! The store does its own calls on its own connections; the server writes the plan of each statement, those within the
//! functions too, with the rows that it really read, into its log.

use crate::samples::{Base, SOON, batch, holder, limit, limit_key, project, put, within};
use capomastro_core::{
    events::{Event, EventKind},
    model::{DependencyId, ProjectId},
    store::{
        Batch, ClaimAsk, DueChange, EventFilter, Forget, Key, Lane, LaneAsk, ListKey, PutBack, Query, Record,
        StateStore, Task,
    },
    time::{Clock, SystemClock},
};
use capomastro_store_postgres::PostgresStore;
use capomastro_tests::postgres::{Cluster, Settings};
use std::{fs, sync::Arc, time::Duration};

/// How many rows each table has.
const ROWS: u128 = 20_000;

/// The most that a step of a plan may read or look over: a page, and some.
const MOST: f64 = 300.0;

fn cluster() -> Option<Arc<Cluster>> {
    // No statistics but those that a test makes.
    Cluster::with(Settings::default().set("autovacuum", "off")).map(Arc::new)
}

fn dependency(n: u128) -> DependencyId {
    DependencyId::from_uuid(uuid::Uuid::from_u128(n))
}

fn about() -> ProjectId {
    ProjectId::from_uuid(uuid::Uuid::from_u128(7))
}

fn looks() -> Lane {
    Lane::Probe("scripted".parse().unwrap())
}

fn ask(limit: usize) -> ClaimAsk {
    let lane = |lane| LaneAsk { lane, limit, lease: Duration::from_secs(60) };
    ClaimAsk { lanes: vec![lane(looks()), lane(Lane::House)], holder: holder("test") }
}

/// Fills all tables through the store itself.
async fn fill(base: &Base) {
    let store = base.store().await;
    for from in (0..ROWS).step_by(1_000) {
        let mut batch = batch();
        for n in from..from + 1_000 {
            batch.puts.extend(put(project(&format!("p{n}")), None).puts);
            let task = Task::Look(dependency(n));
            let after = Duration::from_secs(if n % 2 == 0 { 0 } else { 3_600 });
            batch.due.push(DueChange::Set { task, lane: looks(), after, note: None });
            batch.events.push(Event::of_dependency(dependency(n % 3), EventKind::Resumed));
            batch.events.push(Event::of_project(about(), EventKind::Resumed));
        }
        store.commit(&batch).await.unwrap();
    }
    base.sql(&format!(
        "INSERT INTO capomastro.commits SELECT gen_random_uuid(), n FROM generate_series(1, {ROWS}) n"
    ));
}

/// One connection, whose statements are explained in the log.
async fn explained(base: &Base) -> PostgresStore {
    base.sql(&format!(
        "ALTER DATABASE {0} SET session_preload_libraries = 'auto_explain'; \
         ALTER DATABASE {0} SET auto_explain.log_min_duration = 0; \
         ALTER DATABASE {0} SET auto_explain.log_nested_statements = on; \
         ALTER DATABASE {0} SET auto_explain.log_analyze = on; \
         ALTER DATABASE {0} SET auto_explain.log_timing = off",
        base.name
    ));
    let opened = PostgresStore::builder(base.url()).connections(1).hints(false).open();
    within(SOON, opened).await.unwrap()
}

/// Everything that the store asks of the database, on few rows.
async fn calls(store: &PostgresStore, round: u64) {
    store.check().await.unwrap();
    let name = |what: &str| format!("{what}{round}");
    let new = project(&name("new"));
    let mut all = put(limit(&name("a"), 1), None);
    all.puts.extend(put(new.clone(), None).puts);
    all.guards.push((limit_key(&name("absent")), None));
    let born = Task::Look(dependency(900_000 + u128::from(round)));
    let lease = Duration::from_secs(60);
    all.due.push(DueChange::Hold { task: born, lane: looks(), lease });
    all.due.push(DueChange::Nudge { task: Task::Look(dependency(1)), after: Duration::from_secs(60) });
    all.events.push(Event::of_project(about(), EventKind::Resumed));
    let held = store.commit(&all).await.unwrap().claims;
    assert!(store.commit(&all).await.unwrap().repeated);

    let keys = [new.key(), limit_key(&name("a")), limit_key("absent"), Key::Due(Task::Look(dependency(5)))];
    let found = store.get(&keys[..3]).await.unwrap().records;
    store.get(&keys).await.unwrap();
    let versions: Vec<_> = found.into_iter().flatten().map(|v| v.version).collect();
    let changed = match new.clone() {
        Record::Project(mut p) => {
            p.name = name("renamed").parse().unwrap();
            Record::Project(p)
        }
        other => panic!("{other:?}"),
    };
    let mut change = put(changed, Some(versions[0]));
    change.guards.push((limit_key(&name("a")), Some(versions[1])));
    change.claims = held;
    change.due.push(DueChange::Done { task: born });
    change.due.push(DueChange::Drop { task: Task::Look(dependency(ROWS - 1 - u128::from(round) * 2)) });
    store.commit(&change).await.unwrap();
    let mut refused = put(new.clone(), None);
    refused.deletes.push((limit_key("nothing"), 1));
    store.commit(&refused).await.unwrap_err();
    store.commit(&put(project(&name("renamed")), None)).await.unwrap_err();
    let found = store.get(&[new.key()]).await.unwrap().records.remove(0).unwrap();
    let mut delete = batch();
    delete.deletes.push((new.key(), found.version));
    store.commit(&delete).await.unwrap();
    sweep(store).await;

    let claimed = store.claim_due(&ask(5)).await.unwrap().claims;
    let items: Vec<_> = claimed
        .into_iter()
        .map(|claim| PutBack { note: claim.note.clone(), claim, after: Duration::ZERO })
        .collect();
    store.put_back(&holder("test"), &items).await.unwrap();

    for backwards in [false, true] {
        let list = Query::List { list: ListKey::projects(), backwards };
        let page = store.list(&list, None, 10).await.unwrap();
        if let Some(next) = page.next {
            store.list(&list, Some(&next), 10).await.unwrap();
        }
    }
    store.list(&Query::Unique(project("p77").unique().unwrap()), None, 1).await.unwrap();
    for filter in [EventFilter::All, EventFilter::Dependency(dependency(1)), EventFilter::Project(about())] {
        let page = store.events(filter, 0, 10).await.unwrap();
        store.events(filter, page.upto, 10).await.unwrap();
    }
}

/// Deletes a few of the oldest events and commits.
async fn sweep(store: &PostgresStore) {
    let mut sweep = Batch::new(batch().id, holder("test"));
    let now = SystemClock.now();
    let ages = std::array::from_fn::<_, 2, _>(|_| now);
    sweep.forget = Some(Forget::new(ages[0], 100, ages[1], 5));
    store.commit(&sweep).await.unwrap();
}

/// The numbers behind a word in a line.
fn after(line: &str, word: &str) -> Option<f64> {
    let rest = line.split_once(word)?.1;
    rest.split(|c: char| !c.is_ascii_digit() && c != '.').next()?.parse().ok()
}

/// Whether a step of a plan reads more than it should: how often it ran times the rows of each run, or a table of the store
/// from end to end.
fn is_too_much(line: &str) -> bool {
    let tables = ["records", "lists", "due", "events", "commits"];
    let whole = tables.iter().any(|t| line.contains(&format!("Seq Scan on {t} ")));
    let rows = after(line, "actual rows=").unwrap_or(0.0) * after(line, " loops=").unwrap_or(1.0);
    let removed = after(line, "Rows Removed by ").map_or(0.0, |_| 0.0)
        + line.split_once("Rows Removed by ").and_then(|(_, r)| after(r, ": ")).unwrap_or(0.0);
    whole || rows > MOST || removed > MOST
}

/// What the server wrote of the plans since this place in its log.
fn plans(base: &Base, from: usize) -> String {
    let log = fs::read(base.cluster.socket_folder().join("log")).unwrap();
    String::from_utf8_lossy(&log[from..]).into_owned()
}

fn log_length(base: &Base) -> usize {
    usize::try_from(fs::metadata(base.cluster.socket_folder().join("log")).unwrap().len()).unwrap()
}

/// Does all calls, and checks each plan.
async fn keeps(base: &Base, store: &PostgresStore, round: u64) {
    let from = log_length(base);
    calls(store, round).await;
    let plans = plans(base, from);
    // All of it was explained, also what is within the functions.
    for part in [
        "FROM due d WHERE d.task = ANY (claim_tasks || due_tasks)",
        "FROM records r WHERE r.key = ANY (put_keys || delete_keys || guard_keys)",
        "INSERT INTO lists (list, sort, key)",
        "UPDATE records r",
        "INSERT INTO commits",
        "DELETE FROM commits",
        "DELETE FROM events",
        "INSERT INTO events",
        "WITH pick AS MATERIALIZED",
        "LEFT JOIN records r ON r.key = ANY (keys)",
        "FROM due d WHERE d.task = ANY (tasks)",
        "FROM lists l WHERE l.list = of_list ORDER BY l.sort LIMIT most",
        "FROM lists l WHERE l.list = of_list AND l.sort > behind",
        "FROM lists l WHERE l.list = of_list ORDER BY l.sort DESC",
        "FROM lists l WHERE l.list = of_list AND l.sort < behind",
        "LEFT JOIN records r ON r.name = of_name",
        "WHERE e.seq > behind ORDER BY e.seq LIMIT most",
        "WHERE e.seq > behind AND e.dependency = of_dependency",
        "WHERE e.seq > behind AND e.project = of_project",
        "actual rows=",
    ] {
        assert!(plans.contains(part), "not explained: {part}");
    }
    // A way that is switched off is dear to the planner, and dear plans are compiled to machine code each time.
    let compiled = plans.split("LOG:  duration").find(|p| p.contains("JIT:"));
    assert_eq!(compiled, None, "round {round}");
    let bad: Vec<_> = plans.split("LOG:  duration").filter(|p| p.lines().any(is_too_much)).collect();
    assert!(bad.is_empty(), "round {round}: {}", bad.join("\n"));
}

#[test]
fn a_plan_that_reads_too_much_is_seen() {
    for bad in [
        "\t->  Seq Scan on records r  (cost=0.00..1.01 rows=1 width=1) (actual rows=1 loops=1)",
        "\t  ->  Index Scan using due_by_time on due d  (cost=0.00..1 rows=1 width=1) (actual rows=9999 loops=1)",
        "\t  ->  Index Scan using due_by_time on due d  (cost=0.00..1 rows=1 width=1) (actual rows=20 loops=50)",
        "\t        Rows Removed by Filter: 19999",
        "\t        Rows Removed by Join Filter: 301",
    ] {
        assert!(is_too_much(bad), "{bad}");
    }
    for good in [
        "\t->  Seq Scan on meta m  (cost=0.00..1.01 rows=1 width=1) (actual rows=1 loops=1)",
        "\t  ->  Index Scan using due_by_time on due d  (cost=0.00..1 rows=99999 width=1) (actual rows=6 loops=1)",
        "\t  ->  Index Scan using due_by_time on due d  (cost=0.00..1 rows=99999 width=1) (never executed)",
        "\t        Rows Removed by Filter: 3",
    ] {
        assert!(!is_too_much(good), "{good}");
    }
}

#[tokio::test]
async fn plans_made_on_empty_tables_stay_good_when_they_are_full() {
    let Some(base) = cluster().map(Base::of) else { return };
    let store = explained(&base).await;
    // The server plans for good when a statement comes again.
    for round in 0..7 {
        calls(&store, round).await;
    }
    fill(&base).await;
    keeps(&base, &store, 10).await;
}

#[tokio::test]
async fn plans_are_good_with_and_without_statistics() {
    let Some(base) = cluster().map(Base::of) else { return };
    fill_of_new(&base).await;
    let store = explained(&base).await;
    for round in 0..3 {
        keeps(&base, &store, round).await;
    }
    base.sql("ANALYZE");
    keeps(&base, &store, 10).await;
    keeps(&base, &explained(&base).await, 11).await;
    // Statistics of tables that were empty, or nearly so.
    base.sql(
        "DELETE FROM pg_statistic; UPDATE pg_class SET reltuples = 1, relpages = 1 \
         WHERE relnamespace = 'capomastro'::regnamespace AND relkind IN ('r', 'i')",
    );
    keeps(&base, &explained(&base).await, 12).await;
}

async fn fill_of_new(base: &Base) {
    drop(base.store().await);
    fill(base).await;
}
