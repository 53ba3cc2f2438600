//! How a store is opened.

use crate::{
    PostgresStore, PostgresTransfer,
    calls::{Calls, leave_transaction},
    connect::{Connect, Way, pool_error},
    error,
    hints::Hints,
    migrate::{self, May, Purpose},
};
use capomastro_core::{
    Error, Result,
    time::{Clock, Random, SystemClock, SystemRandom},
};
use deadpool_postgres::Pool;
use futures_util::future::{Either, select};
use secrecy::SecretString;
use std::{path::PathBuf, pin::pin, sync::Arc, time::Duration};
use tokio::runtime::Handle;

/// Where the connections come from.
#[derive(Debug)]
enum Source {
    Text(SecretString),
    Pool(Pool),
}

/// Opens a [`PostgresStore`]; made by [`PostgresStore::builder`] or [`PostgresStore::with_pool`].
#[derive(Debug)]
#[must_use = "nothing is opened before `open`"]
pub struct PostgresStoreBuilder {
    source: Source,
    password: Option<SecretString>,
    roots: Option<PathBuf>,
    schema: String,
    connections: usize,
    deadline: Duration,
    behind_pooler: bool,
    hints: bool,
    migrate: bool,
    clock: Option<Arc<dyn Clock>>,
    runtime: Option<Handle>,
}

impl PostgresStoreBuilder {
    pub(crate) fn of_text(text: SecretString) -> Self {
        Self::new(Source::Text(text))
    }

    pub(crate) fn of_pool(pool: Pool) -> Self {
        Self::new(Source::Pool(pool))
    }

    fn new(source: Source) -> Self {
        Self {
            source,
            password: None,
            roots: None,
            schema: "capomastro".into(),
            connections: 8,
            deadline: Duration::from_secs(10),
            behind_pooler: false,
            hints: true,
            migrate: true,
            clock: None,
            runtime: None,
        }
    }

    /// The password, where it does not stand in the connection string.
    pub fn password(mut self, password: impl Into<SecretString>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// A PEM file with the root certificates that the server's certificate is verified with; those of the system unless
    /// given, here or as `sslrootcert`.
    ///
    /// TLS is spoken with every host but this one, and always with the certificate verified for the host's name, unless the
    /// connection string says `sslmode=disable`. `sslmode=verify-full` asks for it on this host too.
    pub fn root_certificates(mut self, pem: impl Into<PathBuf>) -> Self {
        self.roots = Some(pem.into());
        self
    }

    /// The schema in which the tables are; `capomastro` unless given. At most 40 lower-case letters, digits and `_`. One
    /// database may have several stores, in a schema each.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// How many connections are made at the most, besides one for hints: 1 to 100, else the nearest; 8 unless given.
    /// They are made when they are needed.
    pub fn connections(mut self, most: usize) -> Self {
        self.connections = most.clamp(1, 100);
        self
    }

    /// How long a call may take in all, with waiting for a connection and trying again: 100 milliseconds to a minute, else
    /// the nearest; 10 seconds unless given. Less than the claims of schedulers last.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline.clamp(Duration::from_millis(100), Duration::from_secs(60));
        self
    }

    /// That a pooler such as `pgbouncer` in transaction mode stands before the database: no session settings are sent, and
    /// there are no [hints](capomastro_core::store::Hints), since nothing can listen through it.
    pub fn behind_pooler(mut self, behind: bool) -> Self {
        self.behind_pooler = behind;
        self
    }

    /// Whether hints are sent and heard; they are unless said otherwise. They need one connection more.
    pub fn hints(mut self, hints: bool) -> Self {
        self.hints = hints;
        self
    }

    /// Whether [`open`](Self::open) may make the schema and bring it to this version; it may unless said otherwise. Where
    /// the user of the schedulers has no such right, the owner of the schema opens the store once after each upgrade.
    pub fn migrate(mut self, may: bool) -> Self {
        self.migrate = may;
        self
    }

    /// The store's time, for tests; the database's own clock unless given, which is what many schedulers need.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The Tokio runtime on which calls run; the one in which `open` is called unless given. It must have its timer and
    /// I/O enabled.
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Connects, makes the schema if it is missing, and brings it to this version. Several processes may do so at once.
    ///
    /// *Cancellation*: a dropped future has changed the schema completely or not at all.
    ///
    /// # Errors
    /// [`InvalidConfig`](capomastro_core::ErrorKind::InvalidConfig) for what cannot be used: a connection string, a name of
    /// a schema, certificates, a server that is too old or speaks no TLS, a missing database, a schema of another program;
    /// [`PermissionDenied`](capomastro_core::ErrorKind::PermissionDenied) for a wrong user or password, or missing rights;
    /// [`NewerFormat`](capomastro_core::ErrorKind::NewerFormat), [`Corrupt`](capomastro_core::ErrorKind::Corrupt),
    /// [`ReadOnly`](capomastro_core::ErrorKind::ReadOnly), [`Unavailable`](capomastro_core::ErrorKind::Unavailable) or
    /// [`TimedOut`](capomastro_core::ErrorKind::TimedOut). Each says what to do.
    pub async fn open(self) -> Result<PostgresStore> {
        self.open_pool().await.map_err(|e| e.with_operation("open the PostgreSQL store"))
    }

