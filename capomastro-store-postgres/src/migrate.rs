//! The schema and its numbers.

use crate::{calls::Failure, error, read::statement};
use capomastro_core::{Error, ErrorKind, Result, Retry};
use std::collections::BTreeMap;
use tokio_postgres::{Client, GenericClient, IsolationLevel, Transaction, types::Type};

/// What makes each version of the schema out of the one before; see `migrations/NOTES.md`.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_first.sql"),
    include_str!("../migrations/0002_commit.sql"),
    include_str!("../migrations/0003_claims.sql"),
    include_str!("../migrations/0004_reads.sql"),
    include_str!("../migrations/0005_moves.sql"),
];

/// The version of the schema that this library writes.
pub(crate) const SCHEMA: i64 = MIGRATIONS.len() as i64;

/// The oldest server that has what is used (`xid8`, functions in SQL of today).
const OLDEST_SERVER: i32 = 140_000;

/// What was found in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// For people.
    pub(crate) server_version: String,
    /// The id of this installation of the store.
    pub(crate) installation: String,
}

/// What a schema says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Meta {
    schema: i64,
    /// The oldest version of the library's schema that can still work on it.
    oldest: i64,
    installation: String,
}

/// What a process may do to a schema.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum May {
    /// Make and change it.
    Migrate,
    /// Use it as it is.
    Look,
}

/// What a store is opened for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Schedulers.
    Use,
    /// Moving everything out of it.
    MoveFrom,
    /// Moving everything into it.
    MoveTo,
}

/// What is to be done with a schema.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Judgement {
    /// These and later migrations are to run.
    Migrate(i64),
    /// It can be worked on.
    Good,
}

/// Refuses a schema that a newer version of the library has changed so that this one cannot go on.
///
/// # Errors
/// [`NewerFormat`](ErrorKind::NewerFormat).
pub(crate) fn check(schema: i64, oldest: i64) -> Result<()> {
    judge(schema, oldest).map(|_| ())
}

/// What is to be done with a schema of these versions.
///
/// # Errors
/// [`NewerFormat`](ErrorKind::NewerFormat).
fn judge(schema: i64, oldest: i64) -> Result<Judgement> {
    if oldest > SCHEMA {
        return Err(Error::new(
            ErrorKind::NewerFormat,
            "the store was changed by a newer version of the library so that this one cannot work on it: upgrade this process",
        )
        .with_context("schema", schema)
        .with_context("known", SCHEMA));
    }
    Ok(if schema < SCHEMA { Judgement::Migrate(schema + 1) } else { Judgement::Good })
}

/// Brings a schema to this version, or says why not. Several processes may do so at once: the later ones find the work done.
pub(crate) async fn prepare(client: &mut Client, schema: &str, may: May, purpose: Purpose) -> Result<Found> {
    prepared(client, schema, may, purpose).await.map_err(|f| match f {
        Failure::Refused(e) => e,
        Failure::Failed(e) if e.code().is_some_and(|c| matches!(c.code(), "42P07" | "42723" | "42710")) => Error::config(
            "the schema has tables or functions of another program, or only a part of the store's: give the store a schema of its own, or restore a backup",
        )
        .with_context("schema", schema)
        .with_source(e),
        Failure::Failed(e) => error::error(e).with_context("schema", schema),
    })
}

async fn prepared(client: &mut Client, schema: &str, may: May, purpose: Purpose) -> Result<Found, Failure> {
    let server = client
        .query_typed_one(
            "SELECT current_setting('server_version_num')::integer, current_setting('server_version'), \
             pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean, \
             current_setting('server_encoding')",
            &[],
        )
        .await?;
    let (number, server_version): (i32, String) = (server.try_get(0)?, server.try_get(1)?);
    if number < OLDEST_SERVER {
        return Err(Error::config("the server is too old: PostgreSQL 14 or later is needed")
            .with_context("server_version", server_version)
            .into());
    }
    if server.try_get(2)? {
        return Err(Error::new(
            ErrorKind::ReadOnly,
            "the database can only be read: connect to the primary server (target_session_attrs=read-write), and check default_transaction_read_only",
        )
        .into());
    }
    let encoding: String = server.try_get(3)?;
    if encoding != "UTF8" {
        return Err(Error::config(
            "the database cannot keep every text: create it with the encoding UTF8 (CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8')",
        )
        .with_context("encoding", encoding)
        .into());
    }
    let mut meta = look(client, schema).await?;
    let judged = meta.as_ref().map_or(Ok(Judgement::Migrate(1)), |m| judge(m.schema, m.oldest))?;
    if let Judgement::Migrate(_) = judged {
        if meta.is_none() && purpose == Purpose::MoveFrom {
            return Err(Error::config("there is no store in this schema: give the one that is to be moved")
                .with_context("schema", schema)
                .into());
        }
        if may == May::Look {
            return Err(Error::config(
                "the schema of the store is missing or older than this version of the library, and this process may not change it: open the store once with a user who may",
            )
            .with_context("schema", schema)
            .into());
        }
        migrate(client, schema).await?;
        meta = look(client, schema).await?;
    }
    let meta = meta.ok_or_else(|| {
        Error::internal("the schema of the store is not there after its migration: report this")
    })?;
    complete(client, schema).await?;
    mend_event_base(client, schema).await?;
    if purpose == Purpose::Use {
        client.query_typed(&statement(schema, "SELECT @.usable_1()::text"), &[]).await?;
    }
    Ok(Found { server_version, installation: meta.installation })
}

