//! The schema: many that make it at once, halves of it, newer ones, and those of other programs.

use crate::samples::{
    Base, SOON, batch, context, due, holder, limit, limit_key, number, open, project, put, says_what_to_do,
    within,
};
use capomastro_core::{
    Error, ErrorKind, Result, Retry,
    events::{Event, EventKind},
    model::ProjectId,
    store::{ClaimAsk, DueChange, EventFilter, Lane, LaneAsk, ListKey, PutBack, Query, StateStore, Task},
};
use capomastro_store_postgres::PostgresStore;
use std::time::Duration;

async fn try_open(base: &Base) -> Result<PostgresStore> {
    within(SOON, PostgresStore::builder(base.url()).hints(false).open()).await
}

/// Everything that a store does, once; the error of the first that fails.
pub(crate) async fn works(store: &PostgresStore) -> Result<()> {
    store.check().await?;
    let name = format!("a{}", store.get(&[]).await?.at.timestamp_micros());
    store.commit(&put(limit(&name, 1), None)).await?;
    let (_, version) = number(store, &name).await?.expect("it was written");
    let mut batch = put(limit(&name, 2), Some(version));
    batch.puts.extend(put(project(&name), None).puts);
    let about = ProjectId::from_uuid(uuid::Uuid::nil());
    batch.events.push(Event::of_project(about, EventKind::Resumed));
    batch.guards.push((limit_key("absent"), None));
    assert!(!store.commit(&batch).await?.repeated);
    assert!(store.commit(&batch).await?.repeated);
    let list = Query::List { list: ListKey::projects(), backwards: false };
    assert!(!store.list(&list, None, 100).await?.items.is_empty());
    store.events(EventFilter::All, 0, 100).await?;
    store.commit(&due(Task::Sweep, Lane::House, Duration::ZERO)).await?;
    let lanes = vec![LaneAsk { lane: Lane::House, limit: 1, lease: Duration::from_secs(60) }];
    let mut claims = store.claim_due(&ClaimAsk { lanes, holder: holder("test") }).await?.claims;
    let claim = claims.pop().expect("it is due");
    let note = claim.note.clone();
    store.put_back(&holder("test"), &[PutBack { claim, after: Duration::ZERO, note }]).await?;
    let mut end = self::batch();
    end.due.push(DueChange::Drop { task: Task::Sweep });
    let (_, version) = number(store, &name).await?.expect("it is there");
    end.deletes.push((limit_key(&name), version));
    store.commit(&end).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_start_at_once_make_one_schema() {
    for isolation in ["read committed", "repeatable read", "serializable"] {
        for many in [2, 8] {
            let Some(base) = Base::new() else { return };
            let name = &base.name;
            base.sql(&format!("ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'"));
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..many {
                let url = base.url();
                tasks.spawn(async move { open(&url).await.check().await });
            }
            while let Some(opened) = within(SOON, tasks.join_next()).await {
                opened.unwrap().unwrap();
            }
            assert_eq!(
                base.sql("SELECT string_agg(version::text, ' ' ORDER BY version) FROM capomastro.migrations"),
                "1 2 3 4 5"
            );
            let found = "SELECT value FROM capomastro.meta WHERE name = 'installation'";
            let installation = base.sql(found);
            works(&open(&base.url()).await).await.unwrap();
            assert_eq!(base.sql(found), installation);
        }
    }
}

#[tokio::test]
async fn a_half_of_a_schema_is_told_with_the_part_that_is_missing() {
    for (broken, kind, part) in [
        ("DROP TABLE {s}.meta", ErrorKind::InvalidConfig, "migrations"),
        ("DELETE FROM {s}.meta WHERE name = 'installation'", ErrorKind::Corrupt, "meta"),
        ("DELETE FROM {s}.meta WHERE name = 'event_base'", ErrorKind::Corrupt, "meta"),
        ("UPDATE {s}.meta SET value = 'x' WHERE name = 'schema'", ErrorKind::Corrupt, "meta"),
        ("UPDATE {s}.meta SET value = 'x' WHERE name = 'event_base'", ErrorKind::Corrupt, "meta"),
        ("DROP TABLE {s}.lists", ErrorKind::Corrupt, "lists"),
        ("DROP TABLE {s}.migrations", ErrorKind::Corrupt, "migrations"),
        ("DROP SEQUENCE {s}.counter", ErrorKind::Corrupt, "counter"),
        ("DROP INDEX {s}.due_by_time", ErrorKind::Corrupt, "due_by_time"),
        ("ALTER TABLE {s}.records DROP COLUMN name", ErrorKind::Corrupt, "records_by_name"),
        ("ALTER TABLE {s}.records DROP CONSTRAINT records_pkey", ErrorKind::Corrupt, "records_pkey"),
        ("DROP FUNCTION {s}.commit_1", ErrorKind::Corrupt, "commit_1"),
        ("DROP FUNCTION {s}.claim_1; DROP FUNCTION {s}.put_back_1", ErrorKind::Corrupt, "claim_1"),
        ("UPDATE {s}.migrations SET digest = 'x' WHERE version = 2", ErrorKind::Corrupt, "migration 2"),
        ("DELETE FROM {s}.migrations WHERE version = 3", ErrorKind::Corrupt, "migration 3"),
    ] {
        let Some(base) = Base::new() else { return };
        drop(base.store().await);
        base.sql(&broken.replace("{s}", "capomastro"));
        for _ in 0..2 {
            let e = try_open(&base).await.expect_err(broken);
            assert_eq!((e.kind(), e.retry()), (kind, Retry::Never), "{broken}: {e:?}");
            says_what_to_do(&e);
            assert_eq!(context(&e, "schema"), Some("capomastro"), "{broken}");
            assert!(
                context(&e, "part") == Some(part) || e.report().contains(part),
                "{broken}: {}",
                e.report()
            );
        }
    }
}

#[tokio::test]
async fn a_part_that_goes_while_the_store_is_open_is_told() {
    let Some(base) = Base::new() else { return };
    for (broken, kinds) in [
        ("ALTER FUNCTION capomastro.commit_1 RENAME TO commit_0", [ErrorKind::Corrupt; 2]),
        ("ALTER TABLE capomastro.records RENAME TO records_0", [ErrorKind::Corrupt; 2]),
        ("DROP SCHEMA capomastro CASCADE", [ErrorKind::InvalidConfig, ErrorKind::Corrupt]),
    ] {
        let store = base.store().await;
        works(&store).await.unwrap();
        base.sql(broken);
        let e = within(SOON, works(&store)).await.expect_err(broken);
        assert!(kinds.contains(&e.kind()), "{broken}: {e:?}");
        assert_eq!(e.retry(), Retry::Never, "{e:?}");
        says_what_to_do(&e);
        base.sql("DROP SCHEMA IF EXISTS capomastro CASCADE");
    }
    // Dropped and made anew by somebody else: it is not the store that was opened.
    let store = base.store().await;
    base.sql("DROP SCHEMA capomastro CASCADE");
    let _other = base.store().await;
    let e = store.check().await.unwrap_err();
    assert_eq!((e.kind(), e.retry()), (ErrorKind::Corrupt, Retry::Never), "{e:?}");
    says_what_to_do(&e);
}

/// What a later version of the library may do to a schema: add.
const LATER: &str = "
    ALTER TABLE capomastro.records ADD COLUMN extra text NOT NULL DEFAULT 'x';
    ALTER TABLE capomastro.lists ADD COLUMN extra text NOT NULL DEFAULT 'x';
    ALTER TABLE capomastro.due ADD COLUMN extra bigint NOT NULL DEFAULT 7;
    ALTER TABLE capomastro.events ADD COLUMN extra text;
    ALTER TABLE capomastro.commits ADD COLUMN extra text;
    CREATE TABLE capomastro.more (id bigint PRIMARY KEY);
    CREATE INDEX later ON capomastro.due (extra);
    CREATE FUNCTION capomastro.commit_2(a bigint) RETURNS bigint LANGUAGE sql AS 'SELECT a';
    INSERT INTO capomastro.migrations (version, digest) VALUES (99, 'later');
    UPDATE capomastro.meta SET value = '99' WHERE name = 'schema';
    INSERT INTO capomastro.meta (name, value) VALUES ('later', 'x')";

#[tokio::test]
async fn a_newer_schema_that_only_adds_is_worked_on() {
    let Some(base) = Base::new() else { return };
    let running = base.store().await;
    works(&running).await.unwrap();
    base.sql(LATER);
    for _ in 0..2 {
        works(&running).await.unwrap();
        works(&base.store().await).await.unwrap();
    }
    assert_eq!(base.sql("SELECT value FROM capomastro.meta WHERE name = 'schema'"), "99", "it stays newer");
}

/// What a later version does when older ones cannot go on, as `migrations/NOTES.md` has it.
const TOO_LATE: &str = r"
    UPDATE capomastro.meta SET value = '99' WHERE name IN ('schema', 'oldest');
    DO $do$
    DECLARE f record;
    BEGIN
        FOR f IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'capomastro'::regnamespace AND p.proname <> 'later_1' LOOP
            EXECUTE regexp_replace(
                replace(pg_get_functiondef(f.oid), 'LANGUAGE sql', 'LANGUAGE plpgsql'), 'AS \$function\$.*\$function\$',
                $new$AS $function$ BEGIN RAISE EXCEPTION 'a newer version' USING ERRCODE = 'CM003'; END $function$ $new$);
        END LOOP;
    END $do$";

#[tokio::test]
async fn a_newer_schema_that_ends_older_versions_is_left_alone() {
    let Some(base) = Base::new() else { return };
    let running = base.store().await;
    works(&running).await.unwrap();
    let before = base.sql("SELECT count(*) FROM capomastro.records");
    base.sql(&format!("{LATER}; {TOO_LATE}"));
    let is_newer = |e: Error| {
        assert_eq!((e.kind(), e.retry()), (ErrorKind::NewerFormat, Retry::Never), "{e:?}");
        says_what_to_do(&e);
    };
    is_newer(try_open(&base).await.unwrap_err());
    is_newer(PostgresStore::builder(base.url()).migrate(false).open().await.unwrap_err());
    is_newer(running.check().await.unwrap_err());
    is_newer(running.commit(&put(limit("b", 1), None)).await.unwrap_err());
    is_newer(running.get(&[limit_key("b")]).await.unwrap_err());
    let list = Query::List { list: ListKey::projects(), backwards: false };
    is_newer(running.list(&list, None, 1).await.unwrap_err());
    let lanes = vec![LaneAsk { lane: Lane::House, limit: 1, lease: Duration::from_secs(1) }];
    is_newer(running.claim_due(&ClaimAsk { lanes, holder: holder("test") }).await.unwrap_err());
    let mut client = base.connect().await;
    let tx = client.transaction().await.unwrap();
    is_newer(running.commit_in(&tx, &batch()).await.unwrap_err());
    drop(tx);
    assert_eq!(base.sql("SELECT count(*) FROM capomastro.records"), before);
}

#[tokio::test]
async fn a_schema_of_another_program_is_left_alone() {
    for theirs in [
        "CREATE TABLE {s}.records (id bigint)",
        "CREATE TABLE {s}.events (id bigint)",
        "CREATE VIEW {s}.due AS SELECT 1 AS one",
        "CREATE TABLE {s}.meta (id bigint)",
        "CREATE TABLE {s}.meta (name text, value text); INSERT INTO {s}.meta VALUES ('schema', '3')",
        "CREATE FUNCTION {s}.later_1(at bigint, after bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'",
        "CREATE TYPE {s}.records AS (a bigint)",
    ] {
        let Some(base) = Base::new() else { return };
        base.sql(&format!("CREATE SCHEMA capomastro; {}", theirs.replace("{s}", "capomastro")));
        let count = "SELECT count(*) FROM pg_class WHERE relnamespace = 'capomastro'::regnamespace";
        let before = base.sql(count);
        let e = try_open(&base).await.expect_err(theirs);
        assert!(matches!(e.kind(), ErrorKind::InvalidConfig | ErrorKind::Corrupt), "{theirs}: {e:?}");
        assert_eq!(e.retry(), Retry::Never, "{theirs}: {e:?}");
        says_what_to_do(&e);
        assert_eq!(base.sql(count), before, "{theirs}: nothing is added");
        // In a schema of its own there is room.
        let store = PostgresStore::builder(base.url()).schema("own").hints(false).open().await.unwrap();
        works(&store).await.unwrap();
    }
}

#[tokio::test]
async fn a_process_that_may_not_migrate_says_so() {
    let Some(base) = Base::new() else { return };
    let closed = || PostgresStore::builder(base.url()).hints(false).migrate(false).open();
    let e = closed().await.unwrap_err();
    assert_eq!((e.kind(), e.retry()), (ErrorKind::InvalidConfig, Retry::Never), "{e:?}");
    says_what_to_do(&e);
    assert_eq!(base.sql("SELECT to_regnamespace('capomastro')"), "", "nothing is made");
    drop(base.store().await);
    works(&closed().await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_migration_that_was_interrupted_is_made_anew() {
    let Some(base) = Base::new() else { return };
    // Somebody holds what the migration needs; it is dropped in the middle of it.
    let mut other = base.connect().await;
    let tx = other.transaction().await.unwrap();
    tx.batch_execute("CREATE SCHEMA capomastro").await.unwrap();
    let opening = {
        let url = base.url();
        tokio::spawn(async move { PostgresStore::builder(url).hints(false).open().await })
    };
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN \
                 (SELECT pid FROM pg_stat_activity WHERE datname = current_database())";
    crate::samples::eventually(SOON, async || base.sql(waits) == "1").await;
    opening.abort();
    opening.await.unwrap_err();
    tx.rollback().await.unwrap();
    works(&base.store().await).await.unwrap();
}
