//! The limit: the rows of a lifecycle, in columns of their own, by prepared statements in ordinary transactions, as a careful
//! programmer writes them.
//!
//! It writes what the scheduler writes: state, build, due rows, events and commit ids with their indexes, expecting versions
//! and locking what it would have read; and it takes what is due from the rows as the scheduler does. It decides nothing,
//! encodes nothing, asks nobody, and has all that it writes in memory.

use super::Rounds;
use capomastro_store_postgres::tokio_postgres::{Client, NoTls, Statement, connect, types::ToSql};
use std::collections::BTreeMap;

const HOLDER: &str = "capomastro/0123456789abcdef0123456789abcdef";

type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// One connection with dependencies of its own, worked on one after the other.
pub(crate) struct ByHand {
    client: Client,
    statements: BTreeMap<&'static str, Statement>,
    lanes: [String; 2],
    rounds: i64,
    living: Vec<Living>,
}

/// A dependency, as the loop knows it. Ids are texts here; the columns are of type `uuid`.
struct Living {
    id: String,
    build: Option<String>,
    before: Option<String>,
}

/// An id that grows with time, as ours do.
const ID: &str = "SELECT overlay(gen_random_uuid()::text placing lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 8, '0') from 1 for 8)";

impl ByHand {
    pub(crate) async fn tables(database: &str) {
        open(database).await.batch_execute(include_str!("by_hand.sql")).await.unwrap();
    }

    pub(crate) async fn new(database: &str, number: usize, group: usize) -> Self {
        let client = open(database).await;
        let lanes = [format!("probe/changing-{number}"), format!("launcher/instant-{number}")];
        let mut hand = Self { client, statements: BTreeMap::new(), lanes, rounds: 0, living: Vec::new() };
        for n in 0..group {
            let id = hand.id().await;
            let name = format!("dependency-{number}-{n}");
            let lane = hand.lanes[0].clone();
            hand.run("INSERT INTO dependency VALUES ($1::text::uuid, 1, $2)", &[&id, &name]).await;
            hand.run(
                "INSERT INTO state (id, version, epoch, applied_ticket, not_found, health, fence, builds) \
                 VALUES ($1::text::uuid, 0, 1, 0, 0, 0, 0, 0)",
                &[&id],
            )
            .await;
            hand.run(
                "INSERT INTO due VALUES (10, $1::text::uuid, $2, now(), NULL, 0, NULL, NULL)",
                &[&id, &lane],
            )
            .await;
            hand.living.push(Living { id, build: None, before: None });
        }
        hand
    }

    async fn id(&mut self) -> String {
        let statement = self.prepared(ID).await;
        self.client.query_one(&statement, &[]).await.unwrap().get(0)
    }

    async fn prepared(&mut self, sql: &'static str) -> Statement {
        if let Some(statement) = self.statements.get(sql) {
            return statement.clone();
        }
        let statement = self.client.prepare(sql).await.unwrap();
        self.statements.insert(sql, statement.clone());
        statement
    }

    /// Writes one row.
    async fn run(&mut self, sql: &'static str, parameters: Parameters<'_>) {
        let statement = self.prepared(sql).await;
        assert_eq!(self.client.execute(&statement, parameters).await.unwrap(), 1, "{sql}");
    }

    /// The id of a commit is new, and the dependency is as it was read.
    async fn begin(&mut self, dependency: &str) {
        let commit = self.id().await;
        self.client.batch_execute("BEGIN").await.unwrap();
        self.run("INSERT INTO committed (id, at) VALUES ($1::text::uuid, clock_timestamp())", &[&commit])
            .await;
        let guard =
            self.prepared("SELECT version FROM dependency WHERE id = $1::text::uuid FOR UPDATE").await;
        let version: i64 = self.client.query_one(&guard, &[&dependency]).await.unwrap().get(0);
        assert_eq!(version, 1);
    }

    async fn event(&mut self, dependency: &str, kind: i16, build: Option<&str>, revision: Option<&str>) {
        self.run(
            "INSERT INTO event (at, dependency, kind, build, revision) \
             VALUES (clock_timestamp(), $1::text::uuid, $2, $3::text::uuid, $4)",
            &[&dependency, &kind, &build, &revision],
        )
        .await;
    }

    /// Takes what is due, and says how many.
    async fn claim(&mut self, lane: usize) {
        let lane = self.lanes[lane].clone();
        let claim = self
            .prepared(
                "UPDATE due d SET holder = $2, ticket = nextval('counter'), due_at = now() + interval '15 s', nudge_at = NULL \
                 FROM (SELECT kind, id FROM due WHERE lane = $1 AND due_at <= clock_timestamp() ORDER BY due_at, kind \
                       LIMIT 256 FOR UPDATE SKIP LOCKED) p WHERE d.kind = p.kind AND d.id = p.id",
            )
            .await;
        let taken = self.client.execute(&claim, &[&lane, &HOLDER]).await.unwrap();
        assert_eq!(usize::try_from(taken).unwrap(), self.living.len());
    }
}