/// What the schema says of itself; `None` if there is none.
async fn look(client: &(impl GenericClient + Sync), schema: &str) -> Result<Option<Meta>, Failure> {
    let there: bool = client
        .query_typed_one("SELECT to_regclass($1) IS NOT NULL", &[(&format!("\"{schema}\".meta"), Type::TEXT)])
        .await?
        .try_get(0)?;
    if !there {
        return Ok(None);
    }
    let rows = client.query_typed(&statement(schema, "SELECT name, value FROM @.meta"), &[]).await?;
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    for row in rows {
        values.insert(row.try_get(0)?, row.try_get(1)?);
    }
    let number = |name: &str| values.get(name).and_then(|v| v.parse::<i64>().ok());
    // There is no base before the first migration.
    let based = number("schema") == Some(0) || number("event_base").is_some();
    match (number("schema"), number("oldest"), values.get("installation")) {
        (Some(version), Some(oldest), Some(installation)) if based => {
            Ok(Some(Meta { schema: version, oldest, installation: installation.clone() }))
        }
        _ => Err(half(schema, "meta").into()),
    }
}

fn half(schema: &str, missing: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "a part of the store's schema is missing or was changed: restore a backup, and check that no other program changes the schema",
    )
    .with_context("schema", schema)
    .with_context("part", missing)
}

/// A transaction that sees what others did while it waited for them, whatever the database's own choice is.
async fn begin(client: &mut Client) -> Result<Transaction<'_>, tokio_postgres::Error> {
    client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await
}

/// The advisory lock under which a schema is changed; held until the transaction ends, so that it works behind a pooler.
async fn lock(tx: &Transaction<'_>, schema: &str) -> Result<(), Failure> {
    tx.batch_execute("SET LOCAL lock_timeout = '8s'").await?;
    tx.query_typed(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 4341505))::text",
        &[(&schema, Type::TEXT)],
    )
    .await?;
    Ok(())
}

async fn migrate(client: &mut Client, schema: &str) -> Result<(), Failure> {
    let tx = begin(client).await?;
    lock(&tx, schema).await?;
    // What is there already is not made again: who has no right to make schemas may use one that was made for them.
    let made: bool = tx
        .query_typed_one("SELECT to_regnamespace($1) IS NOT NULL", &[(&format!("\"{schema}\""), Type::TEXT)])
        .await?
        .try_get(0)?;
    if !made {
        tx.batch_execute(&format!("CREATE SCHEMA \"{schema}\"")).await?;
    }
    tx.batch_execute(&format!("SET LOCAL search_path = \"{schema}\", pg_temp")).await?;
    let from = match look(&tx, schema).await? {
        Some(meta) => judge(meta.schema, meta.oldest)?,
        None => {
            tx.batch_execute(
                "CREATE TABLE meta (name text NOT NULL PRIMARY KEY, value text NOT NULL); \
                 CREATE TABLE migrations (version bigint NOT NULL PRIMARY KEY, digest text NOT NULL, \
                   at timestamptz NOT NULL DEFAULT clock_timestamp()); \
                 INSERT INTO meta (name, value) VALUES \
                   ('schema', '0'), ('oldest', '1'), ('installation', gen_random_uuid()::text)",
            )
            .await?;
            Judgement::Migrate(1)
        }
    };
    if let Judgement::Migrate(from) = from {
        for (version, sql) in (1_i64..).zip(MIGRATIONS).filter(|(version, _)| *version >= from) {
            tx.batch_execute(sql).await?;
            tx.query_typed(
                "INSERT INTO migrations (version, digest) VALUES ($1, encode(sha256(convert_to($2, 'UTF8')), 'hex'))",
                &[(&version, Type::INT8), (sql, Type::TEXT)],
            )
            .await?;
            tracing::info!(schema, version, "the store's schema was brought to a new version");
        }
        tx.query_typed(
            "UPDATE meta SET value = $1 WHERE name = 'schema'",
            &[(&SCHEMA.to_string(), Type::TEXT)],
        )
        .await?;
    }
    tx.commit().await?;
    Ok(())
}

