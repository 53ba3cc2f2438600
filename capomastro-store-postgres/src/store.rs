//! The store: seven methods of the trait, and what only this store can do.

use crate::{
    PostgresStoreBuilder,
    apply::Commit,
    calls::{Call, Calls, Failure},
    claims::{GiveBack, Take},
    error,
    floors::Floors,
    hints::{self, Hints},
    migrate,
    read::{Events, Get, List, OLDER, statement},
};
use async_trait::async_trait;
use capomastro_core::{
    Error, Result,
    model::{EventSeq, HolderId},
    store::{
        Batch, ClaimAsk, Claimed, Committed, EventFilter, EventPage, Key, Page, PutBack, Query, Snapshot,
        StateStore, StoreInfo,
        refusals::{check_lanes, check_limit},
        rows::{encode, encode_put_backs, micros, timestamp},
    },
    time::{Clock, SystemClock},
};
use deadpool_postgres::Pool;
use secrecy::SecretString;
use std::sync::Arc;
use tokio_postgres::{Client, Transaction, types::Type};

/// A state store in a PostgreSQL database. Its connections end when it is dropped.
#[derive(Debug)]
pub struct PostgresStore {
    pub(crate) calls: Calls,
    pub(crate) schema: String,
    pub(crate) clock: Option<Arc<dyn Clock>>,
    pub(crate) installation: String,
    pub(crate) hints: Option<Hints>,
    pub(crate) floors: Arc<Floors>,
}

impl PostgresStore {
    /// Starts to open the store in a database: `postgres://user@host:port/database`, or `host=… user=… dbname=…` as `psql`
    /// takes it. Several hosts may be named; the one that can be written is used.
    pub fn builder(connection: impl Into<SecretString>) -> PostgresStoreBuilder {
        PostgresStoreBuilder::of_text(connection.into())
    }

    /// Starts to open the store over a pool of the embedder's, which it may use for other things too. There are no hints
    /// then, and what the builder says of connections does not count.
    pub fn with_pool(pool: Pool) -> PostgresStoreBuilder {
        PostgresStoreBuilder::of_pool(pool)
    }

    /// The schema in which the tables are.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Takes no more calls; those under way are still answered. Later calls fail with
    /// [`Unavailable`](capomastro_core::ErrorKind::Unavailable). A pool of the embedder's stays open.
    pub fn close(&self) {
        self.calls.close();
    }

    /// Writes a batch in the caller's own transaction on the same database: it is stored if and when that commits, together
    /// with whatever else the transaction writes. Preconditions, answers and errors are those of
    /// [`StateStore::commit`]; on an error the transaction is as it was before and can go on.
    ///
    /// The rows that the batch reads and writes stay locked until the transaction ends, and events that others commit after
    /// it began are shown only then, so keep it short. If the caller's COMMIT fails because the connection ended, it is not
    /// known whether it was written: repeat it with the same batch. No hint is sent; schedulers find the work at their next
    /// look.
    ///
    /// # Errors
    /// Besides those of `commit`: [`InvalidInput`](capomastro_core::ErrorKind::InvalidInput) for a transaction on another
    /// database, and [`Conflict`](capomastro_core::ErrorKind::Conflict) where another transaction was in the way: roll back,
    /// and begin anew.
    ///
    /// *Cancellation*: roll the transaction back if the future was dropped.
    pub async fn commit_in(&self, tx: &Transaction<'_>, batch: &Batch) -> Result<Committed> {
        self.commit_within(tx, batch).await.map_err(|e| {
            e.with_operation("commit in a transaction").with_context("server", self.calls.server())
        })
    }

    async fn commit_within(&self, tx: &Transaction<'_>, batch: &Batch) -> Result<Committed> {
        let same = statement(
            &self.schema,
            "SELECT to_regclass('@.meta') IS NOT NULL AND EXISTS (SELECT 1 FROM pg_class WHERE oid = to_regclass('@.meta'))",
        );
        let there: bool =
            tx.query_typed_one(&same, &[]).await.and_then(|row| row.try_get(0)).map_err(error::error)?;
        let same = statement(&self.schema, "SELECT 1 FROM @.meta WHERE name = 'installation' AND value = $1");
        let ours = there
            && tx
                .query_typed_opt(&same, &[(&self.installation, Type::TEXT)])
                .await
                .map_err(error::error)?
                .is_some();
        if !ours {
            return Err(Error::invalid(
                "the transaction is on another database: connect to the one of this store",
            ));
        }
        tx.batch_execute("SAVEPOINT capomastro_commit").await.map_err(error::error)?;
        let written = match self.coded(batch) {
            Ok(commit) => commit.write(tx).await,
            Err(e) => Err(e.into()),
        };
        let end = if written.is_ok() {
            "RELEASE SAVEPOINT capomastro_commit"
        } else {
            "ROLLBACK TO SAVEPOINT capomastro_commit; RELEASE SAVEPOINT capomastro_commit"
        };
        let ended = tx.batch_execute(end).await.map_err(error::error);
        match written {
            Ok(committed) => ended.map(|()| committed),
            Err(Failure::Refused(e)) => Err(e),
            Err(Failure::Failed(e)) if error::effect(&e) == error::Effect::Race => Err(error::in_the_way(e)),
            Err(Failure::Failed(e)) => Err(error::error(e)),
        }
    }

    fn coded(&self, batch: &Batch) -> Result<Commit> {
        Ok(Commit { schema: self.schema.clone(), given: self.given(), batch: encode(batch)? })
    }