impl Rounds for ByHand {
    /// One lifecycle of each dependency: three transactions, and two claims for all of them.
    async fn round(&mut self) -> usize {
        self.rounds += 1;
        let revision = format!("{:040x}", self.rounds);
        self.claim(0).await;
        let mut living = std::mem::take(&mut self.living);
        // What is claimed is counted by these.
        for d in &mut living {
            // A change is seen, and a build recorded that is about to be sent.
            let build = self.id().await;
            let lane = self.lanes[1].clone();
            self.begin(&d.id).await;
            self.run(
                "UPDATE state SET version = nextval('counter'), applied_ticket = $2, observed = $3, observed_at = now(), \
                 accounted = $3, accounted_how = 0, accounted_by = $4::text::uuid, held_by = $4::text::uuid, held_fence = $2, \
                 held_revision = $3, held_epoch = 1, held_stopping = false, held_since = now(), fence = $2, builds = $2, \
                 last_start = now(), last_decision = 1, last_revision = $3 WHERE id = $1::text::uuid",
                &[&d.id, &self.rounds.clone(), &revision, &build],
            )
            .await;
            self.run(
                "INSERT INTO build (id, version, dependency, number, epoch, launch_key, fence, revision, causes, manual, \
                 person_pinned, attempt, refusals, launcher, job, phase, sends, previous_start, requested_at, launching_at, good) \
                 VALUES ($1::text::uuid, nextval('counter'), $2::text::uuid, $3, 1, $1::text::uuid, $3, $4, \
                   '[{\"trigger\":\"look\"}]', false, false, 0, 0, 'instant', 'null', 1, 1, now(), now(), now(), false)",
                &[&build, &d.id, &self.rounds.clone(), &revision],
            )
            .await;
            self.run(
                "UPDATE due SET holder = NULL, due_at = now(), last_run = now() WHERE kind = 10 AND id = $1::text::uuid \
                 AND holder = $2",
                &[&d.id, &HOLDER],
            )
            .await;
            self.run(
                "INSERT INTO due VALUES (30, $1::text::uuid, $2, now() + interval '15 s', $3, nextval('counter'), NULL, NULL)",
                &[&build, &lane, &HOLDER],
            )
            .await;
            self.event(&d.id, 4, None, Some(&revision)).await;
            self.event(&d.id, 3, Some(&build), Some(&revision)).await;
            self.event(&d.id, 8, Some(&build), Some(&revision)).await;
            self.client.batch_execute("COMMIT").await.unwrap();

            // The build system has accepted it.
            self.begin(&d.id).await;
            self.run(
                "UPDATE build SET version = nextval('counter'), phase = 2, external = $1, submitted_at = now() \
                 WHERE id = $1::text::uuid",
                &[&build],
            )
            .await;
            self.run(
                "UPDATE due SET holder = NULL, due_at = now(), last_run = now() WHERE kind = 30 AND id = $1::text::uuid \
                 AND holder = $2",
                &[&build, &HOLDER],
            )
            .await;
            self.event(&d.id, 9, Some(&build), None).await;
            self.client.batch_execute("COMMIT").await.unwrap();
            d.before = d.build.replace(build);
        }
        self.living = living;
        self.claim(1).await;
        let mut living = std::mem::take(&mut self.living);
        for d in &mut living {
            // It has ended well: the lock is free and the link moves.
            let build = d.build.clone().unwrap();
            self.begin(&d.id).await;
            self.run(
                "UPDATE build SET version = nextval('counter'), phase = 4, ended_at = now(), good = true WHERE id = $1::text::uuid",
                &[&build],
            )
            .await;
            self.run(
                "UPDATE state SET version = nextval('counter'), held_by = NULL, held_fence = NULL, held_revision = NULL, \
                 held_epoch = NULL, held_stopping = NULL, held_since = NULL, linked_build = $2::text::uuid, \
                 linked_revision = $3, ended_build = $2::text::uuid, ended_phase = 4 WHERE id = $1::text::uuid",
                &[&d.id, &build, &revision],
            )
            .await;
            if let Some(before) = d.before.take() {
                self.run(
                    "UPDATE build SET version = nextval('counter'), stood_until = now() WHERE id = $1::text::uuid",
                    &[&before],
                )
                .await;
            }
            self.run(
                "DELETE FROM due WHERE kind = 30 AND id = $1::text::uuid AND holder = $2",
                &[&build, &HOLDER],
            )
            .await;
            self.event(&d.id, 11, Some(&build), None).await;
            self.event(&d.id, 17, Some(&build), None).await;
            self.client.batch_execute("COMMIT").await.unwrap();
        }
        self.living = living;
        self.living.len()
    }
}

async fn open(database: &str) -> Client {
    let (client, connection) = connect(database, NoTls).await.unwrap();
    drop(tokio::spawn(connection));
    client
}
