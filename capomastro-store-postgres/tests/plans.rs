//! What the server makes of the statements.

use capomastro_core::model::Policy;
use capomastro_store_postgres::PostgresStore;
use capomastro_testkit::{ControllableLauncher, ManualClock, ScriptedProbe};
use capomastro_tests::{
    Stage,
    postgres::{Cluster, Settings},
};
use std::sync::Arc;

/// Machine code is for statements that read much. The server makes it where it takes a plan to be dear, and plans of which
/// each way is switched off count as that.
#[tokio::test]
async fn no_statement_is_compiled_to_machine_code() {
    let settings = Settings::default()
        .set("shared_preload_libraries", "pg_stat_statements")
        .set("pg_stat_statements.track", "all");
    let Some(cluster) = Cluster::with(settings) else { return };
    let database = cluster.new_database();
    cluster.sql(&database, "CREATE EXTENSION pg_stat_statements");
    let clock = ManualClock::new();
    let store = PostgresStore::builder(cluster.url(&database)).clock(Arc::new(clock.clone())).open();
    let (store, launcher) = (Arc::new(store.await.unwrap()), ControllableLauncher::auto_succeed());
    let stage = Stage::over(store, clock, ScriptedProbe::new(), launcher, |b| b);
    stage.probe.set("a", "r1");
    stage.define("a", &["website"], Policy::default()).await;
    stage.pass(5).await;
    assert_eq!(stage.built("a"), ["r1"]);
    assert_eq!(stage.builds("a").await.len(), 1);
    assert!(!stage.events("a").await.is_empty());
    let made = "SELECT jit_functions, calls, query FROM pg_stat_statements \
                WHERE jit_functions > 0 AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(cluster.sql(&database, made), "");
}