    /// The time, where the database's own is not used.
    fn given(&self) -> Option<i64> {
        self.clock.as_ref().map(|clock| micros(clock.now()))
    }
}

/// Proves that the store can be written.
struct Check {
    schema: String,
    given: Option<i64>,
    installation: String,
}

#[async_trait]
impl Call for Check {
    /// The time, and the server's version.
    type Answer = (i64, String);

    async fn perform(&self, client: &Client) -> Result<(i64, String), Failure> {
        let sql = statement(
            &self.schema,
            "UPDATE @.meta SET value = value WHERE name = 'installation' \
             RETURNING value, @.now_1($1), current_setting('server_version'), \
               (SELECT m.value::bigint FROM @.meta m WHERE m.name = 'schema'), \
               (SELECT m.value::bigint FROM @.meta m WHERE m.name = 'oldest'), @.usable_1()::text",
        );
        let row = client.query_typed_opt(&sql, &[(&self.given, Type::INT8)]).await?;
        let Some(row) = row else { return Err(migrate::changed().into()) };
        if row.try_get::<_, String>(0)? != self.installation {
            return Err(migrate::changed().into());
        }
        migrate::check(row.try_get(3)?, row.try_get(4)?)?;
        Ok((row.try_get(1)?, row.try_get(2)?))
    }
}

#[async_trait]
impl StateStore for PostgresStore {
    async fn check(&self) -> Result<StoreInfo> {
        let check = Check {
            schema: self.schema.clone(),
            given: self.given(),
            installation: self.installation.clone(),
        };
        let (now, version) = self.calls.make("check the PostgreSQL store", check).await?;
        let description = format!("PostgreSQL {version}, {}, schema {}", self.calls.server(), self.schema);
        Ok(StoreInfo { now: timestamp(now)?, description })
    }

    async fn get(&self, keys: &[Key]) -> Result<Snapshot> {
        let get = Get { schema: self.schema.clone(), given: self.given(), keys: keys.to_vec() };
        self.calls.make("read records", get).await
    }

    async fn list(&self, query: &Query, after: Option<&str>, limit: usize) -> Result<Page> {
        let list = List {
            schema: self.schema.clone(),
            given: self.given(),
            query: query.clone(),
            after: after.map(ToOwned::to_owned),
            limit: check_limit(limit)?,
        };
        self.calls.make("list records", list).await
    }

    async fn events(&self, filter: EventFilter, after: EventSeq, limit: usize) -> Result<EventPage> {
        let events = Events { schema: self.schema.clone(), filter, after, limit: check_limit(limit)? };
        let (mut waits, mut wanted) = (OLDER.into_iter(), None);
        loop {
            let (page, newest) = self.calls.make("read events", events.clone()).await?;
            // What comes while it waits is for the next page.
            if *wanted.get_or_insert(newest) <= page.upto || page.items.len() == limit {
                return Ok(page);
            }
            // What came after a long transaction began is held back by it.
            let Some(wait) = waits.next() else { return Ok(page) };
            SystemClock.sleep(wait).await;
        }
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed> {
        let commit = match self.coded(batch) {
            Ok(commit) => commit,
            // What was committed before is answered whatever the batch says now.
            Err(e) => {
                let before = Repeated { schema: self.schema.clone(), id: batch.id.to_string() };
                let before = self.calls.make("commit", before).await?;
                return before.ok_or_else(|| e.with_operation("commit"));
            }
        };
        let committed = self.calls.make("commit", commit).await?;
        if let Some(hints) = self.hints.as_ref().filter(|_| !committed.repeated && hints::is_worth(batch)) {
            hints.send();
        }
        Ok(committed)
    }

    async fn claim_due(&self, ask: &ClaimAsk) -> Result<Claimed> {
        check_lanes(ask).map_err(|e| e.with_operation("claim due work"))?;
        let take = Take {
            schema: self.schema.clone(),
            given: self.given(),
            ask: ask.clone(),
            floors: Arc::clone(&self.floors),
            now: self.clock.as_ref().map_or_else(|| SystemClock.monotonic(), |clock| clock.monotonic()),
        };
        self.calls.make("claim due work", take).await
    }

    async fn put_back(&self, holder: &HolderId, items: &[PutBack]) -> Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        let back = GiveBack {
            schema: self.schema.clone(),
            given: self.given(),
            holder: holder.clone(),
            items: encode_put_backs(items).map_err(|e| e.with_operation("put claims back"))?,
        };
        self.calls.make("put claims back", back).await
    }
}

#[async_trait]
impl capomastro_core::store::Hints for PostgresStore {
    async fn after(&self, seen: u64) -> u64 {
        match &self.hints {
            Some(hints) => hints.after(seen).await,
            None => std::future::pending().await,
        }
    }
}

/// Whether a batch was committed before.
struct Repeated {
    schema: String,
    id: String,
}

#[async_trait]
impl Call for Repeated {
    type Answer = Option<Committed>;

    async fn perform(&self, client: &Client) -> Result<Option<Committed>, Failure> {
        let sql = statement(&self.schema, "SELECT at FROM @.commits WHERE id = $1");
        let row = client.query_typed_opt(&sql, &[(&self.id, Type::TEXT)]).await?;
        Ok(match row {
            Some(row) => {
                let at = timestamp(row.try_get(0)?)?;
                Some(Committed { at, repeated: true, claims: Vec::new(), forgotten: 0 })
            }
            None => None,
        })
    }
}