    /// Opens the store to move everything out of it with [`transfer`](capomastro_core::store::transfer::transfer). It must
    /// exist. Stop every scheduler that uses it first. A call may take ten minutes.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), but a store that was moved away can be opened, to repeat the move or to
    /// [`reinstate`](capomastro_core::store::transfer::TransferSource::reinstate) it.
    pub async fn open_source(self) -> Result<PostgresTransfer> {
        let operation = "open the PostgreSQL store to be moved from";
        self.open_transfer(Purpose::MoveFrom).await.map_err(|e| e.with_operation(operation))
    }

    /// Opens the store to move everything into it with [`transfer`](capomastro_core::store::transfer::transfer), making it
    /// if it is missing. A call may take ten minutes.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), but a half filled store can be opened, to repeat the move.
    pub async fn open_target(self) -> Result<PostgresTransfer> {
        let operation = "open the PostgreSQL store to be moved into";
        self.open_transfer(Purpose::MoveTo).await.map_err(|e| e.with_operation(operation))
    }

    async fn open_transfer(mut self, purpose: Purpose) -> Result<PostgresTransfer> {
        self.deadline = Duration::from_secs(600);
        let opened = self.prepare(purpose).await?;
        let mover = format!("{:032x}", SystemRandom.bits());
        Ok(PostgresTransfer {
            calls: opened.calls,
            schema: opened.schema,
            installation: opened.installation,
            mover,
        })
    }

    async fn open_pool(self) -> Result<PostgresStore> {
        let (hints, clock) = (self.hints && !self.behind_pooler, self.clock.clone());
        let Opened { calls, schema, installation, connect } = self.prepare(Purpose::Use).await?;
        let hints = connect.filter(|_| hints).map(|connect| Hints::start(connect, &schema, calls.runtime()));
        Ok(PostgresStore { calls, schema, clock, installation, hints, floors: Arc::default() })
    }

    /// Connects, and sees to the schema.
    async fn prepare(self, purpose: Purpose) -> Result<Opened> {
        check_schema(&self.schema)?;
        let Some(runtime) = self.runtime.or_else(|| Handle::try_current().ok()) else {
            return Err(Error::config(
                "there is no Tokio runtime: open the store inside one, or give its handle",
            ));
        };
        let (pool, shared, server, connect) = match self.source {
            Source::Pool(pool) => (pool, true, "the embedder's pool".to_owned(), None),
            Source::Text(text) => {
                let way = Way {
                    text,
                    password: self.password,
                    roots: self.roots,
                    behind_pooler: self.behind_pooler,
                    deadline: self.deadline,
                };
                let connect = Connect::new(&way)?;
                (connect.pool(self.connections)?, false, connect.server(), Some(connect))
            }
        };
        let may = if self.migrate { May::Migrate } else { May::Look };
        let (schema, deadline) = (self.schema.clone(), self.deadline);
        let opening = pool.clone();
        let found = runtime
            .spawn(async move {
                // A schema is made while others may be making it too, so this may take longer than a call.
                let limit = deadline.max(Duration::from_secs(10));
                let late = SystemClock.sleep(limit);
                let prepared = pin!(async {
                    let mut client = opening.get().await.map_err(pool_error)?;
                    if shared {
                        leave_transaction(&client).await.map_err(error::error)?;
                    }
                    migrate::prepare(&mut client, &schema, may, purpose).await
                });
                match select(prepared, late).await {
                    Either::Left((found, _)) => found,
                    Either::Right(_) => Err(error::too_late(limit)),
                }
            })
            .await
            .unwrap_or_else(|_| Err(error::closed()))
            .map_err(|e: Error| e.with_context("server", &server))?;
        let calls = Calls::new(pool, shared, server, self.deadline, runtime);
        Ok(Opened { calls, schema: self.schema, installation: found.installation, connect })
    }
}

/// What every kind of opening comes to.
struct Opened {
    calls: Calls,
    schema: String,
    installation: String,
    connect: Option<Connect>,
}

fn check_schema(schema: &str) -> Result<()> {
    let first = schema.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    let rest = schema.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if first
        && rest
        && schema.len() <= 40
        && !schema.starts_with("pg_")
        && !matches!(schema, "public" | "information_schema")
    {
        return Ok(());
    }
    Err(Error::config(
        "this cannot be the store's schema: give a name of its own with at most 40 lower-case letters, digits and _",
    )
    .with_context("schema", schema.escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use capomastro_core::ErrorKind;

    #[test]
    fn a_schema_has_a_plain_name_of_its_own() {
        for good in ["capomastro", "c", "_a1", &"x".repeat(40)] {
            check_schema(good).unwrap();
        }
        for bad in [
            "",
            "public",
            "pg_x",
            "information_schema",
            "A",
            "1a",
            "a-b",
            "a\"b",
            "ä",
            "a b",
            "a\0",
            &"x".repeat(41),
        ] {
            let e = check_schema(bad).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{bad}");
            assert!(e.message().contains(": "), "{e}");
        }
    }
}
