//! Moves an installation from a SQLite file to a PostgreSQL database: offline, compared by counts and digests.
//!
//! `cargo run --example move-store -- capomastro.sqlite3 postgres://user@host/database` moves yours: stop every scheduler
//! first, and repeat the command if it was interrupted. Without arguments it moves a small installation into a private server
//! of the PostgreSQL that is installed.

use capomastro_core::{
    Error, Result, Scheduler,
    store::transfer::{Afterwards, TransferReport, transfer},
};
use capomastro_store_postgres::PostgresStore;
use capomastro_store_sqlite::SqliteStore;
use capomastro_tests::postgres::Cluster;
use std::path::Path;

// --- the move
async fn move_store(file: &Path, database: &str) -> Result<TransferReport> {
    let source = SqliteStore::builder(file).open_source()?;
    let target = PostgresStore::builder(database).open_target().await?;
    let report = transfer(&source, &target, Afterwards::RetireSource).await;
    source.close().await;
    report
}
// --- end

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [file, database] = arguments.as_slice() {
        println!("{}", move_store(Path::new(file), database).await?);
        return Ok(());
    }
    let folder = tempfile::tempdir().map_err(Error::transient)?;
    let file = folder.path().join("capomastro.sqlite3");
    let Some(server) = Cluster::start() else {
        println!("Name a SQLite file and a PostgreSQL database, or install PostgreSQL.");
        return Ok(());
    };
    let database = server.create_database();
    let store = SqliteStore::builder(&file).open()?;
    let old = Scheduler::builder(std::sync::Arc::new(store)).build()?;
    for project in ["website", "tools"] {
        old.ensure_project(project).await?;
    }
    drop(old);
    println!("{}", move_store(&file, &database).await?);

    let new = Scheduler::builder(PostgresStore::builder(database).open().await?).build()?;
    let (projects, _) = new.projects(None, 10).await?;
    println!(
        "the new store has {}",
        projects.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(" and ")
    );
    match SqliteStore::builder(&file).open() {
        Err(closed) => println!("the old one says: {}", closed.message()),
        Ok(_) => return Err(Error::internal("the old store should be closed")),
    }
    Ok(())
}