/// All parts of the schema are there, and made by the migrations that this library knows.
async fn complete(client: &Client, schema: &str) -> Result<(), Failure> {
    let missing = client
        .query_typed(
            "SELECT part FROM unnest($2::text[]) part WHERE to_regclass(format('%I.%I', $1::text, part)) IS NULL \
             UNION ALL \
             SELECT part FROM unnest($3::text[]) part WHERE NOT EXISTS ( \
               SELECT 1 FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
               WHERE n.nspname = $1 AND p.proname = part)",
            &[(&schema, Type::TEXT), (&RELATIONS.as_slice(), Type::TEXT_ARRAY), (&FUNCTIONS.as_slice(), Type::TEXT_ARRAY)],
        )
        .await?;
    if let Some(row) = missing.first() {
        return Err(half(schema, row.try_get::<_, String>(0)?).into());
    }
    let versions: Vec<i64> = (1..=SCHEMA).collect();
    let other = client
        .query_typed(
            &statement(
                schema,
                "SELECT k.version FROM unnest($1::bigint[], $2::text[]) k(version, sql) \
                 LEFT JOIN @.migrations m ON m.version = k.version \
                   AND m.digest = encode(sha256(convert_to(k.sql, 'UTF8')), 'hex') \
                 WHERE m.version IS NULL ORDER BY 1",
            ),
            &[(&versions, Type::INT8_ARRAY), (&MIGRATIONS, Type::TEXT_ARRAY)],
        )
        .await?;
    match other.first() {
        Some(row) => Err(half(schema, format_args!("migration {}", row.try_get::<_, i64>(0)?)).into()),
        None => Ok(()),
    }
}

const RELATIONS: [&str; 20] = [
    "moves",
    "moves_pkey",
    "counter",
    "records",
    "records_pkey",
    "records_by_name",
    "lists",
    "lists_pkey",
    "due",
    "due_pkey",
    "due_by_time",
    "events",
    "events_pkey",
    "events_by_time",
    "events_by_dependency",
    "events_by_project",
    "commits",
    "commits_pkey",
    "commits_by_time",
    "migrations",
];

const FUNCTIONS: [&str; 15] = [
    "now_1",
    "later_1",
    "usable_1",
    "released_1",
    "commit_1",
    "claim_1",
    "put_back_1",
    "get_1",
    "list_1",
    "by_name_1",
    "events_1",
    "begin_move_1",
    "finish_move_1",
    "retire_1",
    "reinstate_1",
];

/// Numbers of events follow those of transactions. After a restore into another server these are lower, and so the base to
/// which they are added is raised.
async fn mend_event_base(client: &mut Client, schema: &str) -> Result<(), Failure> {
    let behind = statement(
        schema,
        "SELECT (SELECT max(e.seq) FROM @.events e) >= \
           m.value::bigint + (pg_snapshot_xmax(pg_current_snapshot())::text::bigint << 16) \
         FROM @.meta m WHERE m.name = 'event_base'",
    );
    let is_behind = |row: tokio_postgres::Row| row.try_get::<_, Option<bool>>(0).map(|b| b == Some(true));
    if !is_behind(client.query_typed_one(&behind, &[]).await?)? {
        return Ok(());
    }
    let tx = begin(client).await?;
    lock(&tx, schema).await?;
    if is_behind(tx.query_typed_one(&behind, &[]).await?)? {
        let raise = statement(
            schema,
            "UPDATE @.meta SET value = ((SELECT max(e.seq) FROM @.events e) + 1)::text WHERE name = 'event_base'",
        );
        tx.query_typed(&raise, &[]).await?;
        tracing::warn!(
            schema,
            "the store was restored into another server: its events are numbered on from where they were"
        );
    }
    tx.commit().await?;
    Ok(())
}

/// The error of a store whose schema went away or changed while it was open.
pub(crate) fn changed() -> Error {
    Error::new(ErrorKind::Corrupt, "the store was dropped or replaced while it was open: open it again")
        .with_retry(Retry::Never)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_judged_by_its_versions() {
        assert_eq!(judge(0, 1).unwrap(), Judgement::Migrate(1));
        assert_eq!(judge(SCHEMA - 1, 1).unwrap(), Judgement::Migrate(SCHEMA));
        assert_eq!(judge(SCHEMA, 1).unwrap(), Judgement::Good);
        assert_eq!(judge(SCHEMA + 3, SCHEMA).unwrap(), Judgement::Good);
        let e = judge(SCHEMA + 3, SCHEMA + 1).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NewerFormat);
        assert!(e.message().contains(": "), "says what to do: {e}");
    }
}
